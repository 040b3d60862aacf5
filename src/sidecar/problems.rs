//! Logs each problem once: when it starts, when a new one joins it and, if useful, when it is over. If
//! deliveries fail for long, a warning repeats it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::base::text::printable;
use crate::base::time::unix_seconds;
use crate::honeycomb::delivery::{Delivery, DeliveryEnd};
use crate::messages;
use crate::spool::delivery_record::DeliveryRecord;
use crate::spool::error::StoreError;
use crate::tilt::error::TiltError;

/// The most different problems of one kind that are logged until they are over.
const MAX_LOGGED: usize = 20;
/// The most characters of a problem in the state.
const PROBLEM_LIMIT: usize = 300;
/// After this time, failing deliveries need a person.
const LONG_OUTAGE: Duration = Duration::from_mins(10);
/// The advice beside a refusal. A collector reads its settings and the key when it starts.
const RESTART: &str = "after you change a setting, restart the collector";
/// How often a long outage is logged again.
const REMINDER_INTERVAL: Duration = Duration::from_hours(1);

/// The current problems with Tilt, with the state on disk and with deliveries.
#[derive(Debug, Default)]
pub(super) struct Problems {
    tilt: Ongoing,
    store: Ongoing,
    /// Errors of the state that kept a delivery from starting.
    sender_store: Ongoing,
    deliveries: Ongoing,
    outage: Option<Outage>,
    record: DeliveryRecord,
}

/// Deliveries that fail, one after the other.
#[derive(Debug)]
struct Outage {
    /// As the events' `send_error` names it.
    problem: &'static str,
    /// What the last delivery said.
    reason: String,
    /// The number of queued events after the last delivery.
    queued: usize,
    since: SystemTime,
    /// When the next warning about a long outage is due.
    warn_at: SystemTime,
}

impl Outage {
    fn duration(&self, now: SystemTime) -> Duration {
        now.duration_since(self.since).unwrap_or_default()
    }
}

/// The different problems of one kind since the last success. Two that alternate are logged once
/// each.
#[derive(Debug, Default)]
struct Ongoing(BTreeSet<String>);

impl Ongoing {
    /// Adds a problem. Returns true if it is to be logged.
    fn add(&mut self, problem: &str) -> bool {
        self.0.len() < MAX_LOGGED && self.0.insert(problem.to_owned())
    }

    /// Adds a problem, and logs it if it is new.
    fn warn(&mut self, problem: &str) {
        if self.add(problem) {
            log::warn!("{problem}");
        }
    }

    /// Ends all problems. Returns true if there was one.
    fn end(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

impl Problems {
    pub(super) fn on_tilt_error(&mut self, error: &TiltError) {
        self.tilt.warn(&error.to_string());
    }

    /// Logs that the last state of Tilt is unknown, even if the same problem was logged before.
    pub(super) fn on_final_poll_error(&mut self, error: &TiltError) {
        let problem = "the final poll failed, so the last changes may be missing";
        self.tilt.warn(&format!("{problem}: {error}"));
    }

    pub(super) fn on_tilt_answer(&mut self) {
        if self.tilt.end() {
            log::info!("tilt answers again");
        }
    }

    pub(super) fn on_store_error(&mut self, error: &StoreError) {
        self.store.warn(&error.to_string());
    }

    /// Notes that a delivery could not use the state. Only a delivery ends this problem.
    pub(super) fn on_delivery_error(&mut self, error: &StoreError) {
        self.sender_store.warn(&error.to_string());
    }

    pub(super) fn on_store_success(&mut self) {
        if self.store.end() {
            log::info!("the state is usable again");
        }
    }

    /// True if the last write to the state failed.
    pub(super) fn store_fails(&self) -> bool {
        !self.store.0.is_empty()
    }

    /// Notes how a delivery ended. `retry_in` is the time until the next one, if there will be
    /// one. Returns true if this delivery ended a problem.
    pub(super) fn on_delivery(
        &mut self,
        delivery: &Delivery,
        retry_in: Option<Duration>,
        now: SystemTime,
    ) -> bool {
        if !delivery.sent.is_empty() {
            self.record.last_success = Some(unix_seconds(now));
        }
        let (problem, reason) = match &delivery.end {
            DeliveryEnd::Kept(failure) => ("kept", failure.reason.clone()),
            DeliveryEnd::Refused { advice } => ("refused", format!("{advice}; {RESTART}")),
            // A stopped delivery tells nothing about the problem. The last delivery of the process
            // follows it.
            DeliveryEnd::Stopped => return false,
            // Without a response, the state of Honeycomb is unknown.
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.is_without_result() => {
                return false;
            }
            DeliveryEnd::Empty | DeliveryEnd::Busy | DeliveryEnd::OutOfTime => {
                if let Some(outage) = self.outage.take() {
                    let duration = messages::whole_seconds(outage.duration(now));
                    self.record.problem_since = None;
                    log::info!("deliveries work again after {duration}");
                }
                let had_store_problem = self.sender_store.end();
                if had_store_problem {
                    log::info!("the state is usable again");
                }
                return self.deliveries.end() || had_store_problem;
            }
        };
        self.on_failed_delivery(problem, &reason, delivery, now);
        if self.deliveries.add(problem) {
            let retry = retry_in.map_or_else(String::new, retrying_in);
            log::warn!("{reason}; {}{retry}", messages::kept(delivery.waiting));
        }
        false
    }

    fn on_failed_delivery(
        &mut self,
        problem: &'static str,
        reason: &str,
        delivery: &Delivery,
        now: SystemTime,
    ) {
        // A delivery that sent some events did not fail as a whole.
        let earlier = self.outage.as_ref().filter(|_| delivery.sent.is_empty());
        let since = earlier.map_or(now, |outage| outage.since);
        let warn_at = earlier.map_or(now + LONG_OUTAGE, |outage| outage.warn_at);
        let queued = delivery.waiting;
        self.record.last_problem = Some(printable(reason, PROBLEM_LIMIT));
        self.record.problem_since = Some(unix_seconds(since));
        self.outage = Some(Outage { problem, reason: reason.to_owned(), queued, since, warn_at });
    }

    /// True if the last delivery that showed anything succeeded.
    pub(super) fn deliveries_work(&self) -> bool {
        self.outage.is_none() && self.record.last_success.is_some()
    }

    /// What `check` shows of the deliveries.
    pub(super) fn delivery_record(&self) -> &DeliveryRecord {
        &self.record
    }

    /// The warning that is due about a long outage: after ten minutes, then every hour.
    pub(super) fn long_outage(&mut self, now: SystemTime) -> Option<String> {
        let outage = self.outage.as_mut().filter(|outage| now >= outage.warn_at)?;
        outage.warn_at = now + REMINDER_INTERVAL;
        let duration = messages::whole_seconds(outage.duration(now));
        let (reason, kept) = (&outage.reason, messages::kept(outage.queued));
        Some(format!("all deliveries have failed for {duration}: {reason}; {kept}"))
    }

    /// The current delivery problem, as the events' `send_error` names it.
    pub(super) fn delivery(&self) -> Option<&'static str> {
        self.outage.as_ref().map(|outage| outage.problem)
    }
}

/// `; retrying in 5s`, rounded up to whole seconds.
fn retrying_in(pause: Duration) -> String {
    format!("; retrying in {}", messages::whole_seconds(pause))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::event::EventKind;
    use crate::honeycomb::batch::Counts;
    use crate::honeycomb::response::RequestFailure;

    fn delivery(end: DeliveryEnd) -> Delivery {
        Delivery { sent: Counts::new(), rejected: 0, waiting: 3, took: Duration::ZERO, end }
    }

    #[test]
    fn alternating_problems_are_logged_once_each_until_they_end() {
        let mut ongoing = Ongoing::default();
        let is_logged = ["a", "a", "b", "a", "b"].map(|problem| ongoing.add(problem));
        assert_eq!(is_logged, [true, false, true, false, false]);
        assert!(ongoing.end() && !ongoing.end());
        assert!(ongoing.add("a"));
    }

    #[test]
    fn problems_that_always_differ_are_not_logged_forever() {
        let mut ongoing = Ongoing::default();
        let logged = (0..1000).filter(|number| ongoing.add(&number.to_string()));
        assert_eq!(logged.count(), MAX_LOGGED);
    }

    #[test]
    fn a_delivery_problem_lasts_until_honeycomb_responds() {
        let mut problems = Problems::default();
        let kept = DeliveryEnd::Kept(RequestFailure::of_events(503, ""));
        assert!(!problems.on_delivery(&delivery(kept), None, UNIX_EPOCH));
        assert_eq!(problems.delivery(), Some("kept"));
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::OutOfTime), None, UNIX_EPOCH));
        assert_eq!(problems.delivery(), Some("kept"), "no response");
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::Stopped), None, UNIX_EPOCH));
        assert_eq!(problems.delivery(), Some("kept"), "stopped");
        assert!(problems.on_delivery(&delivery(DeliveryEnd::Empty), None, UNIX_EPOCH));
        assert_eq!(problems.delivery(), None);
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::Empty), None, UNIX_EPOCH));
    }

    #[test]
    fn a_long_refusal_says_that_a_new_setting_needs_a_restart() {
        let mut problems = Problems::default();
        let refused = DeliveryEnd::Refused { advice: "unknown key".to_owned() };
        problems.on_delivery(&delivery(refused), None, UNIX_EPOCH);
        let reason = "unknown key; after you change a setting, restart the collector";
        assert_eq!(problems.delivery_record().last_problem.as_deref(), Some(reason));
        let warning = problems.long_outage(UNIX_EPOCH + LONG_OUTAGE).expect("a warning");
        assert!(warning.contains(reason), "{warning}");
    }

    #[test]
    fn retry_times_are_whole_seconds() {
        assert_eq!(retrying_in(Duration::from_millis(3_200)), "; retrying in 4s");
        assert_eq!(retrying_in(Duration::from_mins(5)), "; retrying in 5m");
    }

    #[test]
    fn a_long_outage_is_logged_after_ten_minutes_and_every_hour() {
        let mut problems = Problems::default();
        let at = |minute: u64| UNIX_EPOCH + Duration::from_mins(minute);
        let mut warnings = Vec::new();
        for minute in 0..140 {
            let kept = DeliveryEnd::Kept(RequestFailure::of_events(503, ""));
            problems.on_delivery(&delivery(kept), None, at(minute));
            warnings.extend(problems.long_outage(at(minute)).map(|warning| (minute, warning)));
        }
        let minutes: Vec<_> = warnings.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(minutes, [10, 70, 130]);
        let (start, end) = ("all deliveries have failed for 10m: ", "; 3 events stay queued");
        assert!(warnings[0].1.starts_with(start) && warnings[0].1.ends_with(end), "{warnings:?}");
        let mut partial = delivery(DeliveryEnd::Kept(RequestFailure::of_events(503, "")));
        partial.sent.insert(EventKind::Update, 1);
        problems.on_delivery(&partial, None, at(139));
        assert_eq!(problems.long_outage(at(148)), None, "some events were sent");
        assert!(problems.long_outage(at(149)).is_some(), "and none since");
        problems.on_delivery(&delivery(DeliveryEnd::Empty), None, at(160));
        assert_eq!(problems.long_outage(at(900)), None, "it is over");
    }
}

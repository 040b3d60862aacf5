//! Logs each problem once: when it starts, when a new one joins it and, if useful, when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::honeycomb::delivery::{Delivery, DeliveryEnd};
use crate::messages;
use crate::spool::error::StoreError;
use crate::tilt::error::TiltError;

/// The most different problems of one kind that are logged until they are over.
const MAX_LOGGED: usize = 20;

/// The current problems with Tilt, with the state on disk and with deliveries.
#[derive(Debug, Default)]
pub(super) struct Problems {
    tilt: Ongoing,
    store: Ongoing,
    /// Errors of the state that kept a delivery from starting.
    sender_store: Ongoing,
    deliveries: Ongoing,
    delivery: Option<&'static str>,
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

    /// Ends all problems. Returns true if there was one.
    fn end(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

impl Problems {
    pub(super) fn on_tilt_error(&mut self, error: &TiltError) {
        let message = error.to_string();
        if self.tilt.add(&message) {
            log::warn!("{message}");
        }
    }

    /// Logs that the last state of Tilt is unknown, even if the same problem was logged before.
    pub(super) fn on_final_poll_error(&mut self, error: &TiltError) {
        let message = format!("the final poll failed, so the last changes may be missing: {error}");
        if self.tilt.add(&message) {
            log::warn!("{message}");
        }
    }

    pub(super) fn on_tilt_answer(&mut self) {
        if self.tilt.end() {
            log::info!("tilt answers again");
        }
    }

    pub(super) fn on_store_error(&mut self, error: &StoreError) {
        let message = error.to_string();
        if self.store.add(&message) {
            log::warn!("{message}");
        }
    }

    /// Notes that a delivery could not use the state. Only a delivery ends this problem.
    pub(super) fn on_delivery_error(&mut self, error: &StoreError) {
        let message = error.to_string();
        if self.sender_store.add(&message) {
            log::warn!("{message}");
        }
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
    pub(super) fn on_delivery(&mut self, delivery: &Delivery, retry_in: Option<Duration>) -> bool {
        let (problem, reason) = match &delivery.end {
            DeliveryEnd::Kept(failure) => ("kept", &failure.reason),
            DeliveryEnd::Refused { advice } => ("refused", advice),
            // A stopped delivery tells nothing about the problem. The last delivery of the process
            // follows it.
            DeliveryEnd::Stopped => return false,
            // Without a response, the state of Honeycomb is unknown.
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.is_without_result() => {
                return false;
            }
            DeliveryEnd::Empty | DeliveryEnd::Busy | DeliveryEnd::OutOfTime => {
                self.delivery = None;
                // Both end here.
                return self.sender_store.end() | self.deliveries.end();
            }
        };
        self.delivery = Some(problem);
        if self.deliveries.add(problem) {
            let retry = retry_in.map_or_else(String::new, retrying_in);
            log::warn!("{reason}; {}{retry}", messages::kept(delivery.waiting));
        }
        false
    }

    /// The current delivery problem, as the events' `send_error` names it.
    pub(super) fn delivery(&self) -> Option<&'static str> {
        self.delivery
    }
}

/// `; retrying in 5s`, rounded up to whole seconds.
fn retrying_in(pause: Duration) -> String {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    format!("; retrying in {}", humantime::format_duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(!problems.on_delivery(&delivery(kept), None));
        assert_eq!(problems.delivery(), Some("kept"));
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::OutOfTime), None));
        assert_eq!(problems.delivery(), Some("kept"), "no response");
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::Stopped), None));
        assert_eq!(problems.delivery(), Some("kept"), "stopped");
        assert!(problems.on_delivery(&delivery(DeliveryEnd::Empty), None));
        assert_eq!(problems.delivery(), None);
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::Empty), None));
    }

    #[test]
    fn retry_times_are_whole_seconds() {
        assert_eq!(retrying_in(Duration::from_millis(3_200)), "; retrying in 4s");
        assert_eq!(retrying_in(Duration::from_mins(5)), "; retrying in 5m");
    }
}

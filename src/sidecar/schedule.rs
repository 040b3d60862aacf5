//! Decides when the next report, poll, write to disk and delivery are due. Pure.

use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::honeycomb::delivery::{Delivery, DeliveryEnd};
use crate::sidecar::suspend;

/// A poll of everything is due this often even if all watches run: a watch may hang unnoticed.
const FULL_POLL_INTERVAL: Duration = Duration::from_hours(1);
/// Resources that made `tilt ci` exit still show `pending` or `in_progress` for a moment.
pub(super) const FINAL_STATUS_DELAY: Duration = Duration::from_millis(200);
/// Changes within this time share one write to disk and one request.
const COALESCE: Duration = Duration::from_millis(25);
/// Pause after a failed access to the state.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);
/// Pause after a failed poll, if the next report is later.
pub(super) const POLL_RETRY: Duration = Duration::from_secs(5);
/// Tilt needs this long to show all objects after a Tiltfile load, a new session or a lost watch.
pub(super) const SETTLE_TIME: Duration = Duration::from_millis(500);
/// The shortest time between polls that changes of pods cause. A poll of 200 resources takes `tilt` a
/// third of a second of CPU.
const POLL_SPACING: Duration = Duration::from_secs(2);

/// When each kind of work is due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time between two reports.
    interval: Duration,
    report_at: Instant,
    /// A poll that is due independently of the next report.
    poll_at: Option<Instant>,
    /// When to write observed changes to disk.
    record_at: Option<Instant>,
    /// The earliest time for the next delivery.
    delivery_at: Instant,
    /// True if the queue may hold events that the current delivery has not seen.
    has_queued: bool,
    /// The last successful poll.
    polled_at: Option<Instant>,
    /// Failed deliveries in a row.
    failures: u32,
    /// Deliveries in a row whose key or dataset Honeycomb refused.
    refusals: u32,
}

impl Schedule {
    /// A report and a delivery are due at once: the queue may hold events from an earlier run.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            report_at: now,
            poll_at: None,
            record_at: None,
            delivery_at: now,
            has_queued: true,
            polled_at: None,
            failures: 0,
            refusals: 0,
        }
    }

    /// Makes a report and a delivery due. After a suspend, a user expects fresh data, and the
    /// network may be a different one.
    pub(super) fn on_resume(&mut self, now: Instant) {
        (self.failures, self.refusals) = (0, 0);
        (self.report_at, self.delivery_at) = (now, now);
        self.has_queued = true;
    }

    /// The next time at which something may be due. Work for a busy worker does not count: its
    /// message wakes the event loop.
    pub(super) fn next_wake(&self, now: Instant, is_polling: bool, is_sending: bool) -> Instant {
        let poll_at = self.poll_at.map_or(self.report_at, |at| at.min(self.report_at));
        [
            self.record_at,
            (!is_polling).then_some(poll_at),
            (self.has_queued && !is_sending).then_some(self.delivery_at),
        ]
        .into_iter()
        .flatten()
        .fold(now + self.interval.min(suspend::CHECK_INTERVAL), Instant::min)
    }

    pub(super) fn report_is_due(&self, now: Instant) -> bool {
        now >= self.report_at
    }

    pub(super) fn poll_is_due(&self, now: Instant) -> bool {
        self.report_is_due(now) || is_due(self.poll_at, now)
    }

    /// True if the last poll is too old, or missing, to report without another one.
    pub(super) fn full_poll_is_due(&self, now: Instant) -> bool {
        self.polled_at.is_none_or(|at| now - at >= FULL_POLL_INTERVAL)
    }

    pub(super) fn record_is_due(&self, now: Instant) -> bool {
        is_due(self.record_at, now)
    }

    pub(super) fn delivery_is_due(&self, now: Instant) -> bool {
        self.has_queued && now >= self.delivery_at
    }

    /// True if changes still have to be written to disk.
    pub(super) fn has_unrecorded(&self) -> bool {
        self.record_at.is_some()
    }

    /// Plans a poll at `at`, unless an earlier one is planned.
    pub(super) fn poll_by(&mut self, at: Instant) {
        set_earlier(&mut self.poll_at, at);
    }

    /// Plans a poll for what the watches do not show. If changes keep coming, the polls stay apart.
    pub(super) fn poll_for_change(&mut self, now: Instant) {
        let next = self.polled_at.map_or(now, |at| at + POLL_SPACING);
        self.poll_by(next.max(now + SETTLE_TIME));
    }

    /// Plans a poll at `at` and no report before it.
    pub(super) fn poll_before_report(&mut self, at: Instant) {
        self.poll_by(at);
        self.report_at = self.report_at.max(at);
    }

    pub(super) fn on_poll_started(&mut self) {
        self.poll_at = None;
    }

    /// Notes a successful poll. Returns true for the first one.
    pub(super) fn on_polled(&mut self, now: Instant) -> bool {
        self.polled_at.replace(now).is_none()
    }

    /// Plans the next report one interval from now.
    pub(super) fn on_report(&mut self, now: Instant) {
        self.report_at = now + self.interval;
    }

    /// Postpones the report until Tilt shows the final status of all resources.
    pub(super) fn await_final_status(&mut self, now: Instant) {
        self.report_at = now + FINAL_STATUS_DELAY;
    }

    /// Plans a write to disk for an observed change.
    pub(super) fn on_change(&mut self, now: Instant) {
        set_earlier(&mut self.record_at, now + COALESCE);
    }

    /// Plans the next write to disk after one that asked to be repeated after `again`.
    pub(super) fn on_recorded(&mut self, again: Option<Duration>, now: Instant) {
        self.record_at = again.map(|after| now + after);
        self.has_queued = true;
    }

    /// Starts a delivery as soon as the current pause is over.
    pub(super) fn request_delivery(&mut self) {
        self.has_queued = true;
    }

    pub(super) fn on_delivery_started(&mut self) {
        self.has_queued = false;
    }

    /// Plans the next delivery and returns the pause before it. `jitter` is from 0 to 1.
    pub(super) fn on_delivery(
        &mut self,
        delivery: &Delivery,
        now: Instant,
        jitter: f64,
    ) -> Duration {
        let pause = self.pause_after(delivery, jitter);
        self.has_queued |= !matches!(delivery.end, DeliveryEnd::Empty | DeliveryEnd::Stopped);
        self.delivery_at = now + pause;
        pause
    }

    fn pause_after(&mut self, delivery: &Delivery, jitter: f64) -> Duration {
        match &delivery.end {
            // The disk or another collector used up the time. The state of Honeycomb is unknown.
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.is_without_result() => {
                STORE_RETRY
            }
            DeliveryEnd::Empty
            | DeliveryEnd::Stopped
            | DeliveryEnd::Busy
            | DeliveryEnd::OutOfTime => {
                (self.failures, self.refusals) = (0, 0);
                Duration::ZERO
            }
            DeliveryEnd::Kept(failure) => {
                // Honeycomb accepted some events, so the backoff starts again.
                self.failures = if delivery.sent.is_empty() { self.failures + 1 } else { 1 };
                backoff::until_next_delivery(self.failures, failure.retry_after, jitter)
            }
            DeliveryEnd::Refused { .. } => {
                self.refusals += 1;
                backoff::after_refusal(self.refusals, jitter)
            }
        }
    }

    /// Plans the next delivery after one that could not read or write the state.
    pub(super) fn on_store_failure(&mut self, now: Instant) {
        // The sender may hold responses that are not written down yet.
        self.has_queued = true;
        self.delivery_at = now + STORE_RETRY;
    }
}

fn set_earlier(planned: &mut Option<Instant>, at: Instant) {
    *planned = Some(planned.map_or(at, |planned| planned.min(at)));
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::EventKind;
    use crate::honeycomb::batch::Counts;
    use crate::honeycomb::response::RequestFailure;

    const INTERVAL: Duration = Duration::from_mins(1);

    fn schedule() -> (Schedule, Instant) {
        let now = crate::base::time::now();
        (Schedule::new(INTERVAL, now), now)
    }

    fn delivery(end: DeliveryEnd, sent: usize) -> Delivery {
        let sent = [(EventKind::UiResource, sent)].into_iter().filter(|(_, count)| *count > 0);
        let (sent, took) = (sent.collect::<Counts>(), Duration::from_millis(20));
        Delivery { sent, rejected: 0, waiting: 1, took, end }
    }

    fn kept() -> DeliveryEnd {
        DeliveryEnd::Kept(RequestFailure::of_events(503, ""))
    }

    #[test]
    fn report_and_delivery_are_due_at_the_start() {
        let (schedule, now) = schedule();
        assert!(schedule.report_is_due(now) && schedule.full_poll_is_due(now));
        assert!(schedule.delivery_is_due(now) && !schedule.record_is_due(now));
        assert_eq!(schedule.next_wake(now, false, false), now);
    }

    #[test]
    fn a_busy_worker_does_not_wake_the_loop() {
        let (mut schedule, now) = schedule();
        assert_eq!(schedule.next_wake(now, true, true), now + suspend::CHECK_INTERVAL);
        schedule.on_change(now);
        assert_eq!(schedule.next_wake(now, true, true), now + COALESCE);
    }

    #[test]
    fn the_earlier_of_two_planned_polls_counts() {
        let (mut schedule, now) = schedule();
        schedule.on_report(now);
        schedule.poll_by(now + POLL_RETRY);
        schedule.poll_by(now + SETTLE_TIME);
        schedule.poll_by(now + POLL_RETRY);
        assert!(!schedule.poll_is_due(now) && schedule.poll_is_due(now + SETTLE_TIME));
        schedule.on_poll_started();
        assert!(!schedule.poll_is_due(now + POLL_RETRY) && schedule.poll_is_due(now + INTERVAL));
    }

    #[test]
    fn polls_for_changes_stay_two_seconds_apart() {
        let (mut schedule, now) = schedule();
        schedule.on_report(now);
        schedule.poll_for_change(now);
        assert!(schedule.poll_is_due(now + SETTLE_TIME), "the first one");
        schedule.on_poll_started();
        schedule.on_polled(now + SETTLE_TIME);
        schedule.poll_for_change(now + SETTLE_TIME);
        let next = now + SETTLE_TIME + POLL_SPACING;
        assert!(!schedule.poll_is_due(now + POLL_SPACING));
        assert!(schedule.poll_is_due(next));
    }

    #[test]
    fn a_report_waits_for_the_poll_that_comes_before_it() {
        let (mut schedule, now) = schedule();
        schedule.poll_before_report(now + SETTLE_TIME);
        assert!(!schedule.report_is_due(now) && schedule.report_is_due(now + SETTLE_TIME));
    }

    #[test]
    fn a_poll_counts_as_fresh_for_one_hour() {
        let (mut schedule, now) = schedule();
        assert!(schedule.on_polled(now), "first");
        assert!(!schedule.full_poll_is_due(now + FULL_POLL_INTERVAL / 2));
        assert!(schedule.full_poll_is_due(now + FULL_POLL_INTERVAL));
        assert!(!schedule.on_polled(now + FULL_POLL_INTERVAL), "second");
    }

    #[test]
    fn a_failed_write_is_retried_and_a_complete_one_is_not() {
        let (mut schedule, now) = schedule();
        schedule.on_recorded(Some(STORE_RETRY), now);
        assert!(schedule.has_unrecorded() && schedule.record_is_due(now + STORE_RETRY));
        schedule.on_recorded(None, now);
        assert!(!schedule.has_unrecorded());
    }

    #[test]
    fn delivery_pauses_grow_with_failures_and_restart_on_progress() {
        let (mut schedule, now) = schedule();
        let mut pause = |sent| schedule.on_delivery(&delivery(kept(), sent), now, 1.0).as_secs();
        assert_eq!([pause(0), pause(0), pause(0)], [5, 10, 15]);
        assert_eq!([pause(3), pause(0)], [5, 10]);
        schedule.on_delivery_started();
        assert_eq!(schedule.on_delivery(&delivery(DeliveryEnd::Empty, 4), now, 1.0).as_secs(), 0);
        assert!(!schedule.delivery_is_due(now), "the queue is empty");
        assert_eq!(schedule.on_delivery(&delivery(kept(), 0), now, 1.0).as_secs(), 5);
        assert!(schedule.delivery_is_due(now + Duration::from_secs(5)));
    }

    #[test]
    fn a_delivery_without_response_keeps_the_backoff() {
        let (mut schedule, now) = schedule();
        schedule.on_delivery(&delivery(kept(), 0), now, 1.0);
        let unanswered = delivery(DeliveryEnd::OutOfTime, 0);
        assert_eq!(schedule.on_delivery(&unanswered, now, 1.0), STORE_RETRY);
        assert_eq!(schedule.on_delivery(&delivery(kept(), 0), now, 1.0).as_secs(), 10);
    }

    #[test]
    fn a_resume_ends_every_pause() {
        let (mut schedule, now) = schedule();
        schedule.on_report(now);
        let refused = DeliveryEnd::Refused { advice: "check HONEYCOMB_API_KEY".into() };
        schedule.on_delivery(&delivery(refused, 0), now, 1.0);
        assert!(!schedule.delivery_is_due(now) && !schedule.report_is_due(now));
        schedule.on_resume(now);
        assert!(schedule.delivery_is_due(now) && schedule.report_is_due(now));
    }
}

//! One delivery: its time, its progress and its result. [`crate::honeycomb::sender`] runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::base::shutdown::Shutdown;
use crate::base::text::counted;
use crate::base::time;
use crate::honeycomb::batch::{Batch, BatchLimits, Counts};
use crate::honeycomb::later::Later;
use crate::honeycomb::poison::PoisonSuspects;
use crate::honeycomb::response::{EventResult, RequestFailure};
use crate::honeycomb::selection::Selection;

/// The result of a delivery.
#[derive(Debug)]
pub struct Delivery {
    /// The events that Honeycomb accepted.
    pub sent: Counts,
    /// The number of events that left the queue because Honeycomb rejected them.
    pub rejected: usize,
    /// The number of events that are still queued.
    pub waiting: usize,
    /// The time that the delivery took, including waits.
    pub took: Duration,
    pub end: DeliveryEnd,
}

impl Delivery {
    /// True if the server neither accepted nor rejected any event.
    pub fn is_without_result(&self) -> bool {
        self.sent.is_empty() && self.rejected == 0
    }
}

/// Why a delivery ended. Events that are still queued stay there.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryEnd {
    /// The queue is empty.
    Empty,
    /// The last request failed, and there was no time to send it again.
    Kept(RequestFailure),
    /// The server rejects every request until a person follows the advice.
    Refused { advice: String },
    /// The time was up, and no request had failed.
    OutOfTime,
    /// Another collector was sending, or has replaced this one's lock.
    Busy,
    /// A shutdown was requested.
    Stopped,
}

/// The time that a delivery may take. A shutdown ends it early.
#[derive(Debug, Clone, Copy)]
pub struct TimeBudget<'a> {
    pub limit: Duration,
    pub deadline: Instant,
    pub shutdown: &'a Shutdown,
}

impl TimeBudget<'_> {
    /// True at the deadline, and after a shutdown request.
    pub fn is_over(self) -> bool {
        self.left().is_zero() || self.shutdown.requested()
    }

    /// The time until the deadline.
    pub fn left(self) -> Duration {
        self.deadline.saturating_duration_since(time::now())
    }

    /// True if too little time is left for a request: less than a quarter of the limit. A request
    /// that is abandoned at the deadline may have been accepted, and would be sent again.
    pub fn is_used_up(self) -> bool {
        self.is_used_up_at(time::now())
    }

    pub fn is_used_up_at(self, at: Instant) -> bool {
        self.deadline.saturating_duration_since(at) < self.limit / 4
    }
}

/// Takes the number of events that the server has accepted so far.
pub type OnSuccess<'a> = &'a dyn Fn(usize);

/// Events that the server accepted or rejected.
#[derive(Debug, Default)]
pub struct Settled {
    /// Sequence numbers.
    pub seqs: Vec<u64>,
    /// The number of them that were rejected.
    pub rejected: usize,
}

/// The progress of a delivery.
pub struct SendProgress<'a> {
    pub budget: TimeBudget<'a>,
    /// Called after each success. Then the time of the budget begins again.
    pub on_success: Option<OnSuccess<'a>>,
    pub limits: BatchLimits,
    pub suspects: PoisonSuspects,
    pub later: Later,
    /// The number of failed requests in a row.
    pub failures: u32,
    pub last_failure: Option<RequestFailure>,
    /// Events that are settled but not yet removed from the queue.
    pub settled: Settled,
    pub sent: Counts,
    pub rejected: usize,
}

impl fmt::Debug for SendProgress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendProgress").finish_non_exhaustive()
    }
}

impl<'a> SendProgress<'a> {
    /// A new delivery. `later` is what the one before has found.
    pub fn new(budget: TimeBudget<'a>, later: Later) -> Self {
        Self {
            budget,
            on_success: None,
            limits: BatchLimits::DEFAULT,
            suspects: PoisonSuspects::default(),
            later,
            failures: 0,
            last_failure: None,
            settled: Settled::default(),
            sent: Counts::new(),
            rejected: 0,
        }
    }

    /// The events of the next request.
    pub fn selection(&self) -> Selection {
        let suspects = self.suspects.seqs().iter().copied();
        Selection {
            skip: suspects.chain(self.later.seqs().iter().copied()).collect(),
            defer: self.later.kinds().clone(),
            probe: self.suspects.kind_to_avoid(),
            limits: self.limits,
        }
    }

    /// Takes the results of a batch without suspects. Returns why some of its events must be sent
    /// again, if there are such events. The next requests leave these out.
    pub fn add_results(
        &mut self,
        batch: &Batch,
        results: &[EventResult],
    ) -> Option<RequestFailure> {
        if results.len() < batch.seqs.len() {
            // Only the events that have a status are known to have arrived.
            self.limits.events = results.len();
        }
        if self.suspects.confirm(results) {
            self.limits = BatchLimits::DEFAULT;
        }
        self.later.add(batch, results);
        let failure = self.settle(batch, results);
        if failure.is_none() {
            self.failures = 0;
        }
        if self.later.is_empty() {
            self.last_failure = None;
        }
        failure
    }

    /// Settles the events that were accepted or rejected. Returns why others must be sent again, if
    /// there are any.
    pub fn settle(&mut self, batch: &Batch, results: &[EventResult]) -> Option<RequestFailure> {
        let mut reasons = BTreeMap::<&str, usize>::new();
        let mut failure = None;
        for ((seq, kind), result) in batch.seqs.iter().zip(&batch.kinds).zip(results) {
            match result {
                EventResult::Accepted => {
                    *self.sent.entry(*kind).or_default() += 1;
                    self.settled.seqs.push(*seq);
                }
                EventResult::Rejected { reason } => {
                    *reasons.entry(reason).or_default() += 1;
                    self.reject(&[*seq]);
                }
                EventResult::Retry { status, reason } => {
                    failure.get_or_insert_with(|| RequestFailure::of_events(*status, reason));
                }
            }
        }
        if results.contains(&EventResult::Accepted) {
            self.report_success();
        }
        for (reason, count) in reasons {
            log::warn!("dropped {} that Honeycomb rejects: {reason}", counted(count, "event"));
        }
        failure
    }

    /// Tells how much was sent, and begins the time again, if that was asked for.
    fn report_success(&mut self) {
        if let Some(on_success) = self.on_success {
            on_success(self.sent.values().sum());
            self.budget.deadline = time::now() + self.budget.limit;
        }
    }

    /// Drops one event. `reason` completes "dropped 1 event that ...".
    pub fn drop_event(&mut self, seq: u64, reason: &str) {
        log::warn!("dropped 1 event that {reason}");
        self.reject(&[seq]);
    }

    /// Counts events as rejected, and removes them from the queue.
    fn reject(&mut self, seqs: &[u64]) {
        self.rejected += seqs.len();
        self.settled.rejected += seqs.len();
        self.settled.seqs.extend_from_slice(seqs);
    }

    /// Drops events that cannot be read from the disk.
    pub fn drop_unreadable(&mut self, seqs: &[u64]) {
        log::warn!(
            "lost {}: a file in the state folder was damaged or removed",
            counted(seqs.len(), "queued event")
        );
        self.reject(seqs);
    }

    /// Makes the next batch smaller after the server rejected this one as malformed or too large. A
    /// single event becomes a suspect. Returns false if the server seems to reject everything.
    pub fn shrink(&mut self, batch: &Batch) -> bool {
        self.suspects.start_search();
        if let Some(smaller) = self.limits.halved(batch.seqs.len()) {
            self.limits = smaller;
            return true;
        }
        self.limits = BatchLimits::DEFAULT;
        self.suspects.add(batch.seqs[0], batch.kinds[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::EventKind;

    fn batch(seqs: std::ops::Range<u64>) -> Batch {
        let kinds = vec![EventKind::Update; seqs.clone().count()];
        Batch { seqs: seqs.collect(), kinds, body: Vec::new() }
    }

    fn budget(shutdown: &Shutdown) -> TimeBudget<'_> {
        let limit = Duration::from_hours(1);
        TimeBudget { limit, deadline: time::now() + limit, shutdown }
    }

    #[test]
    fn a_request_needs_a_quarter_of_the_budget() {
        let shutdown = Shutdown::default();
        let (now, limit) = (time::now(), Duration::from_secs(8));
        let budget = TimeBudget { limit, deadline: now + limit, shutdown: &shutdown };
        for (passed, expected) in [(0, false), (5, false), (6, false), (7, true), (9, true)] {
            let at = now + Duration::from_secs(passed);
            assert_eq!(budget.is_used_up_at(at), expected, "after {passed} s");
        }
    }

    #[test]
    fn a_shutdown_ends_the_budget_before_the_deadline() {
        let shutdown = Shutdown::default();
        let budget = budget(&shutdown);
        assert!(!budget.is_over());
        shutdown.request();
        assert!(budget.is_over() && !budget.left().is_zero());
    }

    #[test]
    fn events_to_retry_are_not_settled() {
        let shutdown = Shutdown::default();
        let mut progress = SendProgress::new(budget(&shutdown), Later::default());
        progress.failures = 3;
        let results = [
            EventResult::Accepted,
            EventResult::Retry { status: 429, reason: "slow down".into() },
            EventResult::Rejected { reason: "too many columns".into() },
        ];
        let failure = progress.add_results(&batch(4..7), &results).expect("a failure");
        assert_eq!(failure.reason, "HTTP 429 for some events: slow down");
        assert_eq!((&progress.settled.seqs[..], progress.settled.rejected), (&[4, 6][..], 1));
        assert_eq!((&progress.sent, progress.rejected), (&[(EventKind::Update, 1)].into(), 1));
        assert_eq!(progress.failures, 3);
        assert_eq!(progress.add_results(&batch(5..6), &[EventResult::Accepted]), None);
        assert_eq!(progress.failures, 0);
    }

    #[test]
    fn events_without_a_status_limit_the_next_batch() {
        let shutdown = Shutdown::default();
        let mut progress = SendProgress::new(budget(&shutdown), Later::default());
        assert_eq!(progress.add_results(&batch(0..3), &[EventResult::Accepted]), None);
        assert_eq!((&progress.settled.seqs[..], progress.limits.events), (&[0][..], 1));
    }

    #[test]
    fn a_malformed_batch_is_halved_to_one_suspect() {
        let shutdown = Shutdown::default();
        let mut progress = SendProgress::new(budget(&shutdown), Later::default());
        assert!(progress.shrink(&batch(0..4)));
        assert_eq!(progress.limits.events, 2);
        assert!(progress.shrink(&batch(0..1)));
        assert_eq!((progress.suspects.seqs(), progress.limits), (&[0][..], BatchLimits::DEFAULT));
        assert!(!progress.shrink(&batch(3..4)), "the newest event is rejected too");
    }
}

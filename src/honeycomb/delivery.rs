//! One delivery: its time, its progress and its result. [`crate::honeycomb::sender`] runs it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::honeycomb::batch::{Batch, BatchLimits, Counts};
use crate::honeycomb::poison::PoisonSuspects;
use crate::honeycomb::response::EventResult;

/// The result of a delivery.
#[derive(Debug)]
pub struct Delivery {
    /// The events that Honeycomb accepted.
    pub sent: Counts,
    /// The number of events that left the queue because Honeycomb rejected them.
    pub rejected: usize,
    /// The number of events that are still queued.
    pub waiting: usize,
    pub took: Duration,
    pub end: DeliveryEnd,
}

impl Delivery {
    /// True if the server answered for no event.
    pub fn is_without_result(&self) -> bool {
        self.sent.is_empty() && self.rejected == 0
    }
}

/// Why a delivery ended. Events that are still queued stay there.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryEnd {
    /// The queue is empty.
    Empty,
    /// The server cannot take the events now. It may have asked for a pause.
    Kept { why: String, retry_after: Option<Duration> },
    /// The server will not take the events until a person follows the advice.
    Refused { advice: String },
    /// The time was up, with no other problem.
    OutOfTime,
    /// Another collector was sending all the time.
    Busy,
    /// A signal asked the program to stop.
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
    pub fn is_over(self) -> bool {
        self.left().is_zero() || self.shutdown.requested()
    }

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

/// Events that the server accepted or rejected for good.
#[derive(Debug, Default)]
pub struct Settled {
    pub seqs: Vec<u64>,
    /// The number of them that were rejected.
    pub rejected: usize,
}

/// The progress of a delivery.
#[derive(Debug)]
pub struct SendProgress<'a> {
    pub budget: TimeBudget<'a>,
    pub limits: BatchLimits,
    pub suspects: PoisonSuspects,
    /// The number of failed requests in a row.
    pub failures: u32,
    /// Why the last request failed, and the pause that the server asked for.
    pub last_failure: Option<(String, Option<Duration>)>,
    /// Events that are settled but not yet removed from the queue.
    pub settled: Settled,
    pub sent: Counts,
    pub rejected: usize,
}

impl<'a> SendProgress<'a> {
    pub fn new(budget: TimeBudget<'a>) -> Self {
        Self {
            budget,
            limits: BatchLimits::DEFAULT,
            suspects: PoisonSuspects::default(),
            failures: 0,
            last_failure: None,
            settled: Settled::default(),
            sent: Counts::new(),
            rejected: 0,
        }
    }

    /// Takes the results of a batch. Returns the status of an event that must be sent again later,
    /// if there is one.
    pub fn add_results(&mut self, batch: &Batch, results: &[EventResult]) -> Option<u16> {
        if results.len() < batch.seqs.len() {
            // The server answers for fewer events, so only those are known to have arrived.
            self.limits.events = results.len();
        }
        if self.suspects.confirm(results) {
            self.limits = BatchLimits::DEFAULT;
        }
        let later = self.settle_each(batch, results);
        if later.is_none() {
            (self.failures, self.last_failure) = (0, None);
        }
        later
    }

    fn settle_each(&mut self, batch: &Batch, results: &[EventResult]) -> Option<u16> {
        let mut reasons = BTreeMap::<&str, usize>::new();
        let mut later = None;
        for ((seq, kind), result) in batch.seqs.iter().zip(&batch.kinds).zip(results) {
            match result {
                EventResult::Accepted => {
                    *self.sent.entry(*kind).or_default() += 1;
                    self.settled.seqs.push(*seq);
                }
                EventResult::Rejected { reason } => {
                    *reasons.entry(reason).or_default() += 1;
                    self.settled.seqs.push(*seq);
                }
                EventResult::Later { status } => later = Some(*status),
            }
        }
        for (reason, count) in reasons {
            self.rejected += count;
            self.settled.rejected += count;
            let plural = if count == 1 { "" } else { "s" };
            log::warn!("dropped {count} event{plural} that Honeycomb rejects: {reason}");
        }
        later
    }

    /// Drops one event. `why` completes "dropped 1 event that ...".
    pub fn drop_event(&mut self, seq: u64, why: &str) {
        log::warn!("dropped 1 event that {why}");
        self.rejected += 1;
        self.settled.seqs.push(seq);
        self.settled.rejected += 1;
    }

    /// Makes the next batch smaller after the server rejected one as malformed or too large. False
    /// if the server seems to reject everything.
    pub fn shrink(&mut self, batch: &Batch) -> bool {
        if let Some(smaller) = self.limits.halved(batch.seqs.len()) {
            self.limits = smaller;
            return true;
        }
        self.limits = BatchLimits::DEFAULT;
        self.suspects.add(batch.seqs[0])
    }
}

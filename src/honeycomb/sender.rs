//! One delivery: what waits goes to Honeycomb, batch by batch, oldest first, until nothing waits
//! or the time is up. An event is settled, on disk, as soon as it has been answered for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::honeycomb::batch::{Batch, BatchLimits, Counts, NextBatch, cut};
use crate::honeycomb::client::{Client, NoResponse};
use crate::honeycomb::response::{BatchResult, EventResult, judge};
use crate::spool::error::StoreError;
use crate::spool::queue::QueuedEvent;
use crate::spool::store::{SendLock, Store};

/// How often to look whether another collector has finished sending.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Carries events from the store to Honeycomb.
#[derive(Debug)]
pub struct Sender {
    store: Store,
    client: Client,
    /// Not yet written down: a full disk must not make duplicates.
    unsettled: Answered,
    /// Kept from one delivery to the next as long as anything is unsettled: whoever sent
    /// meanwhile would repeat it.
    sending: Option<SendLock>,
}

/// Events that Honeycomb has answered for.
#[derive(Debug, Default)]
struct Answered {
    seqs: Vec<u64>,
    /// How many of them it will never take.
    refused: usize,
}

/// How a delivery went.
#[derive(Debug)]
pub struct Delivery {
    /// What Honeycomb accepted.
    pub sent: Counts,
    /// Events that left the queue because Honeycomb will never take them.
    pub rejected: usize,
    pub waiting: usize,
    pub took: Duration,
    pub end: DeliveryEnd,
}

impl Delivery {
    /// Not an event was answered for.
    pub fn got_no_answer(&self) -> bool {
        self.sent.is_empty() && self.rejected == 0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryEnd {
    /// Nothing waits any more.
    Empty,
    /// The rest stays, for this reason; the server may have asked for a pause.
    Kept {
        why: String,
        retry_after: Option<Duration>,
    },
    /// The rest stays until a person has done this.
    Refused {
        advice: String,
    },
    /// The rest stays because the time was up, and for no other reason.
    OutOfTime,
    /// Another collector was sending all the while.
    Busy,
    Stopped,
}

/// The time that one delivery may take, unless it is stopped before.
#[derive(Debug, Clone, Copy)]
struct Allowance<'a> {
    limit: Duration,
    deadline: Instant,
    shutdown: &'a Shutdown,
}

impl Allowance<'_> {
    fn is_over(self) -> bool {
        self.left().is_zero() || self.shutdown.requested()
    }

    fn left(self) -> Duration {
        self.deadline.saturating_duration_since(time::now())
    }

    /// What is left is too little to wait for an answer: a request that is given up at the
    /// deadline may have been taken, and goes out again.
    fn is_used_up(self) -> bool {
        self.is_used_up_at(time::now())
    }

    fn is_used_up_at(self, at: Instant) -> bool {
        self.deadline.saturating_duration_since(at) < self.limit / 4
    }
}

/// Events that the server, which calls the whole request malformed or too large, does not even take
/// alone.
#[derive(Debug, Default)]
struct PoisonSuspects {
    /// They are the front of the queue.
    seqs: Vec<u64>,
    /// The server has taken others: it is these events that it does not like.
    has_proof: bool,
}

impl PoisonSuspects {
    /// What to send instead: all others; or, as long as the server may dislike everything, the
    /// newest event, which has the least to do with these.
    fn beyond<'a>(&self, queue: &'a [QueuedEvent]) -> &'a [QueuedEvent] {
        let is_doubted = |waiting: &&QueuedEvent| self.seqs.contains(&waiting.seq);
        let others = &queue[queue.iter().take_while(is_doubted).count()..];
        if self.seqs.is_empty() || self.has_proof {
            others
        } else {
            &others[others.len().saturating_sub(1)..]
        }
    }

    /// Sets one more aside; false when the server dislikes whatever it is sent.
    fn add(&mut self, seq: u64) -> bool {
        self.seqs.push(seq);
        self.has_proof || self.seqs.len() == 1
    }

    /// Whether these are the first that were taken beside what is in doubt.
    fn confirm(&mut self, results: &[EventResult]) -> bool {
        let is_proof = !self.seqs.is_empty() && results.contains(&EventResult::Accepted);
        is_proof && !std::mem::replace(&mut self.has_proof, true)
    }
}

impl Sender {
    pub fn new(store: Store, client: Client) -> Self {
        Self { store, client, unsettled: Answered::default(), sending: None }
    }

    /// Where the events wait.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Delivers for at most `limit`, retries included.
    pub fn deliver(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
    ) -> Result<Delivery, StoreError> {
        let started = time::now();
        let mut delivery = Delivery {
            sent: Counts::new(),
            rejected: 0,
            waiting: 0,
            took: Duration::ZERO,
            end: DeliveryEnd::Busy,
        };
        let time = Allowance { limit, deadline: started + limit, shutdown };
        if let Some(sending) = self.wait_for_turn(time)? {
            let end = self.send_batches(&mut delivery, &sending, time);
            self.sending = (!self.unsettled.seqs.is_empty()).then_some(sending);
            delivery.end = end?;
        }
        delivery.waiting = self.store.read(|state| state.queue().len())?;
        delivery.took = time::now() - started;
        Ok(delivery)
    }

    fn wait_for_turn(&mut self, time: Allowance) -> Result<Option<SendLock>, StoreError> {
        if let Some(kept) = self.sending.take().filter(SendLock::holds) {
            return Ok(Some(kept));
        }
        loop {
            if let Some(sending) = self.store.try_sending()? {
                return Ok(Some(sending));
            }
            let again_at = time.deadline.min(time::now() + BUSY_POLL);
            if time.is_over() || time.shutdown.wait_until(again_at) {
                return Ok(None);
            }
        }
    }

    fn send_batches(
        &mut self,
        delivery: &mut Delivery,
        sending: &SendLock,
        time: Allowance,
    ) -> Result<DeliveryEnd, StoreError> {
        let mut limits = BatchLimits::DEFAULT;
        let mut failures = 0;
        let mut last_failure = None;
        let mut suspects = PoisonSuspects::default();
        let mut answered = Answered::default();
        if !self.is_empty()? {
            self.store.try_writing()?;
        }
        loop {
            // Read again each time, just before it is sent: it may be another state by now.
            let batch = match self.settle(answered, &suspects, limits, time)? {
                NextBatch::Empty if suspects.seqs.is_empty() => return Ok(DeliveryEnd::Empty),
                NextBatch::Empty => return self.settle_suspects(&suspects, delivery, time),
                NextBatch::Batch(batch) => batch,
                NextBatch::TooLarge(seq) => {
                    answered = drop_too_large(seq, delivery);
                    continue;
                }
            };
            answered = Answered::default();
            if time.shutdown.requested() {
                return Ok(DeliveryEnd::Stopped);
            }
            if time.is_used_up() {
                let kept = |(why, retry_after)| DeliveryEnd::Kept { why, retry_after };
                return Ok(last_failure.map_or(DeliveryEnd::OutOfTime, kept));
            }
            if !sending.holds() {
                return Ok(DeliveryEnd::Busy);
            }
            let (why, retry_after) = match self.send(&batch, time) {
                BatchResult::Judged(results) => {
                    if results.len() < batch.seqs.len() {
                        // Which events such a server took is sure only as far as it answers.
                        limits.events = results.len();
                    }
                    if suspects.confirm(&results) {
                        limits = BatchLimits::DEFAULT;
                    }
                    let later;
                    (answered, later) = judged(&batch, &results, delivery);
                    let Some(status) = later else {
                        (failures, last_failure) = (0, None);
                        continue;
                    };
                    (format!("HTTP {status} for some events"), None)
                }
                BatchResult::Malformed { advice } => {
                    if let Some(less) = limits.halved(batch.seqs.len()) {
                        limits = less;
                    } else if suspects.add(batch.seqs[0]) {
                        limits = BatchLimits::DEFAULT;
                    } else {
                        return Ok(DeliveryEnd::Refused { advice });
                    }
                    continue;
                }
                BatchResult::Retry { why, after } => (why, after),
                BatchResult::Refused { advice } => return Ok(DeliveryEnd::Refused { advice }),
            };
            self.settle(std::mem::take(&mut answered), &suspects, limits, time)?;
            failures += 1;
            let again_at = time::now() + backoff::pause(failures, retry_after, backoff::jitter());
            if time.is_used_up_at(again_at) {
                return Ok(DeliveryEnd::Kept { why, retry_after });
            }
            log::debug!("{why}; trying again");
            last_failure = Some((why, retry_after));
            if time.shutdown.wait_until(again_at) {
                return Ok(DeliveryEnd::Stopped);
            }
        }
    }

    /// The events that the server took no request with: once more by themselves, if it has taken
    /// others meanwhile. Then they are at fault, and must not block the queue for ever.
    fn settle_suspects(
        &mut self,
        suspects: &PoisonSuspects,
        delivery: &mut Delivery,
        time: Allowance,
    ) -> Result<DeliveryEnd, StoreError> {
        for &seq in &suspects.seqs {
            let alone = self.store.read(|state| {
                let one = state.queue().iter().find(|waiting| waiting.seq == seq);
                one.map(|one| cut(std::slice::from_ref(one), BatchLimits::DEFAULT))
            })?;
            let Some(NextBatch::Batch(batch)) = alone else { continue };
            if time.is_used_up() {
                return Ok(DeliveryEnd::OutOfTime);
            }
            match self.send(&batch, time) {
                BatchResult::Judged(results) => {
                    let (answered, later) = judged(&batch, &results, delivery);
                    self.settle(answered, suspects, BatchLimits::DEFAULT, time)?;
                    if let Some(status) = later {
                        let why = format!("HTTP {status} for some events");
                        return Ok(DeliveryEnd::Kept { why, retry_after: None });
                    }
                }
                BatchResult::Malformed { .. } if suspects.has_proof => {
                    log::warn!(
                        "dropped an event with which honeycomb takes no request, malformed or too large"
                    );
                    let answered = refused(seq, delivery);
                    self.settle(answered, suspects, BatchLimits::DEFAULT, time)?;
                }
                BatchResult::Malformed { advice } | BatchResult::Refused { advice } => {
                    return Ok(DeliveryEnd::Refused { advice });
                }
                BatchResult::Retry { why, after } => {
                    return Ok(DeliveryEnd::Kept { why, retry_after: after });
                }
            }
        }
        Ok(if self.is_empty()? { DeliveryEnd::Empty } else { DeliveryEnd::OutOfTime })
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        self.store.read(|state| state.queue().is_empty())
    }

    fn send(&self, batch: &Batch, time: Allowance) -> BatchResult {
        match self.client.post(&batch.body, time.left()) {
            Ok(response) => judge(&response, time::wall()),
            Err(NoResponse(why)) => BatchResult::Retry { why, after: None },
        }
    }

    /// Writes down what was answered for; gives the next batch, in the same step since each reads
    /// the whole state.
    fn settle(
        &mut self,
        answered: Answered,
        suspects: &PoisonSuspects,
        limits: BatchLimits,
        time: Allowance,
    ) -> Result<NextBatch, StoreError> {
        self.unsettled.seqs.extend(answered.seqs);
        self.unsettled.refused += answered.refused;
        if self.unsettled.seqs.is_empty() {
            return self.store.read(|state| cut(suspects.beyond(state.queue()), limits));
        }
        loop {
            let noted = self.store.update(|state| {
                state.settle(&self.unsettled.seqs, self.unsettled.refused);
                cut(suspects.beyond(state.queue()), limits)
            });
            // What is not noted goes out again: worth all the time that there is.
            if matches!(noted, Err(StoreError::Busy { .. })) && !time.is_over() {
                continue;
            }
            let next = noted?;
            self.unsettled = Answered::default();
            return Ok(next);
        }
    }
}

fn drop_too_large(seq: u64, delivery: &mut Delivery) -> Answered {
    log::warn!("dropped an event that is too large for Honeycomb even by itself");
    refused(seq, delivery)
}

fn refused(seq: u64, delivery: &mut Delivery) -> Answered {
    delivery.rejected += 1;
    Answered { seqs: vec![seq], refused: 1 }
}

/// The events that are settled, accepted or rejected; and the status of one that stays, if any.
fn judged(
    batch: &Batch,
    results: &[EventResult],
    delivery: &mut Delivery,
) -> (Answered, Option<u16>) {
    let mut answered = Answered::default();
    let mut reasons = BTreeMap::<&str, usize>::new();
    let mut later = None;
    for ((seq, kind), result) in batch.seqs.iter().zip(&batch.kinds).zip(results) {
        match result {
            EventResult::Accepted => {
                *delivery.sent.entry(*kind).or_default() += 1;
                answered.seqs.push(*seq);
            }
            EventResult::Rejected { reason } => {
                *reasons.entry(reason).or_default() += 1;
                answered.seqs.push(*seq);
            }
            EventResult::Later { status } => later = Some(*status),
        }
    }
    for (reason, count) in reasons {
        delivery.rejected += count;
        answered.refused += count;
        log::warn!("honeycomb rejected {count} event(s) for good: {reason}");
    }
    (answered, later)
}

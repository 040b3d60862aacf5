//! One delivery: what waits goes to Honeycomb, batch by batch, oldest first, until nothing waits
//! or the time is up. An event is settled, on disk, as soon as it has been answered for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use crate::answer::{Fate, Verdict, judge};
use crate::backoff;
use crate::batch::{Batch, Counts, Cut, Limits, cut};
use crate::clock;
use crate::honeycomb::{Client, NoAnswer};
use crate::stop::Stop;
use crate::store::{Sending, Store, StoreError};

/// How often to look whether another collector has finished sending.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// A try with less time than this would only fail, and hide why the ones before it did.
const LEAST_TRY: Duration = Duration::from_millis(100);

/// Carries events from the store to Honeycomb.
#[derive(Debug)]
pub struct Courier {
    store: Store,
    client: Client,
    /// Answered for, but not yet written down as such: a full disk must not make duplicates.
    unsettled: Vec<u64>,
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
    pub end: End,
}

#[derive(Debug, Clone, PartialEq)]
pub enum End {
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
    /// Another collector was sending all the while.
    Busy,
    Stopped,
}

impl Courier {
    pub fn new(store: Store, client: Client) -> Self {
        Self { store, client, unsettled: Vec::new() }
    }

    /// Delivers for at most `limit`, retries included.
    pub fn deliver(&mut self, limit: Duration, stop: &Stop) -> Result<Delivery, StoreError> {
        let started = clock::now();
        let mut delivery = Delivery {
            sent: Counts::new(),
            rejected: 0,
            waiting: 0,
            took: Duration::ZERO,
            end: End::Busy,
        };
        if let Some(sending) = self.wait_for_turn(started + limit, stop)? {
            delivery.end = self.send_batches(&mut delivery, started + limit, stop)?;
            drop(sending);
        }
        delivery.waiting = self.store.read()?.queue().len();
        delivery.took = clock::now() - started;
        Ok(delivery)
    }

    fn wait_for_turn(&self, deadline: Instant, stop: &Stop) -> Result<Option<Sending>, StoreError> {
        loop {
            if let Some(sending) = self.store.try_sending()? {
                return Ok(Some(sending));
            }
            if clock::now() >= deadline || stop.wait_until(deadline.min(clock::now() + BUSY_POLL)) {
                return Ok(None);
            }
        }
    }

    fn send_batches(
        &mut self,
        delivery: &mut Delivery,
        deadline: Instant,
        stop: &Stop,
    ) -> Result<End, StoreError> {
        let mut limits = Limits::DEFAULT;
        let mut failures = 0;
        let mut next = self.settle(&[], limits)?;
        loop {
            let batch = match next {
                Cut::Empty => return Ok(End::Empty),
                Cut::Batch(batch) => batch,
                Cut::TooLarge(number) => {
                    next = self.drop_too_large(number, limits, delivery)?;
                    continue;
                }
            };
            if stop.requested() {
                return Ok(End::Stopped);
            }
            let (why, retry_after) = match self.send(&batch, deadline) {
                Verdict::Judged(fates) => {
                    if fates.len() < batch.numbers.len() {
                        // Which events such a server took is sure only as far as it answers.
                        limits.events = fates.len();
                    }
                    let (answered, later) = judged(&batch, &fates, delivery);
                    next = self.settle(&answered, limits)?;
                    match later {
                        None => {
                            failures = 0;
                            continue;
                        }
                        Some(status) => (format!("HTTP {status} for some events"), None),
                    }
                }
                Verdict::TooLarge => {
                    next = if let Some(less) = limits.halved(batch.numbers.len()) {
                        limits = less;
                        self.settle(&[], limits)?
                    } else {
                        self.drop_too_large(batch.numbers[0], limits, delivery)?
                    };
                    continue;
                }
                Verdict::Retry { why, after } => {
                    next = Cut::Batch(batch);
                    (why, after)
                }
                Verdict::Refused { advice } => return Ok(End::Refused { advice }),
            };
            failures += 1;
            let again_at = clock::now() + backoff::pause(failures, retry_after, jitter());
            if again_at + LEAST_TRY >= deadline {
                return Ok(End::Kept { why, retry_after });
            }
            log::debug!("{why}; trying again");
            if stop.wait_until(again_at) {
                return Ok(End::Stopped);
            }
        }
    }

    fn send(&self, batch: &Batch, deadline: Instant) -> Verdict {
        let left = deadline.saturating_duration_since(clock::now());
        match self.client.post(&batch.body, left) {
            Ok(answer) => judge(&answer, clock::wall()),
            Err(NoAnswer(why)) => Verdict::Retry { why, after: None },
        }
    }

    fn drop_too_large(
        &mut self,
        number: u64,
        limits: Limits,
        delivery: &mut Delivery,
    ) -> Result<Cut, StoreError> {
        log::warn!("dropped an event that is too large for Honeycomb even by itself");
        delivery.rejected += 1;
        self.settle(&[number], limits)
    }

    /// Writes down what was answered for; gives the next batch, in the same step since each reads
    /// the whole state.
    fn settle(&mut self, answered: &[u64], limits: Limits) -> Result<Cut, StoreError> {
        self.unsettled.extend(answered);
        if self.unsettled.is_empty() {
            return Ok(cut(self.store.read()?.queue(), limits));
        }
        let next = self.store.update(|state| {
            state.settle(&self.unsettled);
            cut(state.queue(), limits)
        })?;
        self.unsettled.clear();
        Ok(next)
    }
}

/// The events that are settled, accepted or rejected; and the status of one that stays, if any.
fn judged(batch: &Batch, fates: &[Fate], delivery: &mut Delivery) -> (Vec<u64>, Option<u16>) {
    let mut answered = Vec::with_capacity(fates.len());
    let mut reasons = BTreeMap::<&str, usize>::new();
    let mut later = None;
    for ((number, kind), fate) in batch.numbers.iter().zip(&batch.kinds).zip(fates) {
        match fate {
            Fate::Accepted => {
                *delivery.sent.entry(*kind).or_default() += 1;
                answered.push(*number);
            }
            Fate::Rejected { reason } => {
                *reasons.entry(reason).or_default() += 1;
                answered.push(*number);
            }
            Fate::Later { status } => later = Some(*status),
        }
    }
    for (reason, count) in reasons {
        delivery.rejected += count;
        log::warn!("honeycomb rejected {count} event(s) for good: {reason}");
    }
    (answered, later)
}

/// From 0 to 1; without randomness, as spread as one process can be.
pub fn jitter() -> f64 {
    let mut random = [0];
    let _ = SystemRandom::new().fill(&mut random);
    f64::from(random[0]) / 255.0
}

//! Sends the queue to Honeycomb, batch by batch, oldest events first, until it is empty or the time
//! is up. An event leaves the queue on disk as soon as the server has accepted or rejected it.

use std::time::Duration;

use crate::base::backoff;
use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::honeycomb::batch::{Batch, BatchLimits, Counts, NextBatch, cut};
use crate::honeycomb::client::{Client, NoResponse};
use crate::honeycomb::delivery::{Delivery, DeliveryEnd, SendProgress, Settled, TimeBudget};
use crate::honeycomb::response::{BatchResult, judge};
use crate::spool::error::StoreError;
use crate::spool::store::{SendLock, Store};

/// How often to check whether another collector has finished sending.
const BUSY_POLL: Duration = Duration::from_millis(50);

/// Sends the events of one store to one dataset.
#[derive(Debug)]
pub struct Sender {
    store: Store,
    client: Client,
    /// Settled events that could not be removed from the queue yet, for example because the disk
    /// is full. They are never sent again by this process.
    unsaved: Settled,
    /// Held from one delivery to the next while anything is unsaved, so that no other collector
    /// sends those events again.
    lock: Option<SendLock>,
}

impl Sender {
    pub fn new(store: Store, client: Client) -> Self {
        Self { store, client, unsaved: Settled::default(), lock: None }
    }

    /// Where the events wait.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Delivers for at most `limit`, including retries.
    pub fn deliver(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
    ) -> Result<Delivery, StoreError> {
        let started = time::now();
        let budget = TimeBudget { limit, deadline: started + limit, shutdown };
        let (mut sent, mut rejected, mut end) = (Counts::new(), 0, DeliveryEnd::Busy);
        if let Some(lock) = self.wait_for_turn(budget)? {
            let mut progress = SendProgress::new(budget);
            let result = self.send_batches(&mut progress, &lock);
            self.lock = (!self.unsaved.seqs.is_empty()).then_some(lock);
            end = result?;
            (sent, rejected) = (progress.sent, progress.rejected);
        }
        let waiting = self.store.read(|state| state.queue().len())?;
        Ok(Delivery { sent, rejected, waiting, took: time::now() - started, end })
    }

    /// `None` if another collector is sending until the time is up.
    fn wait_for_turn(&mut self, budget: TimeBudget) -> Result<Option<SendLock>, StoreError> {
        if let Some(kept) = self.lock.take().filter(SendLock::holds) {
            return Ok(Some(kept));
        }
        loop {
            if let Some(lock) = self.store.try_sending()? {
                return Ok(Some(lock));
            }
            let retry_at = budget.deadline.min(time::now() + BUSY_POLL);
            if budget.is_over() || budget.shutdown.wait_until(retry_at) {
                return Ok(None);
            }
        }
    }

    fn send_batches(
        &mut self,
        progress: &mut SendProgress,
        lock: &SendLock,
    ) -> Result<DeliveryEnd, StoreError> {
        if !self.queue_is_empty()? {
            self.store.try_writing()?;
        }
        loop {
            // The queue is read just before each request, because it may have changed.
            let batch = match self.save_and_cut(progress)? {
                NextBatch::Empty if progress.suspects.is_empty() => return Ok(DeliveryEnd::Empty),
                NextBatch::Empty => return self.send_suspects(progress),
                NextBatch::Batch(batch) => batch,
                NextBatch::TooLarge(seq) => {
                    progress.drop_event(seq, "is too large for Honeycomb");
                    continue;
                }
            };
            if let Some(end) = reason_to_stop(progress, lock) {
                return Ok(end);
            }
            let (why, retry_after) = match self.send(&batch, progress.budget) {
                BatchResult::Judged(results) => match progress.add_results(&batch, &results) {
                    Some(status) => (some_events_later(status), None),
                    None => continue,
                },
                BatchResult::Malformed { .. } if progress.shrink(&batch) => continue,
                BatchResult::Malformed { advice } | BatchResult::Refused { advice } => {
                    return Ok(DeliveryEnd::Refused { advice });
                }
                BatchResult::Retry { why, after } => (why, after),
            };
            if let Some(end) = self.pause(progress, why, retry_after)? {
                return Ok(end);
            }
        }
    }

    /// Waits before the next try. Returns the end of the delivery if there is no time for one.
    fn pause(
        &mut self,
        progress: &mut SendProgress,
        why: String,
        retry_after: Option<Duration>,
    ) -> Result<Option<DeliveryEnd>, StoreError> {
        self.save_and_cut(progress)?;
        progress.failures += 1;
        let pause = backoff::pause(progress.failures, retry_after, backoff::jitter());
        let retry_at = time::now() + pause;
        if progress.budget.is_used_up_at(retry_at) {
            return Ok(Some(DeliveryEnd::Kept { why, retry_after }));
        }
        log::debug!("{why}; trying again");
        progress.last_failure = Some((why, retry_after));
        let stopped = progress.budget.shutdown.wait_until(retry_at);
        Ok(stopped.then_some(DeliveryEnd::Stopped))
    }

    /// Sends each suspect alone once more. If the server has accepted other events meanwhile, a
    /// suspect that it rejects again is dropped, so that it cannot block the queue forever.
    fn send_suspects(&mut self, progress: &mut SendProgress) -> Result<DeliveryEnd, StoreError> {
        for seq in progress.suspects.seqs().to_vec() {
            let alone = self.store.read(|state| {
                let event = state.queue().iter().find(|event| event.seq == seq);
                event.map(|event| cut(std::slice::from_ref(event), BatchLimits::DEFAULT))
            })?;
            let Some(NextBatch::Batch(batch)) = alone else { continue };
            if progress.budget.is_used_up() {
                return Ok(DeliveryEnd::OutOfTime);
            }
            let later = match self.send(&batch, progress.budget) {
                BatchResult::Judged(results) => progress.add_results(&batch, &results),
                BatchResult::Malformed { advice } if progress.suspects.is_confirmed() => {
                    progress.drop_event(seq, &format!("Honeycomb rejects: {advice}"));
                    None
                }
                BatchResult::Malformed { advice } | BatchResult::Refused { advice } => {
                    return Ok(DeliveryEnd::Refused { advice });
                }
                BatchResult::Retry { why, after } => {
                    return Ok(DeliveryEnd::Kept { why, retry_after: after });
                }
            };
            self.save_and_cut(progress)?;
            if let Some(status) = later {
                return Ok(DeliveryEnd::Kept { why: some_events_later(status), retry_after: None });
            }
        }
        let is_empty = self.queue_is_empty()?;
        Ok(if is_empty { DeliveryEnd::Empty } else { DeliveryEnd::OutOfTime })
    }

    fn queue_is_empty(&self) -> Result<bool, StoreError> {
        self.store.read(|state| state.queue().is_empty())
    }

    fn send(&self, batch: &Batch, budget: TimeBudget) -> BatchResult {
        match self.client.post(&batch.body, budget.left()) {
            Ok(response) => judge(&response, time::wall()),
            Err(NoResponse(why)) => BatchResult::Retry { why, after: None },
        }
    }

    /// Removes the settled events from the queue on disk, and cuts the next batch in the same step,
    /// because each step reads the whole state.
    fn save_and_cut(&mut self, progress: &mut SendProgress) -> Result<NextBatch, StoreError> {
        let settled = std::mem::take(&mut progress.settled);
        self.unsaved.seqs.extend(settled.seqs);
        self.unsaved.rejected += settled.rejected;
        let (suspects, limits) = (&progress.suspects, progress.limits);
        if self.unsaved.seqs.is_empty() {
            return self.store.read(|state| cut(suspects.remaining(state.queue()), limits));
        }
        loop {
            let saved = self.store.update(|state| {
                state.settle(&self.unsaved.seqs, self.unsaved.rejected);
                cut(suspects.remaining(state.queue()), limits)
            });
            // An event that is not removed would be sent again, so this uses all the time there is.
            if matches!(saved, Err(StoreError::Busy { .. })) && !progress.budget.is_over() {
                continue;
            }
            let next = saved?;
            self.unsaved = Settled::default();
            return Ok(next);
        }
    }
}

/// Why the next batch must not be sent now, if there is a reason.
fn reason_to_stop(progress: &mut SendProgress, lock: &SendLock) -> Option<DeliveryEnd> {
    if progress.budget.shutdown.requested() {
        return Some(DeliveryEnd::Stopped);
    }
    if progress.budget.is_used_up() {
        let kept = |(why, retry_after)| DeliveryEnd::Kept { why, retry_after };
        return Some(progress.last_failure.take().map_or(DeliveryEnd::OutOfTime, kept));
    }
    (!lock.holds()).then_some(DeliveryEnd::Busy)
}

fn some_events_later(status: u16) -> String {
    format!("HTTP {status} for some events")
}

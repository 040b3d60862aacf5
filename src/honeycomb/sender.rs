//! Sends the queue to Honeycomb, batch by batch, oldest events first, until it is empty or the time
//! is up. An event leaves the queue on disk as soon as the server has accepted or rejected it. Events
//! that the server wants later are sent again after all others.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::base::backoff;
use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::honeycomb::batch::{Batch, BatchLimits, Counts, NextBatch, cut};
use crate::honeycomb::client::{Client, NoResponse};
use crate::honeycomb::delivery::{
    Delivery, DeliveryEnd, OnSuccess, SendProgress, Settled, TimeBudget,
};
use crate::honeycomb::later::Later;
use crate::honeycomb::poison::PoisonSuspects;
use crate::honeycomb::response::{
    self, BatchResult, EventResult, RequestFailure, accepts_all_at_once, judge,
};
use crate::spool::error::StoreError;
use crate::spool::store::{SendLock, Store};

/// How often to check whether another collector has finished sending.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// The pause before settled events are recorded again, if that failed.
const RECORD_RETRY: Duration = Duration::from_millis(100);

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
    /// The events that the server wanted later in the last delivery. The next one sends the other
    /// events first.
    later: Later,
    /// True after the message about a server that sends one status for many events.
    has_noted_single_status: bool,
}

/// Whether a delivery continues, or how it ends.
type Step = ControlFlow<DeliveryEnd>;

impl Sender {
    pub fn new(store: Store, client: Client) -> Self {
        let (unsaved, later) = (Settled::default(), Later::default());
        Self { store, client, unsaved, lock: None, later, has_noted_single_status: false }
    }

    /// The store that holds the queue.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends the queue for at most `limit`, including retries. Fails if the state cannot be read or
    /// written. Events that were settled meanwhile are kept, and saved by the next delivery.
    pub fn deliver(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
    ) -> Result<Delivery, StoreError> {
        self.deliver_within(limit, shutdown, None)
    }

    /// Sends the queue for as long as the server accepts events: at most `limit` passes between two
    /// successes. `on_success` is called after each.
    pub fn deliver_all(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
        on_success: OnSuccess,
    ) -> Result<Delivery, StoreError> {
        self.deliver_within(limit, shutdown, Some(on_success))
    }

    fn deliver_within(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
        on_success: Option<OnSuccess>,
    ) -> Result<Delivery, StoreError> {
        let started = time::now();
        let budget = TimeBudget { limit, deadline: started + limit, shutdown };
        let (mut sent, mut rejected, mut end) = (Counts::new(), 0, DeliveryEnd::Busy);
        if let Some(lock) = self.wait_for_turn(budget)? {
            let mut progress = SendProgress::new(budget, std::mem::take(&mut self.later));
            progress.on_success = on_success;
            let result = self.send_queue(&mut progress, &lock);
            self.later = std::mem::take(&mut progress.later);
            self.lock = (!self.unsaved.seqs.is_empty()).then_some(lock);
            end = result?;
            (sent, rejected) = (progress.sent, progress.rejected);
        }
        let waiting = self.store.queue_length()?;
        Ok(Delivery { sent, rejected, waiting, took: time::now() - started, end })
    }

    /// Waits for the right to send. `None` if another collector has it until the time is up.
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

    fn send_queue(
        &mut self,
        progress: &mut SendProgress,
        lock: &SendLock,
    ) -> Result<DeliveryEnd, StoreError> {
        self.store.prepare_to_settle()?;
        loop {
            // The queue is read just before each request, because it may have changed.
            let step = match self.save_and_cut(progress)? {
                NextBatch::Empty if progress.suspects.is_confirmed() => {
                    self.send_suspects(progress)?
                }
                NextBatch::Empty if progress.later.retry() => Step::Continue(()),
                NextBatch::Empty if progress.suspects.is_empty() => {
                    return Ok(DeliveryEnd::Empty);
                }
                NextBatch::Empty => self.send_suspects(progress)?,
                NextBatch::TooLarge(seq) => {
                    progress.drop_event(seq, "is too large for Honeycomb");
                    Step::Continue(())
                }
                NextBatch::Batch(batch) => self.send_batch(&batch, progress, lock)?,
            };
            if let Step::Break(end) = step {
                return Ok(end);
            }
        }
    }

    fn send_batch(
        &mut self,
        batch: &Batch,
        progress: &mut SendProgress,
        lock: &SendLock,
    ) -> Result<Step, StoreError> {
        if let Some(end) = reason_to_stop(progress, lock) {
            return Ok(Step::Break(end));
        }
        match self.request(batch, progress.budget) {
            BatchResult::PerEvent(results) => match progress.add_results(batch, &results) {
                Some(failure) => self.wait_to_retry(progress, failure),
                None => Ok(Step::Continue(())),
            },
            BatchResult::Malformed { .. } if progress.shrink(batch) => Ok(Step::Continue(())),
            BatchResult::Malformed { reason } => Ok(Step::Break(rejects_everything(&reason))),
            BatchResult::Refused { advice } => Ok(Step::Break(DeliveryEnd::Refused { advice })),
            BatchResult::Retry(failure) => self.wait_to_retry(progress, failure),
        }
    }

    /// Waits before the next attempt. Ends the delivery if the time is too short for one.
    fn wait_to_retry(
        &mut self,
        progress: &mut SendProgress,
        failure: RequestFailure,
    ) -> Result<Step, StoreError> {
        self.save(progress)?;
        progress.failures += 1;
        let pause = backoff::pause(progress.failures, failure.retry_after, backoff::jitter());
        let retry_at = time::now() + pause;
        if progress.budget.is_used_up_at(retry_at) {
            return Ok(Step::Break(DeliveryEnd::Kept(failure)));
        }
        log::debug!("{}; retrying", failure.reason);
        progress.last_failure = Some(failure);
        let is_stopped = progress.budget.shutdown.wait_until(retry_at);
        Ok(if is_stopped { Step::Break(DeliveryEnd::Stopped) } else { Step::Continue(()) })
    }

    /// Sends each suspect once more, alone. After that, the list of suspects is empty.
    fn send_suspects(&mut self, progress: &mut SendProgress) -> Result<Step, StoreError> {
        for seq in progress.suspects.seqs().to_vec() {
            let step = self.send_suspect(seq, progress)?;
            if step.is_break() {
                return Ok(step);
            }
        }
        progress.suspects = PoisonSuspects::default();
        Ok(Step::Continue(()))
    }

    /// Drops the suspect if the server rejects it again and has accepted other events meanwhile.
    /// Otherwise it would block the queue forever.
    fn send_suspect(&mut self, seq: u64, progress: &mut SendProgress) -> Result<Step, StoreError> {
        let Some(batch) = self.batch_of(seq)? else { return Ok(Step::Continue(())) };
        if progress.budget.is_used_up() {
            return Ok(Step::Break(DeliveryEnd::OutOfTime));
        }
        let step = match self.request(&batch, progress.budget) {
            BatchResult::PerEvent(results) => match progress.settle(&batch, &results) {
                Some(failure) => Step::Break(DeliveryEnd::Kept(failure)),
                None => Step::Continue(()),
            },
            BatchResult::Malformed { reason } if progress.suspects.is_confirmed() => {
                progress.drop_event(seq, &format!("Honeycomb rejects: {reason}"));
                Step::Continue(())
            }
            BatchResult::Malformed { reason } => Step::Break(rejects_everything(&reason)),
            BatchResult::Refused { advice } => Step::Break(DeliveryEnd::Refused { advice }),
            BatchResult::Retry(failure) => Step::Break(DeliveryEnd::Kept(failure)),
        };
        self.save(progress)?;
        Ok(step)
    }

    /// The queued event with this number as a batch. `None` if it has left the queue.
    fn batch_of(&self, seq: u64) -> Result<Option<Batch>, StoreError> {
        let event = self.store.read_queue()?.find(|event| event.seq == seq);
        Ok(match cut(event, BatchLimits::DEFAULT) {
            NextBatch::Batch(batch) => Some(batch),
            NextBatch::Empty | NextBatch::TooLarge(_) => None,
        })
    }

    fn request(&mut self, batch: &Batch, budget: TimeBudget) -> BatchResult {
        let events = batch.seqs.len();
        match self.client.post(&batch.body, budget.left()) {
            Ok(response) if accepts_all_at_once(&response, events) => {
                if !std::mem::replace(&mut self.has_noted_single_status, true) {
                    log::warn!(
                        "the server sends one status for {events} events, like an OpenTelemetry \
                         Collector before 0.137; they count as accepted; update the Collector to get \
                         a status for each"
                    );
                }
                BatchResult::PerEvent(vec![EventResult::Accepted; events])
            }
            Ok(response) => judge(&response, time::wall()),
            Err(NoResponse(reason)) => {
                BatchResult::Retry(RequestFailure { reason, retry_after: None })
            }
        }
    }

    /// Removes the settled events from the queue on disk, if there are any. An event that is not
    /// removed would be sent again, so this is tried for as long as the delivery may take.
    fn save(&mut self, progress: &mut SendProgress) -> Result<(), StoreError> {
        let settled = std::mem::take(&mut progress.settled);
        self.unsaved.seqs.extend(settled.seqs);
        self.unsaved.rejected += settled.rejected;
        if self.unsaved.seqs.is_empty() {
            return Ok(());
        }
        while let Err(error) = self.store.settle(&self.unsaved.seqs, self.unsaved.rejected) {
            let (budget, retry_at) = (progress.budget, time::now() + RECORD_RETRY);
            // A full disk may get space, and another program may close the file.
            let is_in_time = retry_at < budget.deadline && error.may_pass();
            if !is_in_time || budget.shutdown.wait_until(retry_at) {
                return Err(error);
            }
        }
        self.unsaved = Settled::default();
        Ok(())
    }

    /// Removes the settled events from the queue on disk, and cuts the next batch.
    fn save_and_cut(&mut self, progress: &mut SendProgress) -> Result<NextBatch, StoreError> {
        self.save(progress)?;
        let mut queue = self.store.read_queue()?;
        let next = progress.selection().next_batch(&mut queue);
        let unreadable = queue.finish()?;
        if !unreadable.is_empty() {
            progress.drop_unreadable(&unreadable);
            self.save(progress)?;
        }
        Ok(next)
    }
}

/// Why the next batch must not be sent now, if there is a reason.
fn reason_to_stop(progress: &mut SendProgress, lock: &SendLock) -> Option<DeliveryEnd> {
    if progress.budget.shutdown.requested() {
        return Some(DeliveryEnd::Stopped);
    }
    if progress.budget.is_used_up() {
        let failure = progress.last_failure.take().or_else(|| progress.later.failure().cloned());
        return Some(failure.map_or(DeliveryEnd::OutOfTime, DeliveryEnd::Kept));
    }
    (!lock.holds()).then_some(DeliveryEnd::Busy)
}

fn rejects_everything(reason: &str) -> DeliveryEnd {
    DeliveryEnd::Refused { advice: response::rejected(reason) }
}

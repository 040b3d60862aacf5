//! Shutdown: one final poll, everything on disk, and a final delivery, within a time budget.
//!
//! Events that cannot be sent in time stay on disk for the next collector.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::events::observation::{Heartbeats, Phase};
use crate::honeycomb::delivery::Delivery;
use crate::sidecar::reporter::Reporter;
use crate::sidecar::schedule::FINAL_STATUS_DELAY;
use crate::sidecar::worker::{Message, Worker};
use crate::spool::error::StoreError;
use crate::tilt::command::TiltMode;
use crate::tilt::error::TiltError;
use crate::tilt::health::{Health, count_by_health};
use crate::tilt::model::{Outcome, Snapshot};
use crate::tilt::watch::{WatchEvent, WatchTarget};

/// How long a shutdown may take.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    /// For one final poll.
    poll: Duration,
    /// For the final polls and the delivery together.
    total: Duration,
}

/// Under `tilt up`, Tilt warns about a process that takes longer than 1.5 s to exit.
const UP_BUDGET: Budget =
    Budget { poll: Duration::from_millis(600), total: Duration::from_millis(1100) };
/// `tilt ci` waits up to 30 s for its processes, and the CI job waits with it. The final poll is slow
/// on a busy machine, and only it shows how the run ended. Unsent events may be lost with the machine.
const CI_BUDGET: Budget = Budget { poll: Duration::from_secs(3), total: Duration::from_secs(5) };
/// The part of the budget that no poll may use. It is for writing to disk.
const RECORD_TIME: Duration = Duration::from_millis(400);
/// Further polls if Tilt does not show the final status of all resources.
const EXTRA_POLLS: u8 = 1;

/// A sidecar that is about to exit.
pub(super) struct Drain<'a> {
    reporter: Reporter<'a>,
    poller: Worker,
    sender: Worker,
    started: Instant,
    budget: Budget,
    polls_running: usize,
    deliveries_running: usize,
    final_polls_left: u8,
    /// True if the last poll did not show the final status, and another one may.
    polls_again: bool,
    /// True if changes still have to be written to disk.
    has_unrecorded: bool,
    /// Never requested: final polls and deliveries end at their time limits only.
    no_shutdown: Shutdown,
}

impl<'a> Drain<'a> {
    /// The workers must already have been asked to stop. They return at once unless they hang.
    /// `mode` is the command that runs Tilt, if it is known. `has_unrecorded` is true if the view
    /// holds changes that are not on disk.
    pub(super) fn new(
        reporter: Reporter<'a>,
        poller: Worker,
        sender: Worker,
        mode: Option<TiltMode>,
        has_unrecorded: bool,
    ) -> Self {
        Self {
            polls_running: usize::from(poller.is_busy()),
            deliveries_running: usize::from(sender.is_busy()),
            reporter,
            poller,
            sender,
            started: time::now(),
            budget: if mode == Some(TiltMode::Ci) { CI_BUDGET } else { UP_BUDGET },
            final_polls_left: EXTRA_POLLS,
            polls_again: false,
            has_unrecorded,
            no_shutdown: Shutdown::default(),
        }
    }

    /// Returns when everything is done, or when the time is up.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        self.poll_after(Duration::ZERO);
        while self.polls_running + self.deliveries_running > 0 {
            let Ok(message) = messages.recv_timeout(self.time_left()) else { break };
            match message {
                Message::Shutdown => {}
                // A watch may send events without end, so the deadline must stop them too.
                Message::Watched(..) if self.time_left().is_zero() => break,
                Message::Watched(target, event) => self.on_watch_event(target, event),
                Message::Polled(result) => self.on_poll(*result),
                Message::Delivered(result) => self.on_delivery(result),
            }
        }
        if self.polls_again {
            // That poll took too long.
            self.polls_again = false;
            self.record_without_poll();
        }
        if self.has_unrecorded {
            // Written for the next collector, which sends it.
            self.record_changes();
        }
    }

    fn time_left(&self) -> Duration {
        (self.started + self.budget.total).saturating_duration_since(time::now())
    }

    fn poll_after(&mut self, delay: Duration) {
        let time_left = self.time_left().saturating_sub(delay + RECORD_TIME);
        let time_limit = self.budget.poll.min(time_left);
        self.poller.start_work_after(delay, time_limit, &self.no_shutdown);
        self.polls_running += 1;
    }

    fn on_watch_event(&mut self, target: WatchTarget, event: WatchEvent) {
        match event {
            WatchEvent::Shown(fragment) => {
                self.reporter.apply(target, *fragment);
                self.has_unrecorded = true;
            }
            WatchEvent::Ended(reason) => self.reporter.watches.on_end(target, reason, time::now()),
        }
    }

    fn on_poll(&mut self, result: Result<Snapshot, TiltError>) {
        self.polls_running -= 1;
        self.record_poll(result);
        if self.polls_running > 0 {
            return;
        }
        if self.reporter.view.outcome().is_some() {
            self.budget = CI_BUDGET;
        }
        if self.polls_again {
            log::debug!("tilt exits but does not show its final status yet; polling once more");
            self.final_polls_left = self.final_polls_left.saturating_sub(1);
            self.poll_after(FINAL_STATUS_DELAY);
        } else {
            self.sender.start_work(self.time_left(), &self.no_shutdown);
            self.deliveries_running += 1;
        }
    }

    fn record_poll(&mut self, result: Result<Snapshot, TiltError>) {
        match result {
            Ok(snapshot) => self.record_snapshot(snapshot),
            Err(TiltError::Stopped) => {}
            Err(error) => {
                self.reporter.problems.on_final_poll_error(&error);
                self.polls_again = self.final_status_pending();
                self.record_without_poll();
            }
        }
    }

    fn record_snapshot(&mut self, snapshot: Snapshot) {
        let view = &self.reporter.view;
        if snapshot.session.is_none() && view.session().is_some() {
            // The snapshot may belong to another session.
            return self.record_without_poll();
        }
        let is_another_session = view.is_another_session(&snapshot);
        self.reporter.problems.on_tilt_answer();
        if is_another_session {
            self.record_end();
        }
        self.reporter.replace(snapshot);
        self.polls_again = self.final_status_pending();
        if self.polls_again {
            self.record_changes();
        } else {
            self.report();
        }
    }

    /// Records the last known state as the final one, because the final poll failed.
    fn record_without_poll(&mut self) {
        if self.reporter.view.outcome().is_some() {
            self.report();
        } else if self.reporter.view.session().is_some() {
            self.record_end();
        }
    }

    fn on_delivery(&mut self, result: Result<Delivery, StoreError>) {
        self.deliveries_running -= 1;
        match result {
            Ok(delivery) => self.reporter.on_delivery(&delivery, None),
            Err(error) => self.reporter.problems.on_store_error(&error),
        }
    }

    fn report(&mut self) {
        self.has_unrecorded = self.reporter.report(self.phase()).is_some();
    }

    fn record_changes(&mut self) {
        self.has_unrecorded = self.reporter.record_changes(self.phase()).is_some();
    }

    fn record_end(&mut self) {
        self.has_unrecorded = self.reporter.record_end(self.phase()).is_some();
    }

    fn phase(&self) -> Phase {
        match self.reporter.view.outcome() {
            Some(outcome) if !self.polls_again => Phase::Over(Some(outcome)),
            _ => Phase::Leaving,
        }
    }

    /// True if another poll may show what made Tilt exit.
    fn final_status_pending(&self) -> bool {
        let has_time = time::now() < self.started + CI_BUDGET.poll;
        self.reporter.view.final_status_pending()
            && (self.final_polls_left > 0 || has_time && self.failure_is_hidden())
    }

    /// True if `tilt ci` failed and no resource shows why. On a busy machine, Tilt shows it up to a
    /// few seconds late. After a timeout there may be nothing more to show.
    fn failure_is_hidden(&self) -> bool {
        let view = &self.reporter.view;
        let resources = view.observation(Heartbeats::All).resources;
        view.outcome() == Some(Outcome::Failure)
            && count_by_health(resources).get(Health::Error) == 0
    }
}

//! The sidecar: an event loop that reports on a running Tilt until it is asked to stop.
//!
//! Two threads poll Tilt and send to Honeycomb, and watches show changes as they happen. All of
//! them send messages to the loop, which never waits for Tilt or the network. If one of these is
//! away, the loop logs it once and goes on.

pub mod live_view;
mod outage_notice;
mod problems;
mod reporter;
mod schedule;
mod send_summary;
mod session;
mod shutdown;
mod suspend;
mod watches;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::base::parent_process::ParentProcess;
use crate::base::retry_start::retry_start;
use crate::base::shutdown::{Shutdown, on_signals};
use crate::base::time;
use crate::config::SidecarConfig;
use crate::events::common_fields::Context;
use crate::events::observation::Phase;
use crate::exit_code::Exit;
use crate::honeycomb::dataset_link;
use crate::honeycomb::delivery::Delivery;
use crate::honeycomb::sender::Sender;
use crate::messages;
use crate::sidecar::reporter::Reporter;
use crate::sidecar::schedule::{POLL_RETRY, SETTLE_TIME, STORE_RETRY, Schedule};
use crate::sidecar::session::FollowedSession;
use crate::sidecar::shutdown::Drain;
use crate::sidecar::suspend::SuspendDetector;
use crate::sidecar::watches::WatchSet;
use crate::sidecar::worker::{Message, Worker};
use crate::spool::error::StoreError;
use crate::spool::installation;
use crate::tilt::client::Tilt;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;
use crate::tilt::watch::{WatchEvent, WatchTarget};

/// The most messages that wait for the event loop. If there are more, the watches are read more
/// slowly.
const MESSAGE_LIMIT: usize = 1_000;

/// Reports now, then at every interval, until stopped or orphaned.
pub fn run(config: &SidecarConfig) -> Exit {
    let (outbox, messages) = mpsc::sync_channel(MESSAGE_LIMIT);
    let shutdown = Shutdown::default();
    let handle_signals = || {
        let on_signal = outbox.clone();
        // A full channel wakes the loop anyway, and the handler must not block: it has to notice a
        // second signal.
        on_signals(&shutdown, move || drop(on_signal.try_send(Message::Shutdown)))
    };
    let start = || {
        let sender = config.send.sender();
        let client = sender.client().clone();
        Ok((Sidecar::start(config, shutdown.clone(), sender, &outbox)?, client))
    };
    let started = retry_start(&shutdown, "a thread", handle_signals)
        .and_then(|()| retry_start(&shutdown, "a thread", start));
    let Some((mut sidecar, client)) = started else { return Exit::Done };
    sidecar.log_start();
    dataset_link::log_when_known(client.api(), &config.send.destination);
    let exit = sidecar.run_until_shutdown(&messages);
    if exit == Exit::Done {
        sidecar.shut_down(&messages);
    }
    exit
}

/// A running sidecar.
struct Sidecar<'a> {
    config: &'a SidecarConfig,
    reporter: Reporter<'a>,
    poller: Worker,
    sender: Worker,
    schedule: Schedule,
    session: FollowedSession,
    suspend_detector: SuspendDetector,
    parent: ParentProcess,
    shutdown: Shutdown,
}

impl<'a> Sidecar<'a> {
    /// Starts the workers. No work is under way yet.
    fn start(
        config: &'a SidecarConfig,
        shutdown: Shutdown,
        mut sender: Sender,
        outbox: &SyncSender<Message>,
    ) -> io::Result<Self> {
        // A full disk must not end a sidecar. The id is created later in that case.
        let installation_id = installation::load_or_create(&config.send.state_dir).ok();
        let context = Context { installation_id, ..config.context.clone() };
        let mut tilt = Tilt::new(config.tilt.clone(), context.tilt_mode);
        let session = FollowedSession::new(context.tilt_mode.is_some());
        let event_outbox = outbox.clone();
        let on_event =
            move |target, event| event_outbox.send(Message::Watched(target, event)).is_ok();
        let now = time::now();
        let watches = WatchSet::new(config.tilt.clone(), Arc::new(on_event), now);
        Ok(Self {
            config,
            reporter: Reporter::new(
                config,
                context,
                sender.store().clone(),
                watches,
                shutdown.clone(),
            ),
            poller: Worker::start("tilt", outbox.clone(), move |time_limit, shutdown| {
                Message::Polled(Box::new(tilt.poll(time_limit, shutdown)))
            })?,
            sender: Worker::start("honeycomb", outbox.clone(), move |time_limit, shutdown| {
                Message::Delivered(sender.deliver(time_limit, shutdown))
            })?,
            schedule: Schedule::new(config.interval, now),
            session,
            suspend_detector: SuspendDetector::new(now, time::wall()),
            parent: ParentProcess::current(),
            shutdown,
        })
    }

    fn log_start(&mut self) {
        match self.reporter.queue_length() {
            Ok(queued) => log::info!(
                "reporting to {}, {} {}; {} queued",
                self.config.send.destination.dataset,
                if self.config.watches { "live and every" } else { "every" },
                humantime::format_duration(self.config.interval),
                messages::events(queued),
            ),
            Err(error) => self.reporter.problems.on_store_error(&error),
        }
    }

    /// The event loop. Returns [`Exit::Done`] if this process is to shut down.
    fn run_until_shutdown(&mut self, messages: &Receiver<Message>) -> Exit {
        while !self.shutdown.requested() && !self.is_orphaned() {
            self.resume_after_suspend();
            self.start_due();
            self.reporter.warn_about_long_outage();
            match messages.recv_timeout(self.time_to_next_wake()) {
                Ok(Message::Shutdown) => return Exit::Done,
                Ok(Message::Watched(target, event)) => self.on_watch_event(target, event),
                Ok(Message::Polled(result)) => self.on_poll(*result),
                Ok(Message::Delivered(result)) => self.on_delivery(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Exit::Unexpected,
            }
        }
        Exit::Done
    }

    /// True if the parent process has exited, and Tilt is gone or was replaced. Then no other
    /// process would stop this one.
    fn is_orphaned(&self) -> bool {
        let is_gone = self.session.is_gone_for(self.config.orphan_after, time::now())
            || self.session.replaced_by_newer_session(self.reporter.view.session());
        if is_gone && self.parent.has_exited() {
            log::info!("tilt and the process that started this one are gone; exiting");
            return true;
        }
        false
    }

    fn resume_after_suspend(&mut self) {
        let now = time::now();
        if self.suspend_detector.has_resumed(now, time::wall()) {
            self.schedule.on_resume(now);
        }
    }

    /// Starts everything that is due.
    fn start_due(&mut self) {
        let now = time::now();
        if self.reporter.watches.end_hanging(now) {
            self.schedule.poll_by(now);
        }
        if self.schedule.report_is_due(now) && self.is_up_to_date(now) {
            self.report(now);
        } else if self.schedule.poll_is_due(now) && !self.poller.is_busy() {
            self.schedule.on_poll_started();
            self.poller.start_work(Duration::MAX, &self.shutdown);
        }
        if self.schedule.record_is_due(now) {
            self.record_changes();
        }
        if self.schedule.delivery_is_due(now) && !self.sender.is_busy() {
            self.schedule.on_delivery_started();
            self.sender.start_work(self.config.send.timeout, &self.shutdown);
        }
    }

    /// True if the watches show everything, so that a report needs no poll.
    fn is_up_to_date(&self, now: Instant) -> bool {
        let Reporter { watches, view, .. } = &self.reporter;
        watches.cover(view) && !view.needs_poll() && !self.schedule.full_poll_is_due(now)
    }

    fn time_to_next_wake(&self) -> Duration {
        let (is_polling, is_sending) = (self.poller.is_busy(), self.sender.is_busy());
        let now = time::now();
        self.schedule.next_wake(now, is_polling, is_sending).saturating_duration_since(now)
    }

    fn on_watch_event(&mut self, target: WatchTarget, event: WatchEvent) {
        match event {
            WatchEvent::Shown(fragment) => {
                self.reporter.apply(target, *fragment);
                let now = time::now();
                self.schedule.on_change(now);
                if self.reporter.view.needs_poll() {
                    self.schedule.poll_for_change(now);
                }
            }
            WatchEvent::Ended(reason) => {
                self.reporter.watches.on_end(target, reason, time::now());
                self.schedule.poll_by(time::now() + SETTLE_TIME);
            }
        }
    }

    fn on_poll(&mut self, result: Result<Snapshot, TiltError>) {
        self.poller.finish();
        match result {
            Ok(snapshot) => self.on_snapshot(snapshot),
            Err(TiltError::Stopped) => {}
            Err(error) => self.on_poll_error(&error),
        }
        // Even without Tilt, queued events may get through now.
        self.schedule.request_delivery();
    }

    fn on_snapshot(&mut self, snapshot: Snapshot) {
        let now = time::now();
        let known = self.reporter.view.session();
        if let Some(pause) = self.session.on_answer(snapshot.session.as_ref(), known) {
            return self.poll_again(pause);
        }
        let is_first = self.schedule.on_polled(now);
        self.reporter.problems.on_tilt_answer();
        if self.reporter.view.is_another_session(&snapshot) {
            // Builds observed so far belong to the session that is over.
            self.record_end();
            if self.reporter.problems.store_fails() {
                // They stay in the view until they can be written.
                return self.poll_again(STORE_RETRY);
            }
        }
        self.reporter.replace(snapshot);
        self.reconcile_watches(now);
        if !is_first && !self.schedule.report_is_due(now) {
            self.record_changes();
        } else if self.reporter.view.final_status_pending() {
            self.schedule.await_final_status(now);
            self.record_changes();
        } else {
            self.report(now);
        }
    }

    /// Polls again after `pause`, without using the last snapshot.
    fn poll_again(&mut self, pause: Duration) {
        self.schedule.poll_before_report(time::now() + pause);
    }

    fn reconcile_watches(&mut self, now: Instant) {
        let Reporter { watches, view, .. } = &mut self.reporter;
        if self.config.watches
            && let Some(retry_at) = watches.reconcile(view, now)
        {
            self.schedule.poll_by(retry_at);
        }
    }

    fn on_poll_error(&mut self, error: &TiltError) {
        let now = time::now();
        self.reporter.problems.on_tilt_error(error);
        let gone_for = self.session.on_failure(now);
        if self.config.watches {
            // The longer Tilt is gone, the less often it is polled.
            self.schedule.poll_by(now + gone_for.max(POLL_RETRY));
        }
        if !self.schedule.report_is_due(now) {
            return;
        }
        let is_not_found = matches!(error, TiltError::NotRunning { .. });
        if is_not_found && self.reporter.watches.cover(&self.reporter.view) {
            // The watches still run, so Tilt does too. It only lost the entry that polls need.
            self.report(now);
        } else {
            self.schedule.on_report(now);
        }
    }

    fn on_delivery(&mut self, result: Result<Delivery, StoreError>) {
        self.sender.finish();
        match result {
            Ok(delivery) => {
                let pause = self.schedule.on_delivery(&delivery, time::now(), backoff::jitter());
                self.reporter.on_delivery(&delivery, Some(pause));
            }
            Err(error) => {
                self.schedule.on_store_failure(time::now());
                self.reporter.problems.on_delivery_error(&error);
            }
        }
    }

    fn report(&mut self, now: Instant) {
        self.schedule.on_report(now);
        let again = self.reporter.report(Phase::Running);
        self.schedule.on_recorded(again, time::now());
    }

    fn record_changes(&mut self) {
        let again = self.reporter.record_changes(Phase::Running);
        self.schedule.on_recorded(again, time::now());
    }

    fn record_end(&mut self) {
        let again = self.reporter.record_end(Phase::Running);
        self.schedule.on_recorded(again, time::now());
    }

    fn shut_down(self, messages: &Receiver<Message>) {
        self.shutdown.request();
        let has_unrecorded = self.schedule.has_unrecorded();
        let mode = self.config.context.tilt_mode;
        Drain::new(self.reporter, self.poller, self.sender, mode, has_unrecorded).run(messages);
    }
}

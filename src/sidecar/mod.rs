//! The sidecar: one loop that waits for its next message, and for the disk.
//!
//! Two threads do what may take long, one looking at Tilt and one delivering, so that neither
//! holds up the other, a signal, or the next report; watches tell of what changes as it does.
//! What they find out comes back as messages. Neither Tilt's nor the network's absence ends the
//! loop: it says so once, and goes on.

pub mod live_view;
mod parent_process;
mod suspend;
mod watches;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use crate::base::backoff;
use crate::base::shutdown::{self, Shutdown};
use crate::base::time;
use crate::config::SidecarConfig;
use crate::events::common_fields::Context;
use crate::events::observation::{Heartbeats, Phase, PreviousStatus};
use crate::exit_code::Exit;
use crate::honeycomb::batch::Counts;
use crate::honeycomb::client::Client;
use crate::honeycomb::dataset_link;
use crate::honeycomb::sender::{Delivery, DeliveryEnd};
use crate::messages;
use crate::metadata::git::{self, Checkout};
use crate::sidecar::live_view::LiveView;
use crate::sidecar::parent_process::ParentProcess;
use crate::sidecar::suspend::SuspendDetector;
use crate::sidecar::watches::WatchSet;
use crate::spool::error::StoreError;
use crate::spool::installation;
use crate::spool::reconcile::reconcile;
use crate::spool::store::Store;
use crate::tilt::client::Tilt;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;
use crate::tilt::watch::{WatchEvent, WatchTarget};

/// Tilt speaks up about a process that takes longer than 1.5 s to end.
const SHUTDOWN_BUDGET: Duration = Duration::from_millis(1100);
/// Of that, the last look at Tilt; the rest is for sending.
const FINAL_POLL_TIMEOUT: Duration = Duration::from_millis(600);
/// A `tilt ci` that ends by itself waits for up to 30 s, and what is not sent by then may be lost
/// with the machine; but it is the job that waits.
const CI_SHUTDOWN_BUDGET: Duration = Duration::from_secs(5);
/// However well the watches work, everything is looked at this often: one that hangs says nothing.
const FULL_POLL_INTERVAL: Duration = Duration::from_hours(1);
/// What ended a `tilt ci` still reads `pending` or `in_progress` for a moment after.
const FINAL_STATUS_DELAY: Duration = Duration::from_millis(200);
/// What changes within this time shares a write to disk and a request.
const COALESCE: Duration = Duration::from_millis(25);
/// What could not be written is tried again after this.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A Tilt that did not answer is asked again after this, though the next report is far.
const POLL_RETRY: Duration = Duration::from_secs(5);
/// So many messages wait at the most: a watch that shows more than can be taken in is read no faster.
const MESSAGE_LIMIT: usize = 1_000;
/// After a Tiltfile was loaded, or a watch ended, Tilt takes a moment to show what is there now.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// A Tilt that has only started shows no session yet, and without one nobody can say of which run the
/// builds are: so often it is asked again.
const SESSION_POLLS: u8 = 10;

#[derive(Debug)]
enum Message {
    Shutdown,
    Watched(WatchTarget, WatchEvent),
    Polled(Result<Snapshot, TiltError>),
    Delivered(Result<Delivery, StoreError>),
}

/// After a pause, for at most so long.
struct Order {
    pause: Duration,
    limit: Duration,
    shutdown: Shutdown,
}

/// A thread that does one thing at a time, for at most the time it is given.
struct Worker {
    orders: mpsc::Sender<Order>,
    busy: bool,
}

impl Worker {
    fn start(
        name: &str,
        messages: SyncSender<Message>,
        mut work: impl FnMut(Duration, &Shutdown) -> Message + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, todo) = mpsc::channel::<Order>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for Order { pause, limit, shutdown } in todo {
                shutdown.wait_until(time::now() + pause);
                if messages.send(work(limit, &shutdown)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, busy: false })
    }

    fn start_work(&mut self, limit: Duration, shutdown: &Shutdown) {
        self.start_work_after(Duration::ZERO, limit, shutdown);
    }

    fn start_work_after(&mut self, pause: Duration, limit: Duration, shutdown: &Shutdown) {
        self.busy = true;
        // The thread ends only with the process.
        let _ = self.orders.send(Order { pause, limit, shutdown: shutdown.clone() });
    }
}

struct Sidecar<'a> {
    config: &'a SidecarConfig,
    context: Context,
    checkout: Option<Checkout>,
    store: Store,
    poller: Worker,
    sender: Worker,
    watches: WatchSet,
    view: LiveView,
    shutdown: Shutdown,
    /// How often the last look may be taken again.
    final_polls_left: u8,
    next_report: Instant,
    /// A look that is due apart from any report.
    next_poll: Option<Instant>,
    /// What has passed before the view is to be told then.
    next_record: Option<Instant>,
    /// Not before then: the last delivery did not get through.
    next_delivery: Instant,
    failures: u32,
    refusals: u32,
    suspend_detector: SuspendDetector,
    polled_at: Option<Instant>,
    /// More to send than the delivery under way may have seen.
    has_queued: bool,
    tilt_gone_since: Option<Instant>,
    /// The run of Tilt that was there first.
    first_session: Option<String>,
    /// How often a Tilt without a session may be asked again.
    session_polls_left: u8,
    /// When Tilt was last there, as far as known.
    seen_at: SystemTime,
    /// The last problem of each kind that was said, so that it is said once.
    tilt_problem: Option<String>,
    store_problem: Option<String>,
    delivery_problem: Option<&'static str>,
    /// Something has changed since the last line that said what was sent.
    has_news: bool,
    /// The next delivery ends a report, or a problem: then a line says what was sent since the last.
    log_next: bool,
    sent: Sent,
}

/// What was sent since it was last said.
#[derive(Debug, Default)]
struct Sent {
    counts: Counts,
    took: Duration,
}

/// Reports now, then at every interval, until stopped or orphaned.
pub fn run(config: &SidecarConfig) -> io::Result<Exit> {
    // Without an id now, one is made later: a full disk must not end a sidecar.
    let installation_id = installation::load_or_create(&config.send.state_dir).ok();
    let context = Context { installation_id, ..config.context.clone() };
    let mut tilt = Tilt::new(config.tilt.clone(), context.tilt_mode);
    let mut sender = config.send.sender();
    let (store, client) = (sender.store().clone(), sender.client().clone());
    let shutdown = Shutdown::default();
    let (outbox, messages) = mpsc::sync_channel(MESSAGE_LIMIT);
    let on_signal = outbox.clone();
    // Where there is no room, there is no need to wake anyone, and a second signal must be heard.
    shutdown::on_signals(&shutdown, move || drop(on_signal.try_send(Message::Shutdown)))?;
    let on_event_outbox = outbox.clone();
    let record =
        move |watched, sight| on_event_outbox.send(Message::Watched(watched, sight)).is_ok();
    let mut sidecar = Sidecar {
        config,
        context,
        checkout: None,
        store,
        poller: Worker::start("tilt", outbox.clone(), move |limit, shutdown| {
            Message::Polled(tilt.poll(limit, shutdown))
        })?,
        sender: Worker::start("honeycomb", outbox, move |limit, shutdown| {
            Message::Delivered(sender.deliver(limit, shutdown))
        })?,
        watches: WatchSet::new(config.tilt.clone(), Arc::new(record), time::now()),
        view: LiveView::default(),
        shutdown,
        final_polls_left: 1,
        next_report: time::now(),
        next_poll: None,
        next_record: None,
        next_delivery: time::now(),
        failures: 0,
        refusals: 0,
        polled_at: None,
        suspend_detector: SuspendDetector::new(time::now(), time::wall()),
        // Perhaps from before; a Tilt that hangs must not hold it up.
        has_queued: true,
        tilt_gone_since: None,
        first_session: None,
        session_polls_left: SESSION_POLLS,
        seen_at: time::wall(),
        tilt_problem: None,
        store_problem: None,
        delivery_problem: None,
        has_news: true,
        log_next: true,
        sent: Sent::default(),
    };
    let parent = ParentProcess::current();
    sidecar.log_start(&client);
    while !sidecar.shutdown.requested() && !sidecar.is_orphaned(parent) {
        sidecar.on_resume();
        sidecar.start_due();
        let wait = sidecar.next_wake().saturating_duration_since(time::now());
        match messages.recv_timeout(wait) {
            Ok(Message::Shutdown) => break,
            Ok(message) => sidecar.handle(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Unexpected),
        }
    }
    sidecar.shut_down(&messages);
    Ok(Exit::Done)
}

impl Sidecar<'_> {
    fn log_start(&mut self, client: &Client) {
        let destination = &self.config.send.destination;
        match self.store.read(|state| state.queue().len()) {
            Ok(queued) => log::info!(
                "reporting to {}, {} {}; {} queued",
                destination.dataset,
                if self.config.watches { "live and every" } else { "every" },
                humantime::format_duration(self.config.interval),
                messages::events(queued)
            ),
            Err(error) => self.on_store_result(Some(&error)),
        }
        dataset_link::say_when_known(client.api(), destination);
    }

    /// Whoever opens a laptop wants to see it soon, and what was away is another network now.
    fn on_resume(&mut self) {
        let now = time::now();
        if self.suspend_detector.has_resumed(now, time::wall()) {
            (self.failures, self.refusals) = (0, 0);
            (self.next_report, self.next_delivery) = (now, now);
            self.has_queued = true;
        }
    }

    fn start_due(&mut self) {
        let now = time::now();
        if self.watches.end_hanging(now) {
            sooner(&mut self.next_poll, now);
        }
        let report_is_due = now >= self.next_report;
        let is_fresh = !self.view.needs_poll()
            && self.polled_at.is_some_and(|at| now - at < FULL_POLL_INTERVAL);
        if report_is_due && self.watches.cover(&self.view) && is_fresh {
            self.report(now);
        } else if (report_is_due || is_due(self.next_poll, now)) && !self.poller.busy {
            self.next_poll = None;
            self.poller.start_work(Duration::MAX, &self.shutdown);
        }
        if is_due(self.next_record, now) {
            self.record_changes();
        }
        if self.has_queued && now >= self.next_delivery && !self.sender.busy {
            self.has_queued = false;
            self.sender.start_work(self.config.send.timeout, &self.shutdown);
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wakes = vec![time::now() + self.config.interval.min(suspend::CHECK_INTERVAL)];
        wakes.extend(self.next_record);
        if !self.poller.busy {
            wakes.push(self.next_report);
            wakes.extend(self.next_poll);
        }
        if self.has_queued && !self.sender.busy {
            wakes.push(self.next_delivery);
        }
        wakes.into_iter().min().expect("there is always the interval")
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Shutdown => self.shutdown.request(),
            Message::Watched(watched, sight) => self.on_watch_event(watched, sight),
            Message::Polled(result) => {
                self.poller.busy = false;
                self.on_poll(result);
            }
            Message::Delivered(result) => {
                self.sender.busy = false;
                self.on_delivery(result);
            }
        }
    }

    fn on_poll(&mut self, result: Result<Snapshot, TiltError>) {
        let now = time::now();
        let report_is_due = now >= self.next_report;
        match result {
            Ok(snapshot) => {
                self.tilt_gone_since = None;
                if snapshot.session.is_none()
                    && self.session_polls_left > 0
                    && !self.shutdown.requested()
                {
                    self.session_polls_left -= 1;
                    return self.poll_later(SETTLE_TIME);
                }
                if snapshot.session.is_none() && self.view.session().is_some() {
                    // Of which run it is nobody can say: it is as if there had been no look.
                    if self.shutdown.requested() {
                        self.record_without_final_poll(now);
                    }
                    return self.poll_later(POLL_RETRY);
                }
                if snapshot.session.is_some() {
                    self.session_polls_left = SESSION_POLLS;
                }
                let is_first = self.polled_at.replace(now).is_none();
                if self.first_session.is_none() {
                    self.first_session = snapshot.session.as_ref().and_then(|s| s.uid.clone());
                }
                if self.tilt_problem.take().is_some() {
                    log::info!("tilt answers again");
                }
                if self.view.is_another_session(&snapshot) {
                    // What passed before belongs to the one that is over.
                    self.record_end();
                    if self.store_problem.is_some() && !self.shutdown.requested() {
                        // It stays so until the disk takes it.
                        return self.poll_later(STORE_RETRY);
                    }
                }
                self.view.replace(snapshot);
                self.seen_at = time::wall();
                if self.config.watches
                    && !self.shutdown.requested()
                    && let Some(at) = self.watches.reconcile(&self.view, now)
                {
                    sooner(&mut self.next_poll, at);
                }
                let report_is_due = report_is_due || is_first || self.shutdown.requested();
                if report_is_due && !self.final_status_pending() {
                    self.report(now);
                } else {
                    if report_is_due {
                        self.next_report = now + FINAL_STATUS_DELAY;
                    }
                    self.record_changes();
                }
            }
            Err(TiltError::Stopped) => {}
            Err(error) => {
                let gone_for = now - *self.tilt_gone_since.get_or_insert(now);
                let said = error.to_string();
                if self.tilt_problem.as_ref() != Some(&said) {
                    log::warn!("{said}");
                }
                self.tilt_problem = Some(said);
                if self.shutdown.requested() {
                    self.record_without_final_poll(now);
                }
                if self.config.watches {
                    // At first it is asked again soon, then less often.
                    sooner(&mut self.next_poll, now + gone_for.max(POLL_RETRY));
                }
                let is_away = matches!(error, TiltError::NotRunning { .. });
                let is_shown = self.watches.cover(&self.view) && !self.shutdown.requested();
                if report_is_due && is_away && is_shown {
                    // A live Tilt may have lost the entry by which it is found.
                    self.report(now);
                } else if report_is_due {
                    // A report that Tilt gave nothing to say; the next one is an interval away.
                    self.next_report = now + self.config.interval;
                }
            }
        }
        // Also without Tilt: what waited from before may go through now.
        self.has_queued = true;
    }

    /// Nothing is taken in of what a look showed; what waits goes out all the same.
    fn poll_later(&mut self, pause: Duration) {
        let at = time::now() + pause;
        sooner(&mut self.next_poll, at);
        self.next_report = self.next_report.max(at);
        self.has_queued = true;
    }

    /// The last look failed, or the second of two: what was seen before it is the final state.
    fn record_without_final_poll(&mut self, now: Instant) {
        if self.view.outcome().is_some() {
            self.report(now);
        } else if self.view.session().is_some() {
            self.record_end();
        }
    }

    fn on_watch_event(&mut self, watched: WatchTarget, sight: WatchEvent) {
        match sight {
            WatchEvent::Shown(fragment) => {
                self.watches.on_object(watched);
                self.view.apply(fragment);
                self.seen_at = time::wall();
                let now = time::now();
                sooner(&mut self.next_record, now + COALESCE);
                if self.view.needs_poll() {
                    sooner(&mut self.next_poll, now + SETTLE_TIME);
                }
            }
            WatchEvent::Ended(why) => {
                self.watches.on_end(watched, why, time::now());
                sooner(&mut self.next_poll, time::now() + SETTLE_TIME);
            }
        }
    }

    /// Tells of everything, as every interval has it.
    fn report(&mut self, now: Instant) {
        // With it a watch would have ended.
        self.seen_at = time::wall();
        self.next_report = now + self.config.interval;
        self.log_next = true;
        self.record(None, None);
    }

    fn record_changes(&mut self) {
        let changes = self.view.changes();
        self.record(Some(&changes), None);
    }

    /// Of a Tilt that has ended, as it was when it last showed something.
    fn record_end(&mut self) {
        let changes = self.view.changes();
        self.record(Some(&changes), Some(self.seen_at));
    }

    /// Puts on disk what there is to tell: all heartbeats, or those of `changes`, and every build
    /// that has passed.
    fn record(&mut self, changes: Option<&[PreviousStatus]>, seen_at: Option<SystemTime>) {
        self.next_record = None;
        self.ensure_installation_id();
        let is_watched = self.watches.has_resource_watch() && !self.shutdown.requested();
        let heartbeats = changes.map_or(Heartbeats::All, Heartbeats::Changed);
        let mut observation = self.view.observation(heartbeats);
        observation.is_watched = is_watched;
        observation.send_error = self.delivery_problem;
        observation.seen_at = seen_at;
        if self.shutdown.requested() {
            observation.phase = match self.view.outcome() {
                Some(outcome) if !self.final_status_pending() => Phase::Over(Some(outcome)),
                _ => Phase::Leaving,
            };
        }
        git::update_checkout(&mut self.context, observation.session, &mut self.checkout);
        match self.store.update(|state| reconcile(state, &observation, &self.context, time::wall()))
        {
            Ok(recorded) => {
                self.has_news |= recorded.new_builds > 0 || !self.view.changes().is_empty();
                self.view.mark_reported();
                self.on_store_result(None);
                if let Some(dropped) = messages::dropped(recorded.dropped) {
                    log::warn!("{dropped}");
                }
                self.next_record = recorded.poll_again_after.map(|after| time::now() + after);
            }
            // What has passed stays in the view, to be told when the disk takes it again.
            Err(error) => {
                self.on_store_result(Some(&error));
                self.next_record = Some(time::now() + STORE_RETRY);
            }
        }
        self.has_queued = true;
    }

    /// Where the disk was not to be used at the start, it may be by now.
    fn ensure_installation_id(&mut self) {
        if self.context.installation_id.is_none() {
            let state_dir = &self.config.send.state_dir;
            self.context.installation_id = installation::load_or_create(state_dir).ok();
        }
    }

    fn on_delivery(&mut self, result: Result<Delivery, StoreError>) {
        let delivery = match result {
            Ok(delivery) => delivery,
            Err(error) => {
                // Perhaps answers that could not be noted yet.
                self.has_queued = true;
                self.next_delivery = time::now() + STORE_RETRY;
                return self.on_store_result(Some(&error));
            }
        };
        let (problem, pause) = match &delivery.end {
            DeliveryEnd::Empty | DeliveryEnd::Stopped => (None, Duration::ZERO),
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.got_no_answer() => {
                // It says nothing of Honeycomb.
                self.has_queued = true;
                self.next_delivery = time::now() + STORE_RETRY;
                return self.log_sent(&delivery);
            }
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime => {
                self.has_queued = true;
                (None, Duration::ZERO)
            }
            DeliveryEnd::Kept { why, retry_after } => {
                // A delivery that got some through is not a failure; the rest follows at once.
                self.failures = if delivery.sent.is_empty() { self.failures + 1 } else { 1 };
                let pause =
                    backoff::until_next_delivery(self.failures, *retry_after, backoff::jitter());
                self.has_queued = true;
                (Some(("kept", why)), pause)
            }
            DeliveryEnd::Refused { advice } => {
                self.refusals += 1;
                self.has_queued = true;
                let pause = backoff::after_refusal(self.refusals, backoff::jitter());
                (Some(("refused", advice)), pause)
            }
        };
        self.next_delivery = time::now() + pause;
        if let Some((problem, why)) = problem {
            if self.delivery_problem.replace(problem) != Some(problem) {
                log::warn!("{why}; {}; {}", messages::kept(delivery.waiting), retrying_in(pause));
            }
        } else {
            (self.failures, self.refusals) = (0, 0);
            self.log_next |= self.delivery_problem.take().is_some();
        }
        self.log_sent(&delivery);
    }

    /// One line per report that changed something; between reports nothing, however much is sent.
    fn log_sent(&mut self, delivery: &Delivery) {
        for (kind, count) in &delivery.sent {
            *self.sent.counts.entry(*kind).or_default() += count;
        }
        self.sent.took += delivery.took;
        if !self.log_next || self.sent.counts.is_empty() {
            return;
        }
        let sent = std::mem::take(&mut self.sent);
        let level = if self.has_news { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "{}", messages::delivered(&sent.counts, sent.took, delivery.waiting));
        (self.log_next, self.has_news) = (false, false);
    }

    fn on_store_result(&mut self, error: Option<&StoreError>) {
        match error.map(ToString::to_string) {
            Some(said) => {
                if self.store_problem.as_ref() != Some(&said) {
                    log::warn!("{said}");
                }
                self.store_problem = Some(said);
            }
            None if self.store_problem.take().is_some() => log::info!("the state is usable again"),
            None => {}
        }
    }

    /// Whether the Tilt it followed stays gone and so is the process that started it. One answer
    /// that no Tilt is there proves nothing: a live one may lose its entry for a while.
    fn is_orphaned(&self, parent: ParentProcess) -> bool {
        let gone_for_long = self
            .tilt_gone_since
            .is_some_and(|since| time::now() - since >= self.config.orphan_after);
        if (gone_for_long || self.replaced_by_newer_session()) && parent.has_exited() {
            log::info!("tilt and the process that started this one are gone; exiting");
            return true;
        }
        false
    }

    /// Whether the Tilt that started it, if one did, has been followed by another, which starts a
    /// collector of its own.
    fn replaced_by_newer_session(&self) -> bool {
        let session = self.view.session().and_then(|session| session.uid.as_ref());
        let is_another = |first: &String| session.is_some_and(|session| session != first);
        self.config.context.tilt_mode.is_some()
            && self.first_session.as_ref().is_some_and(is_another)
    }

    /// Whether Tilt has decided to end but may not show yet what made it do so.
    fn final_status_pending(&self) -> bool {
        self.final_polls_left > 0 && self.view.final_status_pending()
    }

    /// One last look, everything on disk, and what can still be sent in time. A look or a
    /// delivery under way hears the same signal, and comes back at once unless it hangs.
    fn shut_down(&mut self, messages: &Receiver<Message>) {
        let started = time::now();
        let mut deadline = started + SHUTDOWN_BUDGET;
        let unhurried = Shutdown::default();
        self.shutdown.request();
        let mut looks = 1 + usize::from(self.poller.busy);
        let mut deliveries = usize::from(self.sender.busy);
        self.poller.start_work(FINAL_POLL_TIMEOUT, &unhurried);
        while looks + deliveries > 0 {
            let left = |until: Instant| until.saturating_duration_since(time::now());
            let Ok(message) = messages.recv_timeout(left(deadline)) else { break };
            if left(deadline).is_zero() && matches!(message, Message::Watched(..)) {
                // Its watch may go on for ever.
                break;
            }
            match &message {
                Message::Polled(_) => looks -= 1,
                Message::Delivered(_) => deliveries -= 1,
                Message::Shutdown | Message::Watched(..) => {}
            }
            let was_last_look = matches!(message, Message::Polled(_)) && looks == 0;
            self.handle(message);
            if was_last_look {
                if self.view.outcome().is_some() {
                    deadline = started + CI_SHUTDOWN_BUDGET;
                }
                if self.final_status_pending() {
                    log::debug!(
                        "tilt exits but does not show its final status yet; polling once more"
                    );
                    self.final_polls_left -= 1;
                    self.poller.start_work_after(
                        FINAL_STATUS_DELAY,
                        FINAL_POLL_TIMEOUT,
                        &unhurried,
                    );
                    looks += 1;
                    continue;
                }
                self.sender.start_work(left(deadline), &unhurried);
                deliveries += 1;
            }
        }
        if self.next_record.is_some() {
            // A watch has shown it since; it goes out with the next collector.
            self.record_changes();
        }
    }
}

/// `retrying in 5s`, rounded up to whole seconds.
fn retrying_in(pause: Duration) -> String {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    format!("retrying in {}", humantime::format_duration(Duration::from_secs(seconds)))
}

fn sooner(planned: &mut Option<Instant>, at: Instant) {
    *planned = Some(planned.map_or(at, |planned| planned.min(at)));
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}

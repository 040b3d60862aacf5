//! The sidecar: one loop that waits for its next message, and for the disk.
//!
//! Two threads do what may take long, one looking at Tilt and one delivering, so that neither
//! holds up the other, a signal, or the next report; watches tell of what changes as it does.
//! What they find out comes back as messages. Neither Tilt's nor the network's absence ends the
//! loop: it says so once, and goes on.

pub mod live_view;
pub mod parent_process;
pub mod suspend;
pub mod watches;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use crate::base::backoff;
use crate::base::shutdown::{self, Shutdown};
use crate::base::time;
use crate::commands::report;
use crate::config::{Config, Output};
use crate::events::common_fields::Context;
use crate::events::observation::{Phase, PreviousStatus};
use crate::exit_code::Exit;
use crate::honeycomb::batch::Counts;
use crate::honeycomb::client::Client;
use crate::honeycomb::place;
use crate::honeycomb::sender::{Delivery, DeliveryEnd, Sender, jitter};
use crate::messages;
use crate::metadata::git::{self, Checkout};
use crate::sidecar::live_view::LiveView;
use crate::sidecar::parent_process::ParentProcess;
use crate::sidecar::suspend::SuspendDetector;
use crate::sidecar::watches::WatchSet;
use crate::spool::store::{self, Store, StoreError};
use crate::tilt::client::{Tilt, TiltError, WatchEvent, WatchTarget};
use crate::tilt::model::Snapshot;

/// Tilt speaks up about a process that takes longer than 1.5 s to end.
const FAREWELL: Duration = Duration::from_millis(1100);
/// Of that, the last look at Tilt; the rest is for sending.
const LAST_LOOK: Duration = Duration::from_millis(600);
/// A `tilt ci` that ends by itself waits for up to 30 s, and what is not sent by then may be lost
/// with the machine; but it is the job that waits.
const CI_FAREWELL: Duration = Duration::from_secs(5);
/// However well the watches work, everything is looked at this often: one that hangs says nothing.
const LOOK_AT_LEAST: Duration = Duration::from_hours(1);
/// What ended a `tilt ci` still reads `pending` or `in_progress` for a moment after.
const LAG: Duration = Duration::from_millis(200);
/// What changes within this time shares a write to disk and a request.
const TOGETHER: Duration = Duration::from_millis(25);
/// What could not be written is tried again after this.
const RETELLING: Duration = Duration::from_secs(1);
/// A Tilt that did not answer is asked again after this, though the next report is far.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// So many messages wait at the most: a watch that shows more than can be taken in is read no faster.
const UNREAD: usize = 1_000;
/// After a Tiltfile was loaded, or a watch ended, Tilt takes a moment to show what is there now.
const SETTLING: Duration = Duration::from_millis(500);
/// A Tilt that has only started shows no session yet, and without one nobody can say of which run the
/// builds are: so often it is asked again.
const SESSION_LOOKS: u8 = 10;

#[derive(Debug)]
enum Message {
    Shutdown,
    Seen(WatchTarget, WatchEvent),
    Looked(Result<Snapshot, TiltError>),
    Delivered(Result<Delivery, StoreError>),
}

/// After a pause, for at most so long.
struct Order {
    pause: Duration,
    limit: Duration,
    stop: Shutdown,
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
            for Order { pause, limit, stop } in todo {
                stop.wait_until(time::now() + pause);
                if messages.send(work(limit, &stop)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, busy: false })
    }

    fn order(&mut self, limit: Duration, stop: &Shutdown) {
        self.order_after(Duration::ZERO, limit, stop);
    }

    fn order_after(&mut self, pause: Duration, limit: Duration, stop: &Shutdown) {
        self.busy = true;
        // The thread ends only with the process.
        let _ = self.orders.send(Order { pause, limit, stop: stop.clone() });
    }
}

struct Sidecar<'a> {
    config: &'a Config,
    context: Context,
    checkout: Option<Checkout>,
    store: &'a Store,
    looker: Worker,
    courier: Worker,
    watching: WatchSet,
    view: LiveView,
    stop: Shutdown,
    /// How often the last look may be taken again.
    looks_again: u8,
    next_report: Instant,
    /// A look that is due apart from any report.
    next_look: Option<Instant>,
    /// What has passed before the view is to be told then.
    next_telling: Option<Instant>,
    /// Not before then: the last delivery did not get through.
    next_delivery: Instant,
    failures: u32,
    refusals: u32,
    awake: SuspendDetector,
    looked_at: Option<Instant>,
    /// More to send than the delivery under way may have seen.
    more_waits: bool,
    tilt_gone_since: Option<Instant>,
    /// The run of Tilt that was there first.
    first_session: Option<String>,
    /// How often a Tilt without a session may be asked again.
    session_looks: u8,
    /// When Tilt was last there, as far as known.
    seen_at: SystemTime,
    /// The last problem of each kind that was said, so that it is said once.
    tilt_problem: Option<String>,
    store_problem: Option<String>,
    delivery_problem: Option<&'static str>,
    /// Something has changed since the last line that said what was sent.
    has_news: bool,
    /// The next delivery ends a report, or a problem: then a line says what was sent since the last.
    says_next: bool,
    sent: Sent,
}

/// What was sent since it was last said.
#[derive(Debug, Default)]
struct Sent {
    counts: Counts,
    took: Duration,
}

/// Reports now, then at every interval, until stopped or left alone.
pub fn run(
    config: &Config,
    context: Context,
    mut tilt: Tilt,
    store: &Store,
    mut courier: Sender,
    client: &Client,
) -> io::Result<Exit> {
    let stop = Shutdown::default();
    let (sender, messages) = mpsc::sync_channel(UNREAD);
    let on_signal = sender.clone();
    // Where there is no room, there is no need to wake anyone, and a second signal must be heard.
    shutdown::on_signals(&stop, move || drop(on_signal.try_send(Message::Shutdown)))?;
    let on_sight = sender.clone();
    let tell = move |watched, sight| on_sight.send(Message::Seen(watched, sight)).is_ok();
    let mut sidecar = Sidecar {
        config,
        context,
        checkout: None,
        store,
        looker: Worker::start("tilt", sender.clone(), move |limit, stop| {
            Message::Looked(tilt.look(limit, stop))
        })?,
        courier: Worker::start("honeycomb", sender, move |limit, stop| {
            Message::Delivered(courier.deliver(limit, stop))
        })?,
        watching: WatchSet::new(config.tilt.clone(), Arc::new(tell), time::now()),
        view: LiveView::default(),
        stop,
        looks_again: 1,
        next_report: time::now(),
        next_look: None,
        next_telling: None,
        next_delivery: time::now(),
        failures: 0,
        refusals: 0,
        looked_at: None,
        awake: SuspendDetector::since(time::now(), time::wall()),
        // Perhaps from before; a Tilt that hangs must not hold it up.
        more_waits: true,
        tilt_gone_since: None,
        first_session: None,
        session_looks: SESSION_LOOKS,
        seen_at: time::wall(),
        tilt_problem: None,
        store_problem: None,
        delivery_problem: None,
        has_news: true,
        says_next: true,
        sent: Sent::default(),
    };
    let parent = ParentProcess::now();
    sidecar.greet(client);
    while !sidecar.stop.requested() && !sidecar.orphaned(parent) {
        sidecar.make_up_for_sleep();
        sidecar.start_what_is_due();
        let wait = sidecar.next_wake().saturating_duration_since(time::now());
        match messages.recv_timeout(wait) {
            Ok(Message::Shutdown) => break,
            Ok(message) => sidecar.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Unexpected),
        }
    }
    sidecar.say_farewell(&messages);
    Ok(Exit::Done)
}

impl Sidecar<'_> {
    fn greet(&mut self, client: &Client) {
        let Output::Send { destination, .. } = &self.config.output else { return };
        match self.store.read(|state| state.queue().len()) {
            Ok(waiting) => log::info!(
                "reporting to {}, {} {}; {} from before",
                destination.dataset,
                if self.config.no_watch { "only every" } else { "live and every" },
                humantime::format_duration(self.config.interval),
                if waiting == 0 {
                    "nothing waits".to_owned()
                } else {
                    format!("{waiting} waiting")
                }
            ),
            Err(error) => self.note_store(Some(&error)),
        }
        place::say_when_known(client.api(), destination);
    }

    /// Whoever opens a laptop wants to see it soon, and what was away is another network now.
    fn make_up_for_sleep(&mut self) {
        let now = time::now();
        if self.awake.was_asleep(now, time::wall()) {
            (self.failures, self.refusals) = (0, 0);
            (self.next_report, self.next_delivery) = (now, now);
            self.more_waits = true;
        }
    }

    fn start_what_is_due(&mut self) {
        let now = time::now();
        if self.watching.end_hanging(now) {
            sooner(&mut self.next_look, now);
        }
        let report_is_due = now >= self.next_report;
        let is_fresh =
            !self.view.is_outdated() && self.looked_at.is_some_and(|at| now - at < LOOK_AT_LEAST);
        if report_is_due && self.watching.shows_all(&self.view) && is_fresh {
            self.report(now);
        } else if (report_is_due || is_due(self.next_look, now)) && !self.looker.busy {
            self.next_look = None;
            self.looker.order(Duration::MAX, &self.stop);
        }
        if is_due(self.next_telling, now) {
            self.tell_changes();
        }
        if self.more_waits && now >= self.next_delivery && !self.courier.busy {
            self.more_waits = false;
            self.courier.order(self.config.timeout, &self.stop);
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wakes = vec![time::now() + self.config.interval.min(suspend::LOOK_EVERY)];
        wakes.extend(self.next_telling);
        if !self.looker.busy {
            wakes.push(self.next_report);
            wakes.extend(self.next_look);
        }
        if self.more_waits && !self.courier.busy {
            wakes.push(self.next_delivery);
        }
        wakes.into_iter().min().expect("there is always the interval")
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Shutdown => self.stop.request(),
            Message::Seen(watched, sight) => self.seen(watched, sight),
            Message::Looked(result) => {
                self.looker.busy = false;
                self.looked(result);
            }
            Message::Delivered(result) => {
                self.courier.busy = false;
                self.delivered(result);
            }
        }
    }

    fn looked(&mut self, result: Result<Snapshot, TiltError>) {
        let now = time::now();
        let report_is_due = now >= self.next_report;
        match result {
            Ok(snapshot) => {
                self.tilt_gone_since = None;
                if snapshot.session.is_none() && self.session_looks > 0 && !self.stop.requested() {
                    self.session_looks -= 1;
                    return self.look_later(SETTLING);
                }
                if snapshot.session.is_none() && self.view.session().is_some() {
                    // Of which run it is nobody can say: it is as if there had been no look.
                    if self.stop.requested() {
                        self.tell_without_last_look(now);
                    }
                    return self.look_later(LOOK_AGAIN);
                }
                if snapshot.session.is_some() {
                    self.session_looks = SESSION_LOOKS;
                }
                let is_first = self.looked_at.replace(now).is_none();
                if self.first_session.is_none() {
                    self.first_session = snapshot.session.as_ref().and_then(|s| s.uid.clone());
                }
                if self.tilt_problem.take().is_some() {
                    log::info!("tilt answers again");
                }
                if self.view.is_another_session(&snapshot) {
                    // What passed before belongs to the one that is over.
                    self.tell_the_end();
                    if self.store_problem.is_some() && !self.stop.requested() {
                        // It stays so until the disk takes it.
                        return self.look_later(RETELLING);
                    }
                }
                self.view.replace(snapshot);
                self.seen_at = time::wall();
                if !self.config.no_watch
                    && !self.stop.requested()
                    && let Some(at) = self.watching.keep_up(&self.view, now)
                {
                    sooner(&mut self.next_look, at);
                }
                let report_is_due = report_is_due || is_first || self.stop.requested();
                if report_is_due && !self.lags() {
                    self.report(now);
                } else {
                    if report_is_due {
                        self.next_report = now + LAG;
                    }
                    self.tell_changes();
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
                if self.stop.requested() {
                    self.tell_without_last_look(now);
                }
                if !self.config.no_watch {
                    // At first it is asked again soon, then less often.
                    sooner(&mut self.next_look, now + gone_for.max(LOOK_AGAIN));
                }
                let is_away = matches!(error, TiltError::NotRunning { .. });
                let is_shown = self.watching.shows_all(&self.view) && !self.stop.requested();
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
        self.more_waits = true;
    }

    /// Nothing is taken in of what a look showed; what waits goes out all the same.
    fn look_later(&mut self, pause: Duration) {
        let at = time::now() + pause;
        sooner(&mut self.next_look, at);
        self.next_report = self.next_report.max(at);
        self.more_waits = true;
    }

    /// The last look failed, or the second of two: what was seen before it is the final state.
    fn tell_without_last_look(&mut self, now: Instant) {
        if self.view.outcome().is_some() {
            self.report(now);
        } else if self.view.session().is_some() {
            self.tell_the_end();
        }
    }

    fn seen(&mut self, watched: WatchTarget, sight: WatchEvent) {
        match sight {
            WatchEvent::Shown(fragment) => {
                self.watching.shown(watched);
                self.view.show(fragment);
                self.seen_at = time::wall();
                let now = time::now();
                sooner(&mut self.next_telling, now + TOGETHER);
                if self.view.is_outdated() {
                    sooner(&mut self.next_look, now + SETTLING);
                }
            }
            WatchEvent::Ended(why) => {
                self.watching.ended(watched, why, time::now());
                sooner(&mut self.next_look, time::now() + SETTLING);
            }
        }
    }

    /// Tells of everything, as every interval has it.
    fn report(&mut self, now: Instant) {
        // With it a watch would have ended.
        self.seen_at = time::wall();
        self.next_report = now + self.config.interval;
        self.says_next = true;
        self.tell(None, None);
    }

    fn tell_changes(&mut self) {
        let changes = self.view.changes();
        self.tell(Some(&changes), None);
    }

    /// Of a Tilt that has ended, as it was when it last showed something.
    fn tell_the_end(&mut self) {
        let changes = self.view.changes();
        self.tell(Some(&changes), Some(self.seen_at));
    }

    /// Puts on disk what there is to tell: all heartbeats, or those of `changes`, and every build
    /// that has passed.
    fn tell(&mut self, changes: Option<&[PreviousStatus]>, seen_at: Option<SystemTime>) {
        self.next_telling = None;
        self.learn_installation();
        let is_watched = self.watching.is_on() && !self.stop.requested();
        let mut look = self.view.look(changes, is_watched);
        look.send_error = self.delivery_problem;
        look.seen_at = seen_at;
        if self.stop.requested() {
            look.phase = match self.view.outcome() {
                Some(outcome) if !self.lags() => Phase::Over(Some(outcome)),
                _ => Phase::Leaving,
            };
        }
        git::locate(&mut self.context, look.session, &mut self.checkout);
        match self.store.update(|state| state.take_in(&look, &self.context, time::wall())) {
            Ok(recorded) => {
                self.has_news |= recorded.new_builds > 0 || !self.view.changes().is_empty();
                self.view.mark_told();
                self.note_store(None);
                report::say_dropped(recorded);
                self.next_telling = recorded.look_again.map(|after| time::now() + after);
            }
            // What has passed stays in the view, to be told when the disk takes it again.
            Err(error) => {
                self.note_store(Some(&error));
                self.next_telling = Some(time::now() + RETELLING);
            }
        }
        self.more_waits = true;
    }

    /// Where the disk was not to be used at the start, it may be by now.
    fn learn_installation(&mut self) {
        if let (None, Output::Send { state_dir, .. }) =
            (&self.context.installation_id, &self.config.output)
        {
            self.context.installation_id = store::installation_id(state_dir).ok();
        }
    }

    fn delivered(&mut self, result: Result<Delivery, StoreError>) {
        let delivery = match result {
            Ok(delivery) => delivery,
            Err(error) => {
                // Perhaps answers that could not be noted yet.
                self.more_waits = true;
                self.next_delivery = time::now() + RETELLING;
                return self.note_store(Some(&error));
            }
        };
        let (problem, pause) = match &delivery.end {
            DeliveryEnd::Empty | DeliveryEnd::Stopped => (None, Duration::ZERO),
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.got_no_answer() => {
                // It says nothing of Honeycomb.
                self.more_waits = true;
                self.next_delivery = time::now() + RETELLING;
                return self.say_sent(&delivery);
            }
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime => {
                self.more_waits = true;
                (None, Duration::ZERO)
            }
            DeliveryEnd::Kept { why, retry_after } => {
                // A delivery that got some through is not a failure; the rest follows at once.
                self.failures = if delivery.sent.is_empty() { self.failures + 1 } else { 1 };
                let pause = backoff::until_next_delivery(self.failures, *retry_after, jitter());
                self.more_waits = true;
                (Some(("kept", why, "trying again")), pause)
            }
            DeliveryEnd::Refused { advice } => {
                self.refusals += 1;
                self.more_waits = true;
                let pause = backoff::after_refusal(self.refusals, jitter());
                (Some(("refused", advice, "asking again rarely")), pause)
            }
        };
        self.next_delivery = time::now() + pause;
        if let Some((problem, why, then)) = problem {
            if self.delivery_problem.replace(problem) != Some(problem) {
                log::warn!("{why}; {}, {then}", messages::kept(delivery.waiting));
            }
        } else {
            (self.failures, self.refusals) = (0, 0);
            self.says_next |= self.delivery_problem.take().is_some();
        }
        self.say_sent(&delivery);
    }

    /// One line per report that changed something; between reports nothing, however much is sent.
    fn say_sent(&mut self, delivery: &Delivery) {
        for (kind, count) in &delivery.sent {
            *self.sent.counts.entry(*kind).or_default() += count;
        }
        self.sent.took += delivery.took;
        if !self.says_next || self.sent.counts.is_empty() {
            return;
        }
        let sent = std::mem::take(&mut self.sent);
        let level = if self.has_news { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "{}", messages::delivered(&sent.counts, sent.took, delivery.waiting));
        (self.says_next, self.has_news) = (false, false);
    }

    fn note_store(&mut self, error: Option<&StoreError>) {
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
    fn orphaned(&self, parent: ParentProcess) -> bool {
        let gone_for_long = self
            .tilt_gone_since
            .is_some_and(|since| time::now() - since >= self.config.orphan_after);
        if (gone_for_long || self.is_succeeded()) && parent.is_gone() {
            log::info!("tilt is gone, and so is the process that started this one: ending");
            return true;
        }
        false
    }

    /// Whether the Tilt that started it, if one did, has been followed by another, which starts a
    /// collector of its own.
    fn is_succeeded(&self) -> bool {
        let session = self.view.session().and_then(|session| session.uid.as_ref());
        let is_another = |first: &String| session.is_some_and(|session| session != first);
        self.config.tilt_mode.is_some() && self.first_session.as_ref().is_some_and(is_another)
    }

    /// Whether Tilt has decided to end but may not show yet what made it do so.
    fn lags(&self) -> bool {
        self.looks_again > 0 && self.view.outcome().is_some() && self.view.is_unfinished()
    }

    /// One last look, everything on disk, and what can still be sent in time. A look or a
    /// delivery under way hears the same signal, and comes back at once unless it hangs.
    fn say_farewell(&mut self, messages: &Receiver<Message>) {
        let started = time::now();
        let mut deadline = started + FAREWELL;
        let unhurried = Shutdown::default();
        self.stop.request();
        let mut looks = 1 + usize::from(self.looker.busy);
        let mut deliveries = usize::from(self.courier.busy);
        self.looker.order(LAST_LOOK, &unhurried);
        while looks + deliveries > 0 {
            let left = |until: Instant| until.saturating_duration_since(time::now());
            let Ok(message) = messages.recv_timeout(left(deadline)) else { break };
            if left(deadline).is_zero() && matches!(message, Message::Seen(..)) {
                // Its watch may go on for ever.
                break;
            }
            match &message {
                Message::Looked(_) => looks -= 1,
                Message::Delivered(_) => deliveries -= 1,
                Message::Shutdown | Message::Seen(..) => {}
            }
            let was_last_look = matches!(message, Message::Looked(_)) && looks == 0;
            self.take(message);
            if was_last_look {
                if self.view.outcome().is_some() {
                    deadline = started + CI_FAREWELL;
                }
                if self.lags() {
                    log::debug!("tilt ends and does not show yet why; looking once more");
                    self.looks_again -= 1;
                    self.looker.order_after(LAG, LAST_LOOK, &unhurried);
                    looks += 1;
                    continue;
                }
                self.courier.order(left(deadline), &unhurried);
                deliveries += 1;
            }
        }
        if self.next_telling.is_some() {
            // A watch has shown it since; it goes out with the next collector.
            self.tell_changes();
        }
    }
}

fn sooner(planned: &mut Option<Instant>, at: Instant) {
    *planned = Some(planned.map_or(at, |planned| planned.min(at)));
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}

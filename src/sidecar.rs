//! The sidecar: one loop that never waits for anything but its next message.
//!
//! Two threads do what may take long, one looking at Tilt and one delivering, so that neither
//! holds up the other, a signal, or the next report. What they find out comes back as messages.
//! Neither Tilt's nor the network's absence ends the loop: it says so once, and goes on.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use crate::backoff;
use crate::config::Config;
use crate::deliver::{Courier, Delivery, End, jitter};
use crate::derive::{Context, Report, derive};
use crate::event::Event;
use crate::exit::Exit;
use crate::model::Snapshot;
use crate::parent::Parent;
use crate::say;
use crate::stop::{self, Stop};
use crate::store::{Store, StoreError};
use crate::tilt::{Tilt, TiltError};

/// Tilt speaks up about a process that takes longer than 1.5 s to end.
const FAREWELL: Duration = Duration::from_millis(1300);
/// Of that, the last look at Tilt; the rest is for sending.
const LAST_LOOK: Duration = Duration::from_millis(700);

#[derive(Debug)]
enum Message {
    Stop,
    Looked(Result<Snapshot, TiltError>),
    Delivered(Result<Delivery, StoreError>),
}

/// A thread that does one thing at a time, for at most the time it is given.
struct Worker {
    orders: Sender<(Duration, Stop)>,
    busy: bool,
}

impl Worker {
    fn start(
        name: &str,
        messages: Sender<Message>,
        mut work: impl FnMut(Duration, &Stop) -> Message + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, todo) = mpsc::channel::<(Duration, Stop)>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for (limit, stop) in todo {
                if messages.send(work(limit, &stop)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, busy: false })
    }

    fn order(&mut self, limit: Duration, stop: &Stop) {
        self.busy = true;
        // The thread ends only with the process.
        let _ = self.orders.send((limit, stop.clone()));
    }
}

struct Sidecar<'a> {
    config: &'a Config,
    context: &'a Context,
    store: &'a Store,
    looker: Worker,
    courier: Worker,
    stop: Stop,
    next_report: Instant,
    /// Not before then: the last delivery did not get through.
    next_delivery: Instant,
    failures: u32,
    /// More to send than the delivery under way may have seen.
    more_waits: bool,
    tilt_gone_since: Option<Instant>,
    /// The last problem of each kind that was said, so that it is said once.
    tilt_problem: Option<String>,
    store_problem: Option<String>,
    delivery_problem: Option<&'static str>,
    /// What the last report said of the resources, without its times.
    last_statuses: Vec<String>,
    /// The next delivery is worth a line.
    worth_saying: bool,
}

/// Reports now, then at every interval, until stopped or left alone.
pub fn run(
    config: &Config,
    context: &Context,
    mut tilt: Tilt,
    store: &Store,
    mut courier: Courier,
) -> io::Result<Exit> {
    let stop = Stop::default();
    let (sender, messages) = mpsc::channel();
    let on_signal = sender.clone();
    stop::on_signals(&stop, move || drop(on_signal.send(Message::Stop)))?;
    let mut sidecar = Sidecar {
        config,
        context,
        store,
        looker: Worker::start("tilt", sender.clone(), move |limit, stop| {
            Message::Looked(tilt.look(limit, stop))
        })?,
        courier: Worker::start("honeycomb", sender, move |limit, stop| {
            Message::Delivered(courier.deliver(limit, stop))
        })?,
        stop,
        next_report: now(),
        next_delivery: now(),
        failures: 0,
        // Perhaps from before; a Tilt that hangs must not hold it up.
        more_waits: true,
        tilt_gone_since: None,
        tilt_problem: None,
        store_problem: None,
        delivery_problem: None,
        last_statuses: Vec::new(),
        worth_saying: true,
    };
    let parent = Parent::now();
    sidecar.greet();
    while !sidecar.orphaned(parent) {
        sidecar.start_what_is_due();
        let wait = sidecar.next_wake().saturating_duration_since(now());
        match messages.recv_timeout(wait) {
            Ok(Message::Stop) => break,
            Ok(message) => sidecar.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Unexpected),
        }
    }
    sidecar.say_farewell(&messages);
    Ok(Exit::Done)
}

impl Sidecar<'_> {
    fn greet(&mut self) {
        let interval = humantime::format_duration(self.config.interval);
        match self.store.read() {
            Ok(state) => log::info!(
                "reporting every {interval}; {} from before",
                match state.queue().len() {
                    0 => "nothing waits".to_owned(),
                    waiting => format!("{waiting} waiting"),
                }
            ),
            Err(error) => self.note_store(Some(&error)),
        }
    }

    fn start_what_is_due(&mut self) {
        let now = now();
        if now >= self.next_report && !self.looker.busy {
            self.looker.order(Duration::MAX, &self.stop);
            // Late after a long look or a sleep: the next one is an interval from now.
            self.next_report = now + self.config.interval;
        }
        if self.more_waits && now >= self.next_delivery && !self.courier.busy {
            self.more_waits = false;
            self.courier.order(self.config.timeout, &self.stop);
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self.next_report;
        if self.more_waits && !self.courier.busy {
            wake = wake.min(self.next_delivery);
        }
        if let Some(since) = self.tilt_gone_since {
            wake = wake.min(since + self.config.orphan_after);
        }
        // A look that outlasts the interval comes back as a message; a wake in the past would
        // only spin until it does.
        wake.max(now() + Duration::from_millis(20))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Stop => self.stop.request(),
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
        match result {
            Ok(snapshot) => {
                self.tilt_gone_since = None;
                if self.tilt_problem.take().is_some() {
                    log::info!("tilt answers again");
                }
                let now = wall_clock();
                self.record(&derive(&snapshot, self.context, now), now);
            }
            Err(TiltError::Stopped) => {}
            Err(error) => {
                self.tilt_gone_since.get_or_insert_with(now);
                let said = error.to_string();
                if self.tilt_problem.as_ref() != Some(&said) {
                    log::warn!("{said}");
                }
                self.tilt_problem = Some(said);
            }
        }
        // Also without Tilt: what waited from before may go through now.
        self.more_waits = true;
    }

    fn record(&mut self, report: &Report, now: SystemTime) {
        match self.store.update(|state| state.record(report, now)) {
            Ok(recorded) => {
                self.note_store(None);
                say::dropped(recorded.dropped);
                let statuses: Vec<_> = report.heartbeats.iter().map(status).collect();
                self.worth_saying |= recorded.new_builds > 0 || statuses != self.last_statuses;
                self.last_statuses = statuses;
            }
            // Nothing is lost that Tilt still shows at the next report.
            Err(error) => self.note_store(Some(&error)),
        }
    }

    fn delivered(&mut self, result: Result<Delivery, StoreError>) {
        let delivery = match result {
            Ok(delivery) => delivery,
            Err(error) => return self.note_store(Some(&error)),
        };
        let (problem, pause) = match &delivery.end {
            End::Empty | End::Busy | End::Stopped => (None, Duration::ZERO),
            End::Kept { why, retry_after } => {
                // A delivery that got some through is not a failure; the rest follows at once.
                self.failures = if delivery.sent.is_empty() { self.failures + 1 } else { 1 };
                let pause = backoff::until_next_delivery(self.failures, *retry_after, jitter());
                self.more_waits = true;
                (Some(("kept", why, "trying again")), pause)
            }
            End::Refused { advice } => {
                (Some(("refused", advice, "asking again rarely")), backoff::after_refusal())
            }
        };
        self.next_delivery = now() + pause;
        if let Some((problem, why, then)) = problem {
            if self.delivery_problem.replace(problem) != Some(problem) {
                log::warn!("{why}; {}, {then}", say::kept(delivery.waiting));
            }
        } else {
            self.failures = 0;
            self.worth_saying |= self.delivery_problem.take().is_some();
        }
        if !delivery.sent.is_empty() {
            let level = if self.worth_saying { log::Level::Info } else { log::Level::Debug };
            log::log!(level, "{}", say::delivered(&delivery));
            self.worth_saying = false;
        }
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
    fn orphaned(&self, parent: Parent) -> bool {
        let gone_for_long =
            self.tilt_gone_since.is_some_and(|since| now() - since >= self.config.orphan_after);
        if gone_for_long && parent.is_gone() {
            log::info!("tilt is gone, and so is the process that started this one: ending");
            return true;
        }
        false
    }

    /// One last look, everything on disk, and what can still be sent in time. A look or a
    /// delivery under way hears the same signal, and comes back at once unless it hangs.
    fn say_farewell(&mut self, messages: &Receiver<Message>) {
        let deadline = now() + FAREWELL;
        let unhurried = Stop::default();
        self.stop.request();
        let mut looks = 1 + usize::from(self.looker.busy);
        let mut deliveries = usize::from(self.courier.busy);
        self.looker.order(LAST_LOOK, &unhurried);
        while looks + deliveries > 0 {
            let left = || deadline.saturating_duration_since(now());
            let Ok(message) = messages.recv_timeout(left()) else { return };
            match &message {
                Message::Looked(_) => looks -= 1,
                Message::Delivered(_) => deliveries -= 1,
                Message::Stop => {}
            }
            let was_last_look = matches!(message, Message::Looked(_)) && looks == 0;
            self.take(message);
            if was_last_look {
                self.courier.order(left(), &unhurried);
                deliveries += 1;
            }
        }
    }
}

/// What makes a resource's heartbeat differ from its last one, other than time passing.
fn status(heartbeat: &Event) -> String {
    ["name", "update_status", "runtime_status", "ready", "disabled"]
        .map(|name| heartbeat.fields.get(name).map(ToString::to_string).unwrap_or_default())
        .join(" ")
}

#[expect(clippy::disallowed_methods, reason = "reports come at intervals")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a report has a time")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

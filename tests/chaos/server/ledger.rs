//! The campaign's ledger: which events the server accepted, how often, and why an event may
//! legitimately arrive again.
//!
//! An event may arrive again only if the collector could not record its last acceptance: the process
//! ended first, the response broke, the disk was full, or the state was destroyed. Each such cause
//! permits one repetition of one event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::HandledRequest;
use super::mode::ServerMode;
use super::response::Response;

/// How long after a collector's exit its last request may still arrive.
pub const LATE_ARRIVAL: Duration = Duration::from_secs(2);
/// The longest time between a collector's read of its state and the request with those events.
const SEND_DELAY: Duration = Duration::from_millis(300);

/// Why an accepted event may arrive again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepeatCause {
    ProcessEnded,
    ProcessSuspended,
    ResponseBroken,
    ClientTimedOut,
    StateDestroyed,
    DiskFull,
}

impl fmt::Display for RepeatCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessEnded => "the process ended before it recorded the response",
            Self::ProcessSuspended => "the process was suspended until its timeout",
            Self::ResponseBroken => "the response broke",
            Self::ClientTimedOut => "the client timed out before the response",
            Self::StateDestroyed => "the state was damaged or removed",
            Self::DiskFull => "the state could not be written after the response",
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Acceptance {
    at: Instant,
    /// The client's port.
    port: u16,
}

#[derive(Debug)]
pub struct Ledger {
    began: Instant,
    /// By event: every time that the server accepted it.
    accepted: HashMap<String, Vec<Acceptance>>,
    /// By event and number of its acceptance, from 1: why the event may arrive once more after it.
    allowed_repeats: HashMap<(String, u32), RepeatCause>,
    /// Events rejected permanently: with a 400 in the statuses, or for a request of a single event.
    rejected: HashSet<String>,
    /// By request id: the client's port and the events, until the server has decided on them.
    pub(super) in_flight: HashMap<u64, (u16, Vec<String>)>,
    last_exit: Option<Instant>,
    /// When the machine last resumed after a pause of all processes.
    resumed_at: Option<Instant>,
    /// By client port of a suspended process: an acceptance before this time may never be recorded,
    /// since the process cannot read the response.
    suspended: HashMap<u16, (Instant, RepeatCause)>,
    /// When a state was destroyed, and its events. A collector may have read them before and still
    /// send them.
    destroyed: Option<(Instant, HashSet<String>)>,
    /// Since when no name can be resolved, if it is so.
    names_hang_since: Option<Instant>,
    pub leaks: Vec<String>,
    pub injected: BTreeMap<&'static str, u64>,
    pub requests: u64,
}

impl Ledger {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            accepted: HashMap::new(),
            allowed_repeats: HashMap::new(),
            rejected: HashSet::new(),
            in_flight: HashMap::new(),
            last_exit: None,
            resumed_at: None,
            suspended: HashMap::new(),
            destroyed: None,
            names_hang_since: None,
            leaks: Vec::new(),
            injected: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Counts one occurrence of a fault.
    pub fn count(&mut self, mode: ServerMode) {
        *self.injected.entry(mode.name()).or_default() += 1;
    }

    /// Enters the result of a request.
    pub(super) fn record(&mut self, request: &HandledRequest, response: &Response) {
        self.in_flight.remove(&request.id);
        let cause = self.repeat_cause(request, response);
        for (key, status) in request.keys.iter().zip(&response.statuses) {
            match status {
                202 => {
                    self.accept(key, request.port);
                    if let Some(cause) = cause {
                        let acceptances = self.acceptances(key);
                        self.allow_repeat(key, acceptances, cause);
                    }
                }
                400 => drop(self.rejected.insert(key.clone())),
                _ => {}
            }
        }
    }
    /// How often the server has accepted this event.
    fn acceptances(&self, key: &str) -> u32 {
        self.accepted
            .get(key)
            .map_or(0, |acceptances| u32::try_from(acceptances.len()).expect("few acceptances"))
    }

    /// True if one of these events may have been read from the state just before its destruction.
    pub(super) fn was_from_destroyed_state(&self, keys: &[String]) -> bool {
        self.destroyed.as_ref().is_some_and(|(at, queued)| {
            at.elapsed() < SEND_DELAY && keys.iter().any(|key| queued.contains(key))
        })
    }

    /// Why an event that this request delivers may arrive again. `None` if the client will learn of
    /// its acceptance.
    fn repeat_cause(&self, request: &HandledRequest, response: &Response) -> Option<RepeatCause> {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LATE_ARRIVAL);
        let suspended = self.suspended.get(&request.port);
        let suspended = suspended.filter(|(until, _)| Instant::now() < *until);
        if request.was_from_destroyed_state {
            Some(RepeatCause::StateDestroyed)
        } else if response.hides_statuses {
            Some(RepeatCause::ResponseBroken)
        } else if is_recent(self.resumed_at) {
            Some(RepeatCause::ProcessSuspended)
        } else if let Some((_, cause)) = suspended {
            Some(*cause)
        } else if request.has_closed {
            let has_exited = is_recent(self.last_exit);
            Some(if has_exited { RepeatCause::ProcessEnded } else { RepeatCause::ClientTimedOut })
        } else {
            None
        }
    }

    /// Lets the event arrive once more after this number of acceptances.
    fn allow_repeat(&mut self, key: &str, acceptances: u32, cause: RepeatCause) {
        self.allowed_repeats.entry((key.to_owned(), acceptances)).or_insert(cause);
    }

    fn accept(&mut self, key: &str, port: u16) {
        let accepted = Acceptance { at: Instant::now(), port };
        self.accepted.entry(key.to_owned()).or_default().push(accepted);
    }

    /// Lets events arrive again whose acceptance is not recorded: those still on disk and those in
    /// flight. `ports` limits this to events sent from these client ports.
    fn allow_unrecorded(
        &mut self,
        on_disk: &HashSet<String>,
        cause: RepeatCause,
        ports: Option<&HashSet<u16>>,
    ) {
        let is_meant = |port: &u16| ports.is_none_or(|ports| ports.contains(port));
        for key in on_disk {
            let last = self.accepted.get(key).and_then(|acceptances| acceptances.last());
            if last.is_some_and(|accepted| is_meant(&accepted.port)) {
                self.allow_repeat(key, self.acceptances(key), cause);
            }
        }
        let in_flight = self.in_flight.values().filter(|(port, _)| is_meant(port));
        for key in in_flight.flat_map(|(_, keys)| keys).cloned().collect::<Vec<_>>() {
            self.allow_repeat(&key, self.acceptances(&key) + 1, cause);
        }
    }

    /// Records that a collector has exited, and what its state holds.
    pub fn record_exit(&mut self, on_disk: &HashSet<String>) {
        self.last_exit = Some(Instant::now());
        self.allow_unrecorded(on_disk, RepeatCause::ProcessEnded, None);
    }

    /// Records that a collector is suspended for `limit`, possibly longer than its timeout, or is
    /// about to be killed. `on_disk` is what its state holds, `ports` are those it sends from.
    pub fn record_suspension(
        &mut self,
        on_disk: &HashSet<String>,
        ports: HashSet<u16>,
        limit: Duration,
        cause: RepeatCause,
    ) {
        self.allow_unrecorded(on_disk, cause, Some(&ports));
        let until = Instant::now() + limit;
        self.suspended.extend(ports.into_iter().map(|port| (port, (until, cause))));
    }

    /// Records that the whole machine was paused until now.
    pub fn record_machine_pause(&mut self, on_disk: &HashSet<String>) {
        self.resumed_at = Some(Instant::now());
        self.allow_unrecorded(on_disk, RepeatCause::ProcessSuspended, None);
    }

    /// Calls `destroy`, which destroys a state that holds `queued` while Tilt shows `visible`. The
    /// lock keeps the server from accepting events meanwhile: a collector that finds the state
    /// missing sends everything again, possibly before `destroy` returns.
    pub fn record_state_loss(
        &mut self,
        queued: HashSet<String>,
        visible: &HashSet<String>,
        destroy: impl FnOnce(),
    ) {
        destroy();
        self.allow_unrecorded(visible, RepeatCause::StateDestroyed, None);
        self.allow_unrecorded(&queued, RepeatCause::StateDestroyed, None);
        self.destroyed = Some((Instant::now(), queued));
    }

    /// Records that lookups of names hang from now on.
    pub fn record_hanging_names(&mut self) {
        self.names_hang_since = Some(Instant::now());
    }

    /// Records that lookups succeed again. A collector may have read a state before its destruction and
    /// waited for a name since then.
    pub fn record_working_names(&mut self) {
        if let (Some(hang_since), Some((destroyed_at, _))) =
            (self.names_hang_since.take(), &mut self.destroyed)
            && *destroyed_at > hang_since
        {
            *destroyed_at = Instant::now();
        }
    }

    /// Records that the disk was full: acceptances up to `until` could not be recorded.
    pub fn record_full_disk(&mut self, on_disk: &HashSet<String>, until: Instant) {
        for key in on_disk {
            let last = self.accepted.get(key).and_then(|acceptances| acceptances.last());
            if last.is_some_and(|accepted| accepted.at <= until) {
                let acceptances = self.acceptances(key);
                self.allow_repeat(key, acceptances, RepeatCause::DiskFull);
            }
        }
    }

    /// True if the event was accepted or permanently rejected.
    pub fn is_settled(&self, key: &str) -> bool {
        self.accepted.contains_key(key) || self.rejected.contains(key)
    }

    /// True if the event was permanently rejected and never accepted.
    pub fn was_rejected(&self, key: &str) -> bool {
        !self.accepted.contains_key(key) && self.rejected.contains(key)
    }

    pub fn repeats(&self) -> Repeats {
        let mut repeats = Repeats::default();
        for (key, acceptances) in &self.accepted {
            for (number, pair) in (1..).zip(acceptances.windows(2)) {
                if let Some(cause) = self.allowed_repeats.get(&(key.clone(), number)) {
                    *repeats.explained.entry(*cause).or_default() += 1;
                } else {
                    let [first, second] = [0, 1].map(|which| {
                        let Acceptance { at, port } = pair[which];
                        let at = at.duration_since(self.began).as_secs_f64();
                        format!("at {at:.3} s from port {port}")
                    });
                    repeats.unexplained.push(format!("{key}, {first} and {second}"));
                }
            }
        }
        repeats.unexplained.sort();
        repeats
    }
}

/// The events that arrived more than once.
#[derive(Debug, Default)]
pub struct Repeats {
    pub explained: BTreeMap<RepeatCause, usize>,
    pub unexplained: Vec<String>,
}

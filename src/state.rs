//! What is remembered between two reports: the builds already seen, and the events that
//! Honeycomb has not yet accepted. One value, so that the two can never disagree. Pure.
//!
//! A build counts as seen in the same step in which its event joins the queue; an event leaves
//! the queue when Honeycomb has accepted or rejected it, or, counted, when room or time runs out.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::derive::Report;
use crate::event::{Event, Kind, wire_time};

const VERSION: u32 = 1;
/// The most events that wait.
pub const QUEUE_LIMIT: usize = 10_000;
/// How long an event may wait; Honeycomb keeps events for 60 days.
const QUEUE_AGE: Duration = Duration::from_secs(30 * DAY);
/// How long a build that Tilt no longer shows is remembered.
const SEEN_AGE: u64 = DAY;
/// Sessions that are kept however long ago they last reported: a suspended laptop and a stepped
/// clock look alike, and forgetting a session that lives would send its builds again.
const SESSIONS_KEPT: usize = 16;
const DAY: u64 = 24 * 3600;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The number that the next event gets.
    next: u64,
    sessions: BTreeMap<String, Session>,
    queue: Vec<Waiting>,
}

/// The builds seen in one run of Tilt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Session {
    /// Unix seconds.
    reported_at: u64,
    /// When Tilt last showed each build, in Unix seconds.
    builds: BTreeMap<String, u64>,
}

/// An event that waits for Honeycomb.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    /// Unique within this state; later events have greater numbers.
    pub number: u64,
    pub kind: Kind,
    /// Unix seconds.
    queued_at: u64,
    /// The event as it goes over the wire: `{"time":...,"data":...}`.
    pub wire: Box<RawValue>,
}

impl Waiting {
    pub fn new(number: u64, kind: Kind, queued_at: u64, wire: Box<RawValue>) -> Self {
        Self { number, kind, queued_at, wire }
    }
}

/// What recording a report did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recorded {
    /// Builds that had not been seen.
    pub new_builds: usize,
    pub dropped: Dropped,
}

/// Events that had to leave unsent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Dropped {
    /// For want of room.
    pub heartbeats: usize,
    /// For want of room, when there were no more heartbeats to drop.
    pub builds: usize,
    /// After 30 days.
    pub expired: usize,
}

/// Why a state file cannot be read.
#[derive(Debug, PartialEq)]
pub enum DecodeError {
    /// Written by a newer program.
    Newer {
        version: u64,
    },
    Corrupt,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { version } => {
                write!(f, "version {version} is newer than this program's {VERSION}")
            }
            Self::Corrupt => f.write_str("not a state file, or damaged"),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, next: 0, sessions: BTreeMap::new(), queue: Vec::new() }
    }
}

impl State {
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } =
            serde_json::from_slice(bytes).map_err(|_| DecodeError::Corrupt)?;
        if version > u64::from(VERSION) {
            return Err(DecodeError::Newer { version });
        }
        serde_json::from_slice(bytes).map_err(|_| DecodeError::Corrupt)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps with text keys, numbers and JSON always encode")
    }

    /// The events that wait, oldest first.
    pub fn queue(&self) -> &[Waiting] {
        &self.queue
    }

    /// Takes in a report: its heartbeats, and the builds that have not been seen.
    pub fn record(&mut self, report: &Report, now: SystemTime) -> Recorded {
        if self.next == 0 {
            // Not from 0: an answer to events of a state that was lost must not settle these.
            self.next = unix_micros(now);
        }
        let now = unix_seconds(now);
        let session = self.sessions.entry(report.session.clone()).or_default();
        let mut recorded = Recorded::default();
        for build in &report.builds {
            if session.builds.insert(build.key.clone(), now).is_none() {
                recorded.new_builds += 1;
                enqueue(&mut self.queue, &mut self.next, &build.event, now);
            }
        }
        session.reported_at = now;
        for heartbeat in &report.heartbeats {
            enqueue(&mut self.queue, &mut self.next, heartbeat, now);
        }
        self.forget(&report.session, now);
        recorded.dropped = self.make_room(now);
        recorded
    }

    /// Takes out the events that Honeycomb has answered for good.
    pub fn settle(&mut self, numbers: &[u64]) {
        let settled: HashSet<_> = numbers.iter().copied().collect();
        self.queue.retain(|waiting| !settled.contains(&waiting.number));
    }

    /// Forgets the builds of this session that Tilt stopped showing a day ago, and sessions that
    /// have not reported for a day, unless they are among the last few.
    fn forget(&mut self, session: &str, now: u64) {
        if let Some(session) = self.sessions.get_mut(session) {
            session.builds.retain(|_, shown_at| now.saturating_sub(*shown_at) < SEEN_AGE);
        }
        if self.sessions.len() > SESSIONS_KEPT {
            let mut reports: Vec<_> = self.sessions.values().map(|s| s.reported_at).collect();
            reports.sort_unstable();
            let oldest_kept = reports[reports.len() - SESSIONS_KEPT];
            self.sessions.retain(|name, known| {
                name == session
                    || known.reported_at >= oldest_kept
                    || now.saturating_sub(known.reported_at) < SEEN_AGE
            });
        }
    }

    fn make_room(&mut self, now: u64) -> Dropped {
        let waiting = self.queue.len();
        self.queue.retain(|event| now.saturating_sub(event.queued_at) < QUEUE_AGE.as_secs());
        let mut dropped = Dropped { expired: waiting - self.queue.len(), ..Dropped::default() };

        let mut excess = self.queue.len().saturating_sub(QUEUE_LIMIT);
        self.queue.retain(|event| {
            let goes = excess > 0 && event.kind.is_heartbeat();
            excess -= usize::from(goes);
            dropped.heartbeats += usize::from(goes);
            !goes
        });
        self.queue.drain(..excess);
        dropped.builds = excess;
        dropped
    }
}

fn enqueue(queue: &mut Vec<Waiting>, next: &mut u64, event: &Event, now: u64) {
    let wire = wire(event);
    queue.push(Waiting::new(*next, event.kind, now, wire));
    *next += 1;
}

/// The event as it goes over the wire.
pub fn wire(event: &Event) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Wire<'a> {
        time: String,
        data: &'a crate::event::Fields,
    }
    let wire = Wire { time: wire_time(event.time), data: &event.fields };
    serde_json::value::to_raw_value(&wire).expect("text keys and plain values always encode")
}

fn unix_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::Build;
    use crate::event::Fields;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn event(kind: Kind) -> Event {
        Event { kind, time: at(NOW), fields: Fields::default() }
    }

    fn report(session: &str, heartbeats: usize, builds: &[&str]) -> Report {
        Report {
            session: session.into(),
            heartbeats: vec![event(Kind::UiResource); heartbeats],
            builds: builds
                .iter()
                .map(|key| Build { key: (*key).into(), event: event(Kind::DockerImage) })
                .collect(),
        }
    }

    fn kinds(state: &State) -> (usize, usize) {
        let heartbeats = state.queue().iter().filter(|e| e.kind.is_heartbeat()).count();
        (heartbeats, state.queue().len() - heartbeats)
    }

    #[test]
    fn a_build_is_new_once_and_a_heartbeat_always() {
        let mut state = State::default();
        assert_eq!(state.record(&report("s", 2, &["a", "b"]), at(NOW)).new_builds, 2);
        assert_eq!(state.record(&report("s", 2, &["a", "b", "c"]), at(NOW + 60)).new_builds, 1);
        assert_eq!(kinds(&state), (4, 3));
        assert_eq!(state.record(&report("other", 0, &["a"]), at(NOW)).new_builds, 1);
    }

    #[test]
    fn what_is_settled_leaves_and_the_rest_stays_in_order() {
        let mut state = State::default();
        state.record(&report("s", 4, &[]), at(NOW));
        let numbers = |state: &State| state.queue().iter().map(|e| e.number).collect::<Vec<_>>();
        let [first, second, third, fourth] = numbers(&state)[..] else { panic!("four events") };
        state.settle(&[first, third, 99]);
        assert_eq!(numbers(&state), [second, fourth]);
        state.record(&report("s", 1, &[]), at(NOW));
        assert_eq!(numbers(&state), [second, fourth, fourth + 1]);
    }

    #[test]
    fn a_build_is_remembered_for_as_long_as_tilt_shows_it_and_a_day_more() {
        let mut state = State::default();
        for hour in 0..100 {
            let new = state.record(&report("s", 0, &["a"]), at(NOW + hour * 3600)).new_builds;
            assert_eq!(new, usize::from(hour == 0), "hour {hour}");
        }
        state.record(&report("s", 0, &[]), at(NOW + 100 * 3600));
        assert_eq!(state.sessions["s"].builds.len(), 1);
        state.record(&report("s", 0, &[]), at(NOW + 99 * 3600 + DAY));
        assert_eq!(state.sessions["s"].builds.len(), 0);
    }

    #[test]
    fn another_tilt_that_was_suspended_for_a_month_does_not_send_its_builds_again() {
        let mut state = State::default();
        state.record(&report("asleep", 0, &["a"]), at(NOW));
        state.record(&report("awake", 0, &["b"]), at(NOW + 30 * DAY));
        assert_eq!(state.record(&report("asleep", 0, &["a"]), at(NOW + 30 * DAY)).new_builds, 0);
    }

    #[test]
    fn old_sessions_go_when_there_are_many() {
        let mut state = State::default();
        for run in 0..200 {
            state.record(&report(&format!("s{run}"), 0, &["a"]), at(NOW + run * 3600));
        }
        assert_eq!(state.sessions.len(), 24);
        assert!(state.sessions.contains_key("s199"));
    }

    #[test]
    fn when_the_queue_is_full_the_oldest_heartbeats_go_first_then_the_oldest_builds() {
        let keys: Vec<_> = (0..QUEUE_LIMIT).map(|n| n.to_string()).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let mut state = State::default();
        state.record(&report("s", 5, &keys[..QUEUE_LIMIT - 5]), at(NOW));
        assert_eq!(state.queue().len(), QUEUE_LIMIT);

        let recorded = state.record(&report("s", 0, &keys[..QUEUE_LIMIT - 2]), at(NOW));
        assert_eq!(recorded.dropped, Dropped { heartbeats: 3, ..Dropped::default() });
        assert_eq!(kinds(&state), (2, QUEUE_LIMIT - 2));

        let oldest = state.queue().iter().find(|e| !e.kind.is_heartbeat()).expect("a build").number;
        let recorded = state.record(&report("t", 0, &keys[..4]), at(NOW));
        assert_eq!(recorded.dropped, Dropped { heartbeats: 2, builds: 2, expired: 0 });
        assert_eq!(kinds(&state), (0, QUEUE_LIMIT));
        assert_eq!(state.queue()[0].number, oldest + 2, "the two oldest builds went");
    }

    #[test]
    fn an_event_waits_thirty_days_at_most() {
        let mut state = State::default();
        state.record(&report("s", 1, &["a"]), at(NOW));
        let recorded = state.record(&report("s", 1, &["a"]), at(NOW + 30 * DAY));
        assert_eq!(recorded.dropped, Dropped { expired: 2, ..Dropped::default() });
        assert_eq!(kinds(&state), (1, 0));
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut state = State::default();
        state.record(&report("s", 0, &["a"]), at(NOW));
        let recorded = state.record(&report("s", 0, &["a"]), UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!((recorded, kinds(&state)), (Recorded::default(), (0, 1)));
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_not_ours_is_told_apart() {
        let mut state = State::default();
        state.record(&report("s", 1, &["a"]), at(NOW));
        let written = state.encode();
        assert_eq!(State::decode(&written).expect("a state").encode(), written);

        for end in 0..written.len() {
            let error = State::decode(&written[..end]).map(|_| ()).expect_err("a cut document");
            assert_eq!(error, DecodeError::Corrupt, "{end}");
        }
        let newer = br#"{"version":2,"layout":"unknown"}"#;
        assert_eq!(State::decode(newer).map(|_| ()), Err(DecodeError::Newer { version: 2 }));
    }
}

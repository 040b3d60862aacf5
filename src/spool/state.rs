//! What is remembered between two looks at Tilt: the builds already seen, what their sessions'
//! next looks will need, and the events that Honeycomb has not yet accepted. One value, so that
//! they can never disagree. Pure.
//!
//! A build counts as seen in the same step in which its events join the queue; an event leaves
//! the queue when Honeycomb has accepted or rejected it, or, counted, when room or time runs out.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::{unix_micros, unix_seconds};
use crate::events::derived::{Build, DerivedEvents, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields, wire_time};
use crate::events::image_spans::ImageSpans;
use crate::events::observation::{Backlog, Phase};
use crate::events::trace::Span;
use crate::events::tracker::SessionTracker;

const VERSION: u32 = 1;
/// The most events that wait.
pub const QUEUE_LIMIT: usize = 10_000;
/// The most bytes of them: half of what a state may take, which must be read again.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// How long an event may wait; Honeycomb keeps events for 60 days.
const QUEUE_AGE: u64 = 30 * DAY;
/// Of a time in which nobody reported, no more counts: the machine was off, or its clock was set.
/// Less than [`SEEN_AGE`], so that what was told before it is not taken for new after it.
const LONGEST_GAP: u64 = DAY / 2;
/// How long a build that Tilt no longer shows is remembered.
const SEEN_AGE: u64 = DAY;
/// Beyond this many builds of a session that Tilt no longer shows, the oldest are forgotten sooner:
/// what has left Tilt's history does not come back, and a day of rapid saves makes thousands.
const UNSHOWN_KEPT: usize = 1_000;
/// Sessions that are kept however long ago they last reported: a suspended laptop and a stepped
/// clock look alike, and forgetting a session that lives would send its builds again.
const SESSIONS_KEPT: usize = 16;
/// A session that has not reported for this long has ended: what it promised is said.
const SESSION_SILENCE: u64 = 10 * 60;
/// Of a time in which nobody reported on any, no more counts as silence: the machine may have slept,
/// and then each needs time to show that it lives.
const LONGEST_PAUSE: u64 = SESSION_SILENCE * 2 / 3;
/// How long an image build waits for a watch to show its update.
pub const PLACEMENT_PATIENCE: Duration = Duration::from_secs(5);
const DAY: u64 = 24 * 3600;
/// How a document begins: a checksum of the rest. One flipped bit may leave valid JSON that says
/// something else, such as another build, or a version that is yet to come.
const CHECK: &str = "{\"crc32\":\"";
const CHECK_DIGITS: usize = 8;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The number that the next event gets.
    next: u64,
    /// Events that left and never arrived, ever: unsent, or refused for good.
    #[serde(default)]
    dropped: u64,
    /// When a session was last reported on, in Unix seconds.
    #[serde(default)]
    reported_at: u64,
    sessions: BTreeMap<String, SessionState>,
    queue: Vec<QueuedEvent>,
}

/// What is remembered of one run of Tilt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct SessionState {
    /// Unix seconds.
    reported_at: u64,
    /// For how many seconds others were reported on, and this one was not.
    silent_for: u64,
    /// When Tilt last showed each build, in Unix seconds.
    builds: BTreeMap<String, u64>,
    /// When all that Tilt shows was last reported, in Unix seconds.
    reported_in_full_at: u64,
    tracker: SessionTracker,
    /// By key: what to say if nothing better comes.
    provisional: BTreeMap<String, StoredProvisional>,
    orphan_images: Vec<OrphanImage>,
    /// The collector that last reported on it has ended.
    was_left: bool,
}

/// [`ProvisionalEvent`], encoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredProvisional {
    resource: Option<String>,
    /// Unix microseconds.
    #[serde(default)]
    began_at: u64,
    kind: EventKind,
    wire: Box<RawValue>,
    /// Not to be said again, though what is better may come yet.
    #[serde(default)]
    is_said: bool,
}

/// An image build that is seen, and waits for a watch to show its update.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OrphanImage {
    /// Unix microseconds.
    since: u64,
    spans: ImageSpans,
}

/// An event that waits for Honeycomb.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// Unique within this state; later events have greater numbers.
    pub seq: u64,
    pub kind: EventKind,
    /// Unix seconds; put off by gaps in which nobody reported.
    queued_at: u64,
    /// The event as it goes over the wire: `{"time":...,"data":...}`.
    pub wire: Box<RawValue>,
}

impl QueuedEvent {
    pub fn new(seq: u64, kind: EventKind, queued_at: u64, wire: Box<RawValue>) -> Self {
        Self { seq, kind, queued_at, wire }
    }

    /// `None` for a time that no clock shows.
    pub fn since(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.queued_at))
    }
}

/// What taking in a look did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recorded {
    /// Builds that had not been seen.
    pub new_builds: usize,
    pub dropped: Dropped,
    /// How soon to look again although nothing changes.
    pub poll_again_after: Option<Duration>,
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
        let (sessions, queue) = (BTreeMap::new(), Vec::new());
        Self { version: VERSION, next: 0, dropped: 0, reported_at: 0, sessions, queue }
    }
}

impl State {
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if !is_whole(bytes) {
            return Err(DecodeError::Corrupt);
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(state) if state.version == VERSION => Ok(state),
            _ => match serde_json::from_slice(bytes) {
                Ok(Versioned { version }) if version > u64::from(VERSION) => {
                    Err(DecodeError::Newer { version })
                }
                _ => Err(DecodeError::Corrupt),
            },
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        // In one piece, since it may be long: behind room for the check, whose comma then takes the
        // place of the brace.
        let brace = CHECK.len() + CHECK_DIGITS + 1;
        let mut document = vec![0; brace];
        serde_json::to_writer(&mut document, self)
            .expect("maps with text keys, numbers and JSON always encode");
        let check = crc32fast::hash(&document[brace..]);
        document[..=brace].copy_from_slice(format!("{CHECK}{check:08x}\",").as_bytes());
        document
    }

    /// The document, of no more than `most` bytes where it helps to forget the oldest sessions: what
    /// is longer could not be read again.
    pub fn encode_within(&mut self, most: usize) -> Vec<u8> {
        loop {
            let document = self.encode();
            if document.len() <= most || !self.forget_oldest_session() {
                return document;
            }
        }
    }

    /// After what it promised is said. False where there is only one.
    fn forget_oldest_session(&mut self) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.reported_at);
        let id = oldest.map(|(id, _)| id.clone()).filter(|_| self.sessions.len() > 1);
        let Some(mut session) = id.and_then(|id| self.sessions.remove(&id)) else { return false };
        let mut fresh = Vec::new();
        session.end(self.reported_at, &mut fresh);
        self.enqueue(fresh, self.reported_at);
        true
    }

    /// The events that wait, oldest first.
    pub fn queue(&self) -> &[QueuedEvent] {
        &self.queue
    }

    /// Returns a copy of what is known about a session; an empty tracker if it is unknown.
    pub fn tracker(&self, session_id: &str) -> SessionTracker {
        self.sessions.get(session_id).map(|session| session.tracker.clone()).unwrap_or_default()
    }

    /// Returns what the state holds for a session: the backlog, which tells what was already
    /// reported, and the tracker, which the derivation updates.
    pub fn session(&mut self, session_id: &str) -> (Backlog<'_>, &mut SessionTracker) {
        let session = self.sessions.entry(session_id.to_owned()).or_default();
        let backlog = Backlog {
            queued: self.queue.len(),
            dropped: self.dropped,
            orphan_images: session.orphan_images.iter().map(|orphan| &orphan.spans.build).collect(),
            reported: &session.builds,
        };
        (backlog, &mut session.tracker)
    }

    /// Takes in a session's report: its heartbeats, and the builds that have not been seen.
    pub fn record(&mut self, id: &str, report: &DerivedEvents, now: SystemTime) -> Recorded {
        if self.next == 0 {
            // Not from 0: an answer to events of a state that was lost must not settle these.
            self.next = unix_micros(now);
        }
        let seconds = unix_seconds(now);
        self.bridge_gap(seconds);
        let mut session = self.sessions.remove(id).unwrap_or_default();
        let is_first = session.reported_at == 0;
        let mut fresh = Vec::new();
        let mut new_builds = 0;
        for Build { key, events } in &report.builds {
            if session.builds.insert(key.clone(), seconds).is_none() {
                new_builds += usize::from(!events.is_empty());
                session.provisional.remove(key);
                fresh.extend(events.iter().map(|event| (event.kind, wire(event))));
            }
        }
        new_builds += session.defer(report, now);
        session.place(report, now, &mut fresh);
        session.keep_provisional(report, &mut fresh);
        session.was_left = report.phase == Phase::Leaving;
        if let Phase::Over(_) = report.phase {
            session.end(seconds, &mut fresh);
        }
        (session.reported_at, session.silent_for) = (seconds, 0);
        if report.is_full {
            session.reported_in_full_at = seconds;
        }
        session.forget_builds(seconds);
        let waits = !session.orphan_images.is_empty();

        self.sessions.insert(id.to_owned(), session);
        self.end_silent_sessions(id, is_first, seconds, &mut fresh);
        fresh.extend(report.heartbeats.iter().map(|event| (event.kind, wire(event))));
        self.enqueue(fresh, seconds);
        self.forget_sessions(id, seconds);
        let poll_again_after =
            if waits { Some(PLACEMENT_PATIENCE) } else { report.poll_again_after };
        let dropped = self.make_room(seconds);
        self.dropped += (dropped.heartbeats + dropped.builds + dropped.expired) as u64;
        Recorded { new_builds, dropped, poll_again_after }
    }

    /// Says what sessions promised that are over: other than this one, and silent for long. Where this
    /// one is reported on for the first time, nothing has slept.
    fn end_silent_sessions(
        &mut self,
        id: &str,
        is_first: bool,
        now: u64,
        fresh: &mut Vec<(EventKind, Box<RawValue>)>,
    ) {
        for (_, session) in self.sessions.iter_mut().filter(|(other, _)| *other != id) {
            let unreported = now.saturating_sub(session.reported_at);
            let silence = if is_first { unreported } else { session.silent_for };
            if silence > SESSION_SILENCE {
                session.end(now, fresh);
            }
        }
    }

    /// Says what sessions promised that nobody reports on any more: their collector has ended.
    pub fn end_left_sessions(&mut self, now: SystemTime) {
        let (seconds, mut fresh) = (unix_seconds(now), Vec::new());
        self.bridge_gap(seconds);
        for session in self.sessions.values_mut() {
            let is_silent = seconds.saturating_sub(session.reported_at) > SESSION_SILENCE;
            if session.was_left || is_silent {
                session.end(seconds, &mut fresh);
            }
        }
        self.enqueue(fresh, seconds);
    }

    fn enqueue(&mut self, fresh: Vec<(EventKind, Box<RawValue>)>, now: u64) {
        for (kind, wire) in fresh {
            self.queue.push(QueuedEvent::new(self.next, kind, now, wire));
            self.next += 1;
        }
    }

    /// Takes out the events that Honeycomb has answered for good; so many of them it refused.
    pub fn settle(&mut self, seqs: &[u64], refused: usize) {
        let settled: HashSet<_> = seqs.iter().copied().collect();
        let waiting = self.queue.len();
        self.queue.retain(|waiting| !settled.contains(&waiting.seq));
        // What had to make room while it was on its way has arrived all the same.
        let made_room = settled.len().saturating_sub(waiting - self.queue.len()) as u64;
        self.dropped = (self.dropped + refused as u64).saturating_sub(made_room);
    }

    /// Forgets sessions that have not reported for a day, unless they are among the last few.
    fn forget_sessions(&mut self, id: &str, now: u64) {
        if self.sessions.len() <= SESSIONS_KEPT {
            return;
        }
        let mut reports: Vec<_> = self.sessions.values().map(|s| s.reported_at).collect();
        reports.sort_unstable();
        let oldest_kept = reports[reports.len() - SESSIONS_KEPT];
        self.sessions.retain(|known, session| {
            known == id
                || session.reported_at >= oldest_kept
                || now.saturating_sub(session.reported_at) < SEEN_AGE
        });
    }

    fn make_room(&mut self, now: u64) -> Dropped {
        let waiting = self.queue.len();
        self.queue.retain(|event| now.saturating_sub(event.queued_at) < QUEUE_AGE);
        let expired = waiting - self.queue.len();
        let heartbeats = self.drop_oldest(|event| event.kind.is_heartbeat());
        let builds = self.drop_oldest(|_| true);
        Dropped { heartbeats, builds, expired }
    }

    /// Has the oldest of those that may leave make room for the rest; how many they were.
    fn drop_oldest(&mut self, may_leave: impl Fn(&QueuedEvent) -> bool) -> usize {
        let size = |event: &QueuedEvent| event.wire.get().len();
        let waiting = self.queue.len();
        let (mut count, mut bytes) = (waiting, self.queue.iter().map(size).sum::<usize>());
        self.queue.retain(|event| {
            let leaves = (count > QUEUE_LIMIT || bytes > QUEUE_BYTES) && may_leave(event);
            if leaves {
                count -= 1;
                bytes -= size(event);
            }
            !leaves
        });
        waiting - self.queue.len()
    }

    /// Has all be as old after a leap of the clock, or a long absence, as it was before, but for the
    /// longest gap that counts.
    fn bridge_gap(&mut self, now: u64) {
        let last = std::mem::replace(&mut self.reported_at, now);
        if last == 0 {
            return;
        }
        let (passed, back) = (now.saturating_sub(last), last.saturating_sub(now));
        for session in self.sessions.values_mut() {
            session.silent_for = session.silent_for.saturating_add(passed.min(LONGEST_PAUSE));
        }
        let ahead = passed.saturating_sub(LONGEST_GAP);
        if ahead + back == 0 {
            return;
        }
        let shift = |at: &mut u64| *at = at.saturating_add(ahead).saturating_sub(back);
        self.queue.iter_mut().for_each(|waiting| shift(&mut waiting.queued_at));
        for session in self.sessions.values_mut() {
            shift(&mut session.reported_at);
            shift(&mut session.reported_in_full_at);
            session.builds.values_mut().for_each(shift);
        }
    }
}

impl SessionState {
    /// Nothing more will come of it: says what it promised.
    fn end(&mut self, now: u64, fresh: &mut Vec<(EventKind, Box<RawValue>)>) {
        for orphan in std::mem::take(&mut self.orphan_images) {
            fresh.extend(encoded_spans(orphan.spans, None));
        }
        fresh.extend(self.provisional.values_mut().filter_map(StoredProvisional::say));
        // An update's end may still show. A start-up has ended, whoever says so first.
        let startup = self
            .provisional
            .extract_if(.., |_, provisional_event| provisional_event.resource.is_none());
        self.builds.extend(startup.map(|(key, _)| (key, now)));
    }

    /// Forgets the builds that Tilt stopped showing a day ago, or many builds ago.
    fn forget_builds(&mut self, now: u64) {
        // What passes first after a weekend asleep says nothing of the builds that Tilt still shows.
        if self.reported_in_full_at == now {
            self.builds.retain(|_, shown_at| now.saturating_sub(*shown_at) < SEEN_AGE);
        }
        let is_unshown = |shown_at: &&u64| **shown_at < self.reported_in_full_at;
        let mut unshown: Vec<_> = self.builds.values().filter(is_unshown).copied().collect();
        if unshown.len() > UNSHOWN_KEPT {
            unshown.sort_unstable();
            let oldest_kept = unshown[unshown.len() - UNSHOWN_KEPT];
            self.builds.retain(|_, shown_at| *shown_at >= oldest_kept);
        }
    }

    /// Remembers the builds whose update is not known yet; how many of them are new.
    fn defer(&mut self, report: &DerivedEvents, now: SystemTime) -> usize {
        let mut new = 0;
        for spans in &report.orphan_images {
            if self.builds.insert(spans.build.key.clone(), unix_seconds(now)).is_none() {
                new += 1;
                let (since, spans) = (unix_micros(now), spans.clone());
                self.orphan_images.push(OrphanImage { since, spans });
            }
        }
        new
    }

    /// Sends off the builds whose update has become known, and those that waited long enough.
    fn place(
        &mut self,
        report: &DerivedEvents,
        now: SystemTime,
        fresh: &mut Vec<(EventKind, Box<RawValue>)>,
    ) {
        let patience = u64::try_from(PLACEMENT_PATIENCE.as_micros()).unwrap_or(u64::MAX);
        for orphan in std::mem::take(&mut self.orphan_images) {
            let mut found = report.found_parents.iter();
            let update = found.find(|(key, _)| *key == orphan.spans.build.key);
            let is_late = unix_micros(now).abs_diff(orphan.since) >= patience;
            if update.is_some() || !report.is_watched || is_late {
                fresh.extend(encoded_spans(orphan.spans, update.map(|(_, update)| update)));
            } else {
                self.orphan_images.push(orphan);
            }
        }
    }

    /// Takes in promises, and says those that a newer update of the resource has overtaken.
    fn keep_provisional(
        &mut self,
        report: &DerivedEvents,
        fresh: &mut Vec<(EventKind, Box<RawValue>)>,
    ) {
        for ProvisionalEvent { key, resource, event } in &report.provisional {
            let was_said = self
                .provisional
                .get(key)
                .is_some_and(|provisional_event| provisional_event.is_said);
            if !self.builds.contains_key(key) && !was_said {
                let provisional_event = StoredProvisional {
                    resource: resource.clone(),
                    began_at: unix_micros(event.time),
                    kind: event.kind,
                    wire: wire(event),
                    is_said: false,
                };
                self.provisional.insert(key.clone(), provisional_event);
            }
        }
        if report.is_full {
            // What was said is kept for as long as it would be promised again.
            let is_promised = |key: &String| report.provisional.iter().any(|new| new.key == *key);
            self.provisional.retain(|key, old| !old.is_said || is_promised(key));
        }
        for provisional_event in self.provisional.values_mut() {
            let newest =
                provisional_event.resource.as_ref().and_then(|r| report.newest_updates.get(r));
            if newest.is_some_and(|newest| *newest > provisional_event.began_at) {
                fresh.extend(provisional_event.say());
            }
        }
    }
}

impl StoredProvisional {
    fn say(&mut self) -> Option<(EventKind, Box<RawValue>)> {
        let was_said = std::mem::replace(&mut self.is_said, true);
        (!was_said).then(|| (self.kind, self.wire.clone()))
    }
}

/// Whether the checksum is right. A document without one is taken at its word.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(checked) = bytes.strip_prefix(CHECK.as_bytes()) else { return true };
    let Some((check, rest)) = checked.split_at_checked(CHECK_DIGITS) else { return false };
    let Some(rest) = rest.strip_prefix(b"\",") else { return false };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"{");
    hasher.update(rest);
    format!("{:08x}", hasher.finalize()).as_bytes() == check
}

fn encoded_spans(spans: ImageSpans, update: Option<&Span>) -> Vec<(EventKind, Box<RawValue>)> {
    spans.into_events(update).iter().map(|event| (event.kind, wire(event))).collect()
}

fn wire(event: &Event) -> Box<RawValue> {
    encoded(wire_time(event.time), &event.fields)
}

/// The event as it goes over the wire.
fn encoded(time: String, data: &Fields) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Wire<'a> {
        time: String,
        data: &'a Fields,
    }
    serde_json::value::to_raw_value(&Wire { time, data })
        .expect("text keys and plain values always encode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::common_fields::Context;
    use crate::events::observation::Observation;
    use crate::spool::reconcile::reconcile;
    use crate::tilt::model::{Resource, ResourceType, Snapshot, Timestamp, Update};

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn event(kind: EventKind) -> Event {
        Event { kind, time: at(NOW), fields: Fields::default() }
    }

    fn report(heartbeats: usize, builds: &[&str]) -> DerivedEvents {
        DerivedEvents {
            is_full: true,
            heartbeats: vec![event(EventKind::UiResource); heartbeats],
            builds: builds
                .iter()
                .map(|key| Build {
                    key: (*key).into(),
                    events: vec![event(EventKind::DockerImage)],
                })
                .collect(),
            ..DerivedEvents::default()
        }
    }

    fn kinds(state: &State) -> (usize, usize) {
        let heartbeats = state.queue().iter().filter(|e| e.kind.is_heartbeat()).count();
        (heartbeats, state.queue().len() - heartbeats)
    }

    #[test]
    fn a_build_is_new_once_and_a_heartbeat_always() {
        let mut state = State::default();
        assert_eq!(state.record("s", &report(2, &["a", "b"]), at(NOW)).new_builds, 2);
        assert_eq!(state.record("s", &report(2, &["a", "b", "c"]), at(NOW + 60)).new_builds, 1);
        assert_eq!(kinds(&state), (4, 3));
        assert_eq!(state.record("other", &report(0, &["a"]), at(NOW)).new_builds, 1);
    }

    #[test]
    fn what_is_settled_leaves_and_the_rest_stays_in_order() {
        let mut state = State::default();
        state.record("s", &report(4, &[]), at(NOW));
        let seqs = |state: &State| state.queue().iter().map(|e| e.seq).collect::<Vec<_>>();
        let [first, second, third, fourth] = seqs(&state)[..] else { panic!("four events") };
        state.settle(&[first, third, 99], 0);
        assert_eq!(seqs(&state), [second, fourth]);
        state.record("s", &report(1, &[]), at(NOW));
        assert_eq!(seqs(&state), [second, fourth, fourth + 1]);
    }

    #[test]
    fn a_build_is_remembered_for_as_long_as_tilt_shows_it_and_a_day_more() {
        let mut state = State::default();
        for hour in 0..100 {
            let new = state.record("s", &report(0, &["a"]), at(NOW + hour * 3600)).new_builds;
            assert_eq!(new, usize::from(hour == 0), "hour {hour}");
        }
        for hour in 100..99 + 24 {
            state.record("s", &report(0, &[]), at(NOW + hour * 3600));
            assert_eq!(state.sessions["s"].builds.len(), 1);
        }
        state.record("s", &report(0, &[]), at(NOW + 99 * 3600 + DAY));
        assert_eq!(state.sessions["s"].builds.len(), 0);
    }

    #[test]
    fn a_look_from_before_a_weekend_asleep_makes_no_build_new_that_another_has_told_since() {
        for leap in [3 * DAY, 400 * DAY] {
            let mut state = State::default();
            state.record("s", &report(0, &["a"]), at(NOW));
            state.record("s", &report(0, &["a", "b"]), at(NOW + 1));
            state.record("s", &report(0, &["a"]), at(NOW + leap));
            assert_eq!(state.record("s", &report(0, &["a", "b"]), at(NOW + leap)).new_builds, 0);
        }
    }

    #[test]
    fn what_a_watch_shows_first_after_a_weekend_asleep_makes_no_other_build_new() {
        let mut state = State::default();
        state.record("s", &report(0, &["a", "b"]), at(NOW));
        let passed = DerivedEvents { is_full: false, ..report(0, &["c"]) };
        assert_eq!(state.record("s", &passed, at(NOW + 3 * DAY)).new_builds, 1);
        let all = report(0, &["a", "b", "c"]);
        assert_eq!(state.record("s", &all, at(NOW + 3 * DAY + 1)).new_builds, 0);
    }

    #[test]
    fn a_day_of_rapid_saves_is_forgotten_as_it_goes() {
        let mut state = State::default();
        for second in 0..5_000 {
            let mut report = report(0, &["shown", &format!("build {second}")]);
            report.is_full = second % 60 == 0;
            let new = state.record("s", &report, at(NOW + second)).new_builds;
            assert_eq!(new, 1 + usize::from(second == 0), "second {second}");
        }
        let known = state.sessions["s"].builds.len();
        assert!((UNSHOWN_KEPT..UNSHOWN_KEPT + 100).contains(&known), "{known}");
    }

    #[test]
    fn another_tilt_that_was_suspended_for_a_month_does_not_send_its_builds_again() {
        let mut state = State::default();
        state.record("asleep", &report(0, &["a"]), at(NOW));
        state.record("awake", &report(0, &["b"]), at(NOW + 30 * DAY));
        assert_eq!(state.record("asleep", &report(0, &["a"]), at(NOW + 30 * DAY)).new_builds, 0);
    }

    /// A report of an update that runs.
    fn running(key: &str) -> DerivedEvents {
        let keep_provisional = ProvisionalEvent {
            key: key.into(),
            resource: Some("r".into()),
            event: event(EventKind::Update),
        };
        let newest = BTreeMap::from([("r".into(), unix_micros(keep_provisional.event.time))]);
        DerivedEvents {
            provisional: vec![keep_provisional],
            newest_updates: newest,
            ..report(0, &[])
        }
    }

    #[test]
    fn an_update_of_a_tilt_that_slept_as_this_one_did_is_not_told_as_cut_off() {
        let mut state = State::default();
        let awake_again = NOW + 8 * 3600;
        state.record("asleep", &running("u"), at(NOW));
        state.record("awake", &report(0, &[]), at(NOW + 30));
        state.record("awake", &report(0, &[]), at(awake_again));
        assert_eq!(kinds(&state), (0, 0), "nothing has been told of it");
        assert_eq!(state.record("asleep", &report(0, &["u"]), at(awake_again + 5)).new_builds, 1);
        state.record("awake", &report(0, &[]), at(awake_again + 60));
        assert_eq!(kinds(&state), (0, 1), "its real end");
    }

    #[test]
    fn of_two_tilts_that_slept_neither_ends_the_other_before_it_could_report() {
        let mut state = State::default();
        let awake_again = NOW + 8 * 3600;
        state.record("a", &running("u"), at(NOW));
        state.record("b", &running("v"), at(NOW + 30));
        for second in [0, 0, 1, 60] {
            state.record("b", &running("v"), at(awake_again + second));
            assert_eq!(kinds(&state), (0, 0), "second {second}");
        }
        assert_eq!(state.record("a", &report(0, &["u"]), at(awake_again + 61)).new_builds, 1);
        for minute in 2..20 {
            state.record("b", &running("v"), at(awake_again + 60 * minute));
        }
        assert_eq!(kinds(&state), (0, 1), "its real end");
    }

    #[test]
    fn an_update_taken_for_dead_is_told_again_when_it_ends_and_only_then() {
        let mut state = State::default();
        state.record("s", &running("u"), at(NOW));
        state.record("other", &report(0, &[]), at(NOW));
        for minute in 1..20 {
            state.record("other", &report(0, &[]), at(NOW + 60 * minute));
        }
        assert_eq!(kinds(&state), (0, 1), "as incomplete");
        state.record("s", &running("u"), at(NOW + 1300));
        state.record(
            "s",
            &DerivedEvents { phase: Phase::Over(None), ..running("u") },
            at(NOW + 1301),
        );
        assert_eq!(kinds(&state), (0, 1), "once");
        assert_eq!(state.record("s", &report(0, &["u"]), at(NOW + 1302)).new_builds, 1);
        assert_eq!(state.record("s", &report(0, &["u"]), at(NOW + 1303)).new_builds, 0);
        assert_eq!(kinds(&state), (0, 2), "its real end");
    }

    #[test]
    fn only_a_newer_update_shows_that_the_end_of_another_was_missed() {
        let mut state = State::default();
        state.record("s", &running("u"), at(NOW));
        let began = running("u").newest_updates["r"];
        // Of a look that began before the update did.
        for newest in [began - 1, began] {
            let newest = BTreeMap::from([("r".into(), newest)]);
            state.record(
                "s",
                &DerivedEvents { newest_updates: newest, ..report(0, &[]) },
                at(NOW + 1),
            );
            assert_eq!(kinds(&state), (0, 0));
        }
        let newest = BTreeMap::from([("r".into(), began + 1)]);
        state.record("s", &DerivedEvents { newest_updates: newest, ..report(0, &[]) }, at(NOW + 2));
        assert_eq!(kinds(&state), (0, 1));
    }

    #[test]
    fn what_is_said_is_said_once_while_it_could_be_promised_again() {
        let mut state = State::default();
        let keep_provisional = |key: &str, at_second| ProvisionalEvent {
            key: key.into(),
            resource: Some("r".into()),
            event: Event { time: at(at_second), ..event(EventKind::Update) },
        };
        let both = DerivedEvents {
            provisional: vec![keep_provisional("missed", NOW - 60), keep_provisional("runs", NOW)],
            newest_updates: BTreeMap::from([("r".into(), unix_micros(at(NOW)))]),
            ..report(0, &[])
        };
        for minute in 0..10 {
            state.record("s", &both, at(NOW + 60 * minute));
            assert_eq!(kinds(&state), (0, 1), "minute {minute}");
        }
        state.record("s", &running("runs"), at(NOW + 600));
        assert_eq!(state.sessions["s"].provisional.len(), 1, "what cannot be, is forgotten");
    }

    #[test]
    fn a_start_up_ends_once_whoever_says_so() {
        let mut state = State::default();
        let keep_provisional =
            ProvisionalEvent { key: "up".into(), resource: None, event: event(EventKind::Startup) };
        let leaving = DerivedEvents {
            provisional: vec![keep_provisional],
            phase: Phase::Leaving,
            ..report(0, &[])
        };
        state.record("s", &leaving, at(NOW));
        state.end_left_sessions(at(NOW + 1));
        assert_eq!(kinds(&state), (0, 1));
        assert_eq!(state.record("s", &report(0, &["up"]), at(NOW + 2)).new_builds, 0);
        state.record("s", &leaving, at(NOW + 3));
        state.end_left_sessions(at(NOW + 4));
        assert_eq!(kinds(&state), (0, 1));
    }

    #[test]
    fn what_only_served_for_a_day_and_has_its_command_back_tells_no_old_update() {
        let mut state = State::default();
        let moment = Timestamp::parse("2026-11-22T15:00:00Z").expect("a time");
        for (hours, status) in
            [(0, "ok"), (1, "not_applicable"), (26, "not_applicable"), (27, "ok")]
        {
            let resource = Resource {
                name: "web".into(),
                resource_type: Some(ResourceType::Local),
                update_status: Some(status.into()),
                updates: vec![Update {
                    span_id: "build:1".into(),
                    started_at: moment.clone(),
                    finished_at: moment.clone(),
                    error: None,
                    warnings: 0,
                }],
                ..Resource::default()
            };
            let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
            let now = at(NOW + hours * 3600);
            reconcile(&mut state, &Observation::at(&snapshot), &Context::default(), now);
        }
        assert_eq!(state.queue().iter().filter(|e| e.kind == EventKind::Update).count(), 1);
    }

    #[test]
    fn what_arrives_though_it_had_to_make_room_is_not_counted_as_dropped() {
        let mut state = State::default();
        let builds: Vec<_> = (0..QUEUE_LIMIT).map(|n| format!("b{n}")).collect();
        let builds: Vec<_> = builds.iter().map(String::as_str).collect();
        state.record("s", &report(0, &builds), at(NOW));
        let on_their_way: Vec<_> = state.queue()[..500].iter().map(|w| w.seq).collect();
        state.record("s", &report(0, &["x", "y", "z"]), at(NOW));
        assert_eq!(state.dropped, 3);
        state.settle(&on_their_way, 1);
        assert_eq!((state.dropped, state.queue().len()), (1, QUEUE_LIMIT - 497));
    }

    #[test]
    fn an_update_of_a_tilt_that_died_is_told_by_another_within_two_reports() {
        for gap in [60, 24 * 3600] {
            let mut state = State::default();
            state.record("lives", &report(0, &[]), at(NOW));
            state.record("dies", &running("u"), at(NOW));
            let told = (1..100).find(|n| {
                state.record("lives", &report(0, &[]), at(NOW + n * gap));
                kinds(&state) == (0, 1)
            });
            assert!(told.is_some_and(|n| n <= 2 || n * gap <= SESSION_SILENCE + gap), "{told:?}");
        }
    }

    #[test]
    fn old_sessions_go_when_there_are_many() {
        let mut state = State::default();
        for run in 0..200 {
            state.record(&format!("s{run}"), &report(0, &["a"]), at(NOW + run * 3600));
        }
        assert_eq!(state.sessions.len(), 24);
        assert!(state.sessions.contains_key("s199"));
    }

    #[test]
    fn a_state_that_could_not_be_read_again_forgets_its_oldest_sessions_once_their_promises_are_said()
     {
        let mut state = State::default();
        let builds: Vec<_> = (0..100).map(|n| format!("build {n}")).collect();
        let builds: Vec<_> = builds.iter().map(String::as_str).collect();
        for run in 0..10 {
            let told = DerivedEvents { builds: report(0, &builds).builds, ..running("u") };
            state.record(&format!("s{run}"), &told, at(NOW + run));
            let arrived: Vec<_> = state.queue().iter().map(|waiting| waiting.seq).collect();
            state.settle(&arrived, 0);
        }
        let whole = state.encode();
        assert_eq!(state.encode_within(whole.len()), whole);
        let document = state.encode_within(whole.len() / 2);
        assert!(document.len() <= whole.len() / 2, "{}", document.len());
        let state = State::decode(&document).expect("a state");
        assert!(state.sessions.contains_key("s9") && !state.sessions.contains_key("s0"));
        assert_eq!(state.sessions.len() + state.queue().len(), 10);
        assert_eq!(State::default().encode_within(0), State::default().encode());
    }

    #[test]
    fn when_the_queue_is_full_the_oldest_heartbeats_go_first_then_the_oldest_builds() {
        let keys: Vec<_> = (0..QUEUE_LIMIT).map(|n| n.to_string()).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let mut state = State::default();
        state.record("s", &report(5, &keys[..QUEUE_LIMIT - 5]), at(NOW));
        assert_eq!(state.queue().len(), QUEUE_LIMIT);

        let recorded = state.record("s", &report(0, &keys[..QUEUE_LIMIT - 2]), at(NOW));
        assert_eq!(recorded.dropped, Dropped { heartbeats: 3, ..Dropped::default() });
        assert_eq!(kinds(&state), (2, QUEUE_LIMIT - 2));

        let oldest = state.queue().iter().find(|e| !e.kind.is_heartbeat()).expect("a build").seq;
        let recorded = state.record("t", &report(0, &keys[..4]), at(NOW));
        assert_eq!(recorded.dropped, Dropped { heartbeats: 2, builds: 2, expired: 0 });
        assert_eq!(kinds(&state), (0, QUEUE_LIMIT));
        assert_eq!(state.queue()[0].seq, oldest + 2, "the two oldest builds went");
    }

    #[test]
    fn however_long_events_are_what_waits_can_be_read_again() {
        let mut fields = Fields::default();
        fields.set("waiting_on", "some-resource,".repeat(500));
        let long = |kind| Event { fields: fields.clone(), ..event(kind) };
        let build = Build { key: "a".into(), events: vec![long(EventKind::Update)] };
        let heartbeats = vec![long(EventKind::UiResource); QUEUE_LIMIT];
        let mut state = State::default();
        let report = DerivedEvents { heartbeats, builds: vec![build], ..report(0, &[]) };
        let dropped = state.record("s", &report, at(NOW)).dropped;
        assert!(dropped.heartbeats > 1000 && dropped.builds == 0, "{dropped:?}");
        assert_eq!(kinds(&state), (QUEUE_LIMIT - dropped.heartbeats, 1));
        let length = state.encode().len();
        assert!((QUEUE_BYTES - 10_000..2 * QUEUE_BYTES).contains(&length), "{length}");
    }

    #[test]
    fn an_event_waits_thirty_days_and_no_longer() {
        let mut state = State::default();
        state.record("s", &report(1, &["a"]), at(NOW));
        for half_day in 1..60 {
            let recorded = state.record("s", &report(0, &["a"]), at(NOW + half_day * DAY / 2));
            assert_eq!((recorded.dropped, kinds(&state)), (Dropped::default(), (1, 1)));
        }
        let recorded = state.record("s", &report(1, &["a"]), at(NOW + 30 * DAY));
        assert_eq!(recorded.dropped, Dropped { expired: 2, ..Dropped::default() });
        assert_eq!(kinds(&state), (1, 0));
    }

    #[test]
    fn a_clock_that_was_set_and_a_long_absence_make_no_event_too_old() {
        for seconds in [
            &[NOW + 400 * DAY, NOW + 400 * DAY + 3600, NOW + 7200][..],
            &[NOW - 400 * DAY, NOW - 400 * DAY + 3600, NOW + 7200],
            &[NOW + 40 * DAY, NOW + 80 * DAY],
        ] {
            let mut state = State::default();
            state.record("s", &report(0, &["a"]), at(NOW));
            for &second in seconds {
                let recorded = state.record("s", &report(0, &["a"]), at(second));
                assert_eq!((recorded.dropped, kinds(&state)), (Dropped::default(), (0, 1)));
            }
            let age = seconds[seconds.len() - 1] - state.queue[0].queued_at;
            assert!(age <= DAY, "{age}");
        }
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut state = State::default();
        state.record("s", &report(0, &["a"]), at(NOW));
        let recorded = state.record("s", &report(0, &["a"]), UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!((recorded, kinds(&state)), (Recorded::default(), (0, 1)));
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_not_ours_is_told_apart() {
        let mut state = State::default();
        state.record("s", &report(1, &["a"]), at(NOW));
        let written = state.encode();
        assert_eq!(State::decode(&written).expect("a state").encode(), written);

        for end in 0..written.len() {
            let error = State::decode(&written[..end]).map(|_| ()).expect_err("a cut document");
            assert_eq!(error, DecodeError::Corrupt, "{end}");
        }
        for bit in 0..written.len() * 8 {
            let mut flipped = written.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Without its name the checksum is not looked for; then the rest is as it was.
            match State::decode(&flipped) {
                Ok(state) => assert_eq!(state.encode(), written, "bit {bit}"),
                Err(error) => assert_eq!(error, DecodeError::Corrupt, "bit {bit}"),
            }
        }
        let newer = br#"{"version":2,"layout":"unknown"}"#;
        assert_eq!(State::decode(newer).map(|_| ()), Err(DecodeError::Newer { version: 2 }));
    }
}

//! The state of one destination: what was reported of each session, and the queue of events. One
//! value, so that the two can never disagree. Pure.
//!
//! The state stores and never derives; see [`crate::spool::reconcile`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::base::time::unix_seconds;
use crate::events::derived::DerivedEvents;
use crate::events::observation::{Backlog, Phase};
use crate::events::tracker::SessionTracker;
use crate::spool::queue::{Dropped, EncodedEvent, Queue, QueuedEvent};
use crate::spool::session::{ORPHAN_TIMEOUT, SEEN_AGE, SessionState};

/// The version of the document. Raise it when a stored field changes its name or meaning.
pub const VERSION: u32 = 2;
/// The most seconds by which a clock change or a long absence ages entries. Less than
/// [`SEEN_AGE`], so that a build that was reported before the gap is not new after it.
const LONGEST_GAP: u64 = SEEN_AGE / 2;
/// The number of sessions that are kept, however long ago they were reported. A suspended laptop
/// looks like a clock change, and a forgotten session would send its builds again.
const SESSIONS_KEPT: usize = 16;
/// A session that was not reported for this many seconds has ended.
const SESSION_TIMEOUT: u64 = 10 * 60;
/// The most seconds between two reports that count as silence of the other sessions. After a
/// longer gap the machine may have slept, and each session needs time to report again.
const LONGEST_SILENCE: u64 = SESSION_TIMEOUT * 2 / 3;

/// The state of one destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub(super) version: u32,
    /// When a session was last reported, in Unix seconds.
    reported_at: u64,
    /// By session id.
    sessions: BTreeMap<String, SessionState>,
    queue: Queue,
}

/// The result of recording an observation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recorded {
    /// The number of builds that were not seen before.
    pub new_builds: usize,
    pub dropped: Dropped,
    /// How soon to observe again, even if nothing changes.
    pub poll_again_after: Option<Duration>,
}

impl Default for State {
    fn default() -> Self {
        let (sessions, queue) = (BTreeMap::new(), Queue::default());
        Self { version: VERSION, reported_at: 0, sessions, queue }
    }
}

impl State {
    /// The events that wait for delivery, oldest first.
    pub fn queue(&self) -> &[QueuedEvent] {
        self.queue.events()
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
            queued: self.queue.events().len(),
            dropped: self.queue.dropped(),
            orphan_images: session.orphan_images.iter().map(|orphan| &orphan.spans.build).collect(),
            reported: &session.builds,
        };
        (backlog, &mut session.tracker)
    }

    /// Queues the heartbeats of a session, and the builds that were not seen before.
    pub fn record(
        &mut self,
        session_id: &str,
        derived: &DerivedEvents,
        now: SystemTime,
    ) -> Recorded {
        self.queue.start_numbering(now);
        let seconds = unix_seconds(now);
        self.bridge_gap(seconds);
        let session = self.sessions.entry(session_id.to_owned()).or_default();
        let is_first_report = session.reported_at == 0;
        let mut emitted = Vec::new();
        let new_builds = session.record(derived, now, &mut emitted);
        session.collector_ended = derived.phase == Phase::Leaving;
        if let Phase::Over(_) = derived.phase {
            session.end(seconds, &mut emitted);
        }
        session.forget_builds(seconds);
        let has_orphans = !session.orphan_images.is_empty();

        self.end_silent_sessions(session_id, is_first_report, seconds, &mut emitted);
        emitted.extend(derived.heartbeats.iter().map(EncodedEvent::new));
        self.queue.push(emitted, seconds);
        self.forget_sessions(session_id, seconds);
        let poll_again_after =
            if has_orphans { Some(ORPHAN_TIMEOUT) } else { derived.poll_again_after };
        let dropped = self.queue.make_room(seconds);
        Recorded { new_builds, dropped, poll_again_after }
    }

    /// Ends the other sessions that were silent for too long. On the first report of this session
    /// the machine has not just slept, so their whole absence counts.
    fn end_silent_sessions(
        &mut self,
        session_id: &str,
        is_first_report: bool,
        now: u64,
        emitted: &mut Vec<EncodedEvent>,
    ) {
        for (_, session) in self.sessions.iter_mut().filter(|(id, _)| *id != session_id) {
            let absence = now.saturating_sub(session.reported_at);
            let silence = if is_first_report { absence } else { session.silent_seconds };
            if silence > SESSION_TIMEOUT {
                session.end(now, emitted);
            }
        }
    }

    /// Ends the sessions that no collector reports any more, and queues what they still hold.
    pub fn end_left_sessions(&mut self, now: SystemTime) {
        let (seconds, mut emitted) = (unix_seconds(now), Vec::new());
        self.bridge_gap(seconds);
        for session in self.sessions.values_mut() {
            let is_silent = seconds.saturating_sub(session.reported_at) > SESSION_TIMEOUT;
            if session.collector_ended || is_silent {
                session.end(seconds, &mut emitted);
            }
        }
        self.queue.push(emitted, seconds);
    }

    /// Removes the events that Honeycomb has accepted or rejected. Counts `rejected` of them as
    /// lost.
    pub fn settle(&mut self, seqs: &[u64], rejected: usize) {
        self.queue.settle(seqs, rejected);
    }

    /// Ends and forgets the oldest session. Returns false if there is only one.
    pub(super) fn forget_oldest_session(&mut self) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.reported_at);
        let id = oldest.map(|(id, _)| id.clone()).filter(|_| self.sessions.len() > 1);
        let Some(mut session) = id.and_then(|id| self.sessions.remove(&id)) else { return false };
        let mut emitted = Vec::new();
        session.end(self.reported_at, &mut emitted);
        self.queue.push(emitted, self.reported_at);
        true
    }

    /// Forgets the sessions that were not reported for a day, unless they are among the last few.
    fn forget_sessions(&mut self, session_id: &str, now: u64) {
        if self.sessions.len() <= SESSIONS_KEPT {
            return;
        }
        let mut reports: Vec<_> = self.sessions.values().map(|s| s.reported_at).collect();
        reports.sort_unstable();
        let oldest_kept = reports[reports.len() - SESSIONS_KEPT];
        self.sessions.retain(|id, session| {
            id == session_id
                || session.reported_at >= oldest_kept
                || now.saturating_sub(session.reported_at) < SEEN_AGE
        });
    }

    /// Shifts stored times so that a clock change or a long absence ages entries by at most
    /// [`LONGEST_GAP`]. `now` is in Unix seconds.
    fn bridge_gap(&mut self, now: u64) {
        let last = std::mem::replace(&mut self.reported_at, now);
        if last == 0 {
            return;
        }
        let (forward, back) = (now.saturating_sub(last), last.saturating_sub(now));
        for session in self.sessions.values_mut() {
            let silence = forward.min(LONGEST_SILENCE);
            session.silent_seconds = session.silent_seconds.saturating_add(silence);
        }
        let excess = forward.saturating_sub(LONGEST_GAP);
        if excess + back == 0 {
            return;
        }
        let shift = |at: &mut u64| *at = at.saturating_add(excess).saturating_sub(back);
        self.queue.shift_times(shift);
        self.sessions.values_mut().for_each(|session| session.shift_times(shift));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::base::time::unix_micros;
    use crate::events::derived::{Build, ProvisionalEvent};
    use crate::events::event::{Event, EventKind, Fields};
    use crate::spool::queue::{QUEUE_BYTES, QUEUE_LIMIT};
    use crate::spool::session::UNSHOWN_LIMIT;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 3600;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn event(kind: EventKind) -> Event {
        Event::new(kind, at(NOW), Fields::default())
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
    fn a_build_is_new_once_and_a_heartbeat_every_time() {
        let mut state = State::default();
        assert_eq!(state.record("s", &report(2, &["a", "b"]), at(NOW)).new_builds, 2);
        assert_eq!(state.record("s", &report(2, &["a", "b", "c"]), at(NOW + 60)).new_builds, 1);
        assert_eq!(kinds(&state), (4, 3));
        assert_eq!(state.record("other", &report(0, &["a"]), at(NOW)).new_builds, 1);
    }

    #[test]
    fn settled_events_leave_and_the_rest_keeps_its_order() {
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
    fn a_build_is_remembered_for_a_day_after_it_was_shown() {
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
    fn an_old_snapshot_after_a_long_sleep_forgets_no_build() {
        for leap in [3 * DAY, 400 * DAY] {
            let mut state = State::default();
            state.record("s", &report(0, &["a"]), at(NOW));
            state.record("s", &report(0, &["a", "b"]), at(NOW + 1));
            state.record("s", &report(0, &["a"]), at(NOW + leap));
            assert_eq!(state.record("s", &report(0, &["a", "b"]), at(NOW + leap)).new_builds, 0);
        }
    }

    #[test]
    fn a_partial_report_after_a_long_sleep_forgets_no_build() {
        let mut state = State::default();
        state.record("s", &report(0, &["a", "b"]), at(NOW));
        let partial = DerivedEvents { is_full: false, ..report(0, &["c"]) };
        assert_eq!(state.record("s", &partial, at(NOW + 3 * DAY)).new_builds, 1);
        let all = report(0, &["a", "b", "c"]);
        assert_eq!(state.record("s", &all, at(NOW + 3 * DAY + 1)).new_builds, 0);
    }

    #[test]
    fn builds_that_tilt_stopped_showing_are_bounded() {
        let mut state = State::default();
        for second in 0..5_000 {
            let mut report = report(0, &["shown", &format!("build {second}")]);
            report.is_full = second % 60 == 0;
            let new = state.record("s", &report, at(NOW + second)).new_builds;
            assert_eq!(new, 1 + usize::from(second == 0), "second {second}");
        }
        let known = state.sessions["s"].builds.len();
        assert!((UNSHOWN_LIMIT..UNSHOWN_LIMIT + 100).contains(&known), "{known}");
    }

    #[test]
    fn a_session_suspended_for_a_month_keeps_its_builds() {
        let mut state = State::default();
        state.record("asleep", &report(0, &["a"]), at(NOW));
        state.record("awake", &report(0, &["b"]), at(NOW + 30 * DAY));
        assert_eq!(state.record("asleep", &report(0, &["a"]), at(NOW + 30 * DAY)).new_builds, 0);
    }

    /// A report of an update that has not ended.
    fn running(key: &str) -> DerivedEvents {
        let provisional = ProvisionalEvent {
            key: key.into(),
            resource: Some("r".into()),
            event: event(EventKind::Update),
        };
        let newest_updates = BTreeMap::from([("r".into(), unix_micros(provisional.event.time))]);
        DerivedEvents { provisional: vec![provisional], newest_updates, ..report(0, &[]) }
    }

    #[test]
    fn a_session_that_slept_too_is_not_ended() {
        let mut state = State::default();
        let awake_again = NOW + 8 * 3600;
        state.record("asleep", &running("u"), at(NOW));
        state.record("awake", &report(0, &[]), at(NOW + 30));
        state.record("awake", &report(0, &[]), at(awake_again));
        assert_eq!(kinds(&state), (0, 0), "nothing was emitted");
        assert_eq!(state.record("asleep", &report(0, &["u"]), at(awake_again + 5)).new_builds, 1);
        state.record("awake", &report(0, &[]), at(awake_again + 60));
        assert_eq!(kinds(&state), (0, 1), "its real end");
    }

    #[test]
    fn after_a_sleep_each_session_has_time_to_report() {
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
    fn an_update_sent_as_incomplete_is_sent_when_it_ends() {
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
    fn only_a_newer_update_makes_a_running_one_incomplete() {
        let mut state = State::default();
        state.record("s", &running("u"), at(NOW));
        let began = running("u").newest_updates["r"];
        // From a poll that started before the update did.
        for newest in [began - 1, began] {
            let newest_updates = BTreeMap::from([("r".into(), newest)]);
            state.record("s", &DerivedEvents { newest_updates, ..report(0, &[]) }, at(NOW + 1));
            assert_eq!(kinds(&state), (0, 0));
        }
        let newest_updates = BTreeMap::from([("r".into(), began + 1)]);
        state.record("s", &DerivedEvents { newest_updates, ..report(0, &[]) }, at(NOW + 2));
        assert_eq!(kinds(&state), (0, 1));
    }

    #[test]
    fn a_provisional_event_is_emitted_once() {
        let mut state = State::default();
        let provisional = |key: &str, at_second| ProvisionalEvent {
            key: key.into(),
            resource: Some("r".into()),
            event: Event { time: at(at_second), ..event(EventKind::Update) },
        };
        let both = DerivedEvents {
            provisional: vec![provisional("missed", NOW - 60), provisional("runs", NOW)],
            newest_updates: BTreeMap::from([("r".into(), unix_micros(at(NOW)))]),
            ..report(0, &[])
        };
        for minute in 0..10 {
            state.record("s", &both, at(NOW + 60 * minute));
            assert_eq!(kinds(&state), (0, 1), "minute {minute}");
        }
        state.record("s", &running("runs"), at(NOW + 600));
        assert_eq!(
            state.sessions["s"].provisional.len(),
            1,
            "an update that is not derived any more is forgotten"
        );
    }

    #[test]
    fn a_startup_ends_once() {
        let mut state = State::default();
        let provisional =
            ProvisionalEvent { key: "up".into(), resource: None, event: event(EventKind::Startup) };
        let leaving = DerivedEvents {
            provisional: vec![provisional],
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
    fn an_event_that_arrives_after_all_is_not_dropped() {
        let mut state = State::default();
        let builds: Vec<_> = (0..QUEUE_LIMIT).map(|n| format!("b{n}")).collect();
        let builds: Vec<_> = builds.iter().map(String::as_str).collect();
        state.record("s", &report(0, &builds), at(NOW));
        let in_flight: Vec<_> = state.queue()[..500].iter().map(|event| event.seq).collect();
        state.record("s", &report(0, &["x", "y", "z"]), at(NOW));
        assert_eq!(state.queue.dropped(), 3);
        state.settle(&in_flight, 1);
        assert_eq!((state.queue.dropped(), state.queue().len()), (1, QUEUE_LIMIT - 497));
    }

    #[test]
    fn another_session_ends_a_dead_one_within_two_reports() {
        for gap in [60, 24 * 3600] {
            let mut state = State::default();
            state.record("lives", &report(0, &[]), at(NOW));
            state.record("dies", &running("u"), at(NOW));
            let ended = (1..100).find(|n| {
                state.record("lives", &report(0, &[]), at(NOW + n * gap));
                kinds(&state) == (0, 1)
            });
            assert!(ended.is_some_and(|n| n <= 2 || n * gap <= SESSION_TIMEOUT + gap), "{ended:?}");
        }
    }

    #[test]
    fn old_sessions_are_forgotten_if_there_are_many() {
        let mut state = State::default();
        for run in 0..200 {
            state.record(&format!("s{run}"), &report(0, &["a"]), at(NOW + run * 3600));
        }
        assert_eq!(state.sessions.len(), 24);
        assert!(state.sessions.contains_key("s199"));
    }

    #[test]
    fn a_state_that_is_too_long_ends_its_oldest_sessions() {
        let mut state = State::default();
        let builds: Vec<_> = (0..100).map(|n| format!("build {n}")).collect();
        let builds: Vec<_> = builds.iter().map(String::as_str).collect();
        for run in 0..10 {
            let derived = DerivedEvents { builds: report(0, &builds).builds, ..running("u") };
            state.record(&format!("s{run}"), &derived, at(NOW + run));
            let arrived: Vec<_> = state.queue().iter().map(|event| event.seq).collect();
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
    fn a_full_queue_drops_heartbeats_first_then_builds() {
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
        assert_eq!(state.queue()[0].seq, oldest + 2, "the two oldest builds were dropped");
    }

    #[test]
    fn a_queue_of_long_events_can_be_read_again() {
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
    fn an_event_waits_for_at_most_thirty_days() {
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
    fn a_clock_change_or_long_absence_expires_no_event() {
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
            let age = seconds[seconds.len() - 1] - state.queue()[0].queued_at;
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
}

//! The state of one destination: what was reported of each session, and the queue of events. One
//! value, so that the two can never disagree. Pure.
//!
//! The state stores and never derives; see [`crate::spool::reconcile`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::base::time::unix_seconds;
use crate::events::derived::DerivedEvents;
use crate::events::observation::{Backlog, Phase};
use crate::events::tracker::SessionTracker;
use crate::spool::clock::{Clocks, SEEN_AGE, SESSION_TIMEOUT};
use crate::spool::delivery_record::DeliveryRecord;
use crate::spool::queue::{Addition, Dropped, EncodedEvent, Queue};
use crate::spool::session::{ORPHAN_TIMEOUT, SessionState};

/// The number of sessions that are kept, however long ago they were reported. A suspended laptop
/// looks like a clock change, and a forgotten session would send its builds again.
const SESSIONS_KEPT: usize = 16;
/// The most sessions that are kept. A machine that runs a job per minute makes hundreds per day.
const MOST_SESSIONS: usize = 64;

/// The state of one destination.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) clocks: Clocks,
    /// By session id.
    pub(super) sessions: BTreeMap<String, SessionState>,
    pub(super) queue: Queue,
    pub(super) delivery: DeliveryRecord,
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

impl State {
    /// The events that wait for delivery.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What the last collector noted about its deliveries.
    pub fn delivery(&self) -> &DeliveryRecord {
        &self.delivery
    }

    /// Takes in what a collector noted about its deliveries.
    pub fn note_delivery(&mut self, noted: &DeliveryRecord) {
        self.delivery.update(noted);
    }

    /// Takes the events that were recorded since the state was read, for a state that is not
    /// stored.
    pub fn take_new_events(&mut self) -> Vec<EncodedEvent> {
        self.queue.take_fresh()
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
        mut derived: DerivedEvents,
        now: SystemTime,
    ) -> Recorded {
        self.start(now);
        let age = self.clocks.age;
        let session = self.sessions.entry(session_id.to_owned()).or_default();
        let is_first_report = session.reported_at == 0;
        let mut emitted = Vec::new();
        let DerivedEvents { phase, poll_again_after, .. } = derived;
        let heartbeats = std::mem::take(&mut derived.heartbeats);
        let new_builds = session.record(derived, now, self.clocks, &mut emitted);
        session.collector_ended = phase == Phase::Leaving;
        if let Phase::Over(_) = phase {
            session.end(age, &mut emitted);
        }
        session.forget_builds(age);
        let has_orphans = !session.orphan_images.is_empty();

        self.end_silent_sessions(session_id, is_first_report, &mut emitted);
        self.forget_sessions(session_id, &mut emitted);
        emitted.extend(heartbeats.into_iter().map(|event| EncodedEvent::new(&event)));
        self.queue.push(emitted);
        let poll_again_after = if has_orphans { Some(ORPHAN_TIMEOUT) } else { poll_again_after };
        let dropped = self.queue.make_room(age);
        Recorded { new_builds, dropped, poll_again_after }
    }

    /// Brings the clocks and the event numbers up to `now`.
    fn start(&mut self, now: SystemTime) {
        self.queue.start_numbering(now);
        self.clocks.advance(unix_seconds(now));
    }

    /// Ends the other sessions that were silent for too long. On the first report of this session
    /// the machine has not just slept, so their whole absence counts.
    fn end_silent_sessions(
        &mut self,
        session_id: &str,
        is_first_report: bool,
        emitted: &mut Vec<EncodedEvent>,
    ) {
        let Clocks { age, silence, .. } = self.clocks;
        for (_, session) in self.sessions.iter_mut().filter(|(id, _)| *id != session_id) {
            let absent = if is_first_report {
                age.saturating_sub(session.reported_at)
            } else {
                silence.saturating_sub(session.silent_since)
            };
            if absent > SESSION_TIMEOUT {
                session.end(age, emitted);
            }
        }
    }

    /// Ends the sessions that no collector reports any more, and queues what they still hold.
    pub fn end_left_sessions(&mut self, now: SystemTime) {
        self.start(now);
        let (age, mut emitted) = (self.clocks.age, Vec::new());
        for session in self.sessions.values_mut() {
            let is_silent = age.saturating_sub(session.reported_at) > SESSION_TIMEOUT;
            if session.collector_ended || is_silent {
                session.end(age, &mut emitted);
            }
        }
        self.queue.push(emitted);
    }

    /// Applies the part of the journal that the index does not contain yet.
    pub fn take_in_journal(&mut self, rest: &[u8]) {
        self.queue.take_in_journal(rest);
    }

    /// Moves the new events to segments, and forgets the segments without waiting events.
    /// Returns the lines to write.
    pub fn place_events(&mut self, now: SystemTime) -> Vec<Addition> {
        self.start(now);
        let additions = self.queue.place_fresh(self.clocks.age, unix_seconds(now));
        self.queue.retire(self.clocks.age);
        additions
    }

    /// Ends and forgets the sessions that were not reported for a day, unless they are among the
    /// last few, and the oldest ones if there are too many.
    fn forget_sessions(&mut self, session_id: &str, emitted: &mut Vec<EncodedEvent>) {
        if self.sessions.len() <= SESSIONS_KEPT {
            return;
        }
        let age = self.clocks.age;
        let mut reports: Vec<_> = self.sessions.values().map(|s| s.reported_at).collect();
        reports.sort_unstable_by_key(|reported_at| Reverse(*reported_at));
        let among_last = reports[SESSIONS_KEPT - 1];
        let among_most = reports.get(MOST_SESSIONS - 1).copied().unwrap_or_default();
        let is_forgotten = |id: &String, session: &mut SessionState| {
            let is_old = age.saturating_sub(session.reported_at) >= SEEN_AGE;
            let exceeds = session.reported_at < among_most;
            id != session_id && (exceeds || is_old && session.reported_at < among_last)
        };
        for (_, mut session) in self.sessions.extract_if(.., is_forgotten) {
            session.end(age, emitted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::base::time::unix_micros;
    use crate::events::derived::{Build, ProvisionalEvent};
    use crate::events::event::{Event, EventKind, Fields};
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

    /// The heartbeats and the other events that were recorded.
    fn kinds(state: &State) -> (usize, usize) {
        let recorded = state.queue().fresh();
        let heartbeats = recorded.iter().filter(|event| event.kind.is_heartbeat()).count();
        (heartbeats, recorded.len() - heartbeats)
    }

    #[test]
    fn a_build_is_new_once_and_a_heartbeat_every_time() {
        let mut state = State::default();
        assert_eq!(state.record("s", report(2, &["a", "b"]), at(NOW)).new_builds, 2);
        assert_eq!(state.record("s", report(2, &["a", "b", "c"]), at(NOW + 60)).new_builds, 1);
        assert_eq!(kinds(&state), (4, 3));
        assert_eq!(state.record("other", report(0, &["a"]), at(NOW)).new_builds, 1);
    }

    #[test]
    fn a_build_is_remembered_for_a_day_after_it_was_shown() {
        let mut state = State::default();
        for hour in 0..100 {
            let new = state.record("s", report(0, &["a"]), at(NOW + hour * 3600)).new_builds;
            assert_eq!(new, usize::from(hour == 0), "hour {hour}");
        }
        for hour in 100..99 + 24 {
            state.record("s", report(0, &[]), at(NOW + hour * 3600));
            assert_eq!(state.sessions["s"].builds.len(), 1);
        }
        state.record("s", report(0, &[]), at(NOW + 99 * 3600 + DAY));
        assert_eq!(state.sessions["s"].builds.len(), 0);
    }

    #[test]
    fn an_old_snapshot_after_a_long_sleep_forgets_no_build() {
        for leap in [3 * DAY, 400 * DAY] {
            let mut state = State::default();
            state.record("s", report(0, &["a"]), at(NOW));
            state.record("s", report(0, &["a", "b"]), at(NOW + 1));
            state.record("s", report(0, &["a"]), at(NOW + leap));
            assert_eq!(state.record("s", report(0, &["a", "b"]), at(NOW + leap)).new_builds, 0);
        }
    }

    #[test]
    fn a_partial_report_after_a_long_sleep_forgets_no_build() {
        let mut state = State::default();
        state.record("s", report(0, &["a", "b"]), at(NOW));
        let partial = DerivedEvents { is_full: false, ..report(0, &["c"]) };
        assert_eq!(state.record("s", partial.clone(), at(NOW + 3 * DAY)).new_builds, 1);
        let all = report(0, &["a", "b", "c"]);
        assert_eq!(state.record("s", all.clone(), at(NOW + 3 * DAY + 1)).new_builds, 0);
    }

    #[test]
    fn builds_that_tilt_stopped_showing_are_bounded() {
        let mut state = State::default();
        for second in 0..5_000 {
            let mut report = report(0, &["shown", &format!("build {second}")]);
            report.is_full = second % 60 == 0;
            let new = state.record("s", report.clone(), at(NOW + second)).new_builds;
            assert_eq!(new, 1 + usize::from(second == 0), "second {second}");
        }
        let known = state.sessions["s"].builds.len();
        assert!((UNSHOWN_LIMIT..UNSHOWN_LIMIT + 100).contains(&known), "{known}");
    }

    #[test]
    fn a_session_suspended_for_a_month_keeps_its_builds() {
        let mut state = State::default();
        state.record("asleep", report(0, &["a"]), at(NOW));
        state.record("awake", report(0, &["b"]), at(NOW + 30 * DAY));
        assert_eq!(state.record("asleep", report(0, &["a"]), at(NOW + 30 * DAY)).new_builds, 0);
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
        state.record("asleep", running("u"), at(NOW));
        state.record("awake", report(0, &[]), at(NOW + 30));
        state.record("awake", report(0, &[]), at(awake_again));
        assert_eq!(kinds(&state), (0, 0), "nothing was emitted");
        assert_eq!(state.record("asleep", report(0, &["u"]), at(awake_again + 5)).new_builds, 1);
        state.record("awake", report(0, &[]), at(awake_again + 60));
        assert_eq!(kinds(&state), (0, 1), "its real end");
    }

    #[test]
    fn after_a_sleep_each_session_has_time_to_report() {
        let mut state = State::default();
        let awake_again = NOW + 8 * 3600;
        state.record("a", running("u"), at(NOW));
        state.record("b", running("v"), at(NOW + 30));
        for second in [0, 0, 1, 60] {
            state.record("b", running("v"), at(awake_again + second));
            assert_eq!(kinds(&state), (0, 0), "second {second}");
        }
        assert_eq!(state.record("a", report(0, &["u"]), at(awake_again + 61)).new_builds, 1);
        for minute in 2..20 {
            state.record("b", running("v"), at(awake_again + 60 * minute));
        }
        assert_eq!(kinds(&state), (0, 1), "its real end");
    }

    #[test]
    fn an_update_sent_as_incomplete_is_sent_when_it_ends() {
        let mut state = State::default();
        state.record("s", running("u"), at(NOW));
        state.record("other", report(0, &[]), at(NOW));
        for minute in 1..20 {
            state.record("other", report(0, &[]), at(NOW + 60 * minute));
        }
        assert_eq!(kinds(&state), (0, 1), "as incomplete");
        state.record("s", running("u"), at(NOW + 1300));
        state.record(
            "s",
            DerivedEvents { phase: Phase::Over(None), ..running("u") },
            at(NOW + 1301),
        );
        assert_eq!(kinds(&state), (0, 1), "once");
        assert_eq!(state.record("s", report(0, &["u"]), at(NOW + 1302)).new_builds, 1);
        assert_eq!(state.record("s", report(0, &["u"]), at(NOW + 1303)).new_builds, 0);
        assert_eq!(kinds(&state), (0, 2), "its real end");
    }

    #[test]
    fn only_a_newer_update_makes_a_running_one_incomplete() {
        let mut state = State::default();
        state.record("s", running("u"), at(NOW));
        let began = running("u").newest_updates["r"];
        // From a poll that started before the update did.
        for newest in [began - 1, began] {
            let newest_updates = BTreeMap::from([("r".into(), newest)]);
            state.record("s", DerivedEvents { newest_updates, ..report(0, &[]) }, at(NOW + 1));
            assert_eq!(kinds(&state), (0, 0));
        }
        let newest_updates = BTreeMap::from([("r".into(), began + 1)]);
        state.record("s", DerivedEvents { newest_updates, ..report(0, &[]) }, at(NOW + 2));
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
            state.record("s", both.clone(), at(NOW + 60 * minute));
            assert_eq!(kinds(&state), (0, 1), "minute {minute}");
        }
        state.record("s", running("runs"), at(NOW + 600));
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
        state.record("s", leaving.clone(), at(NOW));
        state.end_left_sessions(at(NOW + 1));
        assert_eq!(kinds(&state), (0, 1));
        assert_eq!(state.record("s", report(0, &["up"]), at(NOW + 2)).new_builds, 0);
        state.record("s", leaving.clone(), at(NOW + 3));
        state.end_left_sessions(at(NOW + 4));
        assert_eq!(kinds(&state), (0, 1));
    }

    #[test]
    fn another_session_ends_a_dead_one_within_two_reports() {
        for gap in [60, 24 * 3600] {
            let mut state = State::default();
            state.record("lives", report(0, &[]), at(NOW));
            state.record("dies", running("u"), at(NOW));
            let ended = (1..100).find(|n| {
                state.record("lives", report(0, &[]), at(NOW + n * gap));
                kinds(&state) == (0, 1)
            });
            assert!(ended.is_some_and(|n| n <= 2 || n * gap <= SESSION_TIMEOUT + gap), "{ended:?}");
        }
    }

    #[test]
    fn old_sessions_are_forgotten_if_there_are_many() {
        let mut state = State::default();
        for run in 0..200 {
            state.record(&format!("s{run}"), report(0, &["a"]), at(NOW + run * 3600));
        }
        assert_eq!(state.sessions.len(), 24);
        assert!(state.sessions.contains_key("s199"));
    }

    #[test]
    fn too_many_sessions_end_the_oldest_ones() {
        let mut state = State::default();
        for run in 0..100 {
            state.record(&format!("s{run}"), running("u"), at(NOW + run));
        }
        assert_eq!(state.sessions.len(), MOST_SESSIONS);
        assert!(state.sessions.contains_key("s99") && !state.sessions.contains_key("s35"));
        assert_eq!(kinds(&state), (0, 100 - MOST_SESSIONS), "what the forgotten ones held");
    }

    #[test]
    fn a_clock_change_or_long_absence_expires_no_event() {
        for seconds in [
            &[NOW + 400 * DAY, NOW + 400 * DAY + 3600, NOW + 7200][..],
            &[NOW - 400 * DAY, NOW - 400 * DAY + 3600, NOW + 7200],
            &[NOW + 40 * DAY, NOW + 80 * DAY],
        ] {
            let mut state = State::default();
            state.record("s", report(0, &["a"]), at(NOW));
            state.place_events(at(NOW));
            for &second in seconds {
                let recorded = state.record("s", report(0, &["a"]), at(second));
                assert_eq!((recorded.dropped, state.queue().len()), (Dropped::default(), 1));
            }
            let age = state.clocks.age - state.queue().segments()[0].started;
            assert!(age <= DAY, "{age}");
        }
    }

    #[test]
    fn a_clock_set_back_loses_nothing() {
        let mut state = State::default();
        state.record("s", report(0, &["a"]), at(NOW));
        let recorded = state.record("s", report(0, &["a"]), UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!((recorded, kinds(&state)), (Recorded::default(), (0, 1)));
    }
}

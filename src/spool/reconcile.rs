//! Takes an observation of Tilt into the state: derives its events and records the new ones. Pure.
//!
//! This is the only place that knows both sides: the events never see the state, and the state
//! never derives events.

use std::time::SystemTime;

use crate::events::common_fields::Context;
use crate::events::derive::derive;
use crate::events::observation::Observation;
use crate::events::session_id::session_id;
use crate::spool::state::{Recorded, State};

/// Derives the events of an observation, given what the state already holds for its session, and
/// records them. `now` dates the heartbeats, unless the observation itself is older.
pub fn reconcile(
    state: &mut State,
    observation: &Observation,
    context: &Context,
    now: SystemTime,
) -> Recorded {
    let session_id = session_id(observation);
    let (backlog, tracker) = state.session(&session_id);
    let seen_at = observation.seen_at.unwrap_or(now);
    let derived = derive(observation, &backlog, tracker, context, seen_at);
    state.record(&session_id, derived, now)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::events::event::EventKind;
    use crate::events::observation::Heartbeats;
    use crate::tilt::model::{Resource, ResourceType, Snapshot, Timestamp, Update};

    #[test]
    fn a_resource_that_only_served_for_a_day_resends_nothing() {
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
            let now = UNIX_EPOCH + Duration::from_hours(500_000 + hours);
            reconcile(&mut state, &Observation::at(&snapshot), &Context::default(), now);
        }
        assert_eq!(state.queue().fresh().iter().filter(|e| e.kind == EventKind::Update).count(), 1);
    }

    #[test]
    fn the_end_of_a_session_is_recorded_once() {
        let mut state = State::default();
        let status = |status: &str| {
            let resource = Resource {
                name: "web".into(),
                update_status: Some(status.into()),
                ..Resource::default()
            };
            Snapshot { resources: vec![resource], ..Snapshot::default() }
        };
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        let context = Context::default();
        reconcile(&mut state, &Observation::at(&status("ok")), &context, at(0));
        let last = status("error");
        let end = Observation {
            seen_at: Some(at(1)),
            heartbeats: Heartbeats::Changed(&["web".to_owned()]),
            ..Observation::at(&last)
        };
        // The second time, an error left it unknown whether the first record is on disk.
        reconcile(&mut state, &end, &context, at(2));
        reconcile(&mut state, &end, &context, at(3));
        let queue = state.queue().fresh();
        assert_eq!(queue.iter().filter(|e| e.kind == EventKind::UiResource).count(), 2);
    }
}

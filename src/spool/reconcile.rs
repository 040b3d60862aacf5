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
}

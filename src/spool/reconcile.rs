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
    state.record(&session_id, &derived, now)
}

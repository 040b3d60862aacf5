//! How a run of Tilt ended. Pure.

use crate::events::observation::Observation;
use crate::events::tracker::SessionTracker;
use crate::tilt::health::{Health, count_by_health, unfinished};
use crate::tilt::model::Outcome;

/// Returns the outcome that Tilt reported, or else the one that `--outcome` passed. Without
/// either, the resources decide: a failure if one is in error, a success if all have finished.
/// `None` if some were still busy when Tilt ended.
pub fn outcome(observation: &Observation, tracker: &SessionTracker) -> Option<Outcome> {
    let resources = observation.resources;
    let errors = count_by_health(resources).get(Health::Error);
    tracker.outcome.or_else(|| match (errors, unfinished(resources)) {
        (1.., _) => Some(Outcome::Failure),
        (0, 0) if !resources.is_empty() => Some(Outcome::Success),
        _ => None,
    })
}

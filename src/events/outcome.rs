//! How a run of Tilt ended. Pure.

use crate::events::observation::Observation;
use crate::events::tracker::SessionTracker;
use crate::tilt::health::{Health, count_by_health, unfinished};
use crate::tilt::model::Outcome;

/// Returns the outcome that Tilt reported, or else the one that `--outcome` passed. Without
/// either, the resources decide: a failure if one is in error, a success if all have finished.
/// `None` if some were still busy when Tilt ended. The resource of the collector does not count.
pub fn outcome<'a>(
    observation: &Observation<'a>,
    tracker: &SessionTracker,
    collector: &'a str,
) -> Option<Outcome> {
    let resources = observation.counted_resources(collector);
    let errors = count_by_health(resources.clone()).get(Health::Error);
    tracker.outcome.or_else(|| match (errors, unfinished(resources.clone())) {
        (1.., _) => Some(Outcome::Failure),
        (0, 0) if resources.clone().next().is_some() => Some(Outcome::Success),
        _ => None,
    })
}

//! Finds the resources that cannot begin. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::events::startup::progress::{Reached, ResourceProgress};
use crate::tilt::model::Resource;

/// A resource, its history and what it has reached.
#[derive(Debug)]
pub struct Standing<'a> {
    pub resource: &'a Resource,
    pub progress: &'a ResourceProgress,
    pub reached: Reached,
}

/// Returns the names of the resources that cannot begin: they wait, directly or indirectly, for one
/// that has failed, is disabled, or waits for a person to start it.
pub fn blocked<'a>(standings: &[Standing<'a>]) -> BTreeSet<&'a str> {
    let mut stuck: BTreeMap<&str, bool> = standings
        .iter()
        .map(|standing| (standing.resource.name.as_str(), never_starts_others(standing)))
        .collect();
    let waiting: Vec<_> = standings
        .iter()
        .filter(|standing| standing.reached == Reached::Neither)
        .filter(|standing| !standing.progress.waits_for.is_empty())
        .collect();
    let mut blocked = BTreeSet::new();
    loop {
        let is_stuck = |name: &String| stuck.get(name.as_str()) == Some(&true);
        let found: Vec<_> = waiting
            .iter()
            .filter(|standing| standing.progress.waits_for.iter().any(is_stuck))
            .map(|standing| standing.resource.name.as_str())
            .collect();
        let known = blocked.len();
        blocked.extend(found.iter().copied());
        if blocked.len() == known {
            return blocked;
        }
        stuck.extend(found.into_iter().map(|name| (name, true)));
    }
}

/// True if resources that wait for this one wait until a person acts.
fn never_starts_others(standing: &Standing) -> bool {
    let resource = standing.resource;
    let is_idle = resource.never_ran() && !resource.starts_automatically();
    let has_failed = matches!(standing.reached, Reached::Failed { .. });
    resource.disabled == Some(true) || is_idle || has_failed && !standing.progress.was_ready
}

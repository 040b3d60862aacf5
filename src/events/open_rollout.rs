//! The memory of a rollout that has not ended. Pure.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::trace::UpdateId;
use crate::events::trouble::Trouble;
use crate::tilt::model::{Resource, Timestamp};

/// A rollout that has not ended, for the tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRollout {
    pub update: UpdateId,
    /// The end of the update, as Tilt wrote it.
    pub updated_at: String,
    /// When the resource became ready, in Unix microseconds. Only the details of its pod are missing.
    pub ready_at: Option<u64>,
    /// `None` if the resource was never in trouble.
    pub trouble: Option<Trouble>,
}

impl OpenRollout {
    /// When a failure began that is observed now. Tilt does not tell.
    ///
    /// The condition `Ready` of a resource that was ready dates from its crash. If the resource was
    /// observed before, the failure is new. Otherwise it may be old: it began when the container ended,
    /// or no earlier than the end of the update.
    pub fn failed_since(
        resource: &Resource,
        updated_at: &Timestamp,
        was_observed: bool,
        now: SystemTime,
    ) -> SystemTime {
        let ready_changed_at = resource.ready.as_ref().and_then(|ready| ready.since.as_ref());
        let ended_at = resource.pod.as_ref().and_then(|pod| pod.failed_at.as_ref());
        let is_later = |at: &&Timestamp| at.at > updated_at.at;
        let ended_at = ended_at.filter(|_| !was_observed);
        let known = ready_changed_at.filter(is_later).or(ended_at.filter(is_later));
        known.map_or(if was_observed { now } else { updated_at.at }, |at| at.at)
    }
}

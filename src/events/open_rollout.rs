//! The memory of a rollout that has not ended. Pure.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::trace::UpdateId;
use crate::tilt::model::{Resource, Timestamp};

/// A rollout that has not ended, for the tracker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRollout {
    pub update: UpdateId,
    /// The end of the update, as Tilt wrote it.
    pub updated_at: String,
    /// When the resource became ready, in Unix microseconds. Only the details of its pod are missing.
    pub ready_at: Option<u64>,
    /// `None` if the resource is not in trouble.
    pub trouble: Option<Trouble>,
}

/// The trouble of a resource, in Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it was first observed.
    pub seen_at: u64,
    /// When it began, as far as Tilt tells.
    pub since: u64,
}

impl Trouble {
    /// Tilt does not tell when a resource failed. The condition `Ready` of one that was ready dates
    /// from its crash. If the rollout was not observed before, the failure may be old, and it came no
    /// earlier than the end of the update.
    pub fn first_seen(
        resource: &Resource,
        updated_at: &Timestamp,
        was_observed: bool,
        now: SystemTime,
    ) -> Self {
        let updated_at = updated_at.at;
        let since = resource.ready.as_ref().and_then(|ready| ready.since.as_ref());
        let changed_at = since.map(|since| since.at).filter(|since| *since > updated_at);
        let since = changed_at.unwrap_or(if was_observed { now } else { updated_at });
        Self { seen_at: unix_micros(now), since: unix_micros(since) }
    }
}

//! The link to the trace of an environment's start.

use std::time::{Duration, SystemTime};

use crate::events::observation::Observation;
use crate::events::session_id::session_id;
use crate::events::tracker::{SessionTracker, Startup};
use crate::honeycomb::dataset_link::DatasetUrl;

/// How long a command waits for the address of the dataset.
pub(super) const LINK_TIMEOUT: Duration = Duration::from_secs(2);

/// The trace of a start.
#[derive(Debug)]
pub(super) struct StartTrace {
    id: String,
    started_at: SystemTime,
    seen_at: SystemTime,
}

impl StartTrace {
    /// `None` if no event is in this trace: the start was over before the first observation, or Tilt does
    /// not show when it began. `tracker` is that of the observed session.
    pub(super) fn of(
        observation: &Observation,
        tracker: &SessionTracker,
        now: SystemTime,
    ) -> Option<Self> {
        if matches!(tracker.startup, Startup::NotObserved | Startup::Missed) {
            return None;
        }
        let started_at = observation.tilt_started_at()?.at;
        let root = tracker.startup_span(&session_id(observation));
        let seen_at = observation.seen_at.unwrap_or(now);
        Some(Self { id: root.trace_id, started_at, seen_at })
    }

    /// The address of the trace in this dataset.
    pub(super) fn link(&self, dataset: &DatasetUrl) -> String {
        dataset.trace(&self.id, (self.started_at, self.seen_at))
    }
}

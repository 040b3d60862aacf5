//! The data of one derivation. Other files add its methods: `derive` finds the builds, `spans` their
//! events, `startup` the startup and `status` the heartbeats. Pure.

use std::time::SystemTime;

use crate::events::common_fields::{CommonFields, Context};
use crate::events::derived::DerivedEvents;
use crate::events::observation::{Backlog, Heartbeats, Observation, Phase};
use crate::events::session_id::session_id;
use crate::events::tracker::{SessionTracker, Startup};
use crate::tilt::model::Resource;

/// The derivation of the events of one observation.
#[derive(Debug)]
pub struct Derivation<'a> {
    pub observation: &'a Observation<'a>,
    pub backlog: &'a Backlog<'a>,
    /// Updated with what the next observation needs.
    pub tracker: &'a mut SessionTracker,
    pub context: &'a Context,
    pub common: CommonFields,
    /// The events derived so far.
    pub derived: DerivedEvents,
    /// The time of the heartbeats.
    pub now: SystemTime,
}

impl<'a> Derivation<'a> {
    pub fn new(
        observation: &'a Observation<'a>,
        backlog: &'a Backlog<'a>,
        tracker: &'a mut SessionTracker,
        context: &'a Context,
        now: SystemTime,
    ) -> Self {
        if tracker.startup == Startup::NotObserved {
            tracker.remote_parent.clone_from(&context.remote_parent);
        }
        if let Phase::Over(outcome) = observation.phase {
            // An outcome that Tilt reported outweighs one that a later command passes.
            tracker.outcome = tracker.outcome.or(outcome);
        }
        let session_id = session_id(observation);
        let startup = tracker.startup_span(&session_id);
        let common = CommonFields::new(observation.session, session_id, startup, context);
        let derived = DerivedEvents {
            is_full: matches!(observation.heartbeats, Heartbeats::All),
            is_watched: observation.is_watched,
            phase: observation.phase,
            ..DerivedEvents::default()
        };
        Self { observation, backlog, tracker, context, common, derived, now }
    }

    /// The resources that count: all but the collector's own.
    pub fn counted_resources(&self) -> impl Iterator<Item = &'a Resource> + Clone + use<'a> {
        self.observation.counted_resources(&self.context.collector)
    }

    /// True if the build with this key was reported before.
    pub fn is_reported(&self, key: &str) -> bool {
        self.backlog.reported.contains_key(key)
    }
}

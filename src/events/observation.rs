//! The input of a derivation: one observation of Tilt, and what the state already holds. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::image_spans::ImageBuildRef;
use crate::tilt::model::{Cluster, ImageBuild, Outcome, Resource, Session, Snapshot, Timestamp};

/// One poll of Tilt, or what the watches have shown since the last observation.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub session: Option<&'a Session>,
    /// The cluster as the last poll showed it. Use [`Observation::cluster`].
    pub shown_cluster: Option<&'a Cluster>,
    /// All resources, as they are now.
    pub resources: &'a [Resource],
    /// The last build of each image, as shown now.
    pub image_builds: &'a [ImageBuild],
    /// Versions of resources that a watch has shown since the last observation, oldest first.
    pub observed: &'a [Resource],
    /// Image builds that a watch has shown since the last observation.
    pub completed_images: &'a [ImageBuild],
    pub heartbeats: Heartbeats<'a>,
    /// One event represents this many unchanged reports of a resource. 1 sends each.
    pub heartbeat_fold: u32,
    /// True if a watch may soon show the update of an image build that has none yet.
    pub is_watched: bool,
    /// Why the last delivery failed.
    pub send_error: Option<&'a str>,
    pub phase: Phase,
    /// When Tilt showed this. `None` if that is now.
    pub seen_at: Option<SystemTime>,
}

/// Whether more observations of the same session will follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Running,
    /// This collector was asked to end. The session may go on.
    Leaving,
    /// The session has ended, with this outcome if it is known. The statuses are final.
    Over(Option<Outcome>),
}

impl<'a> Observation<'a> {
    /// A single poll of everything.
    pub fn at(snapshot: &'a Snapshot) -> Self {
        Self {
            session: snapshot.session.as_ref(),
            shown_cluster: snapshot.cluster.as_ref(),
            resources: &snapshot.resources,
            image_builds: &snapshot.image_builds,
            observed: &[],
            completed_images: &[],
            heartbeats: Heartbeats::All,
            heartbeat_fold: 1,
            is_watched: false,
            send_error: None,
            phase: Phase::Running,
            seen_at: None,
        }
    }

    /// The resources that count: all but the collector's own, which has this name.
    pub fn counted_resources(
        &self,
        collector: &'a str,
    ) -> impl Iterator<Item = &'a Resource> + Clone + use<'a> {
        self.resources.iter().filter(move |resource| resource.name != collector)
    }

    /// The cluster, if Tilt deploys at least one resource to it.
    pub fn cluster(&self) -> Option<&'a Cluster> {
        self.shown_cluster.filter(|_| self.resources.iter().any(Resource::is_on_kubernetes))
    }

    /// When Tilt started, as the session says.
    pub fn tilt_started_at(&self) -> Option<&'a Timestamp> {
        self.session.and_then(|session| session.tilt_started_at.as_ref())
    }

    /// True if no later observation of this session is expected, so that nothing may wait for one.
    pub fn is_last(&self) -> bool {
        self.phase != Phase::Running || self.seen_at.is_some()
    }

    /// True if the session has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }
}

/// The parts of the state that a derivation reads.
#[derive(Debug, Clone)]
pub struct Backlog<'a> {
    /// The number of events that wait for delivery.
    pub queued: usize,
    /// The number of events that were lost since the state was created: dropped before they were
    /// sent, or rejected by Honeycomb.
    pub dropped: u64,
    /// Image builds that wait for a watch to show their update.
    pub orphan_images: Vec<&'a ImageBuildRef>,
    /// The keys of the builds that were reported before. They need no new events.
    pub reported: &'a BTreeMap<String, u64>,
}

/// Which statuses are reported.
#[derive(Debug, Clone, Copy)]
pub enum Heartbeats<'a> {
    /// The status of every resource, and that of the session.
    All,
    /// The statuses of the resources with these names, which have changed.
    Changed(&'a [String]),
}

/// The parts of a resource's status whose change is reported at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_restarts: Option<i64>,
}

impl ResourceStatus {
    pub fn of(resource: &Resource) -> Self {
        Self {
            update_status: resource.update_status.clone(),
            runtime_status: resource.runtime_status.clone(),
            pod_status: resource.pod_status.clone(),
            pod_restarts: resource.restarts(),
        }
    }
}

//! What there is to derive from: one look at Tilt, and what the state already holds. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::events::tracker::ImageBuildRef;
use crate::tilt::model::{ImageBuild, Outcome, Resource, Session, Snapshot};

/// One look at Tilt, or what a watch has shown since the last one.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    pub session: Option<&'a Session>,
    /// All resources, as they are now.
    pub resources: &'a [Resource],
    /// The last build of each image, as shown now.
    pub image_builds: &'a [ImageBuild],
    /// Versions of resources that a watch has shown since the last look, oldest first.
    pub observed: &'a [Resource],
    /// Image builds that a watch has shown since.
    pub completed_images: &'a [ImageBuild],
    pub heartbeats: Heartbeats<'a>,
    /// A watch may soon show the update of an image build that has none yet.
    pub is_watched: bool,
    /// Why the last delivery did not get through.
    pub send_error: Option<&'a str>,
    pub phase: Phase,
    /// The time of what is shown, where that is not the time at which it is taken in.
    pub seen_at: Option<SystemTime>,
}

/// Whether more looks at the same session will follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Running,
    /// This collector has been asked to end; the session may or may not go on.
    Leaving,
    /// The session has ended, so far as known with this outcome: what is shown is final.
    Over(Option<Outcome>),
}

impl<'a> Observation<'a> {
    /// One look at everything, by itself.
    pub fn at(snapshot: &'a Snapshot) -> Self {
        Self {
            session: snapshot.session.as_ref(),
            resources: &snapshot.resources,
            image_builds: &snapshot.image_builds,
            observed: &[],
            completed_images: &[],
            heartbeats: Heartbeats::All,
            is_watched: false,
            send_error: None,
            phase: Phase::Running,
            seen_at: None,
        }
    }
}

/// What the state holds that a report has to do with.
#[derive(Debug, Clone, Copy)]
pub struct Backlog<'a> {
    /// Events that wait for Honeycomb.
    pub queued: usize,
    /// Events that will never arrive, ever: dropped unsent, or refused for good.
    pub dropped: u64,
    /// Builds that wait for a watch to show which update they belong to.
    pub orphan_images: &'a [ImageBuildRef],
    /// By key, the builds that were told of before: they need not be put into words again.
    pub reported: &'a BTreeMap<String, u64>,
}

/// Which resources' status is told.
#[derive(Debug, Clone, Copy)]
pub enum Heartbeats<'a> {
    /// All, and the environment's as a whole.
    All,
    /// Those whose status has changed.
    Changed(&'a [PreviousStatus]),
}

/// A resource's status before it changed.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviousStatus {
    pub name: String,
    pub update_status: Option<String>,
    pub runtime_status: Option<String>,
}

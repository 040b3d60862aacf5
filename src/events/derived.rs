//! What there is to say after a look at Tilt, for the state to take in. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::events::event::Event;
use crate::events::observation::Phase;
use crate::events::trace::Span;
use crate::events::tracker::ImageBuildRef;

/// All that one look at Tilt has to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerivedEvents {
    pub heartbeats: Vec<Event>,
    pub builds: Vec<Build>,
    /// Builds that no update is known for yet, as if there were none.
    pub orphan_images: Vec<(ImageBuildRef, Build)>,
    /// Whether it tells of all that Tilt shows.
    pub is_full: bool,
    /// Whether builds may go on waiting for their update to be shown.
    pub is_watched: bool,
    /// Builds of the backlog, by key, whose update has become known.
    pub placed: Vec<(String, Span)>,
    /// Said if nothing better comes: spans that others on their way point to.
    pub provisional: Vec<ProvisionalEvent>,
    /// When the newest update of each resource looked at began, in Unix microseconds.
    pub newest: BTreeMap<String, u64>,
    /// How soon to look again although nothing changes.
    pub poll_again_after: Option<Duration>,
    pub phase: Phase,
}

/// A completed build, and the key by which it is known within its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    pub key: String,
    /// The build itself, then its stages; nothing where it was told of before.
    pub events: Vec<Event>,
}

/// An event to be sent if the one that it stands for never comes.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionalEvent {
    pub key: String,
    /// The resource of which a newer update shows that it never will; `None` for the session's own.
    pub resource: Option<String>,
    pub event: Event,
}

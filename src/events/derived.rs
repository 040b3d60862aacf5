//! The events that one observation yields, for the state to record. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::events::event::Event;
use crate::events::image_spans::ImageSpans;
use crate::events::observation::Phase;
use crate::events::trace::Span;

/// Everything that one observation of Tilt yields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerivedEvents {
    /// The statuses at the time of the observation.
    pub heartbeats: Vec<Event>,
    /// Every build that Tilt shows, including those that were reported before.
    pub builds: Vec<Build>,
    /// Image builds whose update is not known yet and may still be shown.
    pub orphan_images: Vec<ImageSpans>,
    /// True if this covers everything that Tilt shows.
    pub is_full: bool,
    /// True if a watch may still show the updates of orphan images.
    pub is_watched: bool,
    /// The updates that were found for orphan images of the backlog, with the images' keys.
    pub found_parents: Vec<(String, Span)>,
    /// Spans that others point to, in case they never end.
    pub provisional: Vec<ProvisionalEvent>,
    /// The start of the newest update of each observed resource, in Unix microseconds.
    pub newest_updates: BTreeMap<String, u64>,
    /// How soon to observe again, even if nothing changes.
    pub poll_again_after: Option<Duration>,
    pub phase: Phase,
}

/// A completed build.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Identifies the build within its session.
    pub key: String,
    /// The build itself, then its stages. Empty if the build was reported before.
    pub events: Vec<Event>,
}

impl Build {
    /// A build that was reported before, or that is never reported.
    pub fn without_events(key: String) -> Self {
        Self { key, events: Vec::new() }
    }
}

/// A substitute for an event. The state emits it if the event itself never comes.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvisionalEvent {
    /// The key of the event that this one stands for.
    pub key: String,
    /// The resource that is updated. A newer update of it shows that the end of this one was
    /// missed. `None` for a startup or a rollout, which ends only once.
    pub resource: Option<String>,
    pub event: Event,
}

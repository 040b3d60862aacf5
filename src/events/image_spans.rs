//! The spans of one image build, before its place in a trace is known. Pure.
//!
//! An image build is a child of the update that ran it, but Tilt may show that update later than
//! the build. The state keeps these spans until then. They hold only fields that are sent, so
//! nothing else that Tilt shows reaches the disk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::ids;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::trace::Span;
use crate::tilt::model::{ImageBuild, ImageKind};

/// Identifies an image build, and holds what its update can be found by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageBuildRef {
    /// Identifies the build within its session.
    pub key: String,
    /// The name of the resource that the image is built for; empty if Tilt shows none.
    pub resource: String,
    /// The name of Tilt's object, `resource:image`.
    pub object: String,
    /// The start of the build, as Tilt wrote it.
    pub started_at: String,
}

impl ImageBuildRef {
    /// Identifies this build.
    pub fn new(build: &ImageBuild) -> Self {
        let kind = event_kind(build).as_str();
        let times = [&build.started_at, &build.finished_at].map(|time| time.text.as_str());
        Self {
            key: ids::id(&[kind, &build.object, times[0], times[1]], 16),
            resource: build.resource.clone().unwrap_or_default(),
            object: build.object.clone(),
            started_at: build.started_at.text.clone(),
        }
    }
}

/// The kind of event that describes this build.
pub fn event_kind(build: &ImageBuild) -> EventKind {
    match build.kind {
        ImageKind::Docker => EventKind::DockerImage,
        ImageKind::Cmd => EventKind::CmdImage,
    }
}

/// The events of an image build and its stages. They are complete except for their place in a
/// trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSpans {
    pub build: ImageBuildRef,
    /// The span of the build as the root of a trace of its own.
    root: Span,
    /// The build, then its stages, without the fields of the trace and those after them.
    events: Vec<Event>,
    /// The fields that follow those of the trace in each event.
    trailing: Fields,
}

impl ImageSpans {
    /// Holds `events`: first the build, then its stages in order. `root` is the build's span in a
    /// trace of its own, and `trailing` ends each event.
    pub fn new(build: ImageBuildRef, root: Span, events: Vec<Event>, trailing: Fields) -> Self {
        Self { build, root, events, trailing }
    }

    /// Completes the events: as children of `update`, or as a trace of their own if the update is
    /// unknown.
    pub fn into_events(self, update: Option<&Span>) -> Vec<Event> {
        let Self { root, trailing, .. } = self;
        let trailing = Arc::new(trailing);
        let build = match update {
            Some(update) => root.child_of(update),
            None => root,
        };
        let in_trace = |(position, mut event): (usize, Event)| {
            let span = if position == 0 { build.clone() } else { Span::of_stage(&build, position) };
            span.describe(&mut event.fields);
            event.fields.end_with(&trailing);
            event
        };
        self.events.into_iter().enumerate().map(in_trace).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event::new(kind, UNIX_EPOCH, Fields::default())
    }

    fn spans() -> ImageSpans {
        let text = String::new;
        let build =
            ImageBuildRef { key: text(), resource: text(), object: text(), started_at: text() };
        let root = Span { trace_id: "own".into(), span_id: "build".into(), parent_id: None };
        let events = vec![event(EventKind::DockerImage), event(EventKind::DockerImageStage)];
        let mut trailing = Fields::default();
        trailing.set("event.version", 1);
        ImageSpans::new(build, root, events, trailing)
    }

    fn field(event: &Event, name: &str) -> String {
        event.fields.get(name).and_then(|value| value.as_str()).unwrap_or("none").to_owned()
    }

    #[test]
    fn an_image_without_an_update_is_a_trace_of_its_own() {
        let events = spans().into_events(None);
        let ids = |name| [field(&events[0], name), field(&events[1], name)];
        assert_eq!(ids("trace.trace_id"), ["own", "own"]);
        assert_eq!(ids("trace.parent_id"), ["none", "build"]);
        let names: Vec<_> = events[0].fields.names().collect();
        assert_eq!(names.last(), Some(&"event.version"), "{names:?}");
    }

    #[test]
    fn stored_spans_join_the_trace_of_their_update() {
        let update = Span { trace_id: "t".into(), span_id: "update".into(), parent_id: None };
        let alone = spans().into_events(None);
        let stored = serde_json::to_vec(&spans()).expect("JSON");
        let spans: ImageSpans = serde_json::from_slice(&stored).expect("the same spans");
        let events = spans.into_events(Some(&update));
        let ids = |name| [field(&events[0], name), field(&events[1], name)];
        assert_eq!(ids("trace.trace_id"), ["t", "t"]);
        assert_eq!(ids("trace.parent_id"), ["update", "build"]);
        for (alone, placed) in alone.iter().zip(&events) {
            assert_eq!(field(alone, "trace.span_id"), field(placed, "trace.span_id"));
        }
    }
}

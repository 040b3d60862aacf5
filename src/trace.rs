//! Span ids. All derive from the session and Tilt's own ids, so that a re-send repeats them and
//! a child knows its parent's id before the parent has ended. Pure.

use crate::event::Fields;
use crate::ids;
use crate::memory::UpdateId;
use crate::model::ImageBuild;

/// OpenTelemetry's lengths, in hex digits.
const TRACE_DIGITS: usize = 32;
const SPAN_DIGITS: usize = 16;

/// A span's place in its trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: Option<String>,
}

impl Span {
    /// The root of the trace in which an environment comes up.
    pub fn of_startup(session: &str) -> Self {
        Self {
            trace_id: ids::id(&["startup", session], TRACE_DIGITS),
            span_id: ids::id(&["startup", session], SPAN_DIGITS),
            parent_id: None,
        }
    }

    /// An update is a root of its own, or a child of the startup that it belongs to.
    pub fn of_update(session: &str, resource: &str, id: &UpdateId, of_startup: bool) -> Self {
        let identity = ["update", session, resource, &id.span_id, &id.started_at];
        let span_id = ids::id(&identity, SPAN_DIGITS);
        if of_startup {
            Self { span_id, ..Self::of_startup(session).parent_of() }
        } else {
            Self { trace_id: ids::id(&identity, TRACE_DIGITS), span_id, parent_id: None }
        }
    }

    /// An image build is a child of its update; where that is not known, a root of its own.
    pub fn of_image_build(session: &str, build: &ImageBuild, update: Option<&Self>) -> Self {
        let identity = ["image", session, &build.object, &build.started_at.text];
        let span_id = ids::id(&identity, SPAN_DIGITS);
        match update {
            Some(update) => Self { span_id, ..update.parent_of() },
            None => Self { trace_id: ids::id(&identity, TRACE_DIGITS), span_id, parent_id: None },
        }
    }

    /// A stage is known by its position.
    pub fn of_stage(build: &Self, position: usize) -> Self {
        let span_id = ids::id(&["stage", &build.span_id, &position.to_string()], SPAN_DIGITS);
        Self { span_id, ..build.parent_of() }
    }

    /// A child's place, but for its own id.
    fn parent_of(&self) -> Self {
        Self {
            trace_id: self.trace_id.clone(),
            span_id: String::new(),
            parent_id: Some(self.span_id.clone()),
        }
    }

    /// Sets what Honeycomb draws a waterfall from; the event's time is the span's start.
    pub fn describe(&self, fields: &mut Fields) {
        fields.set("trace.trace_id", self.trace_id.clone());
        fields.set("trace.span_id", self.span_id.clone());
        fields.say("trace.parent_id", self.parent_id.clone());
        fields.set("service.name", "tilt");
        fields.set("meta.signal_type", "trace");
    }
}

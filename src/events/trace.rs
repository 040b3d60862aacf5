//! Span ids. All derive from the session and Tilt's own ids, so that a retry sends the same ids and
//! a child can name its parent before the parent has ended. Pure.

use serde::{Deserialize, Serialize};

use crate::base::ids;
use crate::events::event::Fields;
use crate::tilt::model::{CurrentUpdate, ImageBuild, Timestamp, Update};

/// The lengths of OpenTelemetry's trace and span ids, in hex digits.
const TRACE_DIGITS: usize = 32;
const SPAN_DIGITS: usize = 16;

/// Identifies an update within its session and resource. The start is part of it because live
/// updates of a resource share one span id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateId {
    /// Tilt's `spanID`.
    pub span_id: String,
    /// As Tilt wrote it.
    pub started_at: String,
}

impl UpdateId {
    pub fn new(span_id: &str, started_at: &Timestamp) -> Self {
        Self { span_id: span_id.to_owned(), started_at: started_at.text.clone() }
    }
}

impl From<&Update> for UpdateId {
    fn from(update: &Update) -> Self {
        Self::new(&update.span_id, &update.started_at)
    }
}

impl From<&CurrentUpdate> for UpdateId {
    fn from(current: &CurrentUpdate) -> Self {
        Self::new(&current.span_id, &current.started_at)
    }
}

/// A span and its place in a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    /// `None` for the root of a trace.
    pub parent_id: Option<String>,
}

impl Span {
    /// The span of a session's startup. It is a root, or a child of the remote span that this run
    /// of Tilt is part of.
    pub fn of_startup(session: &str, remote_parent: Option<&RemoteParent>) -> Self {
        let own = || ids::id(&["startup", session], TRACE_DIGITS);
        Self {
            trace_id: remote_parent
                .map_or_else(own, |remote_parent| remote_parent.trace_id.clone()),
            span_id: ids::id(&["startup", session], SPAN_DIGITS),
            parent_id: remote_parent.map(|remote_parent| remote_parent.span_id.clone()),
        }
    }

    /// The span of an update. It is a root, or a child of the startup that it belongs to.
    pub fn of_update(session: &str, resource: &str, id: &UpdateId, startup: Option<&Self>) -> Self {
        let root = Self::root(&["update", session, resource, &id.span_id, &id.started_at]);
        match startup {
            Some(startup) => root.child_of(startup),
            None => root,
        }
    }

    /// The span of the rollout that follows an update.
    pub fn of_rollout(update: &Self) -> Self {
        Self::root(&["rollout", &update.span_id]).child_of(update)
    }

    /// The span of an image build as a root. See [`Span::child_of`] for a known update.
    pub fn of_image_build(session: &str, build: &ImageBuild) -> Self {
        Self::root(&["image", session, &build.object, &build.started_at.text])
    }

    /// The span of a build's stage, which its position from 1 identifies.
    pub fn of_stage(build: &Self, position: usize) -> Self {
        Self::root(&["stage", &build.span_id, &position.to_string()]).child_of(build)
    }

    fn root(identity: &[&str]) -> Self {
        Self {
            trace_id: ids::id(identity, TRACE_DIGITS),
            span_id: ids::id(identity, SPAN_DIGITS),
            parent_id: None,
        }
    }

    /// Moves the span into the trace of `parent`. Its own id stays the same.
    #[must_use]
    pub fn child_of(self, parent: &Self) -> Self {
        Self {
            trace_id: parent.trace_id.clone(),
            span_id: self.span_id,
            parent_id: Some(parent.span_id.clone()),
        }
    }

    /// Sets the fields that Honeycomb draws a trace from. The time of the event is the start of the
    /// span. See <https://docs.honeycomb.io/send-data/tracing/>.
    pub fn describe(&self, fields: &mut Fields) {
        fields.set("trace.trace_id", self.trace_id.clone());
        fields.set("trace.span_id", self.span_id.clone());
        fields.set_some("trace.parent_id", self.parent_id.clone());
        fields.set("meta.signal_type", "trace");
    }
}

/// The span of a CI pipeline that a run of `tilt ci` is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteParent {
    pub trace_id: String,
    pub span_id: String,
}

impl RemoteParent {
    /// Parses `TRACEPARENT` in the form of W3C's Trace Context: `00-TRACE-SPAN-FLAGS`.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let [version, trace_id, span_id, flags] = std::array::from_fn(|_| parts.next());
        let is_hex = |text: &str, digits| {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == digits && text.bytes().all(is_digit)
        };
        let is_id = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|b| b != b'0');
        let version = version.filter(|version| is_hex(version, 2) && *version != "ff")?;
        // A later version may have more parts.
        if !is_hex(flags?, 2) || version == "00" && parts.next().is_some() {
            return None;
        }
        let (trace_id, span_id) = (trace_id?, span_id?);
        (is_id(trace_id, TRACE_DIGITS) && is_id(span_id, SPAN_DIGITS))
            .then(|| Self { trace_id: trace_id.to_owned(), span_id: span_id.to_owned() })
    }

    /// Parses `HONEYCOMB_TRACE` as Honeycomb's buildevents sets it:
    /// `1;trace_id=..,parent_id=..,context=..`. The ids may be any printable ASCII of at most 256
    /// bytes.
    pub fn from_honeycomb_trace(text: &str) -> Option<Self> {
        let (version, rest) = text.trim().split_once(';')?;
        let value = |name: &str| {
            let found = rest.split(',').filter_map(|pair| pair.split_once('='));
            let value = found.into_iter().find(|(key, _)| *key == name)?.1;
            let is_id = !value.is_empty()
                && value.len() <= 256
                && value.bytes().all(|byte| byte.is_ascii_graphic());
            is_id.then(|| value.to_owned())
        };
        let (trace_id, span_id) = (value("trace_id")?, value("parent_id")?);
        (version == "1").then_some(Self { trace_id, span_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn remote_parent(trace_id: &str, span_id: &str) -> RemoteParent {
        RemoteParent { trace_id: trace_id.into(), span_id: span_id.into() }
    }

    #[test]
    fn a_traceparent_is_parsed_strictly() {
        for text in [format!("00-{TRACE}-{SPAN}-01"), format!("01-{TRACE}-{SPAN}-00-more")] {
            assert_eq!(
                RemoteParent::from_traceparent(&text),
                Some(remote_parent(TRACE, SPAN)),
                "{text}"
            );
        }
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{SPAN}-{TRACE}-01"),
        ] {
            assert_eq!(RemoteParent::from_traceparent(&text), None, "{text}");
        }
    }

    #[test]
    fn a_honeycomb_trace_may_have_ids_of_any_form() {
        let text = "1;dataset=ci,trace_id=build-1514,parent_id=step-7,context=e30=";
        assert_eq!(
            RemoteParent::from_honeycomb_trace(text),
            Some(remote_parent("build-1514", "step-7"))
        );
        for text in
            ["", "1;", "2;trace_id=a,parent_id=b", "1;trace_id=a", "1;trace_id=,parent_id=b"]
        {
            assert_eq!(RemoteParent::from_honeycomb_trace(text), None, "{text}");
        }
    }

    #[test]
    fn a_startup_in_another_trace_keeps_its_own_span_id() {
        let alone = Span::of_startup("s", None);
        let within = Span::of_startup("s", Some(&remote_parent(TRACE, SPAN)));
        assert_eq!((alone.parent_id, alone.trace_id.len()), (None, 32));
        assert_eq!(within.span_id, alone.span_id);
        assert_eq!((within.trace_id.as_str(), within.parent_id.as_deref()), (TRACE, Some(SPAN)));
    }
}

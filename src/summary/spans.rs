//! The events of one observation as typed spans. Pure.
//!
//! The derivation is the one that Honeycomb's events come from, so a summary shows the same numbers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::events::common_fields::Context;
use crate::events::derive::derive;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::{Backlog, Heartbeats, Observation, Phase};
use crate::events::startup;
use crate::events::tracker::SessionTracker;

/// Finished or running work: an update, an image build, a stage or a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedSpan {
    pub kind: EventKind,
    /// The resource, the image or the label of the stage.
    pub name: String,
    /// Empty if Tilt shows none.
    pub resource: String,
    pub id: String,
    pub parent_id: Option<String>,
    pub start: SystemTime,
    /// `None` while it goes on.
    pub took: Option<Duration>,
    /// The class of the failure, and the exit code if it is known. `None` without a failure.
    pub failure: Option<String>,
    /// Whether it belongs to the first update of its resource. `None` if that is unknown.
    pub is_initial: Option<bool>,
    /// A stage whose result came from a cache.
    pub is_cached: bool,
    /// The resources that the update waited for, joined by commas.
    pub waited_for: Option<String>,
}

/// The content of one observation.
#[derive(Debug, Default)]
pub struct ObservedSpans {
    /// In the order of their starts.
    pub spans: Vec<TimedSpan>,
    /// The fields of the `startup` event. `None` if the start was not observed and Tilt no longer
    /// shows it.
    pub startup: Option<Fields>,
    /// The fields of the `session` event.
    pub session: Option<Fields>,
    /// Why resources are down at run time, by name.
    pub runtime_failures: BTreeMap<String, String>,
    /// The record of the session, including this observation.
    pub tracker: SessionTracker,
}

impl ObservedSpans {
    /// Derives the spans of an observation. `tracker` holds what a collector remembers of the
    /// session; it is empty without one. `now` is the time of the observation.
    pub fn of(
        observation: &Observation,
        mut tracker: SessionTracker,
        context: &Context,
        now: SystemTime,
    ) -> Self {
        let mut observed = Self::default();
        for event in events(observation, &mut tracker, context, now) {
            observed.add(event);
        }
        if observed.startup.is_none() {
            observed.startup = past_startup(observation, context, now);
        }
        observed.spans.sort_by_key(|span| span.start);
        observed.tracker = tracker;
        observed
    }

    fn add(&mut self, event: Event) {
        match event.kind {
            EventKind::Startup => self.startup = Some(event.fields),
            EventKind::Session => self.session = Some(event.fields),
            EventKind::UiResource => {
                if let (Some(name), Some(failure)) = (text(&event, "name"), failure(&event)) {
                    self.runtime_failures.insert(name, failure);
                }
            }
            _ => self.spans.push(TimedSpan::of(&event)),
        }
    }
}

/// Derives the events of an observation. Updates that are in progress are included.
fn events(
    observation: &Observation,
    tracker: &mut SessionTracker,
    context: &Context,
    now: SystemTime,
) -> Vec<Event> {
    let phase = match observation.phase {
        // Only a last observation shows updates in progress.
        Phase::Running => Phase::Leaving,
        phase => phase,
    };
    let observation = Observation { phase, heartbeats: Heartbeats::All, ..*observation };
    let reported = BTreeMap::new();
    let backlog = Backlog { queued: 0, dropped: 0, orphan_images: Vec::new(), reported: &reported };
    let derived = derive(&observation, &backlog, tracker, context, now);
    let builds = derived.builds.into_iter().flat_map(|build| build.events);
    let provisional = derived.provisional.into_iter().map(|provisional| provisional.event);
    builds.chain(provisional).chain(derived.heartbeats).collect()
}

/// The fields of a start that ended long ago, if nothing has changed since. It is derived as if the
/// observation had been made at the latest time at which a start is still measured. A resource that
/// has changed later then keeps the start from being complete.
fn past_startup(observation: &Observation, context: &Context, now: SystemTime) -> Option<Fields> {
    let then = now.min(observation.tilt_started_at()?.at + startup::TIMEOUT);
    let events = events(observation, &mut SessionTracker::default(), context, then);
    let startup = events.into_iter().find(|event| event.kind == EventKind::Startup)?.fields;
    (startup.get("ended_by").and_then(Value::as_str) == Some("settled")).then_some(startup)
}

impl TimedSpan {
    fn of(event: &Event) -> Self {
        let flag = |name| event.fields.get(name).and_then(Value::as_bool);
        let resource = match event.kind {
            EventKind::Update | EventKind::Rollout => "name",
            _ => "resource",
        };
        let is_incomplete = flag("incomplete") == Some(true);
        // While Tilt loads its Tiltfile, it shows every resource as waiting, which says nothing.
        let is_reload = text(event, "waiting_reason").as_deref() == Some("tiltfile-reload");
        Self {
            kind: event.kind,
            name: text(event, "name").unwrap_or_default(),
            resource: text(event, resource).unwrap_or_default(),
            id: text(event, "trace.span_id").unwrap_or_default(),
            parent_id: text(event, "trace.parent_id"),
            start: event.time,
            took: millis(&event.fields, "duration_ms").filter(|_| !is_incomplete),
            failure: failure(event),
            is_initial: flag("initial"),
            is_cached: flag("cached") == Some(true),
            waited_for: text(event, "waiting_on").filter(|_| !is_reload),
        }
    }

    /// When it ended. `None` while it goes on.
    pub fn end(&self) -> Option<SystemTime> {
        Some(self.start + self.took?)
    }

    pub fn is_image_build(&self) -> bool {
        matches!(self.kind, EventKind::DockerImage | EventKind::CmdImage)
    }

    pub fn is_child_of(&self, parent: &Self) -> bool {
        self.parent_id.as_ref() == Some(&parent.id)
    }
}

/// A duration that a field holds in milliseconds.
pub fn millis(fields: &Fields, name: &str) -> Option<Duration> {
    let millis = fields.get(name)?.as_f64()?;
    Duration::try_from_secs_f64(millis / 1000.0).ok()
}

fn text(event: &Event, name: &str) -> Option<String> {
    event.fields.get(name)?.as_str().map(str::to_owned)
}

/// The class of a failure and the exit code: `command_failed, exit code 7`. Never the text of the
/// error, which may hold secrets.
fn failure(event: &Event) -> Option<String> {
    let class = text(event, "error.type")?;
    let code = event.fields.get("exit_code").and_then(Value::as_i64);
    Some(code.map_or_else(|| class.clone(), |code| format!("{class}, exit code {code}")))
}

//! The heartbeats: one `uiresource` event for each resource, and one `session` event. Pure.

use crate::base::ids;
use crate::events::derivation::Derivation;
use crate::events::derived::Build;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::{Heartbeats, PreviousStatus};
use crate::events::outcome::outcome;
use crate::events::startup;
use crate::tilt::health::{Health, count_by_health};
use crate::tilt::model::{Outcome, Resource, ResourceType};

impl Derivation<'_> {
    /// Derives the heartbeats that the observation asks for.
    pub fn derive_statuses(&mut self) {
        let observation = self.observation;
        match observation.heartbeats {
            Heartbeats::All => {
                for resource in observation.resources {
                    self.derive_resource_status(resource, None);
                }
                if observation.session.is_some() || !observation.resources.is_empty() {
                    let event = self.session_event();
                    self.add_status(self.final_session_key(), event);
                }
            }
            Heartbeats::Changed(changes) => {
                for change in changes {
                    let mut resources = observation.resources.iter();
                    if let Some(resource) = resources.find(|r| r.name == change.name) {
                        self.derive_resource_status(resource, Some(change));
                    }
                }
            }
        }
    }

    fn derive_resource_status(&mut self, resource: &Resource, previous: Option<&PreviousStatus>) {
        let event = self.resource_event(resource, previous);
        self.add_status(final_resource_key(resource), event);
    }

    /// Adds a status. A final one counts as a build, so that it is sent once even if both a
    /// sidecar and a later `--snapshot` report it.
    fn add_status(&mut self, final_key: String, event: Event) {
        if self.observation.is_over() {
            self.derived.builds.push(Build { key: final_key, events: vec![event] });
        } else {
            self.derived.heartbeats.push(event);
        }
    }

    fn resource_event(&mut self, resource: &Resource, previous: Option<&PreviousStatus>) -> Event {
        let mut fields = self.common.leading.clone();
        fields.set("name", resource.name.clone());
        fields.set_some("runtime_status", resource.runtime_status.clone());
        fields.set_some("update_status", resource.update_status.clone());
        fields.set("kind", EventKind::UiResource.as_str());
        if let Some(previous) = previous {
            fields.set_some("previous_runtime_status", previous.runtime_status.clone());
            fields.set_some("previous_update_status", previous.update_status.clone());
        }
        fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
        fields.set_list("labels", &resource.labels);
        self.set_readiness(&mut fields, resource);
        fields.set_some("disabled", resource.disabled);
        let trigger_mode = resource.has_status().then(|| trigger_mode(resource.trigger_mode));
        fields.set_some("trigger_mode", trigger_mode.flatten());
        if let Some(waiting) = &resource.waiting {
            fields.set_some("waiting_reason", waiting.reason.clone());
            fields.set_list("waiting_on", &waiting.on);
        }
        fields.set_some("pod_status", resource.pod_status.clone());
        fields.set_some("pod_restarts", resource.pod_restarts);
        fields.set_some("health_status", resource.health_status.clone());
        fields.extend(&self.common.trailing);
        Event { kind: EventKind::UiResource, time: self.now, fields }
    }

    fn set_readiness(&mut self, fields: &mut Fields, resource: &Resource) {
        let ready = resource.ready.as_ref();
        fields.set_some("ready", ready.map(|ready| ready.holds));
        fields.set_some("up_to_date", resource.up_to_date.as_ref().map(|current| current.holds));
        fields.set_some("ready_reason", ready.and_then(|ready| ready.reason.clone()));
        let since = ready.and_then(|ready| ready.since.as_ref());
        fields
            .set_ms("in_state_ms", since.and_then(|since| self.now.duration_since(since.at).ok()));
        if self.tracker.awaits_first_ready(resource) {
            let started_at = self.observation.tilt_started_at();
            let time_to_ready = startup::time_to_ready(resource, started_at);
            fields.set_ms("time_to_ready_ms", time_to_ready);
            if time_to_ready.is_some() {
                self.tracker.mark_first_ready_reported(resource);
            }
        }
    }

    /// The environment as a whole.
    fn session_event(&self) -> Event {
        let observation = self.observation;
        let counts = count_by_health(self.counted_resources());
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Session.as_str());
        fields.set("resources", self.counted_resources().count());
        for health in Health::ALL {
            fields.set(count_field(health), counts.get(health));
        }
        fields.set("healthy", counts.get(Health::Error) == 0);
        if observation.is_over() {
            fields.set_some(
                "outcome",
                outcome(observation, self.tracker, &self.context.collector).map(Outcome::as_str),
            );
        }
        let started_at = observation.tilt_started_at();
        let uptime = started_at.and_then(|start| self.now.duration_since(start.at).ok());
        fields.set_ms("uptime_ms", uptime);
        fields.set("missed_builds", self.tracker.missed_builds(observation.resources));
        fields.set("queued", self.backlog.queued);
        fields.set("dropped", self.backlog.dropped);
        fields.set_some("send_error", observation.send_error);
        fields.extend(&self.common.trailing);
        Event { kind: EventKind::Session, time: self.now, fields }
    }

    /// Identifies the final status of the session.
    fn final_session_key(&self) -> String {
        let counts = count_by_health(self.counted_resources()).in_order();
        let counts = counts.map(|count| count.to_string()).join(",");
        let outcome = self.tracker.outcome.map_or("", Outcome::as_str);
        ids::id(&["final session", outcome, &counts], 16)
    }
}

/// Identifies the final status of a resource within its session.
fn final_resource_key(resource: &Resource) -> String {
    let [update, runtime] = [&resource.update_status, &resource.runtime_status]
        .map(|status| status.as_deref().unwrap_or_default());
    ids::id(&["final uiresource", &resource.name, update, runtime], 16)
}

/// The field that holds the number of resources with this health.
fn count_field(health: Health) -> &'static str {
    match health {
        Health::Ok => "resources_ok",
        Health::Error => "resources_error",
        Health::Pending => "resources_pending",
        Health::InProgress => "resources_in_progress",
        Health::Idle => "resources_idle",
        Health::Disabled => "resources_disabled",
    }
}

/// Names a `TriggerMode` of Tilt's `pkg/model`. Tilt omits 0, which is `auto`.
fn trigger_mode(mode: Option<i64>) -> Option<&'static str> {
    match mode.unwrap_or(0) {
        0 => Some("auto"),
        1 => Some("manual_with_auto_init"),
        2 => Some("manual"),
        3 => Some("auto_with_manual_init"),
        _ => None,
    }
}

//! The heartbeats: `uiresource` events, which are folded, and the `session` event. Pure.

use std::collections::HashSet;

use crate::base::ids;
use crate::base::time::from_unix_micros;
use crate::events::derivation::Derivation;
use crate::events::derived::Build;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::{Heartbeats, ResourceStatus};
use crate::events::startup;
use crate::tilt::model::{Resource, ResourceType};

impl Derivation<'_> {
    /// Derives the heartbeats that the observation asks for, and a `session` event as soon as the
    /// state of the session changes.
    pub fn derive_statuses(&mut self) {
        let resources = self.observation.resources;
        match self.observation.heartbeats {
            Heartbeats::All => {
                for resource in resources {
                    self.derive_resource_status(resource);
                }
            }
            Heartbeats::Changed(names) => {
                for resource in resources.iter().filter(|r| names.contains(&r.name)) {
                    self.derive_resource_status(resource);
                }
            }
        }
        self.release_pending_reports();
        self.derive_session();
    }

    /// Tilt shows a resource before it gives it a status. Such a resource has no event.
    fn derive_resource_status(&mut self, resource: &Resource) {
        if !resource.has_status() || self.is_recorded_end(resource) {
            return;
        }
        let event = self.resource_event(resource);
        if self.observation.is_over() {
            // A final status counts as a build, so that it is sent once even if both a sidecar and
            // a later `--snapshot` report it.
            let key = final_resource_key(resource);
            self.derived.builds.push(Build { key, events: vec![event] });
        } else {
            let is_last = self.observation.is_last();
            let limit = if is_last { 1 } else { self.observation.heartbeat_fold };
            let events = self.tracker.fold_report(resource, event, limit);
            self.derived.heartbeats.extend(events);
        }
    }

    /// True if the end of the session was recorded before with this status. It is recorded again if an
    /// error left it unknown whether the record is on disk.
    fn is_recorded_end(&self, resource: &Resource) -> bool {
        let is_past = self.observation.seen_at.is_some() && !self.observation.is_over();
        is_past && self.tracker.reported_status(resource) == Some(&ResourceStatus::of(resource))
    }

    /// Sends the pending reports of the resources that will not be reported again.
    fn release_pending_reports(&mut self) {
        let is_last = self.observation.is_last();
        let reported = self.observation.resources.iter().filter(|r| r.has_status() && !is_last);
        let reported: HashSet<_> = reported.map(|resource| resource.name.as_str()).collect();
        let events = self.tracker.take_pending_reports(|name| !reported.contains(name));
        self.derived.heartbeats.extend(events);
    }

    fn resource_event(&mut self, resource: &Resource) -> Event {
        let mut fields = self.common.leading.clone();
        fields.set("name", resource.name.clone());
        fields.set_some("runtime_status", resource.runtime_status.clone());
        fields.set_some("update_status", resource.update_status.clone());
        fields.set("kind", EventKind::UiResource.as_str());
        fields.set_some("collector", (resource.name == self.context.collector).then_some(true));
        self.set_previous(&mut fields, resource);
        fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
        fields.set_list("labels", &resource.labels);
        self.set_readiness(&mut fields, resource);
        fields.set_some("disabled", resource.disabled);
        fields.set_some("trigger_mode", trigger_mode(resource.trigger_mode));
        if let Some(waiting) = &resource.waiting {
            fields.set_some("waiting_reason", waiting.reason.clone());
            fields.set_list("waiting_on", &waiting.on);
        }
        fields.set_some("pod_status", resource.pod_status.clone());
        fields.set_some("pod_restarts", resource.restarts());
        fields.set_some("health_status", resource.health_status.clone());
        self.set_runtime_failure(&mut fields, resource);
        fields.end_with(&self.common.trailing);
        Event::new(EventKind::UiResource, self.now, fields)
    }

    fn set_previous(&mut self, fields: &mut Fields, resource: &Resource) {
        let Some(previous) = self.tracker.replace_status(resource, self.now) else { return };
        fields.set_some("previous_runtime_status", previous.status.runtime_status);
        fields.set_some("previous_update_status", previous.status.update_status);
        fields.set_some("previous_pod_status", previous.status.pod_status);
        let since = from_unix_micros(previous.since);
        fields.set_ms("previous_state_ms", self.now.duration_since(since).ok());
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
}

/// Identifies the final status of a resource within its session.
fn final_resource_key(resource: &Resource) -> String {
    let [update, runtime] = [&resource.update_status, &resource.runtime_status]
        .map(|status| status.as_deref().unwrap_or_default());
    ids::id(&["final uiresource", &resource.name, update, runtime], 16)
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

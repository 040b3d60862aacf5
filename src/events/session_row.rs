//! The `session` event: the environment as a whole in one row. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::ids;
use crate::events::derivation::Derivation;
use crate::events::derived::Build;
use crate::events::environment_state::EnvironmentState;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::Heartbeats;
use crate::events::outcome::outcome;
use crate::events::tracker::Startup;
use crate::tilt::health::{Health, HealthCounts, count_by_health};
use crate::tilt::model::{Outcome, Resource};

impl Derivation<'_> {
    /// Derives the `session` event of a full report, and one for each change of the state. Sends none
    /// before Tilt shows resources.
    pub fn derive_session(&mut self) {
        if self.observation.resources.is_empty() {
            return;
        }
        let state = self.session_state();
        let is_due = match self.observation.heartbeats {
            Heartbeats::All => true,
            Heartbeats::Changed(_) => {
                self.tracker.session_state.is_some_and(|reported| reported != state)
            }
        };
        if is_due {
            let event = self.session_event(state);
            self.tracker.session_state = Some(state);
            let millis = self.time_to_healthy(state).map(|time| time.as_millis());
            let millis = millis.and_then(|millis| u64::try_from(millis).ok());
            self.tracker.time_to_healthy_ms = millis.or(self.tracker.time_to_healthy_ms);
            self.tracker.was_healthy |= state == EnvironmentState::Healthy;
            // A final status counts as a build, so that it is sent once even if both a sidecar and
            // a later `--snapshot` report it.
            if self.observation.is_over() {
                let key = self.final_session_key();
                self.derived.builds.push(Build { key, events: vec![event] });
            } else {
                self.derived.heartbeats.push(event);
            }
        }
    }

    fn session_state(&self) -> EnvironmentState {
        if self.counts().get(Health::Error) > 0 || self.has_no_cluster() {
            return EnvironmentState::Unhealthy;
        }
        let blocked = self.blocked();
        let is_stuck =
            |resource: &Resource| is_unready(resource) && !blocked.contains(resource.name.as_str());
        if self.gave_up() && self.counted_resources().any(is_stuck) {
            return EnvironmentState::Unhealthy;
        }
        let is_busy = |resource: &Resource| {
            matches!(Health::of(resource), Health::Pending | Health::InProgress)
                && !blocked.contains(resource.name.as_str())
        };
        if self.is_starting() {
            EnvironmentState::Starting
        } else if self.counted_resources().any(is_busy) {
            EnvironmentState::Updating
        } else {
            EnvironmentState::Healthy
        }
    }

    fn counts(&self) -> HealthCounts {
        count_by_health(self.counted_resources())
    }

    /// A start-up cannot be measured without the time of Tilt's start.
    fn is_starting(&self) -> bool {
        match self.tracker.startup {
            Startup::NotObserved => self.observation.tilt_started_at().is_some(),
            Startup::InProgress { .. } => true,
            Startup::Missed | Startup::Finished { .. } => false,
        }
    }

    /// True if the start-up timed out and the environment has not been healthy since, or if `tilt ci`
    /// has failed.
    fn gave_up(&self) -> bool {
        let timed_out = matches!(self.tracker.startup, Startup::Finished { timed_out: true, .. });
        let run_failed = matches!(self.tracker.outcome, Some(Outcome::Failure | Outcome::Timeout));
        (timed_out && !self.tracker.was_healthy) || (run_failed && self.observation.is_over())
    }

    fn has_no_cluster(&self) -> bool {
        self.observation.cluster().is_some_and(|cluster| cluster.is_unavailable)
    }

    /// The resources that cannot begin: they wait, directly or indirectly, for one that is disabled or
    /// was never started.
    fn blocked(&self) -> BTreeSet<&str> {
        let resources = self.observation.resources;
        let is_off = |r: &&Resource| matches!(Health::of(r), Health::Idle | Health::Disabled);
        let mut blocked: BTreeSet<_> =
            resources.iter().filter(is_off).map(|r| r.name.as_str()).collect();
        loop {
            let known = blocked.len();
            for resource in resources {
                if resource.waits_for_any_of(&blocked) {
                    blocked.insert(&resource.name);
                }
            }
            if blocked.len() == known {
                return blocked;
            }
        }
    }

    /// The time from Tilt's start until the environment was first healthy. `None` if the collector
    /// came too late to know that.
    fn time_to_healthy(&self, state: EnvironmentState) -> Option<Duration> {
        let is_first = state == EnvironmentState::Healthy && !self.tracker.was_healthy;
        if !is_first || self.tracker.startup == Startup::Missed {
            return None;
        }
        self.now.duration_since(self.observation.tilt_started_at()?.at).ok()
    }

    fn session_event(&self, state: EnvironmentState) -> Event {
        let observation = self.observation;
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Session.as_str());
        fields.set("state", state.as_str());
        fields.set_some("healthy", state.is_healthy());
        fields.set_ms("time_to_healthy_ms", self.time_to_healthy(state));
        self.set_counts(&mut fields);
        self.set_cluster(&mut fields);
        if observation.is_over() {
            let outcome = outcome(observation, self.tracker, &self.context.collector);
            fields.set_some("outcome", outcome.map(Outcome::as_str));
        }
        let started_at = observation.tilt_started_at();
        let uptime = started_at.and_then(|start| self.now.duration_since(start.at).ok());
        fields.set_ms("uptime_ms", uptime);
        fields.set("missed_builds", self.tracker.missed_builds(observation.resources));
        fields.set("queued", self.backlog.queued);
        fields.set("dropped", self.backlog.dropped);
        fields.set_some("send_error", observation.send_error);
        fields.end_with(&self.common.trailing);
        Event::new(EventKind::Session, self.now, fields)
    }

    fn set_counts(&self, fields: &mut Fields) {
        let counts = self.counts();
        fields.set("resources", self.counted_resources().count());
        for health in Health::ALL {
            fields.set(count_field(health), counts.get(health));
        }
        let unready = self.counted_resources().filter(|resource| is_unready(resource));
        fields.set_names("unready", unready.map(|resource| resource.name.clone()).collect());
    }

    fn set_cluster(&self, fields: &mut Fields) {
        let Some(cluster) = self.observation.cluster() else { return };
        fields.set_some("cluster.product", cluster.product.clone());
        fields.set_some("cluster.version", cluster.version.clone());
        fields.set_some("cluster.arch", cluster.arch.clone());
        if cluster.is_unavailable {
            fields.set("error", true);
            fields.set("error.type", "cluster_unavailable");
        }
    }

    /// Identifies the final status of the session.
    fn final_session_key(&self) -> String {
        let counts = self.counts().in_order().map(|count| count.to_string()).join(",");
        let outcome = self.tracker.outcome.map_or("", Outcome::as_str);
        ids::id(&["final session", outcome, &counts], 16)
    }
}

/// True if the resource starts automatically and is not ready. Tilt before 0.23.2 has no condition
/// `Ready`.
fn is_unready(resource: &Resource) -> bool {
    let is_ready = match &resource.ready {
        Some(ready) => ready.holds,
        None => Health::of(resource) == Health::Ok,
    };
    resource.starts_automatically() && !is_ready
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::common_fields::Context;
    use crate::events::derive::derive;
    use crate::events::observation::{Backlog, Observation};
    use crate::events::tracker::SessionTracker;
    use crate::tilt::model::{Condition, ResourceType, Session, Snapshot, Timestamp, Waiting};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2026-11-22T15:{text}Z")).expect(text)
    }

    fn resource(name: &str, update_status: &str) -> Resource {
        let holds = update_status == "ok";
        Resource {
            name: name.into(),
            update_status: Some(update_status.into()),
            ready: Some(Condition { holds, reason: None, since: Some(at("00:05")) }),
            ..Resource::default()
        }
    }

    fn snapshot(resources: &[Resource]) -> Snapshot {
        let session = Session { tilt_started_at: Some(at("00:00")), ..Session::default() };
        Snapshot { session: Some(session), resources: resources.to_vec(), ..Snapshot::default() }
    }

    /// The `session` events of an observation at this time.
    fn sessions(
        tracker: &mut SessionTracker,
        resources: &[Resource],
        changed: Option<&[String]>,
        now: &str,
    ) -> Vec<Fields> {
        let snapshot = snapshot(resources);
        let heartbeats = changed.map_or(Heartbeats::All, Heartbeats::Changed);
        let observation = Observation { heartbeats, ..Observation::at(&snapshot) };
        let reported = BTreeMap::new();
        let backlog =
            Backlog { queued: 0, dropped: 0, orphan_images: Vec::new(), reported: &reported };
        let context = Context { collector: "honeycomb-collector".into(), ..Context::default() };
        let derived = derive(&observation, &backlog, tracker, &context, at(now).at);
        let sessions = derived.heartbeats.into_iter().filter(|e| e.kind == EventKind::Session);
        sessions.map(|event| event.fields).collect()
    }

    fn session(tracker: &mut SessionTracker, resources: &[Resource], now: &str) -> Fields {
        sessions(tracker, resources, None, now).remove(0)
    }

    fn text(fields: &Fields, name: &str) -> String {
        fields.get(name).map_or_else(String::new, |value| {
            serde_json::to_string(value).expect("JSON").trim_matches('"').to_owned()
        })
    }

    fn tiltfile() -> Resource {
        let resource_type = Some(ResourceType::Tiltfile);
        Resource { resource_type, ..resource("(Tiltfile)", "ok") }
    }

    #[test]
    fn a_start_has_no_health_until_it_is_over() {
        let tracker = &mut SessionTracker::default();
        for (now, status, state, healthy) in [
            ("00:03", "in_progress", "starting", ""),
            ("00:09", "ok", "healthy", "true"),
            ("01:00", "in_progress", "updating", "true"),
            ("02:00", "error", "unhealthy", "false"),
        ] {
            let fields = session(tracker, &[tiltfile(), resource("web", status)], now);
            assert_eq!(text(&fields, "state"), state, "{now}");
            assert_eq!(text(&fields, "healthy"), healthy, "{now}");
        }
    }

    #[test]
    fn an_error_during_the_start_is_unhealthy() {
        let tracker = &mut SessionTracker::default();
        let resources = [tiltfile(), resource("a", "error"), resource("b", "in_progress")];
        assert_eq!(text(&session(tracker, &resources, "00:03"), "state"), "unhealthy");
    }

    #[test]
    fn the_time_to_healthy_is_sent_once_and_includes_a_fix() {
        let tracker = &mut SessionTracker::default();
        let times: Vec<_> = [
            ("00:03", "in_progress"),
            ("00:09", "error"),
            ("00:30", "ok"),
            ("00:40", "error"),
            ("00:50", "ok"),
        ]
        .map(|(now, status)| {
            let fields = session(tracker, &[tiltfile(), resource("web", status)], now);
            text(&fields, "time_to_healthy_ms")
        })
        .to_vec();
        assert_eq!(times, ["", "", "30000.0", "", ""]);
    }

    #[test]
    fn a_start_that_was_missed_has_no_time_to_healthy() {
        let tracker = &mut SessionTracker::default();
        let fields = session(tracker, &[tiltfile(), resource("web", "ok")], "20:00");
        assert_eq!(text(&fields, "state"), "healthy");
        assert_eq!(text(&fields, "time_to_healthy_ms"), "");
    }

    #[test]
    fn a_timed_out_start_is_unhealthy_until_all_is_ready() {
        let mut tracker = SessionTracker::default();
        tracker.startup = Startup::Finished { at: 0, timed_out: true };
        for (now, status, state) in [
            ("10:01", "pending", "unhealthy"),
            ("12:00", "ok", "healthy"),
            ("13:00", "in_progress", "updating"),
        ] {
            let fields = session(&mut tracker, &[tiltfile(), resource("web", status)], now);
            assert_eq!(text(&fields, "state"), state, "{now}");
        }
    }

    #[test]
    fn a_resource_that_waits_for_a_manual_one_is_not_busy() {
        let mut tracker = SessionTracker::default();
        tracker.startup = Startup::Finished { at: 0, timed_out: false };
        let waits_for = |name: &str, on: &str| {
            let reason = Some("waiting-for-dep".into());
            let waiting = Some(Waiting { reason, on: vec![on.into()] });
            Resource { waiting, ..resource(name, "pending") }
        };
        let manual = Resource { trigger_mode: Some(2), ..resource("manual", "none") };
        let resources =
            [tiltfile(), waits_for("after", "next"), manual, waits_for("next", "manual")];
        let fields = session(&mut tracker, &resources, "00:30");
        assert_eq!(text(&fields, "state"), "healthy");
        assert_eq!(text(&fields, "unready"), "after,next");
        let counts = ["resources", "resources_ok", "resources_pending", "resources_idle"];
        assert_eq!(counts.map(|name| text(&fields, name)), ["4", "1", "2", "1"]);
    }

    #[test]
    fn the_collectors_resource_is_in_no_count_and_no_state() {
        let tracker = &mut SessionTracker::default();
        let collector = resource("honeycomb-collector", "error");
        let fields = session(tracker, &[tiltfile(), collector], "20:00");
        assert_eq!(text(&fields, "state"), "healthy");
        assert_eq!(text(&fields, "resources"), "1");
        assert_eq!(text(&fields, "unready"), "");
    }

    #[test]
    fn unready_has_at_most_twenty_names() {
        let resources: Vec<_> =
            (0..30).map(|number| resource(&format!("r{number:02}"), "error")).collect();
        let fields = session(&mut SessionTracker::default(), &resources, "00:30");
        let unready = text(&fields, "unready");
        assert_eq!((unready.split(',').count(), unready.ends_with("r19")), (20, true));
    }

    #[test]
    fn a_change_of_the_state_is_sent_at_once() {
        let tracker = &mut SessionTracker::default();
        let changed = ["web".to_owned()];
        let mut states = Vec::new();
        for status in ["ok", "in_progress", "in_progress", "error"] {
            let changed = (!states.is_empty()).then_some(&changed[..]);
            let rows = sessions(tracker, &[tiltfile(), resource("web", status)], changed, "20:00");
            states.push(rows.iter().map(|row| text(row, "state")).collect::<String>());
        }
        assert_eq!(states, ["healthy", "updating", "", "unhealthy"]);
    }
}

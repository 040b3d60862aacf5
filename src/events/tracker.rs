//! Remembers one run of Tilt, to interpret its next observation: the progress of the startup, the builds
//! that were missed, and each resource ([`resource_history`](crate::events::resource_history)). Pure. The
//! state stores it, so a restart of the collector changes nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::build_numbers::BuildNumbers;
use crate::events::environment_state::EnvironmentState;
use crate::events::event::Event;
use crate::events::image_spans::ImageBuildRef;
use crate::events::observation::ResourceStatus;
use crate::events::open_rollout::OpenRollout;
use crate::events::resource_history::{ParentUpdate, PastStatus, PastWait, ResourceHistory};
use crate::events::startup::progress::ResourceProgress;
use crate::events::trace::{RemoteParent, Span, UpdateId};
use crate::events::update_counts::UpdateCounts;
use crate::tilt::model::{ContainerFailure, Outcome, Resource, Timestamp};

/// The memory of one session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionTracker {
    pub startup: Startup,
    /// By name.
    resources: BTreeMap<String, ResourceHistory>,
    build_numbers: BuildNumbers,
    /// How the run ended: as Tilt reported it, or else as `--outcome` passed it.
    pub outcome: Option<Outcome>,
    /// The span that the run is part of. The collector that observes the session first sets it.
    pub remote_parent: Option<RemoteParent>,
    /// The state in the last `session` event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_state: Option<EnvironmentState>,
    /// True once a `session` event has shown the state `healthy`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub was_healthy: bool,
    /// The time from Tilt's start until the environment was first healthy, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_healthy_ms: Option<u64>,
}

/// The progress of the startup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Startup {
    /// The session was not observed yet.
    #[default]
    NotObserved,
    /// It ended before the first observation, so it cannot be measured.
    Missed,
    /// The progress of each resource, by name.
    InProgress { resources: BTreeMap<String, ResourceProgress> },
    Finished {
        /// Updates that began until then, in Unix microseconds, belong to it.
        at: u64,
        /// Time ran out before every resource was ready, had failed or could not begin.
        timed_out: bool,
    },
}

/// The starts of the updates that a resource shows, including the one that runs.
pub fn update_starts(resource: &Resource) -> impl Iterator<Item = &Timestamp> {
    let finished = resource.updates.iter().map(|update| &update.started_at);
    finished.chain(resource.current_update.iter().map(|update| &update.started_at))
}

impl SessionTracker {
    /// The span of the startup, which is the root of its trace unless the run is part of another.
    pub fn startup_span(&self, session_id: &str) -> Span {
        Span::of_startup(session_id, self.remote_parent.as_ref())
    }

    /// Records one version of a resource, before its events are derived.
    pub fn observe(&mut self, resource: &Resource) {
        for update in &resource.updates {
            self.build_numbers.insert(&update.span_id);
        }
        self.history(resource).observe(resource);
    }

    fn history(&mut self, resource: &Resource) -> &mut ResourceHistory {
        self.resources.entry(resource.name.clone()).or_default()
    }

    /// True if the resource only served before, and its current status is ambiguous: Tilt shows the
    /// same statuses for any resource that is pending or disabled.
    pub fn may_only_serve(&self, resource: &Resource) -> bool {
        self.resources.get(&resource.name).is_some_and(|known| known.may_only_serve(resource))
    }

    /// Tells whether this update is the first one of its resource. `None` if that is unknown
    /// because the first observation was too late.
    pub fn is_first(&self, resource: &Resource, id: &UpdateId) -> Option<bool> {
        self.resources.get(&resource.name)?.is_first(id)
    }

    /// How many updates of a resource were observed, and how many of them failed.
    pub fn update_counts(&self, resource: &str) -> UpdateCounts {
        self.resources.get(resource).map(|known| known.update_counts).unwrap_or_default()
    }

    /// Counts a resource as part of the startup.
    pub fn await_first_ready(&mut self, resource: &Resource) {
        let history = self.history(resource);
        history.awaits_first_ready = !history.first_ready_reported;
    }

    /// True if the time until the resource was first ready is still to be reported. False for a
    /// resource that was added or enabled after the startup: its time since Tilt's start means
    /// nothing.
    pub fn awaits_first_ready(&self, resource: &Resource) -> bool {
        self.resources.get(&resource.name).is_some_and(|known| known.awaits_first_ready)
    }

    /// Records that the time until the resource was first ready was reported.
    pub fn mark_first_ready_reported(&mut self, resource: &Resource) {
        let history = self.history(resource);
        (history.awaits_first_ready, history.first_ready_reported) = (false, true);
    }

    /// Records the status of a `uiresource` event. Returns the one before, if that was another one.
    pub fn replace_status(&mut self, resource: &Resource, now: SystemTime) -> Option<PastStatus> {
        self.history(resource).replace_status(ResourceStatus::of(resource), now)
    }

    /// Adds a report of a resource. Returns the events to send now, oldest first.
    pub fn fold_report(&mut self, resource: &Resource, report: Event, limit: u32) -> Vec<Event> {
        self.history(resource).reports.get_or_insert_default().add(report, limit)
    }

    /// Takes the events that represent the pending reports of the resources with these names.
    pub fn take_pending_reports(&mut self, is_taken: impl Fn(&str) -> bool) -> Vec<Event> {
        let taken = self.resources.iter_mut().filter(|(name, _)| is_taken(name));
        taken.filter_map(|(_, known)| known.reports.as_mut()?.take_pending()).collect()
    }

    /// The status in the last `uiresource` event of the resource.
    pub fn reported_status(&self, resource: &Resource) -> Option<&ResourceStatus> {
        Some(&self.resources.get(&resource.name)?.status.as_ref()?.status)
    }

    /// The rollout of a resource that has not ended.
    pub fn open_rollout(&self, resource: &str) -> Option<&OpenRollout> {
        self.resources.get(resource)?.rollout.as_ref()
    }

    pub fn set_open_rollout(&mut self, resource: &str, open: OpenRollout) {
        self.resources.entry(resource.to_owned()).or_default().rollout = Some(open);
    }

    /// Forgets the open rollout of a resource if it is that of this update.
    pub fn close_rollout(&mut self, resource: &str, update: &UpdateId) {
        if let Some(history) = self.resources.get_mut(resource) {
            history.rollout.take_if(|open| open.update == *update);
        }
    }

    /// Records how a container of the active pod failed.
    pub fn observe_pod(&mut self, resource: &Resource) {
        self.history(resource).observe_pod(resource);
    }

    /// How a container of the active pod last failed.
    pub fn container_failure(&self, resource: &Resource) -> Option<ContainerFailure> {
        self.resources.get(&resource.name)?.container_failure(resource)
    }

    /// Finds the update during which an image build began. Considers an update that has not ended
    /// only if `may_run`.
    pub fn parent(&mut self, build: &ImageBuildRef, may_run: bool) -> Option<ParentUpdate> {
        self.resources.get_mut(&build.resource)?.parent(build, may_run)
    }

    /// The wait of the resource that this update ended.
    pub fn waited(&self, resource: &str, id: &UpdateId) -> Option<&PastWait> {
        self.resources.get(resource)?.waited(id)
    }

    /// Records what a version of a resource waits for, after its events were derived.
    pub fn observe_waiting(&mut self, resource: &Resource) {
        self.history(resource).observe_waiting(resource);
    }

    /// True if an update that began then began during the startup. The answer for an update never
    /// changes once it was reported.
    pub fn is_during_startup(&self, started_at: &Timestamp) -> bool {
        match self.startup {
            Startup::InProgress { .. } => true,
            Startup::Finished { at, .. } => unix_micros(started_at.at) <= at,
            Startup::NotObserved | Startup::Missed => false,
        }
    }

    /// The number of builds of the session whose end was not seen. Builds that still run do not
    /// count, because their end may still be seen.
    pub fn missed_builds(&self, resources: &[Resource]) -> u64 {
        let current = resources.iter().filter_map(|resource| resource.current_update.as_ref());
        let running =
            current.filter(|update| self.build_numbers.is_missing(&update.span_id)).count();
        self.build_numbers.missing().saturating_sub(running as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::{CurrentUpdate, ResourceType, Update, Waiting};

    fn at(seconds: u32) -> Timestamp {
        Timestamp::parse(&format!("2026-11-22T15:00:{seconds:02}Z")).expect("a time")
    }

    fn update(number: u32, from: u32, to: u32) -> Update {
        Update {
            span_id: format!("build:{number}"),
            started_at: at(from),
            finished_at: at(to),
            error: None,
            warnings: 0,
        }
    }

    fn resource(updates: Vec<Update>, current: Option<(u32, u32)>) -> Resource {
        let current_update = current.map(|(number, from)| CurrentUpdate {
            span_id: format!("build:{number}"),
            started_at: at(from),
        });
        let builds_images = true;
        Resource {
            name: "web".into(),
            builds_images,
            updates,
            current_update,
            ..Resource::default()
        }
    }

    #[test]
    fn serving_is_remembered_while_pending_or_disabled() {
        let mut tracker = SessionTracker::default();
        let shows = |status: &str| Resource {
            resource_type: Some(ResourceType::Local),
            update_status: Some(status.into()),
            builds_images: false,
            ..resource(vec![update(1, 1, 2)], None)
        };
        tracker.observe(&shows("pending"));
        assert!(!tracker.may_only_serve(&shows("pending")), "not known yet");
        tracker.observe(&shows("not_applicable"));
        for status in ["pending", "none"] {
            tracker.observe(&shows(status));
            assert!(tracker.may_only_serve(&shows(status)), "{status}");
        }
        assert!(!tracker.may_only_serve(&shows("error")));
        tracker.observe(&shows("in_progress"));
        assert!(!tracker.may_only_serve(&shows("pending")), "it has a command now");
    }

    #[test]
    fn the_first_command_after_serving_is_the_first_update() {
        let shows = |status: &str, updates, current| Resource {
            resource_type: Some(ResourceType::Local),
            update_status: Some(status.into()),
            builds_images: false,
            ..resource(updates, current)
        };
        let serves = [
            shows("pending", vec![], Some((1, 1))),
            shows("not_applicable", vec![update(1, 1, 1)], None),
            shows("not_applicable", vec![update(2, 2, 2), update(1, 1, 1)], None),
        ];
        let runs = shows("in_progress", vec![update(2, 2, 2), update(1, 1, 1)], Some((3, 5)));
        let ran = shows("ok", vec![update(3, 5, 6), update(2, 2, 2)], None);
        let ran_twice = shows("ok", vec![update(4, 7, 8), update(3, 5, 6)], None);
        for (command, expected) in
            [(vec![&runs], Some(true)), (vec![&ran], Some(true)), (vec![], None)]
        {
            let mut tracker = SessionTracker::default();
            for version in serves.iter().chain(command).chain([&ran_twice]) {
                tracker.observe(version);
            }
            assert_eq!(is_first(&tracker, &ran_twice, 3, 5), expected);
            assert_eq!(is_first(&tracker, &ran_twice, 4, 7), Some(false));
            tracker.observe(&shows("not_applicable", vec![update(5, 9, 9), update(4, 7, 8)], None));
            let runs_again = shows("ok", vec![update(6, 10, 11), update(5, 9, 9)], None);
            tracker.observe(&runs_again);
            assert_eq!(is_first(&tracker, &runs_again, 6, 10), Some(false), "it ran before");
        }
    }

    fn is_first(
        tracker: &SessionTracker,
        resource: &Resource,
        number: u32,
        from: u32,
    ) -> Option<bool> {
        tracker.is_first(resource, &UpdateId::new(&format!("build:{number}"), &at(from)))
    }

    fn image(started_at: u32) -> ImageBuildRef {
        ImageBuildRef {
            key: String::new(),
            resource: "web".into(),
            object: "web:web".into(),
            started_at: at(started_at).text,
        }
    }

    fn parent(tracker: &mut SessionTracker, started_at: u32) -> Option<(String, bool)> {
        tracker
            .parent(&image(started_at), true)
            .map(|parent| (parent.id.span_id, parent.has_finished))
    }

    #[test]
    fn the_first_update_is_known_if_it_was_seen_alone() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((3, 1))));
        let later = resource(vec![update(4, 5, 6), update(3, 1, 2)], None);
        tracker.observe(&later);
        assert_eq!(is_first(&tracker, &later, 3, 1), Some(true));
        assert_eq!(is_first(&tracker, &later, 4, 5), Some(false));
    }

    #[test]
    fn the_older_of_two_updates_seen_at_once_may_be_the_first() {
        let mut tracker = SessionTracker::default();
        let late = resource(vec![update(9, 5, 6), update(7, 1, 2)], None);
        tracker.observe(&late);
        assert_eq!(is_first(&tracker, &late, 9, 5), Some(false));
        assert_eq!(is_first(&tracker, &late, 7, 1), None);
        let later = resource(vec![update(12, 11, 12), update(11, 9, 10)], None);
        tracker.observe(&later);
        assert_eq!(is_first(&tracker, &later, 12, 11), Some(false));
        assert_eq!(is_first(&tracker, &later, 11, 9), Some(false), "two preceded it");
    }

    #[test]
    fn the_newer_of_two_live_updates_is_not_the_first() {
        let live =
            |from, to| Update { span_id: "liveupdate:web:web".into(), ..update(1, from, to) };
        let late = resource(vec![live(5, 6), live(1, 2)], None);
        let mut tracker = SessionTracker::default();
        tracker.observe(&late);
        let is_first =
            |from| tracker.is_first(&late, &UpdateId::new("liveupdate:web:web", &at(from)));
        assert_eq!((is_first(5), is_first(1)), (Some(false), None));
    }

    #[test]
    fn a_wait_explains_the_update_that_ended_it() {
        let mut tracker = SessionTracker::default();
        let mut waiting = resource(vec![update(1, 1, 2)], None);
        waiting.waiting =
            Some(Waiting { reason: Some("waiting-for-dep".into()), on: vec!["db".into()] });
        let running = resource(vec![update(1, 1, 2)], Some((2, 3)));
        let done = resource(vec![update(3, 7, 8), update(2, 3, 4)], None);
        let mut disabled = waiting.clone();
        (disabled.waiting, disabled.disabled) = (None, Some(true));
        for version in [&waiting, &disabled, &running] {
            tracker.observe(version);
            tracker.observe_waiting(version);
        }
        let id = UpdateId::new("build:2", &at(3));
        assert_eq!(tracker.waited("web", &id), None, "that wait ended without an update");
        tracker = SessionTracker::default();
        for version in [&waiting, &running, &done] {
            tracker.observe(version);
            tracker.observe_waiting(version);
        }
        let reason = |number, from| {
            let id = UpdateId::new(&format!("build:{number}"), &at(from));
            tracker.waited("web", &id).and_then(|waited| waited.reason.clone())
        };
        assert_eq!(reason(1, 1), None);
        assert_eq!(reason(2, 3).as_deref(), Some("waiting-for-dep"));
        assert_eq!(reason(3, 7), None);
    }

    #[test]
    fn the_first_load_of_a_tiltfile_has_the_number_one() {
        for (number, expected) in [(1, Some(true)), (2, Some(false))] {
            let mut load = update(number, 1, 2);
            load.span_id = format!("tiltfile:(Tiltfile):{number}");
            let mut tiltfile = resource(vec![load.clone()], None);
            tiltfile.resource_type = Some(ResourceType::Tiltfile);
            let mut tracker = SessionTracker::default();
            tracker.observe(&tiltfile);
            let id = UpdateId::from(&load);
            assert_eq!(tracker.is_first(&tiltfile, &id), expected, "load {number}");
        }
    }

    #[test]
    fn the_parent_of_an_image_is_the_update_it_began_in() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![update(2, 1, 4)], Some((5, 6))));
        assert_eq!(parent(&mut tracker, 0), None);
        assert_eq!(parent(&mut tracker, 1), Some(("build:2".into(), true)));
        assert_eq!(parent(&mut tracker, 5), None);
        assert_eq!(parent(&mut tracker, 9), Some(("build:5".into(), false)));
        let elsewhere = ImageBuildRef { resource: "other".into(), ..image(1) };
        assert_eq!(tracker.parent(&elsewhere, true), None);
    }

    #[test]
    fn an_image_of_an_unseen_update_has_no_parent() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((1, 1))));
        tracker.observe(&resource(vec![update(3, 6, 7), update(2, 4, 5)], None));
        assert_eq!(parent(&mut tracker, 9), None, "the end of build:1 was not seen either");
    }

    #[test]
    fn an_update_is_the_parent_of_one_build_per_image() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((5, 6))));
        assert_eq!(parent(&mut tracker, 7), Some(("build:5".into(), false)));
        assert_eq!(parent(&mut tracker, 7), Some(("build:5".into(), false)), "shown again");
        assert_eq!(parent(&mut tracker, 9), None);
        tracker.observe(&resource(vec![update(5, 6, 8)], Some((6, 9))));
        assert_eq!(parent(&mut tracker, 9), Some(("build:6".into(), false)));
    }

    #[test]
    fn the_last_eight_updates_can_be_parents() {
        let mut tracker = SessionTracker::default();
        for number in 1..=9 {
            tracker.observe(&resource(vec![update(number, number * 5, number * 5 + 1)], None));
        }
        assert_eq!(parent(&mut tracker, 5), None);
        assert!(parent(&mut tracker, 10).is_some());
    }

    #[test]
    fn a_running_build_does_not_count_as_missed() {
        let mut tracker = SessionTracker::default();
        let running = [
            resource(Vec::new(), Some((2, 1))),
            resource(vec![update(1, 0, 1), update(3, 1, 2)], None),
        ];
        for resource in &running {
            tracker.observe(resource);
        }
        assert_eq!(tracker.missed_builds(&running), 0);
        let over = [resource(vec![update(5, 3, 4)], None)];
        tracker.observe(&over[0]);
        assert_eq!(tracker.missed_builds(&over), 2, "2 and 4");
    }
}

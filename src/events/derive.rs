//! Derives the events of one observation of Tilt. Pure; `now` is an argument.
//!
//! A derivation does not decide what is new. It returns every build that Tilt shows, with the key
//! that identifies it. A build that was reported before carries no events, and the state drops
//! the keys that it knows.

use std::time::SystemTime;

use crate::base::time::unix_micros;
use crate::events::common_fields::Context;
use crate::events::derivation::Derivation;
use crate::events::derived::{Build, DerivedEvents};
use crate::events::image_spans::ImageBuildRef;
use crate::events::observation::{Backlog, Heartbeats, Observation, Phase};
use crate::events::trace::{Span, UpdateId};
use crate::events::tracker::{SessionTracker, update_starts};
use crate::tilt::model::{ImageBuild, Resource, Timestamp};

/// Derives the events of an observation, and updates `tracker` with what the next observation
/// needs. `now` is the time of the heartbeats.
pub fn derive(
    observation: &Observation,
    backlog: &Backlog,
    tracker: &mut SessionTracker,
    context: &Context,
    now: SystemTime,
) -> DerivedEvents {
    let mut derivation = Derivation::new(observation, backlog, tracker, context, now);
    derivation.follow_startup();
    derivation.derive_builds();
    derivation.derive_rollouts();
    derivation.derive_statuses();
    derivation.derived
}

/// An image build whose update is still to be found.
struct Unparented<'a> {
    reference: ImageBuildRef,
    /// `None` for a build of the backlog. The state holds its events.
    image: Option<&'a ImageBuild>,
}

/// Which updates may be the parent of an image build.
#[derive(Clone, Copy, PartialEq)]
enum Parents {
    Finished,
    /// Includes an update that still seems to run.
    Any,
}

impl<'a> Derivation<'a> {
    fn derive_builds(&mut self) {
        let observation = self.observation;
        // Only a full report covers what Tilt shows now. Others report what a watch has shown.
        let (resources, image_builds) = match observation.heartbeats {
            Heartbeats::All => (observation.resources, observation.image_builds),
            Heartbeats::Changed(_) => Default::default(),
        };
        let mut unparented = self.unparented_images(image_builds);
        for version in observation.observed.iter().chain(resources) {
            self.derive_updates(version);
            // The tracker keeps only the last few updates, so look for parents after each version.
            // An update that runs in this version may end in the next one, before the image build
            // began. So only finished updates count here.
            unparented.retain(|build| {
                build.reference.resource != version.name
                    || !self.find_parent(build, Parents::Finished)
            });
        }
        unparented.retain(|build| !self.find_parent(build, Parents::Any));
        for build in unparented {
            self.defer(build);
        }
        if observation.phase != Phase::Running {
            self.derive_running_updates();
        }
    }

    /// Derives a provisional event for each update in progress. Its end may never be seen.
    fn derive_running_updates(&mut self) {
        for resource in self.observation.resources {
            let Some(current) = &resource.current_update else { continue };
            // An empty update only starts a server.
            if resource.only_serves() || self.tracker.may_only_serve(resource) {
                continue;
            }
            let id = UpdateId::from(current);
            let provisional = self.incomplete_update(resource, &id);
            self.derived.provisional.extend(provisional);
        }
    }

    /// The image builds to find an update for, oldest first: an update that still seems to run
    /// belongs to the build that began first after it.
    fn unparented_images(&self, image_builds: &'a [ImageBuild]) -> Vec<Unparented<'a>> {
        let observation = self.observation;
        let images = observation.completed_images.iter().chain(image_builds);
        let images = images
            .map(|image| Unparented { reference: ImageBuildRef::new(image), image: Some(image) });
        let backlog = self.backlog.orphan_images.iter();
        let backlog = backlog.map(|&orphan| Unparented { reference: orphan.clone(), image: None });
        let mut unparented: Vec<_> = images.chain(backlog).collect();
        unparented.sort_by_key(|build| {
            Timestamp::parse(&build.reference.started_at).map(|started_at| started_at.at)
        });
        unparented
    }

    fn derive_updates(&mut self, resource: &Resource) {
        self.tracker.observe(resource);
        for update in resource.updates.iter().rev() {
            let build = self.update(resource, update);
            self.derived.builds.extend(build);
        }
        self.tracker.observe_waiting(resource);
        let newest = update_starts(resource).map(|start| unix_micros(start.at)).max();
        if let Some(newest) = newest {
            // The versions of a resource may arrive out of order.
            let known = self.derived.newest_updates.entry(resource.name.clone()).or_default();
            *known = newest.max(*known);
        }
    }

    /// Reports an image build as a child of its update. Returns false if that is not known yet.
    fn find_parent(&mut self, build: &Unparented, parents: Parents) -> bool {
        let Unparented { reference, image } = build;
        let Some(update) = self.parent_span(reference, parents) else { return false };
        match image {
            Some(image) => {
                let build = self.image_build(reference.clone(), image, Some(&update));
                self.derived.builds.push(build);
            }
            None => self.derived.found_parents.push((reference.key.clone(), update)),
        }
        true
    }

    /// The span of the update that an image build belongs to. If that update still runs, this adds
    /// a provisional event for it, because no event may point to a span that never comes.
    fn parent_span(&mut self, build: &ImageBuildRef, parents: Parents) -> Option<Span> {
        let parent = self.tracker.parent(build, parents == Parents::Any)?;
        let observation = self.observation;
        let mut versions = observation.observed.iter().rev().chain(observation.resources);
        let resource = versions.find(|resource| resource.name == build.resource)?;
        if !parent.has_finished {
            let provisional = self.incomplete_update(resource, &parent.id);
            self.derived.provisional.extend(provisional);
        }
        Some(self.update_span(resource, &parent.id))
    }

    fn image_build(
        &self,
        reference: ImageBuildRef,
        image: &ImageBuild,
        update: Option<&Span>,
    ) -> Build {
        let key = reference.key.clone();
        if self.is_reported(&key) {
            return Build::without_events(key);
        }
        Build { key, events: self.image_spans(reference, image).into_events(update) }
    }

    /// Keeps an image build without an update while a watch may still show that update. Otherwise
    /// reports it as a trace of its own.
    fn defer(&mut self, build: Unparented) {
        let Unparented { reference, image: Some(image) } = build else { return };
        let mut resources = self.observation.resources.iter();
        let may_find_parent = self.observation.is_watched
            && !self.is_reported(&reference.key)
            && resources.any(|resource| resource.name == reference.resource);
        if may_find_parent {
            self.derived.orphan_images.push(self.image_spans(reference, image));
        } else {
            let build = self.image_build(reference, image, None);
            self.derived.builds.push(build);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::event::{Event, EventKind};
    use crate::tilt::model::{
        Condition, CurrentUpdate, ImageKind, Session, Snapshot, Update, Waiting,
    };

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    fn json(event: &Event) -> serde_json::Value {
        serde_json::to_value(&event.fields).expect("JSON")
    }

    fn derived(snapshot: &Snapshot, context: &Context, now: SystemTime) -> DerivedEvents {
        let backlog = Backlog {
            queued: 0,
            dropped: 0,
            orphan_images: Vec::new(),
            reported: &BTreeMap::new(),
        };
        derive(&Observation::at(snapshot), &backlog, &mut SessionTracker::default(), context, now)
    }

    #[test]
    fn a_resource_without_details_has_no_empty_fields() {
        let update_status = Some("none".into());
        let resource = Resource { name: "web".into(), update_status, ..Resource::default() };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let derived = derived(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let names: Vec<_> = derived.heartbeats[0].fields.names().collect();
        assert_eq!(
            names,
            [
                "user",
                "name",
                "update_status",
                "kind",
                "trigger_mode",
                "service.name",
                "event.version",
                "collector.version",
                "os.type",
                "host.arch",
                "host.cpu_count"
            ]
        );
    }

    #[test]
    fn a_resource_without_a_status_has_no_event() {
        let resource = Resource { name: "web".into(), ..Resource::default() };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let derived = derived(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let kinds: Vec<_> = derived.heartbeats.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Session]);
        assert_eq!(json(&derived.heartbeats[0])["resources_pending"], 1);
    }

    #[test]
    fn lists_are_sorted_and_durations_are_never_negative() {
        let resource = Resource {
            name: "web".into(),
            labels: vec!["b".into(), "a".into()],
            waiting: Some(Waiting {
                reason: Some("waiting-for-dep".into()),
                on: vec!["z".into(), "db".into()],
            }),
            ready: Some(Condition {
                holds: false,
                reason: Some("UpdatePending".into()),
                since: Some(at("2026-11-22T15:00:10Z")),
            }),
            trigger_mode: Some(2),
            update_status: Some("pending".into()),
            ..Resource::default()
        };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let before = at("2026-11-22T15:00:00Z").at;
        let after = at("2026-11-22T15:00:12.5Z").at;
        let event = json(&derived(&snapshot, &Context::default(), after).heartbeats[0]);
        assert_eq!(event["labels"], "a,b");
        assert_eq!(event["waiting_on"], "db,z");
        assert_eq!(event["ready"], false);
        assert_eq!(event["ready_reason"], "UpdatePending");
        assert_eq!(event["in_state_ms"], 2500.0);
        assert_eq!(event["trigger_mode"], "manual");
        let event = json(&derived(&snapshot, &Context::default(), before).heartbeats[0]);
        assert_eq!(event.get("in_state_ms"), None);
    }

    fn failed_build() -> Snapshot {
        let build = ImageBuild {
            kind: ImageKind::Cmd,
            object: "api:api".into(),
            image: Some("api".into()),
            tag: None,
            resource: Some("api".into()),
            started_at: at("2026-11-22T15:00:00Z"),
            finished_at: at("2026-11-22T15:00:01Z"),
            error: Some(r#"Custom build "curl -H 'token: s3cr3t'" failed: exit status 2"#.into()),
            stages: Vec::new(),
        };
        Snapshot { image_builds: vec![build], ..Snapshot::default() }
    }

    #[test]
    fn every_image_finds_its_update_in_a_burst_of_updates() {
        let clock = |second: u32| at(&format!("2026-11-22T15:00:{second:02}Z"));
        let version = |number: u32| Resource {
            name: "web".into(),
            builds_images: true,
            updates: vec![Update {
                span_id: format!("build:{number}"),
                started_at: clock(number),
                finished_at: clock(number + 1),
                error: None,
                warnings: 0,
            }],
            ..Resource::default()
        };
        let observed: Vec<_> = (1..30).map(version).collect();
        let images: Vec<_> = (1..30)
            .map(|number| ImageBuild {
                object: "web:web".into(),
                resource: Some("web".into()),
                started_at: clock(number),
                finished_at: clock(number),
                ..failed_build().image_builds.remove(0)
            })
            .collect();
        let nothing = Snapshot::default();
        let observation = Observation {
            observed: &observed,
            completed_images: &images,
            heartbeats: Heartbeats::Changed(&[]),
            is_watched: true,
            ..Observation::at(&nothing)
        };
        let backlog = Backlog {
            queued: 0,
            dropped: 0,
            orphan_images: Vec::new(),
            reported: &BTreeMap::new(),
        };
        let derived = derive(
            &observation,
            &backlog,
            &mut SessionTracker::default(),
            &Context::default(),
            clock(31).at,
        );
        assert_eq!((derived.orphan_images.len(), derived.builds.len()), (0, 2 * 29));
        let events = derived.builds.iter().flat_map(|build| &build.events);
        let images: Vec<_> = events.filter(|event| event.kind == EventKind::CmdImage).collect();
        assert!(images.iter().all(|image| image.fields.get("trace.parent_id").is_some()));
    }

    #[test]
    fn a_running_update_gets_the_older_of_two_image_builds() {
        let clock = |second: u32| at(&format!("2026-11-22T15:00:{second:02}Z"));
        let running = Resource {
            name: "web".into(),
            builds_images: true,
            current_update: Some(CurrentUpdate { span_id: "build:8".into(), started_at: clock(1) }),
            ..Resource::default()
        };
        let newer = ImageBuild {
            object: "web:web".into(),
            resource: Some("web".into()),
            started_at: clock(9),
            finished_at: clock(9),
            ..failed_build().image_builds.remove(0)
        };
        let older = ImageBuildRef {
            started_at: clock(2).text,
            key: "older".into(),
            ..ImageBuildRef::new(&newer)
        };
        let nothing = Snapshot::default();
        let observation = Observation {
            resources: std::slice::from_ref(&running),
            observed: std::slice::from_ref(&running),
            completed_images: std::slice::from_ref(&newer),
            heartbeats: Heartbeats::Changed(&[]),
            is_watched: true,
            ..Observation::at(&nothing)
        };
        let backlog = Backlog {
            queued: 0,
            dropped: 0,
            orphan_images: vec![&older],
            reported: &BTreeMap::new(),
        };
        let derived = derive(
            &observation,
            &backlog,
            &mut SessionTracker::default(),
            &Context::default(),
            clock(9).at,
        );
        assert_eq!(
            derived.found_parents.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
            ["older"]
        );
        assert_eq!(derived.orphan_images.len(), 1, "its own update may still be shown");
    }

    #[test]
    fn a_failure_has_its_class_and_its_text_only_if_enabled() {
        let without_text = derived(&failed_build(), &Context::default(), SystemTime::UNIX_EPOCH);
        let event = json(&without_text.builds[0].events[0]);
        assert_eq!(event["error"], true);
        assert_eq!(event["error.type"], "command_failed");
        assert_eq!(event["exit_code"], 2);
        assert!(!event.to_string().contains("s3cr3t"), "{event}");

        let context = Context { send_error_text: true, ..Context::default() };
        let with_text = derived(&failed_build(), &context, SystemTime::UNIX_EPOCH);
        let event = json(&with_text.builds[0].events[0]);
        assert!(event["error.message"].as_str().is_some_and(|text| text.contains("s3cr3t")));
        assert_eq!(with_text.builds[0].key, without_text.builds[0].key);
    }

    #[test]
    fn a_failed_tiltfile_load_has_the_class_tiltfile() {
        let failed = |name: &str, span_id: &str| Resource {
            name: name.into(),
            updates: vec![Update {
                span_id: span_id.into(),
                started_at: at("2026-11-22T15:00:00Z"),
                finished_at: at("2026-11-22T15:00:01Z"),
                error: Some("/home/dev/shop/Tiltfile:1:7: undefined: timeout".into()),
                warnings: 0,
            }],
            ..Resource::default()
        };
        let resources =
            vec![failed("(Tiltfile)", "tiltfile:(Tiltfile):1"), failed("web", "build:1")];
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let derived = derived(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let classes =
            derived.builds.iter().map(|build| json(&build.events[0])["error.type"].clone());
        assert_eq!(classes.collect::<Vec<_>>(), ["tiltfile", "timeout"]);
    }

    #[test]
    fn the_user_is_from_tilt_cloud_then_the_option_then_empty() {
        let option = Some("ann".to_owned());
        for (cloud, user, expected) in
            [(Some("cloud"), option.clone(), "cloud"), (None, option, "ann"), (None, None, "")]
        {
            let session =
                Session { tilt_cloud_user: cloud.map(str::to_owned), ..Session::default() };
            let snapshot = Snapshot { session: Some(session), ..failed_build() };
            let context = Context { user, ..Context::default() };
            let derived = derived(&snapshot, &context, SystemTime::UNIX_EPOCH);
            assert_eq!(json(&derived.builds[0].events[0])["user"], expected);
        }
    }
}

//! What a snapshot of Tilt says, as events.
//!
//! Deriving decides nothing about what is new: every build that Tilt shows is told with the key by
//! which it is known, one that was told of before as that key alone, and the state drops those it
//! has seen. Pure; `now` is given.

use std::time::SystemTime;

use crate::base::ids;
use crate::base::time::unix_micros;
use crate::events::common_fields::{CommonFields, Context};
use crate::events::derived::{Build, DerivedEvents, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::{Backlog, Heartbeats, Observation, Phase, PreviousStatus};
use crate::events::spans;
use crate::events::startup::{self, Course, Progress};
use crate::events::trace::Span;
use crate::events::tracker::{ImageBuildRef, SessionTracker, Startup};
use crate::tilt::health::{Health, count_by_health, unfinished};
use crate::tilt::model::{Condition, ImageBuild, Outcome, Resource, ResourceType, Timestamp};

/// Says what a look means, and takes into `memory` what the next one will need.
pub fn derive(
    observation: &Observation,
    backlog: &Backlog,
    tracker: &mut SessionTracker,
    context: &Context,
    now: SystemTime,
) -> DerivedEvents {
    if tracker.startup == Startup::NotObserved {
        tracker.remote_parent.clone_from(&context.remote_parent);
    }
    let id = session_id(observation);
    let root = tracker.root(&id);
    let common = CommonFields::new(observation.session, id, root, context);
    let is_full = matches!(observation.heartbeats, Heartbeats::All);
    let (is_watched, phase) = (observation.is_watched, observation.phase);
    let mut report = DerivedEvents { is_full, is_watched, phase, ..DerivedEvents::default() };
    if let Phase::Over(outcome) = phase {
        // What was heard from Tilt itself is known better than what a later step was told.
        tracker.outcome = tracker.outcome.or(outcome);
    }
    follow_startup(observation, &common, tracker, &mut report, now);
    // Between two reports only what has passed can be new.
    let (resources, image_builds) = match observation.heartbeats {
        Heartbeats::All => (observation.resources, observation.image_builds),
        Heartbeats::Changed(_) => Default::default(),
    };
    let images = observation
        .completed_images
        .iter()
        .chain(image_builds)
        .map(|image| (placement(image), Some(image)));
    let orphan_images = backlog.orphan_images.iter().map(|placement| (placement.clone(), None));
    let mut unparented: Vec<_> = images.chain(orphan_images).collect();
    // The oldest first: an update that still looks as if it ran belongs to the build that began
    // first after it.
    unparented.sort_by_key(|(placement, _)| Timestamp::parse(&placement.started_at).map(|t| t.at));
    for version in observation.observed.iter().chain(resources) {
        take_updates(version, backlog, &common, tracker, context, &mut report);
        // After each version, since memory keeps no more than a few updates; but what runs in one may
        // be over in the next, and before the build began.
        unparented.retain(|candidate| {
            if candidate.0.resource != version.name {
                return true;
            }
            let update =
                parent_span(&candidate.0, false, observation, &common, tracker, &mut report);
            !place(candidate, update.as_ref(), backlog, &common, context, &mut report)
        });
    }
    unparented.retain(|candidate| {
        let update = parent_span(&candidate.0, true, observation, &common, tracker, &mut report);
        !place(candidate, update.as_ref(), backlog, &common, context, &mut report)
    });
    for (placement, image) in unparented {
        if let Some(image) = image {
            let build = spans::image_build(image, None, backlog, &common, context);
            defer(placement, build, observation, &mut report);
        }
    }
    tell_statuses(observation, backlog, &common, tracker, &mut report, now);
    report
}

/// The `UISession`'s uid. Where an older Tilt shows none, what is as stable: its start and
/// Tiltfile, else the uid of the Tiltfile's own resource, which lives as long as the session.
pub fn session_id(observation: &Observation) -> String {
    let session = observation.session;
    if let Some(uid) = session.and_then(|session| session.uid.as_ref()) {
        return uid.clone();
    }
    if let Some(started_at) = session.and_then(|session| session.tilt_started_at.as_ref()) {
        let tiltfile = session.and_then(|session| session.tiltfile.as_deref()).unwrap_or_default();
        return ids::id(&["session", &started_at.text, tiltfile], 32);
    }
    let tiltfile = observation.resources.iter().find(|resource| resource.name == "(Tiltfile)");
    let uid = tiltfile.and_then(|resource| resource.uid.as_deref());
    uid.map_or_else(String::new, |uid| ids::id(&["session", uid], 32))
}

fn tilt_started_at<'a>(observation: &Observation<'a>) -> Option<&'a Timestamp> {
    observation.session.and_then(|session| session.tilt_started_at.as_ref())
}

/// How the run ended: in Tilt's own words where they were heard, else as `--outcome` says, else as
/// far as its resources tell. What had not come to rest when Tilt looked away tells nothing.
pub fn outcome(observation: &Observation, tracker: &SessionTracker) -> Option<Outcome> {
    let counts = count_by_health(observation.resources);
    tracker.outcome.or_else(|| {
        match (counts.get(Health::Error), unfinished(observation.resources)) {
            (1.., _) => Some(Outcome::Failure),
            (0, 0) if !observation.resources.is_empty() => Some(Outcome::Success),
            _ => None,
        }
    })
}

fn follow_startup(
    observation: &Observation,
    common: &CommonFields,
    tracker: &mut SessionTracker,
    report: &mut DerivedEvents,
    now: SystemTime,
) {
    let key = "startup".to_owned();
    let is_over = matches!(observation.phase, Phase::Over(_));
    let outcome = outcome(observation, tracker);
    let frame = |fields: Fields| {
        let mut framed = common.leading.clone();
        framed.set("kind", EventKind::Startup.as_str());
        framed.set("name", common.startup_name);
        framed.extend(&fields);
        if let (true, Some(outcome)) = (is_over, outcome) {
            framed.set("outcome", outcome.as_str());
            if let (Some(error_type), None) = (outcome.error_type(), framed.get("error")) {
                framed.set("error", true);
                framed.set("error.type", error_type);
            }
        }
        common.startup.describe(&mut framed);
        framed.extend(&common.trailing);
        framed
    };
    let course = match (is_over, tracker.outcome) {
        (true, Some(Outcome::Success)) => Course::Succeeded,
        (true, _) => Course::Over,
        (false, _) => Course::Running,
    };
    match startup::follow(
        tracker,
        observation.resources,
        tilt_started_at(observation),
        course,
        frame,
        now,
    ) {
        Progress::None => {}
        Progress::Provisional(event) => {
            report.provisional.push(ProvisionalEvent { key, resource: None, event });
        }
        Progress::Final(event) => report.builds.push(Build { key, events: vec![event] }),
    }
    report.poll_again_after = startup::poll_again_after(tracker).filter(|_| observation.is_watched);
}

fn take_updates(
    resource: &Resource,
    backlog: &Backlog,
    common: &CommonFields,
    tracker: &mut SessionTracker,
    context: &Context,
    report: &mut DerivedEvents,
) {
    tracker.observe(resource);
    for update in resource.updates.iter().rev() {
        report.builds.extend(spans::update(resource, update, backlog, tracker, common, context));
    }
    tracker.observe_waiting(resource);
    let finished = resource.updates.iter().map(|update| &update.started_at);
    let current = resource.current_update.iter().map(|update| &update.started_at);
    if let Some(newest) = finished.chain(current).map(|began| unix_micros(began.at)).max() {
        // Versions of it may come in another order.
        let known = report.newest.entry(resource.name.clone()).or_default();
        *known = newest.max(*known);
    }
}

fn placement(image: &ImageBuild) -> ImageBuildRef {
    ImageBuildRef {
        key: spans::image_key(image),
        resource: image.resource.clone().unwrap_or_default(),
        object: image.object.clone(),
        started_at: image.started_at.text.clone(),
    }
}

/// Puts an image build, or one of the backlog's, below its update; says whether that is known.
fn place(
    (placement, image): &(ImageBuildRef, Option<&ImageBuild>),
    update: Option<&Span>,
    backlog: &Backlog,
    common: &CommonFields,
    context: &Context,
    report: &mut DerivedEvents,
) -> bool {
    let Some(update) = update else { return false };
    match image {
        Some(image) => {
            report.builds.push(spans::image_build(image, Some(update), backlog, common, context));
        }
        None => report.placed.push((placement.key.clone(), update.clone())),
    }
    true
}

/// A build without an update waits while a watch may yet show it; otherwise it goes by itself.
fn defer(
    placement: ImageBuildRef,
    build: Build,
    observation: &Observation,
    report: &mut DerivedEvents,
) {
    let may_be_placed = observation.resources.iter().any(|r| r.name == placement.resource);
    if observation.is_watched && may_be_placed {
        report.orphan_images.push((placement, build));
    } else {
        report.builds.push(build);
    }
}

/// The span of the update that an image build belongs to; if it `may_run`, of one that seems to. Then
/// its event is promised: nothing may point to a span that never comes.
fn parent_span(
    placement: &ImageBuildRef,
    may_run: bool,
    observation: &Observation,
    common: &CommonFields,
    tracker: &mut SessionTracker,
    report: &mut DerivedEvents,
) -> Option<Span> {
    let parent = tracker.parent(placement, may_run)?;
    let mut versions = observation.observed.iter().rev().chain(observation.resources);
    let resource = versions.find(|resource| resource.name == placement.resource)?;
    if !parent.has_finished {
        report.provisional.extend(spans::unfinished_update(resource, &parent.id, tracker, common));
    }
    Some(spans::parent_span(resource, &parent, tracker, common))
}

fn tell_statuses(
    observation: &Observation,
    backlog: &Backlog,
    common: &CommonFields,
    tracker: &mut SessionTracker,
    report: &mut DerivedEvents,
    now: SystemTime,
) {
    match observation.heartbeats {
        Heartbeats::All => {
            for resource in observation.resources {
                let event = heartbeat(resource, None, observation, common, tracker, now);
                tell_status(resource_key(resource), event, observation, report);
            }
            if observation.session.is_some() || !observation.resources.is_empty() {
                let event = session_event(observation, backlog, common, tracker, now);
                tell_status(session_key(observation, tracker), event, observation, report);
            }
        }
        Heartbeats::Changed(changes) => {
            for change in changes {
                if let Some(resource) = observation.resources.iter().find(|r| r.name == change.name)
                {
                    let event =
                        heartbeat(resource, Some(change), observation, common, tracker, now);
                    tell_status(resource_key(resource), event, observation, report);
                }
            }
        }
    }
}

/// A final status is told once, whoever sees it: the sidecar's last look or a snapshot that Tilt
/// left. Any other is told at each report.
fn tell_status(key: String, event: Event, observation: &Observation, report: &mut DerivedEvents) {
    match observation.phase {
        Phase::Over(_) => report.builds.push(Build { key, events: vec![event] }),
        Phase::Running | Phase::Leaving => report.heartbeats.push(event),
    }
}

/// The key by which a resource's final status is known within its session.
fn resource_key(resource: &Resource) -> String {
    let [update, runtime] = [&resource.update_status, &resource.runtime_status]
        .map(|status| status.as_deref().unwrap_or_default());
    ids::id(&["final uiresource", &resource.name, update, runtime], 16)
}

fn session_key(observation: &Observation, tracker: &SessionTracker) -> String {
    let counts = count_by_health(observation.resources).in_order().map(|count| count.to_string());
    let outcome = tracker.outcome.map_or("", Outcome::as_str);
    ids::id(&["final session", outcome, &counts.join(",")], 16)
}

fn heartbeat(
    resource: &Resource,
    change: Option<&PreviousStatus>,
    observation: &Observation,
    common: &CommonFields,
    tracker: &mut SessionTracker,
    now: SystemTime,
) -> Event {
    let mut fields = common.leading.clone();
    fields.set("name", resource.name.clone());
    fields.set_some("runtime_status", resource.runtime_status.clone());
    fields.set_some("update_status", resource.update_status.clone());
    fields.set("kind", EventKind::UiResource.as_str());

    if let Some(change) = change {
        fields.set_some("previous_runtime_status", change.runtime_status.clone());
        fields.set_some("previous_update_status", change.update_status.clone());
    }
    fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
    fields.set_list("labels", &resource.labels);
    condition(&mut fields, "ready", resource.ready.as_ref());
    condition(&mut fields, "up_to_date", resource.up_to_date.as_ref());
    fields.set_some("ready_reason", resource.ready.as_ref().and_then(|ready| ready.reason.clone()));
    let flipped_at = resource.ready.as_ref().and_then(|ready| ready.since.as_ref());
    fields.set_ms("in_state_ms", flipped_at.and_then(|since| now.duration_since(since.at).ok()));
    if tracker.awaits(resource) {
        let time_to_ready = startup::time_to_ready(resource, tilt_started_at(observation));
        fields.set_ms("time_to_ready_ms", time_to_ready);
        if time_to_ready.is_some() {
            tracker.told_ready(resource);
        }
    }
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
    fields.extend(&common.trailing);
    Event { kind: EventKind::UiResource, time: now, fields }
}

fn condition(fields: &mut Fields, name: &'static str, condition: Option<&Condition>) {
    fields.set_some(name, condition.map(|condition| condition.holds));
}

/// The whole environment in one row.
fn session_event(
    observation: &Observation,
    backlog: &Backlog,
    common: &CommonFields,
    tracker: &SessionTracker,
    now: SystemTime,
) -> Event {
    let counts = count_by_health(observation.resources);
    let mut fields = common.leading.clone();
    fields.set("kind", EventKind::Session.as_str());
    fields.set("resources", observation.resources.len());
    for health in Health::ALL {
        fields.set(count_field(health), counts.get(health));
    }
    fields.set("healthy", counts.get(Health::Error) == 0);
    if matches!(observation.phase, Phase::Over(_)) {
        fields.set_some("outcome", outcome(observation, tracker).map(Outcome::as_str));
    }
    let uptime = tilt_started_at(observation).and_then(|start| now.duration_since(start.at).ok());
    fields.set_ms("uptime_ms", uptime);
    fields.set("missed_builds", tracker.missed_builds(observation.resources));
    fields.set("queued", backlog.queued);
    fields.set("dropped", backlog.dropped);
    fields.set_some("send_error", observation.send_error);
    fields.extend(&common.trailing);
    Event { kind: EventKind::Session, time: now, fields }
}

/// The field that holds the number of resources with this health.
fn count_field(health: Health) -> &'static str {
    match health {
        Health::Ok => "resources_ok",
        Health::Error => "resources_error",
        Health::Pending => "resources_pending",
        Health::InProgress => "resources_in_progress",
        Health::Disabled => "resources_disabled",
    }
}

/// Tilt's numbers in words (`TriggerMode` in its `pkg/model`); it leaves out 0.
fn trigger_mode(mode: Option<i64>) -> Option<&'static str> {
    match mode.unwrap_or(0) {
        0 => Some("auto"),
        1 => Some("manual_with_auto_init"),
        2 => Some("manual"),
        3 => Some("auto_with_manual_init"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tilt::model::{CurrentUpdate, ImageKind, Session, Snapshot, Update, Waiting};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    fn json(event: &Event) -> serde_json::Value {
        serde_json::to_value(&event.fields).expect("JSON")
    }

    fn told(snapshot: &Snapshot, context: &Context, now: SystemTime) -> DerivedEvents {
        let backlog =
            Backlog { queued: 0, dropped: 0, orphan_images: &[], reported: &BTreeMap::new() };
        derive(&Observation::at(snapshot), &backlog, &mut SessionTracker::default(), context, now)
    }

    #[test]
    fn a_resource_of_which_tilt_says_nothing_has_no_empty_fields() {
        let resource = Resource { name: "web".into(), ..Resource::default() };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let report = told(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let names: Vec<_> = report.heartbeats[0].fields.names().collect();
        assert_eq!(
            names,
            [
                "user",
                "name",
                "kind",
                "event.version",
                "collector.version",
                "os.type",
                "host.arch",
                "host.cpu_count"
            ]
        );
    }

    #[test]
    fn lists_are_sorted_and_joined_and_clock_steps_leave_no_negative_times() {
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
        let event = json(&told(&snapshot, &Context::default(), after).heartbeats[0]);
        assert_eq!(event["labels"], "a,b");
        assert_eq!(event["waiting_on"], "db,z");
        assert_eq!(event["ready"], false);
        assert_eq!(event["ready_reason"], "UpdatePending");
        assert_eq!(event["in_state_ms"], 2500.0);
        assert_eq!(event["trigger_mode"], "manual");
        let event = json(&told(&snapshot, &Context::default(), before).heartbeats[0]);
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
    fn a_burst_of_updates_leaves_no_image_build_without_its_own() {
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
        let backlog =
            Backlog { queued: 0, dropped: 0, orphan_images: &[], reported: &BTreeMap::new() };
        let report = derive(
            &observation,
            &backlog,
            &mut SessionTracker::default(),
            &Context::default(),
            clock(31).at,
        );
        assert_eq!((report.orphan_images.len(), report.builds.len()), (0, 2 * 29));
        let events = report.builds.iter().flat_map(|build| &build.events);
        let images: Vec<_> = events.filter(|event| event.kind == EventKind::CmdImage).collect();
        assert!(images.iter().all(|image| image.fields.get("trace.parent_id").is_some()));
    }

    #[test]
    fn of_two_builds_that_seek_the_same_running_update_the_older_has_it() {
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
        let older =
            ImageBuildRef { started_at: clock(2).text, key: "older".into(), ..placement(&newer) };
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
            orphan_images: std::slice::from_ref(&older),
            reported: &BTreeMap::new(),
        };
        let report = derive(
            &observation,
            &backlog,
            &mut SessionTracker::default(),
            &Context::default(),
            clock(9).at,
        );
        assert_eq!(
            report.placed.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
            ["older"]
        );
        assert_eq!(report.orphan_images.len(), 1, "its own update will be shown");
    }

    #[test]
    fn a_failure_tells_its_class_and_its_text_only_when_asked() {
        let quiet = told(&failed_build(), &Context::default(), SystemTime::UNIX_EPOCH);
        let event = json(&quiet.builds[0].events[0]);
        assert_eq!(event["error"], true);
        assert_eq!(event["error.type"], "command_failed");
        assert_eq!(event["exit_code"], 2);
        assert!(!event.to_string().contains("s3cr3t"), "{event}");

        let context = Context { send_error_text: true, ..Context::default() };
        let open = told(&failed_build(), &context, SystemTime::UNIX_EPOCH);
        let event = json(&open.builds[0].events[0]);
        assert!(event["error.message"].as_str().is_some_and(|text| text.contains("s3cr3t")));
        assert_eq!(open.builds[0].key, quiet.builds[0].key);
    }

    #[test]
    fn a_failed_load_of_a_tiltfile_is_known_by_the_update() {
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
        let report = told(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let classes =
            report.builds.iter().map(|build| json(&build.events[0])["error.type"].clone());
        assert_eq!(classes.collect::<Vec<_>>(), ["tiltfile", "timeout"]);
    }

    #[test]
    fn the_user_is_tilt_clouds_then_the_options_then_empty() {
        let option = Some("ann".to_owned());
        for (cloud, user, expected) in
            [(Some("cloud"), option.clone(), "cloud"), (None, option, "ann"), (None, None, "")]
        {
            let session =
                Session { tilt_cloud_user: cloud.map(str::to_owned), ..Session::default() };
            let snapshot = Snapshot { session: Some(session), ..failed_build() };
            let context = Context { user, ..Context::default() };
            let report = told(&snapshot, &context, SystemTime::UNIX_EPOCH);
            assert_eq!(json(&report.builds[0].events[0])["user"], expected);
        }
    }

    #[test]
    fn a_session_without_a_uid_is_known_by_what_is_as_stable() {
        let started = Session {
            tilt_started_at: Some(at("2026-11-22T15:00:00Z")),
            tiltfile: Some("/home/ann/Tiltfile".into()),
            ..Session::default()
        };
        let by_start = Snapshot { session: Some(started), ..Snapshot::default() };
        let tiltfile =
            Resource { name: "(Tiltfile)".into(), uid: Some("u-1".into()), ..Resource::default() };
        let by_resource = Snapshot { resources: vec![tiltfile], ..Snapshot::default() };
        for snapshot in [&by_start, &by_resource] {
            let id = session_id(&Observation::at(snapshot));
            assert_eq!((id.len(), &id), (32, &session_id(&Observation::at(snapshot))));
            assert!(!id.contains("ann"));
        }
        assert_ne!(
            session_id(&Observation::at(&by_start)),
            session_id(&Observation::at(&by_resource))
        );
        assert_eq!(session_id(&Observation::at(&Snapshot::default())), "");
    }
}

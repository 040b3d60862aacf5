//! Events from successive observations of one Tilt. Each report depends on the earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::Value;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::derived::DerivedEvents;
use tilt_honeycomb::events::observation::{Heartbeats, Observation};
use tilt_honeycomb::events::trace::{Span, UpdateId};
use tilt_honeycomb::sidecar::live_view::LiveView;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::model::{
    Condition, CurrentUpdate, ImageBuild, ImageKind, Resource, ResourceType, Session, Snapshot,
    Timestamp, Update,
};

use crate::support::of_kind;

/// The time this many seconds after Tilt started.
fn at(seconds: f64) -> Timestamp {
    let start = humantime::parse_rfc3339("2026-11-22T15:00:00Z").expect("a time");
    let time = start + Duration::from_secs_f64(seconds);
    Timestamp::parse(&humantime::format_rfc3339_micros(time).to_string()).expect("a time")
}

fn moment(seconds: f64) -> SystemTime {
    at(seconds).at
}

fn done(number: u32, from: f64, to: f64) -> Update {
    let span_id = format!("build:{number}");
    Update { span_id, started_at: at(from), finished_at: at(to), error: None, warnings: 0 }
}

fn running(number: u32, from: f64) -> CurrentUpdate {
    CurrentUpdate { span_id: format!("build:{number}"), started_at: at(from) }
}

fn image(from: f64, to: f64) -> ImageBuild {
    ImageBuild {
        kind: ImageKind::Docker,
        object: "web:web".into(),
        image: Some("web".into()),
        tag: None,
        resource: Some("web".into()),
        started_at: at(from),
        finished_at: at(to),
        error: None,
        stages: Vec::new(),
    }
}

fn ready(holds: bool, since: f64) -> Condition {
    Condition { holds, reason: None, since: Some(at(since)) }
}

fn web() -> Resource {
    Resource { name: "web".into(), builds_images: true, ..Resource::default() }
}

/// A resource that runs commands, or only serves if its status is `not_applicable`.
fn local(status: &str, updates: Vec<Update>) -> Resource {
    Resource {
        resource_type: Some(ResourceType::Local),
        update_status: Some(status.into()),
        builds_images: false,
        updates,
        ..web()
    }
}

fn tiltfile() -> Resource {
    Resource {
        name: "(Tiltfile)".into(),
        resource_type: Some(ResourceType::Tiltfile),
        ready: Some(ready(true, 1.0)),
        ..Resource::default()
    }
}

fn session() -> Session {
    let (uid, tilt_started_at) = (Some("a session".into()), Some(at(0.0)));
    Session { uid, tilt_started_at, ..Session::default() }
}

/// The events after these observations, each at its time in seconds.
fn report(observations: Vec<(f64, Snapshot)>) -> Vec<Value> {
    let mut state = State::default();
    for (seconds, snapshot) in observations {
        reconcile(&mut state, &Observation::at(&snapshot), &Context::default(), moment(seconds));
    }
    events(&state)
}

fn events(state: &State) -> Vec<Value> {
    let wires = state.queue().fresh().iter().map(|waiting| waiting.wire.get());
    wires.map(|wire| serde_json::from_str(wire).expect("JSON")).collect()
}

fn shown(resources: Vec<Resource>, image_builds: Vec<ImageBuild>) -> Snapshot {
    Snapshot { session: Some(session()), resources, image_builds, ..Snapshot::default() }
}

#[test]
fn an_image_build_belongs_to_the_update_of_the_same_poll() {
    let first = Resource { current_update: Some(running(1, 0.0)), ..web() };
    let second = Resource { updates: vec![done(2, 10.0, 14.0), done(1, 0.0, 4.0)], ..web() };
    let events = report(vec![
        (60.0, shown(vec![first], vec![])),
        (120.0, shown(vec![second], vec![image(11.0, 13.0)])),
    ]);
    let updates = of_kind(&events, "update");
    let parent = updates.iter().find(|update| update["data"]["update_id"] == "build:2");
    let parent = &parent.expect("a reported update")["data"]["trace.span_id"];
    assert_eq!(&of_kind(&events, "dockerimage")[0]["data"]["trace.parent_id"], parent);
}

#[test]
fn an_empty_update_of_a_serve_only_resource_is_not_reported() {
    let (empty, real) = (done(1, 0.0, 0.0), done(2, 70.0, 71.0));
    let events = report(vec![
        (1.0, shown(vec![local("not_applicable", vec![empty.clone()])], vec![])),
        (60.0, shown(vec![local("in_progress", vec![empty.clone()])], vec![])),
        (120.0, shown(vec![local("ok", vec![real, empty])], vec![])),
    ]);
    let updates = of_kind(&events, "update");
    assert_eq!((updates.len(), &updates[0]["data"]["update_id"]), (1, &"build:2".into()));
}

#[test]
fn the_first_update_after_serving_only_is_reported() {
    let (empty, real) = (done(1, 0.0, 0.0), done(2, 70.0, 71.0));
    let events = report(vec![
        (1.0, shown(vec![local("not_applicable", vec![empty.clone()])], vec![])),
        (72.0, shown(vec![local("pending", vec![real.clone(), empty])], vec![])),
        (120.0, shown(vec![local("ok", vec![done(3, 80.0, 81.0), real])], vec![])),
    ]);
    let updates = of_kind(&events, "update");
    let ids: Vec<_> = updates.iter().map(|update| update["data"]["update_id"].clone()).collect();
    assert_eq!(ids, ["build:2", "build:3"]);
}

#[test]
fn the_first_command_after_serving_only_is_initial() {
    let (empty, real) = (done(1, 0.0, 0.0), done(2, 70.0, 71.0));
    let events = report(vec![
        (1.0, shown(vec![local("not_applicable", vec![empty.clone()])], vec![])),
        (72.0, shown(vec![local("ok", vec![real.clone(), empty])], vec![])),
        (120.0, shown(vec![local("ok", vec![done(3, 80.0, 81.0), real])], vec![])),
    ]);
    let updates = of_kind(&events, "update");
    let initial: Vec<_> = updates.iter().map(|update| &update["data"]["initial"]).collect();
    assert_eq!(initial, [true, false]);
}

#[test]
fn a_clock_set_back_during_startup_keeps_one_trace() {
    let ready = |holds| Some(ready(holds, 1.0));
    let under_way =
        Resource { current_update: Some(running(1, 100.0)), ready: ready(false), ..web() };
    let up = Resource { updates: vec![done(1, 100.0, 104.0)], ready: ready(true), ..web() };
    let build = || vec![image(101.0, 102.0)];
    let events = report(vec![
        (103.0, shown(vec![tiltfile(), under_way], build())),
        (45.0, shown(vec![tiltfile(), up], build())),
    ]);
    let trace = |kind| of_kind(&events, kind)[0]["data"]["trace.trace_id"].clone();
    assert_eq!(trace("dockerimage"), trace("startup"));
    assert_eq!(trace("dockerimage"), trace("update"), "the trace of its parent");
}

/// An event in the life of one resource.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// An update starts, as a live update if possible. A running update continues.
    GoesOn {
        is_live: bool,
    },
    Fails,
    IsDisabledOrEnabled,
}

/// All resources except the last build images.
const RESOURCES: usize = 4;

fn happening() -> impl Strategy<Value = (usize, Happening, f64)> {
    let what = prop_oneof![
        12 => any::<bool>().prop_map(|is_live| Happening::GoesOn { is_live }),
        3 => Just(Happening::Fails),
        1 => Just(Happening::IsDisabledOrEnabled),
    ];
    (0..RESOURCES, what, 0.001..3.0)
}

/// A simulated Tilt.
#[derive(Default)]
struct World {
    now: f64,
    number: u32,
    version: u64,
    resources: Vec<Resource>,
    images: BTreeMap<usize, ImageBuild>,
    building: BTreeMap<usize, f64>,
    /// Changes that the watches have not printed yet.
    unseen: (Vec<Resource>, Vec<ImageBuild>),
    /// The update that each image build belongs to.
    parents: BTreeMap<(String, String), (String, UpdateId)>,
}

impl World {
    fn new() -> Self {
        let one = |index: usize| Resource {
            name: format!("r{index}"),
            resource_type: Some(ResourceType::DockerCompose),
            builds_images: index + 1 < RESOURCES,
            update_status: Some("pending".into()),
            ready: Some(ready(false, 0.5)),
            ..Resource::default()
        };
        Self { resources: (0..RESOURCES).map(one).collect(), ..Self::default() }
    }

    fn snapshot(&self) -> Snapshot {
        let resources = self.resources.iter().cloned().chain([tiltfile()]).collect();
        let mut snapshot = shown(resources, self.images.values().cloned().collect());
        snapshot.has_images = [true, false];
        snapshot.sort();
        snapshot
    }

    fn pass(&mut self, (index, what, after): (usize, Happening, f64)) {
        self.now += after;
        let mut resource = self.resources[index].clone();
        let is_disabled = resource.disabled == Some(true);
        match (what, resource.current_update.clone()) {
            (Happening::IsDisabledOrEnabled, _) => {
                // Tilt drops the history of a disabled resource.
                resource.disabled = Some(!is_disabled);
                (resource.current_update, resource.updates) = (None, Vec::new());
                let status = if is_disabled { "pending" } else { "none" };
                resource.update_status = Some(status.into());
                if self.building.remove(&index).is_some() {
                    self.images.remove(&index);
                }
            }
            _ if is_disabled => return,
            (_, Some(current)) if self.goes_on(&resource, index, &current) => return,
            (what, Some(current)) => {
                let failed = matches!(what, Happening::Fails);
                let error = failed.then(|| "exit status 1".to_owned());
                let CurrentUpdate { span_id, started_at } = current;
                let finished_at = at(self.now);
                let update = Update { span_id, started_at, finished_at, error, warnings: 0 };
                resource.current_update = None;
                resource.updates.insert(0, update);
                resource.updates.truncate(2);
                resource.update_status = Some(if failed { "error" } else { "ok" }.into());
                resource.ready = Some(ready(!failed, self.now));
            }
            (what, None) => {
                let is_live = matches!(what, Happening::GoesOn { is_live: true });
                let span_id = if is_live && !resource.updates.is_empty() {
                    format!("liveupdate:{0}:{0}", resource.name)
                } else {
                    self.number += 1;
                    format!("build:{}", self.number)
                };
                resource.current_update = Some(CurrentUpdate { span_id, started_at: at(self.now) });
                resource.update_status = Some("in_progress".into());
            }
        }
        self.version += 1;
        resource.version = self.version;
        self.unseen.0.push(resource.clone());
        self.resources[index] = resource;
    }

    /// Starts or finishes the image build of an update. Returns false if the update is complete.
    fn goes_on(&mut self, resource: &Resource, index: usize, current: &CurrentUpdate) -> bool {
        if let Some(began) = self.building.remove(&index) {
            let name = resource.name.clone();
            let object = format!("{name}:image");
            let build = ImageBuild { object, resource: Some(name), ..image(began, self.now) };
            let id = UpdateId::new(&current.span_id, &current.started_at);
            let key = (resource.name.clone(), build.started_at.text.clone());
            self.parents.insert(key, (resource.name.clone(), id));
            self.images.insert(index, build.clone());
            self.unseen.1.push(build);
            return true;
        }
        let is_built = self
            .images
            .get(&index)
            .is_some_and(|image| image.started_at.at >= current.started_at.at);
        let begins = resource.builds_images && !is_built && current.span_id.starts_with("build:");
        if begins {
            // A new build replaces the finished one.
            self.images.remove(&index);
            self.building.insert(index, self.now);
        }
        begins
    }
}

/// The updates and image builds that were observed and must be reported.
#[derive(Default)]
struct Seen {
    updates: BTreeSet<(String, String)>,
    images: BTreeSet<(String, String)>,
}

impl Seen {
    fn take(&mut self, snapshot: &Snapshot) {
        for resource in &snapshot.resources {
            let starts = resource.updates.iter().map(|update| update.started_at.text.clone());
            self.updates.extend(starts.map(|starts| (resource.name.clone(), starts)));
        }
        for image in &snapshot.image_builds {
            let resource = image.resource.clone().expect("an image of a resource");
            self.images.insert((resource, image.started_at.text.clone()));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Collectors {
    Watching,
    Polling,
    Both,
}

/// Runs collectors that share one state. Returns their events and everything that they observed. The
/// watches of resources and of images may each lag behind the other.
fn observe(
    world: &mut World,
    course: &[(usize, Happening, f64)],
    collectors: Collectors,
    turns: &[bool],
) -> (Vec<Value>, Seen) {
    let (mut state, mut view, mut seen) = (State::default(), LiveView::default(), Seen::default());
    let context = Context::default();
    let mut turns = turns.iter().copied().cycle();
    let mut turn = || turns.next().expect("the iterator is endless");
    view.replace(world.snapshot());
    for &happening in course {
        world.pass(happening);
        if collectors != Collectors::Polling && turn() {
            while !world.unseen.0.is_empty() || !world.unseen.1.is_empty() {
                let mut fragment = Snapshot::default();
                if turn() && !world.unseen.0.is_empty() {
                    fragment.resources.push(world.unseen.0.remove(0));
                } else if !world.unseen.1.is_empty() {
                    fragment.image_builds.push(world.unseen.1.remove(0));
                }
                seen.take(&fragment);
                view.apply(fragment);
            }
            let changes = view.changes();
            let heartbeats = if turn() { Heartbeats::All } else { Heartbeats::Changed(&changes) };
            let observation = Observation { is_watched: true, ..view.observation(heartbeats) };
            reconcile(&mut state, &observation, &context, moment(world.now + 0.0005));
            view.mark_reported();
        }
        if collectors != Collectors::Watching && turn() && turn() {
            let snapshot = world.snapshot();
            seen.take(&snapshot);
            reconcile(
                &mut state,
                &Observation::at(&snapshot),
                &context,
                moment(world.now + 0.0007),
            );
        }
    }
    // Another session a week later releases the remaining events.
    state.record("another", DerivedEvents::default(), moment(world.now + 7.0 * 86400.0));
    (events(&state), seen)
}

/// Counts how often each span was reported, by resource and start time.
fn times(events: &[Value], kind: &str, resource: &str) -> BTreeMap<(String, String), usize> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut times = BTreeMap::new();
    for event in of_kind(events, kind) {
        if event["data"]["incomplete"] != true {
            let key = (text(&event["data"][resource]), text(&event["time"]));
            let wire = humantime::parse_rfc3339(&key.1).expect("a time");
            let key = (key.0, humantime::format_rfc3339_micros(wire).to_string());
            *times.entry(key).or_default() += 1;
        }
    }
    times
}

proptest! {
    #[test]
    fn everything_that_tilt_shows_is_reported_once_in_its_trace(
        course in proptest::collection::vec(happening(), 1..120),
        turns in proptest::collection::vec(any::<bool>(), 1..40),
        collectors in prop_oneof![
            Just(Collectors::Watching), Just(Collectors::Polling), Just(Collectors::Both),
        ],
    ) {
        // At least one collector observes the end.
        let turns = [&turns[..], &[true, true, true]].concat();
        let mut world = World::new();
        let (events, seen) = observe(&mut world, &course, collectors, &turns);

        let once = |keys: &BTreeSet<(String, String)>| -> BTreeMap<_, _> {
            keys.iter().map(|key| (key.clone(), 1)).collect()
        };
        let mut updates = times(&events, "update", "name");
        updates.retain(|(name, _), _| name != "(Tiltfile)");
        prop_assert_eq!(updates, once(&seen.updates));
        prop_assert_eq!(times(&events, "dockerimage", "resource"), once(&seen.images));

        let mut places = BTreeMap::new();
        for event in &events {
            let data = &event["data"];
            if data["trace.span_id"].is_string() {
                let place = (data["trace.trace_id"].clone(), data["trace.parent_id"].clone());
                let known = places.insert(data["trace.span_id"].to_string(), place.clone());
                prop_assert!(known.is_none_or(|known| known == place), "two parents: {}", event);
            }
        }
        for event in &events {
            let parent = &event["data"]["trace.parent_id"];
            if parent.is_string() {
                let (trace, _) = places.get(&parent.to_string()).expect("a reported parent");
                prop_assert_eq!(trace, &event["data"]["trace.trace_id"], "{}", event);
            }
        }
        prop_assert!(of_kind(&events, "startup").len() <= 1);
        let firsts = of_kind(&events, "update").into_iter().filter(|e| e["data"]["initial"] == true);
        let mut first_of = BTreeMap::<String, BTreeSet<String>>::new();
        for first in firsts {
            let spans = first_of.entry(first["data"]["name"].to_string()).or_default();
            spans.insert(first["data"]["trace.span_id"].to_string());
        }
        prop_assert!(first_of.values().all(|spans| spans.len() == 1), "{:?}", first_of);

        // A poll may miss an update entirely, so only watches are checked.
        if collectors == Collectors::Watching {
            for event in of_kind(&events, "dockerimage") {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let key = (text(&event["data"]["resource"]), text(&event["time"]));
                let (resource, id) = &world.parents[&key];
                let right = Span::of_update("a session", resource, id, None).span_id;
                prop_assert_eq!(&event["data"]["trace.parent_id"], &Value::from(right));
            }
        }
    }
}

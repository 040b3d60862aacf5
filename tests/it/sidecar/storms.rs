//! Many builds at a time: the sidecar sends each one once, and every parent span that an event names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use fakes::honeycomb::{Answer, Reply, Server};
use fakes::storm::{self, Finished, Storm};
use serde_json::Value;
use tilt_honeycomb::events::fields;

use crate::support::{Process, SHUTDOWN_BUDGET, Sandbox, Signal, eventually, of_kind, retry};

/// Counts how often the server accepted each finished build.
fn accepted_builds(server: &Server) -> BTreeMap<Finished, usize> {
    let mut counts = BTreeMap::new();
    for event in server.accepted() {
        if let Some(finished) = storm::finished(&event) {
            *counts.entry(finished).or_default() += 1;
        }
    }
    counts
}

#[track_caller]
fn assert_once_each(server: &Server, shown: &BTreeSet<Finished>) {
    let counts = accepted_builds(server);
    let lost: Vec<_> = shown.iter().filter(|finished| !counts.contains_key(finished)).collect();
    let twice: Vec<_> = counts.iter().filter(|(_, times)| **times > 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}");
}

/// Asserts that every parent is an accepted span of the same trace, and that every image build has a
/// parent.
#[track_caller]
fn assert_traces_are_complete(events: &[Value]) {
    for event in events {
        let fields = event["data"].as_object().expect("fields");
        let is_known = |name: &String| fields::find(name).is_some();
        assert!(fields.keys().all(is_known), "an undocumented field: {event}");
    }
    let text = |event: &Value, name: &str| event["data"][name].as_str().map(str::to_owned);
    let spans: HashMap<_, _> = events
        .iter()
        .filter_map(|event| Some((text(event, "trace.span_id")?, text(event, "trace.trace_id")?)))
        .collect();
    for event in events {
        if let Some(parent) = text(event, "trace.parent_id") {
            assert_eq!(spans.get(&parent), text(event, "trace.trace_id").as_ref(), "{event}");
        } else {
            let kind = event["data"]["kind"].as_str();
            let needs_parent =
                matches!(kind, Some("dockerimage" | "cmdimage" | "dockerimage_stage"));
            assert!(!needs_parent, "an image build without a parent: {event}");
        }
    }
}

/// A sandbox whose Tilt will show a storm of updates.
struct Stage {
    sandbox: Sandbox,
    server: Server,
    storm: Storm,
}

impl Stage {
    fn new(updates: usize, seed: u64) -> Self {
        let stage = Self {
            sandbox: Sandbox::new(),
            server: Server::start(),
            storm: Storm::new(updates, seed, SystemTime::now()),
        };
        let folder = stage.sandbox.path("tilt");
        storm::prepare(&stage.storm, SystemTime::now(), &folder).expect("the fake Tilt's folder");
        stage
    }

    fn start(&self) -> Process {
        let sidecar = self.sandbox.sidecar_to(&self.server).start();
        self.is_watched();
        sidecar
    }

    /// Waits until both watches have started.
    fn is_watched(&self) {
        eventually("two watches", || self.sandbox.tilt().watches("") >= 2);
    }

    fn play(&self, steps: std::ops::Range<usize>) -> BTreeSet<Finished> {
        let part = Storm { session: Value::Null, steps: self.storm.steps[steps].to_vec() };
        let shown = storm::play(&part, &self.sandbox.path("tilt"), 1).expect("the storm is shown");
        shown.into_keys().collect()
    }

    #[track_caller]
    fn all_arrive(&self, shown: &BTreeSet<Finished>) {
        eventually("every build", || {
            let counts = accepted_builds(&self.server);
            shown.iter().all(|finished| counts.contains_key(finished))
        });
        assert_once_each(&self.server, shown);
    }
}

#[test]
fn every_build_of_a_storm_arrives_once_with_every_parent() {
    let stage = Stage::new(200, 7);
    let sidecar = stage.start();
    let shown = stage.play(0..stage.storm.steps.len());
    assert_eq!(shown.len(), 300, "200 updates and 100 image builds");
    stage.all_arrive(&shown);

    eventually("the startup event", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    let events = stage.server.accepted();
    assert_traces_are_complete(&events);
    assert_eq!(of_kind(&events, "startup").len(), 1);
    sidecar.stop();
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn restart_and_outage_in_a_storm_lose_and_repeat_nothing() {
    // A response that arrives after the shutdown budget is not recorded, so its events repeat.
    retry("a shutdown within its budget", restart_and_outage);
}

fn restart_and_outage() -> Option<()> {
    let stage = Stage::new(200, 8);
    let steps = stage.storm.steps.len();
    let first = stage.start();
    let mut shown = stage.play(0..steps / 3);
    let (outcome, took) = first.ends_after(Signal::TERM);
    outcome.exits_with(0);
    if took >= SHUTDOWN_BUDGET {
        return None;
    }

    stage.server.usually(Reply::new(503, ""));
    let second = stage.start();
    shown.extend(stage.play(steps / 3..steps * 2 / 3));
    stage.server.usually(Answer::Accept);
    shown.extend(stage.play(steps * 2 / 3..steps));
    stage.all_arrive(&shown);
    eventually("the startup event", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    assert_traces_are_complete(&stage.server.accepted());
    second.stop();
    Some(())
}

/// Replays the watches of a real Tilt during 75 s of saves, ten times as fast.
#[test]
fn a_recorded_storm_is_reported_completely() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let tilt = sandbox.tilt();
    tilt.replay("storm", 10).unset("cmdimages.json");
    let sidecar = sandbox.sidecar_to(&server).start();
    tilt.is_watched_by(2).unset("replay-held");

    let updates = |prefix: &str| {
        let finished = accepted_builds(&server).into_keys();
        finished.filter(|f| matches!(f, Finished::Update(id) if id.starts_with(prefix))).count()
    };
    let images =
        || accepted_builds(&server).into_keys().filter(|f| matches!(f, Finished::Image(_))).count();
    eventually("every recorded build", || updates("build:") >= 111 && images() >= 51);
    assert_eq!((updates("build:"), updates("tiltfile:"), images()), (111, 1, 51));
    let counts = accepted_builds(&server);
    assert!(counts.values().all(|times| *times == 1), "{counts:?}");
    sidecar.stop();
    assert_traces_are_complete(&server.accepted());
    let session = of_kind(&server.accepted(), "session").pop().expect("a last report");
    assert_eq!(session["data"]["missed_builds"], 0);
}

/// The root is the startup. Its children are the first update of each resource.
#[test]
fn a_startup_is_one_trace() {
    let stage = Stage::new(16, 9);
    let sidecar = stage.start();
    let shown = stage.play(0..stage.storm.steps.len());
    stage.all_arrive(&shown);
    eventually("the startup event", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    sidecar.stop();

    let events = stage.server.accepted();
    let startup = &of_kind(&events, "startup")[0]["data"];
    assert_eq!(startup["name"], "tilt up");
    assert_eq!(startup["ended_by"], "settled");
    assert_eq!(startup["resources_ready"], 9);
    assert_eq!(startup.get("trace.parent_id"), None);
    let updates = of_kind(&events, "update");
    for update in &updates {
        let data = &update["data"];
        if data["initial"] == true {
            assert_eq!(data["trace.parent_id"], startup["trace.span_id"], "{update}");
            assert_eq!(data["trace.trace_id"], startup["trace.trace_id"], "{update}");
        } else {
            assert_eq!(data.get("trace.parent_id"), None, "{update}");
        }
    }
    let first: Vec<_> = updates.iter().filter(|update| update["data"]["initial"] == true).collect();
    assert_eq!(first.len(), 9, "eight resources and the Tiltfile");
    let ready = of_kind(&events, "uiresource")
        .into_iter()
        .filter(|event| event["data"]["time_to_ready_ms"].is_number())
        .count();
    assert_eq!(ready, 9, "each resource reports time_to_ready_ms once");
}

//! The start-up event for environments that do not simply come up. The states of Tilt were recorded
//! from a real Tilt 0.37.6; a test moves them to the present.

use std::fs;
use std::time::{Duration, SystemTime};

use fakes::honeycomb::Server;
use serde_json::{Map, Value, json};

#[cfg(target_os = "linux")]
use crate::support::api::Api;
use crate::support::{Invocation, Process, Sandbox, capture, eventually, of_kind};

/// Successive states of one Tilt, moved so that the last one is shown now.
struct Recording {
    states: Vec<Vec<Value>>,
}

impl Recording {
    fn load(name: &str) -> Self {
        let path = capture(&format!("startup/{name}.jsonl"));
        let text = fs::read_to_string(path).expect("a recording");
        let states: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a state")).collect();
        let last = states.last().expect("a state")["at"].as_f64().expect("a time");
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(last);
        let shift = SystemTime::now().duration_since(last).expect("a recording from the past");
        let items = |state: Value| state["items"].as_array().expect("objects").clone();
        let shifted = |state: Value| items(state).into_iter().map(|item| later(item, shift));
        Self { states: states.into_iter().map(|state| shifted(state).collect()).collect() }
    }

    /// The state at this position of the recording.
    fn state(&self, position: usize) -> &[Value] {
        &self.states[position]
    }

    fn last(&self) -> &[Value] {
        self.states.last().expect("a state")
    }
}

/// Moves every time in an object.
fn later(value: Value, shift: Duration) -> Value {
    match value {
        Value::String(text) => match humantime::parse_rfc3339(&text) {
            Ok(time) => json!(humantime::format_rfc3339_micros(time + shift).to_string()),
            Err(_) => Value::String(text),
        },
        Value::Array(values) => values.into_iter().map(|value| later(value, shift)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, later(value, shift)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Makes the fake Tilt show these objects.
fn show(sandbox: &Sandbox, objects: &[Value]) {
    for (name, kind) in [
        ("uisession", "UISession"),
        ("uiresources", "UIResource"),
        ("sessions", "Session"),
        ("dockerimages", "DockerImage"),
        ("cmdimages", "CmdImage"),
    ] {
        sandbox.tilt().show(name, objects_of(kind, objects));
    }
}

fn objects_of(kind: &str, objects: &[Value]) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
}

/// Makes the fake Tilt show that `tilt ci` has failed with this error.
fn fail(sandbox: &Sandbox, error: &str) {
    sandbox.tilt().show_ci_status(&json!({"done": true, "error": error}));
}

fn sessions(server: &Server) -> usize {
    of_kind(&server.accepted(), "session").len()
}

/// Starts a sidecar and waits for a report on the state that Tilt shows.
fn start(sidecar: Invocation, server: &Server) -> Process {
    let sidecar = sidecar.start();
    eventually("a report", || sessions(server) > 0);
    sidecar
}

fn startup(server: &Server) -> Value {
    eventually("the start-up", || !of_kind(&server.accepted(), "startup").is_empty());
    let startups = of_kind(&server.accepted(), "startup");
    assert_eq!(startups.len(), 1, "{startups:?}");
    startups[0]["data"].clone()
}

/// Shows each state until a report on it has arrived, then returns the start-up.
fn startup_of(states: &[&[Value]]) -> Value {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, states[0]);
    let sidecar = start(sandbox.polling_sidecar_to(&server), &server);
    for state in &states[1..] {
        show(&sandbox, state);
        let reports = sessions(&server);
        // The poll that ends first may have begun before the change.
        eventually("two reports", || sessions(&server) >= reports + 2);
    }
    let startup = startup(&server);
    sidecar.stop();
    startup
}

/// Asserts the numbers of resources that are ready, failed, blocked and unready.
#[track_caller]
fn assert_counts(startup: &Value, expected: [u64; 4]) {
    let fields = ["resources_ready", "resources_failed", "resources_blocked", "resources_unready"];
    let counts = fields.map(|field| startup[field].as_u64().unwrap_or(u64::MAX));
    assert_eq!(counts, expected, "{startup}");
    assert_eq!(startup["resources"], expected.iter().sum::<u64>(), "{startup}");
}

#[track_caller]
fn assert_took(startup: &Value, seconds: f64) {
    let took = startup["duration_ms"].as_f64().expect("a duration") / 1e3;
    assert!((took - seconds).abs() < 1.0, "{took} s: {startup}");
}

/// The incomplete updates: their resources and their durations in seconds.
fn incomplete(events: &[Value]) -> Vec<(String, f64)> {
    let updates = of_kind(events, "update").into_iter().map(|update| update["data"].clone());
    let updates = updates.filter(|data| data["incomplete"] == true);
    let row = |data: Value| {
        let name = data["name"].as_str().expect("a name").to_owned();
        (name, data["duration_ms"].as_f64().expect("a duration") / 1e3)
    };
    updates.map(row).collect()
}

#[test]
fn a_server_that_dies_during_the_startup_has_failed() {
    let recording = Recording::load("server-dies");
    let startup = startup_of(&[recording.state(0), recording.state(1), recording.last()]);
    assert_counts(&startup, [4, 1, 0, 0]);
    assert_eq!(startup["error.type"], "resource_failed");
    assert_eq!(
        (&startup["slowest_resource"], &startup["ended_by"]),
        (&json!("ok"), &json!("settled"))
    );
    assert_took(&startup, 15.9);
}

#[test]
fn changes_between_polls_count_as_they_are_at_the_end() {
    let recording = Recording::load("server-dies");
    // The poll after the first one comes when everything is over.
    let startup = startup_of(&[recording.state(0), recording.last()]);
    assert_counts(&startup, [4, 1, 0, 0]);
    assert_took(&startup, 15.9);
}

#[test]
fn resources_that_wait_for_a_manual_or_disabled_one_are_blocked() {
    let recording = Recording::load("nobody-starts");
    let startup = startup_of(&[recording.state(1), recording.state(2), recording.last()]);
    assert_counts(&startup, [3, 0, 4, 0]);
    assert_eq!(startup["unready"], "after-manual,after-manual-serve,after-slow,both");
    assert_eq!((startup.get("error"), &startup["ended_by"]), (None, &json!("settled")));
    assert_took(&startup, 6.3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_probe_that_never_succeeds_times_out_after_ten_minutes() {
    let recording = Recording::load("probe-never-succeeds");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, recording.last());
    let clock = sandbox.clock();
    let sidecar = start(sandbox.polling_sidecar_to(&server).with_clock(&clock), &server);
    clock.leap(300).expect("a clock file");
    let reports = sessions(&server);
    eventually("two reports", || sessions(&server) >= reports + 2);
    assert_eq!(of_kind(&server.accepted(), "startup").len(), 0, "after five minutes");
    clock.leap(600).expect("a clock file");
    let startup = startup(&server);
    assert_counts(&startup, [4, 0, 0, 2]);
    assert_eq!(startup["unready"], "after-never,never");
    assert_eq!(startup["ended_by"], "timeout");
    assert_eq!((&startup["error"], &startup["error.type"]), (&json!(true), &json!("timeout")));
    sidecar.stop();
}

/// The events of a sidecar whose `tilt ci` fails with this error.
fn ci_events(recording: &Recording, error: &str) -> Vec<Value> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, recording.last());
    let sidecar = sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_MODE", "ci");
    let sidecar = start(sidecar, &server);
    fail(&sandbox, error);
    sidecar.stop();
    server.accepted()
}

/// The events of a step after `tilt ci` that passes on its exit code.
fn snapshot_events(recording: &Recording) -> Vec<Value> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let of = |kind: &str| objects_of(kind, recording.last());
    let snapshot = json!({
        "view": {"uiSession": of("UISession")[0], "uiResources": of("UIResource")},
        "createdAt": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
    });
    sandbox.write_snapshot(snapshot.to_string());
    for _ in 0..2 {
        let step = sandbox.run("--once --snapshot tilt.json --outcome 1").sending_to(&server);
        step.finish().exits_with(0);
    }
    server.accepted()
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn a_probe_that_never_succeeds_times_out_in_ci() {
    let recording = Recording::load("probe-in-ci");
    for (events, error_type) in [
        (
            ci_events(&recording, "Readiness timeout after 15s: target never:serve not ready"),
            "timeout",
        ),
        (
            ci_events(&recording, "Timeout after 15s: 1 resources not ready (never:serve)"),
            "timeout",
        ),
        // The snapshot does not show why the run ended.
        (snapshot_events(&recording), "_OTHER"),
    ] {
        let startup = &of_kind(&events, "startup")[0]["data"];
        assert_counts(startup, [4, 0, 0, 2]);
        assert_eq!(startup["unready"], "after-never,never");
        assert_eq!(
            (&startup["outcome"], &startup["ended_by"]),
            (&json!("failure"), &json!("session_end"))
        );
        assert_eq!(startup["error.type"], error_type);
        assert_eq!(incomplete(&events), [], "nothing was in progress");
    }
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn a_command_that_hangs_in_ci_is_an_incomplete_update() {
    let recording = Recording::load("command-hangs");
    for (events, error_type) in [
        (
            ci_events(&recording, "Timeout after 12s: 1 resources not ready (hang:update)"),
            "timeout",
        ),
        (snapshot_events(&recording), "_OTHER"),
    ] {
        let startup = &of_kind(&events, "startup")[0]["data"];
        assert_counts(startup, [1, 0, 0, 3]);
        assert_eq!(startup["unready"], "after-hang,fine,hang");
        assert_eq!(startup["error.type"], error_type);
        let [(name, took)] = &incomplete(&events)[..] else { panic!("one update: {events:?}") };
        assert_eq!(name, "hang");
        assert!((1.0..60.0).contains(took), "{took} s");
    }
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn an_update_that_tilt_interrupted_is_sent_by_the_next_command() {
    let recording = Recording::load("command-hangs");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, recording.last());
    let sidecar = start(sandbox.sidecar_to(&server), &server);
    sidecar.stop();
    assert_eq!(incomplete(&server.accepted()), [], "Tilt may still run");
    for _ in 0..2 {
        sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    }
    let [(name, took)] = &incomplete(&server.accepted())[..] else { panic!("one update") };
    assert!(name == "hang" && *took > 1.0, "{name} {took}");
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn an_update_whose_end_the_snapshot_shows_is_sent_in_full() {
    let recording = Recording::load("command-hangs");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, recording.last());
    let sidecar = start(sandbox.sidecar_to(&server), &server);
    let mut ended = recording.last().to_vec();
    for resource in &mut ended {
        let status = &mut resource["status"];
        if let Some(started) = status["currentBuild"]["startTime"].as_str().map(str::to_owned) {
            let finished = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
            let span_id = status["currentBuild"]["spanID"].clone();
            status["buildHistory"] =
                json!([{"spanID": span_id, "startTime": started, "finishTime": finished}]);
            status["updateStatus"] = json!("ok");
            status["currentBuild"] = Value::Null;
        }
    }
    show(&sandbox, &ended);
    fail(&sandbox, "Timeout after 12s");
    sidecar.stop();
    let events = server.accepted();
    assert_eq!(incomplete(&events), [], "its real end was seen");
    let hang = of_kind(&events, "update").into_iter().filter(|e| e["data"]["name"] == "hang");
    assert_eq!(hang.count(), 1);
}

#[test]
fn a_tiltfile_that_fails_first_delays_the_startup() {
    let recording = Recording::load("tiltfile-fixed");
    let startup = startup_of(&[recording.state(0), recording.state(3), recording.last()]);
    assert_counts(&startup, [3, 0, 0, 0]);
    assert_eq!(
        (&startup["tiltfile_failed"], &startup["resources_recovered"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(startup.get("error"), None);
    assert_took(&startup, 13.5);

    // A collector that the Tiltfile starts never sees the first load.
    let startup = startup_of(&[recording.last()]);
    assert_counts(&startup, [3, 0, 0, 0]);
    assert_eq!(startup["tiltfile_failed"], true);
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn resources_without_a_status_are_not_ready() {
    let recording = Recording::load("no-status-yet");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let bare = recording.state(2);
    assert!(
        bare.iter().any(|r| r["kind"] == "UIResource" && r["status"].get("updateStatus").is_none())
    );
    show(&sandbox, bare);
    let sidecar = start(sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_MODE", "ci"), &server);
    fail(&sandbox, "interrupted");
    sidecar.stop();
    let startup = startup(&server);
    assert_counts(&startup, [0, 0, 0, 8]);
    assert_eq!(startup["error.type"], "_OTHER");
    assert_eq!(startup.get("slowest_resource"), None, "nothing came up");
}

#[test]
fn a_collector_that_builds_for_15_s_does_not_slow_the_startup() {
    let recording = Recording::load("server-dies");
    let mut last = recording.last().to_vec();
    last.retain(|object| object["metadata"]["name"] != "a");
    for object in &mut last {
        if object["metadata"]["name"] == "ok" {
            object["metadata"]["name"] = json!("honeycomb-collector");
        }
    }
    let startup = startup_of(&[&last]);
    assert_counts(&startup, [3, 0, 0, 0]);
    assert_eq!(startup["slowest_resource"], "after-a");
    assert_eq!(startup["duration_ms"], startup["time_to_ready_ms"]);
    assert_took(&startup, 15.5);
}

#[test]
#[cfg(target_os = "linux")]
fn once_on_a_terminal_links_to_the_trace_of_the_start() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _api = Api::on(&server);
    let recording = Recording::load("server-dies");
    show(&sandbox, recording.last());
    let run = sandbox.on_terminal("--once").sending_to(&server);
    let shown = run.env("HONEYCOMB_UI_URL", "ui.honeycomb.io").finish().exits_with(0).stdout;
    let updates = of_kind(&server.accepted(), "update");
    let trace = updates[0]["data"]["trace.trace_id"].as_str().expect("an id");
    let link = format!("/datasets/dev-environments/trace?trace_id={trace}&trace_start_ts=");
    assert!(shown.contains(&link), "{shown}");
}

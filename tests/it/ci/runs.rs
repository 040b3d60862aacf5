//! Runs of `tilt ci`, recorded from a real one, and what each must report.

use std::time::{Duration, SystemTime};

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use crate::support::{Invocation, Outcome, Process, Sandbox, captured_json, of_kind};

/// The snapshot of a successful run, recorded from a real `tilt ci`.
pub fn recorded() -> Value {
    captured_json("ci/snapshot.json")
}

/// The recorded run, changed so that `b` failed.
pub fn failed() -> Value {
    let mut snapshot = recorded();
    let b = &mut snapshot["view"]["uiResources"][2]["status"];
    b["updateStatus"] = json!("error");
    b["buildHistory"][0]["error"] = json!("command \"sh -c 'curl t0ken'\" failed: exit status 7");
    b["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "UpdateError",
        "lastTransitionTime": "2026-11-22T15:27:33.292842Z"}]);
    snapshot
}

/// The recorded run, changed so that Tilt exited while `b` was still building.
pub fn unfinished() -> Value {
    let mut snapshot = recorded();
    let b = &mut snapshot["view"]["uiResources"][2]["status"];
    b["updateStatus"] = json!("in_progress");
    b["buildHistory"] = Value::Null;
    b["currentBuild"] = json!({"spanID": "build:9", "startTime": "2026-11-22T15:27:33.000000Z"});
    b["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    snapshot
}

/// The snapshot with a session that started 20 seconds ago. The sidecar does not report old startups.
pub fn just_now(mut snapshot: Value) -> Value {
    let at = |age| {
        let time = SystemTime::now() - Duration::from_secs(age);
        json!(humantime::format_rfc3339_micros(time).to_string())
    };
    snapshot["view"]["uiSession"]["status"]["tiltStartTime"] = at(20);
    snapshot["createdAt"] = at(0);
    snapshot
}

/// The snapshot as it was while `b` was still building.
pub fn before_the_end_of_b(snapshot: &Value) -> Value {
    let mut before = snapshot.clone();
    before["view"]["uiResources"][2]["status"]["updateStatus"] = json!("in_progress");
    before["view"]["uiResources"][2]["status"]["buildHistory"] = json!([]);
    before
}

/// Starts a sidecar beside `tilt ci` and waits for its first report.
pub fn start_sidecar(sandbox: &Sandbox, server: &Server) -> Process {
    let sidecar = sandbox.sidecar_to(server).env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("sent ");
    sidecar
}

pub fn post_step(sandbox: &Sandbox, server: &Server) -> Invocation {
    sandbox.run("--once --snapshot tilt.json").sending_to(server)
}

/// The events that a post step sends for a snapshot while Tilt is not running.
pub fn events_of(snapshot: &Value) -> (Vec<Value>, Outcome) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    sandbox.write_snapshot(snapshot.to_string());
    let outcome = post_step(&sandbox, &server).finish().exits_with(0);
    assert_eq!(sandbox.tilt().calls().len(), 0, "`tilt` does not run");
    (server.accepted(), outcome)
}

/// Makes Tilt show the objects of the snapshot.
pub fn show(sandbox: &Sandbox, snapshot: &Value) {
    sandbox
        .tilt()
        .show("uisession", [snapshot["view"]["uiSession"].clone()])
        .show("uiresources", snapshot["view"]["uiResources"].clone())
        .show("dockerimages", json!([]))
        .show("cmdimages", json!([]))
        .show_ci_status(&json!({"done": false}));
}

/// Makes Tilt show that its session has ended: an empty `error` means success.
pub fn end_session(sandbox: &Sandbox, error: &str) {
    sandbox.tilt().show_ci_status(&json!({"done": true, "error": error}));
}

pub fn names(events: &[Value], kind: &str) -> Vec<String> {
    let name = |event: &Value| event["data"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<_> = of_kind(events, kind).iter().map(name).collect();
    names.sort();
    names
}

/// Asserts that the recorded run was reported completely: every event once.
#[track_caller]
pub fn assert_complete(events: &[Value], outcome: &str) {
    assert_eq!(names(events, "uiresource"), ["(Tiltfile)", "a", "b", "collector"]);
    assert_eq!(names(events, "update"), ["(Tiltfile)", "a", "b"]);
    assert_eq!(names(events, "startup"), ["tilt ci"]);
    assert_eq!(of_kind(events, "session").len(), 1);
    assert_eq!(names(events, "rollout"), ["collector"]);
    assert_eq!(events.len(), 10);
    for kind in ["startup", "session"] {
        assert_eq!(of_kind(events, kind)[0]["data"]["outcome"], outcome, "{kind}");
    }
    for event in events {
        assert_eq!(event["data"]["tilt_mode"], "ci");
    }
}

//! Exit snapshots of Tilt versions before 0.37.0, whose objects have no `kind`.
//!
//! `tests/captures/0.33.22` holds a real one, without its logs and buttons. The older shapes are made
//! from it, according to Tilt's history.

use std::fs::{self, File};
use std::path::PathBuf;

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use crate::support::{Outcome, Sandbox, of_kind};

fn recorded_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures/0.33.22/ci/snapshot.json")
}

fn recorded() -> Value {
    let text = fs::read_to_string(recorded_path()).expect("the capture");
    serde_json::from_str(&text).expect("JSON")
}

fn resources(snapshot: &mut Value) -> &mut Vec<Value> {
    snapshot["view"]["uiResources"].as_array_mut().expect("resources")
}

/// Every object in the snapshot: the session, then the resources.
fn objects(snapshot: &mut Value) -> impl Iterator<Item = &mut Value> {
    let view = snapshot["view"].as_object_mut().expect("a view");
    let of_view =
        view.iter_mut().filter(|(name, _)| ["uiSession", "uiResources"].contains(&&***name));
    of_view.flat_map(|(_, value)| match value {
        Value::Array(resources) => resources.iter_mut().collect(),
        session => vec![session],
    })
}

/// The snapshot as Tilt 0.20.2 writes it: objects with names only, and without later fields.
fn of_tilt_0_20_2() -> Value {
    let mut snapshot = recorded();
    for object in objects(&mut snapshot) {
        object["metadata"] = json!({"name": object["metadata"]["name"]});
        let status = object["status"].as_object_mut().expect("a status");
        status.retain(|name, _| !["conditions", "disableStatus", "order"].contains(&&**name));
    }
    resources(&mut snapshot)[0]["status"]["buildHistory"][0]["spanID"] = json!("tiltfile:1");
    snapshot["view"].as_object_mut().expect("a view").remove("isComplete");
    snapshot.as_object_mut().expect("a snapshot").remove("createdAt");
    snapshot
}

/// Reports a snapshot file that contains this text. Returns the accepted events.
fn report(text: &[u8]) -> (Vec<Value>, Outcome) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write_snapshot(text);
    let outcome = sandbox.run("--once --snapshot tilt.json").sending_to(&server).finish();
    (server.accepted(), outcome)
}

fn report_value(snapshot: &Value) -> (Vec<Value>, Outcome) {
    report(snapshot.to_string().as_bytes())
}

/// The values of these fields of each event, sorted.
fn values<const N: usize>(events: &[Value], kind: &str, fields: [&str; N]) -> Vec<Value> {
    let row = |event: &Value| json!(fields.map(|field| event["data"][field].clone()).to_vec());
    let mut rows: Vec<_> = of_kind(events, kind).iter().map(row).collect();
    rows.sort_by_key(ToString::to_string);
    rows
}

#[test]
fn snapshot_of_tilt_0_33_yields_resources_and_updates() {
    let (events, outcome) = report(&fs::read(recorded_path()).expect("the capture"));
    assert_eq!(outcome.exits_with(0).stderr, "");
    assert_eq!(
        values(&events, "uiresource", ["name", "runtime_status", "update_status", "ready"]),
        [
            json!(["(Tiltfile)", "not_applicable", "ok", true]),
            json!(["fail", "not_applicable", "ok", true]),
            json!(["flap", "not_applicable", "ok", true]),
            json!(["honeycomb-collector", "ok", "not_applicable", true]),
            json!(["quick", "not_applicable", "ok", true]),
            json!(["slow", "not_applicable", "ok", true]),
        ]
    );
    assert_eq!(
        values(&events, "update", ["name", "update_id", "duration_ms", "initial"]),
        [
            json!(["(Tiltfile)", "tiltfile:(Tiltfile):1", 329.63, true]),
            json!(["fail", "build:4", 806.455, true]),
            json!(["flap", "build:5", 480.195, true]),
            json!(["quick", "build:2", 853.251, true]),
            json!(["slow", "build:3", 2286.245, true]),
        ]
    );
    assert!(events.iter().all(|event| event["data"]["tilt_version"] == "0.33.21"));
}

#[test]
fn snapshot_of_tilt_0_33_yields_session_startup_and_table() {
    let (events, outcome) = report(&fs::read(recorded_path()).expect("the capture"));
    let outcome = outcome.exits_with(0);
    let session_id = "a88d1714-f659-4490-9ed4-9929b8e6d08a";
    assert_eq!(
        values(
            &events,
            "session",
            ["session.id", "resources", "resources_ok", "healthy", "outcome"]
        ),
        [json!([session_id, 5, 5, true, "success"])]
    );
    assert_eq!(of_kind(&events, "session")[0]["time"], "2026-11-28T17:40:55.146195Z");
    assert_eq!(
        values(&events, "startup", ["duration_ms", "slowest_resource", "ended_by", "outcome"]),
        [json!([5717.81, "flap", "settled", "success"])]
    );
    assert_eq!(of_kind(&events, "startup")[0]["time"], "2026-11-28T17:40:49.000000Z");
    let lines: Vec<Vec<_>> =
        outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["tilt", "ci:", "success,", "6.1s"]);
    for row in [["slow", "ok", "2.3s"], ["quick", "ok", "0.9s"], ["fail", "ok", "0.8s"]] {
        assert!(lines.iter().any(|line| *line == row), "{row:?} in {lines:?}");
    }
}

#[test]
fn snapshot_with_half_its_objects_yields_the_others() {
    // Four of seven objects: the session, one resource that is missing, and two that are unreadable.
    for lost in [json!(null), json!("text"), json!({}), json!([1]), json!({"status": 1})] {
        let mut snapshot = recorded();
        snapshot["view"]["uiSession"] = json!(null);
        resources(&mut snapshot)[1] = lost.clone();
        resources(&mut snapshot)[5] = lost.clone();
        resources(&mut snapshot).remove(3);
        let (events, outcome) = report_value(&snapshot);
        let outcome = outcome.exits_with(0).says("skipped 2 objects of an unknown shape");
        outcome.says_one_line();
        let names = ["(Tiltfile)", "fail", "quick"].map(|name| json!([name]));
        assert_eq!(values(&events, "uiresource", ["name"]), names, "{lost}");
        assert_eq!(values(&events, "update", ["name"]), names, "{lost}");
        assert_eq!(values(&events, "session", ["resources", "outcome"]), [json!([3, "success"])]);
    }
}

#[test]
fn snapshot_with_unknown_members_yields_the_same_events() {
    let mut snapshot = recorded();
    let unknown = json!({"kind": "UISession", "deep": [null, {"status": 1}]});
    snapshot["new"] = unknown.clone();
    snapshot["view"]["new"] = unknown.clone();
    // A cluster is an object that later versions add to the view.
    snapshot["view"]["clusters"] =
        json!([{"metadata": {"name": "default"}, "status": {"error": "x"}}]);
    for object in objects(&mut snapshot) {
        object["new"] = unknown.clone();
        object["metadata"]["new"] = unknown.clone();
        object["status"]["new"] = unknown.clone();
    }
    let fields = ["kind", "name", "duration_ms", "update_status", "session.id", "trace.span_id"];
    let (events, outcome) = report_value(&snapshot);
    assert_eq!(outcome.exits_with(0).stderr, "");
    for kind in ["uiresource", "update", "session", "startup"] {
        let expected = values(&report_value(&recorded()).0, kind, fields);
        assert_eq!(values(&events, kind, fields), expected, "{kind}");
    }
}

#[test]
fn snapshot_without_a_readable_resource_exits_with_1() {
    let resources_are = |resources: Value| {
        let mut snapshot = recorded();
        snapshot["view"]["uiResources"] = resources;
        snapshot.to_string()
    };
    let no_name = json!({"metadata": {}, "status": {"updateStatus": "ok"}});
    for (text, message) in [
        (resources_are(json!([])), "tilt.json contains no Tilt resources"),
        (resources_are(json!(null)), "tilt.json contains no Tilt resources"),
        (resources_are(json!([no_name, 1])), "cannot read any resource in tilt.json (it shows 2)"),
        (resources_are(json!([null])), "cannot read any resource in tilt.json (it shows 1)"),
        (resources_are(json!("text")), "tilt.json is not a snapshot (line 1"),
        (json!({"view": null}).to_string(), "tilt.json contains no Tilt resources"),
        // Tilt 0.20.0 wrote its resources in another form.
        (json!({"view": {"resources": [{"name": "web"}]}}).to_string(), "Tilt 0.20.2 or later"),
    ] {
        let (events, outcome) = report(text.as_bytes());
        let outcome = outcome.exits_with(1).says(message).says_one_line();
        assert_eq!((events.len(), outcome.stdout.as_str()), (0, ""), "{text}");

        let dry = Sandbox::new().dry_run_of_snapshot(text, "").finish();
        dry.exits_with(1).says(message).says_one_line();
    }
}

#[test]
fn snapshot_of_tilt_0_20_yields_resources_and_updates() {
    let (events, outcome) = report_value(&of_tilt_0_20_2());
    assert_eq!(outcome.exits_with(0).stderr, "");
    assert_eq!(values(&events, "uiresource", ["name", "update_status"]).len(), 6);
    assert_eq!(values(&events, "update", ["name", "initial"]).len(), 5);
    let load = json!(["(Tiltfile)", "tiltfile", true]);
    assert!(values(&events, "update", ["name", "update_type", "initial"]).contains(&load));
    assert_eq!(values(&events, "session", ["resources", "outcome"]), [json!([5, "success"])]);
}

#[test]
fn snapshot_without_a_creation_time_has_that_of_its_file() {
    let sandbox = Sandbox::new();
    let dry = sandbox.dry_run_of_snapshot(of_tilt_0_20_2().to_string(), "");
    let written_at = humantime::parse_rfc3339("2026-11-28T17:40:55Z").expect("a time");
    let file = File::options().write(true).open(sandbox.path("work/tilt.json"));
    let file = file.expect("the snapshot");
    file.set_modified(written_at).expect("a time of the file");
    let session = &of_kind(&dry.finish().exits_with(0).events(), "session")[0];
    assert_eq!(session["time"], "2026-11-28T17:40:55.000000Z");
    assert_eq!(session["data"]["uptime_ms"], 6000.0);
}

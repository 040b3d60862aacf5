//! Each kind of event, field by field, from the recorded output of a real Tilt.
//!
//! `tests/expect` contains the payloads. Values that differ between machines and runs are written in
//! angle brackets there, and are checked for their format.

use std::time::{Duration, SystemTime};

use fakes::honeycomb::Server;
use serde_json::{Value, json};
use tilt_honeycomb::events::event::EventKind;
use tilt_honeycomb::events::fields::{self, ValueType};

use crate::support::{RECORDED_EVENTS, Sandbox, capture, of_kind, read_capture};

const KINDS: [&str; 7] =
    ["uiresource", "session", "update", "rollout", "dockerimage", "cmdimage", "dockerimage_stage"];

fn expected(kind: &str) -> Vec<Value> {
    let path = format!("{}/tests/expect/{kind}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("an expectation");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn time(text: &Value) -> SystemTime {
    humantime::parse_rfc3339(text.as_str().expect("a time")).expect("RFC 3339 in UTC")
}

/// Replaces each value in angle brackets by the actual value, after checking its format.
fn fill_in(expected: &mut Value, actual: &Value) {
    if expected["time"] == "<report>" {
        let age = SystemTime::now().duration_since(time(&actual["time"])).expect("a past time");
        assert!(age < Duration::from_mins(10), "{actual}");
        expected["time"] = actual["time"].clone();
    }
    for (name, value) in expected["data"].as_object_mut().expect("fields") {
        let found = &actual["data"][name];
        let Some(form) = value.as_str().filter(|text| text.starts_with('<')) else { continue };
        let is_hex = |digits| {
            let text = found.as_str().unwrap_or_default();
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let has_form = match form {
            "<version>" => found == env!("CARGO_PKG_VERSION"),
            "<machine>" => found.is_u64() || found.as_str().is_some_and(|text| !text.is_empty()),
            "<installation>" => is_hex(32),
            "<hash>" => is_hex(16),
            since => {
                let since = since.trim_start_matches("<since ").trim_end_matches('>');
                let since = humantime::parse_rfc3339(since).expect(since);
                let passed = time(&actual["time"])
                    .duration_since(since)
                    .expect("a time after the recording");
                found.as_f64().is_some_and(|ms| (ms - passed.as_secs_f64() * 1000.0).abs() < 0.01)
            }
        };
        assert!(has_form, "{name} is not a {form}: {actual}");
        *value = found.clone();
    }
}

#[track_caller]
fn assert_as_expected(events: &[Value], is_dry: bool) {
    for kind in KINDS {
        let actual = of_kind(events, kind);
        let mut expected = expected(kind);
        assert_eq!(actual.len(), expected.len(), "{kind}");
        for (expected, actual) in expected.iter_mut().zip(&actual) {
            if is_dry {
                // The id is created with the state, which a dry run does not create.
                expected["data"].as_object_mut().expect("fields").remove("installation.id");
            }
            fill_in(expected, actual);
            assert_eq!(actual, expected, "\n{actual:#}\n{expected:#}");
        }
    }
}

#[test]
fn a_dry_run_prints_the_expected_payloads() {
    let dry = Sandbox::new().run("--once --dry-run").finish().exits_with(0);
    assert_eq!(dry.events().len(), RECORDED_EVENTS);
    assert_as_expected(&dry.events(), true);
}

#[test]
fn the_server_receives_the_expected_payloads() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    assert_as_expected(&server.accepted(), false);
}

#[test]
fn one_combined_get_yields_the_same_events_as_four() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("combined.json", read_capture("compose/combined.json"));
    let together = sandbox.run("--once --dry-run").finish().exits_with(0);
    sandbox.tilt().set("single-kinds-only", "");
    let one_by_one = sandbox.run("--once --dry-run").finish().exits_with(0);
    assert_as_expected(&together.events(), true);
    assert_as_expected(&one_by_one.events(), true);
}

/// The fields and values that the replaced Tilt extension would send.
#[test]
fn fields_of_the_original_extension_keep_names_and_values() {
    let events = Sandbox::new().run("--once --dry-run").finish().exits_with(0).events();
    let statuses = |name: &str, runtime: &str, update: &str| {
        json!({
            "tilt_version": "0.37.6", "user": "", "kind": "uiresource",
            "name": name, "runtime_status": runtime, "update_status": update,
        })
    };
    let build = |kind: &str, image: &str, duration_ms: f64| {
        json!({
            "tilt_version": "0.37.6", "user": "", "kind": kind,
            "image_name": image, "duration_ms": duration_ms,
        })
    };
    let expected = [
        statuses("(Tiltfile)", "not_applicable", "ok"),
        statuses("api", "ok", "error"),
        statuses("codegen", "not_applicable", "error"),
        statuses("crasher", "error", "not_applicable"),
        statuses("docs", "ok", "not_applicable"),
        statuses("lint", "not_applicable", "ok"),
        statuses("manual", "not_applicable", "none"),
        statuses("web", "ok", "ok"),
        statuses("worker", "ok", "ok"),
        build("dockerimage", "web", 1745.612),
        build("dockerimage", "api", 382.759),
        build("cmdimage", "worker", 278.484),
    ];
    for original in &expected {
        let has_all = |event: &&Value| {
            let fields = original.as_object().expect("fields");
            fields.iter().all(|(name, value)| event["data"][name] == *value)
        };
        assert_eq!(events.iter().filter(has_all).count(), 1, "{original}");
        for (name, value) in original.as_object().expect("fields") {
            let value_type = fields::find(name).expect("a listed field").value_type;
            assert_eq!(value_type == ValueType::Number, value.is_number(), "{name}");
        }
    }
    let counts = ["uiresource", "dockerimage", "cmdimage"].map(|kind| of_kind(&events, kind).len());
    assert_eq!(counts, [9, 2, 1], "nothing else has the kind of an original event");
}

/// Queries for the original extension select image builds by these two fields.
#[test]
fn only_image_builds_have_an_image_name_and_a_duration() {
    let mut events = Sandbox::new().run("--once --dry-run").finish().exits_with(0).events();
    let recording = std::fs::read_to_string(capture("bring-up/events.jsonl")).expect("a capture");
    events.extend(recording.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    for event in &events {
        let data = &event["data"];
        let has_both = data["image_name"].is_string() && data["duration_ms"].is_number();
        let is_image_build = ["dockerimage", "cmdimage"].iter().any(|kind| data["kind"] == *kind);
        assert_eq!(has_both, is_image_build, "{event}");
        assert_eq!(data["image"].is_string(), data["kind"] == "dockerimage_stage", "{event}");
    }
    let image_name = fields::find("image_name").expect("a listed field");
    assert_eq!(image_name.kinds, [EventKind::DockerImage, EventKind::CmdImage]);
}

#[test]
fn heartbeats_have_the_time_of_the_report_and_builds_their_own() {
    let before = SystemTime::now();
    let events = Sandbox::new().run("--once --dry-run").finish().exits_with(0).events();
    let mut times: Vec<_> =
        of_kind(&events, "uiresource").iter().map(|e| time(&e["time"])).collect();
    times.dedup();
    assert_eq!(times.len(), 1);
    // Events have microseconds only.
    assert!(times[0] + Duration::from_micros(1) >= before && times[0] <= SystemTime::now());
    assert_eq!(of_kind(&events, "cmdimage")[0]["time"], "2026-11-22T15:25:12.885547Z");
}

/// Values that the recorded compose environment does not contain.
#[test]
fn waiting_disabled_and_restarting_are_reported() {
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", |resources| {
        *resources = vec![json!({
            "kind": "UIResource",
            "metadata": {"name": "checkout", "labels": {"shop": "shop", "backend": "backend"}},
            "status": {
                "updateStatus": "pending", "runtimeStatus": "pending", "triggerMode": 3,
                "specs": [{"id": "image:checkout", "type": "image"}, {"type": "k8s"}],
                "disableStatus": {"state": "Disabled"},
                "waiting": {"reason": "waiting-for-dep", "on": [{"name": "web"}, {"name": "db"}]},
                "k8sResourceInfo": {"podStatus": "CrashLoopBackOff", "podRestarts": 7},
                "composeResourceInfo": {"healthStatus": "starting"},
                "conditions": [
                    {"type": "Ready", "status": "Unknown"},
                    {"type": "UpToDate", "status": "False", "reason": "UpdatePending"},
                ],
            },
        })];
    });
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    let data = &of_kind(&events, "uiresource")[0]["data"];
    for (name, value) in [
        ("labels", json!("backend,shop")),
        ("resource_type", json!("k8s")),
        ("disabled", json!(true)),
        ("trigger_mode", json!("auto_with_manual_init")),
        ("waiting_reason", json!("waiting-for-dep")),
        ("waiting_on", json!("db,web")),
        ("pod_status", json!("CrashLoopBackOff")),
        ("pod_restarts", json!(7)),
        ("health_status", json!("starting")),
        ("up_to_date", json!(false)),
    ] {
        assert_eq!(data[name], value, "{name} in {data}");
    }
    assert_eq!((data.get("ready"), data.get("in_state_ms")), (None, None));
}

/// The events of two reports, before and after this change of the resources.
fn reported_twice(change: impl FnOnce(&mut Vec<Value>)) -> (Vec<Value>, Vec<Value>) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let first = server.accepted();
    sandbox.tilt().change("uiresources", change);
    sandbox.report_to(&server).finish().exits_with(0);
    let second = server.accepted().split_off(first.len());
    (first, second)
}

fn row_of<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let is_row =
        |event: &&Value| event["data"]["kind"] == "uiresource" && event["data"]["name"] == name;
    &events.iter().find(is_row).expect(name)["data"]
}

#[test]
fn a_full_report_shows_the_previous_status_of_a_change() {
    let (first, second) = reported_twice(|resources| {
        let web = resources.iter_mut().find(|r| r["metadata"]["name"] == "web").expect("web");
        web["status"]["runtimeStatus"] = json!("error");
    });
    let web = row_of(&second, "web");
    assert_eq!(
        (&web["runtime_status"], &web["previous_runtime_status"]),
        (&json!("error"), &json!("ok"))
    );
    assert_eq!(web["previous_update_status"], "ok");
    assert!(web["previous_state_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{web}");
    for (events, name) in [(&first, "web"), (&second, "lint")] {
        let row = row_of(events, name).as_object().expect("fields");
        assert!(!row.keys().any(|field| field.starts_with("previous_")), "{row:?}");
    }
}

#[test]
fn a_pod_without_restarts_has_none_and_its_status_is_a_change() {
    let (_, second) = reported_twice(|resources| {
        let web = resources.iter_mut().find(|r| r["metadata"]["name"] == "web").expect("web");
        web["status"]["k8sResourceInfo"] = json!({"podName": "web-1", "podStatus": "Running"});
    });
    let web = row_of(&second, "web");
    assert_eq!((&web["pod_status"], &web["pod_restarts"]), (&json!("Running"), &json!(0)));
    assert_eq!(web["previous_update_status"], "ok");
    assert_eq!(row_of(&second, "lint").get("pod_restarts"), None);
}

#[test]
fn every_event_carries_the_service_name() {
    let events = Sandbox::new().run("--once --dry-run").finish().exits_with(0).events();
    assert!(events.iter().all(|event| event["data"]["service.name"] == "tilt"));
}

#[test]
fn no_session_row_is_sent_before_tilt_shows_resources() {
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", Vec::clear);
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "session"), [Value::Null; 0]);
}

#[test]
fn options_and_mode_are_on_every_event() {
    let sandbox = Sandbox::new();
    let events = sandbox
        .run("--once --dry-run --user ann --field team=checkout")
        .args(&["--field", "laptop=14 inch, 2024"])
        .env("TILT_HONEYCOMB_MODE", "ci")
        .finish()
        .exits_with(0)
        .events();
    assert_eq!(events.len(), RECORDED_EVENTS);
    for event in &events {
        let data = &event["data"];
        assert_eq!(data["user"], "ann");
        assert_eq!(data["team"], "checkout");
        assert_eq!(data["laptop"], "14 inch, 2024");
        assert_eq!(data["tilt_mode"], "ci");
    }
}

#[test]
fn the_tilt_cloud_user_overrides_the_variable() {
    let sandbox = Sandbox::new();
    let user = || {
        let dry = sandbox.run("--once --dry-run").env("TILT_HONEYCOMB_USER", "ann").finish();
        dry.exits_with(0).events()[0]["data"]["user"].clone()
    };
    assert_eq!(user(), "ann");
    sandbox.tilt().change("uisession", |session| {
        session[0]["status"]["tiltCloudUsername"] = json!("ann-in-the-cloud");
    });
    assert_eq!(user(), "ann-in-the-cloud");
}

#[test]
fn a_damaged_installation_id_is_replaced_and_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let path = sandbox.path("state/tilt-honeycomb/installation-id");
    for damaged in ["", "no id"] {
        sandbox.report_to(&server).finish().exits_with(0);
        std::fs::write(&path, damaged).expect("a file");
        let report = sandbox.report_to(&server).finish().exits_with(0);
        report.says("installation-id contained no id; created a new one").says_one_line();
        let id = std::fs::read_to_string(&path).expect("a file");
        let last = server.accepted().pop().expect("an event");
        assert_eq!(last["data"]["installation.id"], id.as_str());
    }
    sandbox.report_to(&server).finish().exits_with(0).says_nothing();
}

#[test]
fn the_installation_id_is_stable_and_unique() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..2 {
        sandbox.report_to(&server).finish().exits_with(0);
    }
    Sandbox::new().report_to(&server).finish().exits_with(0);
    let ids: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.events[0]["data"]["installation.id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn error_text_is_sent_on_request_only_and_truncated_to_1_kib() {
    let sandbox = Sandbox::new();
    let text = format!("{}é and more", "x".repeat(1023));
    sandbox.tilt().change("dockerimages", |images| {
        images[1]["status"]["completed"]["error"] = json!(text);
    });
    let failed = |options: &str| {
        let events = sandbox.run(options).finish().exits_with(0).events();
        of_kind(&events, "dockerimage").into_iter().find(|e| e["data"]["error"] == true)
    };
    let without_text = failed("--once --dry-run").expect("a failed build");
    assert_eq!(without_text["data"].get("error.message"), None);
    let with_text = failed("--once --dry-run --send-error-text").expect("a failed build");
    assert_eq!(with_text["data"]["error.message"], "x".repeat(1023));
    assert_eq!(with_text["data"]["error.hash"], without_text["data"]["error.hash"]);
}

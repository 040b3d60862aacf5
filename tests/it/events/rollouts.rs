//! Rollouts and runtime failures of a real Tilt on a real Kubernetes.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::observation::{Heartbeats, Observation};
use tilt_honeycomb::sidecar::live_view::LiveView;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::model::{Snapshot, Timestamp};

use crate::support::{Sandbox, capture, of_kind, read_capture};

/// The events of a single poll of a recorded environment.
fn polled(folder: &str) -> Vec<Value> {
    let sandbox = Sandbox::new();
    for kind in ["dockerimages", "cmdimages"] {
        sandbox.tilt().unset(&format!("{kind}.json"));
    }
    let is_recorded = |kind: &&str| capture(&format!("{folder}/{kind}.json")).exists();
    let kinds = ["uisession", "uiresources", "kubernetesdiscoveries"].into_iter();
    sandbox.tilt().show_recorded(folder, &kinds.filter(is_recorded).collect::<Vec<_>>());
    sandbox.run("--once --dry-run").finish().exits_with(0).events()
}

/// The events of an exit snapshot.
fn of_snapshot(folder: &str) -> Vec<Value> {
    let snapshot = read_capture(&format!("{folder}/snapshot.json"));
    Sandbox::new().dry_run_of_snapshot(snapshot, "").finish().exits_with(0).events()
}

/// Replays recorded versions of resources.
fn replayed(folder: &str) -> Vec<Value> {
    let journal = capture(&format!("{folder}/watch-uiresources.jsonl"));
    replay(&fs::read_to_string(journal).expect("a capture"))
}

/// Replays versions of resources, one per line, at the latest time that they show.
fn replay(versions: &str) -> Vec<Value> {
    let (mut state, mut view) = (State::default(), LiveView::default());
    let context = Context { collector: "honeycomb-collector".into(), ..Context::default() };
    let mut now = SystemTime::UNIX_EPOCH;
    let mut session = Snapshot::default();
    assert!(session.add(
        r#"{"kind":"UISession","metadata":{"uid":"s"},"status":{"tiltStartTime":"2026-11-28T17:20:00Z"}}"#
    ));
    view.replace(session);
    for line in versions.lines() {
        let mut version = Snapshot::default();
        assert!(version.add(line), "{line}");
        view.apply(version);
        let times = line.split('"').filter_map(Timestamp::parse).map(|time| time.at);
        now = times.fold(now, SystemTime::max);
        let changes = view.changes();
        let observation =
            Observation { is_watched: true, ..view.observation(Heartbeats::Changed(&changes)) };
        reconcile(&mut state, &observation, &context, now);
        view.mark_reported();
    }
    let later = now + Duration::from_secs(5);
    reconcile(&mut state, &view.observation(Heartbeats::Changed(&[])), &context, later);
    let events = state.queue().fresh().iter().map(|event| serde_json::from_str(event.wire.get()));
    events.map(|event| event.expect("JSON")).collect()
}

/// The fields of each rollout, sorted by resource. Rollouts of a resource keep their order.
fn rollouts(events: &[Value], fields: &[&str]) -> Value {
    let mut rollouts = BTreeMap::<_, Vec<_>>::new();
    for event in of_kind(events, "rollout") {
        let data = &event["data"];
        let name = data["name"].as_str().expect("a name").to_owned();
        let values: Vec<_> = fields.iter().map(|field| data[*field].clone()).collect();
        rollouts.entry(name).or_default().push(values);
    }
    json!(rollouts)
}

const OUTCOME: [&str; 4] = ["outcome", "duration_ms", "error.type", "exit_code"];
const POD: [&str; 4] = ["pod_scheduled_ms", "pod_initialized_ms", "pod_ready_ms", "pod_restarts"];

#[test]
fn a_poll_shows_the_rollouts_of_ready_resources() {
    let events = polled("k8s/real-up-variety");
    let expected = json!({
        // A rebuild whose pod needs 10 s. The pod of its first update is gone.
        "api": [["ready", 10441.503, null, null]],
        "custom": [["ready", 13164.383, null, null]],
        // `pod_readiness='ignore'`
        "ignored": [["ready", 2056.189, null, null]],
        "immutable": [["ready", 10641.706, null, null]],
        // Its container ended in this second.
        "job-bad": [["failed", 4676.539, "job_failed", 9]],
        "job-ok": [["ready", 14914.905, null, null]],
        // Two live updates. The pod stayed ready.
        "live": [["ready", 0.0, null, null], ["ready", 0.0, null, null]],
        // The live update before this one failed.
        "lurun": [["ready", 0.0, null, null]],
        "off": [["ready", 13570.925, null, null]],
        "ready": [["ready", 12497.091, null, null]],
        "realflaky": [["ready", 12968.738, null, null]],
        // Objects without a pod.
        "settings": [["ready", 4999.46, null, null]],
        "uncategorized": [["ready", 7658.389, null, null]],
        "widget": [["ready", 1345.692, null, null]],
        // Absent: `worker`, whose pod was replaced later; `refused`, whose update failed; `lint`
        // and `after-job`, which serve nothing; those that are still in trouble or not ready.
    });
    assert_eq!(rollouts(&events, &OUTCOME), expected);
}

#[test]
fn a_rollout_has_the_phases_of_its_own_pod() {
    let pods = rollouts(&polled("k8s/real-up-variety"), &POD);
    assert_eq!(pods["api"], json!([[0.0, 0.0, 10000.0, 0]]));
    assert_eq!(pods["realflaky"], json!([[0.0, 11000.0, 12000.0, 0]]), "a slow init container");
    assert_eq!(pods["live"][0], json!([null, null, null, null]), "a live update keeps its pod");
    assert_eq!(pods["ignored"], json!([[0.0, 1000.0, null, 4]]), "it crashes");
}

#[test]
fn a_watch_shows_the_rollouts_of_pods_in_trouble() {
    let expected = json!({
        "api": [["ready", 6613.675, null, null], ["ready", 10441.503, null, null]],
        "badcfg": [["failed", 10679.501, "pod_config", null]],
        // Ready for three seconds before its first crash.
        "crash": [["ready", 12627.062, null, null]],
        // Since its first failure. Each attempt to start it again takes a few seconds.
        "initcrash": [["failed", 13419.002, "crash_loop", null]],
        "job-bad": [["failed", 14823.024, "job_failed", null]],
        "job-ok": [["ready", 14914.905, null, null]],
        "live": [
            ["ready", 6792.062, null, null], ["ready", 0.0, null, null], ["ready", 0.0, null, null]
        ],
        "oom": [["ready", 28494.021, null, null]],
        "pull": [["failed", 12497.061, "image_pull", null]],
        "ready": [["ready", 12497.091, null, null]],
        "realflaky": [["ready", 12968.738, null, null]],
        "worker": [["ready", 8543.026, null, null]],
    });
    assert_eq!(rollouts(&replayed("k8s/real-up-variety"), &OUTCOME), expected);
}

#[test]
fn rollouts_follow_live_updates_and_a_flaky_init_container() {
    let expected = json!({
        // Two failures of the init container within 20 s do not count.
        "flaky": [["ready", 25745.038]],
        "job-ok": [["ready", 6182.96]],
        // The first deploy; a failed live update, which has no rollout; the image build that
        // follows it; then six saves in four seconds.
        "live": [
            ["ready", 10306.974], ["superseded", 2839.933], ["superseded", 340.37],
            ["ready", 66.31], ["ready", 0.0], ["ready", 0.0], ["ready", 0.0]
        ],
        "lurun": [["ready", 10240.73], ["ready", 0.0], ["ready", 3711.142]],
    });
    let fields = ["outcome", "duration_ms"];
    assert_eq!(rollouts(&replayed("k8s/live-update"), &fields), expected);
}

#[test]
fn the_end_of_tilt_ci_ends_every_rollout() {
    let outcomes = |folder| rollouts(&of_snapshot(folder), &["outcome", "error.type"]);
    let ready = json!([["ready", null]]);
    assert_eq!(
        outcomes("k8s/real-ci-green"),
        json!({"job-ok": ready, "ready": ready, "settings": ready, "worker": ready})
    );
    assert_eq!(
        outcomes("k8s/ci-pull"),
        json!({"pull": [["failed", "image_pull"]], "ready": ready})
    );
    assert_eq!(
        outcomes("k8s/ci-notready"),
        json!({"notready": [["session_end", null]], "ready": ready})
    );
}

#[test]
fn a_rollout_is_a_child_of_its_update() {
    let events = polled("k8s/real-up-variety");
    let of_api = |kind| of_kind(&events, kind).into_iter().filter(|e| e["data"]["name"] == "api");
    let [_, update] = &of_api("update").collect::<Vec<_>>()[..] else { panic!("two updates") };
    let [rollout] = &of_api("rollout").collect::<Vec<_>>()[..] else { panic!("one rollout") };
    assert_eq!(rollout["data"]["trace.parent_id"], update["data"]["trace.span_id"]);
    assert_eq!(rollout["data"]["trace.trace_id"], update["data"]["trace.trace_id"]);
    assert_eq!(rollout["data"]["update_id"], update["data"]["update_id"]);
    assert_eq!(rollout["time"], "2026-11-28T17:45:13.539418Z", "the end of the update");
}

#[test]
fn a_resource_that_is_down_has_a_class() {
    let mut classes = BTreeMap::new();
    for event in of_kind(&polled("k8s/real-up-variety"), "uiresource") {
        let data = &event["data"];
        if !data["error.type"].is_null() {
            let name = data["name"].as_str().expect("a name").to_owned();
            classes.insert(name, [data["error.type"].clone(), data["exit_code"].clone()]);
        }
    }
    let expected = json!({
        "badcfg": ["pod_config", null],
        "crash": ["crash_loop", null],
        "initcrash": ["crash_loop", null],
        "job-bad": ["job_failed", 9],
        "multi": ["crash_loop", null],
        // A single poll cannot show that memory ran out: the container waits for its restart.
        "oom": ["crash_loop", null],
        "pending": ["unschedulable", null],
        "pull": ["image_pull", null],
    });
    assert_eq!(json!(classes), expected);
}

#[test]
fn a_refusal_by_the_api_fails_the_update_and_has_no_rollout() {
    let events = polled("k8s/real-refusals");
    let mut classes = BTreeMap::new();
    for update in of_kind(&events, "update") {
        let data = &update["data"];
        classes
            .insert(data["name"].as_str().expect("a name").to_owned(), data["error.type"].clone());
    }
    let expected = json!({
        "(Tiltfile)": null,
        // `metadata.name` is invalid.
        "bad_name": "kubernetes",
        "badfield": null,
        // `containerPort` is out of range.
        "badport": "kubernetes",
        // The admission webhook is down.
        "hooked": "kubernetes",
        "immutable": null,
        // The selector does not match the labels.
        "invalid": "kubernetes",
        "job-ok": null,
        "nokind": "kubernetes",
        // The namespace does not exist.
        "nons": "kubernetes",
        // A `ValidatingAdmissionPolicy` denied it.
        "policied": "kubernetes",
        "quotaed": "kubernetes",
        "ready": null,
    });
    assert_eq!(json!(classes), expected);
    assert_eq!(rollouts(&events, &OUTCOME), json!({}));
}

#[test]
fn a_failure_that_a_watch_shows_with_the_update_is_new() {
    let version = |status: &str, build: &str, pod: &str, now: &str| {
        json!({
            "kind": "UIResource", "metadata": {"name": "job"},
            "status": {
                "updateStatus": status, "runtimeStatus": if pod.is_empty() { "pending" } else { "error" },
                "specs": [{"type": "k8s"}], "lastDeployTime": now,
                build: if build == "currentBuild" {
                    json!({"spanID": "build:1", "startTime": "2026-11-28T17:20:05Z"})
                } else {
                    json!([{"spanID": "build:1", "startTime": "2026-11-28T17:20:05Z",
                        "finishTime": "2026-11-28T17:20:06Z"}])
                },
                "conditions": [{"type": "Ready", "status": "False",
                    "lastTransitionTime": "2026-11-28T17:20:01Z"}],
                "k8sResourceInfo": {"displayNames": ["job:job"], "podStatus": pod,
                    "podCreationTime": "2026-11-28T17:20:06Z"},
            },
        })
        .to_string()
    };
    let building = version("in_progress", "currentBuild", "", "2026-11-28T17:20:05Z");
    let failed = version("ok", "buildHistory", "Error", "2026-11-28T17:20:09Z");
    let expected = json!({"job": [["failed", 3000.0, "job_failed", null]]});
    assert_eq!(rollouts(&replay(&format!("{building}\n{failed}")), &OUTCOME), expected);
    let expected = json!({"job": [["failed", 0.0, "job_failed", null]]});
    assert_eq!(rollouts(&replay(&failed), &OUTCOME), expected, "it may be old");
}

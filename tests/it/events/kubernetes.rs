//! The status of Kubernetes environments, from the recorded output of a real Tilt: health, counts, state
//! and cluster. [`rollouts`](super::rollouts) has the rollouts and the classes of failures.
//!
//! Which tests read each folder of `tests/captures/0.37.6/k8s`:
//!
//! | folder | tests |
//! |---|---|
//! | `real-up-variety` | `real_resources_have_the_health_that_a_person_sees`, `a_session_counts_every_resource_but_the_collectors`, `a_poll_shows_the_rollouts_of_ready_resources`, `a_watch_shows_the_rollouts_of_pods_in_trouble`, `a_resource_that_is_down_has_a_class` |
//! | `live-update` | `rollouts_follow_live_updates_and_a_flaky_init_container` |
//! | `real-refusals` | `a_refusal_by_the_api_fails_the_update_and_has_no_rollout`, and the texts in `failures` |
//! | `real-ci-green`, `ci-pull`, `ci-notready` | `the_last_row_of_a_tilt_ci_shows_how_it_ended`, `the_startup_of_a_tilt_ci_counts_its_resources`, `the_end_of_tilt_ci_ends_every_rollout` |
//! | `away-at-start` | `an_unreachable_cluster_makes_the_session_unhealthy`, `a_startup_without_a_cluster_says_so`, `check_names_the_cluster_or_says_that_it_is_unreachable` |

use serde_json::{Value, json};
use tilt_honeycomb::tilt::health::Health;
use tilt_honeycomb::tilt::model::Snapshot;

use crate::support::{Sandbox, captured_json, of_kind, read_capture};

/// A machine whose Tilt shows a recorded Kubernetes environment.
fn sandbox_of(folder: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let kinds = ["uisession", "uiresources", "clusters"];
    sandbox.tilt().show_recorded(&format!("k8s/{folder}"), &kinds);
    for kind in ["dockerimages", "cmdimages"] {
        sandbox.tilt().change(kind, Vec::clear);
    }
    sandbox
}

/// The events of a recorded exit snapshot of a `tilt ci` that ended so.
fn ci_events(file: &str, outcome: &str) -> Vec<Value> {
    let (sandbox, snapshot) = (Sandbox::new(), read_capture(&format!("k8s/{file}")));
    let dry = sandbox.dry_run_of_snapshot(snapshot, &format!("--outcome {outcome}"));
    dry.finish().exits_with(0).events()
}

fn dry_run(sandbox: &Sandbox) -> Vec<Value> {
    sandbox.run("--once --dry-run").finish().exits_with(0).events()
}

/// The fields of the only `session` event.
fn session(events: &[Value]) -> Value {
    let mut sessions = of_kind(events, "session");
    assert_eq!(sessions.len(), 1);
    sessions.remove(0)["data"].take()
}

fn row(events: &[Value], name: &str) -> Value {
    let rows = of_kind(events, "uiresource");
    rows.into_iter().find(|row| row["data"]["name"] == name).expect(name)["data"].take()
}

#[track_caller]
fn assert_fields(data: &Value, expected: &Value) {
    for (name, value) in expected.as_object().expect("fields") {
        assert_eq!(&data[name], value, "{name} in {data}");
    }
}

/// The health that a person gives each resource after reading `kubectl get pods`.
const HEALTH: [(Health, &[&str]); 4] = [
    (
        Health::Ok,
        &[
            "(Tiltfile)",
            "after-crash",
            "after-job",
            "api",
            "custom",
            "ignored",
            "immutable",
            "job-ok",
            "live",
            "lurun",
            "off",
            "ready",
            "realflaky",
            "settings",
            "uncategorized",
            "widget",
            "worker",
        ],
    ),
    (
        Health::Error,
        &[
            "badcfg",
            "broken",
            "crash",
            "custom-bad",
            "custom-noyaml",
            "custom-slow",
            "hookdown",
            "initcrash",
            "invalid",
            "job-bad",
            "lint",
            "multi",
            "nokind",
            "nons",
            "oom",
            "pull",
            "refused",
        ],
    ),
    (Health::Pending, &["after-bad", "after-invalid", "notready", "pending"]),
    (Health::Idle, &["manual"]),
];

#[test]
fn real_resources_have_the_health_that_a_person_sees() {
    let list = captured_json("k8s/real-up-variety/uiresources.json");
    let mut snapshot = Snapshot::default();
    for object in list["items"].as_array().expect("items") {
        assert!(snapshot.add(&object.to_string()));
    }
    let counted = snapshot.resources.iter().filter(|r| r.name != "honeycomb-collector");
    assert_eq!(counted.clone().count(), 39);
    for resource in counted {
        let name = resource.name.as_str();
        let (expected, _) =
            HEALTH.iter().find(|(_, names)| names.contains(&name)).expect("a listed resource");
        assert_eq!(Health::of(resource), *expected, "{name}");
    }
}

#[test]
fn a_session_counts_every_resource_but_the_collectors() {
    let events = dry_run(&sandbox_of("real-up-variety"));
    assert_fields(
        &session(&events),
        &json!({
            "state": "unhealthy", "healthy": false, "resources": 39, "resources_ok": 17,
            "resources_error": 17, "resources_pending": 4, "resources_in_progress": 0,
            "resources_idle": 1, "resources_disabled": 0, "cluster.product": "unknown",
            "cluster.arch": "amd64", "error": null, "time_to_healthy_ms": null,
            "unready": "after-bad,after-invalid,badcfg,broken,crash,custom-bad,custom-noyaml,\
                custom-slow,hookdown,initcrash,invalid,job-bad,lint,multi,nokind,nons,notready,\
                oom,pending,pull",
        }),
    );
    assert_eq!(of_kind(&events, "uiresource").len(), 40);
    assert_eq!(row(&events, "honeycomb-collector")["collector"], true);
    assert_eq!(row(&events, "api").get("collector"), None);
}

#[test]
fn restarts_are_zero_if_there_is_a_pod_and_tilt_omits_them() {
    let events = dry_run(&sandbox_of("real-up-variety"));
    for (name, restarts) in [("api", json!(0)), ("crash", json!(4)), ("lint", Value::Null)] {
        assert_eq!(row(&events, name)["pod_restarts"], restarts, "{name}");
    }
}

#[test]
fn an_unreachable_cluster_makes_the_session_unhealthy() {
    let sandbox = sandbox_of("away-at-start");
    let events = dry_run(&sandbox);
    assert_fields(
        &session(&events),
        &json!({
            "state": "unhealthy", "healthy": false, "error": true,
            "error.type": "cluster_unavailable", "resources": 5, "resources_ok": 2,
            "resources_error": 0, "resources_pending": 3, "unready": "after-web,uncategorized,web",
            "cluster.product": null, "cluster.version": null,
        }),
    );
    let web = row(&events, "web");
    assert_eq!(web["waiting_reason"], "waiting-for-cluster");
    assert_eq!(web.get("waiting_on"), None, "a cluster is not a resource");
    assert_eq!(row(&events, "after-web")["waiting_on"], "web");
}

#[test]
fn check_names_the_cluster_or_says_that_it_is_unreachable() {
    for (folder, verdict, text) in [
        (
            "real-up-variety",
            "ok",
            "Tilt is connected to Kubernetes v0.0.0-master+$Format:%H$ (unknown product)",
        ),
        ("away-at-start", "note", "Tilt cannot connect to its Kubernetes cluster"),
    ] {
        let check = sandbox_of(folder).run("check --api-endpoint http://127.0.0.1:1").finish();
        check.finds("cluster", verdict, text);
    }
    let lost = sandbox_of("real-up-variety");
    lost.tilt().change("clusters", |clusters| clusters[0]["status"]["error"] = json!("refused"));
    let check = lost.run("check --api-endpoint http://127.0.0.1:1").finish();
    check.finds("cluster", "note", "Tilt has lost its Kubernetes cluster");
}

#[test]
fn a_tilt_without_the_kind_clusters_is_reported_without_it() {
    let sandbox = sandbox_of("away-at-start");
    sandbox.tilt().unset("clusters.json");
    let session = session(&dry_run(&sandbox));
    assert_fields(&session, &json!({"state": "updating", "error": null, "cluster.arch": null}));
}

#[test]
fn only_an_environment_on_kubernetes_is_asked_for_its_cluster() {
    let asks = |sandbox: &Sandbox| {
        dry_run(sandbox);
        sandbox.tilt().called_with().iter().any(|call| call.contains("clusters"))
    };
    assert!(asks(&sandbox_of("away-at-start")));
    assert!(!asks(&Sandbox::new()));
}

#[test]
fn the_last_row_of_a_tilt_ci_shows_how_it_ended() {
    for (file, outcome, expected) in [
        (
            "real-ci-green/snapshot.json",
            "success",
            json!({
                "state": "healthy", "healthy": true, "resources": 6, "resources_ok": 6,
                "time_to_healthy_ms": 10306.51, "outcome": "success", "unready": null,
            }),
        ),
        (
            "ci-pull/snapshot.json",
            "failure",
            json!({
                "state": "unhealthy", "healthy": false, "resources": 4, "resources_ok": 2,
                "resources_error": 1, "resources_pending": 1, "outcome": "failure",
                "unready": "after-pull,pull", "cluster.version": "v1.32.9",
            }),
        ),
        (
            "ci-notready/snapshot.json",
            "failure",
            json!({
                "state": "unhealthy", "healthy": false, "resources": 4, "resources_ok": 2,
                "resources_pending": 2, "unready": "after-notready,notready", "error": null,
            }),
        ),
        (
            "away-at-start/ci-snapshot.json",
            "failure",
            json!({
                "state": "unhealthy", "healthy": false, "resources": 5, "resources_ok": 1,
                "resources_pending": 4, "error": true, "error.type": "cluster_unavailable",
            }),
        ),
    ] {
        assert_fields(&session(&ci_events(file, outcome)), &expected);
    }
}

#[test]
fn a_startup_without_a_cluster_says_so() {
    let events = ci_events("away-at-start/ci-snapshot.json", "failure");
    let startup = events.iter().find(|event| event["data"]["kind"] == "startup");
    let startup = &startup.expect("a startup")["data"];
    let expected =
        json!({"error": true, "error.type": "cluster_unavailable", "outcome": "failure"});
    assert_fields(startup, &expected);
}

#[test]
fn the_startup_of_a_tilt_ci_counts_its_resources() {
    for (folder, outcome, expected) in [
        ("real-ci-green", "success", json!({"resources": 6, "resources_ready": 6, "error": null})),
        (
            "ci-pull",
            "failure",
            // `after-pull` waits for `pull`, so it cannot begin.
            json!({
                "resources": 4, "resources_ready": 2, "resources_failed": 1,
                "resources_blocked": 1, "unready": "after-pull", "ended_by": "settled",
                "error.type": "resource_failed",
            }),
        ),
        (
            "ci-notready",
            "failure",
            // A snapshot does not say that a readiness timeout ended the run.
            json!({
                "resources": 4, "resources_ready": 2, "resources_failed": 0,
                "resources_unready": 2, "unready": "after-notready,notready",
                "ended_by": "session_end", "error.type": "_OTHER",
            }),
        ),
    ] {
        let events = ci_events(&format!("{folder}/snapshot.json"), outcome);
        let startups = of_kind(&events, "startup");
        assert_eq!(startups.len(), 1, "{folder}");
        assert_fields(&startups[0]["data"], &expected);
    }
}

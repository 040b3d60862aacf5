//! Nothing of a pod is sent, printed or stored except times, exit codes and the class of a failure.

use fakes::honeycomb::Server;
use serde_json::json;

use super::secrets::{assert_printed_none, assert_sent_none, assert_wrote_none};
use crate::support::{Sandbox, of_kind};

const CANARY: &str = "canary-of-a-pod";

/// A sandbox with a failed pod that has a canary in each text.
fn sandbox_with_pod() -> Sandbox {
    let sandbox = Sandbox::new();
    let canary = json!(CANARY);
    sandbox.tilt().change("uiresources", |resources| {
        resources.push(json!({
            "kind": "UIResource",
            "metadata": {"name": "shop"},
            "status": {
                "updateStatus": "ok",
                "runtimeStatus": "error",
                "specs": [{"id": canary, "type": "k8s"}],
                "conditions": [{"type": "Ready", "status": "False", "message": canary}],
                "buildHistory": [{
                    "spanID": "build:90",
                    "startTime": "2026-11-22T15:00:00.5Z",
                    "finishTime": "2026-11-22T15:00:01.5Z",
                }],
                "k8sResourceInfo": {
                    "podName": canary, "podStatus": "Error", "podStatusMessage": canary,
                    "podCreationTime": "2026-11-22T15:00:01Z", "displayNames": ["canary-of-a-pod:job"],
                },
            },
        }));
    });
    let container = json!({
        "name": canary, "id": canary, "image": canary,
        "state": {"terminated": {"exitCode": 3, "reason": canary, "message": canary}},
    });
    let pod = json!({
        "name": canary, "namespace": canary, "uid": canary, "nodeName": canary, "podIP": canary,
        "owner": {"name": canary}, "errors": [canary], "status": canary, "phase": canary,
        "createdAt": "2026-11-22T15:00:01Z",
        "env": [{"name": canary, "value": canary}],
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T15:00:02Z",
             "reason": canary, "message": canary},
        ],
        "containers": [container],
    });
    let discovery = json!({
        "kind": "KubernetesDiscovery",
        "metadata": {"name": canary, "annotations": {"tilt.dev/resource": "shop", "note": canary}},
        "spec": {"watches": [{"name": canary, "namespace": canary}], "yaml": canary},
        "status": {"pods": [pod], "resultYAML": canary},
    });
    sandbox.tilt().show("kubernetesdiscoveries", [discovery]);
    sandbox
}

#[test]
fn a_pod_reveals_only_times_codes_and_classes() {
    let (sandbox, server) = (sandbox_with_pod(), Server::start());
    let outcome = sandbox.report_to(&server).args(&["--verbose"]).finish().exits_with(0);
    let events = server.accepted();
    let rollouts = of_kind(&events, "rollout");
    let rollout = rollouts.iter().find(|event| event["data"]["name"] == "shop").expect("a rollout");
    assert_eq!(rollout["data"]["error.type"], "job_failed");
    assert_eq!(rollout["data"]["exit_code"], 3);
    assert_eq!(rollout["data"]["pod_scheduled_ms"], 1000.0);
    assert_sent_none(&server, &[CANARY]);
    assert_printed_none(&outcome, &[CANARY]);
    assert_wrote_none(&sandbox, &[CANARY]);
}

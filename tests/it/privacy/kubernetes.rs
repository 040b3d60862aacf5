//! A whole session of a sidecar beside a Tilt on Kubernetes reveals nothing of its cluster, manifests
//! and pods. Every text that Tilt shows of them is a canary.

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use super::secrets::{assert_printed_none, assert_sent_none, assert_wrote_none};
use crate::support::{Sandbox, Signal, eventually, of_kind};

const SECRET: &str = "canary-value-of-a-secret";
const MANIFEST: &str = "canary-line-of-a-manifest";
const IMAGE: &str = "canary.registry.example/canary-image-of-a-pod:1";
const NAMESPACE: &str = "canary-namespace";
const CONTEXT: &str = "canary-context";
const CLUSTER: &str = "canary-cluster";
const CONFIG_PATH: &str = "/home/canary-user/.kube/config";
const NODE: &str = "canary-node";
const POD: &str = "canary-name-of-a-pod";
const POD_IP: &str = "10.244.77.177";
const SERVER: &str = "https://canary.cluster.example:6443";
const VARIABLE: &str = "CANARY_VARIABLE";
const VALUE: &str = "canary-value-of-a-variable";
const REFUSAL: &str = "canary-words-of-a-refusal";
const MESSAGE: &str = "canary-message-of-a-pod";
const ALL: [&str; 15] = [
    SECRET,
    MANIFEST,
    IMAGE,
    NAMESPACE,
    CONTEXT,
    CLUSTER,
    CONFIG_PATH,
    NODE,
    POD,
    POD_IP,
    SERVER,
    VARIABLE,
    VALUE,
    REFUSAL,
    MESSAGE,
];

/// A version of the resource `shop`.
fn shop(version: u32, update_error: Option<&str>, pod_status: &str) -> Value {
    let build = json!({
        "spanID": format!("build:{version}"),
        "startTime": "2026-11-28T17:00:00.5Z", "finishTime": format!("2026-11-28T17:00:{version:02}Z"),
        "error": update_error, "warnings": [MANIFEST],
    });
    json!({
        "kind": "UIResource",
        "metadata": {
            "name": "shop", "resourceVersion": (9_000_000 + version).to_string(),
            "annotations": {"note": NAMESPACE},
        },
        "status": {
            "updateStatus": if update_error.is_some() { "error" } else { "ok" },
            "runtimeStatus": "pending",
            "specs": [{"id": format!("k8s:{POD}"), "type": "k8s"}],
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "RuntimePending", "message": MESSAGE,
                "lastTransitionTime": "2026-11-28T17:00:01Z",
            }],
            "endpointLinks": [{"url": format!("http://{POD_IP}:8080"), "name": NODE}],
            "buildHistory": [build],
            "waiting": {"reason": "waiting-for-cluster", "on": [{"kind": "Cluster", "name": CLUSTER}]},
            "k8sResourceInfo": {
                "podName": POD, "podStatus": pod_status, "podStatusMessage": MESSAGE,
                "podCreationTime": "2026-11-28T17:00:01Z", "podUpdateStartTime": null,
                "displayNames": [format!("{POD}:deployment"), format!("{NAMESPACE}:namespace")],
                "podRestarts": version,
            },
        },
    })
}

fn pods() -> Value {
    let container = json!({
        "name": POD, "id": POD, "image": IMAGE, "restarts": 2, "ports": [8080],
        "env": [{"name": VARIABLE, "value": VALUE}],
        "state": {"terminated": {
            "exitCode": 3, "reason": MESSAGE, "message": MESSAGE, "finishedAt": "2026-11-28T17:00:03Z",
        }},
    });
    let pod = json!({
        "name": POD, "namespace": NAMESPACE, "uid": POD, "nodeName": NODE, "podIP": POD_IP,
        "owner": {"name": POD}, "errors": [MESSAGE], "status": "Error", "phase": "Running",
        "createdAt": "2026-11-28T17:00:01Z", "labels": [{"name": VARIABLE, "value": VALUE}],
        "conditions": [{
            "type": "PodScheduled", "status": "True", "reason": NODE, "message": MESSAGE,
            "lastTransitionTime": "2026-11-28T17:00:02Z",
        }],
        "initContainers": [container], "containers": [container],
    });
    json!({
        "kind": "KubernetesDiscovery",
        "metadata": {"name": "shop", "annotations": {"tilt.dev/resource": "shop", "note": SECRET}},
        "spec": {"watches": [{"name": POD, "namespace": NAMESPACE}], "cluster": CLUSTER},
        "status": {"pods": [pod], "running": {"startTime": NODE}},
    })
}

fn apply() -> Value {
    json!({
        "kind": "KubernetesApply",
        "metadata": {"name": "shop"},
        "spec": {"yaml": format!("kind: Secret\ndata: {SECRET} # {MANIFEST}"), "cluster": CLUSTER},
        "status": {"resultYAML": format!("{SECRET} {MANIFEST} {IMAGE}"), "error": REFUSAL},
    })
}

fn cluster(version: u32, error: &str) -> Value {
    let connection = json!({
        "cluster": CLUSTER, "configPath": CONFIG_PATH, "context": CONTEXT, "namespace": NAMESPACE,
        "product": "kind",
    });
    json!({
        "kind": "Cluster",
        "metadata": {"name": CLUSTER, "resourceVersion": version.to_string()},
        "spec": {"connection": {"kubernetes": {"context": CONTEXT, "namespace": NAMESPACE}}},
        "status": {
            "arch": "amd64", "version": "v1.32.9", "error": error,
            "registry": {"host": SERVER}, "connection": {"kubernetes": connection},
        },
    })
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no signals")]
fn a_session_on_kubernetes_reveals_nothing_of_its_cluster() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let tilt = sandbox.tilt();
    tilt.change("uiresources", |resources| resources.push(shop(1, None, "Running")));
    for (kind, object) in [
        ("kubernetesdiscoveries", pods()),
        ("kubernetesapplys", apply()),
        ("clusters", cluster(1, "")),
    ] {
        tilt.show(kind, [object]);
    }
    let sidecar = sandbox.sidecar_to(&server).args(&["--verbose"]).start();
    tilt.is_watched_by(4);
    let polls = || tilt.called_with().iter().filter(|call| !call.contains("--watch")).count();
    let first_polls = polls();

    tilt.add("watch-uiresources.jsonl", &shop(2, None, "CrashLoopBackOff"));
    eventually("a poll of the pods", || polls() > first_polls);
    tilt.add("watch-uiresources.jsonl", &shop(3, Some(REFUSAL), "CrashLoopBackOff"));
    let lost = format!("Get {SERVER}/version: dial tcp {POD_IP}: connection refused");
    tilt.add("watch-clusters.jsonl", &cluster(2, &lost));
    let has_failed = |kind: &str| {
        let events = of_kind(&server.accepted(), kind);
        events.iter().any(|event| event["data"]["name"] == "shop" && event["data"]["error"] == true)
    };
    eventually("a refused update", || has_failed("update"));
    let outcome = sidecar.ends_after(Signal::TERM).0.exits_with(0);

    let session = of_kind(&server.accepted(), "session").pop().expect("a session");
    assert_eq!(session["data"]["error.type"], "cluster_unavailable");
    assert_eq!(session["data"]["cluster.product"], "kind");
    assert_sent_none(&server, &ALL);
    assert_printed_none(&outcome, &ALL);
    assert_wrote_none(&sandbox, &ALL);
    let manifests = tilt.called_with().into_iter().filter(|call| call.contains("kubernetesapply"));
    assert_eq!(manifests.count(), 0, "nobody asks for manifests");
}

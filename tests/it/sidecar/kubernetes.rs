//! The sidecar beside a Tilt that deploys to Kubernetes: which processes it starts, and how soon it
//! notices that the cluster is gone.

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use crate::support::{Sandbox, eventually, of_kind};

const KINDS: &str = "uisessions,uiresources,dockerimages,cmdimages";

/// A sandbox whose Tilt shows two healthy resources on Kubernetes.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let kinds = ["uisession", "uiresources", "clusters", "kubernetesdiscoveries"];
    sandbox.tilt().show_recorded("k8s/real-up-variety", &kinds);
    let is_healthy = |resource: &Value| {
        let name = resource["metadata"]["name"].as_str();
        matches!(name, Some("(Tiltfile)" | "ready" | "job-ok"))
    };
    sandbox.tilt().change("uiresources", |resources| resources.retain(is_healthy));
    for kind in ["dockerimages", "cmdimages"] {
        sandbox.tilt().change(kind, Vec::clear);
    }
    sandbox
}

fn cluster(error: &str, resource_version: u32) -> Value {
    json!({
        "kind": "Cluster",
        "metadata": {"name": "default", "resourceVersion": resource_version.to_string()},
        "spec": {"connection": {"kubernetes": {}}},
        "status": {
            "arch": "amd64", "version": "v1.32.9", "error": error,
            "connection": {"kubernetes": {"product": "kind", "context": "kind-shop"}},
        },
    })
}

/// The state and the error of each `session` event.
fn states(server: &Server) -> Vec<(String, Value)> {
    let session = |event: Value| {
        let data = &event["data"];
        (data["state"].as_str().expect("a state").to_owned(), data["error.type"].clone())
    };
    of_kind(&server.accepted(), "session").into_iter().map(session).collect()
}

#[test]
fn a_lost_cluster_is_reported_without_a_poll() {
    let (sandbox, server) = (sandbox(), Server::start());
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    eventually("the first report", || states(&server) == [("healthy".into(), Value::Null)]);
    let polls = || sandbox.tilt().called_with().len() - sandbox.tilt().watches("");
    eventually("a watch", || sandbox.tilt().watches("clusters") == 1);
    let polls_before = polls();

    sandbox.tilt().add("watch-clusters.jsonl", &cluster("dial tcp: connection refused", 2_000_001));
    eventually("a lost cluster", || {
        states(&server).last() == Some(&("unhealthy".into(), json!("cluster_unavailable")))
    });
    sandbox.tilt().add("watch-clusters.jsonl", &cluster("", 2_000_002));
    eventually("a cluster", || states(&server).last() == Some(&("healthy".into(), Value::Null)));
    assert_eq!(states(&server).len(), 3);
    assert_eq!(polls(), polls_before);
    sidecar.stop();
}

#[test]
fn no_cluster_is_watched_without_kubernetes() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    sandbox.tilt().is_watched_by(3);
    sidecar.stop();
    assert_eq!(sandbox.tilt().watches("clusters"), 0);
}

#[test]
fn a_poll_of_kubernetes_resources_starts_one_process() {
    let (sandbox, server) = (sandbox(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("two polls", || sandbox.tilt().calls().len() >= 3);
    sidecar.stop();
    let calls = sandbox.tilt().called_with();
    let call = |kinds: &str| format!("get {kinds} -o json");
    assert_eq!(calls[0], call(KINDS));
    assert_eq!(calls[1], call("clusters,kubernetesdiscoveries"));
    for later in &calls[2..] {
        assert_eq!(*later, call(&format!("{KINDS},clusters,kubernetesdiscoveries")));
    }
}

#[test]
fn a_tilt_without_clusters_and_pods_is_asked_for_them_once() {
    let (sandbox, server) = (sandbox(), Server::start());
    for kind in ["clusters", "kubernetesdiscoveries"] {
        sandbox.tilt().unset(&format!("{kind}.json"));
    }
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("three polls", || sandbox.tilt().calls().len() >= 6);
    sidecar.stop();
    let calls = sandbox.tilt().called_with();
    assert_eq!(calls[1], "get clusters,kubernetesdiscoveries -o json");
    assert!(calls[4..].iter().all(|call| *call == format!("get {KINDS} -o json")), "{calls:?}");
    assert!(!states(&server).is_empty());
}

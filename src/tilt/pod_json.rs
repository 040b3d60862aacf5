//! Reads the pods of a `KubernetesDiscovery`. Names, addresses, images and messages are skipped. Pure.

use serde::Deserialize;

use crate::tilt::condition_json::{RawCondition, condition, time};
use crate::tilt::model::{ContainerFailure, PodInfo, Timestamp};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPod {
    created_at: Option<String>,
    deleting: Option<bool>,
    conditions: Option<Vec<RawCondition>>,
    init_containers: Option<Vec<RawContainer>>,
    containers: Option<Vec<RawContainer>>,
}

#[derive(Deserialize)]
struct RawContainer {
    restarts: Option<i64>,
    state: Option<RawContainerState>,
}

#[derive(Deserialize)]
struct RawContainerState {
    terminated: Option<RawTermination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTermination {
    exit_code: Option<i64>,
    finished_at: Option<String>,
    reason: Option<String>,
}

/// Returns the newest pod. Prefers pods that are not being deleted.
pub(super) fn newest(pods: Vec<RawPod>) -> Option<PodInfo> {
    let pods = pods.into_iter();
    let pods = pods.filter_map(|pod| Some((pod.deleting != Some(true), pod.into_pod()?)));
    Some(pods.max_by_key(|(stays, pod)| (*stays, pod.created_at.at))?.1)
}

impl RawPod {
    fn into_pod(self) -> Option<PodInfo> {
        let conditions = self.conditions.unwrap_or_default();
        let held_since =
            |name| condition(&conditions, name).filter(|c| c.holds).and_then(|c| c.since);
        let reason = condition(&conditions, "PodScheduled").and_then(|condition| condition.reason);
        let containers = self.init_containers.into_iter().chain(self.containers).flatten();
        let containers: Vec<_> = containers.collect();
        let has_restarted = containers.iter().any(|container| container.restarts > Some(0));
        let failed = containers.into_iter().filter_map(RawContainer::into_failure).next_back();
        let (container_failure, failed_at) = failed.unzip();
        Some(PodInfo {
            created_at: time(self.created_at.as_deref())?,
            scheduled_at: held_since("PodScheduled"),
            initialized_at: held_since("Initialized"),
            ready_at: held_since("Ready"),
            is_unschedulable: reason.as_deref() == Some("Unschedulable"),
            container_failure,
            failed_at: failed_at.flatten(),
            has_restarted,
        })
    }
}

impl RawContainer {
    /// How and when the container failed.
    fn into_failure(self) -> Option<(ContainerFailure, Option<Timestamp>)> {
        let terminated = self.state?.terminated?;
        let exit_code = terminated.exit_code.filter(|code| *code != 0);
        let out_of_memory = terminated.reason.as_deref() == Some("OOMKilled");
        let finished_at = time(terminated.finished_at.as_deref());
        exit_code.map(|_| (ContainerFailure { exit_code, out_of_memory }, finished_at))
    }
}

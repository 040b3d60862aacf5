//! Reads Tilt's JSON into the types of [`model`](crate::tilt::model).
//!
//! Every field is optional here. An object with an unexpected shape is skipped, and the rest of the
//! snapshot stays. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::base::text::{one_line, without_credentials};
use crate::tilt::condition_json::{RawCondition, condition, non_empty, time};
use crate::tilt::model::{
    Cluster, CurrentUpdate, ImageBuild, ImageKind, MAIN_TILTFILE, Outcome, PodInfo, Resource,
    ResourceType, Session, Snapshot, Stage, Update, Waiting,
};
use crate::tilt::pod_json::{self, RawPod};

impl Snapshot {
    /// Adds the object in this JSON text. Returns false if the text cannot be read.
    pub fn add(&mut self, object: &str) -> bool {
        // `from_slice` everywhere: a second instance for texts would add 80 kB to the program.
        serde_json::from_slice(object.as_bytes()).is_ok_and(|object| self.add_object(object))
    }

    /// Adds one object. Returns false if it is a resource without a name. Objects of other kinds
    /// are ignored.
    pub(super) fn add_object(&mut self, object: Object) -> bool {
        match object.kind.as_deref() {
            Some("Session") => self.outcome = object.into_outcome(),
            Some("UISession") => self.session = Some(object.into_session()),
            Some("Cluster") => self.push_cluster(object),
            Some("UIResource") => return self.push_resource(object),
            Some("DockerImage") => self.add_image(object, ImageKind::Docker),
            Some("KubernetesDiscovery") => self.pods.extend(object.into_pod()),
            Some("CmdImage") => self.add_image(object, ImageKind::Cmd),
            _ => {}
        }
        true
    }

    /// Adds the `UISession` in this JSON text and ignores its `kind`. Returns false if the text
    /// cannot be read.
    pub(super) fn add_session(&mut self, object: &str) -> bool {
        let object = serde_json::from_slice::<Object>(object.as_bytes());
        self.session = object.map(Object::into_session).ok();
        self.session.is_some()
    }

    /// Adds the `UIResource` in this JSON text and ignores its `kind`. Returns false if the text
    /// cannot be read or the resource has no name.
    pub(super) fn add_resource(&mut self, object: &str) -> bool {
        serde_json::from_slice(object.as_bytes()).is_ok_and(|object| self.push_resource(object))
    }

    /// Adds the `Cluster` in this JSON text and ignores its `kind`. Returns false if the text cannot
    /// be read.
    pub(super) fn add_cluster(&mut self, object: &str) -> bool {
        let object = serde_json::from_slice(object.as_bytes());
        object.is_ok_and(|object| {
            self.push_cluster(object);
            true
        })
    }

    fn push_cluster(&mut self, object: Object) {
        self.cluster = self.cluster.take().or(object.into_cluster());
    }

    fn push_resource(&mut self, object: Object) -> bool {
        let resource = object.into_resource();
        let is_named = resource.is_some();
        self.resources.extend(resource);
        is_named
    }

    fn add_image(&mut self, object: Object, kind: ImageKind) {
        self.has_images[kind as usize] = true;
        self.image_builds.extend(object.into_build(kind));
    }
}

/// One object of any kind that is asked for. The status fields of the kinds have different names, so
/// one struct holds them all.
#[derive(Deserialize)]
pub(super) struct Object {
    kind: Option<String>,
    metadata: Option<Metadata>,
    spec: Option<Spec>,
    status: Option<ObjectStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    annotations: Option<Annotations>,
}

impl Metadata {
    fn version(&self) -> u64 {
        self.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "tilt.dev/resource")]
    resource: Option<String>,
}

#[derive(Deserialize, Default)]
struct Spec {
    // Cluster
    connection: Option<RawConnection>,
    // DockerImage, CmdImage
    #[serde(rename = "ref")]
    image: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ObjectStatus {
    // UISession
    running_tilt_build: Option<TiltBuild>,
    tilt_cloud_username: Option<String>,
    tilt_start_time: Option<String>,
    tiltfile_key: Option<String>,
    // UIResource
    build_history: Option<Vec<RawUpdate>>,
    current_build: Option<RawCurrentUpdate>,
    conditions: Option<Vec<RawCondition>>,
    disable_status: Option<DisableStatus>,
    runtime_status: Option<String>,
    update_status: Option<String>,
    specs: Option<Vec<TargetSpec>>,
    trigger_mode: Option<i64>,
    waiting: Option<RawWaiting>,
    k8s_resource_info: Option<K8sInfo>,
    compose_resource_info: Option<ComposeInfo>,
    // Session
    done: Option<bool>,
    error: Option<String>,
    // Cluster, and the error of a Session above
    connection: Option<RawConnection>,
    version: Option<String>,
    arch: Option<String>,
    // DockerImage, CmdImage
    completed: Option<RawCompletion>,
    #[serde(rename = "ref")]
    tagged_ref: Option<String>,
    stage_statuses: Option<Vec<RawStage>>,
    // KubernetesDiscovery
    pods: Option<Vec<RawPod>>,
}

#[derive(Deserialize)]
struct RawConnection {
    kubernetes: Option<RawKubernetes>,
}

#[derive(Deserialize)]
struct RawKubernetes {
    product: Option<String>,
}

#[derive(Deserialize)]
struct TiltBuild {
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawUpdate {
    #[serde(rename = "spanID")]
    span_id: Option<String>,
    start_time: Option<String>,
    finish_time: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCurrentUpdate {
    #[serde(rename = "spanID")]
    span_id: Option<String>,
    start_time: Option<String>,
}

#[derive(Deserialize)]
struct DisableStatus {
    state: Option<String>,
}

#[derive(Deserialize)]
struct TargetSpec {
    #[serde(rename = "type")]
    target_type: Option<String>,
}

#[derive(Deserialize)]
struct RawWaiting {
    reason: Option<String>,
    on: Option<Vec<WaitingOnRef>>,
}

#[derive(Deserialize)]
struct WaitingOnRef {
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct K8sInfo {
    pod_status: Option<String>,
    pod_restarts: Option<i64>,
    pod_creation_time: Option<String>,
    /// `name:kind`, and more parts if two objects would have the same name.
    display_names: Option<Vec<String>>,
}

impl K8sInfo {
    fn is_job(&self) -> bool {
        let names = self.display_names.as_deref().unwrap_or_default();
        names.iter().any(|name| name.split(':').nth(1) == Some("job"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComposeInfo {
    health_status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCompletion {
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStage {
    name: Option<String>,
    cached: Option<bool>,
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
}

/// The starts of a `Session`'s error if no resource failed but one was not ready in time. Source:
/// Tilt's `internal/controllers/core/session/status.go`.
const TIMEOUT_ERRORS: [&str; 2] = ["Timeout after ", "Readiness timeout after "];

/// The most characters of a cluster's product, version and architecture.
const MAX_CLUSTER_TEXT: usize = 64;

impl Object {
    /// Returns `None` while Tilt has not decided to end.
    fn into_outcome(self) -> Option<Outcome> {
        let status = self.status.unwrap_or_default();
        let outcome = match non_empty(status.error) {
            None => Outcome::Success,
            Some(error) if TIMEOUT_ERRORS.iter().any(|start| error.starts_with(start)) => {
                Outcome::Timeout
            }
            Some(_) => Outcome::Failure,
        };
        (status.done == Some(true)).then_some(outcome)
    }

    fn into_session(self) -> Session {
        let metadata = self.metadata.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        Session {
            uid: non_empty(metadata.uid),
            tilt_version: non_empty(status.running_tilt_build.and_then(|build| build.version)),
            tilt_cloud_user: non_empty(status.tilt_cloud_username),
            tilt_started_at: time(status.tilt_start_time.as_deref()),
            tiltfile: non_empty(status.tiltfile_key),
        }
    }

    /// Returns `None` for a Docker engine, which Tilt shows as a cluster too.
    fn into_cluster(self) -> Option<Cluster> {
        let status = self.status.unwrap_or_default();
        let metadata = self.metadata.unwrap_or_default();
        self.spec?.connection?.kubernetes?;
        let kubernetes = status.connection.and_then(|connection| connection.kubernetes);
        let short = |text| non_empty(text).map(|text| one_line(&text, MAX_CLUSTER_TEXT));
        Some(Cluster {
            resource_version: metadata.version(),
            is_unavailable: non_empty(status.error).is_some(),
            product: short(kubernetes.and_then(|kubernetes| kubernetes.product)),
            version: short(status.version),
            arch: short(status.arch),
        })
    }

    /// Returns `None` if the resource has no name.
    fn into_resource(self) -> Option<Resource> {
        let metadata = self.metadata.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let version = metadata.version();
        let name = non_empty(metadata.name)?;
        let conditions = status.conditions.unwrap_or_default();
        let k8s = status.k8s_resource_info;
        let specs = status.specs.unwrap_or_default();
        let history = status.build_history.unwrap_or_default();
        Some(Resource {
            resource_type: resource_type(&name, &specs, &history),
            builds_images: has_target(&specs, "image"),
            updates: history.into_iter().filter_map(RawUpdate::into_update).collect(),
            current_update: status.current_build.and_then(RawCurrentUpdate::into_update),
            name,
            uid: non_empty(metadata.uid),
            version,
            labels: metadata.labels.unwrap_or_default().into_keys().collect(),
            update_status: non_empty(status.update_status),
            runtime_status: non_empty(status.runtime_status),
            ready: condition(&conditions, "Ready"),
            up_to_date: condition(&conditions, "UpToDate"),
            disabled: status
                .disable_status
                .and_then(|disable| non_empty(disable.state))
                .map(|state| state == "Disabled"),
            trigger_mode: status.trigger_mode,
            waiting: status.waiting.map(RawWaiting::into_waiting),
            pod_status: k8s.as_ref().and_then(|info| non_empty(info.pod_status.clone())),
            pod_restarts: k8s.as_ref().and_then(|info| info.pod_restarts),
            pod_created_at: k8s.as_ref().and_then(|info| time(info.pod_creation_time.as_deref())),
            pod: None,
            is_job: k8s.as_ref().is_some_and(K8sInfo::is_job),
            health_status: status
                .compose_resource_info
                .and_then(|info| non_empty(info.health_status)),
        })
    }

    /// Returns the newest pod with the name of its resource.
    fn into_pod(self) -> Option<(String, PodInfo)> {
        let resource = non_empty(self.metadata?.annotations?.resource)?;
        Some((resource, pod_json::newest(self.status?.pods?)?))
    }

    /// Returns `None` if the image has no completed build with a start and an end.
    fn into_build(self, kind: ImageKind) -> Option<ImageBuild> {
        let metadata = self.metadata.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let completed = status.completed?;
        Some(ImageBuild {
            kind,
            object: non_empty(metadata.name)?,
            image: non_empty(self.spec.unwrap_or_default().image)
                .as_deref()
                .map(without_credentials),
            tag: status.tagged_ref.as_deref().and_then(tag),
            resource: metadata.annotations.and_then(|annotations| non_empty(annotations.resource)),
            started_at: time(completed.started_at.as_deref())?,
            finished_at: time(completed.finished_at.as_deref())?,
            error: non_empty(completed.error),
            stages: status
                .stage_statuses
                .unwrap_or_default()
                .into_iter()
                .map(RawStage::into_stage)
                .collect(),
        })
    }
}

impl RawWaiting {
    fn into_waiting(self) -> Waiting {
        let reason = non_empty(self.reason);
        // During a Tiltfile reload, Tilt lists every resource that the reload may change.
        let waits_for_others = reason.as_deref() != Some("tiltfile-reload");
        let on = self.on.unwrap_or_default().into_iter();
        let on = on.filter(|waited| waits_for_others && waited.is_resource());
        Waiting { reason, on: on.filter_map(|waited| non_empty(waited.name)).collect() }
    }
}

impl WaitingOnRef {
    fn is_resource(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "UIResource")
    }
}

impl RawUpdate {
    fn into_update(self) -> Option<Update> {
        Some(Update {
            span_id: non_empty(self.span_id)?,
            started_at: time(self.start_time.as_deref())?,
            finished_at: time(self.finish_time.as_deref())?,
            error: non_empty(self.error),
            warnings: self.warnings.map_or(0, |warnings| warnings.len()),
        })
    }
}

impl RawCurrentUpdate {
    fn into_update(self) -> Option<CurrentUpdate> {
        let started_at = time(self.start_time.as_deref())?;
        Some(CurrentUpdate { span_id: non_empty(self.span_id)?, started_at })
    }
}

impl RawStage {
    fn into_stage(self) -> Stage {
        Stage {
            name: self.name.unwrap_or_default(),
            cached: self.cached == Some(true),
            started_at: time(self.started_at.as_deref()),
            finished_at: time(self.finished_at.as_deref()),
            error: non_empty(self.error),
        }
    }
}

fn has_target(specs: &[TargetSpec], target_type: &str) -> bool {
    specs.iter().any(|spec| spec.target_type.as_deref() == Some(target_type))
}

/// Returns the type of a resource by its specs. A Tiltfile has no specs, but the span ids of its loads
/// start with `tiltfile:` (`internal/controllers/core/tiltfile` in Tilt).
fn resource_type(name: &str, specs: &[TargetSpec], history: &[RawUpdate]) -> Option<ResourceType> {
    let has = |target_type| has_target(specs, target_type);
    let loads_a_tiltfile = || {
        let mut span_ids = history.iter().filter_map(|update| update.span_id.as_deref());
        span_ids.any(|span_id| span_id.starts_with("tiltfile:"))
    };
    if has("k8s") {
        Some(ResourceType::K8s)
    } else if has("docker-compose") {
        Some(ResourceType::DockerCompose)
    } else if has("local") {
        Some(ResourceType::Local)
    } else if has("image") {
        Some(ResourceType::ImageOnly)
    } else if name == MAIN_TILTFILE || loads_a_tiltfile() {
        Some(ResourceType::Tiltfile)
    } else {
        None
    }
}

/// Returns the tag of `host:port/name:tag`. A port or a digest is not a tag.
fn tag(reference: &str) -> Option<String> {
    let name = reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').and_then(|(_, tag)| non_empty(Some(tag.to_owned())))
}

#[cfg(test)]
mod tests;

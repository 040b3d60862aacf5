//! Tilt's objects, reduced to the few fields that this program uses.
//!
//! Nothing else from Tilt can leave the machine: Dockerfiles, arguments, paths and logs are never
//! read. Most fields are optional, because Tilt omits zero values and older versions lack fields.
//!
//! Names and meanings follow Tilt's `pkg/apis/core/v1alpha1`. Pure.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The resource that loads the main Tiltfile. Tilt's `model.MainTiltfileManifestName`.
pub const MAIN_TILTFILE: &str = "(Tiltfile)";

/// The state of one Tilt: the result of one poll, or the change that a watch shows.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Snapshot {
    /// `None` if Tilt showed no `UISession`.
    pub session: Option<Session>,
    pub resources: Vec<Resource>,
    /// The completed image builds.
    pub image_builds: Vec<ImageBuild>,
    /// The newest pod of each resource, by the name of the resource, until
    /// [`Snapshot::attach_pods`].
    pub pods: Vec<(String, PodInfo)>,
    /// For each [`ImageKind`], true if Tilt has objects of that kind, built or not.
    pub has_images: [bool; 2],
    /// The cluster that Tilt deploys to.
    pub cluster: Option<Cluster>,
    /// How the run ended. `None` until Tilt decides to end by itself, as `tilt ci` does. For an exit
    /// snapshot, it is the value of `--outcome`.
    pub outcome: Option<Outcome>,
}

/// How a run of `tilt ci` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Success,
    Failure,
    /// A failure because `tilt ci --timeout` or a readiness timeout expired.
    Timeout,
}

impl Outcome {
    /// The value of the field `outcome`: `success` or `failure`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure | Self::Timeout => "failure",
        }
    }

    /// Reads a job status of GitHub or GitLab, or an exit code.
    ///
    /// Returns `None` if the text means neither success nor failure, such as the status of a
    /// cancelled job or the exit code of a killed process (128 or higher).
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "success" => Some(Self::Success),
            "failure" | "failed" => Some(Self::Failure),
            code => match code.parse().ok()? {
                0 => Some(Self::Success),
                1..128 => Some(Self::Failure),
                128..=u8::MAX => None,
            },
        }
    }
}

/// One run of `tilt up` or `tilt ci`, from a `UISession`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Session {
    /// `metadata.uid`. Each run has a new one. An exit snapshot has the uid of its run.
    pub uid: Option<String>,
    pub tilt_version: Option<String>,
    /// The user name in Tilt Cloud. Tilt 0.30.5 and later leave it empty.
    pub tilt_cloud_user: Option<String>,
    pub tilt_started_at: Option<Timestamp>,
    /// The path of the Tiltfile (`tiltfileKey`).
    pub tiltfile: Option<String>,
}

/// The Kubernetes cluster of a session, from a `Cluster`. Its name, context, namespace and address,
/// and the text of its error, are never read into this type.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Cluster {
    /// `metadata.resourceVersion`. It grows with each change.
    pub resource_version: u64,
    /// True if Tilt could not connect, or if the cluster has failed four health checks in a row,
    /// which Tilt makes every 15 seconds (`internal/controllers/core/cluster` in Tilt).
    pub is_unavailable: bool,
    /// The product that Tilt recognizes by the name of the context, such as `kind` or `minikube`
    /// (`internal/k8s/env.go` in Tilt); `unknown` for others.
    pub product: Option<String>,
    /// The version of Kubernetes.
    pub version: Option<String>,
    /// The processor architecture of the nodes.
    pub arch: Option<String>,
}

/// One `UIResource`: a row in Tilt's own UI.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Resource {
    pub name: String,
    pub uid: Option<String>,
    /// `metadata.resourceVersion`. It grows with each change of any object in the session.
    pub version: u64,
    /// The keys of the labels, sorted.
    pub labels: Vec<String>,
    pub resource_type: Option<ResourceType>,
    /// `UpdateStatus`, such as `ok`, `pending`, `in_progress` or `error`.
    pub update_status: Option<String>,
    /// `RuntimeStatus`, such as `ok`, `pending`, `error` or `not_applicable`.
    pub runtime_status: Option<String>,
    /// The condition `Ready`: built, deployed, and past its readiness checks.
    pub ready: Option<Condition>,
    /// The condition `UpToDate`: built and deployed. Readiness checks do not matter.
    pub up_to_date: Option<Condition>,
    pub disabled: Option<bool>,
    /// `TriggerMode` in Tilt's `pkg/model`. Tilt omits 0, which means `auto`.
    pub trigger_mode: Option<i64>,
    /// `None` unless an update of the resource waits for something.
    pub waiting: Option<Waiting>,
    /// The status of the active pod, such as `Running` or `CrashLoopBackOff`.
    pub pod_status: Option<String>,
    /// The restarts of the active pod. Tilt omits 0.
    pub pod_restarts: Option<i64>,
    /// When Kubernetes created the active pod, in whole seconds.
    pub pod_created_at: Option<Timestamp>,
    /// The newest pod, as the last poll of the pods showed it. `None` if it is another pod than the
    /// active one.
    pub pod: Option<PodInfo>,
    /// True if the resource deploys a Kubernetes Job. Its pod is not restarted after a failure.
    pub is_job: bool,
    /// The health of a Docker Compose service.
    pub health_status: Option<String>,
    /// True if the resource builds at least one image.
    pub builds_images: bool,
    /// The finished updates, newest first. Tilt keeps two (`BuildHistoryLimit` in `pkg/model`), and
    /// one for a Tiltfile.
    pub updates: Vec<Update>,
    pub current_update: Option<CurrentUpdate>,
}

impl Resource {
    /// True once Tilt has computed a status. Tilt shows a new resource a moment earlier, and without
    /// its trigger mode.
    pub fn has_status(&self) -> bool {
        self.update_status.is_some() || self.runtime_status.is_some()
    }

    /// The restarts of the active pod. `None` without a pod.
    pub fn restarts(&self) -> Option<i64> {
        self.pod_restarts.or_else(|| self.pod_status.as_ref().map(|_| 0))
    }

    /// The resources that an update of this one waits for. `None` if Tilt shows no wait, or another reason
    /// for it.
    pub fn dependencies_waited_for(&self) -> Option<&[String]> {
        let waiting = self.waiting.as_ref()?;
        (waiting.reason.as_deref() == Some("waiting-for-dep")).then_some(&waiting.on)
    }

    /// True if an update of the resource waits for another resource with one of these names.
    pub fn waits_for_any_of(&self, names: &BTreeSet<&str>) -> bool {
        let waited_for = self.dependencies_waited_for().unwrap_or_default();
        waited_for.iter().any(|name| names.contains(name.as_str()))
    }

    pub fn is_tiltfile(&self) -> bool {
        self.resource_type == Some(ResourceType::Tiltfile)
    }

    pub fn is_on_kubernetes(&self) -> bool {
        self.resource_type == Some(ResourceType::K8s)
    }

    /// True if Kubernetes starts a failed pod of the resource again. It does not for a failed Job.
    pub fn restarts_by_itself(&self) -> bool {
        let job_failed = self.is_job && self.runtime_status.as_deref() == Some("error");
        self.is_on_kubernetes() && !job_failed
    }

    /// True for a local resource that has a serve command and no update command. Tilt shows an empty
    /// update before the serve command starts. That update built nothing.
    pub fn only_serves(&self) -> bool {
        self.resource_type == Some(ResourceType::Local)
            && self.update_status.as_deref() == Some("not_applicable")
    }
}

/// A pod, from `status.pods[]` of a `KubernetesDiscovery`. Names, addresses, images and messages are
/// never read. Times have whole seconds, as Kubernetes writes them.
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    pub created_at: Timestamp,
    /// When the condition `PodScheduled` became true. `None` while it is not.
    pub scheduled_at: Option<Timestamp>,
    /// When the condition `Initialized` became true. `None` while it is not.
    pub initialized_at: Option<Timestamp>,
    /// When the condition `Ready` became true. `None` while it is not.
    pub ready_at: Option<Timestamp>,
    /// True if no node can take the pod.
    pub is_unschedulable: bool,
    /// How a container failed that has ended and was not started again yet.
    pub container_failure: Option<ContainerFailure>,
    /// When that container ended.
    pub failed_at: Option<Timestamp>,
    /// True if Kubernetes has restarted a container, or an init container.
    pub has_restarted: bool,
}

/// A container that ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFailure {
    /// `None` if only the status of the pod shows the failure.
    pub exit_code: Option<i64>,
    /// True if the container exceeded its memory limit (`OOMKilled`).
    pub out_of_memory: bool,
}

/// A finished update of a resource, from an entry of `buildHistory`: a command, an image build with
/// its deploy, a live update, or a Tiltfile load.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// `build:N`, where N counts the updates of all resources in the session. Live updates of one
    /// resource share an id. A Tiltfile load has `tiltfile:NAME:N`.
    pub span_id: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The text of the error. `None` if the update succeeded.
    pub error: Option<String>,
    /// The number of warnings.
    pub warnings: usize,
}

impl Update {
    pub fn is_live_update(&self) -> bool {
        is_live_update(&self.span_id)
    }
}

/// True for the `spanID` of a live update.
pub fn is_live_update(span_id: &str) -> bool {
    span_id.starts_with("liveupdate:")
}

/// The running update of a resource, from `currentBuild`.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentUpdate {
    /// The id that the finished [`Update`] will have.
    pub span_id: String,
    pub started_at: Timestamp,
}

/// The type of a resource, by the types of its specs (`UIResourceTargetType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceType {
    Local,
    DockerCompose,
    K8s,
    ImageOnly,
    Tiltfile,
}

impl ResourceType {
    /// The value of the field `resource_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::DockerCompose => "docker-compose",
            Self::K8s => "k8s",
            Self::ImageOnly => "image-only",
            Self::Tiltfile => "tiltfile",
        }
    }
}

/// A condition that is true or false. An `Unknown` condition is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// True if the condition's status is `True`.
    pub holds: bool,
    pub reason: Option<String>,
    /// The time of the last change of `holds` (`lastTransitionTime`).
    pub since: Option<Timestamp>,
}

/// The reason why an update waits, and the names of the objects that it waits for.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Waiting {
    /// A `HoldReason` in Tilt's `internal/store`, such as `waiting-for-dep`.
    pub reason: Option<String>,
    /// The resources among them. Tilt also lists images and clusters.
    pub on: Vec<String>,
}

/// A completed build of one image, from a `DockerImage` or a `CmdImage`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBuild {
    pub kind: ImageKind,
    /// The name of the object, `resource:image`. If two resources share an image, each has its own
    /// object and its own build.
    pub object: String,
    /// The image reference without credentials.
    pub image: Option<String>,
    /// The tag that Tilt gave the image. A failed build has none.
    pub tag: Option<String>,
    pub resource: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The text of the error. `None` if the build succeeded.
    pub error: Option<String>,
    /// The stages in the order in which `BuildKit` first showed them. Empty for the legacy builder.
    pub stages: Vec<Stage>,
}

impl ImageBuild {
    /// The end of the build, or its start if the clock was set back during the build.
    pub fn latest(&self) -> &Timestamp {
        if self.finished_at.at < self.started_at.at { &self.started_at } else { &self.finished_at }
    }
}

/// The kind of object that an image build was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    Docker,
    Cmd,
}

/// One stage of an image build (`DockerImageStageStatus`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stage {
    /// The text of the stage. It contains build arguments with their values, which may be secret.
    pub name: String,
    /// True if `BuildKit` took the result from its cache.
    pub cached: bool,
    /// `BuildKit` shares steps between builds, so a stage may start before its build.
    pub started_at: Option<Timestamp>,
    /// May be later than the end of the build, for the same reason.
    pub finished_at: Option<Timestamp>,
    pub error: Option<String>,
}

/// A time, together with the text that Tilt wrote. Ids are computed from the text, so they do not
/// depend on how it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timestamp {
    pub text: String,
    pub at: SystemTime,
}

impl Timestamp {
    /// Reads an RFC 3339 time in UTC. Returns `None` for any other text, and for times before 1970
    /// such as Go's zero time.
    pub fn parse(text: &str) -> Option<Self> {
        let at = humantime::parse_rfc3339(text).ok()?;
        Some(Self { text: text.to_owned(), at })
    }

    /// The time from `earlier` to `self`. Returns `None` if `earlier` is later.
    pub fn since(&self, earlier: &Self) -> Option<Duration> {
        self.at.duration_since(earlier.at).ok()
    }
}

impl Snapshot {
    /// Adds the result of another call, which asked for other kinds of objects.
    pub fn join(&mut self, other: Self) {
        self.session = self.session.take().or(other.session);
        self.outcome = self.outcome.or(other.outcome);
        self.cluster = self.cluster.take().or(other.cluster);
        self.resources.extend(other.resources);
        self.image_builds.extend(other.image_builds);
        self.pods.extend(other.pods);
        for (has, others) in self.has_images.iter_mut().zip(other.has_images) {
            *has |= others;
        }
    }

    /// True if Tilt deploys at least one resource to Kubernetes.
    pub fn uses_kubernetes(&self) -> bool {
        self.resources.iter().any(Resource::is_on_kubernetes)
    }

    /// Moves each pod to its resource. Drops a pod that is not the active one of its resource: the
    /// pods are polled after the resources.
    pub fn attach_pods(&mut self) {
        for (name, pod) in std::mem::take(&mut self.pods) {
            let mut resources = self.resources.iter_mut();
            if let Some(resource) = resources.find(|resource| resource.name == name)
                && resource.pod_created_at.as_ref() == Some(&pod.created_at)
            {
                resource.pod = Some(pod);
            }
        }
    }

    /// Sorts the resources and image builds by name. Tilt lists them in random order.
    pub fn sort(&mut self) {
        self.resources.sort_by(|a, b| a.name.cmp(&b.name));
        self.image_builds.sort_by(|a, b| a.object.cmp(&b.object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_from_a_job_status_or_an_exit_code() {
        for (text, expected) in [
            ("success", Some(Outcome::Success)),
            ("failure", Some(Outcome::Failure)),
            ("failed", Some(Outcome::Failure)),
            ("0", Some(Outcome::Success)),
            ("1", Some(Outcome::Failure)),
            ("127", Some(Outcome::Failure)),
            (" 1\n", Some(Outcome::Failure)),
        ] {
            assert_eq!(Outcome::parse(text), expected, "{text:?}");
        }
        for text in ["", "cancelled", "canceled", "skipped", "143", "-1", "256", "Success", "0.5"] {
            assert_eq!(Outcome::parse(text), None, "{text:?}");
        }
    }
}

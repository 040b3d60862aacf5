//! Tilt's JSON, reduced to the few fields that this program uses.
//!
//! What is not named here cannot leave the machine: Dockerfiles, arguments, paths and logs are
//! never read. Everything is optional, because Tilt leaves out what is zero and older versions
//! do not know it; an object of an unexpected shape costs that object, not the report. Pure.
//!
//! Names and meanings follow Tilt's `pkg/apis/core/v1alpha1`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::base::text::without_credentials;

/// What one look at Tilt showed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Snapshot {
    pub session: Option<Session>,
    pub resources: Vec<Resource>,
    pub image_builds: Vec<ImageBuild>,
    /// Whether there are images of each [`ImageKind`], built or not.
    pub has_images: [bool; 2],
    /// How the run ended, once Tilt has decided to end by itself, as `tilt ci` does; of one that is
    /// over, as `--outcome` says.
    pub outcome: Option<Outcome>,
}

/// How a run of `tilt ci` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Success,
    Failure,
    /// A failure: it took longer than `tilt ci` or its readiness was given.
    Timeout,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure | Self::Timeout => "failure",
        }
    }

    /// The class of a failure.
    pub fn error_type(self) -> Option<&'static str> {
        match self {
            Self::Success => None,
            Self::Failure => Some("resource_failed"),
            Self::Timeout => Some("timeout"),
        }
    }

    /// As GitHub or GitLab words it, or an exit code. `None` for what tells neither, such as a word
    /// for a run that was cancelled, or the exit code of a killed one.
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

/// One run of `tilt up` or `tilt ci` (a `UISession`).
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Session {
    /// `metadata.uid`: made anew by each run, the same in a snapshot of that run.
    pub uid: Option<String>,
    pub tilt_version: Option<String>,
    /// Empty since Tilt 0.30.5.
    pub tilt_cloud_user: Option<String>,
    pub tilt_started_at: Option<Timestamp>,
    pub tiltfile: Option<String>,
}

/// One `UIResource`: what Tilt's own UI shows as a row.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Resource {
    pub name: String,
    pub uid: Option<String>,
    /// `metadata.resourceVersion`: greater with each change, over all objects of a session.
    pub version: u64,
    /// Sorted.
    pub labels: Vec<String>,
    pub resource_type: Option<ResourceType>,
    pub update_status: Option<String>,
    pub runtime_status: Option<String>,
    pub ready: Option<Condition>,
    pub up_to_date: Option<Condition>,
    pub disabled: Option<bool>,
    /// Tilt leaves out 0, which is `auto`.
    pub trigger_mode: Option<i64>,
    pub waiting: Option<Waiting>,
    pub pod_status: Option<String>,
    pub pod_restarts: Option<i64>,
    pub health_status: Option<String>,
    /// It builds at least one image.
    pub builds_images: bool,
    /// Finished ones, newest first: at most two, one for a Tiltfile.
    pub updates: Vec<Update>,
    pub current_update: Option<CurrentUpdate>,
}

/// A finished update of a resource: a command, an image build with its deploy, a live update, a
/// Tiltfile load (an entry of `buildHistory`).
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// `build:N` counts the session's updates over all resources; a live update's id repeats.
    pub span_id: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub error: Option<String>,
    pub warnings: usize,
}

/// The update under way.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentUpdate {
    pub span_id: String,
    pub started_at: Timestamp,
}

/// What a resource is made of, by the types of its specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceType {
    Local,
    DockerCompose,
    K8s,
    ImageOnly,
    Tiltfile,
}

impl ResourceType {
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

/// A condition that is either true or false; an `Unknown` one is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub holds: bool,
    pub reason: Option<String>,
    /// Moves only when `holds` flips.
    pub since: Option<Timestamp>,
}

/// Why a resource waits, and the names of what it waits for.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Waiting {
    pub reason: Option<String>,
    pub on: Vec<String>,
}

/// A completed build of one image (`DockerImage` or `CmdImage`).
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBuild {
    pub kind: ImageKind,
    /// The object's name, `resource:image`: an image that two resources share is built for each.
    pub object: String,
    pub image: Option<String>,
    /// The tag that Tilt gave the image; a failed build has none.
    pub tag: Option<String>,
    pub resource: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub error: Option<String>,
    /// In the order in which `BuildKit` first showed them; none from the legacy builder.
    pub stages: Vec<Stage>,
}

impl ImageBuild {
    /// Its end, or its start where a stepped clock put that later.
    pub fn latest(&self) -> &Timestamp {
        if self.finished_at.at < self.started_at.at { &self.started_at } else { &self.finished_at }
    }
}

/// Which kind of object an image build was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    Docker,
    Cmd,
}

/// One stage of an image build.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stage {
    /// Holds build arguments with their values.
    pub name: String,
    pub cached: bool,
    /// `BuildKit` shares steps between builds, so these may lie outside of this one.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub error: Option<String>,
}

impl Resource {
    /// Tilt shows a resource a moment before it says anything of it, its trigger mode included.
    pub fn has_status(&self) -> bool {
        self.update_status.is_some() || self.runtime_status.is_some()
    }

    /// Tilt runs an empty update before it starts a serve command; it is no build.
    pub fn only_serves(&self) -> bool {
        self.resource_type == Some(ResourceType::Local)
            && self.update_status.as_deref() == Some("not_applicable")
    }
}

/// A moment as Tilt wrote it, so that identities never depend on how it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Timestamp {
    pub text: String,
    pub at: SystemTime,
}

impl Timestamp {
    /// `None` for what is no RFC 3339 UTC time since 1970, such as Go's zero time.
    pub fn parse(text: &str) -> Option<Self> {
        let at = humantime::parse_rfc3339(text).ok()?;
        Some(Self { text: text.to_owned(), at })
    }

    /// The time from `earlier` to here; `None` when that would be negative.
    pub fn since(&self, earlier: &Self) -> Option<Duration> {
        self.at.duration_since(earlier.at).ok()
    }
}

impl Snapshot {
    /// Adds what another call showed, of other kinds.
    pub fn join(&mut self, other: Self) {
        self.session = self.session.take().or(other.session);
        self.outcome = self.outcome.or(other.outcome);
        self.resources.extend(other.resources);
        self.image_builds.extend(other.image_builds);
        for (has, others) in self.has_images.iter_mut().zip(other.has_images) {
            *has |= others;
        }
    }

    /// Tilt lists in random order; a report reads better, and compares, in a stable one.
    pub fn sort(&mut self) {
        self.resources.sort_by(|a, b| a.name.cmp(&b.name));
        self.image_builds.sort_by(|a, b| a.object.cmp(&b.object));
    }

    /// Adds the object in this text; says whether it could be read.
    pub fn add(&mut self, object: &str) -> bool {
        // Bytes everywhere: read from texts too, objects would take 80 kB of the program more.
        serde_json::from_slice(object.as_bytes()).is_ok_and(|object| self.take(object))
    }

    /// Adds one object; says whether it makes sense. Kinds that nobody asked for are passed over.
    pub(crate) fn take(&mut self, object: Object) -> bool {
        match object.kind.as_deref() {
            Some("Session") => self.outcome = object.into_outcome(),
            Some("UISession") => self.session = Some(object.into_session()),
            Some("UIResource") => match object.into_resource() {
                Some(resource) => self.resources.push(resource),
                None => return false,
            },
            Some("DockerImage") => self.add_image(object, ImageKind::Docker),
            Some("CmdImage") => self.add_image(object, ImageKind::Cmd),
            _ => {}
        }
        true
    }

    fn add_image(&mut self, object: Object, kind: ImageKind) {
        self.has_images[kind as usize] = true;
        self.image_builds.extend(object.into_build(kind));
    }
}

/// Any of the kinds asked for: their status fields do not collide, so one pass reads them all.
#[derive(Deserialize)]
pub(crate) struct Object {
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

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "tilt.dev/resource")]
    resource: Option<String>,
}

#[derive(Deserialize, Default)]
struct Spec {
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
    build_history: Option<Vec<FinishedBuild>>,
    current_build: Option<RunningBuild>,
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
    // DockerImage, CmdImage
    completed: Option<Completed>,
    #[serde(rename = "ref")]
    tagged: Option<String>,
    stage_statuses: Option<Vec<StageStatus>>,
}

#[derive(Deserialize)]
struct TiltBuild {
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct FinishedBuild {
    #[serde(rename = "spanID")]
    span_id: Option<String>,
    start_time: Option<String>,
    finish_time: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningBuild {
    #[serde(rename = "spanID")]
    span_id: Option<String>,
    start_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    name: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    last_transition_time: Option<String>,
}

#[derive(Deserialize)]
struct DisableStatus {
    state: Option<String>,
}

#[derive(Deserialize)]
struct TargetSpec {
    #[serde(rename = "type")]
    target: Option<String>,
}

#[derive(Deserialize)]
struct RawWaiting {
    reason: Option<String>,
    on: Option<Vec<WaitedFor>>,
}

#[derive(Deserialize)]
struct WaitedFor {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct K8sInfo {
    pod_status: Option<String>,
    pod_restarts: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComposeInfo {
    health_status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StageStatus {
    name: Option<String>,
    cached: Option<bool>,
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
}

/// How a `Session`'s error begins where no resource failed, but one had not come up in time.
const TIMEOUTS: [&str; 2] = ["Timeout after ", "Readiness timeout after "];

impl Object {
    fn into_outcome(self) -> Option<Outcome> {
        let status = self.status.unwrap_or_default();
        let outcome = match non_empty(status.error) {
            None => Outcome::Success,
            Some(error) if TIMEOUTS.iter().any(|words| error.starts_with(words)) => {
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

    fn into_resource(self) -> Option<Resource> {
        let metadata = self.metadata.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let name = non_empty(metadata.name)?;
        let conditions = status.conditions.unwrap_or_default();
        let k8s = status.k8s_resource_info;
        let specs = status.specs.unwrap_or_default();
        let history = status.build_history.unwrap_or_default();
        Some(Resource {
            resource_type: resource_type(&name, &specs, &history),
            builds_images: has_target(&specs, "image"),
            updates: history.into_iter().filter_map(FinishedBuild::into_update).collect(),
            current_update: status.current_build.and_then(RunningBuild::into_update),
            name,
            uid: non_empty(metadata.uid),
            version: metadata.resource_version.and_then(|text| text.parse().ok()).unwrap_or(0),
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
            pod_restarts: k8s.and_then(|info| info.pod_restarts),
            health_status: status
                .compose_resource_info
                .and_then(|info| non_empty(info.health_status)),
        })
    }

    /// `None` while the image has no build that is complete with its two times.
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
            tag: status.tagged.as_deref().and_then(tag),
            resource: metadata.annotations.and_then(|annotations| non_empty(annotations.resource)),
            started_at: time(completed.started_at.as_deref())?,
            finished_at: time(completed.finished_at.as_deref())?,
            error: non_empty(completed.error),
            stages: status
                .stage_statuses
                .unwrap_or_default()
                .into_iter()
                .map(StageStatus::into_stage)
                .collect(),
        })
    }
}

impl RawWaiting {
    fn into_waiting(self) -> Waiting {
        let reason = non_empty(self.reason);
        // While a Tiltfile's changes are taken in, Tilt names all that they concern.
        let waits_for_others = reason.as_deref() != Some("tiltfile-reload");
        let on = self.on.unwrap_or_default().into_iter().filter(|_| waits_for_others);
        Waiting { reason, on: on.filter_map(|waited| non_empty(waited.name)).collect() }
    }
}

impl FinishedBuild {
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

impl RunningBuild {
    fn into_update(self) -> Option<CurrentUpdate> {
        let started_at = time(self.start_time.as_deref())?;
        Some(CurrentUpdate { span_id: non_empty(self.span_id)?, started_at })
    }
}

impl StageStatus {
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

/// Tilt says nothing in several ways: a field is absent, null, or empty.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(Timestamp::parse)
}

fn condition(conditions: &[RawCondition], name: &str) -> Option<Condition> {
    let condition = conditions.iter().find(|c| c.name.as_deref() == Some(name))?;
    let holds = match condition.status.as_deref() {
        Some("True") => true,
        Some("False") => false,
        _ => return None,
    };
    Some(Condition {
        holds,
        reason: non_empty(condition.reason.clone()),
        since: time(condition.last_transition_time.as_deref()),
    })
}

fn has_target(specs: &[TargetSpec], target: &str) -> bool {
    specs.iter().any(|spec| spec.target.as_deref() == Some(target))
}

/// A Tiltfile has no specs; its updates carry its kind in their span id.
fn resource_type(
    name: &str,
    specs: &[TargetSpec],
    history: &[FinishedBuild],
) -> Option<ResourceType> {
    let has = |target| has_target(specs, target);
    let loads_a_tiltfile = || {
        history.iter().any(|u| u.span_id.as_deref().is_some_and(|id| id.starts_with("tiltfile:")))
    };
    if has("k8s") {
        Some(ResourceType::K8s)
    } else if has("docker-compose") {
        Some(ResourceType::DockerCompose)
    } else if has("local") {
        Some(ResourceType::Local)
    } else if has("image") {
        Some(ResourceType::ImageOnly)
    } else if name == "(Tiltfile)" || loads_a_tiltfile() {
        Some(ResourceType::Tiltfile)
    } else {
        None
    }
}

/// The tag of `host:port/name:tag`; the port is no tag, and a digest is none either.
fn tag(reference: &str) -> Option<String> {
    let name = reference.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').and_then(|(_, tag)| non_empty(Some(tag.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(object: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.add(object), "{object}");
        snapshot
    }

    #[test]
    fn nulls_absent_fields_and_empty_texts_all_say_nothing() {
        for status in [
            "{}",
            "null",
            r#"{"updateStatus":null,"conditions":null,"specs":null,"waiting":null,"buildHistory":null}"#,
            r#"{"updateStatus":"","waiting":null,"disableStatus":{"state":""}}"#,
        ] {
            let text =
                format!(r#"{{"kind":"UIResource","metadata":{{"name":"web"}},"status":{status}}}"#);
            let expected = Resource { name: "web".into(), ..Resource::default() };
            assert_eq!(read(&text).resources, [expected], "{status}");
        }
    }

    #[test]
    fn what_waits_for_the_tiltfile_waits_for_nothing_else() {
        for (reason, on) in
            [("waiting-for-dep", vec!["db".to_owned()]), ("tiltfile-reload", Vec::new())]
        {
            let text = format!(
                r#"{{"kind":"UIResource","metadata":{{"name":"web"}},"status":{{"waiting":{{"reason":"{reason}","on":[{{"name":"db"}}]}}}}}}"#
            );
            let waiting = read(&text).resources.remove(0).waiting.expect("it waits");
            assert_eq!((waiting.reason.as_deref(), waiting.on), (Some(reason), on));
        }
    }

    #[test]
    fn an_outcome_is_a_word_of_a_ci_provider_or_an_exit_code() {
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

    #[test]
    fn a_session_that_is_done_tells_how_it_ended() {
        for (status, expected) in [
            (r#"{"done":false}"#, None),
            (r#"{"done":true}"#, Some(Outcome::Success)),
            (r#"{"done":true,"error":"Command \"x\" failed: exit 1"}"#, Some(Outcome::Failure)),
            (
                r#"{"done":true,"error":"Timeout after 4s: 1 resources waiting (b:update)"}"#,
                Some(Outcome::Timeout),
            ),
            (
                r#"{"done":true,"error":"Readiness timeout after 3s: target b not ready"}"#,
                Some(Outcome::Timeout),
            ),
        ] {
            let text = format!(r#"{{"kind":"Session","status":{status}}}"#);
            assert_eq!(read(&text).outcome, expected, "{status}");
        }
    }

    #[test]
    fn an_unfinished_build_is_no_build() {
        for status in [
            r#"{"building":{"startedAt":"2026-11-22T15:22:07Z"}}"#,
            r#"{"completed":{"startedAt":"2026-11-22T15:22:07Z"}}"#,
            r#"{"completed":{"startedAt":"0001-01-01T00:00:00Z","finishedAt":"2026-11-22T15:22:07Z"}}"#,
        ] {
            let text = format!(
                r#"{{"kind":"DockerImage","metadata":{{"name":"a:a"}},"status":{status}}}"#
            );
            assert_eq!(read(&text).image_builds, [], "{status}");
        }
    }

    #[test]
    fn the_tag_is_what_follows_the_name() {
        for (reference, expected) in [
            ("web:tilt-784d6ceae4ab9cfe", Some("tilt-784d6ceae4ab9cfe")),
            ("localhost:5005/team/web:tilt-1", Some("tilt-1")),
            ("localhost:5005/web", None),
            ("web@sha256:abc", None),
            ("web", None),
        ] {
            assert_eq!(tag(reference).as_deref(), expected, "{reference}");
        }
    }

    #[test]
    fn the_type_follows_the_specs() {
        for (name, specs, span, expected) in [
            ("web", &["image", "k8s"][..], "", Some(ResourceType::K8s)),
            ("web", &["image", "docker-compose"], "", Some(ResourceType::DockerCompose)),
            ("lint", &["local"], "", Some(ResourceType::Local)),
            ("base", &["image"], "", Some(ResourceType::ImageOnly)),
            ("(Tiltfile)", &[], "", Some(ResourceType::Tiltfile)),
            ("ext:x", &[], "tiltfile:ext:x:1", Some(ResourceType::Tiltfile)),
            ("new", &[], "", None),
        ] {
            let specs: Vec<_> =
                specs.iter().map(|s| TargetSpec { target: Some((*s).to_owned()) }).collect();
            let history =
                [FinishedBuild { span_id: Some(span.to_owned()), ..FinishedBuild::default() }];
            assert_eq!(resource_type(name, &specs, &history), expected, "{name} {span}");
        }
    }
}

//! The one table of every field that this program can send: name, kinds of events that carry it,
//! meaning, type, unit and an example. `docs/events.md` is generated from it. Pure.
//!
//! Names that contain a dot follow OpenTelemetry's semantic conventions where these define one:
//! <https://opentelemetry.io/docs/specs/semconv/>.

use crate::events::event::EventKind;

/// One field of an event.
#[derive(Debug)]
pub struct Field {
    /// The name of the column in Honeycomb.
    pub name: &'static str,
    /// The kinds of events that can carry the field. An event leaves it out if its value is unknown.
    pub kinds: &'static [EventKind],
    /// What the value says, in a form that completes "`name` is ...".
    pub meaning: &'static str,
    pub value_type: ValueType,
    /// The unit of a number that has one.
    pub unit: Option<&'static str>,
    /// A value as it appears in JSON; a text is shown without its quotes.
    pub example: &'static str,
}

/// The type of a field's value. It never changes from one event to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    Text,
    Number,
    Boolean,
}

impl ValueType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// Finds the field with this name.
pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

type Kinds = &'static [EventKind];

/// Every kind of event.
pub const ALL: Kinds = &[
    EventKind::Update,
    EventKind::Rollout,
    EventKind::DockerImage,
    EventKind::CmdImage,
    EventKind::DockerImageStage,
    EventKind::Startup,
    EventKind::UiResource,
    EventKind::Session,
];
/// The kinds that are spans of a trace.
pub const SPANS: Kinds = &[
    EventKind::Update,
    EventKind::Rollout,
    EventKind::DockerImage,
    EventKind::CmdImage,
    EventKind::DockerImageStage,
    EventKind::Startup,
];
/// The kinds whose failure comes with a text from Tilt.
const BUILDS: Kinds =
    &[EventKind::Update, EventKind::DockerImage, EventKind::CmdImage, EventKind::DockerImageStage];
const UPDATE: Kinds = &[EventKind::Update];
const ROLLOUT: Kinds = &[EventKind::Rollout];
const UPDATE_AND_ROLLOUT: Kinds = &[EventKind::Update, EventKind::Rollout];
const UPDATE_ROLLOUT_AND_RESOURCE: Kinds =
    &[EventKind::Update, EventKind::Rollout, EventKind::UiResource];
const ROLLOUT_AND_RESOURCE: Kinds = &[EventKind::Rollout, EventKind::UiResource];
/// The kinds that can have an exit code.
const CAN_EXIT: Kinds = &[
    EventKind::Update,
    EventKind::Rollout,
    EventKind::DockerImage,
    EventKind::CmdImage,
    EventKind::DockerImageStage,
    EventKind::UiResource,
];
const IMAGES: Kinds = &[EventKind::DockerImage, EventKind::CmdImage];
const IMAGES_AND_STAGES: Kinds =
    &[EventKind::DockerImage, EventKind::CmdImage, EventKind::DockerImageStage];
const DOCKER_IMAGE: Kinds = &[EventKind::DockerImage];
const STAGE: Kinds = &[EventKind::DockerImageStage];
const STARTUP: Kinds = &[EventKind::Startup];
const STARTUP_AND_RESOURCE: Kinds = &[EventKind::Startup, EventKind::UiResource];
const WITH_OUTCOME: Kinds = &[EventKind::Rollout, EventKind::Startup, EventKind::Session];
const RESOURCE: Kinds = &[EventKind::UiResource];
const UPDATE_AND_RESOURCE: Kinds = &[EventKind::Update, EventKind::UiResource];
const SESSION: Kinds = &[EventKind::Session];
/// Every kind that concerns one thing with a name; a `session` concerns the environment.
const NAMED: Kinds = &[
    EventKind::Update,
    EventKind::Rollout,
    EventKind::DockerImage,
    EventKind::CmdImage,
    EventKind::DockerImageStage,
    EventKind::Startup,
    EventKind::UiResource,
];

type Text = &'static str;

const fn text(name: Text, kinds: Kinds, meaning: Text, example: Text) -> Field {
    Field { name, kinds, meaning, value_type: ValueType::Text, unit: None, example }
}

const fn number(name: Text, kinds: Kinds, meaning: Text, example: Text) -> Field {
    Field { name, kinds, meaning, value_type: ValueType::Number, unit: None, example }
}

/// A duration in milliseconds, with a fraction down to the microsecond.
const fn ms(name: Text, kinds: Kinds, meaning: Text, example: Text) -> Field {
    Field { name, kinds, meaning, value_type: ValueType::Number, unit: Some("ms"), example }
}

const fn boolean(name: Text, kinds: Kinds, meaning: Text, example: Text) -> Field {
    Field { name, kinds, meaning, value_type: ValueType::Boolean, unit: None, example }
}

/// Every field that this program sets, in the order in which the documentation lists them.
pub const FIELDS: &[Field] = &[
    text("kind", ALL, "kind of the event", "dockerimage"),
    text("tilt_version", ALL, "version of the running Tilt", "0.37.6"),
    text(
        "tilt_mode",
        ALL,
        "command that runs Tilt: `up` or `ci`; known if the Tiltfile started the collector, and for a snapshot",
        "ci",
    ),
    text("session.id", ALL, "id of one run of Tilt", "ef9d86ec-d53e-4ec9-863d-17f7922b2ff8"),
    text("user", ALL, "user name in Tilt Cloud, else the value of `--user`, else empty", "ann"),
    text(
        "installation.id",
        ALL,
        "random id, created once per state folder: once per machine, but anew in a CI job that keeps no files",
        "2180ad6ddc50c0c1659cf4fdc2aeea6e",
    ),
    text("os.type", ALL, "operating system: `linux`, `darwin` or `windows`", "linux"),
    text("host.arch", ALL, "processor architecture, such as `amd64` or `arm64`", "amd64"),
    number("host.cpu_count", ALL, "number of processors that the collector may use", "2"),
    number(
        "event.version",
        ALL,
        "version of this list; it rises if a field changes its meaning",
        "1",
    ),
    text("collector.version", ALL, "version of tilt-honeycomb", "0.1.0"),
    text("ci.provider", ALL, "CI provider of this machine", "github-actions"),
    text("ci.attempt", ALL, "attempt at this run, counted from 1", "2"),
    text(
        "cicd.pipeline.name",
        ALL,
        "name of the workflow or pipeline, or of the project if the provider has one pipeline per project",
        "Check",
    ),
    text("cicd.pipeline.run.id", ALL, "id of the pipeline run", "9127"),
    text(
        "cicd.pipeline.run.url.full",
        ALL,
        "address of the pipeline run, without credentials",
        "https://github.com/acme/shop/actions/runs/9127/attempts/2",
    ),
    text("cicd.pipeline.task.name", ALL, "name of the job", "environment"),
    text("vcs.repository.name", ALL, "name of the repository, without its owner", "shop"),
    text("vcs.ref.head.name", ALL, "name of the branch or tag", "fix-cart"),
    text("vcs.ref.head.revision", ALL, "id of the commit", "0c0ffee"),
    text(
        "vcs.change.id",
        ALL,
        "number of the pull request or merge request; only from a CI provider",
        "7",
    ),
    text("trace.trace_id", SPANS, "id of the trace", "b2f4a5f8b4858a154260f8d317007a9e"),
    text("trace.span_id", SPANS, "id of the span", "f13256d5819d445f"),
    text("trace.parent_id", SPANS, "id of the parent span; absent on a root", "57cbce31a9ec995b"),
    text("service.name", ALL, "always `tilt`", "tilt"),
    text("meta.signal_type", SPANS, "always `trace`", "trace"),
    ms(
        "duration_ms",
        SPANS,
        "time that the work took; absent if the end is unknown. The section of each kind says what it measures",
        "2751.517",
    ),
    boolean("error", ALL, "true if the work failed; absent otherwise", "true"),
    text(
        "error.type",
        ALL,
        "class of the failure; on a `uiresource`, of the failure at run time",
        "command_failed",
    ),
    number(
        "exit_code",
        CAN_EXIT,
        "exit code that the error text mentions; at run time, that of the container",
        "9",
    ),
    text(
        "error.hash",
        BUILDS,
        "hash of the class, the exit code and the error text; the same for texts that differ only in numbers, ids and home folders",
        "951f702d10ea822c",
    ),
    text(
        "error.message",
        BUILDS,
        "error text, up to 1 KiB; only with `--send-error-text`",
        "ImageBuild: executor failed running [/bin/sh -c exit 9]: exit code: 9",
    ),
    text(
        "name",
        NAMED,
        "name of the resource; of the image for an image build; Docker's label for a stage (`build 3/3 RUN`); `tilt up` or `tilt ci` for a start-up",
        "api",
    ),
    text("image_name", IMAGES, "image, as the Tiltfile names it", "shop-api"),
    text("image", STAGE, "image that the stage belongs to, as the Tiltfile names it", "shop-api"),
    text("resource", IMAGES_AND_STAGES, "resource that the image is built for", "api"),
    text(
        "image_tag",
        IMAGES,
        "tag that Tilt gave to the image; absent if the build failed",
        "tilt-ca188ad29184246d",
    ),
    number(
        "stages",
        DOCKER_IMAGE,
        "number of cacheable steps of the Dockerfile (`RUN`, `COPY`, `ADD` and `WORKDIR`); absent for the legacy builder",
        "4",
    ),
    number("stages_cached", DOCKER_IMAGE, "number of these steps that came from the cache", "3"),
    number("stage", STAGE, "position of the stage, counted from 1", "8"),
    text(
        "instruction",
        STAGE,
        "instruction of the Dockerfile (`RUN`, `COPY`, `ADD`, `FROM`, ...) or step of BuildKit (`internal`, `auth`, `context`, `source`, `resolve`, `load`, `import`, `prepare`, `merge`, `export`, `push`); `other` for anything else",
        "RUN",
    ),
    boolean("cached", STAGE, "whether the stage came from the cache", "false"),
    text(
        "stage_hash",
        STAGE,
        "hash of the stage's text; the same for stages with the same text",
        "268d13adbc140ee9",
    ),
    text(
        "stage_text",
        STAGE,
        "text of the stage, up to 1 KiB; only with `--send-stage-text`",
        "[4/4] RUN exit 9",
    ),
    text(
        "update_type",
        UPDATE,
        "what was updated: `image`, `live-update`, `local`, `k8s`, `docker-compose`, `image-only` or `tiltfile`",
        "image",
    ),
    boolean(
        "initial",
        UPDATE_AND_ROLLOUT,
        "whether this is the first update of the resource in its session; absent if the collector cannot know",
        "true",
    ),
    text("update_id", UPDATE_AND_ROLLOUT, "id that Tilt gave to the update", "build:11"),
    number("warnings", UPDATE, "number of warnings", "0"),
    boolean(
        "incomplete",
        UPDATE,
        "true if the update was in progress when the session ended, or if the collector missed its end; absent otherwise",
        "true",
    ),
    text(
        "resource_type",
        UPDATE_ROLLOUT_AND_RESOURCE,
        "type of the resource: `local`, `docker-compose`, `k8s`, `image-only` or `tiltfile`",
        "docker-compose",
    ),
    text(
        "labels",
        UPDATE_ROLLOUT_AND_RESOURCE,
        "labels of the resource, sorted, joined by commas",
        "backend,team-a",
    ),
    ms(
        "pod_scheduled_ms",
        ROLLOUT,
        "time from the creation of the pod until a node took it; Kubernetes reports whole seconds",
        "1000.0",
    ),
    ms(
        "pod_initialized_ms",
        ROLLOUT,
        "time from the creation of the pod until its init containers had ended, in whole seconds",
        "11000.0",
    ),
    ms(
        "pod_ready_ms",
        ROLLOUT,
        "time from the creation of the pod until it was ready, in whole seconds",
        "12000.0",
    ),
    text(
        "waiting_reason",
        UPDATE_AND_RESOURCE,
        "why the pending update has not started, in Tilt's words; for an update, the last reason before it started",
        "waiting-for-dep",
    ),
    text(
        "waiting_on",
        UPDATE_AND_RESOURCE,
        "resources that it waits or waited for, sorted, joined by commas",
        "migrate",
    ),
    text(
        "runtime_status",
        RESOURCE,
        "runtime status in Tilt: `ok`, `pending`, `error`, `none`, `unknown` or `not_applicable`",
        "not_applicable",
    ),
    text(
        "update_status",
        RESOURCE,
        "update status in Tilt: `ok`, `pending`, `in_progress`, `error`, `none` or `not_applicable`",
        "error",
    ),
    text(
        "previous_runtime_status",
        RESOURCE,
        "value of `runtime_status` before a change; only on an event that reports a change",
        "pending",
    ),
    text(
        "previous_update_status",
        RESOURCE,
        "value of `update_status` before a change; only on an event that reports a change",
        "in_progress",
    ),
    text(
        "previous_pod_status",
        RESOURCE,
        "value of `pod_status` before a change; only on an event that reports a change",
        "ContainerCreating",
    ),
    ms(
        "previous_state_ms",
        RESOURCE,
        "time from the first report of the previous statuses until this change; only on an event that reports a change",
        "10500.000",
    ),
    boolean(
        "collector",
        RESOURCE,
        "true on the collector's own resource, which is in no count; absent otherwise",
        "true",
    ),
    boolean("ready", RESOURCE, "whether Tilt considers the resource ready", "false"),
    text("ready_reason", RESOURCE, "why it is not ready, in Tilt's words", "UpdateError"),
    boolean("up_to_date", RESOURCE, "whether the last update included every change", "false"),
    ms("in_state_ms", RESOURCE, "time since `ready` last changed", "4714.588"),
    boolean("disabled", RESOURCE, "whether the resource is disabled", "false"),
    text(
        "trigger_mode",
        RESOURCE,
        "trigger mode: `auto`, `auto_with_manual_init`, `manual` or `manual_with_auto_init`",
        "auto",
    ),
    text("pod_status", RESOURCE, "status of the pod; only on Kubernetes", "Running"),
    number(
        "pod_restarts",
        ROLLOUT_AND_RESOURCE,
        "restarts of the newest pod's containers, without its init containers; absent without a pod",
        "3",
    ),
    text(
        "health_status",
        RESOURCE,
        "health of the Compose container; only if it has a health check",
        "healthy",
    ),
    ms(
        "time_to_ready_ms",
        STARTUP_AND_RESOURCE,
        "time from Tilt's start until the resource was first ready; for a start-up, until the last resource was",
        "4647.475",
    ),
    text("slowest_resource", STARTUP, "resource that became ready last", "api"),
    number("resources_ready", STARTUP, "resources that came up by the end of the start-up", "7"),
    number(
        "resources_failed",
        STARTUP,
        "resources in error at the end of the start-up; a pod counts after 30 s of trouble or at the end",
        "1",
    ),
    number(
        "resources_blocked",
        STARTUP,
        "resources that could not begin: they waited for one that failed, is disabled or does not start automatically",
        "1",
    ),
    number(
        "resources_unready",
        STARTUP,
        "resources that had neither come up nor failed when the start-up ended, and were not blocked",
        "0",
    ),
    number("resources_recovered", STARTUP, "resources that failed first and then came up", "0"),
    text(
        "unready",
        STARTUP_AND_SESSION,
        "enabled resources that start automatically and are not ready, sorted, joined by commas, at most 20; for a start-up, those that neither came up nor failed, blocked ones included",
        "seed,smoke-test",
    ),
    boolean(
        "tiltfile_failed",
        STARTUP,
        "true if the first load of a Tiltfile failed and was fixed later; absent otherwise",
        "true",
    ),
    text(
        "ended_by",
        STARTUP,
        "why the start-up is over: `settled`, `timeout` (after ten minutes) or `session_end`",
        "settled",
    ),
    text(
        "outcome",
        WITH_OUTCOME,
        "how `tilt ci` ended: `success` or `failure`; only on the last events, and absent if unknown. On a `rollout`, how it ended: `ready`, `failed`, `superseded` (by the next update) or `session_end`",
        "failure",
    ),
    text(
        "state",
        SESSION,
        "state of the environment: `starting` (the start-up is not over and nothing is in error), `unhealthy` (an enabled resource is in error, the cluster is unreachable, or the start-up timed out and a resource never became ready), `updating` (nothing is in error, something is busy) or `healthy`",
        "unhealthy",
    ),
    boolean(
        "healthy",
        SESSION,
        "true if `state` is `healthy` or `updating`, false if it is `unhealthy`; absent while `starting`",
        "false",
    ),
    ms(
        "time_to_healthy_ms",
        SESSION,
        "time from Tilt's start until `state` was first `healthy`, including failures that were fixed on the way; once per session",
        "48211.310",
    ),
    text(
        "cluster.product",
        SESSION,
        "Kubernetes product, as Tilt recognizes it: `kind`, `minikube`, `docker-desktop`, `k3d`, `gke`, ... or `unknown`; only with Kubernetes resources",
        "kind",
    ),
    text("cluster.version", SESSION, "version of Kubernetes", "v1.32.9"),
    text("cluster.arch", SESSION, "processor architecture of the cluster", "arm64"),
    number(
        "resources",
        STARTUP_AND_SESSION,
        "number of resources, without the collector's own; for a start-up, of those that start automatically",
        "9",
    ),
    number("resources_ok", SESSION, "enabled resources that are neither in error nor busy", "7"),
    number("resources_error", SESSION, "resources whose update, runtime or pod is in error", "2"),
    number("resources_pending", SESSION, "resources that wait, or have no status yet", "0"),
    number("resources_in_progress", SESSION, "resources that are being updated", "0"),
    number(
        "resources_idle",
        SESSION,
        "resources that never ran and do not start automatically",
        "1",
    ),
    number("resources_disabled", SESSION, "resources that are disabled", "0"),
    ms("uptime_ms", SESSION, "time since Tilt's start", "1764.152"),
    number(
        "missed_builds",
        SESSION,
        "builds of this session whose end the collector did not see, including those before it started",
        "12",
    ),
    number("queued", SESSION, "events that waited for delivery before this report", "0"),
    number(
        "dropped",
        SESSION,
        "events that will never arrive, counted since the state was created: the queue was full, they were too old, or Honeycomb rejected them",
        "0",
    ),
    text(
        "send_error",
        SESSION,
        "why the last delivery failed: `kept` (it will be retried) or `refused` (by Honeycomb)",
        "kept",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_listed_once() {
        let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }

    #[test]
    fn a_name_ends_in_ms_if_its_unit_is_milliseconds() {
        for field in FIELDS {
            assert_eq!(field.name.ends_with("_ms"), field.unit == Some("ms"), "{}", field.name);
        }
    }

    #[test]
    fn every_example_has_the_type_of_its_field() {
        for Field { name, value_type, example, .. } in FIELDS {
            let is_of_type = match value_type {
                ValueType::Text => !example.is_empty(),
                ValueType::Number => example.parse::<f64>().is_ok(),
                ValueType::Boolean => example.parse::<bool>().is_ok(),
            };
            assert!(is_of_type, "{name}: {example}");
        }
    }
}

//! What a snapshot of Tilt says, as events.
//!
//! Deriving decides nothing about what is new: every build that Tilt shows becomes an event with
//! the key by which it is known, and the state drops the ones it has seen. Pure; `now` is given.

use std::time::SystemTime;

use crate::config::{Config, TiltMode};
use crate::event::{EVENT_VERSION, Event, Fields, Kind};
use crate::failure::Failure;
use crate::ids;
use crate::model::{Condition, ImageBuild, ImageKind, Resource, ResourceType, Session, Snapshot};

/// What the events say beside what Tilt shows: the person's choices and the machine.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Used where Tilt knows no user.
    pub user: Option<String>,
    /// `--field`: names that [`crate::event::FIELDS`] does not hold.
    pub own_fields: Vec<(String, String)>,
    pub send_error_text: bool,
    pub tilt_mode: Option<TiltMode>,
    /// None in a dry run on a machine that has none yet.
    pub installation_id: Option<String>,
    pub cpu_count: usize,
}

impl Context {
    pub fn new(config: &Config, installation_id: Option<String>, cpu_count: usize) -> Self {
        Self {
            user: config.user.clone(),
            own_fields: config.own_fields.clone(),
            send_error_text: config.send_error_text,
            tilt_mode: config.tilt_mode,
            installation_id,
            cpu_count,
        }
    }
}

/// All that one look at Tilt has to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The run of Tilt that the builds belong to.
    pub session: String,
    pub heartbeats: Vec<Event>,
    pub builds: Vec<Build>,
}

/// A completed build, and the key by which it is known within its session.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    pub key: String,
    pub event: Event,
}

pub fn derive(snapshot: &Snapshot, context: &Context, now: SystemTime) -> Report {
    let session = session_id(snapshot);
    let shared = shared_fields(snapshot.session.as_ref(), &session, context);
    Report {
        heartbeats: snapshot.resources.iter().map(|r| heartbeat(r, &shared, now)).collect(),
        builds: snapshot.image_builds.iter().map(|b| image_build(b, context, &shared)).collect(),
        session,
    }
}

/// The `UISession`'s uid. Where an older Tilt shows none, what is as stable: its start and
/// Tiltfile, else the uid of the Tiltfile's own resource, which lives as long as the session.
fn session_id(snapshot: &Snapshot) -> String {
    let session = snapshot.session.as_ref();
    if let Some(uid) = session.and_then(|session| session.uid.as_ref()) {
        return uid.clone();
    }
    if let Some(started_at) = session.and_then(|session| session.tilt_started_at.as_ref()) {
        let tiltfile = session.and_then(|session| session.tiltfile.as_deref()).unwrap_or_default();
        return ids::id(&["session", &started_at.text, tiltfile], 32);
    }
    let tiltfile = snapshot.resources.iter().find(|resource| resource.name == "(Tiltfile)");
    let uid = tiltfile.and_then(|resource| resource.uid.as_deref());
    uid.map_or_else(String::new, |uid| ids::id(&["session", uid], 32))
}

/// What every event of a report carries.
struct Shared {
    /// Before the event's own fields: whose environment it is.
    first: Fields,
    /// After them: versions, machine, the person's own fields.
    last: Fields,
}

fn shared_fields(session: Option<&Session>, session_id: &str, context: &Context) -> Shared {
    let mut first = Fields::default();
    first.say("tilt_version", session.and_then(|s| s.tilt_version.clone()));
    let user = session.and_then(|s| s.tilt_cloud_user.clone()).or_else(|| context.user.clone());
    first.set("user", user.unwrap_or_default());

    let mut last = Fields::default();
    last.set("event.version", EVENT_VERSION);
    last.set("collector.version", env!("CARGO_PKG_VERSION"));
    last.say("session.id", Some(session_id));
    last.say("tilt_mode", context.tilt_mode.map(TiltMode::as_str));
    last.set("os.type", os_type());
    last.set("host.arch", host_arch());
    last.set("host.cpu_count", context.cpu_count);
    last.say("installation.id", context.installation_id.clone());
    for (name, value) in &context.own_fields {
        last.set(name.clone(), value.clone());
    }
    Shared { first, last }
}

/// OpenTelemetry's `os.type`.
fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// OpenTelemetry's `host.arch`.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        arch => arch,
    }
}

fn heartbeat(resource: &Resource, shared: &Shared, now: SystemTime) -> Event {
    let mut fields = shared.first.clone();
    fields.set("name", resource.name.clone());
    fields.say("runtime_status", resource.runtime_status.clone());
    fields.say("update_status", resource.update_status.clone());
    fields.set("kind", Kind::UiResource.as_str());

    fields.say("resource_type", resource.resource_type.map(ResourceType::as_str));
    fields.say("labels", joined(&resource.labels));
    condition(&mut fields, "ready", resource.ready.as_ref());
    condition(&mut fields, "up_to_date", resource.up_to_date.as_ref());
    fields.say("ready_reason", resource.ready.as_ref().and_then(|ready| ready.reason.clone()));
    let flipped_at = resource.ready.as_ref().and_then(|ready| ready.since.as_ref());
    fields.say_ms("in_state_ms", flipped_at.and_then(|since| now.duration_since(since.at).ok()));
    fields.say("disabled", resource.disabled);
    fields.say("trigger_mode", trigger_mode(resource.trigger_mode));
    if let Some(waiting) = &resource.waiting {
        fields.say("waiting_reason", waiting.reason.clone());
        fields.say("waiting_on", joined(&waiting.on));
    }
    fields.say("pod_status", resource.pod_status.clone());
    fields.say("pod_restarts", resource.pod_restarts);
    fields.say("health_status", resource.health_status.clone());
    fields.extend(&shared.last);
    Event { kind: Kind::UiResource, time: now, fields }
}

fn condition(fields: &mut Fields, name: &'static str, condition: Option<&Condition>) {
    fields.say(name, condition.map(|condition| condition.holds));
}

/// Honeycomb knows no lists.
fn joined(names: &[String]) -> Option<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(","))
}

/// Tilt's numbers in words (`TriggerMode` in its `pkg/model`); it leaves out 0.
fn trigger_mode(mode: Option<i64>) -> Option<&'static str> {
    match mode.unwrap_or(0) {
        0 => Some("auto"),
        1 => Some("manual_with_auto_init"),
        2 => Some("manual"),
        3 => Some("auto_with_manual_init"),
        _ => None,
    }
}

fn image_build(build: &ImageBuild, context: &Context, shared: &Shared) -> Build {
    let kind = match build.kind {
        ImageKind::Docker => Kind::DockerImage,
        ImageKind::Cmd => Kind::CmdImage,
    };
    let mut fields = shared.first.clone();
    fields.say("image_name", build.image.clone());
    fields.say_ms("duration_ms", build.finished_at.since(&build.started_at));
    fields.set("kind", kind.as_str());

    fields.say("resource", build.resource.clone());
    fields.say("image_tag", build.tag.clone());
    if !build.stages.is_empty() {
        fields.set("stages", build.stages.len());
        fields.set("stages_cached", build.stages.iter().filter(|stage| stage.cached).count());
    }
    if let Some(error) = &build.error {
        failure(&mut fields, error, context);
    }
    fields.extend(&shared.last);
    Build {
        key: ids::id(
            &[kind.as_str(), &build.object, &build.started_at.text, &build.finished_at.text],
            16,
        ),
        event: Event { kind, time: build.started_at.at, fields },
    }
}

fn failure(fields: &mut Fields, error: &str, context: &Context) {
    let failure = Failure::of(error);
    fields.set("error", true);
    fields.set("error.type", failure.class);
    fields.say("exit_code", failure.exit_code);
    fields.set("error.hash", failure.hash);
    if context.send_error_text {
        fields.set("error.message", failure.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, Waiting};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect(text)
    }

    fn json(event: &Event) -> serde_json::Value {
        serde_json::to_value(&event.fields).expect("JSON")
    }

    #[test]
    fn a_resource_of_which_tilt_says_nothing_has_no_empty_fields() {
        let resource = Resource { name: "web".into(), ..Resource::default() };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let report = derive(&snapshot, &Context::default(), SystemTime::UNIX_EPOCH);
        let names: Vec<_> = report.heartbeats[0].fields.names().collect();
        assert_eq!(
            names,
            [
                "user",
                "name",
                "kind",
                "trigger_mode",
                "event.version",
                "collector.version",
                "os.type",
                "host.arch",
                "host.cpu_count"
            ]
        );
    }

    #[test]
    fn lists_are_sorted_and_joined_and_clock_steps_leave_no_negative_times() {
        let resource = Resource {
            name: "web".into(),
            labels: vec!["b".into(), "a".into()],
            waiting: Some(Waiting {
                reason: Some("waiting-for-dep".into()),
                on: vec!["z".into(), "db".into()],
            }),
            ready: Some(Condition {
                holds: false,
                reason: Some("UpdatePending".into()),
                since: Some(at("2026-11-22T15:00:10Z")),
            }),
            trigger_mode: Some(2),
            ..Resource::default()
        };
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let before = at("2026-11-22T15:00:00Z").at;
        let after = at("2026-11-22T15:00:12.5Z").at;
        let event = json(&derive(&snapshot, &Context::default(), after).heartbeats[0]);
        assert_eq!(event["labels"], "a,b");
        assert_eq!(event["waiting_on"], "db,z");
        assert_eq!(event["ready"], false);
        assert_eq!(event["ready_reason"], "UpdatePending");
        assert_eq!(event["in_state_ms"], 2500.0);
        assert_eq!(event["trigger_mode"], "manual");
        let event = json(&derive(&snapshot, &Context::default(), before).heartbeats[0]);
        assert_eq!(event.get("in_state_ms"), None);
    }

    fn failed_build() -> Snapshot {
        let build = ImageBuild {
            kind: ImageKind::Cmd,
            object: "api:api".into(),
            image: Some("api".into()),
            tag: None,
            resource: Some("api".into()),
            started_at: at("2026-11-22T15:00:00Z"),
            finished_at: at("2026-11-22T15:00:01Z"),
            error: Some(r#"Custom build "curl -H 'token: s3cr3t'" failed: exit status 2"#.into()),
            stages: Vec::new(),
        };
        Snapshot { image_builds: vec![build], ..Snapshot::default() }
    }

    #[test]
    fn a_failure_tells_its_class_and_its_text_only_when_asked() {
        let quiet = derive(&failed_build(), &Context::default(), SystemTime::UNIX_EPOCH);
        let event = json(&quiet.builds[0].event);
        assert_eq!(event["error"], true);
        assert_eq!(event["error.type"], "command_failed");
        assert_eq!(event["exit_code"], 2);
        assert!(!event.to_string().contains("s3cr3t"), "{event}");

        let context = Context { send_error_text: true, ..Context::default() };
        let open = derive(&failed_build(), &context, SystemTime::UNIX_EPOCH);
        let event = json(&open.builds[0].event);
        assert!(event["error.message"].as_str().is_some_and(|text| text.contains("s3cr3t")));
        assert_eq!(open.builds[0].key, quiet.builds[0].key);
    }

    #[test]
    fn the_user_is_tilt_clouds_then_the_options_then_empty() {
        let option = Some("ann".to_owned());
        for (cloud, user, expected) in
            [(Some("cloud"), option.clone(), "cloud"), (None, option, "ann"), (None, None, "")]
        {
            let session =
                Session { tilt_cloud_user: cloud.map(str::to_owned), ..Session::default() };
            let snapshot = Snapshot { session: Some(session), ..failed_build() };
            let context = Context { user, ..Context::default() };
            let report = derive(&snapshot, &context, SystemTime::UNIX_EPOCH);
            assert_eq!(json(&report.builds[0].event)["user"], expected);
        }
    }

    #[test]
    fn a_session_without_a_uid_is_known_by_what_is_as_stable() {
        let started = Session {
            tilt_started_at: Some(at("2026-11-22T15:00:00Z")),
            tiltfile: Some("/home/ann/Tiltfile".into()),
            ..Session::default()
        };
        let by_start = Snapshot { session: Some(started), ..Snapshot::default() };
        let tiltfile =
            Resource { name: "(Tiltfile)".into(), uid: Some("u-1".into()), ..Resource::default() };
        let by_resource = Snapshot { resources: vec![tiltfile], ..Snapshot::default() };
        for snapshot in [&by_start, &by_resource] {
            let id = session_id(snapshot);
            assert_eq!((id.len(), &id), (32, &session_id(snapshot)));
            assert!(!id.contains("ann"));
        }
        assert_ne!(session_id(&by_start), session_id(&by_resource));
        assert_eq!(session_id(&Snapshot::default()), "");
    }
}

//! Finished work as spans: updates, the image builds they ran, and the stages of those. Pure.

use crate::base::{ids, text};
use crate::events::common_fields::{CommonFields, Context};
use crate::events::derived::{Build, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::failure::{Failure, Place, TEXT_LIMIT, Target};
use crate::events::observation::Backlog;
use crate::events::stage_label::StageLabel;
use crate::events::trace::{Span, UpdateId};
use crate::events::tracker::{ParentUpdate, SessionTracker};
use crate::tilt::model::{ImageBuild, ImageKind, Resource, ResourceType, Stage, Timestamp, Update};

/// One finished update; without an event for the empty ones of a resource that only serves, which stay
/// untold when it gets a command. `None` where only its next status tells whether it still only serves.
pub fn update(
    resource: &Resource,
    update: &Update,
    backlog: &Backlog,
    tracker: &SessionTracker,
    common: &CommonFields,
    context: &Context,
) -> Option<Build> {
    let id = UpdateId::new(&update.span_id, &update.started_at);
    let key = update_key(&resource.name, &id);
    if resource.only_serves() || backlog.reported.contains_key(&key) {
        return Some(Build { key, events: Vec::new() });
    }
    if tracker.only_served(resource) {
        return None;
    }
    let mut fields = started_update(resource, &id, &update.started_at, tracker, common);
    fields.set_ms("duration_ms", update.finished_at.since(&update.started_at));
    fields.set("warnings", update.warnings);
    if let Some(error) = &update.error {
        let place = place_of_update(resource, &id.span_id);
        set_failure(&mut fields, Failure::classify(error, place), context);
    }
    fields.extend(&common.trailing);
    let event = Event { kind: EventKind::Update, time: update.started_at.at, fields };
    Some(Build { key, events: vec![event] })
}

/// What to say of an update that has children on their way to Honeycomb, should its own end
/// never be seen.
pub fn unfinished_update(
    resource: &Resource,
    id: &UpdateId,
    tracker: &SessionTracker,
    common: &CommonFields,
) -> Option<ProvisionalEvent> {
    let started_at = Timestamp::parse(&id.started_at)?;
    let mut fields = started_update(resource, id, &started_at, tracker, common);
    fields.set("incomplete", true);
    fields.extend(&common.trailing);
    let event = Event { kind: EventKind::Update, time: started_at.at, fields };
    let key = update_key(&resource.name, id);
    Some(ProvisionalEvent { key, resource: Some(resource.name.clone()), event })
}

/// The key by which an update is known within its session.
pub fn update_key(resource: &str, id: &UpdateId) -> String {
    ids::id(&["update", resource, &id.span_id, &id.started_at], 16)
}

/// What is known of an update as soon as it has begun.
fn started_update(
    resource: &Resource,
    id: &UpdateId,
    started_at: &Timestamp,
    tracker: &SessionTracker,
    common: &CommonFields,
) -> Fields {
    let is_first = tracker.is_first(resource, id);
    let of_startup = tracker.is_of_startup(is_first == Some(true), started_at);
    let mut fields = common.leading.clone();
    fields.set("kind", EventKind::Update.as_str());
    fields.set("name", resource.name.clone());
    fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
    fields.set_list("labels", &resource.labels);
    fields.set("update_id", id.span_id.clone());
    fields.set_some("update_type", update_type(resource, &id.span_id));
    fields.set_some("initial", is_first);
    if let Some(waited) = tracker.waited(&resource.name, id) {
        fields.set_some("waiting_reason", waited.reason.clone());
        fields.set_list("waiting_on", &waited.on);
    }
    let startup = of_startup.then_some(&common.startup);
    Span::of_update(&common.session, &resource.name, id, startup).describe(&mut fields);
    fields
}

fn update_type(resource: &Resource, span_id: &str) -> Option<&'static str> {
    if span_id.starts_with("tiltfile:") {
        Some("tiltfile")
    } else if span_id.starts_with("liveupdate:") {
        Some("live-update")
    } else if resource.builds_images {
        Some("image")
    } else {
        resource.resource_type.map(ResourceType::as_str)
    }
}

/// The key by which an image build is known within its session.
pub fn image_key(build: &ImageBuild) -> String {
    let kind = image_kind(build).as_str();
    ids::id(&[kind, &build.object, &build.started_at.text, &build.finished_at.text], 16)
}

fn image_kind(build: &ImageBuild) -> EventKind {
    match build.kind {
        ImageKind::Docker => EventKind::DockerImage,
        ImageKind::Cmd => EventKind::CmdImage,
    }
}

/// One image build and its stages, below the update that ran it if that is known.
pub fn image_build(
    build: &ImageBuild,
    parent: Option<&Span>,
    backlog: &Backlog,
    common: &CommonFields,
    context: &Context,
) -> Build {
    let key = image_key(build);
    if backlog.reported.contains_key(&key) {
        return Build { key, events: Vec::new() };
    }
    let kind = image_kind(build);
    let span = Span::of_image_build(&common.session, build, parent);
    let mut fields = common.leading.clone();
    fields.set_some("image_name", build.image.clone());
    fields.set_ms("duration_ms", build.finished_at.since(&build.started_at));
    fields.set("kind", kind.as_str());

    fields.set("name", build.image.clone().unwrap_or_else(|| build.object.clone()));
    fields.set_some("resource", build.resource.clone());
    fields.set_some("image_tag", build.tag.clone());
    if !build.stages.is_empty() {
        fields.set("stages", build.stages.len());
        fields.set("stages_cached", build.stages.iter().filter(|stage| stage.cached).count());
    }
    if let Some(error) = &build.error {
        let place = match build.kind {
            ImageKind::Docker => Place::DockerImage,
            ImageKind::Cmd => Place::CmdImage,
        };
        set_failure(&mut fields, Failure::classify(error, place), context);
    }
    span.describe(&mut fields);
    fields.extend(&common.trailing);

    let image = Event { kind, time: build.started_at.at, fields };
    let stages = (1..).zip(&build.stages).map(|(position, stage)| {
        stage_event(build, position, stage, &Span::of_stage(&span, position), common, context)
    });
    Build { key, events: std::iter::once(image).chain(stages).collect() }
}

fn stage_event(
    build: &ImageBuild,
    position: usize,
    stage: &Stage,
    span: &Span,
    common: &CommonFields,
    context: &Context,
) -> Event {
    let instruction = StageLabel::of(&stage.name).instruction;
    // BuildKit shows a shared step with the times of the build that ran it first.
    let clamp = |time: &Timestamp| time.at.clamp(build.started_at.at, build.latest().at);
    let begins = stage.started_at.as_ref().map_or(build.started_at.at, clamp);
    let ends = stage.finished_at.as_ref().map(clamp);

    let mut fields = common.leading.clone();
    fields.set("kind", EventKind::DockerImageStage.as_str());
    fields.set("name", format!("{position}/{} {instruction}", build.stages.len()));
    fields.set_some("image_name", build.image.clone());
    fields.set_some("resource", build.resource.clone());
    fields.set("stage", position);
    fields.set("instruction", instruction);
    fields.set("stage_hash", ids::id(&["stage", &stage.name], 16));
    if context.send_stage_text {
        fields.set("stage_text", text::cut(&stage.name, TEXT_LIMIT));
    }
    fields.set("cached", stage.cached);
    fields.set_ms("duration_ms", ends.map(|end| end.duration_since(begins).unwrap_or_default()));
    if let Some(error) = &stage.error {
        set_failure(&mut fields, Failure::classify(error, Place::Stage), context);
    }
    span.describe(&mut fields);
    fields.extend(&common.trailing);
    Event { kind: EventKind::DockerImageStage, time: begins, fields }
}

/// The place of an error in the update history.
fn place_of_update(resource: &Resource, span_id: &str) -> Place {
    if span_id.starts_with("tiltfile:") {
        return Place::Tiltfile;
    }
    if span_id.starts_with("liveupdate:") {
        return Place::Update(Target::LiveUpdate);
    }
    match resource.resource_type {
        Some(ResourceType::Tiltfile) => Place::Tiltfile,
        Some(ResourceType::K8s) => Place::Update(Target::Kubernetes),
        Some(ResourceType::DockerCompose) => Place::Update(Target::DockerCompose),
        Some(ResourceType::Local) => Place::Update(Target::Local),
        Some(ResourceType::ImageOnly) => Place::Update(Target::Image),
        None => Place::Update(Target::Unknown),
    }
}

fn set_failure(fields: &mut Fields, failure: Failure, context: &Context) {
    fields.set("error", true);
    fields.set("error.type", failure.class);
    fields.set_some("exit_code", failure.exit_code);
    fields.set("error.hash", failure.hash);
    if context.send_error_text {
        fields.set("error.message", failure.text);
    }
}

/// The span of the update that an image build belongs to.
pub fn parent_span(
    resource: &Resource,
    parent: &ParentUpdate,
    tracker: &SessionTracker,
    common: &CommonFields,
) -> Span {
    let is_first = tracker.is_first(resource, &parent.id) == Some(true);
    let of_startup = Timestamp::parse(&parent.id.started_at)
        .is_some_and(|started_at| tracker.is_of_startup(is_first, &started_at));
    let startup = of_startup.then_some(&common.startup);
    Span::of_update(&common.session, &resource.name, &parent.id, startup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_known_by_its_instruction_alone() {
        for (name, expected) in [
            // Recorded from Tilt 0.37.6.
            ("[internal] load build definition from Dockerfile", "internal"),
            ("[1/3] FROM docker.io/library/busybox", "FROM"),
            ("[build 2/3] COPY src /src", "COPY"),
            ("[stage-1 2/2] COPY --from=build /bundle /bundle", "COPY"),
            ("[4/4] RUN exit 9", "RUN"),
            ("exporting to image", "export"),
            ("docker push", "push"),
            ("pushing layers", "push"),
            ("[auth] library/busybox:pull token for registry-1.docker.io", "auth"),
            ("resolve image config for docker-image://docker.io/docker/dockerfile:1", "resolve"),
            ("something new", "other"),
            ("[", "other"),
            ("", "other"),
        ] {
            assert_eq!(StageLabel::of(name).instruction, expected, "{name}");
        }
    }
}

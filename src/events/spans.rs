//! The events of finished work: updates, the image builds that they ran, and the stages of those
//! builds. Pure.

use crate::base::{ids, text};
use crate::events::derivation::Derivation;
use crate::events::derived::{Build, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::failure::{Failure, Place, TEXT_LIMIT, Target};
use crate::events::image_spans::{ImageBuildRef, ImageSpans, event_kind};
use crate::events::observation::Phase;
use crate::events::stage_label::StageLabel;
use crate::events::trace::{Span, UpdateId};
use crate::tilt::model::{
    ImageBuild, ImageKind, Resource, ResourceType, Stage, Timestamp, Update, is_live_update,
};

impl Derivation<'_> {
    /// The event of a finished update.
    ///
    /// Tilt runs an empty update for a resource that only has a `serve_cmd`. Such an update never
    /// gets an event, even after the resource gets a command. `None` while the status cannot tell
    /// whether the resource still only serves.
    pub fn update(&self, resource: &Resource, update: &Update) -> Option<Build> {
        let id = UpdateId::from(update);
        let key = update_key(&resource.name, &id);
        if resource.only_serves() || self.is_reported(&key) {
            return Some(Build::without_events(key));
        }
        if self.tracker.may_only_serve(resource) {
            return None;
        }
        let mut fields = self.update_fields(resource, &id);
        fields.set_ms("duration_ms", update.finished_at.since(&update.started_at));
        fields.set("warnings", update.warnings);
        if let Some(error) = &update.error {
            let place = place_of_update(resource, &id.span_id);
            self.set_failure(&mut fields, Failure::classify(error, place));
        }
        fields.end_with(&self.common.trailing);
        let event = Event::new(EventKind::Update, update.started_at.at, fields);
        Some(Build { key, events: vec![event] })
    }

    /// The event of an update that has not ended. It is sent if the end of the update is never
    /// seen. At the end of the session, it carries the time that the update had.
    pub fn incomplete_update(
        &self,
        resource: &Resource,
        id: &UpdateId,
    ) -> Option<ProvisionalEvent> {
        let started_at = Timestamp::parse(&id.started_at)?;
        let mut fields = self.update_fields(resource, id);
        fields.set("incomplete", true);
        if self.observation.phase != Phase::Running {
            fields.set_ms("duration_ms", self.now.duration_since(started_at.at).ok());
        }
        fields.end_with(&self.common.trailing);
        let event = Event::new(EventKind::Update, started_at.at, fields);
        let key = update_key(&resource.name, id);
        Some(ProvisionalEvent { key, resource: Some(resource.name.clone()), event })
    }

    /// The fields that are known as soon as an update has begun.
    fn update_fields(&self, resource: &Resource, id: &UpdateId) -> Fields {
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Update.as_str());
        fields.set("name", resource.name.clone());
        fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
        fields.set_list("labels", &resource.labels);
        fields.set("update_id", id.span_id.clone());
        fields.set_some("update_type", update_type(resource, &id.span_id));
        fields.set_some("initial", self.tracker.is_first(resource, id));
        if let Some(waited) = self.tracker.waited(&resource.name, id) {
            fields.set_some("waiting_reason", waited.reason.clone());
            fields.set_list("waiting_on", &waited.on);
        }
        self.update_span(resource, id).describe(&mut fields);
        fields
    }

    /// The span of an update. The first update of a resource is a child of the startup.
    pub fn update_span(&self, resource: &Resource, id: &UpdateId) -> Span {
        let is_first = self.tracker.is_first(resource, id) == Some(true);
        let in_startup = is_first
            && Timestamp::parse(&id.started_at)
                .is_some_and(|started_at| self.tracker.is_during_startup(&started_at));
        let startup = in_startup.then_some(&self.common.startup);
        Span::of_update(&self.common.session, &resource.name, id, startup)
    }

    /// The events of an image build and its stages, without their place in a trace.
    pub fn image_spans(&self, reference: ImageBuildRef, build: &ImageBuild) -> ImageSpans {
        let root = Span::of_image_build(&self.common.session, build);
        let stages = (1..).zip(&build.stages);
        let stages = stages.map(|(position, stage)| self.stage_event(build, position, stage));
        let events = std::iter::once(self.image_event(build)).chain(stages).collect();
        ImageSpans::new(reference, root, events, Fields::clone(&self.common.trailing))
    }

    fn image_event(&self, build: &ImageBuild) -> Event {
        let kind = event_kind(build);
        let mut fields = self.common.leading.clone();
        fields.set_some("image_name", build.image.clone());
        fields.set_ms("duration_ms", build.finished_at.since(&build.started_at));
        fields.set("kind", kind.as_str());
        fields.set("name", build.image.clone().unwrap_or_else(|| build.object.clone()));
        fields.set_some("resource", build.resource.clone());
        fields.set_some("image_tag", build.tag.clone());
        if !build.stages.is_empty() {
            let is_cacheable = |stage: &&Stage| StageLabel::of(&stage.name).is_cacheable();
            let steps: Vec<_> = build.stages.iter().filter(is_cacheable).collect();
            fields.set("stages", steps.len());
            fields.set("stages_cached", steps.iter().filter(|stage| stage.cached).count());
        }
        if let Some(error) = &build.error {
            let place = match build.kind {
                ImageKind::Docker => Place::DockerImage,
                ImageKind::Cmd => Place::CmdImage,
            };
            self.set_failure(&mut fields, Failure::classify(error, place));
        }
        Event::new(kind, build.started_at.at, fields)
    }

    fn stage_event(&self, build: &ImageBuild, position: usize, stage: &Stage) -> Event {
        let StageLabel { label, instruction } = StageLabel::of(&stage.name);
        // BuildKit shows a shared step with the times of the build that ran it first.
        let clamp = |time: &Timestamp| time.at.clamp(build.started_at.at, build.latest().at);
        let start = stage.started_at.as_ref().map_or(build.started_at.at, clamp);
        let end = stage.finished_at.as_ref().map(clamp);

        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::DockerImageStage.as_str());
        fields.set("name", label);
        // Not `image_name`: queries for the `honeycomb` extension select image builds by that.
        fields.set_some("image", build.image.clone());
        fields.set_some("resource", build.resource.clone());
        fields.set("stage", position);
        fields.set("instruction", instruction);
        fields.set("stage_hash", ids::id(&["stage", &stage.name], 16));
        if self.context.send_stage_text {
            fields.set("stage_text", text::cut(&stage.name, TEXT_LIMIT));
        }
        fields.set("cached", stage.cached);
        fields.set_ms("duration_ms", end.map(|end| end.duration_since(start).unwrap_or_default()));
        if let Some(error) = &stage.error {
            self.set_failure(&mut fields, Failure::classify(error, Place::Stage));
        }
        Event::new(EventKind::DockerImageStage, start, fields)
    }

    fn set_failure(&self, fields: &mut Fields, failure: Failure) {
        fields.set("error", true);
        fields.set("error.type", failure.class);
        fields.set_some("exit_code", failure.exit_code);
        fields.set("error.hash", failure.hash);
        if self.context.send_error_text {
            fields.set("error.message", failure.text);
        }
    }
}

/// Identifies an update within its session.
pub fn update_key(resource: &str, id: &UpdateId) -> String {
    ids::id(&["update", resource, &id.span_id, &id.started_at], 16)
}

fn update_type(resource: &Resource, span_id: &str) -> Option<&'static str> {
    if span_id.starts_with("tiltfile:") {
        Some("tiltfile")
    } else if is_live_update(span_id) {
        Some("live-update")
    } else if resource.builds_images {
        Some("image")
    } else {
        resource.resource_type.map(ResourceType::as_str)
    }
}

/// The place of an error in the update history.
pub fn place_of_update(resource: &Resource, span_id: &str) -> Place {
    if span_id.starts_with("tiltfile:") {
        return Place::Tiltfile;
    }
    if is_live_update(span_id) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_reduced_to_its_instruction() {
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

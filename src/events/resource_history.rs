//! Remembers one resource of a session: its first update, its updates that may have built images, what it
//! waited for, what was reported of it, and how its pod failed. Pure.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::folding::FoldedReports;
use crate::events::image_spans::ImageBuildRef;
use crate::events::observation::ResourceStatus;
use crate::events::open_rollout::OpenRollout;
use crate::events::trace::UpdateId;
use crate::events::update_counts::UpdateCounts;
use crate::tilt::model::{ContainerFailure, Resource, ResourceType, Timestamp, Waiting};

/// The number of updates kept for each resource that builds images. The end of an image build may
/// be seen after that of its update.
const RECENT_UPDATES: usize = 8;

/// The memory of one resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceHistory {
    first_update: FirstUpdate,
    #[serde(skip_serializing_if = "UpdateCounts::is_empty")]
    pub update_counts: UpdateCounts,
    /// The last updates of a resource that builds images, newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recent_updates: Vec<RecentUpdate>,
    /// The wait of the resource before its next update.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<PastWait>,
    /// The resource belongs to the startup, and the time until it was ready is not reported yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub awaits_first_ready: bool,
    /// The time until the resource was ready was reported.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub first_ready_reported: bool,
    #[serde(skip_serializing_if = "UpdateCommand::is_unknown")]
    command: UpdateCommand,
    /// The newest of the empty updates before the first `cmd`. They only started the `serve_cmd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_serve: Option<UpdateId>,
    /// The status in the last `uiresource` event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PastStatus>,
    /// The `uiresource` events that are folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reports: Option<FoldedReports>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<OpenRollout>,
    /// When a pod was created, as Tilt wrote it, and how a container of it last failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    container_failure: Option<(String, ContainerFailure)>,
}

/// A status that was reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PastStatus {
    pub status: ResourceStatus,
    /// When it was first reported, in Unix microseconds.
    pub since: u64,
}

/// Whether a local resource has a `cmd`, by its last unambiguous status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
enum UpdateCommand {
    #[default]
    Unknown,
    Present,
    /// The resource has a `serve_cmd` and never had a `cmd`.
    Never,
    /// The resource has a `serve_cmd`. It had a `cmd` before, and with it its first update.
    Removed,
}

/// The first update of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum FirstUpdate {
    #[default]
    NotStarted,
    /// It ended before the first observation.
    Missed,
    /// Like `Missed`, unless it is this one: the older of two in the first observation.
    Maybe(UpdateId),
    Observed(UpdateId),
}

/// An update that may be the parent of an image build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RecentUpdate {
    id: UpdateId,
    /// As Tilt wrote it; `None` while the update runs.
    finished_at: Option<String>,
    /// The image builds that belong to it: the object, and the start as Tilt wrote it.
    images: Vec<(String, String)>,
}

/// The last [`Waiting`] that was seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PastWait {
    /// Tilt's word for why the resource waited.
    pub reason: Option<String>,
    /// The names of what it waited for.
    pub on: Vec<String>,
    /// The newest update of the resource at that time.
    after: Option<UpdateId>,
    /// The update that ended the wait.
    until: Option<UpdateId>,
}

/// The update that an image build belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct ParentUpdate {
    pub id: UpdateId,
    pub has_finished: bool,
}

fn newest_update(resource: &Resource) -> Option<UpdateId> {
    let current = resource.current_update.as_ref().map(UpdateId::from);
    current.or_else(|| resource.updates.first().map(UpdateId::from))
}

impl ResourceHistory {
    /// Records one version of the resource, before its events are derived.
    pub fn observe(&mut self, resource: &Resource) {
        self.observe_command(resource);
        self.observe_first_update(resource);
        if !resource.only_serves() {
            resource.updates.iter().rev().for_each(|update| self.update_counts.add(update));
        }
        self.awaits_first_ready &= resource.disabled != Some(true);
        if resource.builds_images {
            self.observe_recent_updates(resource);
        }
        if let Some(waited) = &mut self.waited
            && waited.until.is_none()
            && newest_update(resource) != waited.after
        {
            waited.until = newest_update(resource);
        }
    }

    /// True if the resource only served before, and its current status is ambiguous.
    pub fn may_only_serve(&self, resource: &Resource) -> bool {
        let is_ambiguous =
            matches!(resource.update_status.as_deref(), None | Some("pending" | "none"));
        is_ambiguous && matches!(self.command, UpdateCommand::Never | UpdateCommand::Removed)
    }

    /// Tells whether this update is the first one. `None` if that is unknown.
    pub fn is_first(&self, id: &UpdateId) -> Option<bool> {
        match &self.first_update {
            FirstUpdate::NotStarted => None,
            FirstUpdate::Observed(first) => Some(first == id),
            FirstUpdate::Maybe(first) => (first != id).then_some(false),
            FirstUpdate::Missed => Some(false),
        }
    }

    /// Records the status of a `uiresource` event. Returns the one before, if that was another one.
    pub fn replace_status(
        &mut self,
        status: ResourceStatus,
        now: SystemTime,
    ) -> Option<PastStatus> {
        if self.status.as_ref().is_some_and(|known| known.status == status) {
            return None;
        }
        self.status.replace(PastStatus { status, since: unix_micros(now) })
    }

    /// Records how a container of the active pod failed.
    pub fn observe_pod(&mut self, resource: &Resource) {
        let Some(created_at) = &resource.pod_created_at else { return };
        let shown = resource.pod.as_ref().and_then(|pod| pod.container_failure);
        let is_out_of_memory =
            matches!(resource.pod_status.as_deref(), Some("OOMKilled" | "Init:OOMKilled"));
        let from_status = ContainerFailure { exit_code: None, out_of_memory: true };
        if let Some(failure) = shown.or(is_out_of_memory.then_some(from_status)) {
            self.container_failure = Some((created_at.text.clone(), failure));
        }
    }

    /// How a container of the active pod last failed.
    pub fn container_failure(&self, resource: &Resource) -> Option<ContainerFailure> {
        let (pod, failure) = self.container_failure.as_ref()?;
        (*pod == resource.pod_created_at.as_ref()?.text).then_some(*failure)
    }

    /// Finds the update during which an image build began. Considers an update that has not ended
    /// only if `may_run`.
    ///
    /// Resources and images are watched separately, so an update that has ended may still look as
    /// if it ran. It is the parent of this build only if it has no other build of the same image.
    pub fn parent(&mut self, build: &ImageBuildRef, may_run: bool) -> Option<ParentUpdate> {
        let started_at = Timestamp::parse(&build.started_at)?;
        let updates = self.recent_updates.iter_mut();
        let updates = updates.filter_map(|update| Some((update.started_at()?, update)));
        let (_, update) =
            updates.filter(|(start, _)| *start <= started_at.at).max_by_key(|(start, _)| *start)?;
        if !update.covers(build, &started_at) || !may_run && update.finished_at.is_none() {
            return None;
        }
        let image = (build.object.clone(), build.started_at.clone());
        if !update.images.contains(&image) {
            update.images.push(image);
        }
        Some(ParentUpdate { id: update.id.clone(), has_finished: update.finished_at.is_some() })
    }

    /// The wait that this update ended.
    pub fn waited(&self, id: &UpdateId) -> Option<&PastWait> {
        self.waited.as_ref().filter(|waited| waited.until.as_ref() == Some(id))
    }

    /// Records what a version of the resource waits for, after its events were derived.
    pub fn observe_waiting(&mut self, resource: &Resource) {
        if let Some(Waiting { reason, on }) = &resource.waiting {
            let (reason, on) = (reason.clone(), on.clone());
            let waited = PastWait { reason, on, after: newest_update(resource), until: None };
            self.waited = Some(waited);
        } else if resource.disabled == Some(true) {
            self.waited = None;
        }
    }

    fn observe_first_update(&mut self, resource: &Resource) {
        if self.first_update != FirstUpdate::NotStarted {
            return;
        }
        let is_tiltfile = resource.is_tiltfile();
        let only_served = |id: UpdateId| self.last_serve.as_ref() == Some(&id);
        let updates = resource.updates.iter();
        let updates: Vec<_> =
            updates.take_while(|update| !only_served(UpdateId::from(*update))).collect();
        self.first_update = match updates[..] {
            [] => match &resource.current_update {
                Some(current) => FirstUpdate::Observed(UpdateId::from(current)),
                None => FirstUpdate::NotStarted,
            },
            // Tilt keeps two updates of a resource, so a single one is the first. It keeps one
            // load of a Tiltfile, but numbers them.
            [only] if !is_tiltfile || only.span_id.ends_with(":1") => {
                FirstUpdate::Observed(UpdateId::from(only))
            }
            [.., oldest] if !is_tiltfile => FirstUpdate::Maybe(UpdateId::from(oldest)),
            _ => FirstUpdate::Missed,
        };
    }

    fn observe_command(&mut self, resource: &Resource) {
        let may_tell = resource.resource_type == Some(ResourceType::Local)
            || self.command != UpdateCommand::Unknown;
        self.command = match resource.update_status.as_deref() {
            Some("ok" | "in_progress" | "error") if may_tell => UpdateCommand::Present,
            _ if !resource.only_serves() => return,
            _ if matches!(self.command, UpdateCommand::Present | UpdateCommand::Removed) => {
                UpdateCommand::Removed
            }
            _ => UpdateCommand::Never,
        };
        if self.command == UpdateCommand::Never {
            self.first_update = FirstUpdate::NotStarted;
            self.last_serve = newest_update(resource);
        }
    }

    fn observe_recent_updates(&mut self, resource: &Resource) {
        for update in resource.updates.iter().rev() {
            let id = UpdateId::from(update);
            self.add_recent_update(id, Some(update.finished_at.text.clone()));
        }
        if let Some(current) = &resource.current_update {
            self.add_recent_update(UpdateId::from(current), None);
        }
        let excess = self.recent_updates.len().saturating_sub(RECENT_UPDATES);
        self.recent_updates.drain(..excess);
    }

    fn add_recent_update(&mut self, id: UpdateId, finished_at: Option<String>) {
        match self.recent_updates.iter_mut().find(|known| known.id == id) {
            Some(known) => known.finished_at = finished_at.or(known.finished_at.take()),
            None => self.recent_updates.push(RecentUpdate { id, finished_at, images: Vec::new() }),
        }
    }
}

impl UpdateCommand {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

impl RecentUpdate {
    fn started_at(&self) -> Option<SystemTime> {
        Timestamp::parse(&self.id.started_at).map(|started_at| started_at.at)
    }

    /// True if the update can be the parent of a build that began after it.
    fn covers(&self, build: &ImageBuildRef, build_started_at: &Timestamp) -> bool {
        let finished_at = self.finished_at.as_deref().and_then(Timestamp::parse);
        let has_another = self
            .images
            .iter()
            .any(|(object, started_at)| *object == build.object && *started_at != build.started_at);
        !has_another && finished_at.is_none_or(|finished| build_started_at.at <= finished.at)
    }
}

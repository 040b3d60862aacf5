//! The state of Tilt as polls and watches show it, and everything observed since the last record.
//! Pure.

use crate::events::observation::{Heartbeats, Observation, Phase, ResourceStatus};
use crate::tilt::health;
use crate::tilt::model::{
    Cluster, ImageBuild, ImageKind, Outcome, Resource, ResourceType, Session, Snapshot,
};

/// The most resource versions, and the most image builds, that are kept for the next record. Only
/// a disk that stays unwritable for long lets more accumulate.
const OBSERVED_LIMIT: usize = 10_000;

/// The current state of one Tilt, updated by polls and watches.
#[derive(Debug, Default)]
pub struct LiveView {
    session: Option<Session>,
    /// Sorted by name.
    resources: Vec<Resource>,
    /// The last build of each image.
    image_builds: Vec<ImageBuild>,
    /// Whether Tilt has image objects, by [`ImageKind`].
    has_images: [bool; 2],
    outcome: Option<Outcome>,
    /// `None` if Tilt does not deploy to Kubernetes.
    cluster: Option<Cluster>,
    /// Every version of a resource since the last record, oldest first.
    observed: Vec<Resource>,
    /// Every image build since the last record, oldest first.
    completed_images: Vec<ImageBuild>,
    /// The names and statuses in the last record, sorted by name.
    reported: Vec<(String, ResourceStatus)>,
    needs_poll: bool,
}

impl LiveView {
    /// Takes in a poll, which shows everything.
    pub fn replace(&mut self, snapshot: Snapshot) {
        if self.is_another_session(&snapshot) {
            self.reported.clear();
        }
        self.observed.extend(snapshot.resources.iter().cloned());
        self.completed_images.extend(snapshot.image_builds.iter().cloned());
        self.has_images = snapshot.has_images;
        self.outcome = snapshot.outcome;
        let is_same_session = self.session == snapshot.session;
        let keeps_cluster = is_same_session && snapshot.uses_kubernetes();
        let known = self.cluster.take().filter(|_| keeps_cluster);
        let previous = std::mem::replace(&mut self.resources, snapshot.resources);
        // A watch may have shown a newer one, and a poll that ran out of time may lack it.
        let shown = [known, snapshot.cluster].into_iter().flatten();
        self.cluster = shown.max_by_key(|cluster| cluster.resource_version);
        self.session = snapshot.session;
        self.image_builds = snapshot.image_builds;
        self.needs_poll = is_same_session && self.keep_newer(previous);
        self.needs_poll |= self.is_cluster_unknown();
        self.drop_oldest();
    }

    /// True if the snapshot and this view have sessions, and they differ.
    pub fn is_another_session(&self, snapshot: &Snapshot) -> bool {
        let uid = |session: &Option<Session>| session.as_ref().and_then(|s| s.uid.clone());
        let (known, shown) = (uid(&self.session), uid(&snapshot.session));
        known.is_some() && shown.is_some() && known != shown
    }

    /// Keeps versions of resources that a watch showed while the poll was running. Returns true if
    /// such a resource is not in the poll: it was added or removed meanwhile.
    fn keep_newer(&mut self, previous: Vec<Resource>) -> bool {
        let polled_version = self.resources.iter().map(|resource| resource.version).max();
        let mut is_incomplete = false;
        for mut resource in previous {
            match self.position(&resource.name) {
                Ok(at) if resource.version > self.resources[at].version => {
                    keep_pod(&mut resource, &self.resources[at]);
                    self.resources[at] = resource;
                }
                Ok(_) => {}
                Err(_) => is_incomplete |= Some(resource.version) > polled_version,
            }
        }
        is_incomplete
    }

    /// True if a resource waits for the cluster, which no poll has shown. A known one is watched.
    fn is_cluster_unknown(&self) -> bool {
        self.cluster.is_none() && self.resources.iter().any(waits_for_cluster)
    }

    /// The index of the resource `name`, or as an error the index to insert it at.
    fn position(&self, name: &str) -> Result<usize, usize> {
        self.resources.binary_search_by(|resource| resource.name.as_str().cmp(name))
    }

    /// Takes in an object that a watch showed.
    pub fn apply(&mut self, fragment: Snapshot) {
        for resource in fragment.resources {
            self.apply_resource(resource);
        }
        for build in fragment.image_builds {
            self.apply_image_build(build);
        }
        if fragment.cluster.is_some() {
            self.cluster = fragment.cluster;
        }
        self.drop_oldest();
    }

    fn apply_resource(&mut self, mut resource: Resource) {
        let position = self.position(&resource.name);
        if let Ok(at) = position {
            keep_pod(&mut resource, &self.resources[at]);
            self.needs_poll |= needs_pod_details(&resource, &self.resources[at]);
        }
        self.observed.push(resource.clone());
        match position {
            Ok(at) => {
                let is_tiltfile = resource.resource_type == Some(ResourceType::Tiltfile);
                self.needs_poll |= is_tiltfile && resource.updates != self.resources[at].updates;
                self.resources[at] = resource;
            }
            Err(at) => {
                self.needs_poll |= resource.builds_images && self.has_images == [false; 2];
                self.resources.insert(at, resource);
            }
        }
        self.needs_poll |= self.is_cluster_unknown();
    }

    fn apply_image_build(&mut self, build: ImageBuild) {
        self.completed_images.push(build.clone());
        let is_same = |known: &ImageBuild| known.kind == build.kind && known.object == build.object;
        match self.image_builds.iter().position(is_same) {
            Some(at) => self.image_builds[at] = build,
            None => self.image_builds.push(build),
        }
    }

    /// Enforces [`OBSERVED_LIMIT`]. Later versions of a resource still show its last two updates.
    fn drop_oldest(&mut self) {
        let surplus = self.observed.len().saturating_sub(OBSERVED_LIMIT);
        self.observed.drain(..surplus);
        let surplus = self.completed_images.len().saturating_sub(OBSERVED_LIMIT);
        self.completed_images.drain(..surplus);
    }

    /// True if Tilt has objects for images of this kind, whether they were built or not.
    pub fn has_images(&self, kind: ImageKind) -> bool {
        self.has_images[kind as usize]
    }

    /// The cluster that Tilt deploys to. `None` without Kubernetes, or if Tilt is too old to show it.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How `tilt ci` ended, if Tilt is about to exit by itself.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// True if Tilt is about to exit but a resource that it started is still pending or in
    /// progress: Tilt may not show yet what made it exit.
    pub fn final_status_pending(&self) -> bool {
        self.outcome.is_some() && health::unfinished(&self.resources) > 0
    }

    /// True if only a poll shows the current resources and images. Either a Tiltfile was loaded
    /// again, which can remove resources, and watches do not report removals. Or the first resource
    /// that builds images was added. Or a resource waits for a cluster that is not known yet.
    pub fn needs_poll(&self) -> bool {
        self.needs_poll
    }

    /// The names of the resources whose status differs from the last record. A resource that Tilt has
    /// just created has no status; it is left out.
    pub fn changes(&self) -> Vec<String> {
        let changed = self.resources.iter().filter(|resource| self.has_changed(resource));
        changed.map(|resource| resource.name.clone()).collect()
    }

    /// True if [`LiveView::changes`] names a resource.
    pub fn has_changes(&self) -> bool {
        self.resources.iter().any(|resource| self.has_changed(resource))
    }

    fn has_changed(&self, resource: &Resource) -> bool {
        let name = resource.name.as_str();
        match self.reported.binary_search_by(|(reported, _)| reported.as_str().cmp(name)) {
            Ok(at) => self.reported[at].1 != ResourceStatus::of(resource),
            Err(_) => resource.has_status(),
        }
    }

    /// Everything since the last record, as observed without watches by a running collector.
    pub fn observation<'a>(&'a self, heartbeats: Heartbeats<'a>) -> Observation<'a> {
        Observation {
            session: self.session.as_ref(),
            shown_cluster: self.cluster.as_ref(),
            resources: &self.resources,
            image_builds: &self.image_builds,
            observed: &self.observed,
            completed_images: &self.completed_images,
            heartbeats,
            heartbeat_fold: 1,
            is_watched: false,
            send_error: None,
            phase: Phase::Running,
            seen_at: None,
        }
    }

    /// Must be called when an observation was recorded.
    pub fn mark_reported(&mut self) {
        self.observed.clear();
        self.completed_images.clear();
        let status = |r: &Resource| (r.name.clone(), ResourceStatus::of(r));
        self.reported = self.resources.iter().map(status).collect();
    }
}

/// True if an update waits until Tilt has connected to the cluster.
fn waits_for_cluster(resource: &Resource) -> bool {
    let reason = resource.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    reason == Some("waiting-for-cluster")
}

/// Keeps what a poll showed of the active pod. A watch of resources does not show it.
fn keep_pod(resource: &mut Resource, known: &Resource) {
    if resource.pod.is_none() && resource.pod_created_at == known.pod_created_at {
        resource.pod.clone_from(&known.pod);
    }
}

/// True if only a poll shows why a pod became ready, fails or cannot start.
fn needs_pod_details(resource: &Resource, known: &Resource) -> bool {
    let is_ready = resource.is_ready();
    let has_changed = resource.pod_status != known.pod_status
        || resource.pod_restarts != known.pod_restarts
        || resource.pod_created_at != known.pod_created_at
        || is_ready != known.is_ready();
    let is_stuck = resource.has_pod_trouble() || resource.pod_status.as_deref() == Some("Pending");
    resource.pod_created_at.is_some() && has_changed && (is_ready || is_stuck)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::Waiting;

    const NONE: [&str; 0] = [];

    fn resource(name: &str, update_status: &str) -> Resource {
        let update_status = Some(update_status.to_owned());
        Resource { name: name.into(), update_status, ..Resource::default() }
    }

    fn snapshot(resources: Vec<Resource>) -> Snapshot {
        Snapshot { resources, ..Snapshot::default() }
    }

    fn resources(view: &LiveView) -> &[Resource] {
        view.observation(Heartbeats::All).resources
    }

    #[test]
    fn a_change_is_reported_once() {
        let mut view = LiveView::default();
        view.replace(snapshot(vec![resource("a", "ok"), resource("b", "ok")]));
        assert_eq!(view.changes(), ["a", "b"], "first report");
        view.mark_reported();
        view.apply(snapshot(vec![Resource { name: "new".into(), ..Resource::default() }]));
        assert_eq!(view.changes(), NONE, "it has no status yet");
        view.apply(snapshot(vec![resource("b", "pending")]));
        view.apply(snapshot(vec![resource("b", "error")]));
        assert_eq!(view.changes(), ["b"]);
        assert_eq!(view.observation(Heartbeats::All).observed.len(), 3, "every version");
        view.mark_reported();
        assert_eq!(view.changes(), NONE);
        view.apply(snapshot(vec![resource("b", "error")]));
        assert_eq!(view.changes(), NONE);
        for (pod_status, pod_restarts, is_change) in
            [("Running", None, true), ("Running", Some(0), false), ("Running", Some(1), true)]
        {
            let pod_status = Some(pod_status.to_owned());
            view.apply(snapshot(vec![Resource {
                pod_status,
                pod_restarts,
                ..resource("b", "error")
            }]));
            assert_eq!(!view.changes().is_empty(), is_change, "{pod_restarts:?}");
            view.mark_reported();
        }
    }

    #[test]
    fn a_resource_that_waits_for_the_cluster_needs_a_poll() {
        let reason = Some("waiting-for-cluster".into());
        let waiting = Resource {
            waiting: Some(Waiting { reason, on: Vec::new() }),
            ..resource("a", "pending")
        };
        let mut view = LiveView::default();
        view.replace(snapshot(vec![resource("a", "pending")]));
        assert!(!view.needs_poll());
        view.apply(snapshot(vec![waiting.clone()]));
        assert!(view.needs_poll());
        view.replace(snapshot(vec![waiting.clone()]));
        assert!(view.needs_poll(), "Tilt still tries to connect");
        let failed = Cluster { is_unavailable: true, ..Cluster::default() };
        view.replace(Snapshot { cluster: Some(failed), ..snapshot(vec![waiting]) });
        assert!(!view.needs_poll());
    }

    #[test]
    fn a_new_session_has_no_previous_statuses() {
        let in_session = |uid: &str, resource| Snapshot {
            session: Some(Session { uid: Some(uid.into()), ..Session::default() }),
            ..snapshot(vec![resource])
        };
        let mut view = LiveView::default();
        view.replace(in_session("first", resource("a", "ok")));
        view.mark_reported();
        view.replace(in_session("first", resource("a", "error")));
        assert_eq!(view.changes(), ["a"]);
        view.mark_reported();
        assert_eq!(view.changes(), NONE);
        view.replace(in_session("second", resource("a", "error")));
        assert_eq!(view.changes(), ["a"], "reported again");
    }

    #[test]
    fn a_poll_removes_resources_that_are_gone() {
        let mut view = LiveView::default();
        view.replace(snapshot(vec![resource("a", "ok"), resource("b", "ok")]));
        view.replace(snapshot(vec![resource("b", "ok")]));
        assert_eq!(resources(&view).len(), 1);
    }

    #[test]
    fn a_poll_keeps_newer_versions_from_a_watch() {
        let at = |version, name: &str, status: &str| Resource { version, ..resource(name, status) };
        let mut view = LiveView::default();
        view.replace(snapshot(vec![at(1, "a", "ok"), at(2, "b", "ok")]));
        view.apply(snapshot(vec![at(5, "a", "error")]));
        view.apply(snapshot(vec![at(6, "c", "pending")]));
        view.replace(snapshot(vec![at(3, "a", "in_progress"), at(4, "b", "pending")]));
        assert_eq!(resources(&view), [at(5, "a", "error"), at(4, "b", "pending")]);
        assert!(view.needs_poll(), "c was added after the poll, or removed");
        view.replace(snapshot(vec![at(5, "a", "error"), at(4, "b", "pending")]));
        assert!(!view.needs_poll());

        let next = Session { uid: Some("next".into()), ..Session::default() };
        view.replace(Snapshot { session: Some(next), ..snapshot(vec![at(1, "a", "ok")]) });
        assert_eq!(resources(&view), [at(1, "a", "ok")], "versions restart in a new session");
        assert!(!view.needs_poll());
    }

    #[test]
    fn the_first_resource_with_images_needs_a_poll() {
        let mut view = LiveView::default();
        view.replace(snapshot(vec![resource("a", "ok")]));
        let builds_images = Resource { builds_images: true, ..resource("web", "ok") };
        view.apply(snapshot(vec![builds_images.clone()]));
        assert!(view.needs_poll());
        view.replace(snapshot(vec![builds_images.clone()]));
        view.apply(snapshot(vec![builds_images]));
        assert!(!view.needs_poll(), "polled once, even if this Tilt has no image objects");
    }

    #[test]
    fn observations_that_cannot_be_recorded_are_bounded() {
        let mut view = LiveView::default();
        for _ in 0..OBSERVED_LIMIT {
            view.apply(snapshot(vec![resource("a", "ok")]));
            view.replace(snapshot(vec![resource("a", "ok")]));
        }
        assert_eq!(view.observation(Heartbeats::All).observed.len(), OBSERVED_LIMIT);
    }
}

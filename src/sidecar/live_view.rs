//! Tilt as a sidecar last saw it, and what passed before its eyes since it last spoke. Pure.

use crate::events::observation::{Heartbeats, Observation, Phase, PreviousStatus};
use crate::tilt::health;
use crate::tilt::model::{
    ImageBuild, ImageKind, Outcome, Resource, ResourceType, Session, Snapshot,
};

/// More than passes between two records unless the disk takes none for long.
const PASSED_LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub struct LiveView {
    session: Option<Session>,
    /// Sorted by name.
    resources: Vec<Resource>,
    /// The last build of each image, for as long as Tilt shows it.
    image_builds: Vec<ImageBuild>,
    has_images: [bool; 2],
    outcome: Option<Outcome>,
    observed: Vec<Resource>,
    completed_images: Vec<ImageBuild>,
    /// The statuses last told, sorted by name.
    reported: Vec<PreviousStatus>,
    /// Only a look at everything can tell what is there now: the Tiltfile was loaded again, so
    /// resources may be gone, which a watch does not tell; or the first resource that builds
    /// images has come.
    is_outdated: bool,
}

impl LiveView {
    /// Takes in a look at everything.
    pub fn replace(&mut self, snapshot: Snapshot) {
        if self.is_another_session(&snapshot) {
            self.reported.clear();
        }
        self.observed.extend(snapshot.resources.iter().cloned());
        self.completed_images.extend(snapshot.image_builds.iter().cloned());
        self.has_images = snapshot.has_images;
        self.outcome = snapshot.outcome;
        let shown_before = std::mem::replace(&mut self.resources, snapshot.resources);
        let is_the_same_session = self.session == snapshot.session;
        self.session = snapshot.session;
        self.image_builds = snapshot.image_builds;
        self.is_outdated = is_the_same_session && self.keep_newer(shown_before);
        self.bound();
    }

    /// Whether this is of another run of Tilt than what is known.
    pub fn is_another_session(&self, snapshot: &Snapshot) -> bool {
        let uid = |session: &Option<Session>| session.as_ref().and_then(|s| s.uid.clone());
        let (known, shown) = (uid(&self.session), uid(&snapshot.session));
        known.is_some() && shown.is_some() && known != shown
    }

    /// A look takes a moment, and a watch may have shown what came after it. Whether there is a
    /// resource that the look could not know yet, or knew no more.
    fn keep_newer(&mut self, shown_before: Vec<Resource>) -> bool {
        let looked_at = self.resources.iter().map(|resource| resource.version).max();
        let mut is_outdated = false;
        for resource in shown_before {
            match self.resources.binary_search_by(|known| known.name.cmp(&resource.name)) {
                Ok(at) if resource.version > self.resources[at].version => {
                    self.resources[at] = resource;
                }
                Ok(_) => {}
                Err(_) => is_outdated |= Some(resource.version) > looked_at,
            }
        }
        is_outdated
    }

    /// Takes in an object that a watch has shown.
    pub fn show(&mut self, fragment: Snapshot) {
        for resource in fragment.resources {
            self.observed.push(resource.clone());
            match self.resources.binary_search_by(|known| known.name.cmp(&resource.name)) {
                Ok(at) => {
                    let is_tiltfile = resource.resource_type == Some(ResourceType::Tiltfile);
                    self.is_outdated |=
                        is_tiltfile && resource.updates != self.resources[at].updates;
                    self.resources[at] = resource;
                }
                Err(at) => {
                    self.is_outdated |= resource.builds_images && self.has_images == [false; 2];
                    self.resources.insert(at, resource);
                }
            }
        }
        for build in fragment.image_builds {
            self.completed_images.push(build.clone());
            let same =
                |known: &ImageBuild| known.kind == build.kind && known.object == build.object;
            match self.image_builds.iter().position(same) {
                Some(at) => self.image_builds[at] = build,
                None => self.image_builds.push(build),
            }
        }
        self.bound();
    }

    /// The oldest go: what is newer shows the latest two updates of a resource still.
    fn bound(&mut self) {
        let too_many = self.observed.len().saturating_sub(PASSED_LIMIT);
        self.observed.drain(..too_many);
        let too_many = self.completed_images.len().saturating_sub(PASSED_LIMIT);
        self.completed_images.drain(..too_many);
    }

    /// Whether Tilt knows objects of this kind, built or not.
    pub fn has_images(&self, kind: ImageKind) -> bool {
        self.has_images[kind as usize]
    }

    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// How the run ended, if Tilt is about to end by itself.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether a resource that Tilt starts by itself is not at rest.
    pub fn is_unfinished(&self) -> bool {
        health::unfinished(&self.resources) > 0
    }

    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// The resources whose status is not what was last told. One that the Tiltfile has just defined is
    /// shown before it has any.
    pub fn changes(&self) -> Vec<PreviousStatus> {
        let told = |name: &str| self.reported.binary_search_by(|t| t.name.as_str().cmp(name));
        let before = |resource: &Resource| match told(&resource.name) {
            Ok(at) => self.reported[at].clone(),
            Err(_) => PreviousStatus {
                name: resource.name.clone(),
                update_status: None,
                runtime_status: None,
            },
        };
        let has_changed = |resource: &&Resource| {
            told(&resource.name)
                .map_or(resource.has_status(), |at| self.reported[at] != status(resource))
        };
        self.resources.iter().filter(has_changed).map(before).collect()
    }

    /// What there is to tell: with all heartbeats, or with those of `changes` alone.
    pub fn observation<'a>(
        &'a self,
        changes: Option<&'a [PreviousStatus]>,
        is_watched: bool,
    ) -> Observation<'a> {
        Observation {
            session: self.session.as_ref(),
            resources: &self.resources,
            image_builds: &self.image_builds,
            observed: &self.observed,
            completed_images: &self.completed_images,
            heartbeats: changes.map_or(Heartbeats::All, Heartbeats::Changed),
            is_watched,
            send_error: None,
            phase: Phase::Running,
            seen_at: None,
        }
    }

    /// What passed has been told.
    pub fn mark_reported(&mut self) {
        self.observed.clear();
        self.completed_images.clear();
        self.reported = self.resources.iter().map(status).collect();
    }
}

fn status(resource: &Resource) -> PreviousStatus {
    PreviousStatus {
        name: resource.name.clone(),
        update_status: resource.update_status.clone(),
        runtime_status: resource.runtime_status.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, update_status: &str) -> Resource {
        let update_status = Some(update_status.to_owned());
        Resource { name: name.into(), update_status, ..Resource::default() }
    }

    fn of(resources: Vec<Resource>) -> Snapshot {
        Snapshot { resources, ..Snapshot::default() }
    }

    fn changed(view: &LiveView) -> Vec<(String, Option<String>)> {
        view.changes().into_iter().map(|change| (change.name, change.update_status)).collect()
    }

    #[test]
    fn a_change_is_told_once_with_what_was_told_before() {
        let mut view = LiveView::default();
        view.replace(of(vec![resource("a", "ok"), resource("b", "ok")]));
        assert_eq!(changed(&view), [("a".into(), None), ("b".into(), None)], "nothing told yet");
        view.mark_reported();
        view.show(of(vec![Resource { name: "new".into(), ..Resource::default() }]));
        assert_eq!(changed(&view), [], "it has no status yet");
        view.show(of(vec![resource("b", "pending")]));
        view.show(of(vec![resource("b", "error")]));
        assert_eq!(changed(&view), [("b".into(), Some("ok".into()))]);
        assert_eq!(view.observation(None, true).observed.len(), 3, "each version was observed");
        view.mark_reported();
        assert_eq!(changed(&view), []);
        view.show(of(vec![resource("b", "error")]));
        assert_eq!(changed(&view), []);
    }

    #[test]
    fn another_run_of_tilt_has_no_statuses_from_before() {
        let run = |uid: &str, resource| Snapshot {
            session: Some(Session { uid: Some(uid.into()), ..Session::default() }),
            ..of(vec![resource])
        };
        let mut view = LiveView::default();
        view.replace(run("first", resource("a", "ok")));
        view.mark_reported();
        view.replace(run("first", resource("a", "error")));
        assert_eq!(changed(&view), [("a".into(), Some("ok".into()))]);
        view.replace(run("second", resource("a", "error")));
        assert_eq!(changed(&view), [("a".into(), None)]);
    }

    #[test]
    fn a_look_at_everything_forgets_what_is_gone() {
        let mut view = LiveView::default();
        view.replace(of(vec![resource("a", "ok"), resource("b", "ok")]));
        view.replace(of(vec![resource("b", "ok")]));
        assert_eq!(view.observation(None, true).resources.len(), 1);
    }

    #[test]
    fn a_look_undoes_nothing_that_a_watch_has_shown_meanwhile() {
        let at = |version, name: &str, status: &str| Resource { version, ..resource(name, status) };
        let mut view = LiveView::default();
        view.replace(of(vec![at(1, "a", "ok"), at(2, "b", "ok")]));
        view.show(of(vec![at(5, "a", "error")]));
        view.show(of(vec![at(6, "c", "pending")]));
        view.replace(of(vec![at(3, "a", "in_progress"), at(4, "b", "pending")]));
        let statuses: Vec<_> = view.observation(None, true).resources.iter().map(status).collect();
        assert_eq!(statuses, [status(&at(5, "a", "error")), status(&at(4, "b", "pending"))]);
        assert!(view.is_outdated(), "c may have come, or gone, since");
        view.replace(of(vec![at(5, "a", "error"), at(4, "b", "pending")]));
        assert!(!view.is_outdated());

        let next = Session { uid: Some("next".into()), ..Session::default() };
        view.replace(Snapshot { session: Some(next), ..of(vec![at(1, "a", "ok")]) });
        assert_eq!(
            view.observation(None, true).resources,
            [at(1, "a", "ok")],
            "versions begin anew"
        );
        assert!(!view.is_outdated());
    }

    #[test]
    fn the_first_resource_with_images_calls_for_a_look() {
        let mut view = LiveView::default();
        view.replace(of(vec![resource("a", "ok")]));
        let builds_images = Resource { builds_images: true, ..resource("web", "ok") };
        view.show(of(vec![builds_images.clone()]));
        assert!(view.is_outdated());
        view.replace(of(vec![builds_images.clone()]));
        view.show(of(vec![builds_images]));
        assert!(!view.is_outdated(), "once, also where an older tilt knows no images");
    }

    #[test]
    fn what_passes_while_nothing_can_be_told_is_bounded() {
        let mut view = LiveView::default();
        for _ in 0..PASSED_LIMIT {
            view.show(of(vec![resource("a", "ok")]));
            view.replace(of(vec![resource("a", "ok")]));
        }
        assert_eq!(view.observation(None, true).observed.len(), PASSED_LIMIT);
    }
}

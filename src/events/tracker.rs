//! What has to be remembered of one run of Tilt to tell what its next look means: which update
//! was a resource's first, which update an image build belongs to, how far the environment has
//! come up, and which builds nobody saw. Pure; kept in the state, so that a restart changes nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::trace::{RemoteParent, Span, UpdateId};
use crate::tilt::model::{Outcome, Resource, ResourceType, Timestamp, Waiting};

/// Updates kept per resource that builds images: an image's end may be seen after its update's.
const RECENT_UPDATES: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionTracker {
    pub startup: Startup,
    /// By name.
    resources: BTreeMap<String, ResourceHistory>,
    numbers: BuildNumbers,
    /// How the run ended, in Tilt's own words or, where nobody heard them, as `--outcome` says.
    pub outcome: Option<Outcome>,
    /// What the run is part of, as whoever looked first was told.
    pub remote_parent: Option<RemoteParent>,
}

/// What is remembered of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ResourceHistory {
    first: FirstUpdate,
    /// The last updates, newest last, if it builds images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recent: Vec<RecentUpdate>,
    /// What it waited for when its next update had not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<PastWait>,
    /// It belongs to the start-up, and it is still to be told how long it took.
    #[serde(skip_serializing_if = "is_false")]
    is_awaited: bool,
    /// It was told how long that was.
    #[serde(skip_serializing_if = "is_false")]
    was_ready: bool,
    /// It was seen to serve and do nothing else.
    #[serde(skip_serializing_if = "is_false")]
    only_serves: bool,
}

/// A resource's first update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum FirstUpdate {
    #[default]
    NotStarted,
    /// It was over before anyone looked.
    Missed,
    /// Likewise, unless it is this one: the older of two that were shown at first.
    Maybe(UpdateId),
    Observed(UpdateId),
}

/// How far the environment has come up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Startup {
    /// Nobody has looked yet.
    #[default]
    NotObserved,
    /// It was over before anyone looked: nothing can be told of it.
    Missed,
    /// Under way: what has become ready or failed so far.
    InProgress { settled: BTreeMap<String, FirstOutcome> },
    /// Updates that began up to then, in Unix microseconds, belong to it.
    Finished { at: u64 },
}

/// How a resource first came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FirstOutcome {
    /// Unix microseconds.
    pub at: u64,
    pub failed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RecentUpdate {
    id: UpdateId,
    /// Absent while it is under way.
    finished_at: Option<String>,
    /// The image builds that belong to it: object, and start as Tilt wrote it.
    images: Vec<(String, String)>,
}

/// [`Waiting`], as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PastWait {
    pub reason: Option<String>,
    pub on: Vec<String>,
    /// The resource's newest update at that time.
    after: Option<UpdateId>,
    /// The update that ended the wait.
    until: Option<UpdateId>,
}

fn newest(resource: &Resource) -> Option<UpdateId> {
    let current = resource.current_update.as_ref();
    let current = current.map(|current| UpdateId::new(&current.span_id, &current.started_at));
    current.or_else(|| {
        let finished = resource.updates.first()?;
        Some(UpdateId::new(&finished.span_id, &finished.started_at))
    })
}

/// By what the update of an image build can be found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageBuildRef {
    pub key: String,
    pub resource: String,
    pub object: String,
    /// As Tilt wrote it.
    pub started_at: String,
}

/// The update that an image build belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct ParentUpdate {
    pub id: UpdateId,
    pub has_finished: bool,
}

impl SessionTracker {
    /// The start-up's place in its trace.
    pub fn root(&self, session: &str) -> Span {
        Span::of_startup(session, self.remote_parent.as_ref())
    }

    /// Takes in one version of a resource, before anything is derived from it.
    pub fn observe(&mut self, resource: &Resource) {
        for update in &resource.updates {
            self.numbers.see(&update.span_id);
        }
        let known = self.known(resource);
        known.observe_first_update(resource);
        known.observe_serving(resource);
        known.is_awaited &= resource.disabled != Some(true);
        if resource.builds_images {
            known.observe_recent_updates(resource);
        }
        if let Some(waited) = &mut known.waited
            && waited.until.is_none()
            && newest(resource) != waited.after
        {
            waited.until = newest(resource);
        }
    }

    fn known(&mut self, resource: &Resource) -> &mut ResourceHistory {
        self.resources.entry(resource.name.clone()).or_default()
    }

    /// While it is pending or disabled, what only serves looks like any other resource.
    pub fn only_served(&self, resource: &Resource) -> bool {
        let is_silent =
            matches!(resource.update_status.as_deref(), None | Some("pending" | "none"));
        is_silent && self.resources.get(&resource.name).is_some_and(|known| known.only_serves)
    }

    /// Whether this update is the resource's first; `None` where that was over before anyone looked
    /// and it may be this one.
    pub fn is_first(&self, resource: &Resource, id: &UpdateId) -> Option<bool> {
        match &self.resources.get(&resource.name)?.first {
            FirstUpdate::NotStarted => None,
            FirstUpdate::Observed(first) => Some(first == id),
            FirstUpdate::Maybe(first) => (first != id).then_some(false),
            FirstUpdate::Missed => Some(false),
        }
    }

    /// A resource belongs to the start-up.
    pub fn await_ready(&mut self, resource: &Resource) {
        let known = self.known(resource);
        known.is_awaited = !known.was_ready;
    }

    /// Whether it is still to be told how long the resource took until it was first ready. Of one
    /// that was added or enabled after the start-up the time since Tilt's start says nothing.
    pub fn awaits(&self, resource: &Resource) -> bool {
        self.resources.get(&resource.name).is_some_and(|known| known.is_awaited)
    }

    pub fn told_ready(&mut self, resource: &Resource) {
        let known = self.known(resource);
        (known.is_awaited, known.was_ready) = (false, true);
    }

    /// The update of its resource during which an image build began: one whose end was seen or, if it
    /// `may_run`, that seems to run. Resources and images are watched apart, so an update that has
    /// ended may still look as if it ran: it is taken for this build only while it has no other of the
    /// same image.
    pub fn parent(&mut self, build: &ImageBuildRef, may_run: bool) -> Option<ParentUpdate> {
        let started_at = Timestamp::parse(&build.started_at)?;
        let known = self.resources.get_mut(&build.resource)?;
        let began = known.recent.iter_mut().filter_map(|update| Some((update.began()?, update)));
        let (_, update) =
            began.filter(|(began, _)| *began <= started_at.at).max_by_key(|(began, _)| *began)?;
        if !update.covers(build, &started_at) || !may_run && update.finished_at.is_none() {
            return None;
        }
        let image = (build.object.clone(), build.started_at.clone());
        if !update.images.contains(&image) {
            update.images.push(image);
        }
        Some(ParentUpdate { id: update.id.clone(), has_finished: update.finished_at.is_some() })
    }

    /// What the resource waited for before this update began.
    pub fn waited(&self, resource: &str, id: &UpdateId) -> Option<&PastWait> {
        let waited = self.resources.get(resource)?.waited.as_ref();
        waited.filter(|waited| waited.until.as_ref() == Some(id))
    }

    /// Takes in what a version of a resource waits for, after all else was derived from it.
    pub fn observe_waiting(&mut self, resource: &Resource) {
        if let Some(Waiting { reason, on }) = &resource.waiting {
            let (reason, on) = (reason.clone(), on.clone());
            let waited = PastWait { reason, on, after: newest(resource), until: None };
            self.known(resource).waited = Some(waited);
        } else if resource.disabled == Some(true) {
            self.known(resource).waited = None;
        }
    }

    /// Whether an update belongs to the bring-up: the first of its resource, begun before all
    /// was up. Once told it stays so, whatever is seen later.
    pub fn is_of_startup(&self, is_first: bool, started_at: &Timestamp) -> bool {
        is_first
            && match self.startup {
                Startup::InProgress { .. } => true,
                Startup::Finished { at } => unix_micros(started_at.at) <= at,
                Startup::NotObserved | Startup::Missed => false,
            }
    }

    /// Builds of the session whose end nobody saw; those that are still under way may yet be seen.
    pub fn missed_builds(&self, resources: &[Resource]) -> u64 {
        let current = resources.iter().filter_map(|resource| resource.current_update.as_ref());
        let running = current.filter(|update| self.numbers.misses(&update.span_id)).count();
        self.numbers.missing().saturating_sub(running as u64)
    }
}

impl ResourceHistory {
    fn observe_first_update(&mut self, resource: &Resource) {
        if self.first != FirstUpdate::NotStarted {
            return;
        }
        self.first = match &resource.updates[..] {
            [] => match &resource.current_update {
                Some(current) => {
                    FirstUpdate::Observed(UpdateId::new(&current.span_id, &current.started_at))
                }
                None => FirstUpdate::NotStarted,
            },
            // Tilt keeps two of a resource, so one is all there was; of a Tiltfile it keeps one,
            // and counts them.
            [only]
                if resource.resource_type != Some(ResourceType::Tiltfile)
                    || only.span_id.ends_with(":1") =>
            {
                FirstUpdate::Observed(UpdateId::new(&only.span_id, &only.started_at))
            }
            [.., oldest] if resource.resource_type != Some(ResourceType::Tiltfile) => {
                FirstUpdate::Maybe(UpdateId::new(&oldest.span_id, &oldest.started_at))
            }
            _ => FirstUpdate::Missed,
        };
    }

    fn observe_serving(&mut self, resource: &Resource) {
        self.only_serves = match resource.update_status.as_deref() {
            Some("ok" | "in_progress" | "error") => false,
            _ => self.only_serves || resource.only_serves(),
        };
    }

    fn observe_recent_updates(&mut self, resource: &Resource) {
        for update in resource.updates.iter().rev() {
            let id = UpdateId::new(&update.span_id, &update.started_at);
            remember(&mut self.recent, id, Some(update.finished_at.text.clone()));
        }
        if let Some(current) = &resource.current_update {
            let id = UpdateId::new(&current.span_id, &current.started_at);
            remember(&mut self.recent, id, None);
        }
        let too_many = self.recent.len().saturating_sub(RECENT_UPDATES);
        self.recent.drain(..too_many);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl RecentUpdate {
    fn began(&self) -> Option<SystemTime> {
        Timestamp::parse(&self.id.started_at).map(|began| began.at)
    }

    /// Of a build that began after it did.
    fn covers(&self, build: &ImageBuildRef, build_started_at: &Timestamp) -> bool {
        let ended = self.finished_at.as_deref().and_then(Timestamp::parse);
        let has_another = self
            .images
            .iter()
            .any(|(object, started_at)| *object == build.object && *started_at != build.started_at);
        !has_another && ended.is_none_or(|ended| build_started_at.at <= ended.at)
    }
}

fn remember(recent: &mut Vec<RecentUpdate>, id: UpdateId, finished_at: Option<String>) {
    match recent.iter_mut().find(|known| known.id == id) {
        Some(known) => known.finished_at = finished_at.or(known.finished_at.take()),
        None => recent.push(RecentUpdate { id, finished_at, images: Vec::new() }),
    }
}

/// The numbers N of the `build:N` that were seen, as ascending ranges with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct BuildNumbers(Vec<(u64, u64)>);

impl BuildNumbers {
    fn see(&mut self, span_id: &str) {
        let Some(number) = number(span_id) else { return };
        let after = self.0.partition_point(|(_, last)| *last + 1 < number);
        match self.0.get_mut(after) {
            Some((first, last)) if number + 1 >= *first => {
                *first = number.min(*first);
                *last = number.max(*last);
            }
            _ => self.0.insert(after, (number, number)),
        }
        if let [(_, last), (next, next_last), ..] = self.0[after..]
            && last + 1 == next
        {
            self.0[after].1 = next_last;
            self.0.remove(after + 1);
        }
    }

    /// Whether this one lies in a gap.
    fn misses(&self, span_id: &str) -> bool {
        let last = self.0.last().map_or(0, |(_, last)| *last);
        let is_seen =
            |number: u64| self.0.iter().any(|(first, last)| (*first..=*last).contains(&number));
        number(span_id).is_some_and(|number| number < last && !is_seen(number))
    }

    fn missing(&self) -> u64 {
        let seen: u64 = self.0.iter().map(|(first, last)| last - first + 1).sum();
        self.0.last().map_or(0, |(_, last)| last - seen)
    }
}

/// Of a build; live updates and Tiltfiles are not numbered with them.
fn number(span_id: &str) -> Option<u64> {
    let number = span_id.strip_prefix("build:")?.parse::<u32>().ok()?;
    (number > 0).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tilt::model::{CurrentUpdate, Update};
    use proptest::prelude::*;

    fn at(seconds: u32) -> Timestamp {
        Timestamp::parse(&format!("2026-11-22T15:00:{seconds:02}Z")).expect("a time")
    }

    fn update(number: u32, from: u32, to: u32) -> Update {
        Update {
            span_id: format!("build:{number}"),
            started_at: at(from),
            finished_at: at(to),
            error: None,
            warnings: 0,
        }
    }

    fn resource(updates: Vec<Update>, current: Option<(u32, u32)>) -> Resource {
        let current_update = current.map(|(number, from)| CurrentUpdate {
            span_id: format!("build:{number}"),
            started_at: at(from),
        });
        let builds_images = true;
        Resource {
            name: "web".into(),
            builds_images,
            updates,
            current_update,
            ..Resource::default()
        }
    }

    #[test]
    fn what_only_serves_does_so_while_it_is_pending_or_disabled_too() {
        let mut tracker = SessionTracker::default();
        let shows = |status: &str| Resource {
            resource_type: Some(ResourceType::Local),
            update_status: Some(status.into()),
            builds_images: false,
            ..resource(vec![update(1, 1, 2)], None)
        };
        tracker.observe(&shows("pending"));
        assert!(!tracker.only_served(&shows("pending")), "not known yet");
        tracker.observe(&shows("not_applicable"));
        for status in ["pending", "none"] {
            tracker.observe(&shows(status));
            assert!(tracker.only_served(&shows(status)), "{status}");
        }
        assert!(!tracker.only_served(&shows("error")));
        tracker.observe(&shows("in_progress"));
        assert!(!tracker.only_served(&shows("pending")), "it was given a command");
    }

    fn is_first(
        tracker: &SessionTracker,
        resource: &Resource,
        number: u32,
        from: u32,
    ) -> Option<bool> {
        tracker.is_first(resource, &UpdateId::new(&format!("build:{number}"), &at(from)))
    }

    fn image(started_at: u32) -> ImageBuildRef {
        ImageBuildRef {
            key: String::new(),
            resource: "web".into(),
            object: "web:web".into(),
            started_at: at(started_at).text,
        }
    }

    fn parent(tracker: &mut SessionTracker, started_at: u32) -> Option<(String, bool)> {
        tracker
            .parent(&image(started_at), true)
            .map(|parent| (parent.id.span_id, parent.has_finished))
    }

    #[test]
    fn the_first_update_is_known_when_it_was_seen_alone() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((3, 1))));
        let later = resource(vec![update(4, 5, 6), update(3, 1, 2)], None);
        tracker.observe(&later);
        assert_eq!(is_first(&tracker, &later, 3, 1), Some(true));
        assert_eq!(is_first(&tracker, &later, 4, 5), Some(false));
    }

    #[test]
    fn of_two_updates_seen_at_once_the_older_may_be_the_first_or_not() {
        let mut tracker = SessionTracker::default();
        let late = resource(vec![update(9, 5, 6), update(7, 1, 2)], None);
        tracker.observe(&late);
        assert_eq!(is_first(&tracker, &late, 9, 5), Some(false));
        assert_eq!(is_first(&tracker, &late, 7, 1), None);
        let later = resource(vec![update(12, 11, 12), update(11, 9, 10)], None);
        tracker.observe(&later);
        assert_eq!(is_first(&tracker, &later, 12, 11), Some(false));
        assert_eq!(is_first(&tracker, &later, 11, 9), Some(false), "two were there before it");
    }

    #[test]
    fn of_two_live_updates_seen_at_once_the_newer_is_not_the_first() {
        let live =
            |from, to| Update { span_id: "liveupdate:web:web".into(), ..update(1, from, to) };
        let late = resource(vec![live(5, 6), live(1, 2)], None);
        let mut tracker = SessionTracker::default();
        tracker.observe(&late);
        let is_first =
            |from| tracker.is_first(&late, &UpdateId::new("liveupdate:web:web", &at(from)));
        assert_eq!((is_first(5), is_first(1)), (Some(false), None));
    }

    #[test]
    fn a_wait_explains_the_update_that_ended_it() {
        let mut tracker = SessionTracker::default();
        let mut waiting = resource(vec![update(1, 1, 2)], None);
        waiting.waiting =
            Some(Waiting { reason: Some("waiting-for-dep".into()), on: vec!["db".into()] });
        let running = resource(vec![update(1, 1, 2)], Some((2, 3)));
        let done = resource(vec![update(3, 7, 8), update(2, 3, 4)], None);
        let mut disabled = waiting.clone();
        (disabled.waiting, disabled.disabled) = (None, Some(true));
        for version in [&waiting, &disabled, &running] {
            tracker.observe(version);
            tracker.observe_waiting(version);
        }
        let id = UpdateId::new("build:2", &at(3));
        assert_eq!(tracker.waited("web", &id), None, "that wait ended without an update");
        tracker = SessionTracker::default();
        for version in [&waiting, &running, &done] {
            tracker.observe(version);
            tracker.observe_waiting(version);
        }
        let reason = |number, from| {
            let id = UpdateId::new(&format!("build:{number}"), &at(from));
            tracker.waited("web", &id).and_then(|waited| waited.reason.clone())
        };
        assert_eq!(reason(1, 1), None);
        assert_eq!(reason(2, 3).as_deref(), Some("waiting-for-dep"));
        assert_eq!(reason(3, 7), None);
    }

    #[test]
    fn a_tiltfile_counts_its_own_loads() {
        for (number, expected) in [(1, Some(true)), (2, Some(false))] {
            let mut load = update(number, 1, 2);
            load.span_id = format!("tiltfile:(Tiltfile):{number}");
            let mut tiltfile = resource(vec![load.clone()], None);
            tiltfile.resource_type = Some(ResourceType::Tiltfile);
            let mut tracker = SessionTracker::default();
            tracker.observe(&tiltfile);
            let id = UpdateId::new(&load.span_id, &load.started_at);
            assert_eq!(tracker.is_first(&tiltfile, &id), expected, "load {number}");
        }
    }

    #[test]
    fn an_image_belongs_to_the_update_during_which_it_began() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![update(2, 1, 4)], Some((5, 6))));
        assert_eq!(parent(&mut tracker, 0), None);
        assert_eq!(parent(&mut tracker, 1), Some(("build:2".into(), true)));
        assert_eq!(parent(&mut tracker, 5), None);
        assert_eq!(parent(&mut tracker, 9), Some(("build:5".into(), false)));
        let elsewhere = ImageBuildRef { resource: "other".into(), ..image(1) };
        assert_eq!(tracker.parent(&elsewhere, true), None);
    }

    #[test]
    fn an_image_of_an_update_that_nobody_saw_belongs_to_no_earlier_one() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((1, 1))));
        tracker.observe(&resource(vec![update(3, 6, 7), update(2, 4, 5)], None));
        assert_eq!(parent(&mut tracker, 9), None, "nobody saw the end of build:1 either");
    }

    #[test]
    fn an_update_builds_an_image_once_so_a_second_build_belongs_to_one_not_seen_yet() {
        let mut tracker = SessionTracker::default();
        tracker.observe(&resource(vec![], Some((5, 6))));
        assert_eq!(parent(&mut tracker, 7), Some(("build:5".into(), false)));
        assert_eq!(parent(&mut tracker, 7), Some(("build:5".into(), false)), "shown again");
        assert_eq!(parent(&mut tracker, 9), None);
        tracker.observe(&resource(vec![update(5, 6, 8)], Some((6, 9))));
        assert_eq!(parent(&mut tracker, 9), Some(("build:6".into(), false)));
    }

    #[test]
    fn an_update_stays_known_for_a_while_after_tilt_forgot_it() {
        let mut tracker = SessionTracker::default();
        for number in 1..=9 {
            tracker.observe(&resource(vec![update(number, number * 5, number * 5 + 1)], None));
        }
        assert_eq!(parent(&mut tracker, 5), None);
        assert!(parent(&mut tracker, 10).is_some());
    }

    proptest! {
        #[test]
        fn missed_builds_are_the_gaps_in_the_numbers(seen in proptest::collection::vec(1u64..40, 0..60)) {
            let mut numbers = BuildNumbers::default();
            for number in &seen {
                numbers.see(&format!("build:{number}"));
            }
            let distinct: BTreeSet<_> = seen.iter().copied().collect();
            let expected = distinct.last().map_or(0, |last| last - distinct.len() as u64);
            prop_assert_eq!(numbers.missing(), expected);
            prop_assert!(numbers.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", numbers);
        }
    }

    #[test]
    fn a_build_that_runs_is_not_missed_until_it_is_over_unseen() {
        let mut tracker = SessionTracker::default();
        let running = [
            resource(Vec::new(), Some((2, 1))),
            resource(vec![update(1, 0, 1), update(3, 1, 2)], None),
        ];
        for resource in &running {
            tracker.observe(resource);
        }
        assert_eq!(tracker.missed_builds(&running), 0);
        let over = [resource(vec![update(5, 3, 4)], None)];
        tracker.observe(&over[0]);
        assert_eq!(tracker.missed_builds(&over), 2, "2 and 4");
    }

    #[test]
    fn only_build_numbers_count() {
        let mut numbers = BuildNumbers::default();
        for span in ["tiltfile:(Tiltfile):9", "liveupdate:web:web", "build:", "build:0", "build:x"]
        {
            numbers.see(span);
        }
        numbers.see(&format!("build:{}", u64::MAX));
        assert_eq!(numbers.0, []);
        numbers.see(&format!("build:{}", u32::MAX));
        assert_eq!(numbers.missing(), u64::from(u32::MAX) - 1);
    }
}

//! How long it takes until an environment works: from Tilt's start until each resource that starts
//! automatically is ready, has failed and stays failed, or cannot begin. Pure.
//!
//! Each observation looks at every resource again, so the event describes the end of the startup:
//! a failure that was fixed counts as ready, and a server that has crashed counts as failed.

pub mod blocked;
pub mod counts;
pub mod progress;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::base::time::unix_micros;
use crate::events::derivation::Derivation;
use crate::events::derived::{Build, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::Observation;
use crate::events::outcome::outcome;
use crate::events::startup::blocked::Standing;
use crate::events::startup::counts::{Ended, StartupCounts};
use crate::events::startup::progress::{Moment, ResourceProgress};
use crate::events::tracker::{SessionTracker, Startup, update_starts};
use crate::tilt::model::{MAIN_TILTFILE, Outcome, Resource, Timestamp};

/// Ends a startup that is still in progress. A startup that is older when it is first observed is
/// not reported.
pub const TIMEOUT: Duration = Duration::from_mins(10);
/// Tilt shows a Tiltfile as loaded a moment before it shows the resources that it defines.
const TILTFILE_DELAY: Duration = Duration::from_secs(2);

/// The progress of each resource, by name.
type Resources = BTreeMap<String, ResourceProgress>;

/// The result of one observation of the startup.
#[derive(Debug, Clone, PartialEq)]
enum Progress {
    /// It was reported before, or cannot be measured.
    None,
    /// It is in progress. These fields describe it in case Tilt ends now.
    Provisional(Fields),
    Final(Fields),
}

impl Derivation<'_> {
    /// Derives the event of the startup.
    pub fn follow_startup(&mut self) {
        let collector = &self.context.collector;
        let progress = follow(self.observation, self.tracker, collector, self.now);
        let key = "startup".to_owned();
        match progress {
            Progress::None => {}
            Progress::Provisional(fields) => {
                let event = self.startup_event(&fields);
                let provisional =
                    event.map(|event| ProvisionalEvent { key, resource: None, event });
                self.derived.provisional.extend(provisional);
            }
            Progress::Final(fields) => {
                let event = self.startup_event(&fields);
                let build = event.map(|event| Build { key, events: vec![event] });
                self.derived.builds.extend(build);
            }
        }
        self.derived.poll_again_after =
            poll_again_after(self.tracker).filter(|_| self.observation.is_watched);
    }

    fn startup_event(&self, own_fields: &Fields) -> Option<Event> {
        let started_at = self.observation.tilt_started_at()?;
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Startup.as_str());
        fields.set("name", self.common.startup_name);
        fields.extend(own_fields);
        if self.observation.is_over() {
            let outcome = outcome(self.observation, self.tracker, &self.context.collector);
            fields.set_some("outcome", outcome.map(Outcome::as_str));
        }
        self.common.startup.describe(&mut fields);
        fields.end_with(&self.common.trailing);
        Some(Event::new(EventKind::Startup, started_at.at, fields))
    }
}

/// Follows the startup of a session, in `tracker`. The resource named `collector` does not count.
fn follow<'a>(
    observation: &Observation<'a>,
    tracker: &mut SessionTracker,
    collector: &'a str,
    now: SystemTime,
) -> Progress {
    if matches!(tracker.startup, Startup::Missed | Startup::Finished { .. }) {
        return Progress::None;
    }
    let Some(started_at) = observation.tilt_started_at() else { return Progress::None };
    let ended_as = || outcome(observation, tracker, collector);
    let poll = StartupPoll {
        resources: observation.counted_resources(collector).collect(),
        started_at,
        outcome: observation.is_over().then(ended_as).flatten(),
        cluster_is_unavailable: observation.cluster().is_some_and(|c| c.is_unavailable),
        moment: Moment {
            now,
            is_over: observation.is_over(),
            succeeded: observation.is_over() && tracker.outcome == Some(Outcome::Success),
            was_polled_before: tracker.startup != Startup::NotObserved,
        },
    };
    if !poll.moment.was_polled_before {
        tracker.startup = poll.begin();
    }
    if let Startup::InProgress { .. } = tracker.startup {
        poll.counted().for_each(|resource| tracker.await_first_ready(resource));
    }
    let Startup::InProgress { resources } = &mut tracker.startup else {
        return Progress::None;
    };
    poll.observe(resources);
    let (ended, counts) = poll.result(resources);
    if ended == Ended::TimedOut && !poll.shows_conditions() {
        tracker.startup = Startup::Missed;
        return Progress::None;
    }
    let fields = poll.fields(&counts, ended);
    if ended == Ended::WithSession && !poll.moment.is_over {
        return Progress::Provisional(fields);
    }
    // If the clock was set back, the updates that were reported as part of the startup remain so.
    let newest_start = observation.resources.iter().flat_map(update_starts);
    let newest_start = newest_start.map(|start| unix_micros(start.at)).max().unwrap_or_default();
    tracker.startup = Startup::Finished {
        at: unix_micros(now).max(newest_start),
        timed_out: poll.timed_out(ended),
    };
    Progress::Final(fields)
}

/// One observation of a startup.
struct StartupPoll<'a> {
    /// All resources except the collector's own.
    resources: Vec<&'a Resource>,
    started_at: &'a Timestamp,
    /// How the run ended, if it has ended.
    outcome: Option<Outcome>,
    /// Tilt could not connect to the cluster that it deploys to.
    cluster_is_unavailable: bool,
    moment: Moment,
}

impl<'a> StartupPoll<'a> {
    /// The resources that belong to the startup.
    fn counted(&self) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().copied().filter(|resource| resource.starts_automatically())
    }

    fn age(&self) -> Duration {
        self.moment.now.duration_since(self.started_at.at).unwrap_or_default()
    }

    /// The startup as the first poll finds it.
    fn begin(&self) -> Startup {
        let was_reloaded = was_reloaded(&self.resources);
        let was_rebuilt = self.resources.iter().any(|resource| was_rebuilt(resource));
        // At its end, a session shows everything.
        if (self.age() > TIMEOUT || was_rebuilt || was_reloaded) && !self.moment.is_over {
            return Startup::Missed;
        }
        let mut resources = Resources::new();
        // The Tiltfile was loaded again before anything came up, so its first load failed.
        let reloaded = self.resources.iter().filter(|r| !was_reloaded && is_later_load(r));
        for tiltfile in reloaded {
            resources.entry(tiltfile.name.clone()).or_default().has_failed = true;
        }
        Startup::InProgress { resources }
    }

    /// Takes what the resources show into what is remembered of them.
    fn observe(&self, resources: &mut Resources) {
        for resource in &self.resources {
            let progress = resources.entry(resource.name.clone()).or_default();
            if resource.disabled == Some(true) {
                // Once it is enabled, it starts from the beginning.
                *progress = ResourceProgress::default();
            } else {
                progress.observe(resource, &self.moment);
            }
        }
    }

    /// Why the startup ends, if it ends now, and what its resources have reached by then.
    fn result(&self, resources: &Resources) -> (Ended, StartupCounts) {
        let counts = StartupCounts::new(&self.standings(resources, self.moment.is_over));
        let deadline = unix_micros(self.started_at.at + TIMEOUT);
        // The end of a session reports its startup, however long that took.
        let in_time = self.moment.is_over || counts.last_change() <= Some(deadline);
        if in_time && self.tiltfiles_are_loaded(resources) && counts.is_complete() {
            return (Ended::AllReached, counts);
        }
        let timed_out = self.age() > TIMEOUT && !self.moment.is_over;
        let ended = if timed_out { Ended::TimedOut } else { Ended::WithSession };
        // Nothing can recover any more, so no pod in trouble has time left.
        (ended, StartupCounts::new(&self.standings(resources, true)))
    }

    fn standings<'b>(&self, resources: &'b Resources, without_grace: bool) -> Vec<Standing<'b>>
    where
        'a: 'b,
    {
        let standing = |resource: &'a Resource| {
            let progress = resources.get(&resource.name)?;
            let reached = progress.reached(resource, &self.moment, without_grace);
            Some(Standing { resource, progress, reached })
        };
        self.resources.iter().copied().filter_map(standing).collect()
    }

    /// True if Tilt shows all resources that its Tiltfiles define.
    fn tiltfiles_are_loaded(&self, resources: &Resources) -> bool {
        let now = unix_micros(self.moment.now);
        let is_settled =
            |loaded_at| Duration::from_micros(now.saturating_sub(loaded_at)) >= TILTFILE_DELAY;
        let is_loaded = |tiltfile: &Resource| {
            let Some(progress) = resources.get(&tiltfile.name) else { return false };
            let Some((loaded_at, has_failed)) = progress.end() else { return false };
            // A failed extension does not keep the main Tiltfile from loading.
            let has_loaded = !has_failed || tiltfile.name != MAIN_TILTFILE;
            self.moment.is_over || has_loaded && is_settled(loaded_at)
        };
        let mut tiltfiles = self.resources.iter().filter(|r| r.is_tiltfile()).peekable();
        tiltfiles.peek().is_some() && tiltfiles.all(|tiltfile| is_loaded(tiltfile))
    }

    /// False for a Tilt before 0.23.2, which never shows that a resource is ready.
    fn shows_conditions(&self) -> bool {
        self.resources.iter().any(|resource| resource.ready.is_some())
    }

    fn timed_out(&self, ended: Ended) -> bool {
        ended == Ended::TimedOut || self.outcome == Some(Outcome::Timeout)
    }

    /// The fields that describe the startup.
    fn fields(&self, counts: &StartupCounts, ended: Ended) -> Fields {
        let mut fields = Fields::default();
        let started_at = unix_micros(self.started_at.at);
        let since_start = |at: u64| Duration::from_micros(at.saturating_sub(started_at));
        // If a resource has not come to an end, the duration is the time that it had.
        let last = counts.last_change().filter(|_| ended == Ended::AllReached);
        fields.set_ms("duration_ms", Some(last.map_or(self.age(), since_start)));
        if let Some((name, at)) = counts.slowest() {
            fields.set_ms("time_to_ready_ms", Some(since_start(at)));
            fields.set("slowest_resource", name);
        }
        counts.describe(&mut fields);
        fields.set("ended_by", ended.as_str());
        if let Some(error_type) = self.error_type(counts, ended) {
            fields.set("error", true);
            fields.set("error.type", error_type);
        }
        fields
    }

    /// Why the startup counts as an error. `None` if it does not.
    fn error_type(&self, counts: &StartupCounts, ended: Ended) -> Option<&'static str> {
        if self.cluster_is_unavailable && !counts.is_complete() {
            Some("cluster_unavailable")
        } else if self.timed_out(ended) {
            Some("timeout")
        } else if counts.has_failed() {
            Some("resource_failed")
        } else if self.outcome == Some(Outcome::Failure) {
            Some("_OTHER")
        } else {
            None
        }
    }
}

/// True if a resource was updated again before the first poll. Its condition has flipped since, so
/// the time when it was first ready is unknown.
fn was_rebuilt(resource: &Resource) -> bool {
    let updates = update_starts(resource).count();
    resource.starts_automatically() && !resource.is_tiltfile() && updates > 1
}

/// Same check for Tiltfiles. Tilt keeps only the last load but numbers them all, so a number above
/// 1 means a reload. A reload after a failed first load does not count: nothing had started.
fn was_reloaded(resources: &[&Resource]) -> bool {
    let (tiltfiles, others): (Vec<_>, Vec<_>) =
        resources.iter().copied().partition(|resource| resource.is_tiltfile());
    let mut reloads = tiltfiles.into_iter().flat_map(later_loads);
    reloads.any(|started_at| {
        let mut updates = others.iter().flat_map(|resource| &resource.updates);
        updates.any(|update| update.finished_at.at < started_at.at)
    })
}

fn is_later_load(resource: &Resource) -> bool {
    resource.is_tiltfile() && later_loads(resource).next().is_some()
}

/// The starts of the loads of a Tiltfile that came after the first one.
fn later_loads(tiltfile: &Resource) -> impl Iterator<Item = &Timestamp> {
    let finished = tiltfile.updates.iter().map(|load| (&load.span_id, &load.started_at));
    let current = tiltfile.current_update.iter().map(|load| (&load.span_id, &load.started_at));
    let later = finished.chain(current).filter(|(span_id, _)| !span_id.ends_with(":1"));
    later.map(|(_, started_at)| started_at)
}

/// The time from Tilt's start until the resource became ready. `None` for a resource that a person
/// starts, because that time would depend on the person.
pub fn time_to_ready(resource: &Resource, tilt_started_at: Option<&Timestamp>) -> Option<Duration> {
    if !resource.starts_automatically() {
        return None;
    }
    let ready = resource.ready.as_ref().filter(|ready| ready.holds)?;
    ready.since.as_ref()?.since(tilt_started_at?)
}

/// How soon the resources that a watch has shown may count as all there are, even if nothing
/// changes.
fn poll_again_after(tracker: &SessionTracker) -> Option<Duration> {
    matches!(tracker.startup, Startup::InProgress { .. }).then_some(TILTFILE_DELAY)
}

#[cfg(test)]
mod runtime_tests;
#[cfg(test)]
mod tests;

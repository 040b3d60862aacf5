//! Rollouts: the time from the end of an update until its resource is ready. Pure.
//!
//! Each successful update of a Kubernetes resource, a Compose service or a resource with a
//! `serve_cmd` has one rollout. Its end follows from the resource's condition `Ready`, so that a
//! poll each minute finds the same times as a watch.

use std::time::{Duration, SystemTime};

use crate::base::ids;
use crate::base::time::{from_unix_micros, unix_micros};
use crate::events::derivation::Derivation;
use crate::events::derived::{Build, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::Heartbeats;
use crate::events::open_rollout::OpenRollout;
use crate::events::runtime_failure::RuntimeFailure;
use crate::events::trace::{Span, UpdateId};
use crate::events::trouble::Trouble;
use crate::tilt::model::{Outcome, PodInfo, Resource, ResourceType, Timestamp, Update};

/// After an update, Tilt may show the old pod or server for a while. A real Tilt 0.37.6 did so for
/// up to 0.9 s.
const STALE_TIME: Duration = Duration::from_secs(2);
/// How long the end of a rollout waits for a poll of the pod's details.
const POD_DETAILS_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest unobserved rollout that counts as superseded. After a longer one, the resource was
/// probably ready before the next update.
const UNOBSERVED_LIMIT: Duration = Duration::from_secs(10);
/// A pod that was created this long after an update replaces the pod of that update.
const REPLACEMENT_AGE: Duration = Duration::from_mins(1);

/// An update and the rollout that follows it.
struct Rollout<'a> {
    id: UpdateId,
    started_at: &'a Timestamp,
    /// The end of the update and the start of the rollout.
    updated_at: &'a Timestamp,
    /// The start of the next update.
    next: Option<&'a Timestamp>,
    is_live_update: bool,
}

/// A rollout so far.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RolloutProgress {
    /// It goes on. Time alone may end it after `again`.
    Open {
        again: Option<Duration>,
    },
    /// The resource became ready. The details of its pod may come until then.
    AwaitsDetails {
        ready_at: SystemTime,
        again: Option<Duration>,
    },
    Over {
        at: SystemTime,
        outcome: RolloutOutcome,
    },
    /// It ended unobserved.
    Unknown,
}

/// The field `outcome` of a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RolloutOutcome {
    Ready,
    Failed(RuntimeFailure),
    Superseded,
    SessionEnd,
}

impl RolloutOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed(_) => "failed",
            Self::Superseded => "superseded",
            Self::SessionEnd => "session_end",
        }
    }
}

/// The circumstances of an observation.
#[derive(Debug, Clone, Copy)]
struct RolloutMoment {
    now: SystemTime,
    is_over: bool,
    /// True if Tilt ended with a success, so everything was ready even if it did not come to show that.
    succeeded: bool,
    /// True if a poll may soon show details of a pod.
    is_watched: bool,
}

impl Derivation<'_> {
    /// Derives the rollouts of all observed updates. Must follow the derivation of the updates.
    pub fn derive_rollouts(&mut self) {
        let observation = self.observation;
        let is_full = matches!(observation.heartbeats, Heartbeats::All);
        for version in observation.observed {
            self.follow_rollouts(version);
        }
        for resource in observation.resources {
            if is_full || self.tracker.open_rollout(&resource.name).is_some() {
                self.follow_rollouts(resource);
            }
        }
    }

    fn follow_rollouts(&mut self, resource: &Resource) {
        self.tracker.observe_pod(resource);
        self.end_vanished_rollout(resource);
        if !must_become_ready(resource) || resource.name == self.context.collector {
            return;
        }
        let next_starts = resource.updates.iter().map(|update| &update.started_at);
        let current = resource.current_update.as_ref().map(|current| &current.started_at);
        let next_starts = std::iter::once(current).chain(next_starts.map(Some));
        let rollouts: Vec<_> = resource.updates.iter().zip(next_starts).collect();
        for (update, next) in rollouts.into_iter().rev() {
            if update.error.is_none() {
                self.follow_rollout(resource, &Rollout::new(update, next));
            }
        }
    }

    fn follow_rollout(&mut self, resource: &Resource, rollout: &Rollout) {
        let key = rollout_key(&resource.name, &rollout.id);
        if self.is_reported(&key) {
            self.tracker.close_rollout(&resource.name, &rollout.id);
            return self.derived.builds.push(Build::without_events(key));
        }
        if self.derived.builds.iter().any(|build| build.key == key) {
            return;
        }
        let moment = RolloutMoment {
            now: self.now,
            is_over: self.observation.is_over(),
            succeeded: self.observation.is_over() && self.tracker.outcome == Some(Outcome::Success),
            is_watched: self.observation.is_watched,
        };
        let failure = RuntimeFailure::of(resource, self.tracker.container_failure(resource));
        let known = self.tracker.open_rollout(&resource.name);
        let known = known.filter(|open| open.update == rollout.id);
        let was_observed = known.is_some();
        let trouble = match (failure, known.and_then(|open| open.trouble)) {
            (Some(_), None) => {
                let was_running = was_observed
                    || self.observation.is_watched
                        && self.tracker.reported_status(resource).is_some();
                let since =
                    OpenRollout::failed_since(resource, rollout.updated_at, was_running, self.now);
                Some(Trouble::begin(since, self.now))
            }
            (Some(_), Some(trouble)) => Some(trouble.resumed(self.now)),
            (None, trouble) => trouble.map(|trouble| trouble.paused(self.now)),
        };
        let mut open = OpenRollout {
            update: rollout.id.clone(),
            updated_at: rollout.updated_at.text.clone(),
            ready_at: known.and_then(|open| open.ready_at),
            trouble,
        };
        let progress = match open.ready_at.map(from_unix_micros) {
            Some(at) => after_ready(resource, at, moment),
            None => progress(resource, rollout, failure.zip(trouble), was_observed, moment),
        };
        match progress {
            RolloutProgress::Open { again } => self.keep_open(resource, rollout, open, again),
            RolloutProgress::AwaitsDetails { ready_at, again } => {
                open.ready_at = Some(unix_micros(ready_at));
                self.keep_open(resource, rollout, open, again);
            }
            RolloutProgress::Over { at, outcome } => {
                let duration = at.duration_since(rollout.updated_at.at).unwrap_or_default();
                let event = self.rollout_event(resource, rollout, outcome, Some(duration));
                self.tracker.close_rollout(&resource.name, &rollout.id);
                self.derived.builds.push(Build { key, events: vec![event] });
            }
            RolloutProgress::Unknown => self.derived.builds.push(Build::without_events(key)),
        }
    }

    /// Remembers an open rollout, and keeps an event for the case that its end is never observed.
    fn keep_open(
        &mut self,
        resource: &Resource,
        rollout: &Rollout,
        open: OpenRollout,
        again: Option<Duration>,
    ) {
        let ready_for =
            open.ready_at.map(from_unix_micros).map(|at| at.duration_since(rollout.updated_at.at));
        let (outcome, duration) = match ready_for {
            Some(duration) => (RolloutOutcome::Ready, Some(duration.unwrap_or_default())),
            None => (RolloutOutcome::SessionEnd, None),
        };
        self.tracker.set_open_rollout(&resource.name, open);
        let event = self.rollout_event(resource, rollout, outcome, duration);
        let key = rollout_key(&resource.name, &rollout.id);
        self.derived.provisional.push(ProvisionalEvent { key, resource: None, event });
        if self.observation.is_watched {
            let pauses = [self.derived.poll_again_after, again];
            self.derived.poll_again_after = pauses.into_iter().flatten().min();
        }
    }

    /// Ends an open rollout whose update Tilt no longer shows: later updates replaced it, or the
    /// resource was disabled.
    fn end_vanished_rollout(&mut self, resource: &Resource) {
        let Some(open) = self.tracker.open_rollout(&resource.name).cloned() else { return };
        let is_shown = |update| UpdateId::from(update) == open.update;
        if resource.updates.iter().any(is_shown) {
            return;
        }
        let key = rollout_key(&resource.name, &open.update);
        let times = (Timestamp::parse(&open.update.started_at), Timestamp::parse(&open.updated_at));
        let next = resource.updates.last().filter(|_| resource.disabled != Some(true));
        let build = match (times, next) {
            ((Some(started_at), Some(updated_at)), Some(next))
                if next.started_at.at >= updated_at.at =>
            {
                let rollout = Rollout {
                    id: open.update.clone(),
                    started_at: &started_at,
                    updated_at: &updated_at,
                    next: Some(&next.started_at),
                    is_live_update: false,
                };
                let duration = next.started_at.since(&updated_at);
                let outcome = RolloutOutcome::Superseded;
                let event = self.rollout_event(resource, &rollout, outcome, duration);
                Build { key, events: vec![event] }
            }
            // An older version that arrives late.
            (_, Some(_)) => return,
            (_, None) if resource.disabled != Some(true) => return,
            (_, None) => Build::without_events(key),
        };
        self.tracker.close_rollout(&resource.name, &open.update);
        self.derived.builds.push(build);
    }

    fn rollout_event(
        &self,
        resource: &Resource,
        rollout: &Rollout,
        outcome: RolloutOutcome,
        duration: Option<Duration>,
    ) -> Event {
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Rollout.as_str());
        fields.set("name", resource.name.clone());
        fields.set_some("resource_type", resource.resource_type.map(ResourceType::as_str));
        fields.set_list("labels", &resource.labels);
        fields.set("update_id", rollout.id.span_id.clone());
        fields.set_some("initial", self.tracker.is_first(resource, &rollout.id));
        fields.set_ms("duration_ms", duration);
        fields.set("outcome", outcome.as_str());
        if let RolloutOutcome::Failed(failure) = outcome {
            fields.set("error", true);
            fields.set("error.type", failure.class);
            fields.set_some("exit_code", failure.exit_code);
        }
        if outcome != RolloutOutcome::Superseded && rollout.has_own_pod(resource) {
            set_pod(&mut fields, resource);
        }
        self.rollout_span(resource, &rollout.id).describe(&mut fields);
        fields.end_with(&self.common.trailing);
        Event::new(EventKind::Rollout, rollout.updated_at.at, fields)
    }

    /// Sets why a resource is down at run time.
    pub fn set_runtime_failure(&self, fields: &mut Fields, resource: &Resource) {
        let last = self.tracker.container_failure(resource);
        if let Some(failure) = RuntimeFailure::of(resource, last) {
            fields.set("error.type", failure.class);
            fields.set_some("exit_code", failure.exit_code);
        }
    }

    /// The span of a rollout, a child of its update. The empty update of a resource that only serves
    /// has no event, so its rollout takes its place in the trace.
    fn rollout_span(&self, resource: &Resource, id: &UpdateId) -> Span {
        let update = self.update_span(resource, id);
        let span = Span::of_rollout(&update);
        if resource.only_serves() {
            return Span { parent_id: update.parent_id, ..span };
        }
        span
    }
}

impl<'a> Rollout<'a> {
    fn new(update: &'a Update, next: Option<&'a Timestamp>) -> Self {
        Self {
            id: UpdateId::from(update),
            started_at: &update.started_at,
            updated_at: &update.finished_at,
            next,
            is_live_update: update.is_live_update(),
        }
    }

    /// True if the active pod was created by this update or after it. Kubernetes rounds the time of
    /// creation down to whole seconds.
    fn has_own_pod(&self, resource: &Resource) -> bool {
        let rounding = Duration::from_secs(1);
        resource.pod_created_at.as_ref().is_some_and(|pod| pod.at + rounding > self.started_at.at)
    }
}

/// Identifies a rollout within its session.
fn rollout_key(resource: &str, id: &UpdateId) -> String {
    ids::id(&["rollout", resource, &id.span_id, &id.started_at], 16)
}

/// True if an update of the resource is followed by a wait until it is ready.
fn must_become_ready(resource: &Resource) -> bool {
    let runs =
        !matches!(resource.runtime_status.as_deref(), None | Some("none" | "not_applicable"));
    match resource.resource_type {
        Some(ResourceType::K8s | ResourceType::DockerCompose | ResourceType::Local) => runs,
        Some(ResourceType::ImageOnly | ResourceType::Tiltfile) | None => false,
    }
}

/// Decides whether a rollout has ended.
fn progress(
    resource: &Resource,
    rollout: &Rollout,
    failure: Option<(RuntimeFailure, Trouble)>,
    was_observed: bool,
    moment: RolloutMoment,
) -> RolloutProgress {
    if let Some(next) = rollout.next {
        return progress_before(next, resource, rollout, was_observed);
    }
    let is_settled = rollout.is_live_update
        || rollout.has_own_pod(resource)
        || moment.is_over
        || moment.has_passed(STALE_TIME, rollout.updated_at.at);
    let ready_at = ready_since(resource).map(|since| since.max(rollout.updated_at.at));
    if ready_at.is_none_or(|at| at == rollout.updated_at.at) && !is_settled {
        return RolloutProgress::Open {
            again: moment.time_left(STALE_TIME, rollout.updated_at.at),
        };
    }
    match (ready_at, failure) {
        (Some(_), _) if !was_observed && shows_replacement_pod(resource, rollout) => {
            RolloutProgress::Unknown
        }
        (Some(at), _) => after_ready(resource, at, moment),
        (None, Some((failure, trouble))) => failed(resource, failure, trouble, rollout, moment),
        (None, None) if moment.succeeded => {
            RolloutProgress::Over { at: moment.now, outcome: RolloutOutcome::Ready }
        }
        (None, None) if moment.is_over => {
            RolloutProgress::Over { at: moment.now, outcome: RolloutOutcome::SessionEnd }
        }
        (None, None) => RolloutProgress::Open { again: None },
    }
}

/// The progress of a rollout that had ended when the next update started.
fn progress_before(
    next: &Timestamp,
    resource: &Resource,
    rollout: &Rollout,
    was_observed: bool,
) -> RolloutProgress {
    let updated_at = rollout.updated_at.at;
    let time = next.at.duration_since(updated_at).unwrap_or_default();
    let is_settled = rollout.is_live_update || time >= STALE_TIME;
    match ready_since(resource) {
        Some(at) if at >= updated_at && at <= next.at || at < updated_at && is_settled => {
            RolloutProgress::Over { at: at.max(updated_at), outcome: RolloutOutcome::Ready }
        }
        _ if was_observed || time <= UNOBSERVED_LIMIT => {
            RolloutProgress::Over { at: next.at, outcome: RolloutOutcome::Superseded }
        }
        _ => RolloutProgress::Unknown,
    }
}

fn failed(
    resource: &Resource,
    failure: RuntimeFailure,
    trouble: Trouble,
    rollout: &Rollout,
    moment: RolloutMoment,
) -> RolloutProgress {
    if resource.restarts_by_itself() && !moment.is_over && !trouble.is_failure(moment.now) {
        return RolloutProgress::Open { again: Some(trouble.time_left(moment.now)) };
    }
    let seen_at = trouble.seen_at().unwrap_or(moment.now);
    match moment.time_for_details(resource, failure.exit_code.is_some(), seen_at) {
        None => {
            let at = from_unix_micros(trouble.since()).max(rollout.updated_at.at);
            RolloutProgress::Over { at, outcome: RolloutOutcome::Failed(failure) }
        }
        again => RolloutProgress::Open { again },
    }
}

/// The progress of a rollout whose resource became ready. It waits for the details of the pod.
fn after_ready(
    resource: &Resource,
    ready_at: SystemTime,
    moment: RolloutMoment,
) -> RolloutProgress {
    let is_explained = resource.pod_is_explained() || !resource.is_ready();
    match moment.time_for_details(resource, is_explained, ready_at) {
        None => RolloutProgress::Over { at: ready_at, outcome: RolloutOutcome::Ready },
        again => RolloutProgress::AwaitsDetails { ready_at, again },
    }
}

impl RolloutMoment {
    fn has_passed(self, time: Duration, since: SystemTime) -> bool {
        self.now >= since + time
    }

    /// How long to wait for a poll of the pod's details. `None` if they are known, or if it is too
    /// late to wait for them.
    fn time_for_details(
        self,
        resource: &Resource,
        are_known: bool,
        since: SystemTime,
    ) -> Option<Duration> {
        let may_wait = self.is_watched && !self.is_over && resource.pod_created_at.is_some();
        let waits = may_wait && !are_known && !self.has_passed(POD_DETAILS_TIMEOUT, since);
        self.time_left(POD_DETAILS_TIMEOUT, since).filter(|_| waits)
    }

    fn time_left(self, time: Duration, since: SystemTime) -> Option<Duration> {
        (since + time).duration_since(self.now).ok()
    }
}

impl Resource {
    /// True if a poll has shown the phases of the ready pod. The pod of a Job is never ready.
    fn pod_is_explained(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| self.is_job || pod.ready_at.is_some())
    }
}

/// Since when Tilt reports the resource as ready. `None` while it does not.
fn ready_since(resource: &Resource) -> Option<SystemTime> {
    let ready = resource.ready.as_ref().filter(|ready| ready.holds)?;
    Some(ready.since.as_ref()?.at)
}

fn shows_replacement_pod(resource: &Resource, rollout: &Rollout) -> bool {
    let created_at = resource.pod_created_at.as_ref();
    created_at.is_some_and(|pod| pod.at > rollout.updated_at.at + REPLACEMENT_AGE)
}

fn set_pod(fields: &mut Fields, resource: &Resource) {
    if let Some(PodInfo { created_at, scheduled_at, initialized_at, ready_at, .. }) = &resource.pod
    {
        for (name, reached_at) in [
            ("pod_scheduled_ms", scheduled_at),
            ("pod_initialized_ms", initialized_at),
            ("pod_ready_ms", ready_at),
        ] {
            fields.set_ms(name, reached_at.as_ref().and_then(|at| at.since(created_at)));
        }
    }
    fields.set("pod_restarts", resource.pod_restarts.unwrap_or(0));
}

#[cfg(test)]
mod tests;

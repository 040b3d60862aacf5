//! The progress of one resource in the startup, kept from one observation to the next. Pure.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::trouble::Trouble;
use crate::tilt::model::Resource;

/// The progress of one resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceProgress {
    /// When it became ready, in Unix microseconds. `None` if it has failed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at: Option<u64>,
    /// It was ready at some time. Tilt then starts the resources that depend on it, even if it has
    /// crashed since.
    pub was_ready: bool,
    /// It failed at some time.
    pub has_failed: bool,
    /// Its failure. It pauses while Kubernetes tries to start the pod again.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Trouble>,
    /// The resources that its first update waits for, as Tilt last listed them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// The state of a resource in the startup. Times are in Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    Ready { at: u64 },
    Failed { at: u64 },
    Neither,
}

/// The circumstances of one observation.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: SystemTime,
    /// Tilt has ended.
    pub is_over: bool,
    /// Tilt reported a success, so everything is ready even if it did not come to show that.
    pub succeeded: bool,
    pub was_polled_before: bool,
}

impl ResourceProgress {
    /// Records what an observation shows of the resource.
    pub fn observe(&mut self, resource: &Resource, moment: &Moment) {
        self.observe_dependencies(resource);
        let is_failing = shows_failure(resource, moment);
        self.failure = match self.failure {
            None if is_failing => {
                Some(Trouble::begin(self.failure_time(resource, moment), moment.now))
            }
            Some(failure) if is_failing => Some(failure.resumed(moment.now)),
            Some(failure) if retries(resource) => Some(failure.paused(moment.now)),
            _ => None,
        };
        if self.counts_as_failed(resource, moment) {
            (self.has_failed, self.ready_at) = (true, None);
        }
        // Tilt shows the former load of a Tiltfile, and the former update, with their errors.
        self.has_failed |= resource.updates.iter().any(|update| update.error.is_some());
        let ready = resource.ready.as_ref().filter(|ready| ready.holds);
        let since = ready.map(|ready| ready.since.as_ref().map_or(moment.now, |since| since.at));
        let since = since.or((moment.succeeded && !is_failing).then_some(moment.now));
        if let Some(since) = since {
            self.was_ready = true;
            self.ready_at.get_or_insert(unix_micros(since));
        }
    }

    /// The state of the resource. With `without_grace`, a pod in trouble counts as failed at
    /// once.
    pub fn reached(&self, resource: &Resource, moment: &Moment, without_grace: bool) -> Reached {
        match (self.failure, self.ready_at) {
            (Some(failure), _)
                if without_grace && failure.is_current()
                    || self.counts_as_failed(resource, moment) =>
            {
                Reached::Failed { at: failure.since() }
            }
            // A pod in trouble has not come up for good, even if it was ready for a moment.
            (Some(_), _) | (None, None) => Reached::Neither,
            (None, Some(at)) => Reached::Ready { at },
        }
    }

    /// Tilt shows only the first of several reasons to wait, so the dependencies stay known while
    /// it shows another one. They no longer matter once an update has begun.
    fn observe_dependencies(&mut self, resource: &Resource) {
        if let Some(names) = resource.dependencies_waited_for() {
            self.waits_for = names.to_vec();
        } else if resource.update_status.as_deref() != Some("pending") {
            self.waits_for.clear();
        }
    }

    /// When the resource became ready or began to fail, in Unix microseconds, and whether it fails.
    /// `None` if it did neither.
    pub fn end(&self) -> Option<(u64, bool)> {
        let failed = self.failure.map(|failure| (failure.since(), true));
        failed.or(self.ready_at.map(|at| (at, false)))
    }

    fn counts_as_failed(&self, resource: &Resource, moment: &Moment) -> bool {
        self.failure.is_some_and(|failure| {
            let counts_at_once = moment.is_over || !may_recover(resource);
            failure.is_current() && counts_at_once || failure.is_failure(moment.now)
        })
    }

    /// Tilt does not tell when a resource failed at run time. The condition `Ready` of one that was
    /// ready dates from its crash. Otherwise it dates from the creation of the resource, so the
    /// failure came no earlier than the end of the update.
    fn failure_time(&self, resource: &Resource, moment: &Moment) -> SystemTime {
        let updated_at = resource.updates.first().map(|update| update.finished_at.at);
        if is_error(resource.update_status.as_ref()) {
            return updated_at.unwrap_or(moment.now);
        }
        let since = resource.ready.as_ref().and_then(|ready| ready.since.as_ref());
        let since = since.map(|since| since.at);
        match self.ready_at {
            Some(ready_at) => since.filter(|since| unix_micros(*since) > ready_at),
            None if moment.was_polled_before => None,
            None => since.max(updated_at),
        }
        .unwrap_or(moment.now)
    }
}

/// True if the resource is failing, unless an update that may fix it runs or waits.
fn shows_failure(resource: &Resource, moment: &Moment) -> bool {
    let update_status = resource.update_status.as_deref();
    let is_ready = resource.ready.as_ref().is_some_and(|ready| ready.holds);
    let is_being_fixed =
        !moment.is_over && matches!(update_status, Some("pending" | "in_progress"));
    let runtime_failed = is_error(resource.runtime_status.as_ref()) || resource.has_pod_trouble();
    !is_ready && (update_status == Some("error") || runtime_failed && !is_being_fixed)
}

/// True if Kubernetes tries to start the pod again, and nobody has changed anything.
fn retries(resource: &Resource) -> bool {
    let is_updating = matches!(resource.update_status.as_deref(), Some("pending" | "in_progress"));
    resource.is_on_kubernetes() && !resource.is_ready() && !is_updating
}

/// True if Kubernetes may fix the failure by itself: it restarts pods, but not those of a failed Job.
fn may_recover(resource: &Resource) -> bool {
    resource.restarts_by_itself() && !is_error(resource.update_status.as_ref())
}

fn is_error(status: Option<&String>) -> bool {
    status.is_some_and(|status| status == "error")
}

//! The health of a resource: one classification of Tilt's statuses, for all counts and tables. Pure.

use crate::tilt::model::Resource;

/// The state of a resource: of its update, its runtime and its pod together. A resource has
/// exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Everything else.
    Ok,
    /// The update or the runtime status is `error`, or [`Resource::has_pod_trouble`].
    Error,
    /// The update or the runtime status is `pending`, or Tilt shows no status yet.
    Pending,
    /// An update runs.
    InProgress,
    /// The resource never ran, and it does not start automatically.
    Idle,
    /// A person disabled the resource. This outweighs every other status.
    Disabled,
}

impl Health {
    /// Every value, in the order of [`HealthCounts::in_order`].
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Error, Self::Pending, Self::InProgress, Self::Idle, Self::Disabled];

    /// Classifies a resource. The words are those of `UpdateStatus` and `RuntimeStatus` in Tilt's
    /// `pkg/apis/core/v1alpha1`.
    pub fn of(resource: &Resource) -> Self {
        let is = |word| {
            [&resource.update_status, &resource.runtime_status]
                .iter()
                .any(|status| status.as_deref() == Some(word))
        };
        if resource.disabled == Some(true) {
            Self::Disabled
        } else if is("error") || resource.has_pod_trouble() {
            Self::Error
        } else if is("in_progress") {
            Self::InProgress
        } else if is("pending") || !resource.has_status() {
            Self::Pending
        } else if resource.never_ran() && !resource.starts_automatically() {
            Self::Idle
        } else {
            Self::Ok
        }
    }
}

/// The pod statuses that need attention, with or without the prefix `Init:`. Tilt shows the reason
/// of a waiting or terminated container there, else the phase of the pod (`PodStatusToString` in
/// Tilt's `internal/store/k8sconv`). A pod that keeps crashing has the phase `Running`, so Tilt's
/// own `runtimeStatus` says `pending`, and `ok` for moments between two crashes.
const POD_TROUBLE: &[&str] = &[
    "CrashLoopBackOff",
    "Error",
    "OOMKilled",
    "ContainerCannotRun",
    "RunContainerError",
    "StartError",
    "CreateContainerError",
    "CreateContainerConfigError",
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "Evicted",
    "DeadlineExceeded",
];

/// The number of resources with each [`Health`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthCounts([usize; Health::ALL.len()]);

impl HealthCounts {
    /// The number of resources with this health.
    pub fn get(self, health: Health) -> usize {
        self.0[health as usize]
    }

    /// The numbers in the order of [`Health::ALL`].
    pub fn in_order(self) -> [usize; Health::ALL.len()] {
        self.0
    }
}

/// Counts the resources by their health. Each resource counts once.
pub fn count_by_health<'r>(resources: impl IntoIterator<Item = &'r Resource>) -> HealthCounts {
    let mut counts = HealthCounts::default();
    for resource in resources {
        counts.0[Health::of(resource) as usize] += 1;
    }
    counts
}

/// Counts the resources that start automatically and are still pending or in progress.
pub fn unfinished<'r>(resources: impl IntoIterator<Item = &'r Resource>) -> usize {
    let is_busy = |r: &&Resource| matches!(Health::of(r), Health::Pending | Health::InProgress);
    resources.into_iter().filter(|r| r.starts_automatically()).filter(is_busy).count()
}

impl Resource {
    /// True if the pod is in trouble while Tilt does not report the resource as ready. With
    /// `pod_readiness='ignore'` Tilt reports it as ready, and Tilt's own status counts.
    pub fn has_pod_trouble(&self) -> bool {
        let status = self.pod_status.as_deref().unwrap_or_default();
        let reason = status.strip_prefix("Init:").unwrap_or(status);
        !self.is_ready() && POD_TROUBLE.contains(&reason)
    }

    /// True if Tilt reports the resource as ready.
    pub fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(|ready| ready.holds)
    }

    /// True if neither an update nor a server of the resource has run in this session.
    pub fn never_ran(&self) -> bool {
        let is_absent = |status: &Option<String>| {
            matches!(status.as_deref(), None | Some("none" | "not_applicable"))
        };
        self.updates.is_empty()
            && self.current_update.is_none()
            && is_absent(&self.update_status)
            && is_absent(&self.runtime_status)
    }

    /// True if Tilt starts the resource when the session starts: it is enabled, and its trigger mode
    /// is `auto` (0, or omitted) or `manual_with_auto_init` (1). Source: `TriggerMode` in Tilt's
    /// `pkg/model`.
    pub fn starts_automatically(&self) -> bool {
        matches!(self.trigger_mode, None | Some(0 | 1)) && self.disabled != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::Condition;

    fn resource(update: Option<&str>, runtime: Option<&str>, disabled: Option<bool>) -> Resource {
        Resource {
            update_status: update.map(str::to_owned),
            runtime_status: runtime.map(str::to_owned),
            disabled,
            ..Resource::default()
        }
    }

    #[test]
    fn health_is_the_worst_status_unless_the_resource_is_disabled() {
        for (update, runtime, disabled, expected) in [
            (None, None, None, Health::Pending),
            (Some("ok"), Some("not_applicable"), Some(false), Health::Ok),
            (Some("none"), Some("none"), None, Health::Ok),
            (Some("ok"), Some("pending"), None, Health::Pending),
            (Some("in_progress"), Some("pending"), None, Health::InProgress),
            (Some("error"), Some("pending"), None, Health::Error),
            (Some("in_progress"), Some("error"), None, Health::Error),
            (Some("error"), Some("error"), Some(true), Health::Disabled),
        ] {
            let resource = resource(update, runtime, disabled);
            assert_eq!(Health::of(&resource), expected, "{resource:?}");
        }
    }

    #[test]
    fn each_resource_counts_once() {
        let resources = [
            resource(Some("ok"), Some("ok"), None),
            resource(Some("error"), Some("pending"), None),
            resource(Some("pending"), Some("pending"), None),
            resource(Some("pending"), None, Some(true)),
        ];
        let counts = count_by_health(&resources);
        assert_eq!(counts.in_order(), [1, 1, 1, 0, 0, 1]);
        assert_eq!(Health::ALL.map(|health| counts.get(health)), counts.in_order());
        assert_eq!(unfinished(&resources), 1);
    }

    #[test]
    fn a_resource_starts_automatically_by_trigger_mode() {
        for (trigger_mode, expected) in
            [(None, true), (Some(0), true), (Some(1), true), (Some(2), false), (Some(3), false)]
        {
            let enabled = Resource { trigger_mode, ..Resource::default() };
            assert_eq!(enabled.starts_automatically(), expected, "{trigger_mode:?}");
            let disabled = Resource { disabled: Some(true), ..enabled };
            assert!(!disabled.starts_automatically(), "{trigger_mode:?}");
        }
    }

    #[test]
    fn a_resource_that_waits_for_its_first_trigger_is_idle() {
        let manual =
            Resource { trigger_mode: Some(2), ..resource(Some("none"), Some("none"), None) };
        assert_eq!(Health::of(&manual), Health::Idle);
        let runs = Resource { runtime_status: Some("ok".into()), ..manual.clone() };
        assert_eq!(Health::of(&runs), Health::Ok);
        let waits = Resource { update_status: Some("pending".into()), ..manual };
        assert_eq!(Health::of(&waits), Health::Pending);
    }

    #[test]
    fn pod_trouble_is_an_error_unless_tilt_reports_ready() {
        let pod = |status: &str, ready: bool| Resource {
            pod_status: Some(status.into()),
            ready: Some(Condition { holds: ready, reason: None, since: None }),
            ..resource(Some("ok"), Some("pending"), None)
        };
        for status in ["CrashLoopBackOff", "Init:CrashLoopBackOff", "OOMKilled", "Init:Error"] {
            assert_eq!(Health::of(&pod(status, false)), Health::Error, "{status}");
            assert_ne!(Health::of(&pod(status, true)), Health::Error, "{status}");
        }
        for status in ["Running", "Pending", "ContainerCreating", "Init:0/1", "Completed"] {
            assert_eq!(Health::of(&pod(status, false)), Health::Pending, "{status}");
        }
    }
}

//! Why a resource is down at run time: a class and, if known, an exit code. Pure.

use crate::events::failure::classes::{COMMAND_FAILED, OTHER};
use crate::events::failure::pod_status;
use crate::tilt::model::{ContainerFailure, Resource};

/// A failure at run time, as opposed to one of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeFailure {
    /// The `error.type`.
    pub class: &'static str,
    /// The exit code of the container. Tilt shows none for a server or a Compose service.
    pub exit_code: Option<i64>,
}

impl RuntimeFailure {
    /// Classifies the failure of a resource, or returns `None` if the resource runs, starts or is
    /// disabled. `last` is the last failure of a container in the active pod: while Kubernetes waits
    /// to restart a container, it no longer shows how that container ended.
    pub fn of(resource: &Resource, last: Option<ContainerFailure>) -> Option<Self> {
        if resource.disabled == Some(true) || resource.is_ready() {
            return None;
        }
        let has_error = resource.runtime_status.as_deref() == Some("error");
        if !resource.is_on_kubernetes() {
            return has_error.then_some(Self { class: COMMAND_FAILED, exit_code: None });
        }
        let is_unschedulable = resource.pod.as_ref().is_some_and(|pod| pod.is_unschedulable);
        if is_unschedulable {
            return Some(Self { class: "unschedulable", exit_code: None });
        }
        if !has_error && !resource.has_pod_trouble() {
            return None;
        }
        let status = resource.pod_status.as_deref().unwrap_or_default();
        let class = class_of_pod(resource, status, last);
        let has_started = !matches!(class, "image_pull" | "pod_config" | "evicted");
        let exit_code = last.and_then(|last| last.exit_code).filter(|_| has_started);
        Some(Self { class, exit_code })
    }
}

fn class_of_pod(resource: &Resource, status: &str, last: Option<ContainerFailure>) -> &'static str {
    match pod_status::class_of(status) {
        // A container in a crash loop shows `Error` between its end and the next wait.
        Some("crash_loop" | COMMAND_FAILED) if last.is_some_and(|last| last.out_of_memory) => {
            "out_of_memory"
        }
        Some(COMMAND_FAILED) | None if resource.is_job => "job_failed",
        Some(COMMAND_FAILED) if was_restarted(resource) => "crash_loop",
        class => class.unwrap_or(OTHER),
    }
}

/// True if Kubernetes has restarted a container of the pod. Tilt's count leaves out init containers.
fn was_restarted(resource: &Resource) -> bool {
    let pod = resource.pod.as_ref();
    resource.pod_restarts > Some(0) || pod.is_some_and(|pod| pod.has_restarted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::{PodInfo, ResourceType, Timestamp};

    fn pod(status: &str, runtime_status: &str) -> Resource {
        Resource {
            resource_type: Some(ResourceType::K8s),
            pod_status: Some(status.into()),
            runtime_status: Some(runtime_status.into()),
            ..Resource::default()
        }
    }

    fn class(resource: &Resource, last: Option<ContainerFailure>) -> Option<&'static str> {
        RuntimeFailure::of(resource, last).map(|failure| failure.class)
    }

    const EXIT_3: Option<ContainerFailure> =
        Some(ContainerFailure { exit_code: Some(3), out_of_memory: false });
    const OUT_OF_MEMORY: Option<ContainerFailure> =
        Some(ContainerFailure { exit_code: Some(137), out_of_memory: true });

    #[test]
    fn a_crash_loop_has_the_exit_code_of_its_last_crash() {
        let failure = RuntimeFailure::of(&pod("CrashLoopBackOff", "pending"), EXIT_3);
        assert_eq!(failure, Some(RuntimeFailure { class: "crash_loop", exit_code: Some(3) }));
        let restarted = Resource { pod_restarts: Some(1), ..pod("Error", "pending") };
        assert_eq!(class(&restarted, EXIT_3), Some("crash_loop"));
        assert_eq!(class(&pod("Error", "pending"), EXIT_3), Some("command_failed"), "first crash");
    }

    #[test]
    fn an_init_container_that_was_restarted_is_in_a_crash_loop() {
        for (has_restarted, expected) in [(false, "command_failed"), (true, "crash_loop")] {
            let info = PodInfo {
                created_at: Timestamp::parse("2026-11-28T17:00:00Z").expect("a time"),
                scheduled_at: None,
                initialized_at: None,
                ready_at: None,
                is_unschedulable: false,
                container_failure: EXIT_3,
                failed_at: None,
                has_restarted,
            };
            let waiting = Resource { pod: Some(info), ..pod("Init:Error", "error") };
            assert_eq!(class(&waiting, EXIT_3), Some(expected));
        }
    }

    #[test]
    fn a_crash_loop_after_oom_is_out_of_memory() {
        let waiting = pod("CrashLoopBackOff", "pending");
        assert_eq!(class(&waiting, OUT_OF_MEMORY), Some("out_of_memory"));
        assert_eq!(class(&pod("OOMKilled", "pending"), None), Some("out_of_memory"));
    }

    #[test]
    fn a_failed_job_is_job_failed_unless_its_image_is_missing() {
        let job = |status| Resource { is_job: true, ..pod(status, "error") };
        let failure = RuntimeFailure::of(&job("Error"), EXIT_3);
        assert_eq!(failure, Some(RuntimeFailure { class: "job_failed", exit_code: Some(3) }));
        assert_eq!(class(&job("ImagePullBackOff"), None), Some("image_pull"));
    }

    #[test]
    fn a_pod_that_starts_has_no_failure() {
        for status in ["Pending", "ContainerCreating", "Init:0/1", "Running", "Completed"] {
            assert_eq!(class(&pod(status, "pending"), EXIT_3), None, "{status}");
        }
        let disabled = Resource { disabled: Some(true), ..pod("CrashLoopBackOff", "pending") };
        assert_eq!(class(&disabled, None), None);
    }

    #[test]
    fn a_server_that_exited_is_command_failed() {
        let local = Resource {
            resource_type: Some(ResourceType::Local),
            runtime_status: Some("error".into()),
            ..Resource::default()
        };
        assert_eq!(class(&local, None), Some("command_failed"));
    }
}

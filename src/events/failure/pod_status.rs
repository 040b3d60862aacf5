//! The class of a Kubernetes pod in trouble, from the status word that `kubectl get pods` and Tilt
//! show for it.

use super::classes::{COMMAND_FAILED, TABLE};

/// Returns the class for a pod status or a reason, or `None` if the word names no failure. The words
/// are those of the kubelet, the scheduler and the Job controller, with or without the prefix
/// `Init:`: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>.
///
/// A failed container of a Job has the same word as any other (`Error`); whether a Job failed is for
/// the caller to know.
pub fn class_of(status: &str) -> Option<&'static str> {
    let status = status.strip_prefix("Init:").unwrap_or(status);
    // `kubectl` prints these for a container without a reason.
    if status.strip_prefix("ExitCode:").is_some_and(|code| code != "0") {
        return Some(COMMAND_FAILED);
    }
    if status.starts_with("Signal:") {
        return Some("killed");
    }
    let class = TABLE.iter().find(|class| class.pod_statuses.contains(&status));
    class.map(|class| class.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_in_trouble_has_a_class() {
        for (status, class) in [
            ("CrashLoopBackOff", Some("crash_loop")),
            ("Init:CrashLoopBackOff", Some("crash_loop")),
            ("OOMKilled", Some("out_of_memory")),
            ("Init:OOMKilled", Some("out_of_memory")),
            ("ErrImagePull", Some("image_pull")),
            ("Init:ImagePullBackOff", Some("image_pull")),
            ("ErrImageNeverPull", Some("image_pull")),
            ("InvalidImageName", Some("image_pull")),
            ("CreateContainerConfigError", Some("pod_config")),
            ("CreateContainerError", Some("pod_config")),
            ("RunContainerError", Some("pod_config")),
            ("StartError", Some("pod_config")),
            ("ContainerCannotRun", Some("pod_config")),
            ("Evicted", Some("evicted")),
            ("Unschedulable", Some("unschedulable")),
            ("DeadlineExceeded", Some("job_failed")),
            ("BackoffLimitExceeded", Some("job_failed")),
            ("Error", Some("command_failed")),
            ("Init:Error", Some("command_failed")),
            ("Init:ExitCode:1", Some("command_failed")),
            ("Signal:9", Some("killed")),
            ("ExitCode:0", None),
            ("Running", None),
            ("Completed", None),
            ("Pending", None),
            ("PodInitializing", None),
            ("Init:0/1", None),
            ("ContainerCreating", None),
            ("Terminating", None),
            ("", None),
        ] {
            assert_eq!(class_of(status), class, "{status}");
        }
    }
}

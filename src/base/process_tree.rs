//! Ends child processes together with every process that they started.

#[cfg(unix)]
pub use unix::{ProcessTree, end_children_with_this_process};
#[cfg(windows)]
pub use windows::{ProcessTree, end_children_with_this_process};

#[cfg(unix)]
mod unix {
    use rustix::process::{Pid, Signal, kill_process_group};

    /// The process group of a child that runs in [`crate::base::child::ProcessGroup::Own`].
    #[derive(Debug)]
    pub struct ProcessTree(Option<Pid>);

    impl ProcessTree {
        /// The child and everything that it starts.
        pub fn of(pid: u32) -> Self {
            Self(i32::try_from(pid).ok().and_then(Pid::from_raw))
        }

        /// Kills the child and everything that it started.
        pub fn kill(&self) {
            if let Some(group) = self.0 {
                // It may be gone already.
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }

    /// Does nothing. On Unix, a child that prints ends when its pipe has no reader.
    pub fn end_children_with_this_process() {}
}

#[cfg(windows)]
mod windows {
    use std::sync::{Mutex, PoisonError};

    use win32job::{ExtendedLimitInfo, Job, JobError};
    use winsafe::{HPROCESS, co};

    /// A job object with a child. It ends all its processes when it is dropped. `None` if the child
    /// had exited, and after a kill.
    #[derive(Debug)]
    pub struct ProcessTree(Mutex<Option<Job>>);

    impl ProcessTree {
        /// The child and everything that it starts from now on.
        pub fn of(pid: u32) -> Self {
            let job = new_job().ok().filter(|job| assign(job, pid));
            Self(Mutex::new(job))
        }

        /// Kills the child and everything that it started.
        pub fn kill(&self) {
            drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// A job whose processes end with its last handle.
    fn new_job() -> Result<Job, JobError> {
        Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close())
    }

    fn assign(job: &Job, pid: u32) -> bool {
        let access = co::PROCESS::SET_QUOTA | co::PROCESS::TERMINATE;
        HPROCESS::OpenProcess(access, false, pid)
            .is_ok_and(|process| job.assign_process(process.ptr().addr().cast_signed()).is_ok())
    }

    /// Makes Windows end all children that start from now on when this process ends, even if it is
    /// killed.
    pub fn end_children_with_this_process() {
        let joined = new_job().and_then(|job| {
            job.assign_current_process()?;
            Ok(job)
        });
        match joined {
            // The handle stays open until this process ends.
            Ok(job) => drop(job.into_handle()),
            Err(error) => log::debug!("children may outlive this process: {error}"),
        }
    }
}

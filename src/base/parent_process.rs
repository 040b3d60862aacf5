//! Detects that the process that started this one has exited.

#[cfg(unix)]
use rustix::process::{Pid, getppid};
#[cfg(windows)]
use winsafe::{
    GetCurrentProcessId, HPROCESS, HPROCESSLIST, SysResult, co, guard::CloseHandleGuard,
};

/// Asks this process to end as soon as its parent has exited. Only Linux can do that.
#[cfg(target_os = "linux")]
pub fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    // Without it, a sidecar ends once Tilt is gone.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
}

#[cfg(not(target_os = "linux"))]
pub fn end_with_parent() {}

/// The parent process at one point in time. When it exits, Unix assigns another parent.
#[cfg(unix)]
#[derive(Debug)]
pub struct ParentProcess(Option<Pid>);

#[cfg(unix)]
impl ParentProcess {
    /// The parent of this process.
    pub fn current() -> Self {
        Self(getppid())
    }

    /// True once it has exited.
    pub fn has_exited(&self) -> bool {
        getppid() != self.0
    }
}

/// The parent process at one point in time. While this handle is open, no other process can get its
/// id. `None` if the parent had exited before.
#[cfg(windows)]
pub struct ParentProcess(Option<CloseHandleGuard<HPROCESS>>);

#[cfg(windows)]
impl std::fmt::Debug for ParentProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParentProcess").finish_non_exhaustive()
    }
}

#[cfg(windows)]
impl ParentProcess {
    /// The parent of this process.
    pub fn current() -> Self {
        let open = |id| HPROCESS::OpenProcess(co::PROCESS::SYNCHRONIZE, false, id);
        Self(parent_id().and_then(open).ok())
    }

    /// True once it has exited.
    pub fn has_exited(&self) -> bool {
        // A process is signalled when it has exited.
        let is_signalled = |parent: &CloseHandleGuard<HPROCESS>| {
            parent.WaitForSingleObject(Some(0)) == Ok(co::WAIT::OBJECT_0)
        };
        self.0.as_ref().is_none_or(is_signalled)
    }
}

#[cfg(windows)]
fn parent_id() -> SysResult<u32> {
    let this = GetCurrentProcessId();
    let mut list = HPROCESSLIST::CreateToolhelp32Snapshot(co::TH32CS::SNAPPROCESS, None)?;
    let mut processes = list.iter_processes().filter_map(Result::ok);
    let entry = processes.find(|process| process.th32ProcessID == this);
    entry.map(|process| process.th32ParentProcessID).ok_or(co::ERROR::NOT_FOUND)
}

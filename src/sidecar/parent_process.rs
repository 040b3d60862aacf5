//! Detects that the process that started this one has exited.

#[cfg(unix)]
use rustix::process::{Pid, getppid};
#[cfg(windows)]
use winsafe::{
    GetCurrentProcessId, HPROCESS, HPROCESSLIST, SysResult, co, guard::CloseHandleGuard,
};

/// The parent process at one point in time. When it exits, Unix assigns another parent.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct ParentProcess(Option<Pid>);

#[cfg(unix)]
impl ParentProcess {
    pub(super) fn current() -> Self {
        Self(getppid())
    }

    pub(super) fn has_exited(&self) -> bool {
        getppid() != self.0
    }
}

/// The parent process at one point in time. While this handle is open, no other process can get its
/// id. `None` if the parent had exited before.
#[cfg(windows)]
pub(super) struct ParentProcess(Option<CloseHandleGuard<HPROCESS>>);

#[cfg(windows)]
impl ParentProcess {
    pub(super) fn current() -> Self {
        let open = |id| HPROCESS::OpenProcess(co::PROCESS::SYNCHRONIZE, false, id);
        Self(parent_id().and_then(open).ok())
    }

    pub(super) fn has_exited(&self) -> bool {
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

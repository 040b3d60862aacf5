//! Detects that the process that started this one has exited.

/// The parent process at one point in time. When it exits, the system assigns another parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct ParentProcess(#[cfg(unix)] Option<rustix::process::Pid>);

#[cfg(unix)]
impl ParentProcess {
    pub(super) fn current() -> Self {
        Self(rustix::process::getppid())
    }

    pub(super) fn has_exited(self) -> bool {
        rustix::process::getppid() != self.0
    }
}

/// Windows does not report that a parent exited. There, Tilt ends its child processes itself.
#[cfg(not(unix))]
impl ParentProcess {
    pub(super) fn current() -> Self {
        Self()
    }

    pub(super) fn has_exited(self) -> bool {
        false
    }
}

//! The process that started this one, and whether it is still there.

/// A process whose parent ends is given another one.
#[derive(Debug, Clone, Copy)]
pub struct ParentProcess(#[cfg(unix)] Option<rustix::process::Pid>);

#[cfg(unix)]
impl ParentProcess {
    pub fn now() -> Self {
        Self(rustix::process::getppid())
    }

    pub fn is_gone(self) -> bool {
        rustix::process::getppid() != self.0
    }
}

/// Windows tells nothing of a parent's end; there Tilt ends its children itself.
#[cfg(not(unix))]
impl ParentProcess {
    pub fn now() -> Self {
        Self()
    }

    pub fn is_gone(self) -> bool {
        false
    }
}

//! Programs that are run in a process group of their own, so that they can be killed with everything
//! they started, and so that a signal to ours does not cut them short.

use std::process::Command;

#[cfg(unix)]
pub fn own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub fn own(_command: &mut Command) {}

#[cfg(unix)]
pub fn kill(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
pub fn kill(_pid: u32) {}

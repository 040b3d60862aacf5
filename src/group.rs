//! Programs that are run in a process group of their own, so that they can be killed with everything
//! they started, and so that a signal to ours does not cut them short.

use std::io;
use std::process::Command;

use duct::Handle;

#[cfg(unix)]
pub fn own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub fn own(_command: &mut Command) {}

/// A program that was given its own group, with all that it started.
pub fn kill(program: &Handle) -> io::Result<()> {
    program.pids().into_iter().for_each(kill_group);
    program.kill()
}

#[cfg(unix)]
fn kill_group(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_pid: u32) {}

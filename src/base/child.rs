//! Starts child processes. Every other program gets no standard input and never the API key.

use std::ffi::OsString;
use std::io;

/// The environment variable that holds the API key. No other program inherits it.
pub const KEY_VARIABLE: &str = "HONEYCOMB_API_KEY";

/// Which process group a child runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessGroup {
    /// A group of its own, so that [`crate::base::process_tree`] can end it with everything it
    /// started, and a signal to this program's group does not reach it.
    Own,
    /// This program's group, so that a signal to the group ends both.
    Shared,
}

/// A command that is safe to start: null standard input and no API key. A non-zero exit status is
/// not an error.
pub fn command<P, A>(program: P, arguments: A, group: ProcessGroup) -> duct::Expression
where
    P: duct::IntoExecutablePath,
    A: IntoIterator,
    A::Item: Into<OsString>,
{
    duct::cmd(program, arguments)
        .stdin_null()
        .env_remove(KEY_VARIABLE)
        .before_spawn(move |command| {
            set_group(command, group);
            Ok(())
        })
        .unchecked()
}

/// The names of this process's variables that start with `prefix`.
pub fn variables_with_prefix(prefix: &str) -> Vec<OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes())).collect()
}

/// This program itself, in a process group of its own. It inherits everything else, with the API key.
pub fn this_program(arguments: &[OsString]) -> io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    set_group(command.args(arguments), ProcessGroup::Own);
    Ok(command)
}

/// Asks a child to end. Windows has no such request.
#[cfg(unix)]
pub fn terminate(child: &std::process::Child) {
    use rustix::process::{Pid, Signal, kill_process};
    // It may be gone already.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}

#[cfg(not(unix))]
pub fn terminate(_child: &std::process::Child) {}

#[cfg(unix)]
fn set_group(command: &mut std::process::Command, group: ProcessGroup) {
    use std::os::unix::process::CommandExt;
    if group == ProcessGroup::Own {
        command.process_group(0);
    }
}

#[cfg(not(unix))]
fn set_group(_command: &mut std::process::Command, _group: ProcessGroup) {}

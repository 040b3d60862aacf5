//! Runs a sidecar beside `tilt ci` in a process of its own. Tilt treats any exit of a sidecar as a
//! failure of the job, and a process cannot always prevent its end: it may panic, a memory allocation
//! may fail, or the system may kill it for lack of memory.

use std::ffi::OsString;
use std::io;
use std::process::Child;
use std::time::Duration;

use crate::base::child;
use crate::base::parent_process::{self, ParentProcess};
use crate::base::retry_start::retry_start;
use crate::base::shutdown::{self, Shutdown};
use crate::base::time;
use crate::commands::idle::IDLING;
use crate::config::environment::Environment;
use crate::exit_code::Exit;
use crate::tilt::command::TiltMode;

/// Set for the process that is supervised.
const SUPERVISED: &str = "TILT_HONEYCOMB_SUPERVISED";

/// How often the supervisor checks whether the sidecar and its own parent still run.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// True for a sidecar beside `tilt ci` that has no supervisor yet.
pub fn is_needed(environment: &Environment, ends_by_itself: bool) -> bool {
    let is_beside_ci = !ends_by_itself && environment.tilt_mode() == Some(TiltMode::Ci);
    is_beside_ci && !is_supervised(environment)
}

/// Makes a supervised process end with its supervisor.
pub fn end_with_supervisor(environment: &Environment) {
    if is_supervised(environment) {
        parent_process::end_with_parent();
    }
}

fn is_supervised(environment: &Environment) -> bool {
    environment.text(SUPERVISED).is_some()
}

/// Runs this program again with the same arguments, and passes a request to stop on. If the sidecar ends
/// without one, idles until Tilt stops this process or has exited.
pub fn run(arguments: &[OsString]) -> Exit {
    let shutdown = Shutdown::default();
    let parent = ParentProcess::current();
    let handle_signals = || shutdown::on_signals(&shutdown, || ());
    let started = retry_start(&shutdown, "a thread", handle_signals)
        .and_then(|()| retry_start(&shutdown, "the collector", || start(arguments)));
    if let Some(mut sidecar) = started {
        let is_running = || matches!(sidecar.try_wait(), Ok(None));
        if wait_while(is_running, &parent, &shutdown) {
            log::warn!("the collector has ended; {IDLING}");
            wait_while(|| true, &parent, &shutdown);
        } else if shutdown.requested() {
            stop(&mut sidecar);
        }
        // Otherwise Tilt is gone, or its process that started this one. On Linux the sidecar now ends with this
        // process, and elsewhere once Tilt is gone.
    }
    Exit::Done
}

/// Starts the sidecar in a process group of its own. A signal to this process's group would reach it twice,
/// and a second one ends it at once.
fn start(arguments: &[OsString]) -> io::Result<Child> {
    child::this_program(arguments)?.env(SUPERVISED, "1").spawn()
}

/// Returns true once the condition no longer holds, and false if a stop was requested or the parent has
/// exited before.
fn wait_while(
    mut condition: impl FnMut() -> bool,
    parent: &ParentProcess,
    shutdown: &Shutdown,
) -> bool {
    while !parent.has_exited() {
        if !condition() {
            return true;
        }
        if shutdown.wait_until(time::now() + CHECK_INTERVAL) {
            return false;
        }
    }
    false
}

/// Asks the sidecar to stop, and waits until it has.
fn stop(sidecar: &mut Child) {
    child::terminate(sidecar);
    let _ = sidecar.wait();
}

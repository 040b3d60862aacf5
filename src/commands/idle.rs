//! Keeps a process alive that has nothing to do. Tilt treats the exit of a sidecar as a failure,
//! and under `tilt ci` that fails the job.

use std::io::{self, Write};

use crate::base::child;
use crate::base::shutdown::{self, Shutdown};
use crate::config::environment::Environment;
use crate::exit_code::Exit;
use crate::tilt::command::TiltMode;

const IDLING: &str = "staying idle, because an exit would fail tilt ci";

/// Reports a panic and ends the program with `exit`, without a core dump that would hold the key.
/// A sidecar beside `tilt ci` is replaced by a process that sleeps.
#[expect(clippy::exit, reason = "after a panic, no thread can be relied on")]
pub fn on_panic(exit: Exit, ends_by_itself: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(io::stderr(), "tilt-honeycomb: {panic}");
        if is_beside_ci(&Environment::of_process(), ends_by_itself) {
            let _ = writeln!(io::stderr(), "tilt-honeycomb: {IDLING}");
            child::replace_with_sleep();
        }
        std::process::exit(exit as i32);
    }));
}

/// Does nothing, because `variable` asks for it. A sidecar waits for a signal first.
pub fn opted_out(variable: &str, ends_by_itself: bool) -> Exit {
    let message = format!("{variable} is set: nothing is read and nothing is sent");
    if ends_by_itself {
        log::warn!("{message}");
    } else {
        wait_for_signal(&message);
    }
    Exit::Done
}

/// The exit code of a run. A sidecar beside `tilt ci` that failed waits for a signal instead.
pub fn instead_of_failing_ci(exit: Exit, environment: &Environment, ends_by_itself: bool) -> Exit {
    if exit == Exit::Done || !is_beside_ci(environment, ends_by_itself) {
        return exit;
    }
    wait_for_signal(IDLING);
    Exit::Done
}

fn is_beside_ci(environment: &Environment, ends_by_itself: bool) -> bool {
    !ends_by_itself && environment.tilt_mode() == Some(TiltMode::Ci)
}

/// Waits for a signal. Logs `why` only once signals are handled, because its reader may send one.
fn wait_for_signal(why: &str) {
    let shutdown = Shutdown::default();
    // Without a free thread, a signal ends the process by itself.
    let _ = shutdown::on_signals(&shutdown, || ());
    log::warn!("{why}");
    shutdown.wait();
}

//! Keeps a process alive that has nothing to do. Tilt treats the exit of a sidecar as a failure.

use crate::base::shutdown::{self, Shutdown};
use crate::exit_code::Exit;

/// Why a process that has nothing to do goes on.
pub const IDLING: &str = "staying idle, because an exit would fail tilt ci";

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

/// Waits for a signal, because an exit would fail `tilt ci`.
pub fn instead_of_failing_ci() -> Exit {
    wait_for_signal(IDLING);
    Exit::Done
}

/// Waits for a signal. Logs `why` only once signals are handled, because its reader may send one.
fn wait_for_signal(why: &str) {
    let shutdown = Shutdown::default();
    // Without a free thread, a signal ends the process by itself.
    let _ = shutdown::on_signals(&shutdown, || ());
    log::warn!("{why}");
    shutdown.wait();
}

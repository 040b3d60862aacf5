//! Ends a command within a second after the first signal, even during a DNS lookup, or if an input or
//! output pipe is blocked.
//!
//! Everything that must survive is on disk at any moment, so the process may end anywhere.

use std::thread;
use std::time::Duration;

use crate::base::shutdown::{self, Shutdown};
use crate::exit_code::Exit;

/// How long a request may still take after a signal. Events whose response is lost are sent again.
const RESPONSE_GRACE: Duration = Duration::from_millis(300);
/// How long the command then has to log what happened and to end by itself.
const END_GRACE: Duration = Duration::from_millis(200);

/// Returns a shutdown that the first signal requests. After [`RESPONSE_GRACE`], `interrupt` ends a
/// request without a response. After another [`END_GRACE`], the process ends with the exit code
/// `stuck`. If the system allows no more threads, a signal ends the process at once.
pub(super) fn on_signals(interrupt: impl FnOnce() + Send + 'static, stuck: Exit) -> Shutdown {
    let shutdown = Shutdown::default();
    if let Err(error) = shutdown::on_signals(&shutdown, || log::debug!("asked to stop")) {
        log::debug!("cannot handle signals: {error}");
    }
    let requested = shutdown.clone();
    let timer = thread::Builder::new().name("stop".into()).spawn(move || {
        requested.wait();
        end(interrupt, stuck);
    });
    // If no thread can start, the request still has its timeout, and a second signal ends the
    // program.
    drop(timer);
    shutdown
}

#[expect(clippy::disallowed_methods, reason = "this thread only waits; the command does not")]
fn end(interrupt: impl FnOnce(), stuck: Exit) {
    thread::sleep(RESPONSE_GRACE);
    interrupt();
    thread::sleep(END_GRACE);
    if log::log_enabled!(log::Level::Error) {
        shutdown::print_without_waiting("tilt-honeycomb: stopped by a signal");
    }
    shutdown::exit_at_once(stuck as i32);
}

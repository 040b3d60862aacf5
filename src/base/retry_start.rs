//! Starts threads and processes on a system that may allow no more of them at the moment.

use std::io;
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;

/// How often a start is tried.
const PAUSE: Duration = Duration::from_secs(5);

/// Repeats `start` until it succeeds. Logs the first error; `what` names what cannot be started.
/// Returns `None` if a shutdown is requested first.
pub fn retry_start<T>(
    shutdown: &Shutdown,
    what: &str,
    mut start: impl FnMut() -> io::Result<T>,
) -> Option<T> {
    let mut is_logged = false;
    loop {
        match start() {
            Ok(started) => return Some(started),
            Err(error) if !is_logged => {
                log::warn!("cannot start {what}: {error}; retrying every {}s", PAUSE.as_secs());
                is_logged = true;
            }
            Err(_) => {}
        }
        if shutdown.wait_until(time::now() + PAUSE) {
            return None;
        }
    }
}

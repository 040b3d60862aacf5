//! Prepares the process for a system that runs out of memory or disk space.

/// Turns deaths by a signal into errors and exits. Call it once, at the start.
///
/// - No core dump is written, because it would hold the API key.
/// - A write beyond the limit for the size of a file fails with an error.
/// - A failed allocation ends the process with the exit code `on_abort`.
#[cfg(unix)]
pub fn prepare(on_abort: i32) {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use signal_hook::consts::{SIGABRT, SIGXFSZ};
    use signal_hook::flag;

    // A lower limit is always allowed. Errors leave everything as it was.
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    let _ = setrlimit(Resource::Core, limit);
    // Handled and not ignored, because child processes inherit ignored signals.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let _ = flag::register_conditional_shutdown(SIGABRT, on_abort, Arc::new(AtomicBool::new(true)));
}

/// Windows has neither core dumps nor such limits.
#[cfg(not(unix))]
pub fn prepare(_on_abort: i32) {}

//! Turns signals into a shutdown request, which ends every wait of this program.
//!
//! The first SIGTERM, SIGINT or SIGHUP requests a shutdown. A second one ends the process at once,
//! which is safe because everything that must survive is on disk by then.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::time;

/// A shutdown request that all threads share. `Shutdown::default()` is not requested.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<(Mutex<bool>, Condvar)>);

impl Shutdown {
    /// Requests the shutdown and wakes every wait.
    pub fn request(&self) {
        *self.requested_flag() = true;
        self.0.1.notify_all();
    }

    /// True once the shutdown was requested.
    pub fn requested(&self) -> bool {
        *self.requested_flag()
    }

    /// Waits until the shutdown is requested.
    pub fn wait(&self) {
        let requested = self.requested_flag();
        drop(self.0.1.wait_while(requested, |requested| !*requested));
    }

    /// Waits until `until` or until the shutdown is requested. Returns true if it was requested.
    pub fn wait_until(&self, until: Instant) -> bool {
        let mut requested = self.requested_flag();
        while !*requested {
            let left = until.saturating_duration_since(time::now());
            if left.is_zero() {
                return false;
            }
            requested =
                self.0.1.wait_timeout(requested, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ignores a poisoned lock: a thread that panicked cannot leave the flag half written.
    fn requested_flag(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that requests the shutdown at the first SIGTERM, SIGINT or SIGHUP and then calls
/// `on_first`. A second signal ends the process with exit code 128 plus the signal's number. A SIGHUP
/// that was ignored at the start stays ignored. Fails if the handlers or the thread cannot be set up;
/// then a signal still ends the process, as the system does by default.
#[cfg(unix)]
pub fn on_signals(
    shutdown: &Shutdown,
    on_first: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let shutdown = shutdown.clone();
    let (sender, is_set_up) = std::sync::mpsc::sync_channel(1);
    // The thread is first: handlers without a thread would swallow every signal.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let signals = handled_signals();
        let error = signals.as_ref().err().map(std::io::Error::kind);
        let _ = sender.send(error.map_or(Ok(()), |kind| Err(kind.into())));
        let Ok(mut signals) = signals else { return };
        // One iterator for both signals: between two iterators, a signal could get lost.
        let mut signals = signals.forever();
        if signals.next().is_some() {
            shutdown.request();
            on_first();
        }
        if let Some(signal) = signals.next() {
            signal_hook::low_level::exit(128 + signal);
        }
    })?;
    is_set_up.recv().unwrap_or_else(|_| Err(std::io::Error::other("the signal thread has ended")))
}

#[cfg(unix)]
fn handled_signals() -> std::io::Result<signal_hook::iterator::Signals> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    if !is_hangup_ignored() {
        signals.add_signal(SIGHUP)?;
    }
    Ok(signals)
}

/// Prints a line on stderr, unless that would block. It uses no lock, because a thread that waits for
/// a reader of stderr holds it.
#[cfg(unix)]
pub fn print_without_waiting(line: &str) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = std::io::stderr();
    let is_ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec::default()));
    // A ready pipe has room for a whole page, and a line is shorter.
    if is_ready == Ok(1) {
        let _ = rustix::io::write(&stderr, format!("{line}\n").as_bytes());
    }
}

#[cfg(not(unix))]
pub fn print_without_waiting(_line: &str) {}

/// Ends the process at once, even while another thread holds the lock of stdout or stderr.
#[cfg(unix)]
pub fn exit_at_once(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

#[cfg(not(unix))]
#[expect(clippy::exit, reason = "the other threads are stuck")]
pub fn exit_at_once(code: i32) -> ! {
    std::process::exit(code)
}

/// True if this process was started with SIGHUP ignored, as `nohup` does. Only Linux shows that.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    const HANGUP_BIT: u64 = 1;
    // proc_pid_status(5): a mask in hexadecimal, whose lowest bit is signal 1.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & HANGUP_BIT != 0)
}

/// Windows ends a console program by itself. Everything that must survive is on disk at any moment.
#[cfg(not(unix))]
pub fn on_signals(
    _shutdown: &Shutdown,
    _on_first: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    Ok(())
}

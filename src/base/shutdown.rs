//! Signals become a request to stop, which every wait of this program hears.
//!
//! The first SIGTERM, SIGINT or SIGHUP asks; a second one ends the process at once, which is safe
//! because all that matters is on disk by then.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::time;

/// A request to stop, shared by all threads. One that nobody ever requests is `Shutdown::default()`.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<(Mutex<bool>, Condvar)>);

impl Shutdown {
    pub fn request(&self) {
        *self.requested_flag() = true;
        self.0.1.notify_all();
    }

    pub fn requested(&self) -> bool {
        *self.requested_flag()
    }

    /// Waits until asked to stop.
    pub fn wait(&self) {
        let requested = self.requested_flag();
        drop(self.0.1.wait_while(requested, |requested| !*requested));
    }

    /// Waits until then, or until asked to stop: true if asked.
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

    /// A flag is right whatever a thread that held it did.
    fn requested_flag(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has signals request a stop, and call `on_first` once.
#[cfg(unix)]
pub fn on_signals(
    shutdown: &Shutdown,
    on_first: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let shutdown = shutdown.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        // Each signal from here on is told by this one way: none falls between two.
        let mut signals = signals.forever();
        if signals.next().is_some() {
            shutdown.request();
            on_first();
        }
        if let Some(signal) = signals.next() {
            signal_hook::low_level::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Windows ends a console program itself; what matters is on disk at any moment.
#[cfg(not(unix))]
pub fn on_signals(
    _stop: &Shutdown,
    _on_first: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    Ok(())
}

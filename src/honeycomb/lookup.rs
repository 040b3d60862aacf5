//! Looks up the addresses of a host.
//!
//! The system's lookup has no timeout, and a name server that never answers holds it for many seconds.
//! Therefore it runs in a thread that is left behind when the time is up or the program is to stop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::base::time;

/// How often a lookup checks whether it is to end.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The lookups of one client. Clones share the interruption.
#[derive(Debug, Clone, Default)]
pub struct Lookups {
    is_interrupted: Arc<AtomicBool>,
}

/// The reason why the lookup gave no addresses.
#[derive(Debug)]
pub enum LookupError {
    TimedOut,
    Interrupted,
    Failed(io::Error),
}

impl Lookups {
    /// Ends the current lookups and all later ones.
    pub fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
    }

    /// The addresses of `host:port`, within `limit`. An IP address needs no lookup. If the system
    /// allows no more threads, the lookup runs in this one, where nothing ends it early.
    pub fn addresses(&self, host: &str, limit: Duration) -> Result<Vec<SocketAddr>, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let deadline = time::now() + limit;
        let (sender, result) = mpsc::channel();
        let name = host.to_owned();
        let thread = thread::Builder::new().name("lookup".into()).spawn(move || {
            // The receiver is gone if the time is up.
            let _ = sender.send(look_up(&name));
        });
        if thread.is_err() {
            return look_up(host).map_err(LookupError::Failed);
        }
        loop {
            if self.is_interrupted.load(Ordering::Relaxed) {
                return Err(LookupError::Interrupted);
            }
            let left = deadline.saturating_duration_since(time::now());
            match result.recv_timeout(left.min(CHECK_INTERVAL)) {
                Ok(addresses) => return addresses.map_err(LookupError::Failed),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(LookupError::TimedOut);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(LookupError::Failed(io::Error::other("the lookup failed")));
                }
            }
        }
    }
}

fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(host.to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn an_address_needs_no_lookup() {
        let lookups = Lookups::default();
        lookups.interrupt();
        for address in ["127.0.0.1:80", "[::1]:443"] {
            let found = lookups.addresses(address, Duration::ZERO).expect("an address");
            assert_eq!(found, [address.parse().expect("an address")]);
        }
    }

    #[test]
    fn an_interruption_ends_every_later_lookup() {
        let lookups = Lookups::default();
        assert!(lookups.addresses("localhost:80", LONG).is_ok_and(|found| !found.is_empty()));
        lookups.clone().interrupt();
        let result = lookups.addresses("localhost:80", LONG);
        assert!(matches!(result, Err(LookupError::Interrupted)), "{result:?}");
    }
}

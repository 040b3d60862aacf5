//! Why the state folder or a file in it cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spool::codec::DecodeError;

/// How long to wait for the lock of the state. A change takes milliseconds, so a collector that
/// holds the lock for longer is suspended or hangs.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the state cannot be read or written. Each message says what to do.
#[derive(Debug)]
pub enum StoreError {
    Io {
        /// The action that failed, as a verb.
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A later version of this program wrote the state, which is left alone.
    Newer { path: PathBuf, error: DecodeError },
    /// Another collector holds the lock of the state.
    Busy { path: PathBuf },
    /// Every user of the machine could change the events.
    Exposed { path: PathBuf },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, source } => write!(
                f,
                "cannot {what} {}: {source}; choose another folder with --state-dir",
                path.display()
            ),
            Self::Newer { path, error } => write!(
                f,
                "cannot use {}: {error}; update tilt-honeycomb or choose another folder with \
                 --state-dir",
                path.display()
            ),
            Self::Busy { path } => write!(
                f,
                "another collector has held {} for {} seconds; resume or end it",
                path.display(),
                LOCK_TIMEOUT.as_secs()
            ),
            Self::Exposed { path } => write!(
                f,
                "everyone may write to the state folder {}; run chmod 700 on it or choose another \
                 folder with --state-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// True if the same attempt may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Io { .. })
    }
}

pub type StoreResult<T> = std::result::Result<T, StoreError>;

/// Adds what was tried on which path to an error of the system.
pub fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

//! The exit codes. The help lists them, and `docs/operations.md` explains them.

use std::process::ExitCode;

use crate::tilt::error::TiltError;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// The state, the snapshot or the output of `tilt` cannot be read, or something else failed.
    Unexpected = 1,
    /// The arguments or the environment are invalid.
    Usage = 2,
    /// `tilt` is missing, does not respond in time, or finds no running Tilt.
    NoTilt = 3,
    /// Events stay queued for the next run.
    NotDelivered = 4,
    /// Honeycomb rejected the key, the dataset or an event.
    Rejected = 5,
}

impl Exit {
    /// The exit code of a run whose poll of Tilt failed.
    pub fn of_failed_poll(error: &TiltError) -> Self {
        match error {
            TiltError::NotInstalled { .. }
            | TiltError::NotRunning { .. }
            | TiltError::TimedOut { .. } => Self::NoTilt,
            TiltError::Stopped => Self::NotDelivered,
            _ => Self::Unexpected,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

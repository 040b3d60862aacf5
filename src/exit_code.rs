//! The exit codes, in one place; the README's table is checked against it.

use std::process::ExitCode;

use crate::tilt::error::TiltError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Unexpected = 1,
    /// Of the arguments or the environment.
    Usage = 2,
    NoTilt = 3,
    /// Kept for next time.
    NotDelivered = 4,
    /// By Honeycomb: the key, the dataset, or an event.
    Refused = 5,
}

/// Every code with what it means.
pub const TABLE: &[(Exit, &str)] = &[
    (Exit::Done, "done"),
    (Exit::Unexpected, "unexpected"),
    (Exit::Usage, "usage or configuration"),
    (Exit::NoTilt, "no Tilt reachable"),
    (Exit::NotDelivered, "not delivered, kept for next time"),
    (Exit::Refused, "refused by Honeycomb"),
];

impl Exit {
    /// What a look that showed nothing means.
    pub fn no_snapshot(error: &TiltError) -> Self {
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

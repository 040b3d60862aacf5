//! The state of an environment, as the `session` event shows it. Pure.

use serde::{Deserialize, Serialize};

/// The state of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvironmentState {
    /// The start-up is not over, and nothing is in error.
    Starting,
    /// A resource is in error, the cluster is unreachable, or the start-up timed out and a resource
    /// that starts automatically has never been ready.
    Unhealthy,
    /// Nothing is in error, and something is busy.
    Updating,
    Healthy,
}

impl EnvironmentState {
    /// The value of the field `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Unhealthy => "unhealthy",
            Self::Updating => "updating",
            Self::Healthy => "healthy",
        }
    }

    /// The value of the field `healthy`. `None` while nobody can tell.
    pub fn is_healthy(self) -> Option<bool> {
        match self {
            Self::Starting => None,
            Self::Unhealthy => Some(false),
            Self::Updating | Self::Healthy => Some(true),
        }
    }
}

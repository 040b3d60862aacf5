//! How long a pod has been in trouble. Pure.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::base::time::{from_unix_micros, unix_micros};

/// A pod that was in trouble for this long in total has failed. Init containers that wait for a
/// database fail and recover all the time.
const POD_GRACE: Duration = Duration::from_secs(30);

/// The trouble of a resource. Kubernetes starts a failed container again and again. While such an
/// attempt runs, the trouble pauses; it is not over. Times are in Unix microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// When it began, as far as Tilt tells.
    since: u64,
    /// When it was first observed after the last pause. `None` during a pause.
    seen_at: Option<u64>,
    /// How long it lasted before the last pause, in microseconds.
    lasted: u64,
}

impl Trouble {
    /// Trouble that is first observed now and began at `since`.
    pub fn begin(since: SystemTime, now: SystemTime) -> Self {
        Self { since: unix_micros(since), seen_at: Some(unix_micros(now)), lasted: 0 }
    }

    /// Observes that the resource is in trouble.
    #[must_use]
    pub fn resumed(self, now: SystemTime) -> Self {
        Self { seen_at: self.seen_at.or(Some(unix_micros(now))), ..self }
    }

    /// Observes that the resource is not in trouble.
    #[must_use]
    pub fn paused(self, now: SystemTime) -> Self {
        Self { seen_at: None, lasted: self.total(now), ..self }
    }

    /// True unless the trouble pauses.
    pub fn is_current(self) -> bool {
        self.seen_at.is_some()
    }

    /// When it began, in Unix microseconds.
    pub fn since(self) -> u64 {
        self.since
    }

    /// When it was first observed after the last pause.
    pub fn seen_at(self) -> Option<SystemTime> {
        self.seen_at.map(from_unix_micros)
    }

    /// True if it has lasted so long that the pod has failed.
    pub fn is_failure(self, now: SystemTime) -> bool {
        self.time_left(now).is_zero()
    }

    /// The time in trouble after which the pod has failed.
    pub fn time_left(self, now: SystemTime) -> Duration {
        POD_GRACE.saturating_sub(Duration::from_micros(self.total(now)))
    }

    /// How long it has lasted without the pauses, in microseconds.
    fn total(self, now: SystemTime) -> u64 {
        let current = self.seen_at.map(|seen_at| unix_micros(now).saturating_sub(seen_at));
        self.lasted + current.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + second)
    }

    #[test]
    fn trouble_of_thirty_seconds_is_a_failure() {
        let trouble = Trouble::begin(at(0), at(2));
        assert_eq!(trouble.time_left(at(12)), Duration::from_secs(20));
        assert!(!trouble.is_failure(at(31)));
        assert!(trouble.is_failure(at(32)), "since it was observed");
        assert_eq!(trouble.since(), unix_micros(at(0)));
    }

    #[test]
    fn attempts_between_failures_do_not_count_but_failures_add_up() {
        let mut trouble = Trouble::begin(at(0), at(0));
        for second in [10, 40] {
            trouble = trouble.paused(at(second));
            assert!(!trouble.is_current());
            assert!(!trouble.is_failure(at(second + 1000)), "it pauses");
            trouble = trouble.resumed(at(second + 20));
        }
        assert_eq!(trouble.time_left(at(60)), Duration::from_secs(10));
        assert!(trouble.is_failure(at(70)));
        assert!(trouble.paused(at(70)).is_failure(at(71)), "an attempt fixes nothing yet");
        assert_eq!(trouble.since(), unix_micros(at(0)));
    }
}

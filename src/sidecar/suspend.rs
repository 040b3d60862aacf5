//! Notices that the machine was asleep: its clock on the wall went on, the one that waits are
//! measured by stood still. Pure.

use std::time::{Duration, Instant, SystemTime};

/// A wait this long may be cut short by nothing else; so soon a wakened machine is noticed.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Clocks drift, and are set; what is less is no sleep.
const SLEEP: Duration = Duration::from_secs(5);

/// The two clocks as they were when last compared.
#[derive(Debug, Clone, Copy)]
pub struct SuspendDetector {
    waiting: Instant,
    wall: SystemTime,
}

impl SuspendDetector {
    pub fn since(waiting: Instant, wall: SystemTime) -> Self {
        Self { waiting, wall }
    }

    /// Whether the machine was asleep since the last time. A clock that was set forward looks the
    /// same, and costs a report.
    pub fn was_asleep(&mut self, waiting: Instant, wall: SystemTime) -> bool {
        let before = std::mem::replace(self, Self { waiting, wall });
        let waited = waiting.saturating_duration_since(before.waiting);
        let passed = wall.duration_since(before.wall).unwrap_or_default();
        passed.saturating_sub(waited) > SLEEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant cannot be made up")]
    fn a_wall_clock_that_ran_ahead_tells_of_a_sleep() {
        let (instant, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_hours(9999));
        let asleep = |waited: u64, wall_after: SystemTime| {
            let mut awake = SuspendDetector::since(instant, wall);
            awake.was_asleep(instant + Duration::from_secs(waited), wall_after)
        };
        let later = |seconds| wall + Duration::from_secs(seconds);
        assert!(!asleep(60, later(60)));
        assert!(!asleep(60, later(64)));
        assert!(asleep(5, later(3600)));
        assert!(asleep(0, later(6)));
        // Stopped and continued, both clocks go on.
        assert!(!asleep(3600, later(3600)));
        // Set back, it says nothing.
        assert!(!asleep(5, wall - Duration::from_hours(24)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant cannot be made up")]
    fn a_sleep_is_told_once() {
        let (instant, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_hours(9999));
        let mut awake = SuspendDetector::since(instant, wall);
        assert!(awake.was_asleep(instant, wall + Duration::from_mins(10)));
        let second = Duration::from_secs(1);
        assert!(!awake.was_asleep(instant + second, wall + Duration::from_mins(10) + second));
    }
}

//! Detects that the machine was suspended: the wall clock went on, the monotonic clock stood
//! still. Pure.

use std::time::{Duration, Instant, SystemTime};

/// The longest wait of the event loop. A resume is noticed within this time.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A smaller difference between the clocks is drift or a correction.
const MIN_SUSPEND: Duration = Duration::from_secs(5);

/// Both clocks at the last comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct SuspendDetector {
    monotonic: Instant,
    wall: SystemTime,
}

impl SuspendDetector {
    pub(super) fn new(monotonic: Instant, wall: SystemTime) -> Self {
        Self { monotonic, wall }
    }

    /// True if the machine was suspended since the last call. A wall clock that is set forward
    /// looks the same; it causes one report too many.
    pub(super) fn has_resumed(&mut self, monotonic: Instant, wall: SystemTime) -> bool {
        let last = std::mem::replace(self, Self { monotonic, wall });
        let monotonic_passed = monotonic.saturating_duration_since(last.monotonic);
        let wall_passed = wall.duration_since(last.wall).unwrap_or_default();
        wall_passed.saturating_sub(monotonic_passed) > MIN_SUSPEND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an `Instant` cannot be constructed")]
    fn a_wall_clock_ahead_of_the_monotonic_clock_is_a_suspend() {
        let (instant, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_hours(9999));
        let has_resumed = |monotonic_passed: u64, wall_after: SystemTime| {
            let mut detector = SuspendDetector::new(instant, wall);
            detector.has_resumed(instant + Duration::from_secs(monotonic_passed), wall_after)
        };
        let later = |seconds| wall + Duration::from_secs(seconds);
        assert!(!has_resumed(60, later(60)));
        assert!(!has_resumed(60, later(64)));
        assert!(has_resumed(5, later(3600)));
        assert!(has_resumed(0, later(6)));
        // SIGSTOP and SIGCONT: both clocks go on.
        assert!(!has_resumed(3600, later(3600)));
        // The wall clock was set back.
        assert!(!has_resumed(5, wall - Duration::from_hours(24)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an `Instant` cannot be constructed")]
    fn a_suspend_is_detected_once() {
        let (instant, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_hours(9999));
        let mut detector = SuspendDetector::new(instant, wall);
        assert!(detector.has_resumed(instant, wall + Duration::from_mins(10)));
        let second = Duration::from_secs(1);
        assert!(!detector.has_resumed(instant + second, wall + Duration::from_mins(10) + second));
    }
}

//! The clocks, and times as numbers. No other file reads a clock. Pure code takes `now` as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads the monotonic clock, for waits and deadlines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads this clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Reads the system clock, for the times in events.
#[expect(clippy::disallowed_methods, reason = "the one place that reads this clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Returns the microseconds since the Unix epoch; 0 for an earlier time.
pub fn unix_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the seconds since the Unix epoch; 0 for an earlier time.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

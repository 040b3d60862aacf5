//! The clocks, and times as numbers. No other file reads a clock. Pure code takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The time this many microseconds after the Unix epoch.
pub fn from_unix_micros(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// Returns the seconds since the Unix epoch; 0 for an earlier time.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time of day in UTC, such as `14:05:09Z`. The standard library does not know the local time zone.
pub fn of_day(time: SystemTime) -> String {
    let rest = unix_seconds(time) % (24 * 3600);
    format!("{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_of_day_has_hours_minutes_and_seconds() {
        for (seconds, expected) in
            [(0, "00:00:00Z"), (86_399, "23:59:59Z"), (86_400 + 3_723, "01:02:03Z")]
        {
            assert_eq!(of_day(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}

//! The two clocks. Nothing else reads one: what is pure takes `now` as an argument.

use std::time::{Instant, SystemTime};

/// For waits and deadlines.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// For the times that events carry.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

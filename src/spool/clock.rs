//! Two clocks by which entries of the state age. Pure.
//!
//! The system's clock may be set, and a laptop may sleep for a month. So each clock advances by the
//! time between two uses of the state, but by no more than a limit, and never goes back. Stored
//! times are compared with these clocks only.

use serde::{Deserialize, Serialize};

/// How long a build is remembered after Tilt stopped showing it, in seconds: one day.
pub const SEEN_AGE: u64 = 24 * 3600;
/// The most seconds by which one gap ages entries. Less than [`SEEN_AGE`], so that a build that was
/// reported before the gap is not new after it.
const LONGEST_GAP: u64 = SEEN_AGE / 2;
/// A session that was not reported for this many seconds has ended.
pub const SESSION_TIMEOUT: u64 = 10 * 60;
/// The most seconds between two reports that count as silence of the other sessions. After a
/// longer gap the machine may have slept, and each session needs time to report again.
const LONGEST_SILENCE: u64 = SESSION_TIMEOUT * 2 / 3;

/// The clocks of one state, in seconds since it was created.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Clocks {
    /// The last use of the state by the system's clock, in Unix seconds. 0 before the first one.
    used_at: u64,
    /// Ages builds, events and sessions.
    pub age: u64,
    /// Measures how long a session is silent while others are reported.
    pub silence: u64,
}

impl Clocks {
    /// Advances both clocks. `now` is in Unix seconds.
    pub fn advance(&mut self, now: u64) {
        let last = std::mem::replace(&mut self.used_at, now.max(1));
        // The first use starts at 1, because 0 stands for never.
        let passed = if last == 0 { 1 } else { now.saturating_sub(last) };
        self.age = self.age.saturating_add(passed.min(LONGEST_GAP));
        self.silence = self.silence.saturating_add(passed.min(LONGEST_SILENCE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_up_to_a_limit_and_never_backwards() {
        let mut clocks = Clocks::default();
        for (now, age, silence) in [
            (1_800_000_000, 1, 1),
            (1_800_000_060, 61, 61),
            (1_900_000_000, 61 + LONGEST_GAP, 61 + LONGEST_SILENCE),
            (5, 61 + LONGEST_GAP, 61 + LONGEST_SILENCE),
            (15, 71 + LONGEST_GAP, 71 + LONGEST_SILENCE),
            (0, 71 + LONGEST_GAP, 71 + LONGEST_SILENCE),
            (10, 80 + LONGEST_GAP, 80 + LONGEST_SILENCE),
        ] {
            clocks.advance(now);
            assert_eq!((clocks.age, clocks.silence), (age, silence), "at {now}");
        }
    }
}

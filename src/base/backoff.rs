//! How long to wait before the next attempt. Pure, except for [`jitter`], which the other functions
//! take as an argument.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// The longest `Retry-After` that is honoured. A server that has recovered gets its events within a
/// minute, even if it asked for a longer pause.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);

/// A pause that doubles with each attempt, up to a limit.
struct Backoff {
    first: Duration,
    longest: Duration,
}

/// The pauses between the attempts of one delivery.
const ATTEMPT: Backoff =
    Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };
/// The pauses between deliveries of a sidecar while the server is unreachable.
const DELIVERY: Backoff =
    Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(15) };
/// The pauses after a refused key or dataset. A person must fix it, so frequent attempts do not help.
const REFUSAL: Backoff =
    Backoff { first: Duration::from_secs(15), longest: Duration::from_mins(10) };
/// The pauses between the starts of a watch that keeps ending.
const WATCH: Backoff = Backoff { first: Duration::from_mins(1), longest: Duration::from_mins(10) };

impl Backoff {
    /// The pause before attempt number `attempt`, from 1. It is 50 % to 100 % of the doubled value,
    /// by `jitter`, and at least what the server asks for in `retry_after`.
    fn pause(&self, attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(16);
        let doubled = self.first.saturating_mul(1 << doublings).min(self.longest);
        let pause = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        retry_after.map_or(pause, |asked| asked.min(LONGEST_RETRY_AFTER).max(pause))
    }
}

/// Returns how long to wait before attempt number `attempt` (from 1) of one delivery.
///
/// `retry_after` is the pause that the server asked for, honoured up to one minute. `jitter` is from 0
/// to 1. It spreads the attempts of collectors that lost the same server at the same moment.
pub fn pause(attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    ATTEMPT.pause(attempt, retry_after, jitter)
}

/// Returns how long a sidecar waits after `failures` failed deliveries in a row.
pub fn until_next_delivery(failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    DELIVERY.pause(failures, retry_after, jitter)
}

/// Returns how long a sidecar waits after Honeycomb refused its key or dataset `refusals` times in a
/// row.
pub fn after_refusal(refusals: u32, jitter: f64) -> Duration {
    REFUSAL.pause(refusals, None, jitter)
}

/// Returns how long to wait before a watch starts again after `failures` watches that ended at once.
/// The first failure needs no wait.
pub fn until_next_watch(failures: u32, jitter: f64) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        _ => WATCH.pause(failures - 1, None, jitter),
    }
}

/// Returns a random number from 0 to 1, or 0 if the system has no randomness.
pub fn jitter() -> f64 {
    let mut random = [0];
    let _ = SystemRandom::new().fill(&mut random);
    f64::from(random[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_spread() {
        let ms = |attempt, jitter| pause(attempt, None, jitter).as_millis();
        let longest: Vec<_> = (1..=7).map(|attempt| ms(attempt, 1.0)).collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(ms(1, 0.0), 125);
        assert_eq!(ms(u32::MAX, 1.0), 5000);
        assert_eq!(ms(0, f64::NAN.max(0.0)), 125);
    }

    #[test]
    fn a_sidecar_waits_2_to_15_seconds_after_any_outage() {
        for failures in 0..200 {
            for jitter in [0.0, 0.5, 1.0] {
                let pause = until_next_delivery(failures, None, jitter).as_secs_f64();
                assert!((2.5..=15.0).contains(&pause), "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn attempts_with_a_refused_key_become_rare() {
        let seconds: Vec<_> = (1..=8).map(|n| after_refusal(n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [15, 30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn retry_after_is_honoured_up_to_one_minute() {
        let asked = |seconds| pause(1, Some(Duration::from_secs(seconds)), 1.0).as_secs();
        assert_eq!(asked(3), 3);
        assert_eq!(asked(u64::MAX), 60);
        assert_eq!(pause(3, Some(Duration::ZERO), 1.0), Duration::from_secs(1));
    }
}

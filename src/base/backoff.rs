//! When to try again. The pauses are pure: their randomness is an argument.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// A server may ask for a pause, but not for silence: nothing waits for longer than a minute
/// after it is well again.
const LONGEST_ASKED: Duration = Duration::from_mins(1);

/// How long to wait before try number `attempt` (from 1) of one delivery. `jitter` is from 0 to 1:
/// many collectors that lost the same server must not come back in the same moment.
pub fn pause(attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    spread(FIRST, LONGEST, attempt, retry_after, jitter)
}

fn spread(
    first: Duration,
    longest: Duration,
    attempt: u32,
    retry_after: Option<Duration>,
    jitter: f64,
) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest);
    let ours = doubled.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    retry_after.map_or(ours, |asked| asked.min(LONGEST_ASKED).max(ours))
}

/// Between two deliveries of a sidecar, while the server is away.
const FIRST_DELIVERY: Duration = Duration::from_secs(5);
const LONGEST_DELIVERY: Duration = Duration::from_secs(15);
/// A refused key is fixed by a person, soon or late: then asking more often helps nobody.
const FIRST_AFTER_REFUSAL: Duration = Duration::from_secs(15);
const LONGEST_AFTER_REFUSAL: Duration = Duration::from_mins(10);

const FIRST_WATCH: Duration = Duration::from_mins(1);
const LONGEST_WATCH: Duration = Duration::from_mins(10);

/// How long a sidecar waits after `failures` deliveries in a row that did not get through.
pub fn until_next_delivery(failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    spread(FIRST_DELIVERY, LONGEST_DELIVERY, failures, retry_after, jitter)
}

/// How long a sidecar waits after Honeycomb refused its key or dataset `refusals` times in a row.
pub fn after_refusal(refusals: u32, jitter: f64) -> Duration {
    spread(FIRST_AFTER_REFUSAL, LONGEST_AFTER_REFUSAL, refusals, None, jitter)
}

/// How long until a watch of Tilt is started again after `failures` that ended at once.
pub fn until_next_watch(failures: u32, jitter: f64) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        _ => spread(FIRST_WATCH, LONGEST_WATCH, failures - 1, None, jitter),
    }
}

/// A random number from 0 to 1 that spreads the retries of many collectors. It is 0 if the system
/// has no randomness.
pub fn jitter() -> f64 {
    let mut random = [0];
    let _ = SystemRandom::new().fill(&mut random);
    f64::from(random[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_spread() {
        let ms = |attempt, jitter| pause(attempt, None, jitter).as_millis();
        let longest: Vec<_> = (1..=7).map(|attempt| ms(attempt, 1.0)).collect();
        assert_eq!(longest, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(ms(1, 0.0), 125);
        assert_eq!(ms(u32::MAX, 1.0), 5000);
        assert_eq!(ms(0, f64::NAN.max(0.0)), 125);
    }

    #[test]
    fn after_an_outage_of_any_length_a_sidecar_is_back_soon_and_never_hurries() {
        for failures in 0..200 {
            for jitter in [0.0, 0.5, 1.0] {
                let pause = until_next_delivery(failures, None, jitter).as_secs_f64();
                assert!((2.5..=15.0).contains(&pause), "{failures}: {pause}");
            }
        }
    }

    #[test]
    fn a_refused_key_is_tried_soon_at_first_and_then_rarely() {
        let seconds: Vec<_> = (1..=8).map(|n| after_refusal(n, 1.0).as_secs()).collect();
        assert_eq!(seconds, [15, 30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn what_the_server_asks_is_honoured_within_reason() {
        let asked = |seconds| pause(1, Some(Duration::from_secs(seconds)), 1.0).as_secs();
        assert_eq!(asked(3), 3);
        assert_eq!(asked(u64::MAX), 60);
        assert_eq!(pause(3, Some(Duration::ZERO), 1.0), Duration::from_secs(1));
    }
}

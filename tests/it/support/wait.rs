//! Waiting and retrying. Every wait polls its condition until a deadline, so no test depends on a
//! fixed delay.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for a condition: much longer than any run takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_mins(2);
/// How often a timing is tried. A busy machine may delay some attempts. A program that is too slow by
/// itself fails them all.
const ATTEMPTS: usize = 10;
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition is true. Panics with `what` after two minutes.
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(within(TIMEOUT, is_so), "not within {TIMEOUT:?}: {what}");
}

/// Repeats an attempt until it returns a value. `None` means that the machine was too slow. An attempt
/// panics on any other failure.
#[track_caller]
pub fn retry<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(result) = attempt() {
            return result;
        }
        let _ = writeln!(io::stderr(), "retrying: {what}");
    }
    panic!("not in {ATTEMPTS} attempts: {what}");
}

/// Asserts that at least one attempt takes less than the limit. Wine and the start of a process on
/// Windows take longer, so the limit is four times as long there.
#[track_caller]
pub fn takes_less_than(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let limit = if cfg!(windows) { 4 * limit } else { limit };
    retry(&format!("it takes less than {limit:?}"), || {
        Some(attempt()).filter(|took| *took < limit)
    });
}

pub fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
    true
}

/// Prints why a test was skipped. `eprintln!` would be captured and hidden.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

//! What the last collector noted about its deliveries, for people who ask later. Pure.

use serde::{Deserialize, Serialize};

/// How deliveries went. Times are seconds since the Unix epoch. Nothing is noted by a run that ends by
/// itself: its exit code tells the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryRecord {
    /// When the server last accepted events.
    pub last_success: Option<u64>,
    /// What the last failed delivery said.
    pub last_problem: Option<String>,
    /// When deliveries began to fail. `None` unless the last one failed.
    pub problem_since: Option<u64>,
}

impl DeliveryRecord {
    /// Takes in what a collector noted. What it does not know yet stays.
    pub fn update(&mut self, noted: &Self) {
        if *noted == Self::default() {
            return;
        }
        // Not the later one: the clock may have been set back.
        self.last_success = noted.last_success.or(self.last_success);
        self.last_problem = noted.last_problem.clone().or_else(|| self.last_problem.take());
        self.problem_since = noted.problem_since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(
        last_success: Option<u64>,
        problem: Option<&str>,
        since: Option<u64>,
    ) -> DeliveryRecord {
        let last_problem = problem.map(ToOwned::to_owned);
        DeliveryRecord { last_success, last_problem, problem_since: since }
    }

    #[test]
    fn a_new_collector_keeps_what_it_does_not_know() {
        let mut stored = record(Some(10), Some("HTTP 503"), Some(20));
        stored.update(&DeliveryRecord::default());
        assert_eq!(stored, record(Some(10), Some("HTTP 503"), Some(20)));
        stored.update(&record(Some(30), None, None));
        assert_eq!(stored, record(Some(30), Some("HTTP 503"), None));
        stored.update(&record(None, Some("HTTP 401"), Some(40)));
        assert_eq!(stored, record(Some(30), Some("HTTP 401"), Some(40)));
    }

    #[test]
    fn a_success_after_the_clock_was_set_back_counts() {
        let mut stored = record(Some(700), None, None);
        stored.update(&record(Some(10), None, None));
        assert_eq!(stored.last_success, Some(10));
    }
}

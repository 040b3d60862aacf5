//! Counts the updates of one resource in a session. Pure.

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::tilt::model::Update;

/// The updates that were observed. Tilt itself keeps only the last two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateCounts {
    pub updates: u32,
    pub failed: u32,
    /// The start of the newest counted update, in Unix microseconds.
    newest: u64,
}

impl UpdateCounts {
    /// Counts an update once. Updates must come in the order of their starts; an older one than the
    /// newest was counted before.
    pub fn add(&mut self, update: &Update) {
        let started_at = unix_micros(update.started_at.at);
        if started_at > self.newest {
            self.newest = started_at;
            self.updates = self.updates.saturating_add(1);
            self.failed = self.failed.saturating_add(u32::from(update.error.is_some()));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.updates == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::Timestamp;

    #[test]
    fn an_update_that_is_shown_again_counts_once() {
        let at = |second: u32| {
            Timestamp::parse(&format!("2026-11-22T15:00:{second:02}Z")).expect("a time")
        };
        let update = |second: u32, fails: bool| Update {
            span_id: "build:1".into(),
            started_at: at(second),
            finished_at: at(second),
            error: fails.then(|| "exit status 1".into()),
            warnings: 0,
        };
        let mut counts = UpdateCounts::default();
        for (second, fails) in [(1, true), (2, false), (1, true), (2, false), (3, true)] {
            counts.add(&update(second, fails));
        }
        assert_eq!((counts.updates, counts.failed), (3, 2));
    }
}

//! Counts the resources of a startup by their state at its end, and sets the fields for it. Pure.

use crate::events::event::Fields;
use crate::events::startup::blocked::{Standing, blocked};
use crate::events::startup::progress::Reached;

/// Why a startup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Each resource is ready, has failed, or cannot begin.
    AllReached,
    /// Some were still in progress after ten minutes.
    TimedOut,
    /// Tilt ended first.
    WithSession,
}

impl Ended {
    /// The field `ended_by`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllReached => "settled",
            Self::TimedOut => "timeout",
            Self::WithSession => "session_end",
        }
    }
}

/// The resources that start automatically, by what they have reached. Times are in Unix
/// microseconds.
#[derive(Debug, Default)]
pub struct StartupCounts {
    ready: Vec<(String, u64)>,
    failed: Vec<u64>,
    blocked: Vec<String>,
    unready: Vec<String>,
    /// How many of the ready ones had failed before.
    recovered: usize,
    tiltfile_failed: bool,
}

impl StartupCounts {
    pub fn new(standings: &[Standing]) -> Self {
        let blocked = blocked(standings);
        let mut counts = Self::default();
        for Standing { resource, progress, reached } in standings {
            if !resource.starts_automatically() {
                continue;
            }
            let name = resource.name.clone();
            match *reached {
                Reached::Ready { at } => {
                    counts.ready.push((name, at));
                    counts.recovered += usize::from(progress.has_failed);
                    counts.tiltfile_failed |= progress.has_failed && resource.is_tiltfile();
                }
                Reached::Failed { at } => counts.failed.push(at),
                Reached::Neither if blocked.contains(name.as_str()) => counts.blocked.push(name),
                Reached::Neither => counts.unready.push(name),
            }
        }
        counts
    }

    /// True if no resource may still become ready or fail.
    pub fn is_complete(&self) -> bool {
        self.unready.is_empty()
    }

    pub fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// When the last resource became ready or failed.
    pub fn last_change(&self) -> Option<u64> {
        self.ready.iter().map(|(_, at)| *at).chain(self.failed.iter().copied()).max()
    }

    /// The resource that became ready last, and when.
    pub fn slowest(&self) -> Option<(&str, u64)> {
        let (name, at) = self.ready.iter().max_by_key(|(_, at)| *at)?;
        Some((name, *at))
    }

    /// Sets the fields that count and name the resources.
    pub fn describe(&self, fields: &mut Fields) {
        let numbers = [
            ("resources_ready", self.ready.len()),
            ("resources_failed", self.failed.len()),
            ("resources_blocked", self.blocked.len()),
            ("resources_unready", self.unready.len()),
        ];
        fields.set("resources", numbers.iter().map(|(_, number)| number).sum::<usize>());
        for (name, number) in numbers {
            fields.set(name, number);
        }
        fields.set("resources_recovered", self.recovered);
        fields.set_names("unready", [&self.blocked[..], &self.unready[..]].concat());
        fields.set_some("tiltfile_failed", self.tiltfile_failed.then_some(true));
    }
}

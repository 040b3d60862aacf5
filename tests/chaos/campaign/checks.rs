//! Searches files, processes and messages for secrets.

use std::{fs, iter};

use fakes::proc;

use super::Campaign;
use crate::disk;
use crate::server::KEY;
use crate::world::CANARIES;

impl Campaign {
    /// Checks that the arguments of collectors and their children hold no secret.
    pub(super) fn check_processes(&self) {
        for collector in &self.collectors {
            let pid = collector.pid.as_raw_pid().cast_unsigned();
            for pid in iter::once(pid).chain(proc::children(pid)) {
                let line = fs::read(proc::folder(pid).join("cmdline")).unwrap_or_default();
                self.check_text("the arguments of a process", &String::from_utf8_lossy(&line));
            }
        }
    }

    /// Checks that the state files hold no secret.
    pub(super) fn check_files(&self) {
        let destinations = disk::files(&self.state_dir());
        let queues = disk::files(&self.state_dir()).map(|folder| folder.join("queue"));
        for file in destinations.chain(queues).flat_map(|folder| disk::files(&folder)) {
            // A collector may remove a file meanwhile.
            let bytes = fs::read(file).unwrap_or_default();
            self.check_text("a state file", &String::from_utf8_lossy(&bytes));
        }
    }

    fn check_text(&self, place: &str, text: &str) {
        if let Some(leak) = leak(text) {
            self.problem(format!("{leak} in {place}"));
        }
    }
}

/// The first secret in this text.
pub(super) fn leak(text: &str) -> Option<&'static str> {
    CANARIES.iter().chain(&[KEY]).find(|canary| text.contains(**canary)).copied()
}

//! Faults of the state: damage to its files, its folder and its disk.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Campaign, lock};
use crate::disk;

/// File size limit that simulates a full disk: too small for a state, enough for a lock file.
pub(super) const FULL_DISK_BYTES: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFault {
    Truncated,
    BitFlipped,
    Overwritten,
    Removed,
    ReplacedByFile,
    DiskFull,
    LocksRemoved,
}

impl StateFault {
    pub(super) const ALL: [Self; 7] = [
        Self::Truncated,
        Self::BitFlipped,
        Self::Overwritten,
        Self::Removed,
        Self::ReplacedByFile,
        Self::DiskFull,
        Self::LocksRemoved,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Truncated => "state: truncated",
            Self::BitFlipped => "state: one bit flipped",
            Self::Overwritten => "state: overwritten",
            Self::Removed => "state: folder removed",
            Self::ReplacedByFile => "state: folder replaced by a file",
            Self::DiskFull => "state: disk full",
            Self::LocksRemoved => "state: lock files removed",
        }
    }
}

impl Campaign {
    pub(super) fn inject_state_fault(&mut self, fault: StateFault) {
        match fault {
            StateFault::ReplacedByFile => {
                let aside = self.scratch.path().join("aside");
                fs::write(&aside, "a file").expect("a file");
                if swap(&self.state_dir(), &aside).is_ok() {
                    self.unwritable_since = Some(Instant::now());
                    self.count(fault.name());
                } else {
                    // A collector is just creating the folder.
                    fs::remove_file(aside).expect("a file");
                }
            }
            StateFault::DiskFull => {
                self.is_disk_full = true;
                self.collectors
                    .iter()
                    .for_each(|collector| limit_file_size(collector.pid, Some(FULL_DISK_BYTES)));
                self.unwritable_since = Some(Instant::now());
                self.count(fault.name());
            }
            _ => self.destroy_state(fault),
        }
    }

    /// Destroys the state while no build runs and the state is locked, so that its contents are known.
    /// Postpones this if a build could get lost.
    fn destroy_state(&mut self, fault: StateFault) {
        let world = Arc::clone(&self.world);
        lock(&world).pause();
        let deadline = Instant::now() + Duration::from_secs(2);
        while !lock(&world).is_idle() && Instant::now() < deadline {
            self.tick();
        }
        let mut world = lock(&world);
        let file = disk::state_file(&self.state_dir());
        let locked = file.as_deref().and_then(disk::lock_state);
        let (Some(file), Some(locked)) = (file, locked) else {
            self.postponed += 1;
            return world.resume();
        };
        let loses_nothing = fault == StateFault::LocksRemoved;
        let visible = world.visible();
        let is_settled =
            |key: &String| visible.contains(key) || self.server.ledger().is_settled(key);
        if !world.is_idle() || !world.completed().iter().all(is_settled) {
            self.postponed += 1;
            return world.resume();
        }
        let queued = disk::events(self.scratch.path());
        let visible = if loses_nothing { HashSet::new() } else { world.recently_visible() };
        let server = Arc::clone(&self.server);
        server.ledger().record_state_loss(queued, &visible, || self.damage(fault, &file));
        if !loses_nothing {
            world.require_new_report(Instant::now());
        }
        drop(locked);
        self.count(fault.name());
        world.resume();
    }

    fn damage(&mut self, fault: StateFault, file: &Path) {
        let mut bytes = fs::read(file).expect("a state");
        match fault {
            StateFault::Truncated => {
                bytes.truncate(self.random.index(bytes.len().max(1)));
                fs::write(file, bytes).expect("a damaged state");
            }
            StateFault::BitFlipped => {
                let at = self.random.index(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.random.below(8);
                }
                fs::write(file, bytes).expect("a damaged state");
            }
            StateFault::Overwritten => {
                let garbage = self.random.pick(&[&b""[..], b"null", b"{}", b"[1]", b"\xff\x00"]);
                fs::write(file, garbage).expect("a damaged state");
            }
            StateFault::LocksRemoved => {
                // The campaign holds `lock`. It removes it last, so that no collector reads the queue.
                for name in ["sending", "lock"] {
                    // The file may not exist.
                    let _ = fs::remove_file(file.with_file_name(name));
                }
            }
            _ => {
                let trash = self.scratch.path().join("trash");
                fs::rename(self.state_dir(), &trash).expect("a rename");
                fs::remove_dir_all(trash).expect("a folder");
            }
        }
    }
}

/// Limits the size of the files that a process may write. `None` removes the limit.
pub(super) fn limit_file_size(pid: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    // The process may just have ended.
    let _ = prlimit(Some(pid), Resource::Fsize, limit);
}

/// Swaps two paths atomically, so that a collector always finds one of them.
pub(super) fn swap(a: &Path, b: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

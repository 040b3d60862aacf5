//! Faults of the collectors' processes: kills, signals and suspensions.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use fakes::proc;
use rustix::process::{Pid, Signal, kill_process};

use super::Campaign;
use super::collectors::{Collector, Role, signal};
use crate::disk;
use crate::server::ledger::{LATE_ARRIVAL, RepeatCause};

/// A suspension up to this long causes no timeout: every request has at least a second left.
const HARMLESS_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessFault {
    Kill,
    KillInFlight,
    Terminate,
    Suspend,
}

impl ProcessFault {
    pub(super) const ALL: [Self; 4] =
        [Self::Kill, Self::KillInFlight, Self::Terminate, Self::Suspend];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "process: kill -9",
            Self::KillInFlight => "process: kill -9 while a request is in flight",
            Self::Terminate => "process: SIGTERM",
            Self::Suspend => "process: suspended for up to 3 s, even with a lock",
        }
    }
}

impl Campaign {
    pub(super) fn inject_process_fault(&mut self, fault: ProcessFault) {
        if fault == ProcessFault::KillInFlight {
            self.kill_in_flight();
            return;
        }
        let one_in = if fault == ProcessFault::Kill { 12 } else { 40 };
        if !self.random.is_one_in(one_in) {
            return;
        }
        let candidates: Vec<_> = (0..self.collectors.len())
            .filter(|at| self.collectors[*at].role != Role::LongLived)
            .filter(|at| !self.collectors[*at].is_signalled.load(Ordering::SeqCst))
            .collect();
        if candidates.is_empty() {
            return;
        }
        // A random delay, so that faults do not always coincide with a tick.
        thread::sleep(Duration::from_micros(self.random.below(10_000)));
        let at = self.random.pick(&candidates);
        match fault {
            ProcessFault::Kill => self.kill(&self.collectors[at]),
            ProcessFault::Suspend => self.suspend_for_a_while(self.collectors[at].pid),
            _ => signal(&self.collectors[at], Signal::TERM),
        }
        self.count(fault.name());
    }

    /// Kills all collectors except the long-lived one while a request is in flight.
    fn kill_in_flight(&mut self) {
        if !self.server.is_busy() {
            return;
        }
        for collector in self.collectors.iter().filter(|c| c.role != Role::LongLived) {
            self.kill(collector);
            *self.injected.entry(ProcessFault::KillInFlight.name()).or_default() += 1;
        }
        self.reap_signalled();
    }

    fn suspend_for_a_while(&mut self, pid: Pid) {
        let pause = Duration::from_millis(self.random.below(3_000));
        let ports = suspend(pid);
        if pause > HARMLESS_PAUSE {
            let on_disk = disk::events(self.scratch.path());
            self.server.ledger().record_suspension(
                &on_disk,
                ports,
                pause,
                RepeatCause::ProcessSuspended,
            );
        }
        resume_after(pid, pause);
        self.suspended_until = self.suspended_until.max(Instant::now() + pause);
    }

    /// Kills a collector. It suspends the process first, so that the server knows which events it has
    /// not recorded before another collector can send them again.
    pub(super) fn kill(&self, collector: &Collector) {
        let ports = suspend(collector.pid);
        let on_disk = disk::events(self.scratch.path());
        self.server.ledger().record_suspension(
            &on_disk,
            ports,
            LATE_ARRIVAL,
            RepeatCause::ProcessEnded,
        );
        collector.exit_recorded.store(true, Ordering::SeqCst);
        signal(collector, Signal::KILL);
    }
}

/// Suspends a process and returns the ports of its connections.
fn suspend(pid: Pid) -> HashSet<u16> {
    let _ = kill_process(pid, Signal::STOP);
    let pid = pid.as_raw_pid().cast_unsigned();
    let runs = |thread: &proc::Thread| ['R', 'S', 'D'].contains(&thread.state);
    let deadline = Instant::now() + Duration::from_millis(500);
    // The sending thread may stop a moment later than the main thread.
    while proc::threads(pid).iter().any(runs) && Instant::now() < deadline {
        thread::sleep(Duration::from_micros(100));
    }
    ports(&proc::folder(pid))
}

/// The local ports of a process's connections.
fn ports(process: &Path) -> HashSet<u16> {
    let files = proc::entries(&process.join("fd"));
    let links = files.iter().filter_map(|file| fs::read_link(file).ok());
    let inode = |link: PathBuf| {
        Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
    };
    let sockets: HashSet<_> = links.filter_map(inode).collect();
    let table = fs::read_to_string(process.join("net/tcp")).unwrap_or_default();
    let port = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (_, port) = columns.get(1)?.split_once(':')?;
        let is_its_own = sockets.contains(*columns.get(9)?);
        is_its_own.then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}

/// Resumes a suspended process after this time.
fn resume_after(pid: Pid, after: Duration) {
    thread::spawn(move || {
        thread::sleep(after);
        let _ = kill_process(pid, Signal::CONT);
    });
}

/// The threads of a process: name, state and the number of the system call that each waits in.
pub(super) fn threads_of(pid: Pid) -> String {
    let described = |proc::Thread { name, state, folder }: proc::Thread| {
        let call = fs::read_to_string(folder.join("syscall")).unwrap_or_default();
        let call = call.split_whitespace().next().unwrap_or("none");
        format!("{name} {state} in {call}")
    };
    let threads = proc::threads(pid.as_raw_pid().cast_unsigned());
    threads.into_iter().map(described).collect::<Vec<_>>().join(", ")
}

//! The collectors of the campaign: starts them, waits for their ends and judges these.

use std::io::{BufRead, BufReader};
use std::iter;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fakes::{proc, tls};
use rustix::process::{Pid, Signal, kill_process};

use super::checks::leak;
use super::state_faults::{FULL_DISK_BYTES, limit_file_size};
use super::{Campaign, TICK, lock};
use crate::disk;
use crate::server::{KEY, URL};
use crate::sizes::Size;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A watching sidecar that runs for the whole campaign.
    LongLived,
    Watching,
    /// A sidecar with `--no-watch`.
    Polling,
    /// A `--once` report.
    Once,
}

/// A running collector.
pub(super) struct Collector {
    pub(super) role: Role,
    pub(super) pid: Pid,
    pub(super) began: Instant,
    /// True once the campaign has sent it SIGTERM or SIGKILL.
    pub(super) is_signalled: Arc<AtomicBool>,
    /// True if the server already knows which events may repeat because of its exit.
    pub(super) exit_recorded: Arc<AtomicBool>,
    /// Ends with the process and returns its exit code.
    pub(super) exit_code: JoinHandle<Option<i32>>,
    /// Ends with the process and returns the lines of its stderr.
    pub(super) stderr: JoinHandle<Vec<String>>,
}

impl Campaign {
    /// Starts the collectors that should run and do not.
    pub(super) fn start_missing(&mut self) {
        let mut wanted: Vec<_> = iter::once(Role::LongLived).chain(self.wanted.clone()).collect();
        if self.runs_once_reports {
            wanted.push(Role::Once);
        }
        for collector in &self.collectors {
            if let Some(at) = wanted.iter().position(|role| *role == collector.role) {
                wanted.swap_remove(at);
            }
        }
        for role in wanted {
            self.start(role);
        }
    }

    fn start(&mut self, role: Role) {
        let mut child = self.command(role).spawn().expect("the collector starts");
        let began = Instant::now();
        let pid = Pid::from_child(&child);
        if self.is_disk_full {
            limit_file_size(pid, Some(FULL_DISK_BYTES));
        }
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let stderr = read_stderr(stderr, role, Arc::clone(&self.problems));
        let (is_signalled, exit_recorded) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let exit_code =
            self.wait_for_exit(child, role, Arc::clone(&is_signalled), Arc::clone(&exit_recorded));
        self.collectors.push(Collector {
            role,
            pid,
            began,
            is_signalled,
            exit_recorded,
            exit_code,
            stderr,
        });
    }

    fn command(&self, role: Role) -> Command {
        let options: &[&str] = match role {
            Role::LongLived => &["--interval", "1s"],
            Role::Watching => &["--interval", "1s", "--timeout", "4s", "--verbose"],
            Role::Polling => &["--interval", "1s", "--timeout", "4s", "--no-watch"],
            Role::Once => &["--once", "--timeout", "4s", "--verbose"],
        };
        let mut command = Command::new(self.programs.join("tilt-honeycomb"));
        command
            .args(options)
            .args(["--tilt".as_ref(), self.scratch.path().join("fake-tilt").as_os_str()])
            .args(["--state-dir".as_ref(), self.state_dir().as_os_str()])
            .env_clear()
            .env("STAND_IN", self.scratch.path().join("tilt"))
            .env("HONEYCOMB_API_KEY", KEY)
            .env("HONEYCOMB_DATASET", "torture")
            .env("HONEYCOMB_API_ENDPOINT", URL)
            .env("HTTPS_PROXY", self.server.proxy())
            .env("SSL_CERT_FILE", tls::certificate("authority.pem"))
            .env("LD_PRELOAD", &self.machine)
            .env("CLOCK_LEAP", self.clock.file())
            .env("FAULTS", self.machine_faults.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Waits for the exit in a thread, and reads the state at once, before other collectors change it.
    fn wait_for_exit(
        &self,
        mut child: Child,
        role: Role,
        is_signalled: Arc<AtomicBool>,
        exit_recorded: Arc<AtomicBool>,
    ) -> JoinHandle<Option<i32>> {
        let (server, scratch) = (Arc::clone(&self.server), self.scratch.path().to_owned());
        thread::spawn(move || {
            let code = child.wait().expect("a child process").code();
            // A sidecar that was signalled may end before it reads the last response.
            let waits_for_response = role == Role::Once || !is_signalled.load(Ordering::SeqCst);
            let has_recorded_all = matches!(code, Some(0 | 3..=5)) && waits_for_response;
            if !exit_recorded.load(Ordering::SeqCst) && !has_recorded_all {
                server.ledger().record_exit(&disk::events(&scratch));
            }
            code
        })
    }

    /// Handles collectors that have ended and starts the missing ones.
    pub(super) fn tick(&mut self) {
        self.reap();
        self.start_missing();
        if let Some(size) = self.long_lived() {
            self.sizes.record(size, Instant::now());
        }
        let before = Instant::now();
        thread::sleep(TICK);
        let machine_paused = before.elapsed().saturating_sub(TICK);
        if machine_paused > Duration::from_secs(1) {
            // The collectors were paused too, and may time out now.
            self.server.ledger().record_machine_pause(&disk::events(self.scratch.path()));
            self.machine_paused += machine_paused;
        }
    }

    pub(super) fn reap(&mut self) {
        let (ended, running) =
            self.collectors.drain(..).partition(|collector| collector.exit_code.is_finished());
        self.collectors = running;
        for collector in ended {
            self.record_end(collector);
        }
    }

    fn record_end(&mut self, collector: Collector) {
        let Collector { role, began, is_signalled, exit_code, stderr, .. } = collector;
        let code = exit_code.join().expect("the thread that waits for it");
        let was_signalled = is_signalled.load(Ordering::SeqCst);
        if role == Role::Once {
            self.once_reports += 1;
            let had_fault = self.has_fault || began <= self.fault_until;
            if !was_signalled && matches!(code, None | Some(2)) {
                self.problem(format!(
                    "a --once report ended with an unexpected exit code: {code:?}"
                ));
            } else if !was_signalled && code == Some(1) && !had_fault {
                let at = self.server.began.elapsed().as_secs_f64();
                let stderr = stderr.join().expect("the thread that reads its stderr").join(" | ");
                self.unexplained_failures.push(format!("failed at {at:.3} s: {stderr}"));
            }
            // With these exit codes the report has recorded what it saw, even if it sent nothing.
            if matches!(code, Some(0 | 4 | 5)) && !was_signalled {
                lock(&self.world).mark_recorded(began);
            }
        } else if !was_signalled {
            self.problem(format!("a sidecar ({role:?}) exited without a signal: {code:?}"));
        }
    }

    pub(super) fn stop_unwanted(&mut self) {
        let mut wanted = self.wanted.clone();
        for collector in &self.collectors {
            if matches!(collector.role, Role::LongLived | Role::Once) {
                continue;
            }
            match wanted.iter().position(|role| *role == collector.role) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => signal(collector, Signal::TERM),
            }
        }
    }

    /// Waits until every signalled collector has ended.
    pub(super) fn reap_signalled(&mut self) {
        let is_signalled = |c: &Collector| c.is_signalled.load(Ordering::SeqCst);
        while self.collectors.iter().any(|c| is_signalled(c) && !c.exit_code.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        self.reap();
    }

    /// Resident memory in KiB, threads and open files of the long-lived sidecar.
    fn long_lived(&self) -> Option<Size> {
        let collector = self.collectors.iter().find(|c| c.role == Role::LongLived)?;
        let pid = collector.pid.as_raw_pid().cast_unsigned();
        let number = |name: &str| proc::status(pid, name).unwrap_or(0);
        let open_files = proc::entries(&proc::folder(pid).join("fd")).len();
        Some([number("VmRSS"), number("Threads"), open_files as u64])
    }
}

/// Sends a signal and marks the collector as signalled.
pub(super) fn signal(collector: &Collector, signal: Signal) {
    collector.is_signalled.store(true, Ordering::SeqCst);
    // The process may just have ended.
    let _ = kill_process(collector.pid, signal);
}

/// Reads a collector's stderr until it ends. Reports secrets and panics.
fn read_stderr(
    stderr: impl BufRead + Send + 'static,
    role: Role,
    problems: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<Vec<String>> {
    thread::spawn(move || {
        let mut lines = Vec::new();
        for line in stderr.lines().map_while(Result::ok) {
            let found = leak(&line).or(line.contains("panicked").then_some("a panic"));
            if let Some(found) = found {
                lock(&problems)
                    .push(format!("{found} in the stderr of a collector ({role:?}): {line}"));
            }
            // Only the messages of reports are needed, and a sidecar may print many.
            if role == Role::Once {
                lines.push(line);
            }
        }
        lines
    })
}

//! A run of the program: its command, its process and its outcome.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fakes::honeycomb::Server;
use fakes::proc;
use serde_json::Value;

use super::sandbox::{DATASET, KEY};
use super::signal::{STOP, Signal, send_signal};
use super::wait::{TIMEOUT, within};

/// A command that has not been started.
#[must_use]
pub struct Invocation {
    pub(super) command: Command,
}

impl Invocation {
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Adds arguments, which may contain spaces.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn sending_to(self, server: &Server) -> Self {
        self.env("HONEYCOMB_API_ENDPOINT", server.url()).with_key()
    }

    pub fn with_key(self) -> Self {
        self.env("HONEYCOMB_API_KEY", KEY).env("HONEYCOMB_DATASET", DATASET)
    }

    /// Runs it as an ordinary user, whom limits apply to. The files of the sandbox must belong to this
    /// user.
    #[cfg(target_os = "linux")]
    pub(super) fn run_by(mut self, id: u32) -> Self {
        use std::os::unix::process::CommandExt;
        self.command.uid(id).gid(id);
        self
    }

    /// Keeps stdin open and empty while the `Process` exists.
    pub fn with_open_stdin(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    #[track_caller]
    pub fn start(mut self) -> Process {
        // Measured before the start, because the test may be delayed after it.
        let started = Instant::now();
        let spawned = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Process::watch(spawned.expect("the program starts"), started)
    }

    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.start().finish()
    }
}

/// A started program. It is killed on drop.
pub struct Process {
    pid: u32,
    started: Instant,
    progress: Arc<Mutex<Progress>>,
    stdin: Option<std::process::ChildStdin>,
}

#[derive(Default)]
struct Progress {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    closed: usize,
    ended: Option<(std::process::ExitStatus, Instant)>,
}

impl Process {
    fn watch(mut child: Child, started: Instant) -> Self {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        collect(stdout, Arc::clone(&progress), |progress| &mut progress.stdout);
        collect(stderr, Arc::clone(&progress), |progress| &mut progress.stderr);
        let process = Self {
            pid: child.id(),
            started,
            progress: Arc::clone(&progress),
            stdin: child.stdin.take(),
        };
        thread::spawn(move || {
            let status = child.wait().expect("our child process");
            lock(&progress).ended = Some((status, Instant::now()));
        });
        process
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.progress).stderr).into_owned()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&lock(&self.progress).stdout).into_owned()
    }

    pub fn is_running(&self) -> bool {
        lock(&self.progress).ended.is_none()
    }

    #[cfg(target_os = "linux")]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// True if every process has closed the stdout and stderr of this one.
    pub fn output_is_closed(&self) -> bool {
        lock(&self.progress).closed == 2
    }

    /// The CPU time that it has used.
    #[cfg(target_os = "linux")]
    pub fn cpu_time(&self) -> Duration {
        proc::cpu_time(self.pid).expect("a running process")
    }

    pub fn resident_kib(&self) -> u64 {
        proc::status(self.pid, "VmRSS").expect("a running process")
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let threads = proc::threads(self.pid);
        assert!(!threads.is_empty(), "the process has exited:\n{}", self.stderr());
        threads.into_iter().map(|thread| thread.name).collect()
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let is_printed = within(TIMEOUT, || self.stderr().contains(text));
        assert!(is_printed, "stderr does not contain {text:?}:\n{}", self.stderr());
        self
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) -> &Self {
        assert!(self.is_running(), "the process has exited:\n{}", self.stderr());
        send_signal(self.pid, signal).expect("our process");
        self
    }

    /// Sends a signal and waits for the exit. Returns how long that took.
    #[track_caller]
    pub fn ends_after(self, signal: Signal) -> (Outcome, Duration) {
        let signalled = Instant::now();
        self.signal(signal);
        let outcome = self.finish();
        let took = outcome.ended.saturating_duration_since(signalled);
        (outcome, took)
    }

    /// Ends a sidecar as Tilt does. Windows kills it, so it has no last look there and no exit code.
    #[track_caller]
    pub fn stop(self) {
        let (outcome, _) = self.ends_after(STOP);
        if !cfg!(windows) {
            outcome.exits_with(0);
        }
    }

    /// Kills the process after this time, unless it has exited before.
    #[track_caller]
    pub fn kill_after(self, time: Duration) -> Outcome {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && self.is_running() {
            thread::yield_now();
        }
        if self.is_running() {
            self.signal(Signal::KILL);
        }
        self.finish()
    }

    #[track_caller]
    pub fn finish(self) -> Outcome {
        let has_exited = within(TIMEOUT, || !self.is_running());
        assert!(has_exited, "still running after {TIMEOUT:?}:\n{}", self.stderr());
        // The last output may not have been read yet.
        let is_read = within(TIMEOUT, || self.output_is_closed());
        assert!(is_read, "a process keeps the output open:\n{}", self.stderr());
        let (status, ended) = lock(&self.progress).ended.expect("an exit status");
        Outcome {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            took: ended - self.started,
            ended,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = send_signal(self.pid, Signal::KILL);
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(
    mut pipe: impl Read + Send + 'static,
    progress: Arc<Mutex<Progress>>,
    part: fn(&mut Progress) -> &mut Vec<u8>,
) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut bytes) {
            part(&mut lock(&progress)).extend(&bytes[..length]);
        }
        lock(&progress).closed += 1;
    });
}

/// The exit code of a killed process.
pub const KILLED: Option<i32> = if cfg!(windows) { Some(1) } else { None };

/// The result of a finished run.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    pub ended: Instant,
}

impl Outcome {
    /// Returns `None` if `tilt` exceeded its timeout, as it may on a busy machine.
    pub fn unless_tilt_was_slow(self) -> Option<Self> {
        Some(self).filter(|outcome| !outcome.stderr.contains("no response after 20s"))
    }

    /// Returns `None` if the proxy or the program exceeded a timeout, as they may on a busy machine.
    pub fn unless_proxy_was_slow(self) -> Option<Self> {
        let was_slow = ["timed out", "stopped after"].iter().any(|why| self.stderr.contains(why));
        (!was_slow).then_some(self)
    }

    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr does not contain {text:?}:\n{}", self.stderr);
        self
    }

    /// The verdict and the text of one line of `check`.
    #[track_caller]
    pub fn found(&self, topic: &str) -> (&str, &str) {
        let line = self.stdout.lines().find(|line| line.get(8..18).map(str::trim) == Some(topic));
        let line = line.unwrap_or_else(|| panic!("no line for {topic}:\n{}", self.stdout));
        (line[..8].trim(), &line[18..])
    }

    #[track_caller]
    pub fn finds(self, topic: &str, verdict: &str, what: &str) -> Self {
        let (found, says) = self.found(topic);
        assert_eq!(found, verdict, "{topic}: {says}");
        assert!(says.contains(what), "{topic}: {says}");
        self
    }

    #[track_caller]
    pub fn finds_exactly(self, topic: &str, verdict: &str, what: &str) -> Self {
        assert_eq!(self.found(topic), (verdict, what));
        self
    }

    /// Asserts that stderr has exactly one line.
    #[track_caller]
    pub fn says_one_line(self) -> Self {
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn says_nothing(self) -> Self {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str()), ("", ""));
        self
    }

    /// The events that a dry run printed.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("one event per line")).collect()
    }
}

//! A machine to run the program on: its own home, state folder, PATH and environment, a stand-in
//! for `tilt`, and nothing of the machine that the tests run on.
//!
//! Everything that a test waits for is looked at until it is so, or a deadline has passed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use fakes::honeycomb::{Answer, Reply, Server};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tilt-honeycomb");
/// Searched for in everything that leaves the program.
pub const KEY: &str = "hcaik_01canary7key9never4shown2anywhere";
pub const DATASET: &str = "dev-environments";
/// Where nobody listens, and no test running beside may begin to.
pub const NOBODY: &str = "http://127.0.0.1:1";
/// Far more than any run may take, whoever else wants the machine; whoever needs it is stuck.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often what has to be quick may be tried. Whoever else wants the machine may hold up any one
/// of them; what waits for too long by itself does so each time.
const TRIES: usize = 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `what` is so.
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    assert!(within(PATIENCE, is_so), "not so after {PATIENCE:?}: {what}");
}

/// Tries what the machine may not have given its time, until one has had it. What fails for any
/// other reason should panic, and not be tried again.
#[track_caller]
pub fn in_some_tries<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(result) = attempt() {
            return result;
        }
        let _ = writeln!(io::stderr(), "tried again: {what}");
    }
    panic!("not in {TRIES} tries: {what}");
}

/// At its best it takes less than this.
#[track_caller]
pub fn takes_less_than(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    in_some_tries(&format!("it takes less than {limit:?}"), || {
        Some(attempt()).filter(|took| *took < limit)
    });
}

fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}

/// Says why a test did nothing. Past the capture of `eprintln!`, which hides it from who passes.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}

pub fn capture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/0.37.6").join(path)
}

/// The events of a first report on the recorded environment: 9 `uiresource` and a `session`, 9
/// `update`, and 3 image builds with 17 stages.
pub const RECORDED: usize = 39;

/// The captures' four kinds, in the order in which single calls ask for them.
pub const KINDS: [&str; 4] = ["uisession", "uiresources", "dockerimages", "cmdimages"];

pub struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    /// A machine on which Tilt shows the recorded compose environment: nine resources, two
    /// docker images (one of them failed) and one custom image.
    pub fn new() -> Self {
        let sandbox = Self { root: tempfile::tempdir().expect("a temporary folder") };
        for folder in ["home", "state", "bin", "tilt", "work"] {
            fs::create_dir(sandbox.path(folder)).expect("a folder");
        }
        for kind in KINDS {
            let name = format!("{kind}.json");
            let recorded = capture(&format!("compose/{name}"));
            fs::copy(recorded, sandbox.path("tilt").join(name)).expect("a copy");
        }
        std::os::unix::fs::symlink(test_tool("fake-tilt"), sandbox.path("bin/tilt"))
            .expect("a link");
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn tilt(&self) -> TiltFolder {
        TiltFolder(self.path("tilt"))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state/tilt-honeycomb")
    }

    /// The state of the one destination that was used.
    pub fn state_file(&self) -> PathBuf {
        let mut files = self.state_files();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        assert_eq!(files.len(), 1, "one state: {files:?}");
        files.remove(0)
    }

    pub fn state_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state_dir()) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// How many events wait on disk.
    pub fn waiting(&self) -> usize {
        let state = fs::read(self.state_file()).expect("a state");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        state["queue"]["events"].as_array().expect("a queue").len()
    }

    /// The program with these options, which hold no spaces.
    pub fn run(&self, options: &str) -> Invocation {
        self.command(&[&[PROGRAM], &options.split_whitespace().collect::<Vec<_>>()[..]].concat())
    }

    /// Any command in the place of the program.
    pub fn command(&self, words: &[&str]) -> Invocation {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("PATH", self.path("bin"))
            .env("STAND_IN", self.path("tilt"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        Invocation { command }
    }

    /// Puts a script of the shell's in a program's place, if there was one.
    pub fn install(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let (program, fresh) = (self.path("bin").join(name), self.path("fresh-program"));
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).expect("its mode");
        // Who runs it meanwhile finds the one or the other.
        fs::rename(fresh, program).expect("its name");
    }

    /// One report to a server, which has all the time that it needs.
    pub fn report_to(&self, server: &Server) -> Invocation {
        self.report_within("1m", server)
    }

    pub fn report_within(&self, timeout: &str, server: &Server) -> Invocation {
        self.run("--once").args(&["--timeout", timeout]).sending_to(server)
    }

    /// Leaves everything of one report waiting on disk; how many events that is.
    pub fn report_in_vain(&self, server: &Server) -> usize {
        // A pause so long that no delivery waits for it.
        server.usually(Reply::new(503, "").header("retry-after", 600));
        in_some_tries("a look", || self.report_to(server).finish().unless_tilt_was_slow())
            .exits_with(4);
        server.usually(Answer::Accept);
        self.waiting()
    }

    /// Holds the lock under which the state is changed.
    pub fn hold_state(&self) -> File {
        let lock = File::open(self.state_file().with_extension("lock")).expect("a lock");
        lock.lock().expect("it is free");
        lock
    }

    /// Waits for a watch of the resources.
    #[track_caller]
    pub fn is_watched(&self) {
        eventually("a watch", || {
            self.tilt().called_with().iter().any(|call| call.contains("uiresources --watch"))
        });
    }

    /// The sidecar that looks, at the shortest interval there is.
    pub fn sidecar_to(&self, server: &Server) -> Invocation {
        self.run("--no-watch --interval 1s").sending_to(server)
    }

    /// The sidecar that watches.
    pub fn live_to(&self, server: &Server) -> Invocation {
        self.run("").sending_to(server)
    }
}

/// What a sidecar takes at the most to send what waits when it is asked to end; by then it may have
/// been too late to send.
pub const FAREWELL: Duration = Duration::from_millis(1100);
/// Of that, the last look may take no more.
pub const LATE_LOOK: &str = "no answer after 600ms";

/// Two names change places in one step, so that a collector that runs finds neither gone.
pub fn change_places(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("both are there");
}

/// The library that counts steps and has a clock of its own, compiled once.
#[cfg(target_os = "linux")]
pub fn machine() -> PathBuf {
    static COMPILED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let folder = Path::new(PROGRAM).parent().expect("a folder");
    COMPILED.get_or_init(|| fakes::machine::compiled(folder)).clone()
}

/// The path of a program of `test-tools`. `cargo test` builds them beside `tilt-honeycomb`.
pub fn test_tool(name: &str) -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// What the stand-in answers from; `tests/fakes/bin/fake_tilt.rs` says which file does what.
pub struct TiltFolder(PathBuf);

impl TiltFolder {
    pub fn set(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        // A reader must never see half of it.
        let fresh = self.0.join(format!("{name}.fresh"));
        fs::write(&fresh, contents).expect("a file");
        fs::rename(fresh, self.0.join(name)).expect("its name");
        self
    }

    /// Has a watch show one more version of an object.
    pub fn add(&self, journal: &str, object: &Value) -> &Self {
        let path = self.0.join(journal);
        let journal = fs::OpenOptions::new().create(true).append(true).open(path);
        let written = journal.and_then(|mut j| j.write_all(format!("{object}\n").as_bytes()));
        written.expect("the journal");
        self
    }

    pub fn unset(&self, name: &str) -> &Self {
        fs::remove_file(self.0.join(name)).expect("a file that was set");
        self
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Changes what Tilt shows of a kind.
    pub fn change(&self, kind: &str, change: impl FnOnce(&mut Vec<Value>)) -> &Self {
        let name = format!("{kind}.json");
        let mut list: Value = serde_json::from_str(&self.read(&name)).expect("a list");
        change(list["items"].as_array_mut().expect("items"));
        self.set(&name, list.to_string())
    }

    /// Has the image of `web` built anew.
    pub fn build_web(&self, started_at: &str, finished_at: &str) -> &Self {
        self.change("dockerimages", |images| {
            images[0]["status"]["completed"] =
                json!({"startedAt": started_at, "finishedAt": finished_at});
        })
    }

    /// Has the watches show that `lint` fails.
    pub fn break_lint(&self) -> &Self {
        let broken = json!({
            "kind": "UIResource",
            "metadata": {"name": "lint"},
            "status": {"updateStatus": "error", "runtimeStatus": "not_applicable"},
        });
        self.add("watch-uiresources.jsonl", &broken)
    }

    /// Shows this many resources more.
    pub fn crowd(&self, count: usize) -> &Self {
        self.change("uiresources", |resources| {
            let mut another = resources[0].clone();
            another["status"]["buildHistory"] = Value::Null;
            for number in 0..count {
                another["metadata"]["name"] = json!(format!("another-{number}"));
                resources.push(another.clone());
            }
        })
    }

    /// Has what was recorded of this happen so much faster, once `replay-held` is gone.
    pub fn replay(&self, capture: impl Fn(&str) -> PathBuf, speed: u32) -> &Self {
        for kind in ["uiresources", "dockerimages"] {
            let journal = format!("watch-{kind}.jsonl");
            let recorded = fs::read(capture(&journal)).expect("a capture");
            self.unset(&format!("{kind}.json")).set(&journal, recorded);
        }
        self.set("replay-held", "").set("replay-speed", speed.to_string())
    }

    /// Waits until so many watches have shown what there is.
    #[track_caller]
    pub fn is_watched_by(&self, watches: usize) -> &Self {
        eventually("they have shown the list", || self.read("watched").lines().count() >= watches);
        self
    }

    pub fn calls(&self) -> Vec<Value> {
        let calls = self.read("calls");
        calls.lines().map(|line| serde_json::from_str(line).expect("a call")).collect()
    }

    /// The arguments of each call, joined by spaces.
    pub fn called_with(&self) -> Vec<String> {
        let joined = |call: &Value| {
            let words = call["arguments"].as_array().expect("arguments");
            words.iter().map(|w| w.as_str().expect("text")).collect::<Vec<_>>().join(" ")
        };
        self.calls().iter().map(joined).collect()
    }
}

#[must_use]
pub struct Invocation {
    command: Command,
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

    /// Arguments that may hold spaces.
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

    /// Stdin stays open and silent for as long as the process is held.
    pub fn with_open_stdin(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    #[track_caller]
    pub fn start(mut self) -> Process {
        // Before it can do anything: who measures may be held up in between.
        let started = Instant::now();
        let spawned = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Process::watch(spawned.expect("the program starts"), started)
    }

    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.start().finish()
    }
}

/// The time that a process has used, in hundredths of a second.
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
    let ticks = stat.rsplit(')').next().expect("fields").split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// A started program; dropped, it is killed.
pub struct Process {
    pid: Pid,
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
            pid: Pid::from_child(&child),
            started,
            progress: Arc::clone(&progress),
            stdin: child.stdin.take(),
        };
        thread::spawn(move || {
            let status = child.wait().expect("a child of ours");
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

    /// Whether all who held its stdout and stderr have ended.
    pub fn is_silent(&self) -> bool {
        lock(&self.progress).closed == 2
    }

    /// The time it has used, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        cpu_ticks(self.pid.as_raw_pid())
    }

    pub fn resident_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_pid()));
        let status = status.expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = resident.and_then(|resident| resident.split_whitespace().next());
        number.expect("a size").parse().expect("a number")
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_pid()));
        let tasks = tasks.expect("it runs").flatten();
        // One that ends meanwhile has no name any more.
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).collect()
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let said = within(PATIENCE, || self.stderr().contains(text));
        assert!(said, "did not say {text:?} but:\n{}", self.stderr());
        self
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) -> &Self {
        assert!(self.is_running(), "has ended:\n{}", self.stderr());
        kill_process(self.pid, signal).expect("a process of ours");
        self
    }

    /// Signals, and waits for the end: how long that took.
    #[track_caller]
    pub fn ends_after(self, signal: Signal) -> (Outcome, Duration) {
        let signalled = Instant::now();
        self.signal(signal);
        let outcome = self.finish();
        let took = outcome.ended.saturating_duration_since(signalled);
        (outcome, took)
    }

    #[track_caller]
    pub fn finish(self) -> Outcome {
        let ended = within(PATIENCE, || !self.is_running());
        assert!(ended, "still running after {PATIENCE:?}:\n{}", self.stderr());
        // What it said last may not have been read yet.
        let said_all = within(PATIENCE, || self.is_silent());
        assert!(said_all, "after its end something holds its output:\n{}", self.stderr());
        let (status, ended) = lock(&self.progress).ended.expect("it has ended");
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
            let _ = kill_process(self.pid, Signal::KILL);
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

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    pub ended: Instant,
}

impl Outcome {
    /// `None` where it gave up a Tilt that had much to print and too little of the machine.
    pub fn unless_tilt_was_slow(self) -> Option<Self> {
        Some(self).filter(|outcome| !outcome.stderr.contains("no answer after 20s"))
    }

    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "did not say {text:?} but:\n{}", self.stderr);
        self
    }

    /// What `check` found of a part: the verdict and what was said.
    #[track_caller]
    pub fn found(&self, topic: &str) -> (&str, &str) {
        let line = self.stdout.lines().find(|line| line.get(8..18).map(str::trim) == Some(topic));
        let line = line.unwrap_or_else(|| panic!("no line of {topic}:\n{}", self.stdout));
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

    /// One line, however much went wrong.
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

    /// What a dry run printed.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("an event a line")).collect()
    }
}

/// The events of one kind.
pub fn of_kind(events: &[Value], kind: &str) -> Vec<Value> {
    events.iter().filter(|event| event["data"]["kind"] == kind).cloned().collect()
}

/// What tells image builds apart: image and start.
pub fn builds(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut builds: Vec<_> = events
        .iter()
        .filter(|event| matches!(event["data"]["kind"].as_str(), Some("dockerimage" | "cmdimage")))
        .map(|event| (text(&event["data"]["image_name"]), text(&event["time"])))
        .collect();
    builds.sort();
    builds
}

/// The three builds of the recorded environment.
pub fn recorded_builds() -> Vec<(String, String)> {
    [
        ("api", "2026-11-22T16:03:32.395415Z"),
        ("web", "2026-11-22T15:22:07.934675Z"),
        ("worker", "2026-11-22T15:25:12.885547Z"),
    ]
    .map(|(image, start)| (image.to_owned(), start.to_owned()))
    .to_vec()
}

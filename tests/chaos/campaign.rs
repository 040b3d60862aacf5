//! Runs the fault campaign: rounds of one or more faults, with a recovery after each round.
//!
//! Up to five collectors share one state folder: sidecars that watch, sidecars that poll, and
//! consecutive `--once` reports. One sidecar runs for the whole campaign. In each round the proxy,
//! the server, Tilt, the state, the processes and the clock may each have a fault. The round then
//! ends all faults except a wrong clock, and waits until every event that was on disk at that moment
//! has been delivered.
//!
//! A loss is a build that Tilt showed and the server neither took nor refused for good, when the
//! campaign has ended with an empty queue. `world.rs` says why each shown build counts, and
//! `faults.rs` what excuses a repetition. The state is destroyed only when every build that Tilt
//! no longer shows has been answered for, so that not even this excuses a loss.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fakes::machine::{self, Clock};
use fakes::tls;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::{FaultyServer, KEY, LATE_ARRIVAL, RepeatCause, Repeats, ServerMode, URL};
use crate::random::Random;
use crate::world::{CANARIES, World, key};

const TICK: Duration = Duration::from_millis(10);
/// The longest time that a collector may take to deliver its queue after the faults have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);
/// A shorter campaign skips the leak check, since buffers still grow in its first quarter.
const MIN_SECONDS_FOR_LEAK_CHECK: u64 = 120;
/// A suspension up to this long causes no timeout: every request has at least a second left.
const HARMLESS_PAUSE: Duration = Duration::from_millis(100);
/// Errors of the wall clock, in seconds.
const CLOCK_OFFSETS: [i64; 9] =
    [-400 * DAY, -40 * DAY, -DAY, -3600, 0, 3600, DAY, 40 * DAY, 400 * DAY];
const DAY: i64 = 24 * 3600;
/// File size limit that simulates a full disk: too small for a state, enough for a lock file.
const FULL_DISK_BYTES: u64 = 256;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seconds: u64,
    pub seed: u64,
}

pub struct Outcome {
    pub table: String,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A watching sidecar that runs for the whole campaign.
    LongLived,
    Watching,
    /// A sidecar with `--no-watch`.
    Polling,
    /// A `--once` report.
    Once,
}

/// A running collector.
struct Collector {
    role: Role,
    pid: Pid,
    began: Instant,
    /// True once the campaign has sent it SIGTERM or SIGKILL.
    is_signalled: Arc<AtomicBool>,
    /// True if the server already knows which events may repeat because of its exit.
    exit_recorded: Arc<AtomicBool>,
    /// Ends with the process and returns its exit code.
    exit_code: JoinHandle<Option<i32>>,
    /// Ends with the process and returns the lines of its stderr.
    stderr: JoinHandle<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TiltFault {
    NotRunning,
    Stale,
    NotInstalled,
    Hanging,
    Stubborn,
    LeavingAProcess,
    DyingMidObject,
    Flooding,
    InvalidUtf8,
    Slow,
    WatchesEnd,
}

impl TiltFault {
    const ALL: [Self; 11] = [
        Self::NotRunning,
        Self::Stale,
        Self::NotInstalled,
        Self::Hanging,
        Self::Stubborn,
        Self::LeavingAProcess,
        Self::DyingMidObject,
        Self::Flooding,
        Self::InvalidUtf8,
        Self::Slow,
        Self::WatchesEnd,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "tilt: not running",
            Self::Stale => "tilt: killed, its config entry remains",
            Self::NotInstalled => "tilt: not installed",
            Self::Hanging => "tilt: hangs",
            Self::Stubborn => "tilt: hangs, ignores SIGTERM, leaves a child",
            Self::LeavingAProcess => "tilt: leaves a child that holds its output open",
            Self::DyingMidObject => "tilt: exits in the middle of an object",
            Self::Flooding => "tilt: prints 100 MB",
            Self::InvalidUtf8 => "tilt: prints invalid UTF-8",
            Self::Slow => "tilt: takes 700 ms",
            Self::WatchesEnd => "tilt: ends its watches",
        }
    }

    /// The files that make the fake Tilt behave this way.
    fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::NotRunning => &[("no-tilt", b"")],
            Self::Stale => &[("stale", b"")],
            Self::NotInstalled | Self::WatchesEnd => &[],
            Self::Hanging => &[("hang", b"")],
            Self::Stubborn => &[("hang", b""), ("ignore-signals", b""), ("leave-process", b"")],
            Self::LeavingAProcess => &[("leave-process", b"")],
            Self::DyingMidObject => &[
                ("stdout", b"{\"kind\": \"List\", \"items\": [{\"kind\": \"UIRes"),
                ("exit", b"0"),
            ],
            Self::Flooding => &[("noise", b"100")],
            Self::InvalidUtf8 => &[("stdout", b"{\"kind\": \"List\", \"items\": [\"\xff\xfe\"]}")],
            Self::Slow => &[("sleep", b"700")],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateFault {
    Truncated,
    BitFlipped,
    Overwritten,
    Removed,
    ReplacedByFile,
    DiskFull,
    LocksRemoved,
}

impl StateFault {
    const ALL: [Self; 7] = [
        Self::Truncated,
        Self::BitFlipped,
        Self::Overwritten,
        Self::Removed,
        Self::ReplacedByFile,
        Self::DiskFull,
        Self::LocksRemoved,
    ];

    fn name(self) -> &'static str {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessFault {
    Kill,
    KillInFlight,
    Terminate,
    Suspend,
}

impl ProcessFault {
    const ALL: [Self; 4] = [Self::Kill, Self::KillInFlight, Self::Terminate, Self::Suspend];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "process: kill -9",
            Self::KillInFlight => "process: kill -9 while a request is in flight",
            Self::Terminate => "process: SIGTERM",
            Self::Suspend => "process: suspended for up to 3 s, even with a lock",
        }
    }
}

#[derive(Debug, Default)]
struct Round {
    server: Option<ServerMode>,
    tilt: Option<TiltFault>,
    state: Option<StateFault>,
    process: Option<ProcessFault>,
    /// Sets the error of the wall clock to this many seconds, for this and later rounds.
    clock_offset: Option<i64>,
    /// Runs no `--once` reports until the sidecars have delivered the queue.
    sidecars_only: bool,
}

struct Campaign {
    scratch: TempDir,
    programs: PathBuf,
    /// The library that `LD_PRELOAD` of each collector names.
    machine: PathBuf,
    /// The collectors' wall clock. The fake Tilt and the server use the real one.
    clock: Clock,
    clock_offset: i64,
    server: Arc<FaultyServer>,
    world: Arc<Mutex<World>>,
    random: Random,
    collectors: Vec<Collector>,
    /// The sidecars of this round, without the long-lived one.
    wanted: Vec<Role>,
    runs_once_reports: bool,
    is_disk_full: bool,
    /// Since when the collectors cannot write the state.
    unwritable_since: Option<Instant>,
    injected: BTreeMap<&'static str, u64>,
    postponed: u64,
    problems: Arc<Mutex<Vec<String>>>,
    /// The longest delivery of a queue: with `--once` reports, and by sidecars only.
    longest_drain: [Option<Duration>; 2],
    shutdown_took: Duration,
    /// How long this machine was paused, for instance as a virtual machine.
    machine_paused: Duration,
    /// When the last suspended process resumes.
    suspended_until: Instant,
    once_reports: u64,
    /// The messages of `--once` reports that exited with 1 while neither Tilt nor the disk had a fault.
    unexplained_failures: Vec<String>,
    /// True while Tilt or the state has a fault, or a process that holds a lock may be suspended.
    has_fault: bool,
    /// When that was last the case.
    fault_until: Instant,
    /// A log of the rounds. Printed if the campaign fails.
    history: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn run(options: Options) -> Outcome {
    let began = Instant::now();
    let ends = began + Duration::from_secs(options.seconds);
    let mut campaign = Campaign::new(options.seed);
    let is_over = Arc::new(AtomicBool::new(false));
    let driver = drive_world(Arc::clone(&campaign.world), Arc::clone(&is_over));
    campaign.warm_up();
    let mut sizes = Sizes::default();
    let quarter = (ends - began) / 4;
    let mut quarter_ends = began + quarter;
    while Instant::now() < ends && campaign.has_no_problem() {
        campaign.round(options.seconds >= 60);
        sizes.record(campaign.long_lived());
        if Instant::now() >= quarter_ends {
            quarter_ends += quarter;
            sizes.end_quarter();
        }
    }
    is_over.store(true, Ordering::SeqCst);
    driver.join().expect("the thread of the world");
    campaign.deliver_all();
    campaign.end_all();
    campaign.sum_up(options, began.elapsed(), &sizes)
}

/// Resident memory in KiB, threads and open files of the long-lived sidecar, after each round.
#[derive(Default)]
struct Sizes {
    /// The minimum of each past quarter of the campaign. A leak raises it. Resources that an outage
    /// needs are released again, or needed only once.
    minimum: Vec<[u64; 3]>,
    /// The minimum of the current quarter.
    current: Option<[u64; 3]>,
    maximum: [u64; 3],
}

impl Sizes {
    fn record(&mut self, size: [u64; 3]) {
        let minimum = self.current.get_or_insert(size);
        for (at, size) in size.into_iter().enumerate() {
            minimum[at] = minimum[at].min(size);
            self.maximum[at] = self.maximum[at].max(size);
        }
    }

    fn end_quarter(&mut self) {
        self.minimum.extend(self.current.take());
    }

    /// Reports what grew from the first quarter to the last.
    fn growth(&self) -> Vec<String> {
        let [[memory, threads, open_files], .., [memory_after, threads_after, open_files_after]] =
            self.minimum[..]
        else {
            return vec!["leak check: fewer than two quarters to compare".to_owned()];
        };
        let mut grown = Vec::new();
        // The heap may keep what an outage needed.
        if memory_after > (memory + memory / 2).max(32 * 1024) {
            grown.push(format!("leak: resident memory grew from {memory} to {memory_after} KiB"));
        }
        // A watch that is being restarted needs a few more.
        if threads_after > threads + 6 {
            grown.push(format!("leak: threads grew from {threads} to {threads_after}"));
        }
        if open_files_after > open_files + 6 {
            grown.push(format!("leak: open files grew from {open_files} to {open_files_after}"));
        }
        grown
    }
}

/// Advances the world until `is_over`, and then until the running builds have completed.
fn drive_world(world: Arc<Mutex<World>>, is_over: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let mut world = lock(&world);
            if is_over.load(Ordering::SeqCst) {
                world.pause();
                if world.is_idle() {
                    return;
                }
            }
            world.advance(Instant::now()).expect("the fake Tilt's folder is writable");
            drop(world);
            thread::sleep(TICK);
        }
    })
}

impl Campaign {
    fn new(seed: u64) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let tilt = scratch.path().join("tilt");
        fs::create_dir(&tilt).expect("a folder");
        let programs = fakes::programs();
        let server = FaultyServer::start(seed).expect("ports on loopback");
        let world = World::new(&tilt, seed).expect("a stand-in's folder");
        let machine = machine::compiled(scratch.path());
        let clock = Clock::new(scratch.path().join("clock")).expect("a file");
        let campaign = Self {
            scratch,
            programs,
            machine,
            clock,
            clock_offset: 0,
            server,
            world: Arc::new(Mutex::new(world)),
            random: Random::new(seed.wrapping_add(17)),
            collectors: Vec::new(),
            wanted: Vec::new(),
            runs_once_reports: true,
            is_disk_full: false,
            unwritable_since: None,
            injected: BTreeMap::new(),
            postponed: 0,
            problems: Arc::default(),
            longest_drain: [None; 2],
            shutdown_took: Duration::ZERO,
            machine_paused: Duration::ZERO,
            suspended_until: Instant::now(),
            once_reports: 0,
            unexplained_failures: Vec::new(),
            has_fault: false,
            fault_until: Instant::now(),
            history: Vec::new(),
        };
        campaign.install_tilt();
        campaign
    }

    fn install_tilt(&self) {
        let link = self.scratch.path().join("fake-tilt");
        std::os::unix::fs::symlink(self.programs.join("fake-tilt"), link).expect("a link");
    }

    fn state_dir(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    fn has_no_problem(&self) -> bool {
        lock(&self.problems).is_empty()
    }

    fn problem(&self, problem: String) {
        lock(&self.problems).push(problem);
    }

    fn count(&mut self, name: &'static str) {
        *self.injected.entry(name).or_default() += 1;
    }

    /// Waits until the long-lived sidecar has sent its first requests.
    fn warm_up(&mut self) {
        self.start_missing();
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.server.requests() < 5 && Instant::now() < deadline {
            self.tick();
        }
    }

    /// Starts the collectors that should run and do not.
    fn start_missing(&mut self) {
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
        // SIGXFSZ kills a process that exceeds its file size limit. Ignored signals are inherited, so
        // the collector gets an error instead, as on a full disk.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(self.programs.join("tilt-honeycomb"))
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
                server.record_exit(&on_disk(&scratch));
            }
            code
        })
    }

    /// Handles collectors that have ended and starts the missing ones.
    fn tick(&mut self) {
        self.reap();
        self.start_missing();
        let before = Instant::now();
        thread::sleep(TICK);
        let machine_paused = before.elapsed().saturating_sub(TICK);
        if machine_paused > Duration::from_secs(1) {
            // The collectors were paused too, and may time out now.
            self.server.record_machine_pause(&on_disk(self.scratch.path()));
            self.machine_paused += machine_paused;
        }
    }

    fn reap(&mut self) {
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

    fn round(&mut self, is_long: bool) {
        let round = self.draw_round(is_long);
        // Two collectors in total, or five.
        self.wanted = match self.random.below(4) {
            0 => Vec::new(),
            _ => vec![Role::Watching, Role::Polling, Role::Polling],
        };
        self.stop_unwanted();
        self.check_processes();
        self.begin_faults(&round);
        let at = self.server.began.elapsed().as_secs_f64();
        self.history.push(format!("{at:.3} s: {round:?}, {} more sidecars", self.wanted.len()));
        let milliseconds = 200 + self.random.below(if is_long { 4000 } else { 700 });
        self.run_faults(&round, Duration::from_millis(milliseconds));
        self.end_faults(&round);
        if std::mem::take(&mut self.has_fault) {
            self.fault_until = self.suspended_until.max(Instant::now());
        }
        self.wait_until_drained(&round);
        self.check_files();
        self.check_hidden_builds(&round);
    }

    /// Injects the faults of the server, Tilt and the state.
    fn begin_faults(&mut self, round: &Round) {
        self.has_fault = round.tilt.is_some()
            || round.state.is_some()
            || round.process == Some(ProcessFault::Suspend);
        if let Some(fault) = round.tilt {
            self.inject_tilt_fault(fault);
        }
        if let Some(mode) = round.server {
            self.server.set(mode);
            // The server counts all other faults when a request meets them.
            if mode == ServerMode::RefusingConnections {
                self.server.count(mode);
            }
        }
        if let Some(fault) = round.state {
            self.inject_state_fault(fault);
        }
    }

    /// Runs the collectors for this long, and injects the faults of the processes and the clock.
    fn run_faults(&mut self, round: &Round, duration: Duration) {
        let half = Instant::now() + duration / 2;
        let ends = Instant::now() + duration;
        while Instant::now() < ends {
            if let Some(fault) = round.process {
                self.inject_process_fault(fault);
            }
            // Halfway, so that events of the other faults are already queued.
            if let Some(seconds) = round.clock_offset
                && seconds != self.clock_offset
                && Instant::now() >= half
            {
                self.set_clock(seconds);
            }
            self.tick();
        }
    }

    /// Draws a round: one fault half of the time, otherwise two or three.
    fn draw_round(&mut self, is_long: bool) -> Round {
        let mut round = Round::default();
        let faults = if self.random.is_one_in(2) { 1 } else { 2 + self.random.below(2) };
        for _ in 0..faults {
            match self.random.below(9) {
                0 => round.clock_offset = Some(self.random.pick(&CLOCK_OFFSETS)),
                1 | 2 => round.server = Some(self.random.pick(&ServerMode::FAULTS)),
                3 | 4 => round.tilt = Some(self.random.pick(&TiltFault::ALL)),
                5 | 6 => round.state = Some(self.random.pick(&StateFault::ALL)),
                _ => round.process = Some(self.random.pick(&ProcessFault::ALL)),
            }
        }
        if round.process == Some(ProcessFault::KillInFlight) {
            round.server = Some(ServerMode::Slow);
        }
        round.sidecars_only = is_long && self.random.is_one_in(3);
        round
    }

    fn stop_unwanted(&mut self) {
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

    fn inject_process_fault(&mut self, fault: ProcessFault) {
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
            let on_disk = on_disk(self.scratch.path());
            self.server.record_suspension(&on_disk, ports, pause, RepeatCause::ProcessSuspended);
        }
        resume_after(pid, pause);
        self.suspended_until = self.suspended_until.max(Instant::now() + pause);
    }

    fn set_clock(&mut self, seconds: i64) {
        self.count(if seconds < self.clock_offset {
            "clock: set back"
        } else {
            "clock: set ahead"
        });
        self.clock.leap(seconds).expect("a file");
        self.clock_offset = seconds;
    }

    /// Kills a collector. It suspends the process first, so that the server knows which events it has
    /// not recorded before another collector can send them again.
    fn kill(&self, collector: &Collector) {
        let ports = suspend(collector.pid);
        let on_disk = on_disk(self.scratch.path());
        self.server.record_suspension(&on_disk, ports, LATE_ARRIVAL, RepeatCause::ProcessEnded);
        collector.exit_recorded.store(true, Ordering::SeqCst);
        signal(collector, Signal::KILL);
    }

    /// Waits until every signalled collector has ended.
    fn reap_signalled(&mut self) {
        let is_signalled = |c: &Collector| c.is_signalled.load(Ordering::SeqCst);
        while self.collectors.iter().any(|c| is_signalled(c) && !c.exit_code.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        self.reap();
    }

    fn tilt_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join("tilt").join(name)
    }

    fn inject_tilt_fault(&mut self, fault: TiltFault) {
        self.count(fault.name());
        if fault == TiltFault::NotInstalled {
            fs::remove_file(self.scratch.path().join("fake-tilt")).expect("a link");
        }
        for (name, contents) in fault.files() {
            // Renamed, so that the fake Tilt never reads half a file.
            fs::write(self.tilt_file("fresh"), contents).expect("a file");
            fs::rename(self.tilt_file("fresh"), self.tilt_file(name)).expect("a rename");
        }
        // Ends the watches, so that restarted ones meet the fault.
        if fault == TiltFault::WatchesEnd || self.random.is_one_in(2) {
            fs::write(self.tilt_file("end"), "").expect("a file");
            thread::sleep(TICK);
            fs::remove_file(self.tilt_file("end")).expect("a file");
        }
    }

    fn inject_state_fault(&mut self, fault: StateFault) {
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
        let file = state_file(&self.state_dir());
        let locked = file.as_deref().and_then(lock_state);
        let (Some(file), Some(locked)) = (file, locked) else {
            self.postponed += 1;
            return world.resume();
        };
        let loses_nothing = fault == StateFault::LocksRemoved;
        let visible = world.visible();
        let is_settled = |key: &String| visible.contains(key) || self.server.is_settled(key);
        if !world.is_idle() || !world.completed().iter().all(is_settled) {
            self.postponed += 1;
            return world.resume();
        }
        let queued = on_disk(self.scratch.path());
        let visible = if loses_nothing { HashSet::new() } else { world.recently_visible() };
        let server = Arc::clone(&self.server);
        server.record_state_loss(queued, &visible, || self.damage(fault, &file));
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
                for extension in ["sending", "lock"] {
                    // The file may not exist.
                    let _ = fs::remove_file(file.with_extension(extension));
                }
            }
            _ => {
                let trash = self.scratch.path().join("trash");
                fs::rename(self.state_dir(), &trash).expect("a rename");
                fs::remove_dir_all(trash).expect("a folder");
            }
        }
    }

    fn end_faults(&mut self, round: &Round) {
        if let Some(fault) = round.tilt {
            for (name, _) in fault.files() {
                fs::remove_file(self.tilt_file(name)).expect("a file");
            }
            if fault == TiltFault::NotInstalled {
                self.install_tilt();
            }
        }
        if let Some(since) = self.unwritable_since.take() {
            // Requests in flight when the disk became full could not be recorded either.
            self.server
                .record_full_disk(&on_disk(self.scratch.path()), since + Duration::from_secs(1));
        }
        let aside = self.scratch.path().join("aside");
        if aside.exists() {
            swap(&self.state_dir(), &aside).expect("the state folder");
            fs::remove_file(aside).expect("the file that replaced the folder");
        }
        if std::mem::take(&mut self.is_disk_full) {
            self.collectors.iter().for_each(|collector| limit_file_size(collector.pid, None));
        }
        self.runs_once_reports = !round.sidecars_only;
        self.server.set(ServerMode::Healthy);
    }

    /// Waits until every event that is on disk now has been delivered.
    fn wait_until_drained(&mut self, round: &Round) {
        let (began, paused_before) = (Instant::now(), self.machine_paused);
        let time_without_pauses =
            |paused: Duration| began.elapsed().saturating_sub(paused.saturating_sub(paused_before));
        let queued = on_disk(self.scratch.path());
        while !on_disk(self.scratch.path()).is_disjoint(&queued) {
            if time_without_pauses(self.machine_paused) > DRAIN_TIMEOUT {
                self.problem(format!(
                    "{} events still queued {DRAIN_TIMEOUT:?} after the faults: {round:?}",
                    on_disk(self.scratch.path()).intersection(&queued).count()
                ));
                break;
            }
            self.tick();
        }
        let took = time_without_pauses(self.machine_paused);
        let longest = &mut self.longest_drain[usize::from(round.sidecars_only)];
        *longest = (*longest).max(Some(took));
        self.runs_once_reports = true;
    }

    /// Checks that every build that Tilt no longer shows is queued or settled.
    fn check_hidden_builds(&self, round: &Round) {
        let world = lock(&self.world);
        let visible = world.visible();
        let queued = on_disk(self.scratch.path());
        for key in world.completed() {
            let is_safe =
                visible.contains(key) || queued.contains(key) || self.server.is_settled(key);
            if !is_safe {
                self.problem(format!("lost: {key}, in {round:?}"));
            }
        }
    }

    /// Waits until every build is settled and the queue is empty.
    fn deliver_all(&mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        lock(&self.world).require_new_report(Instant::now());
        while Instant::now() < deadline {
            self.tick();
            let world = lock(&self.world);
            let is_settled = world.completed().iter().all(|key| self.server.is_settled(key));
            if is_settled && on_disk(self.scratch.path()).is_empty() {
                return;
            }
        }
    }

    /// Ends all collectors, including the long-lived one.
    fn end_all(&mut self) {
        thread::sleep(self.suspended_until.saturating_duration_since(Instant::now()));
        for collector in &self.collectors {
            signal(collector, Signal::TERM);
        }
        let signalled_at = Instant::now();
        while self.collectors.iter().any(|collector| !collector.exit_code.is_finished()) {
            if signalled_at.elapsed() > Duration::from_secs(5) {
                self.problem("a collector did not end within 5 s of SIGTERM".to_owned());
                for collector in &self.collectors {
                    signal(collector, Signal::KILL);
                }
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.shutdown_took = signalled_at.elapsed();
        self.check_files();
    }

    /// Checks that the arguments of collectors and their children hold no secret.
    fn check_processes(&self) {
        for collector in &self.collectors {
            for pid in with_children(collector.pid.as_raw_pid().cast_unsigned()) {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                self.check_text("the arguments of a process", &String::from_utf8_lossy(&line));
            }
        }
    }

    /// Checks that the state files hold no secret.
    fn check_files(&self) {
        for entry in fs::read_dir(self.state_dir()).into_iter().flatten().flatten() {
            // A collector may remove a file meanwhile.
            let bytes = fs::read(entry.path()).unwrap_or_default();
            self.check_text("a state file", &String::from_utf8_lossy(&bytes));
        }
    }

    fn check_text(&self, place: &str, text: &str) {
        if let Some(leak) = leak(text) {
            self.problem(format!("{leak} in {place}"));
        }
    }

    /// Resident memory in KiB, threads and open files of the long-lived sidecar.
    fn long_lived(&self) -> [u64; 3] {
        let collector = self.collectors.iter().find(|c| c.role == Role::LongLived);
        let Some(collector) = collector else { return [0; 3] };
        let process = format!("/proc/{}", collector.pid.as_raw_pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let open_files = fs::read_dir(format!("{process}/fd")).map_or(0, Iterator::count);
        [number("VmRSS:"), number("Threads:"), open_files as u64]
    }

    fn sum_up(self, options: Options, took: Duration, sizes: &Sizes) -> Outcome {
        let mut totals = self.totals();
        let mut problems = lock(&self.problems).clone();
        totals.lost.sort();
        problems.extend(totals.lost.iter().take(20).map(|key| format!("lost: {key}")));
        problems.extend(self.server_problems(&totals.repeats));
        problems.extend(self.progress_problems(options.seconds, totals.builds));
        if options.seconds >= MIN_SECONDS_FOR_LEAK_CHECK {
            problems.extend(sizes.growth());
        }
        if !problems.is_empty() {
            problems.extend(self.history.iter().cloned());
        }
        let mut table = Table(String::new());
        table.row("seed", options.seed);
        let seconds = format!("{}, {}", options.seconds, took.as_secs());
        table.row("seconds requested, and taken", seconds);
        self.add_faults(&mut table);
        self.add_deliveries(&mut table, &totals);
        self.add_durations(&mut table);
        add_sizes(&mut table, sizes);
        Outcome { table: table.0, problems }
    }

    fn totals(&self) -> Totals {
        let world = lock(&self.world);
        let builds = world.completed();
        let lost = builds.iter().filter(|key| !self.server.is_settled(key)).cloned().collect();
        let rejected = builds.iter().filter(|key| self.server.was_rejected(key)).count();
        Totals { builds: builds.len(), rejected, lost, repeats: self.server.repeats() }
    }

    fn server_problems(&self, repeats: &Repeats) -> Vec<String> {
        let unexplained = repeats.unexplained.iter().take(20);
        let mut problems: Vec<_> = unexplained.map(|key| format!("sent twice: {key}")).collect();
        problems.extend(self.server.leaks().into_iter().take(5));
        let redirected = self.server.redirected_requests();
        if redirected > 0 {
            problems.push(format!("{redirected} requests followed a redirect"));
        }
        problems
    }

    /// Reports a campaign in which too little happened to prove anything.
    fn progress_problems(&self, seconds: u64, builds: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let failures = &self.unexplained_failures;
        if failures.len() as u64 * 100 > self.once_reports {
            problems.push(format!("{} --once reports failed without a fault", failures.len()));
            problems.extend(failures.iter().take(20).cloned());
        }
        if (builds as u64) < seconds {
            problems.push(format!("only {builds} builds in {seconds} s"));
        }
        problems
    }

    fn add_faults(&self, table: &mut Table) {
        let mut injected = self.injected.clone();
        injected.extend(self.server.injected());
        let mut totals = BTreeMap::<_, u64>::new();
        for (name, count) in &injected {
            table.row(name, count);
            *totals.entry(name.split(':').next().unwrap_or_default()).or_default() += count;
        }
        for (target, count) in totals {
            table.row(&format!("all faults: {target}"), count);
        }
        table.row("state faults postponed because a build could get lost", self.postponed);
    }

    fn add_deliveries(&self, table: &mut Table, totals: &Totals) {
        let Totals { builds, rejected, lost, repeats } = totals;
        table.row("--once reports", self.once_reports);
        table.row("--once reports that failed without a fault", self.unexplained_failures.len());
        table.row("requests", self.server.requests());
        table.row("builds completed (updates, images, stages)", builds);
        table.row("builds delivered", builds - lost.len() - rejected);
        table.row("builds permanently rejected by the server", rejected);
        table.row("builds lost", lost.len());
        for (cause, count) in &repeats.explained {
            table.row(&format!("sent again: {cause}"), count);
        }
        table.row("sent again without a cause", repeats.unexplained.len());
    }

    fn add_durations(&self, table: &mut Table) {
        let paused = format!("{:.0} s", self.machine_paused.as_secs_f64());
        table.row("pauses of this machine", paused);
        let collectors = ["with --once reports", "by sidecars only"];
        for (collectors, longest) in collectors.iter().zip(self.longest_drain) {
            if let Some(longest) = longest {
                let longest = format!("{:.1} s", longest.as_secs_f64());
                table.row(&format!("longest delivery after the faults, {collectors}"), longest);
            }
        }
        let shutdown = format!("{} ms", self.shutdown_took.as_millis());
        table.row("time from SIGTERM to the last exit", shutdown);
    }
}

/// The results of a campaign.
struct Totals {
    builds: usize,
    rejected: usize,
    lost: Vec<String>,
    repeats: Repeats,
}

/// The results as text, one a line.
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        let _ = writeln!(self.0, "{name:<62}{value:>24}");
    }
}

fn add_sizes(table: &mut Table, sizes: &Sizes) {
    for (at, what) in ["resident KiB", "threads", "open files"].iter().enumerate() {
        let minima: Vec<_> = sizes.minimum.iter().map(|size| size[at].to_string()).collect();
        table.row(&format!("long-lived sidecar: {what}, minimum by quarter"), minima.join(" -> "));
        table.row(&format!("long-lived sidecar: {what}, maximum"), sizes.maximum[at]);
    }
}

/// Sends a signal and marks the collector as signalled.
fn signal(collector: &Collector, signal: Signal) {
    collector.is_signalled.store(true, Ordering::SeqCst);
    // The process may just have ended.
    let _ = kill_process(collector.pid, signal);
}

/// Suspends a process and returns the ports of its connections.
fn suspend(pid: Pid) -> HashSet<u16> {
    let _ = kill_process(pid, Signal::STOP);
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let runs = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'S', 'D']))
    };
    let deadline = Instant::now() + Duration::from_millis(500);
    // The sending thread may stop a moment later than the main thread.
    while entries(&process.join("task")).iter().any(|task| runs(task)) && Instant::now() < deadline
    {
        thread::sleep(Duration::from_micros(100));
    }
    ports(&process)
}

/// The local ports of a process's connections.
fn ports(process: &Path) -> HashSet<u16> {
    let files = entries(&process.join("fd"));
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

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Resumes a suspended process after this time.
fn resume_after(pid: Pid, after: Duration) {
    thread::spawn(move || {
        thread::sleep(after);
        let _ = kill_process(pid, Signal::CONT);
    });
}

/// Limits the size of the files that a process may write. `None` removes the limit.
fn limit_file_size(pid: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    // The process may just have ended.
    let _ = prlimit(Some(pid), Resource::Fsize, limit);
}

/// Swaps two paths atomically, so that a collector always finds one of them.
fn swap(a: &Path, b: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

/// The state file in this folder.
fn state_file(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "json"))
}

/// Takes the state's lock within two seconds.
fn lock_state(file: &Path) -> Option<File> {
    let lock = File::open(file.with_extension("lock")).ok()?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while lock.try_lock().is_err() {
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_micros(200));
    }
    Some(lock)
}

/// The keys of all events on disk: those queued for Honeycomb, and image builds whose update is not
/// known yet.
fn on_disk(scratch: &Path) -> HashSet<String> {
    let found = ["state", "aside"].iter().find_map(|folder| {
        let file = state_file(&scratch.join(folder))?;
        serde_json::from_slice::<Value>(&fs::read(file).ok()?).ok()
    });
    let Some(state) = found else { return HashSet::new() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut keys: HashSet<_> =
        list(&state["queue"]["events"]).iter().map(|e| key(&e["wire"])).collect();
    for session in state["sessions"].as_object().into_iter().flat_map(serde_json::Map::values) {
        for orphan in list(&session["orphan_images"]) {
            let events = list(&orphan["spans"]["events"]);
            let wires = events.iter().map(|e| json!({"time": e["time"], "data": e["fields"]}));
            keys.extend(wires.map(|wire| key(&wire)));
        }
    }
    keys
}

/// The ids of a process and its children.
fn with_children(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// The first secret in this text.
fn leak(text: &str) -> Option<&'static str> {
    CANARIES.iter().chain(&[KEY]).find(|canary| text.contains(**canary)).copied()
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

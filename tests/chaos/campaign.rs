//! The course of the campaign: rounds of faults, alone and mixed, with a heal after each.
//!
//! Up to five collectors share one state folder: sidecars that watch, sidecars that only look, and
//! single reports one after another. One sidecar lives from the first round to the last. In each
//! round the way to the server, the server, Tilt, the state, the processes and the clock may each have
//! a fault; then all is well again, but for the clock, and the campaign waits until what waited on disk
//! at that moment has been delivered.
//!
//! A loss is a build that Tilt showed and the server neither took nor refused for good, when the
//! campaign has ended with an empty queue. `world.rs` says why each shown build counts, and
//! `faults.rs` what excuses a repetition. The state is destroyed only when every build that Tilt
//! no longer shows has been answered for, so that not even this excuses a loss.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

use crate::faults::{ECHO, Excuse, Hostile, KEY, Mood, URL};
use crate::random::Random;
use crate::world::{CANARIES, World, key};

const TICK: Duration = Duration::from_millis(10);
/// Longer than any collector may take to come back to a server that is well.
const PATIENCE: Duration = Duration::from_secs(90);
/// In a shorter campaign the first quarter is too short for every buffer to get its size.
const SETTLED_AFTER: u64 = 120;
/// Whoever is stopped for less hears the answer: nobody asks with less than a second left.
const ANSWERED_AFTER: Duration = Duration::from_millis(100);
/// By how much the wall clock may be off.
const LEAPS: [i64; 9] = [-400 * DAY, -40 * DAY, -DAY, -3600, 0, 3600, DAY, 40 * DAY, 400 * DAY];
const DAY: i64 = 24 * 3600;
/// What a disk takes when it is full: no state, but a lock.
const FULL: u64 = 256;

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
    /// A watching sidecar that nobody kills.
    LongLived,
    Watching,
    Looking,
    Single,
}

/// A collector that runs.
struct Collector {
    role: Role,
    pid: Pid,
    began: Instant,
    /// It was told to end, or killed.
    is_doomed: Arc<AtomicBool>,
    /// What its death excuses was noted before.
    was_held: Arc<AtomicBool>,
    /// Its exit code, as soon as it has ended.
    ended: JoinHandle<Option<i32>>,
    /// What it said, as soon as it has ended.
    said: JoinHandle<Vec<String>>,
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
    NotUtf8,
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
        Self::NotUtf8,
        Self::Slow,
        Self::WatchesEnd,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "tilt: not running",
            Self::Stale => "tilt: killed, its entry left",
            Self::NotInstalled => "tilt: program missing",
            Self::Hanging => "tilt: hangs",
            Self::Stubborn => "tilt: hangs, ignores SIGTERM, leaves a process",
            Self::LeavingAProcess => "tilt: leaves a process that holds its output",
            Self::DyingMidObject => "tilt: dies in the middle of an object",
            Self::Flooding => "tilt: prints 100 MB",
            Self::NotUtf8 => "tilt: prints invalid UTF-8",
            Self::Slow => "tilt: takes 700 ms",
            Self::WatchesEnd => "tilt: ends its watches",
        }
    }

    /// The stand-in's files that make it so.
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
            Self::NotUtf8 => &[("stdout", b"{\"kind\": \"List\", \"items\": [\"\xff\xfe\"]}")],
            Self::Slow => &[("sleep", b"700")],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateFault {
    Cut,
    BitFlipped,
    Overwritten,
    Removed,
    ReplacedByAFile,
    DiskFull,
    Unlocked,
}

impl StateFault {
    const ALL: [Self; 7] = [
        Self::Cut,
        Self::BitFlipped,
        Self::Overwritten,
        Self::Removed,
        Self::ReplacedByAFile,
        Self::DiskFull,
        Self::Unlocked,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cut => "state: cut short",
            Self::BitFlipped => "state: one bit flipped",
            Self::Overwritten => "state: overwritten",
            Self::Removed => "state: folder removed",
            Self::ReplacedByAFile => "state: folder replaced by a file",
            Self::DiskFull => "state: disk full",
            Self::Unlocked => "state: lock files removed",
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
            Self::Suspend => "process: stopped for up to 3 s, whatever it holds",
        }
    }
}

#[derive(Debug, Default)]
struct Round {
    mood: Option<Mood>,
    tilt: Option<TiltFault>,
    state: Option<StateFault>,
    process: Option<ProcessFault>,
    /// The wall clock is off by so many seconds from now on.
    leap: Option<i64>,
    /// No single reports until the sidecars have delivered.
    sidecars_alone: bool,
}

struct Campaign {
    scratch: TempDir,
    programs: PathBuf,
    /// Laid before each collector.
    machine: PathBuf,
    /// Of the collectors alone: Tilt's and the server's are right.
    clock: Clock,
    leap: i64,
    server: Arc<Hostile>,
    world: Arc<Mutex<World>>,
    random: Random,
    collectors: Vec<Collector>,
    /// Sidecars beside the long-lived one.
    wanted: Vec<Role>,
    singles: bool,
    is_full: bool,
    /// Since when the state cannot be written.
    unwritable_since: Option<Instant>,
    injected: BTreeMap<&'static str, u64>,
    put_off: u64,
    problems: Arc<Mutex<Vec<String>>>,
    /// The worst, with single reports about, and by sidecars alone.
    drained_in: [Option<Duration>; 2],
    longest_farewell: Duration,
    /// How long this machine, itself a guest perhaps, did not run at all.
    stood_still: Duration,
    /// When every process that was stopped goes on.
    held_until: Instant,
    reports: u64,
    /// What those of them said that ended with 1 although neither Tilt nor the disk gave a reason.
    gave_up: Vec<String>,
    /// Whether Tilt or the state has a fault, or a process may be stopped that holds a lock.
    is_troubled: bool,
    /// When that was last so.
    troubled_until: Instant,
    /// What was done when, told if something went wrong.
    course: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn run(options: Options) -> Outcome {
    let began = Instant::now();
    let ends = began + Duration::from_secs(options.seconds);
    let mut campaign = Campaign::new(options.seed);
    let is_over = Arc::new(AtomicBool::new(false));
    let turning = turn(Arc::clone(&campaign.world), Arc::clone(&is_over));
    campaign.warm_up();
    let mut sizes = Sizes::default();
    let quarter = (ends - began) / 4;
    let mut quarter_ends = began + quarter;
    while Instant::now() < ends && campaign.has_no_problem() {
        campaign.round(options.seconds >= 60);
        sizes.note(campaign.long_lived());
        if Instant::now() >= quarter_ends {
            quarter_ends += quarter;
            sizes.end_quarter();
        }
    }
    is_over.store(true, Ordering::SeqCst);
    turning.join().expect("the world turns");
    campaign.deliver_all();
    campaign.end_all();
    campaign.sum_up(options, began.elapsed(), &sizes)
}

/// Resident memory in KiB, threads and open handles of the long-lived sidecar, after each round.
#[derive(Default)]
struct Sizes {
    /// The least of each quarter that is over, and of the current one: what leaks lifts the floor,
    /// while what an outage takes goes again, or is taken once.
    least: Vec<[u64; 3]>,
    current: Option<[u64; 3]>,
    most: [u64; 3],
}

impl Sizes {
    fn note(&mut self, size: [u64; 3]) {
        let least = self.current.get_or_insert(size);
        for (at, size) in size.into_iter().enumerate() {
            least[at] = least[at].min(size);
            self.most[at] = self.most[at].max(size);
        }
    }

    fn end_quarter(&mut self) {
        self.least.extend(self.current.take());
    }

    /// What grew from the first quarter to the last.
    fn growth(&self) -> Vec<String> {
        let [[memory, threads, handles], .., [memory_after, threads_after, handles_after]] =
            self.least[..]
        else {
            return vec!["there are no two quarters to compare".to_owned()];
        };
        let mut grown = Vec::new();
        // What an outage took, the heap may keep.
        if memory_after > (memory + memory / 2).max(32 * 1024) {
            grown.push(format!("leak: {memory} KiB of memory became {memory_after}"));
        }
        // While a watch is being started again there are some more.
        if threads_after > threads + 6 {
            grown.push(format!("leak: {threads} threads became {threads_after}"));
        }
        if handles_after > handles + 6 {
            grown.push(format!("leak: {handles} open handles became {handles_after}"));
        }
        grown
    }
}

/// Has the world go on until told otherwise; what is under way then ends.
fn turn(world: Arc<Mutex<World>>, is_over: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let mut world = lock(&world);
            if is_over.load(Ordering::SeqCst) {
                world.pause();
                if world.is_idle() {
                    return;
                }
            }
            world.pass(Instant::now()).expect("the stand-in's folder can be written to");
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
        let server = Hostile::start(seed).expect("ports on loopback");
        let world = World::new(&tilt, seed).expect("a stand-in's folder");
        let machine = machine::compiled(scratch.path());
        let clock = Clock::new(scratch.path().join("clock")).expect("a file");
        let campaign = Self {
            scratch,
            programs,
            machine,
            clock,
            leap: 0,
            server,
            world: Arc::new(Mutex::new(world)),
            random: Random::new(seed.wrapping_add(17)),
            collectors: Vec::new(),
            wanted: Vec::new(),
            singles: true,
            is_full: false,
            unwritable_since: None,
            injected: BTreeMap::new(),
            put_off: 0,
            problems: Arc::default(),
            drained_in: [None; 2],
            longest_farewell: Duration::ZERO,
            stood_still: Duration::ZERO,
            held_until: Instant::now(),
            reports: 0,
            gave_up: Vec::new(),
            is_troubled: false,
            troubled_until: Instant::now(),
            course: Vec::new(),
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

    /// Until the long-lived sidecar has settled down.
    fn warm_up(&mut self) {
        self.keep();
        let deadline = Instant::now() + PATIENCE;
        while self.server.requests() < 5 && Instant::now() < deadline {
            self.tick();
        }
    }

    /// Has the collectors run that are wanted.
    fn keep(&mut self) {
        let mut wanted: Vec<_> = iter::once(Role::LongLived).chain(self.wanted.clone()).collect();
        if self.singles {
            wanted.push(Role::Single);
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
        let options: &[&str] = match role {
            Role::LongLived => &["--interval", "1s"],
            Role::Watching => &["--interval", "1s", "--timeout", "4s", "--verbose"],
            Role::Looking => &["--interval", "1s", "--timeout", "4s", "--no-watch"],
            Role::Single => &["--once", "--timeout", "4s", "--verbose"],
        };
        // A process that writes more than it may is killed, unless it was born not to be.
        let mut child = Command::new("/bin/sh")
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
            .stderr(Stdio::piped())
            .spawn()
            .expect("the collector starts");
        let began = Instant::now();
        let pid = Pid::from_child(&child);
        if self.is_full {
            limit(pid, Some(FULL));
        }
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = listen(said, role, Arc::clone(&self.problems));
        let (is_doomed, was_held) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (doomed, held) = (Arc::clone(&is_doomed), Arc::clone(&was_held));
        let (server, scratch) = (Arc::clone(&self.server), self.scratch.path().to_owned());
        // Looks at the disk in the moment in which it ends, before others have gone on.
        let ended = thread::spawn(move || {
            let code = child.wait().expect("a child of ours").code();
            // A sidecar that is told to end may have no time left for the last answer.
            let has_heard_all = role == Role::Single || !doomed.load(Ordering::SeqCst);
            let explains_itself = matches!(code, Some(0 | 3..=5)) && has_heard_all;
            if !held.load(Ordering::SeqCst) && !explains_itself {
                server.note_death(&on_disk(&scratch));
            }
            code
        });
        self.collectors.push(Collector { role, pid, began, is_doomed, was_held, ended, said });
    }

    /// Takes note of who has ended, and starts who is missing.
    fn tick(&mut self) {
        self.reap();
        self.keep();
        let before = Instant::now();
        thread::sleep(TICK);
        let stood_still = before.elapsed().saturating_sub(TICK);
        if stood_still > Duration::from_secs(1) {
            // So did the processes, and their time was up when it went on.
            self.server.note_pause(&on_disk(self.scratch.path()));
            self.stood_still += stood_still;
        }
    }

    fn reap(&mut self) {
        let (ended, running) =
            self.collectors.drain(..).partition(|collector| collector.ended.is_finished());
        self.collectors = running;
        for collector in ended {
            self.note_end(collector);
        }
    }

    fn note_end(&mut self, collector: Collector) {
        let Collector { role, began, is_doomed, ended, said, .. } = collector;
        let code = ended.join().expect("it waits for a child");
        let was_doomed = is_doomed.load(Ordering::SeqCst);
        if role == Role::Single {
            self.reports += 1;
            let was_troubled = self.is_troubled || began <= self.troubled_until;
            if !was_doomed && matches!(code, None | Some(2)) {
                self.problem(format!("a single report ended by itself: {code:?}"));
            } else if !was_doomed && code == Some(1) && !was_troubled {
                let at = self.server.began.elapsed().as_secs_f64();
                let said = said.join().expect("it reads to the end").join(" | ");
                self.gave_up.push(format!("gave up at {at:.3} s: {said}"));
            }
            // 0, 4 and 5: it looked, and wrote down what it saw, whatever became of the rest.
            if matches!(code, Some(0 | 4 | 5)) && !was_doomed {
                lock(&self.world).witnessed(began);
            }
        } else if !was_doomed {
            self.problem(format!("a sidecar ({role:?}) ended by itself: {code:?}"));
        }
    }

    fn round(&mut self, is_long: bool) {
        let round = self.draw(is_long);
        // Two collectors, or five.
        self.wanted = match self.random.below(4) {
            0 => Vec::new(),
            _ => vec![Role::Watching, Role::Looking, Role::Looking],
        };
        self.retire_the_unwanted();
        self.check_processes();
        self.is_troubled = round.tilt.is_some()
            || round.state.is_some()
            || round.process == Some(ProcessFault::Suspend);
        if let Some(fault) = round.tilt {
            self.spoil_tilt(fault);
        }
        if let Some(mood) = round.mood {
            self.server.set(mood);
            if mood == Mood::Refusing {
                self.server.count(mood);
            }
        }
        if let Some(fault) = round.state {
            self.spoil_state(fault);
        }
        let at = self.server.began.elapsed().as_secs_f64();
        self.course.push(format!("{at:.3} s: {round:?}, {} others", self.wanted.len()));
        let lasts = 200 + self.random.below(if is_long { 4000 } else { 700 });
        let half = Instant::now() + Duration::from_millis(lasts / 2);
        let ends = Instant::now() + Duration::from_millis(lasts);
        while Instant::now() < ends {
            if let Some(fault) = round.process {
                self.strike(fault);
            }
            // While something waits, if there is another fault.
            if let Some(leap) = round.leap.filter(|leap| *leap != self.leap)
                && Instant::now() >= half
            {
                self.set_clock(leap);
            }
            self.tick();
        }
        self.heal(&round);
        if std::mem::take(&mut self.is_troubled) {
            self.troubled_until = self.held_until.max(Instant::now());
        }
        self.wait_until_drained(&round);
        self.check_files();
        self.check_what_left(&round);
    }

    /// One fault half of the time, else several at once.
    fn draw(&mut self, is_long: bool) -> Round {
        let mut round = Round::default();
        let faults = if self.random.is_one_in(2) { 1 } else { 2 + self.random.below(2) };
        for _ in 0..faults {
            match self.random.below(9) {
                0 => round.leap = Some(self.random.pick(&LEAPS)),
                1 | 2 => round.mood = Some(self.random.pick(&Mood::BAD)),
                3 | 4 => round.tilt = Some(self.random.pick(&TiltFault::ALL)),
                5 | 6 => round.state = Some(self.random.pick(&StateFault::ALL)),
                _ => round.process = Some(self.random.pick(&ProcessFault::ALL)),
            }
        }
        if round.process == Some(ProcessFault::KillInFlight) {
            round.mood = Some(Mood::Slow);
        }
        round.sidecars_alone = is_long && self.random.is_one_in(3);
        round
    }

    fn retire_the_unwanted(&mut self) {
        let mut wanted = self.wanted.clone();
        for collector in &self.collectors {
            if matches!(collector.role, Role::LongLived | Role::Single) {
                continue;
            }
            match wanted.iter().position(|role| *role == collector.role) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => strike_down(collector, Signal::TERM),
            }
        }
    }

    fn strike(&mut self, fault: ProcessFault) {
        match fault {
            ProcessFault::KillInFlight => {
                if !self.server.is_busy() {
                    return;
                }
                // Whoever sends is one of them, or the one that is spared.
                for collector in self.collectors.iter().filter(|c| c.role != Role::LongLived) {
                    self.kill(collector);
                    *self.injected.entry(fault.name()).or_default() += 1;
                }
                self.reap_the_doomed();
            }
            ProcessFault::Kill | ProcessFault::Terminate | ProcessFault::Suspend => {
                let often = if fault == ProcessFault::Kill { 12 } else { 40 };
                if !self.random.is_one_in(often) {
                    return;
                }
                let mortal: Vec<_> = (0..self.collectors.len())
                    .filter(|at| self.collectors[*at].role != Role::LongLived)
                    .filter(|at| !self.collectors[*at].is_doomed.load(Ordering::SeqCst))
                    .collect();
                if mortal.is_empty() {
                    return;
                }
                // At any moment, not only at the tick.
                thread::sleep(Duration::from_micros(self.random.below(10_000)));
                let at = self.random.pick(&mortal);
                let collector = &self.collectors[at];
                match fault {
                    ProcessFault::Kill => self.kill(collector),
                    ProcessFault::Suspend => {
                        let pause = Duration::from_millis(self.random.below(3_000));
                        let held = hold(collector.pid);
                        if pause > ANSWERED_AFTER {
                            let on_disk = on_disk(self.scratch.path());
                            self.server.note_held(&on_disk, held, pause, Excuse::ProcessStopped);
                        }
                        let_go(collector.pid, pause);
                        self.held_until = self.held_until.max(Instant::now() + pause);
                    }
                    _ => strike_down(collector, Signal::TERM),
                }
                self.count(fault.name());
            }
        }
    }

    fn set_clock(&mut self, leap: i64) {
        self.count(if leap < self.leap { "clock: set back" } else { "clock: set ahead" });
        self.clock.leap(leap).expect("a file");
        self.leap = leap;
    }

    /// Held first, so that what it had not noted is known before another can send it again.
    fn kill(&self, collector: &Collector) {
        let held = hold(collector.pid);
        let on_disk = on_disk(self.scratch.path());
        self.server.note_held(&on_disk, held, ECHO, Excuse::ProcessEnded);
        collector.was_held.store(true, Ordering::SeqCst);
        strike_down(collector, Signal::KILL);
    }

    /// Waits for those that were killed.
    fn reap_the_doomed(&mut self) {
        let is_doomed = |c: &Collector| c.is_doomed.load(Ordering::SeqCst);
        while self.collectors.iter().any(|c| is_doomed(c) && !c.ended.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        self.reap();
    }

    fn tilt_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join("tilt").join(name)
    }

    fn spoil_tilt(&mut self, fault: TiltFault) {
        self.count(fault.name());
        if fault == TiltFault::NotInstalled {
            fs::remove_file(self.scratch.path().join("fake-tilt")).expect("a link");
        }
        for (name, contents) in fault.files() {
            // The stand-in must never read half of it.
            fs::write(self.tilt_file("fresh"), contents).expect("a file");
            fs::rename(self.tilt_file("fresh"), self.tilt_file(name)).expect("its name");
        }
        // So that what watches has to start anew, and meets the fault.
        if fault == TiltFault::WatchesEnd || self.random.is_one_in(2) {
            fs::write(self.tilt_file("end"), "").expect("a file");
            thread::sleep(TICK);
            fs::remove_file(self.tilt_file("end")).expect("a file");
        }
    }

    fn spoil_state(&mut self, fault: StateFault) {
        match fault {
            StateFault::ReplacedByAFile => {
                let aside = self.scratch.path().join("aside");
                fs::write(&aside, "a file").expect("a file");
                if exchange(&self.state_dir(), &aside).is_ok() {
                    self.unwritable_since = Some(Instant::now());
                    self.count(fault.name());
                } else {
                    // The folder is just being made anew.
                    fs::remove_file(aside).expect("a file of ours");
                }
            }
            StateFault::DiskFull => {
                self.is_full = true;
                self.collectors.iter().for_each(|collector| limit(collector.pid, Some(FULL)));
                self.unwritable_since = Some(Instant::now());
                self.count(fault.name());
            }
            _ => self.destroy_state(fault),
        }
    }

    /// With the world at rest and the state locked, so that it is known what is destroyed.
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
            self.put_off += 1;
            return world.resume();
        };
        let loses_nothing = fault == StateFault::Unlocked;
        let displayed = world.displayed();
        let is_settled =
            |key: &String| displayed.contains(key) || self.server.has_answered_for(key);
        if !world.is_idle() || !world.shown().iter().all(is_settled) {
            self.put_off += 1;
            return world.resume();
        }
        let waiting = on_disk(self.scratch.path());
        let displayed = if loses_nothing { HashSet::new() } else { world.displayed_lately() };
        let server = Arc::clone(&self.server);
        server.note_destroyed(waiting, &displayed, || self.damage(fault, &file));
        if !loses_nothing {
            world.forgotten(Instant::now());
        }
        drop(locked);
        self.count(fault.name());
        world.resume();
    }

    fn damage(&mut self, fault: StateFault, file: &Path) {
        let mut bytes = fs::read(file).expect("a state");
        match fault {
            StateFault::Cut => {
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
            StateFault::Unlocked => {
                // The one that is held goes last: until then nobody reads what there is to send.
                for extension in ["sending", "lock"] {
                    // One that was never made need not go.
                    let _ = fs::remove_file(file.with_extension(extension));
                }
            }
            _ => {
                let trash = self.scratch.path().join("trash");
                fs::rename(self.state_dir(), &trash).expect("another name");
                fs::remove_dir_all(trash).expect("a folder of ours");
            }
        }
    }

    fn heal(&mut self, round: &Round) {
        if let Some(fault) = round.tilt {
            for (name, _) in fault.files() {
                fs::remove_file(self.tilt_file(name)).expect("a file");
            }
            if fault == TiltFault::NotInstalled {
                self.install_tilt();
            }
        }
        if let Some(since) = self.unwritable_since.take() {
            // What was on its way when the disk became full could not be noted.
            self.server.note_full(&on_disk(self.scratch.path()), since + Duration::from_secs(1));
        }
        let aside = self.scratch.path().join("aside");
        if aside.exists() {
            exchange(&self.state_dir(), &aside).expect("the folder comes back");
            fs::remove_file(aside).expect("the file that was in its place");
        }
        if std::mem::take(&mut self.is_full) {
            self.collectors.iter().for_each(|collector| limit(collector.pid, None));
        }
        self.singles = !round.sidecars_alone;
        self.server.set(Mood::Fine);
    }

    /// Until what waits now has left the disk.
    fn wait_until_drained(&mut self, round: &Round) {
        let (healed, stood_still) = (Instant::now(), self.stood_still);
        let took = |now_stood: Duration| {
            healed.elapsed().saturating_sub(now_stood.saturating_sub(stood_still))
        };
        let waiting = on_disk(self.scratch.path());
        while !on_disk(self.scratch.path()).is_disjoint(&waiting) {
            if took(self.stood_still) > PATIENCE {
                self.problem(format!(
                    "after {PATIENCE:?} {} events of before still wait: {round:?}",
                    on_disk(self.scratch.path()).intersection(&waiting).count()
                ));
                break;
            }
            self.tick();
        }
        let took = took(self.stood_still);
        let worst = &mut self.drained_in[usize::from(round.sidecars_alone)];
        *worst = (*worst).max(Some(took));
        self.singles = true;
    }

    /// What has left Tilt was written down before; so it waits, or was answered for.
    fn check_what_left(&self, round: &Round) {
        let world = lock(&self.world);
        let displayed = world.displayed();
        let waiting = on_disk(self.scratch.path());
        for key in world.shown() {
            let is_safe = displayed.contains(key)
                || waiting.contains(key)
                || self.server.has_answered_for(key);
            if !is_safe {
                self.problem(format!("lost: {key}, in {round:?}"));
            }
        }
    }

    fn deliver_all(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let last_shown = Instant::now();
        lock(&self.world).forgotten(last_shown);
        while Instant::now() < deadline {
            self.tick();
            let world = lock(&self.world);
            let is_settled = world.shown().iter().all(|key| self.server.has_answered_for(key));
            if is_settled && on_disk(self.scratch.path()).is_empty() {
                return;
            }
        }
    }

    /// Ends every collector; the long-lived one too.
    fn end_all(&mut self) {
        thread::sleep(self.held_until.saturating_duration_since(Instant::now()));
        for collector in &self.collectors {
            strike_down(collector, Signal::TERM);
        }
        let asked = Instant::now();
        while self.collectors.iter().any(|collector| !collector.ended.is_finished()) {
            if asked.elapsed() > Duration::from_secs(5) {
                self.problem("a collector did not end within 5 s of a signal".to_owned());
                for collector in &self.collectors {
                    strike_down(collector, Signal::KILL);
                }
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.longest_farewell = asked.elapsed();
        self.check_files();
    }

    /// The arguments of all collectors and of what they started hold no secret.
    fn check_processes(&self) {
        for collector in &self.collectors {
            for pid in family(collector.pid.as_raw_pid().cast_unsigned()) {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                self.check_text("a process's arguments", &String::from_utf8_lossy(&line));
            }
        }
    }

    fn check_files(&self) {
        for entry in fs::read_dir(self.state_dir()).into_iter().flatten().flatten() {
            // A file may be gone before it is read.
            let bytes = fs::read(entry.path()).unwrap_or_default();
            self.check_text("a state file", &String::from_utf8_lossy(&bytes));
        }
    }

    fn check_text(&self, place: &str, text: &str) {
        if let Some(leak) = leak(text) {
            self.problem(format!("{leak} in {place}"));
        }
    }

    /// Resident memory in KiB, threads and open handles of the long-lived sidecar.
    fn long_lived(&self) -> [u64; 3] {
        let collector = self.collectors.iter().find(|c| c.role == Role::LongLived);
        let Some(collector) = collector else { return [0; 3] };
        let process = format!("/proc/{}", collector.pid.as_raw_pid());
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let handles = fs::read_dir(format!("{process}/fd")).map_or(0, Iterator::count);
        [number("VmRSS:"), number("Threads:"), handles as u64]
    }

    fn sum_up(self, options: Options, took: Duration, sizes: &Sizes) -> Outcome {
        let Options { seconds, seed } = options;
        let world = lock(&self.world);
        let mut lost: Vec<_> =
            world.shown().iter().filter(|key| !self.server.has_answered_for(key)).collect();
        lost.sort();
        let refused = world.shown().iter().filter(|key| self.server.was_refused(key)).count();
        let repeats = self.server.repeats();
        let mut problems = lock(&self.problems).clone();
        problems.extend(lost.iter().take(20).map(|key| format!("lost: {key}")));
        problems
            .extend(repeats.unexplained.iter().take(20).map(|key| format!("sent twice: {key}")));
        problems.extend(self.server.leaks().into_iter().take(5));
        // Neither may it be quiet for want of work.
        if self.gave_up.len() as u64 * 100 > self.reports {
            problems
                .push(format!("{} single reports gave up without a reason", self.gave_up.len()));
            problems.extend(self.gave_up.iter().take(20).cloned());
        }
        if (world.shown().len() as u64) < seconds {
            problems.push(format!("only {} builds in {seconds} s", world.shown().len()));
        }
        if seconds >= SETTLED_AFTER {
            problems.extend(sizes.growth());
        }
        if self.server.strangers() > 0 {
            problems.push(format!("{} requests followed a redirect", self.server.strangers()));
        }
        if !problems.is_empty() {
            problems.extend(self.course.iter().cloned());
        }
        let mut table = String::new();
        let mut row = |what: &str, value: String| {
            let _ = writeln!(table, "{what:<62}{value:>24}");
        };
        row("seed", seed.to_string());
        row("seconds asked for, and taken", format!("{seconds}, {}", took.as_secs()));
        let mut injected = self.injected.clone();
        injected.extend(self.server.injected());
        let mut in_all = BTreeMap::<_, u64>::new();
        for (name, times) in &injected {
            row(name, times.to_string());
            *in_all.entry(name.split(':').next().unwrap_or_default()).or_default() += times;
        }
        for (of, times) in in_all {
            row(&format!("faults in all: {of}"), times.to_string());
        }
        row("state faults put off, for what Tilt no longer showed", self.put_off.to_string());
        row("the machine itself stood still", format!("{:.0} s", self.stood_still.as_secs_f64()));
        row("single reports", self.reports.to_string());
        row("of them, given up without a fault about", self.gave_up.len().to_string());
        row("requests", self.server.requests().to_string());
        let shown = world.shown().len();
        row("builds shown (updates, images, stages)", shown.to_string());
        row("builds delivered", (shown - lost.len() - refused).to_string());
        row("builds refused for good, as the server had it", refused.to_string());
        row("builds lost", lost.len().to_string());
        for (excuse, times) in &repeats.explained {
            row(&format!("sent again: {excuse}"), times.to_string());
        }
        row("sent again, unexplained", repeats.unexplained.len().to_string());
        for (who, worst) in ["all", "sidecars alone"].iter().zip(self.drained_in) {
            if let Some(worst) = worst {
                let worst = format!("{:.1} s", worst.as_secs_f64());
                row(&format!("from all well to all delivered, worst, {who}"), worst);
            }
        }
        row("from SIGTERM to the end of all", format!("{} ms", self.longest_farewell.as_millis()));
        for (at, what) in ["resident KiB", "threads", "open handles"].iter().enumerate() {
            let least: Vec<_> = sizes.least.iter().map(|size| size[at].to_string()).collect();
            row(&format!("the long-lived sidecar: {what}, least by quarter"), least.join(" -> "));
            row(&format!("the long-lived sidecar: {what}, most"), sizes.most[at].to_string());
        }
        Outcome { table, problems }
    }
}

fn strike_down(collector: &Collector, signal: Signal) {
    collector.is_doomed.store(true, Ordering::SeqCst);
    // It may just have ended.
    let _ = kill_process(collector.pid, signal);
}

/// Stops a process, unless it has just ended; gives the ports from which it sends.
fn hold(pid: Pid) -> HashSet<u16> {
    let _ = kill_process(pid, Signal::STOP);
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    let runs = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'S', 'D']))
    };
    let deadline = Instant::now() + Duration::from_millis(500);
    // A thread of its own sends.
    while entries(&process.join("task")).iter().any(|task| runs(task)) && Instant::now() < deadline
    {
        thread::sleep(Duration::from_micros(100));
    }
    ports(&process)
}

/// The ports of a process's connections.
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

fn let_go(pid: Pid, after: Duration) {
    thread::spawn(move || {
        thread::sleep(after);
        let _ = kill_process(pid, Signal::CONT);
    });
}

/// The longest file that a process may write from now on.
fn limit(pid: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    // It may just have ended.
    let _ = prlimit(Some(pid), Resource::Fsize, limit);
}

/// Two names change places in one step, so that no collector finds neither.
fn exchange(a: &Path, b: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

fn state_file(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "json"))
}

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

/// The events that are written down and not settled: those that wait for Honeycomb, and those
/// that wait for their update.
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

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    family
}

fn leak(text: &str) -> Option<&'static str> {
    CANARIES.iter().chain(&[KEY]).find(|canary| text.contains(**canary)).copied()
}

/// Reads what a collector says until it has ended.
fn listen(
    said: impl BufRead + Send + 'static,
    role: Role,
    problems: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<Vec<String>> {
    thread::spawn(move || {
        let mut lines = Vec::new();
        for line in said.lines().map_while(Result::ok) {
            let found = leak(&line).or(line.contains("panicked").then_some("a panic"));
            if let Some(found) = found {
                lock(&problems)
                    .push(format!("{found} in what a collector ({role:?}) said: {line}"));
            }
            // A sidecar may have much to say.
            if role == Role::Single {
                lines.push(line);
            }
        }
        lines
    })
}

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
//! `server/ledger.rs` what excuses a repetition. The state is destroyed only when every build that Tilt
//! no longer shows has been answered for, so that not even this excuses a loss.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fakes::machine::{self, Clock, FaultFile, MachineFault};
use rustix::process::Signal;
use tempfile::TempDir;

use self::collectors::{Collector, Role, signal};
use self::process_faults::{ProcessFault, threads_of};
use self::state_faults::{StateFault, limit_file_size, swap};
use self::tilt_faults::TiltFault;
use crate::disk;
use crate::random::Random;
use crate::server::FaultyServer;
use crate::server::mode::ServerMode;
use crate::sizes::Sizes;
use crate::world::World;

mod checks;
mod collectors;
mod machine_faults;
mod process_faults;
mod results;
mod state_faults;
mod tilt_faults;

const TICK: Duration = Duration::from_millis(10);
/// The longest time that a collector may take to deliver its queue after the faults have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);
/// Errors of the wall clock, in seconds.
const CLOCK_OFFSETS: [i64; 9] =
    [-400 * DAY, -40 * DAY, -DAY, -3600, 0, 3600, DAY, 40 * DAY, 400 * DAY];
const DAY: i64 = 24 * 3600;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seconds: u64,
    pub seed: u64,
}

pub struct Outcome {
    pub table: String,
    pub problems: Vec<String>,
}

#[derive(Debug, Default)]
struct Round {
    server: Option<ServerMode>,
    tilt: Option<TiltFault>,
    state: Option<StateFault>,
    process: Option<ProcessFault>,
    machine: Option<MachineFault>,
    /// Sets the error of the wall clock to this many seconds, for this and later rounds.
    clock_offset: Option<i64>,
    /// Runs no `--once` reports until the sidecars have delivered the queue.
    sidecars_only: bool,
}

impl Round {
    /// The faults of this round, as they are counted. The changes of the clock are not among them.
    fn faults(&self) -> impl Iterator<Item = &'static str> {
        let names = [
            self.server.map(ServerMode::name),
            self.tilt.map(TiltFault::name),
            self.state.map(StateFault::name),
            self.process.map(ProcessFault::name),
            self.machine.map(machine_faults::name),
        ];
        names.into_iter().flatten()
    }
}

struct Campaign {
    scratch: TempDir,
    programs: PathBuf,
    /// The library that `LD_PRELOAD` of each collector names.
    machine: PathBuf,
    /// The collectors' wall clock. The fake Tilt and the server use the real one.
    clock: Clock,
    machine_faults: FaultFile,
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
    /// In how many rounds each fault was drawn.
    drawn: BTreeMap<&'static str, u64>,
    /// How often each fault has occurred, except those that the server counts.
    injected: BTreeMap<&'static str, u64>,
    /// The sizes of the long-lived sidecar, sampled at each tick.
    sizes: Sizes,
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
    campaign.sizes = Sizes::until(ends, Instant::now());
    while Instant::now() < ends && campaign.has_no_problem() {
        campaign.round(options.seconds >= 60);
    }
    is_over.store(true, Ordering::SeqCst);
    driver.join().expect("the thread of the world");
    campaign.deliver_all();
    campaign.end_all();
    campaign.sum_up(options, began.elapsed())
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
        let machine_faults = FaultFile::new(scratch.path().join("faults")).expect("a file");
        let campaign = Self {
            scratch,
            programs,
            machine,
            clock,
            machine_faults,
            clock_offset: 0,
            server,
            world: Arc::new(Mutex::new(world)),
            random: Random::new(seed.wrapping_add(17)),
            collectors: Vec::new(),
            wanted: Vec::new(),
            runs_once_reports: true,
            is_disk_full: false,
            unwritable_since: None,
            drawn: BTreeMap::new(),
            injected: BTreeMap::new(),
            sizes: Sizes::until(Instant::now(), Instant::now()),
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
        while self.server.ledger().requests < 5 && Instant::now() < deadline {
            self.tick();
        }
    }

    fn round(&mut self, is_long: bool) {
        let round = self.draw_round(is_long);
        for fault in round.faults() {
            *self.drawn.entry(fault).or_default() += 1;
        }
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
            || round.machine == Some(MachineFault::NoThreads)
            || round.process == Some(ProcessFault::Suspend);
        if let Some(fault) = round.tilt {
            self.inject_tilt_fault(fault);
        }
        if let Some(mode) = round.server {
            self.server.set(mode);
            // The server counts all other faults when a request meets them.
            if mode == ServerMode::RefusingConnections {
                self.server.ledger().count(mode);
            }
        }
        if let Some(fault) = round.machine {
            self.inject_machine_fault(fault);
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
            match self.random.below(10) {
                0 => round.clock_offset = Some(self.random.pick(&CLOCK_OFFSETS)),
                1 | 2 => round.server = Some(self.random.pick(&ServerMode::FAULTS)),
                3 | 4 => round.tilt = Some(self.random.pick(&TiltFault::ALL)),
                5 => round.machine = Some(self.random.pick(&machine_faults::ALL)),
                6 | 7 => round.state = Some(self.random.pick(&StateFault::ALL)),
                _ => round.process = Some(self.random.pick(&ProcessFault::ALL)),
            }
        }
        if round.process == Some(ProcessFault::KillInFlight) {
            round.server = Some(ServerMode::Slow);
        }
        round.sidecars_only = is_long && self.random.is_one_in(3);
        round
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

    fn end_faults(&mut self, round: &Round) {
        self.end_machine_faults();
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
            self.server.ledger().record_full_disk(
                &disk::events(self.scratch.path()),
                since + Duration::from_secs(1),
            );
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
        let queued = disk::events(self.scratch.path());
        while !disk::events(self.scratch.path()).is_disjoint(&queued) {
            if time_without_pauses(self.machine_paused) > DRAIN_TIMEOUT {
                self.problem(format!(
                    "{} events still queued {DRAIN_TIMEOUT:?} after the faults: {round:?}",
                    disk::events(self.scratch.path()).intersection(&queued).count()
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
        let queued = disk::events(self.scratch.path());
        for key in world.completed() {
            let is_safe = visible.contains(key)
                || queued.contains(key)
                || self.server.ledger().is_settled(key);
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
            let is_settled =
                world.completed().iter().all(|key| self.server.ledger().is_settled(key));
            if is_settled && disk::events(self.scratch.path()).is_empty() {
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
                for collector in self.collectors.iter().filter(|c| !c.exit_code.is_finished()) {
                    let threads = threads_of(collector.pid);
                    let role = collector.role;
                    self.problem(format!("{role:?} did not end within 5 s of SIGTERM: {threads}"));
                    signal(collector, Signal::KILL);
                }
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.shutdown_took = signalled_at.elapsed();
        self.check_files();
    }
}

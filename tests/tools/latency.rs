//! Measures, in a storm of saves, how long a finished build takes from Tilt's output to
//! Honeycomb: `scripts/storm` runs it. Says what it lost or told twice, and then exits with 1.

#![expect(clippy::print_stdout, reason = "a command line prints its result")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use fakes::honeycomb::Server;
use fakes::programs;
use fakes::storm::{self, Finished, Storm};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let mut number = |default| arguments.next().map_or(default, |n| n.parse().expect("a number"));
    let (updates, seed) = (number(200), number(1));
    let updates = usize::try_from(updates).expect("a count");

    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("tilt");
    fs::create_dir(&folder).expect("a folder");
    let begins = SystemTime::now() + Duration::from_secs(2);
    let storm = Storm::new(updates, seed, begins);
    storm::prepare(&storm, begins, &folder).expect("a stand-in's folder");

    let server = Server::start();
    let mut collector = collect(&scratch.path().join("state"), &folder, &server.url());
    thread::sleep(begins.duration_since(SystemTime::now()).unwrap_or_default());
    // From the list on, which both watches have shown by then, they miss nothing.
    let watched = || fs::read_to_string(folder.join("watched")).unwrap_or_default();
    wait_until(|| watched().lines().count() >= 2);
    let memory_before = memory(&collector);
    let shown = storm::play(&storm, &folder, 1).expect("the storm is written");

    wait_until(|| told(&server).len() >= shown.len());
    let memory_after = memory(&collector);
    let cpu = cpu(&collector);
    collector.kill().expect("it runs");
    collector.wait().expect("a child of ours");
    let said = fs::read_to_string(scratch.path().join("state.log")).unwrap_or_default();
    for warning in said.lines().filter(|line| line.starts_with("tilt-honeycomb: ")) {
        println!("it warned: {warning}");
    }
    end_watches(&folder);
    let exit = report(&storm, &shown, &told(&server));
    println!("own memory        {memory_before} -> {memory_after}, resident");
    println!("own CPU           {cpu:>8}  ms");
    exit
}

fn collect(state: &Path, folder: &Path, url: &str) -> Child {
    let programs = programs();
    Command::new(programs.join("tilt-honeycomb"))
        .args(["--tilt".as_ref(), programs.join("fake-tilt").as_os_str()])
        .env_clear()
        .env("STAND_IN", folder)
        .env("HONEYCOMB_API_KEY", "storm")
        .env("HONEYCOMB_DATASET", "storm")
        .env("HONEYCOMB_API_ENDPOINT", url)
        .args(["--state-dir".as_ref(), state.as_os_str()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(state.with_extension("log")).expect("a log"))
        .spawn()
        .expect("the collector starts")
}

/// Until it is so, or the machine has had time enough.
fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// A watch whose reader was killed notices when it next has something to show, which is never.
fn end_watches(folder: &Path) {
    fs::write(folder.join("end"), "").expect("a file");
    thread::sleep(Duration::from_millis(100));
}

/// When each build arrived, each time that it did.
fn told(server: &Server) -> HashMap<Finished, Vec<Instant>> {
    let mut told: HashMap<_, Vec<_>> = HashMap::new();
    for request in server.requests() {
        for finished in request.events.iter().filter_map(storm::finished) {
            told.entry(finished).or_default().push(request.came);
        }
    }
    // Of before the storm.
    told.retain(
        |finished, _| !matches!(finished, Finished::Update(id) if id.starts_with("tiltfile:")),
    );
    told
}

fn report(
    storm: &Storm,
    shown: &HashMap<Finished, Instant>,
    told: &HashMap<Finished, Vec<Instant>>,
) -> ExitCode {
    let mut lost: Vec<_> = shown.keys().filter(|finished| !told.contains_key(finished)).collect();
    lost.sort();
    for finished in lost.iter().take(10) {
        println!("lost: {finished:?}");
    }
    let lost = lost.len();
    let twice = told.values().filter(|times| times.len() > 1).count();
    let mut delays: Vec<_> = shown
        .iter()
        .filter_map(|(finished, at)| Some(told.get(finished)?[0].duration_since(*at)))
        .collect();
    delays.sort_unstable();
    let milliseconds = |delay: Option<&Duration>| delay.map_or(0.0, |d| d.as_secs_f64() * 1000.0);
    let lasted = storm.steps.last().map_or(0.0, |step| step.at.as_secs_f64());
    println!("builds shown      {:>8}  in {lasted:.1} s", shown.len());
    println!("lost              {lost:>8}");
    println!("told twice        {twice:>8}");
    println!("delay, median     {:>8.1}  ms", milliseconds(delays.get(delays.len() / 2)));
    println!("delay, 99 of 100  {:>8.1}  ms", milliseconds(delays.get(delays.len() * 99 / 100)));
    println!("delay, worst      {:>8.1}  ms", milliseconds(delays.last()));
    if lost + twice > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Resident, where the system tells (Linux).
fn memory(process: &Child) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or("unknown".to_owned(), |line| line.trim().to_owned())
}

/// User and system time in milliseconds; Linux tells hundredths of a second.
fn cpu(process: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    let ticks: u64 = stat.split(' ').skip(13).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks * 10
}

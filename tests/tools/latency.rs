//! Measures the delay between Tilt's output of a finished build and its arrival at Honeycomb, while
//! files are saved several times a second. `scripts/storm` runs it. If a build was lost or arrived
//! twice, it says so and exits with 1.

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]
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
    storm::prepare(&storm, begins, &folder).expect("the fake Tilt's folder");

    let server = Server::start();
    let mut collector = collect(&scratch.path().join("state"), &folder, &server.url());
    thread::sleep(begins.duration_since(SystemTime::now()).unwrap_or_default());
    // A watch misses no change after its initial list, so wait until both have printed theirs.
    let watched = || fs::read_to_string(folder.join("watched")).unwrap_or_default();
    wait_until(|| watched().lines().count() >= 2);
    let memory_before = memory(&collector);
    let completed_at = storm::play(&storm, &folder, 1).expect("the storm is written");

    wait_until(|| arrivals(&server).len() >= completed_at.len());
    let memory_after = memory(&collector);
    let cpu = cpu(&collector);
    collector.kill().expect("it runs");
    collector.wait().expect("this process started it");
    let stderr = fs::read_to_string(scratch.path().join("state.log")).unwrap_or_default();
    for warning in stderr.lines().filter(|line| line.starts_with("tilt-honeycomb: ")) {
        println!("warning: {warning}");
    }
    end_watches(&folder);
    let exit = print_results(&storm, &completed_at, &arrivals(&server));
    println!("resident memory   {memory_before} -> {memory_after}");
    println!("CPU time          {cpu:>8}  ms");
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

/// Waits until the condition holds, for at most two minutes.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !condition() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the fake Tilt's watches. They outlive a killed collector, because they notice the closed
/// pipe only when they print.
fn end_watches(folder: &Path) {
    fs::write(folder.join("end"), "").expect("a file");
    thread::sleep(Duration::from_millis(100));
}

/// The times at which each build arrived.
fn arrivals(server: &Server) -> HashMap<Finished, Vec<Instant>> {
    let mut arrivals: HashMap<_, Vec<_>> = HashMap::new();
    for request in server.requests() {
        for finished in request.events.iter().filter_map(storm::finished) {
            arrivals.entry(finished).or_default().push(request.came);
        }
    }
    // The Tiltfile was loaded before the storm.
    arrivals.retain(
        |finished, _| !matches!(finished, Finished::Update(id) if id.starts_with("tiltfile:")),
    );
    arrivals
}

fn print_results(
    storm: &Storm,
    completed_at: &HashMap<Finished, Instant>,
    arrivals: &HashMap<Finished, Vec<Instant>>,
) -> ExitCode {
    let mut lost: Vec<_> =
        completed_at.keys().filter(|finished| !arrivals.contains_key(finished)).collect();
    lost.sort();
    for finished in lost.iter().take(10) {
        println!("lost: {finished:?}");
    }
    let lost = lost.len();
    let duplicates = arrivals.values().filter(|times| times.len() > 1).count();
    let mut delays: Vec<_> = completed_at
        .iter()
        .filter_map(|(finished, at)| Some(arrivals.get(finished)?[0].duration_since(*at)))
        .collect();
    delays.sort_unstable();
    let milliseconds = |delay: Option<&Duration>| delay.map_or(0.0, |d| d.as_secs_f64() * 1000.0);
    let duration = storm.steps.last().map_or(0.0, |step| step.at.as_secs_f64());
    println!("builds            {:>8}  in {duration:.1} s", completed_at.len());
    println!("lost              {lost:>8}");
    println!("sent twice        {duplicates:>8}");
    println!("delay, median     {:>8.1}  ms", milliseconds(delays.get(delays.len() / 2)));
    println!("delay, p99        {:>8.1}  ms", milliseconds(delays.get(delays.len() * 99 / 100)));
    println!("delay, maximum    {:>8.1}  ms", milliseconds(delays.last()));
    if lost + duplicates > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Resident memory, such as "5120 kB". Known only on Linux.
fn memory(process: &Child) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or("unknown".to_owned(), |line| line.trim().to_owned())
}

/// User plus system time in milliseconds. Linux reports it in units of 10 ms.
fn cpu(process: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    let ticks: u64 = stat.split(' ').skip(13).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks * 10
}

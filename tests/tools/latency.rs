//! Measures the delay between Tilt's output of a finished build and its arrival at Honeycomb, while
//! files are saved several times a second. `scripts/storm` runs it. If a build was lost or arrived
//! twice, it says so and exits with 1.

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod collector;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use fakes::honeycomb::Server;
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
    let state = scratch.path().join("state");
    let mut collector = collector::collect(&state, &folder, &server.url());
    thread::sleep(begins.duration_since(SystemTime::now()).unwrap_or_default());
    // A watch misses no change after its initial list, so wait until both have printed theirs.
    let watched = || fs::read_to_string(folder.join("watched")).unwrap_or_default();
    collector::wait_until(|| watched().lines().count() >= 2);
    let memory_before = collector::memory(&collector, "VmRSS");
    let completed_at = storm::play(&storm, &folder, 1).expect("the storm is written");

    collector::wait_until(|| arrivals(&server).len() >= completed_at.len());
    let memory_after = collector::memory(&collector, "VmRSS");
    let cpu = collector::cpu(&collector);
    collector::end(&mut collector, &folder);
    for warning in collector::warnings(&state) {
        println!("warning: {warning}");
    }
    let exit = print_results(&storm, &completed_at, &arrivals(&server));
    println!("resident memory   {memory_before} -> {memory_after}");
    println!("CPU time          {cpu:>8}  ms");
    exit
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

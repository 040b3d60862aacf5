//! A collector that a measuring tool runs beside the fake Tilt.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fakes::{proc, programs};

/// Starts a sidecar that writes its log beside the folder `state`.
pub(super) fn collect(state: &Path, folder: &Path, url: &str) -> Child {
    let programs = programs();
    Command::new(programs.join("tilt-honeycomb"))
        .args(["--tilt".as_ref(), programs.join("fake-tilt").as_os_str()])
        .env_clear()
        .env("STAND_IN", folder)
        .env("HONEYCOMB_API_KEY", "measured")
        .env("HONEYCOMB_DATASET", "measured")
        .env("HONEYCOMB_API_ENDPOINT", url)
        .args(["--state-dir".as_ref(), state.as_os_str()])
        .stdin(Stdio::null())
        .stderr(fs::File::create(state.with_extension("log")).expect("a log"))
        .spawn()
        .expect("the collector starts")
}

/// Kills the collector and the watches of the fake Tilt. They outlive a killed collector, because they
/// notice the closed pipe only when they print.
pub(super) fn end(collector: &mut Child, folder: &Path) {
    collector.kill().expect("it runs");
    collector.wait().expect("this process started it");
    fs::write(folder.join("end"), "").expect("a file");
    thread::sleep(Duration::from_millis(100));
}

/// The warnings in the log of a collector.
pub(super) fn warnings(state: &Path) -> Vec<String> {
    let log = fs::read_to_string(state.with_extension("log")).unwrap_or_default();
    let warnings = log.lines().filter(|line| line.starts_with("tilt-honeycomb: "));
    warnings.map(str::to_owned).collect()
}

/// Waits until the condition holds, for at most two minutes.
pub(super) fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !condition() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// The size of a kind of memory, such as "5120 kB" for `VmRSS`. Known only on Linux.
pub(super) fn memory(process: &Child, kind: &str) -> String {
    proc::status(process.id(), kind).map_or("unknown".to_owned(), |kib| format!("{kib} kB"))
}

/// User plus system time in milliseconds. Linux reports it in units of 10 ms.
pub(super) fn cpu(process: &Child) -> u128 {
    proc::cpu_time(process.id()).unwrap_or_default().as_millis()
}

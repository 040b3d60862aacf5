//! Runs many sidecars on one machine against one fake Honeycomb, and checks that nothing is lost.
//! `scripts/fleet` runs it. Needs Linux, because it reads CPU time and memory from `/proc`.
//!
//! ```text
//! fleet [--sidecars 80] [--resources 30] [--interval 60]
//! ```
//!
//! Each sidecar watches a fake Tilt of its own. The run has ten intervals, in seconds. Each environment
//! rebuilds one resource during the run. At the end all sidecars get SIGTERM.

#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stdout, reason = "a command line talks"),
    expect(clippy::disallowed_methods, reason = "it waits for processes and reads the clock"),
    expect(unreachable_pub, reason = "modules of a program")
)]
#![expect(clippy::print_stderr, reason = "a command line talks")]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod delivered;
#[cfg(target_os = "linux")]
mod member;
#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::run(std::env::args().skip(1))
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("fleet: needs /proc, which only Linux has");
    ExitCode::FAILURE
}

//! The campaign: the built program against a Tilt and a Honeycomb that misbehave, for a chosen
//! time and seed. `scripts/chaos` runs it, and `campaign/mod.rs` says what it does and counts.

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]
#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stderr, reason = "usage errors"),
    expect(clippy::disallowed_methods, reason = "it has deadlines, and looks until they pass"),
    expect(unreachable_pub, reason = "modules of a program")
)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod campaign;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod random;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod sizes;
#[cfg(target_os = "linux")]
mod world;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let mut options = campaign::Options { seconds: 60, seed: 1 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--seconds", Some(value)) => options.seconds = value,
            ("--seed", Some(value)) => options.seed = value,
            _ => {
                eprintln!("usage: chaos [--seconds N] [--seed N]");
                return ExitCode::from(2);
            }
        }
    }
    let outcome = campaign::run(options);
    println!("{}", outcome.table);
    for problem in &outcome.problems {
        println!("FAILED: {problem}");
    }
    if outcome.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("skipped: the campaign needs Linux (/proc and prlimit)");
    ExitCode::SUCCESS
}

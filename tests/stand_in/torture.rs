//! Runs the fault campaign: the built program against a fake Tilt and a fake Honeycomb that
//! misbehave, for a given time and seed. `scripts/torture` runs it; `campaign.rs` describes it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]
#![cfg_attr(
    target_os = "linux",
    expect(clippy::disallowed_methods, reason = "it polls until a deadline"),
    expect(unreachable_pub, reason = "modules are shared with the tests")
)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod campaign;
#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "only the tests use the rest")]
mod honeycomb;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod random;
#[cfg(target_os = "linux")]
mod tls;
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
                eprintln!("usage: torture [--seconds N] [--seed N]");
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

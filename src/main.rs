//! Reads the arguments, runs the mode that they ask for, and ends with its exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use log::LevelFilter;
use tilt_honeycomb::base::limits;
use tilt_honeycomb::base::process_tree;
use tilt_honeycomb::base::text::printable;
use tilt_honeycomb::cli::{self, Cli, Command, EarlyExit};
use tilt_honeycomb::commands::{
    board, check, ci_supervisor, dry_run, flush, idle, report, snapshot, summary,
};
use tilt_honeycomb::config::collector_settings::CollectorSettings;
use tilt_honeycomb::config::environment::Environment;
use tilt_honeycomb::config::error::ConfigError;
use tilt_honeycomb::config::{self, Mode};
use tilt_honeycomb::exit_code::Exit;
use tilt_honeycomb::log::LineStart;
use tilt_honeycomb::sidecar;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let never_fails = cli::never_fails(&arguments);
    let ends_by_itself = cli::ends_by_itself(&arguments);
    prepare_for_early_end(if never_fails { Exit::Done } else { Exit::Unexpected });
    process_tree::end_children_with_this_process();
    let environment = Environment::of_process();
    ci_supervisor::end_with_supervisor(&environment);
    let exit = match cli::parse(&arguments) {
        Ok(cli) => {
            let ends_by_itself = cli.ends_by_itself();
            tilt_honeycomb::log::init(log_level(&cli), line_start(ends_by_itself));
            if ci_supervisor::is_needed(&environment, ends_by_itself) {
                ci_supervisor::run(&arguments)
            } else {
                run(&cli, &environment)
            }
        }
        Err(EarlyExit::Print(text)) => {
            // A closed stdout (`--help | head`) is not an error.
            let _ = writeln!(io::stdout(), "{text}");
            Exit::Done
        }
        Err(EarlyExit::Usage(message)) => {
            tilt_honeycomb::log::init(LevelFilter::Warn, line_start(ends_by_itself));
            let exit = usage_error(&message);
            if ci_supervisor::is_needed(&environment, ends_by_itself) {
                idle::instead_of_failing_ci()
            } else {
                exit
            }
        }
    };
    if never_fails { Exit::Done.into() } else { exit.into() }
}

fn run(cli: &Cli, environment: &Environment) -> Exit {
    // A summary sends nothing.
    let sends = cli.command != Some(Command::Summary);
    if let Some(variable) = environment.opt_out().filter(|_| sends) {
        return idle::opted_out(variable, cli.ends_by_itself());
    }
    let stuck = if cli.never_fail { Exit::Done } else { Exit::NotDelivered };
    match Mode::resolve(cli, environment) {
        Ok(mode) => {
            let beside = |collector: &CollectorSettings| config::check(cli, collector, environment);
            let find_store = |collector: &CollectorSettings| {
                config::collector_store(cli, collector, environment)
            };
            run_mode(&mode, &beside, &find_store, stuck)
        }
        Err(error @ ConfigError { .. }) => usage_error(&error.to_string()),
    }
}

/// Makes a panic and a failed allocation end the program with `exit`, and without a core dump, which would
/// hold the key.
#[expect(clippy::exit, reason = "after a panic, no thread can be relied on")]
fn prepare_for_early_end(exit: Exit) {
    limits::prepare(exit as i32);
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(io::stderr(), "tilt-honeycomb: {panic}");
        std::process::exit(exit as i32);
    }));
}

/// `beside` resolves the configuration of `check` beside a running collector, and `find_store` finds the
/// state of one. `stuck` is the exit code of a run that a signal cannot end.
fn run_mode(
    mode: &Mode,
    beside: &check::Beside,
    find_store: &summary::FindStore,
    stuck: Exit,
) -> Exit {
    match mode {
        Mode::Sidecar(config) => sidecar::run(config),
        Mode::Report(config) => report::run(config, stuck),
        Mode::Snapshot(config) => snapshot::run(config, stuck),
        Mode::Flush(config) => flush::run(config, stuck),
        Mode::DryRun(config) => dry_run::run(config),
        Mode::Check(config) => check::run(config, beside, stuck),
        Mode::Board(config) => board::run(config, stuck),
        Mode::Summary(config) => summary::run(config, find_store, stuck),
    }
}

/// Prints a usage error even with `--quiet`: nothing else would explain the exit code.
fn usage_error(message: &str) -> Exit {
    let message = printable(message, tilt_honeycomb::log::LINE_LIMIT);
    let _ = writeln!(io::stderr(), "tilt-honeycomb: {message}");
    Exit::Usage
}

/// A person reads the lines of a long run much later than they were written.
fn line_start(ends_by_itself: bool) -> LineStart {
    if ends_by_itself { LineStart::Name } else { LineStart::Time }
}

/// cron mails everything that is printed, so a single report logs success only on a terminal.
fn log_level(cli: &Cli) -> LevelFilter {
    if cli.quiet {
        LevelFilter::Off
    } else if cli.verbose {
        LevelFilter::Debug
    } else if cli.ends_by_itself() && !io::stderr().is_terminal() {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    }
}

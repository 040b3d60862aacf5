//! Arguments and environment in, an exit code out.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use ci_env::CiProvider;
use log::LevelFilter;
use tilt_honeycomb::base::child;
use tilt_honeycomb::base::shutdown::{self, Shutdown};
use tilt_honeycomb::cli::{self, Cli, Command, EarlyExit};
use tilt_honeycomb::commands::board;
use tilt_honeycomb::commands::check;
use tilt_honeycomb::commands::dry_run;
use tilt_honeycomb::commands::report;
use tilt_honeycomb::commands::snapshot;
use tilt_honeycomb::config::{
    self, BoardConfig, CheckConfig, Config, ConfigError, Environment, Output, Source,
};
use tilt_honeycomb::exit_code::Exit;
use tilt_honeycomb::honeycomb::client::Client;
use tilt_honeycomb::honeycomb::sender::Sender;
use tilt_honeycomb::sidecar;
use tilt_honeycomb::spool::installation;
use tilt_honeycomb::spool::store::Store;
use tilt_honeycomb::tilt::client::Tilt;
use tilt_honeycomb::tilt::command::TiltMode;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let never_fails = cli::never_fails(&arguments);
    let ends = cli::ends(&arguments);
    end_on_panic(if never_fails { Exit::Done } else { Exit::Unexpected }, ends);
    let parsed = cli::parse(&arguments);
    tilt_honeycomb::log::init(parsed.as_ref().map_or(LevelFilter::Warn, level));
    let exit = match parsed {
        Ok(cli) => run(cli),
        Err(EarlyExit::Print(text)) => {
            // A closed stdout (`--help | head`) is no failure.
            let _ = writeln!(io::stdout(), "{text}");
            Exit::Done
        }
        Err(EarlyExit::Usage(mistake)) => stay_beside_ci(usage(&mistake), ends),
    };
    if never_fails { Exit::Done.into() } else { exit.into() }
}

/// With an exit code that stands in the table, and without a core that would hold the key.
#[expect(clippy::exit, reason = "whatever thread it was, nothing can be relied on any more")]
fn end_on_panic(exit: Exit, ends: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(io::stderr(), "tilt-honeycomb: {panic}");
        if is_beside_ci(ends) {
            let _ = writeln!(io::stderr(), "tilt-honeycomb: {IDLING}");
            child::replace_with_sleep();
        }
        std::process::exit(exit as i32);
    }));
}

/// Said whatever `--quiet` says: nothing else would tell why nothing works.
fn usage(mistake: &str) -> Exit {
    let _ = writeln!(io::stderr(), "tilt-honeycomb: {mistake}");
    Exit::Usage
}

fn run(cli: Cli) -> Exit {
    let read_file = |path: &str| std::fs::read_to_string(path);
    let ci_provider = ci_provider();
    let environment = Environment { variable: &variable, read_file: &read_file, ci_provider };

    let once = cli.reports_once();
    if config::do_not_track(&environment) {
        return do_nothing(once);
    }
    let exit = execute(cli, &environment).unwrap_or_else(|error| {
        if let Some(mistake) = error.downcast_ref::<ConfigError>() {
            return usage(&mistake.to_string());
        }
        log::error!("{error}");
        Exit::Unexpected
    });
    stay_beside_ci(exit, once)
}

fn execute(cli: Cli, environment: &Environment) -> Result<Exit, Box<dyn Error>> {
    match cli.command {
        Some(Command::Check) => Ok(check::run(&CheckConfig::resolve(&cli, environment)?)?),
        Some(Command::Board) => Ok(board::run(&BoardConfig::resolve(&cli, environment)?)),
        None => report(&Config::resolve(cli, environment)?),
    }
}

/// `None` too where a variable is no Unicode, which `ci_env` does not survive.
fn ci_provider() -> Option<CiProvider> {
    let is_text =
        |(name, value): (OsString, OsString)| name.to_str().is_some() && value.to_str().is_some();
    let provider = std::env::vars_os().all(is_text).then(ci_env::detect_provider)?;
    (provider != CiProvider::Unknown).then_some(provider)
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

const IDLING: &str = "idling, since an exit would fail tilt ci";

fn is_beside_ci(ends: bool) -> bool {
    !ends && config::tilt_mode(&variable) == Some(TiltMode::Ci)
}

/// `tilt ci` takes any exit for a failure of the job: a sidecar that cannot work stays, and idles.
fn stay_beside_ci(exit: Exit, ends: bool) -> Exit {
    if exit == Exit::Done || !is_beside_ci(ends) {
        return exit;
    }
    let shutdown = Shutdown::default();
    if shutdown::on_signals(&shutdown, || ()).is_ok() {
        log::warn!("{IDLING}");
        shutdown.wait();
    }
    Exit::Done
}

/// cron mails whatever is printed, so one report speaks of success only to a person.
fn level(cli: &Cli) -> LevelFilter {
    if cli.quiet {
        LevelFilter::Off
    } else if cli.verbose {
        LevelFilter::Debug
    } else if cli.reports_once() && !io::stderr().is_terminal() {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    }
}

/// `DO_NOT_TRACK`: a sidecar stays, because Tilt takes an exit for a failure.
fn do_nothing(once: bool) -> Exit {
    let shutdown = Shutdown::default();
    let heeds_signals = !once && shutdown::on_signals(&shutdown, || ()).is_ok();
    log::warn!("DO_NOT_TRACK is set: nothing is read, nothing is sent");
    if heeds_signals {
        shutdown.wait();
    }
    Exit::Done
}

fn report(config: &Config) -> Result<Exit, Box<dyn Error>> {
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tilt = Tilt::new(config.tilt.clone(), config.tilt_mode);
    match &config.output {
        Output::Print { state_dir } => {
            let id = state_dir.as_deref().and_then(installation::load);
            let context = config.context(id, cpu_count);
            if let Source::Snapshot(path) = &config.source {
                return Ok(dry_run::print_left(path, config.outcome, &context));
            }
            let shutdown = Shutdown::default();
            shutdown::on_signals(&shutdown, || ())?;
            let interval = (!config.once).then_some(config.interval);
            Ok(dry_run::print(&mut tilt, &context, interval, &shutdown))
        }
        Output::Send { destination, state_dir } => {
            let id = match installation::load_or_create(state_dir) {
                Ok(id) => Some(id),
                Err(error) if config.once => return Err(error.into()),
                // A sidecar outlives a full disk; Tilt takes its exit for a failure.
                Err(_) => None,
            };
            let context = config.context(id, cpu_count);
            let store =
                Store::new(state_dir.clone(), destination.endpoint.file_stem(&destination.dataset));
            let client = Client::new(destination);
            let interrupt = client.api().interrupter();
            let mut sender = Sender::new(store.clone(), client.clone());
            if !config.once {
                return Ok(sidecar::run(config, context, tilt, &store, sender, &client)?);
            }
            let shutdown = Shutdown::default();
            shutdown::on_signals(&shutdown, || report::interrupt_soon(interrupt))?;
            Ok(match &config.source {
                Source::Tilt => report::report(
                    &mut tilt,
                    &context,
                    &store,
                    &mut sender,
                    config.timeout,
                    &shutdown,
                ),
                Source::Snapshot(path) => snapshot::report(
                    path,
                    config,
                    &context,
                    &store,
                    &mut sender,
                    &client,
                    &shutdown,
                ),
                Source::Queue => snapshot::flush(&store, &mut sender, config.timeout, &shutdown).0,
            })
        }
    }
}

//! Arguments and environment in, an exit code out.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use log::LevelFilter;
use tilt_honeycomb::cli::{self, Cli, Early};
use tilt_honeycomb::config::{self, Config, Output, Surroundings};
use tilt_honeycomb::context::Context;
use tilt_honeycomb::deliver::Courier;
use tilt_honeycomb::exit::Exit;
use tilt_honeycomb::honeycomb::Client;
use tilt_honeycomb::stop::{self, Stop};
use tilt_honeycomb::store::{self, Store};
use tilt_honeycomb::tilt::Tilt;
use tilt_honeycomb::{dry_run, once, sidecar};

fn main() -> ExitCode {
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let exit = match cli::parse(&arguments) {
        Ok(cli) => run(cli),
        Err(Early::Answer(text)) => {
            // A closed stdout (`--help | head`) is no failure.
            let _ = writeln!(io::stdout(), "{text}");
            Exit::Done
        }
        Err(Early::Usage(mistake)) => usage(&mistake),
    };
    exit.into()
}

/// Said whatever `--quiet` says: nothing else would tell why nothing works.
fn usage(mistake: &str) -> Exit {
    let _ = writeln!(io::stderr(), "tilt-honeycomb: {mistake}");
    Exit::Usage
}

fn run(cli: Cli) -> Exit {
    tilt_honeycomb::log::init(level(&cli));
    #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
    let variable = |name: &str| std::env::var_os(name);
    let read_file = |path: &str| std::fs::read_to_string(path);
    let surroundings = Surroundings { variable: &variable, read_file: &read_file };

    if config::do_not_track(&surroundings) {
        return do_nothing(cli.once);
    }
    let config = match Config::resolve(cli, &surroundings) {
        Ok(config) => config,
        Err(mistake) => return usage(&mistake.to_string()),
    };
    report(&config).unwrap_or_else(|error| {
        log::error!("{error:#}");
        Exit::Unexpected
    })
}

/// cron mails whatever is printed, so one report speaks of success only to a person.
fn level(cli: &Cli) -> LevelFilter {
    if cli.quiet {
        LevelFilter::Off
    } else if cli.verbose {
        LevelFilter::Debug
    } else if cli.once && !io::stderr().is_terminal() {
        LevelFilter::Warn
    } else {
        LevelFilter::Info
    }
}

/// `DO_NOT_TRACK`: a sidecar stays, because Tilt takes an exit for a failure.
fn do_nothing(once: bool) -> Exit {
    let stop = Stop::default();
    let heeds_signals = !once && stop::on_signals(&stop, || ()).is_ok();
    log::warn!("DO_NOT_TRACK is set: nothing is read, nothing is sent");
    if heeds_signals {
        stop.wait();
    }
    Exit::Done
}

fn report(config: &Config) -> anyhow::Result<Exit> {
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tilt = Tilt::new(config.tilt.clone());
    match &config.output {
        Output::Print { state_dir } => {
            let id = state_dir.as_deref().and_then(store::known_installation_id);
            let context = Context::new(config, id, cpu_count);
            let stop = Stop::default();
            stop::on_signals(&stop, || ())?;
            let interval = (!config.once).then_some(config.interval);
            Ok(dry_run::print(&mut tilt, &context, interval, &stop))
        }
        Output::Send { destination, state_dir } => {
            let id = match store::installation_id(state_dir) {
                Ok(id) => Some(id),
                Err(error) if config.once => return Err(error.into()),
                // A sidecar outlives a full disk; Tilt takes its exit for a failure.
                Err(_) => None,
            };
            let context = Context::new(config, id, cpu_count);
            let store = Store::new(state_dir.clone(), destination.file_stem());
            let client = Client::new(destination);
            let interrupt = client.interrupter();
            let mut courier = Courier::new(store.clone(), client);
            if !config.once {
                return Ok(sidecar::run(config, &context, tilt, &store, courier)?);
            }
            let stop = Stop::default();
            stop::on_signals(&stop, interrupt)?;
            Ok(once::report(&mut tilt, &context, &store, &mut courier, config.timeout, &stop))
        }
    }
}

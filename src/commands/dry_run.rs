//! `--dry-run`: prints what would be sent, one JSON object per line on stdout. It keeps its state in
//! memory only, so each build is printed once and nothing on disk changes.

use std::io::{self, Write};
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::{snapshot, stop};
use crate::config::{DryRunConfig, DryRunSource, SnapshotSource};
use crate::events::common_fields::Context;
use crate::events::observation::Observation;
use crate::exit_code::Exit;
use crate::metadata::git;
use crate::spool::installation;
use crate::spool::reconcile::reconcile;
use crate::spool::state::State;
use crate::tilt::client::Tilt;

/// Prints the events. A signal ends it with exit code 0, even if stdout is blocked.
pub fn run(config: &DryRunConfig) -> Exit {
    let shutdown = stop::on_signals(|| (), Exit::Done);
    let installation_id =
        config.state_dir.as_deref().and_then(|dir| installation::load(dir).ok()?);
    let context = Context { installation_id, ..config.context.clone() };
    match &config.source {
        DryRunSource::Snapshot(source) => print_snapshot(source, &context),
        DryRunSource::Tilt { command, interval, heartbeat_fold } => {
            let mut tilt = Tilt::new(command.clone(), context.tilt_mode);
            print_reports(&mut tilt, &context, *heartbeat_fold, *interval, &shutdown)
        }
    }
}

fn print_snapshot(source: &SnapshotSource, context: &Context) -> Exit {
    let at_exit = match snapshot::read(source) {
        Ok(at_exit) => at_exit,
        Err(exit) => return exit,
    };
    let mut state = State::default();
    let context = git::with_checkout(context, at_exit.snapshot.session.as_ref());
    reconcile(&mut state, &snapshot::observation(&at_exit), &context, time::wall());
    print_new_events(&mut state).map_or_else(|error| not_printed(&error), |()| Exit::Done)
}

/// Prints one report, or one at every interval until a signal.
fn print_reports(
    tilt: &mut Tilt,
    context: &Context,
    heartbeat_fold: u32,
    interval: Option<Duration>,
    shutdown: &Shutdown,
) -> Exit {
    let mut state = State::default();
    let mut last_problem = None;
    loop {
        let due = time::now() + interval.unwrap_or_default();
        let mut problem = None;
        match tilt.poll(Duration::MAX, shutdown) {
            Ok(snapshot) => {
                let context = git::with_checkout(context, snapshot.session.as_ref());
                let observation = Observation { heartbeat_fold, ..Observation::at(&snapshot) };
                reconcile(&mut state, &observation, &context, time::wall());
                if let Err(error) = print_new_events(&mut state) {
                    return not_printed(&error);
                }
            }
            Err(_) if shutdown.requested() => return Exit::Done,
            Err(error) => {
                let message = error.to_string();
                if last_problem.as_ref() != Some(&message) {
                    log::error!("{message}");
                }
                if interval.is_none() {
                    return Exit::of_failed_poll(&error);
                }
                problem = Some(message);
            }
        }
        last_problem = problem;
        if interval.is_none() || shutdown.wait_until(due) {
            return Exit::Done;
        }
    }
}

/// A closed stdout (`| head`) is not an error; a full disk is.
fn not_printed(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Done;
    }
    log::error!("cannot print the events: {error}");
    Exit::Unexpected
}

fn print_new_events(state: &mut State) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for event in state.take_new_events() {
        writeln!(stdout, "{}", event.wire)?;
    }
    stdout.flush()
}

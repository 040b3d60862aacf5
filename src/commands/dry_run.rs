//! `--dry-run`: what would be sent, one JSON object a line on stdout. It remembers only for as
//! long as it runs, so each build is printed once and nothing on disk changes.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::snapshot;
use crate::events::common_fields::Context;
use crate::events::observation::Observation;
use crate::exit_code::Exit;
use crate::metadata::git;
use crate::spool::reconcile::reconcile;
use crate::spool::state::State;
use crate::tilt::client::Tilt;
use crate::tilt::exit_snapshot;
use crate::tilt::model::Outcome;

/// Prints what a run of Tilt left.
pub fn print_left(path: &Path, outcome: Option<Outcome>, context: &Context) -> Exit {
    let left = match exit_snapshot::read(path, outcome) {
        Ok(left) => left,
        Err(error) => {
            log::error!("{error}");
            return Exit::Unexpected;
        }
    };
    let mut state = State::default();
    let context = git::located(context, left.snapshot.session.as_ref());
    reconcile(&mut state, &snapshot::observation(&left), &context, time::wall());
    print_queue(&mut state).map_or_else(|error| not_printed(&error), |()| Exit::Done)
}

/// Prints reports: one, or one every `interval` until stopped.
pub fn print(
    tilt: &mut Tilt,
    context: &Context,
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
                let context = git::located(context, snapshot.session.as_ref());
                reconcile(&mut state, &Observation::at(&snapshot), &context, time::wall());
                if let Err(error) = print_queue(&mut state) {
                    return not_printed(&error);
                }
            }
            Err(_) if shutdown.requested() => return Exit::Done,
            Err(error) => {
                let said = error.to_string();
                if last_problem.as_ref() != Some(&said) {
                    log::error!("{said}");
                }
                if interval.is_none() {
                    return Exit::no_snapshot(&error);
                }
                problem = Some(said);
            }
        }
        last_problem = problem;
        if interval.is_none() || shutdown.wait_until(due) {
            return Exit::Done;
        }
    }
}

/// Whoever closed stdout has seen enough; a full disk has not.
fn not_printed(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Done;
    }
    log::error!("cannot print the events: {error}");
    Exit::Unexpected
}

fn print_queue(state: &mut State) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for event in state.queue() {
        writeln!(stdout, "{}", event.wire)?;
    }
    let printed: Vec<_> = state.queue().iter().map(|event| event.seq).collect();
    state.settle(&printed, 0);
    stdout.flush()
}

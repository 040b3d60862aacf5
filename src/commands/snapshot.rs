//! `--snapshot`: reports on a `tilt ci` that has ended, from the file that it wrote when it exited.
//! Sends the queue and prints a summary for people.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::base::time;
use crate::commands::ci_summary::Summary;
use crate::commands::flush::flush;
use crate::commands::report::{log_dropped, unusable_state, with_installation_id};
use crate::commands::stop;
use crate::commands::trace_link::{LINK_TIMEOUT, StartTrace};
use crate::config::{SnapshotConfig, SnapshotSource, SummaryConfig};
use crate::events::common_fields::Context;
use crate::events::observation::{Observation, Phase};
use crate::events::outcome::outcome;
use crate::events::session_id::session_id;
use crate::events::tracker::SessionTracker;
use crate::exit_code::Exit;
use crate::honeycomb::dataset_link;
use crate::honeycomb::sender::Sender;
use crate::metadata::git;
use crate::spool::reconcile::reconcile;
use crate::tilt::exit_snapshot::{self, ExitSnapshot};

/// Reports from a snapshot. Sends the queue even if the snapshot cannot be read. `stuck` is the exit
/// code of a run that a signal cannot end.
pub fn run(config: &SnapshotConfig, stuck: Exit) -> Exit {
    let mut sender = config.send.sender();
    let Some(context) = with_installation_id(&config.context, &config.send.state_dir) else {
        return Exit::Unexpected;
    };
    let shutdown = stop::on_signals(sender.client().api().interrupter(), stuck);

    let recorded = record(config, &context, &sender);
    let exit = flush(&mut sender, config.send.timeout, &shutdown);
    match recorded {
        Ok((at_exit, tracker)) => {
            if let Some(summary_config) = &config.summary {
                let trace = StartTrace::of(&observation(&at_exit), &tracker, time::wall());
                let link = trace.filter(|_| exit == Exit::Done).and_then(|trace| {
                    let (api, destination) = (sender.client().api(), &config.send.destination);
                    let dataset = dataset_link::find(api, destination, LINK_TIMEOUT)?;
                    Some(trace.link(&dataset))
                });
                let summary = summary(&at_exit, &tracker, &context);
                print_summary(&summary, summary_config, link.as_deref());
            }
            exit
        }
        Err(exit) => exit,
    }
}

/// Reads a snapshot. Logs why if that fails.
pub fn read(source: &SnapshotSource) -> Result<ExitSnapshot, Exit> {
    exit_snapshot::read(&source.file, source.outcome).map_err(|error| {
        log::error!("{error}");
        Exit::Unexpected
    })
}

/// The snapshot as the last observation of its session.
pub fn observation(at_exit: &ExitSnapshot) -> Observation<'_> {
    let (phase, seen_at) = (Phase::Over(at_exit.snapshot.outcome), at_exit.created_at);
    Observation { phase, seen_at, ..Observation::at(&at_exit.snapshot) }
}

fn record(
    config: &SnapshotConfig,
    context: &Context,
    sender: &Sender,
) -> Result<(ExitSnapshot, SessionTracker), Exit> {
    let at_exit = read(&config.source)?;
    let context = git::with_checkout(context, at_exit.snapshot.session.as_ref());
    let updated = sender.store().update(time::wall, |state, now| {
        let recorded = reconcile(state, &observation(&at_exit), &context, now);
        (recorded, state.tracker(&session_id(&observation(&at_exit))))
    });
    let (recorded, tracker) = updated.map_err(|error| unusable_state(&error))?;
    log_dropped(recorded);
    Ok((at_exit, tracker))
}

/// The table of a run, without the row of the collector.
fn summary(at_exit: &ExitSnapshot, tracker: &SessionTracker, context: &Context) -> Summary {
    let ended_at = at_exit.created_at.unwrap_or_else(time::wall);
    let outcome = outcome(&observation(at_exit), tracker, &context.collector);
    Summary::of(&at_exit.snapshot, outcome, ended_at, &context.collector)
}

/// Prints the summary on stdout, and appends it to GitHub's page.
fn print_summary(summary: &Summary, config: &SummaryConfig, link: Option<&str>) {
    // A closed stdout is not an error.
    let _ = io::stdout().write_all(summary.text(link).as_bytes());
    if let Some(page) = &config.github_page
        && let Err(error) = append(page, &summary.markdown(link))
    {
        log::warn!("cannot write GITHUB_STEP_SUMMARY {}: {error}", page.display());
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

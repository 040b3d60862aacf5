//! When Tilt is gone: reads what `tilt ci` left, sends that and what waits from before, and tells
//! the person. Or only sends what waits.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::ci_summary::Summary;
use crate::commands::report;
use crate::config::{Config, Output};
use crate::events::common_fields::Context;
use crate::events::observation::{Observation, Phase};
use crate::events::outcome::outcome;
use crate::events::session_id::session_id;
use crate::events::tracker::SessionTracker;
use crate::exit_code::Exit;
use crate::honeycomb::client::Client;
use crate::honeycomb::dataset_link;
use crate::honeycomb::sender::Sender;
use crate::metadata::git;
use crate::spool::reconcile::reconcile;
use crate::spool::store::Store;
use crate::tilt::exit_snapshot::{self, ExitSnapshot};

/// A link is worth no more.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// The last look that a snapshot allows.
pub fn observation(left: &ExitSnapshot) -> Observation<'_> {
    let (phase, seen_at) = (Phase::Over(left.snapshot.outcome), left.created_at);
    Observation { phase, seen_at, ..Observation::at(&left.snapshot) }
}

/// Reports from a snapshot. What waits is sent even where that cannot be read.
pub fn report(
    path: &Path,
    config: &Config,
    context: &Context,
    store: &Store,
    sender: &mut Sender,
    client: &Client,
    shutdown: &Shutdown,
) -> Exit {
    let left = exit_snapshot::read(path, config.outcome).map_err(|error| {
        log::error!("{error}");
        Exit::Unexpected
    });
    let told = left.and_then(|left| {
        let context = git::located(context, left.snapshot.session.as_ref());
        let tracker = store.update(|state| {
            let recorded = reconcile(state, &observation(&left), &context, time::wall());
            (recorded, state.tracker(&session_id(&observation(&left))))
        });
        let (recorded, tracker) = tracker.map_err(|error| report::unusable_state(&error))?;
        report::say_dropped(recorded);
        Ok((left, tracker))
    });
    let (sent, is_reachable) = flush(store, sender, config.timeout, shutdown);
    match told {
        Ok((left, tracker)) => {
            tell(&left, &tracker, config, is_reachable.then_some(client));
            sent
        }
        Err(exit) => exit,
    }
}

/// Sends what waits, and what a collector that has ended promised; whether Honeycomb took it.
pub fn flush(
    store: &Store,
    sender: &mut Sender,
    limit: Duration,
    shutdown: &Shutdown,
) -> (Exit, bool) {
    let delivered = store
        .update(|state| state.end_left_sessions(time::wall()))
        .and_then(|()| sender.deliver(limit, shutdown));
    match delivered {
        Ok(delivery) => {
            let exit = report::outcome(&delivery);
            report::say_delivered(&delivery);
            (exit, exit == Exit::Done)
        }
        Err(error) => (report::unusable_state(&error), false),
    }
}

/// The job's log is where people look; a page of GitHub's shows more.
fn tell(left: &ExitSnapshot, tracker: &SessionTracker, config: &Config, client: Option<&Client>) {
    let Some(told) = &config.summary else { return };
    let at = left.created_at.unwrap_or_else(time::wall);
    let outcome = outcome(&observation(left), tracker);
    let summary = Summary::of(&left.snapshot, outcome, at);
    let link = client.and_then(|client| link(left, tracker, config, client));
    // A closed stdout is no failure.
    let _ = io::stdout().write_all(summary.text(link.as_deref()).as_bytes());
    if let Some(page) = &told.github_page {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(page)
            .and_then(|mut page| page.write_all(summary.markdown(link.as_deref()).as_bytes()));
        if let Err(error) = written {
            log::warn!("GITHUB_STEP_SUMMARY {}: {error}", page.display());
        }
    }
}

fn link(
    left: &ExitSnapshot,
    tracker: &SessionTracker,
    config: &Config,
    client: &Client,
) -> Option<String> {
    let Output::Send { destination, .. } = &config.output else { return None };
    let session = left.snapshot.session.as_ref()?;
    let started_at = session.tilt_started_at.as_ref()?.at;
    let observation = observation(left);
    let root = tracker.startup_span(&session_id(&observation));
    let place = dataset_link::find(client.api(), destination, LINK_PATIENCE)?;
    let ended_at = left.created_at.unwrap_or_else(time::wall);
    Some(place.trace(&root.trace_id, (started_at, ended_at)))
}

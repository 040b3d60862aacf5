//! `summary`: prints what happened in an environment, for the developer at its machine. Reads Tilt or an
//! exit snapshot, and the state of a collector if there is one. Needs no key, sends nothing and changes no
//! state.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::base::shutdown::Shutdown;
use crate::base::{terminal, time};
use crate::commands::{collector, report, snapshot, stop};
use crate::config::LocalSummaryConfig;
use crate::config::collector_settings::CollectorSettings;
use crate::events::observation::Observation;
use crate::events::session_id::session_id;
use crate::events::tracker::SessionTracker;
use crate::exit_code::Exit;
use crate::spool::store::Store;
use crate::summary::html;
use crate::summary::model::EnvironmentSummary;
use crate::summary::text::{TextLayout, text};
use crate::tilt::client::Tilt;

/// The size of a terminal that does not tell its own.
const DEFAULT_COLUMNS: usize = 80;
const DEFAULT_LINES: usize = 24;
/// The most lines in a file or a log.
const LOG_LINES: usize = 40;

/// Finds the state of a collector with these settings.
pub type FindStore<'a> = dyn Fn(&CollectorSettings) -> Option<Store> + 'a;

/// Prints the summary, and writes the page if one was asked for. `stuck` is the exit code of a run that
/// a signal cannot end.
pub fn run(config: &LocalSummaryConfig, find_store: &FindStore, stuck: Exit) -> Exit {
    let shutdown = stop::on_signals(|| (), stuck);
    let summary = match summarize(config, find_store, &shutdown) {
        Ok(summary) => summary,
        Err(exit) => return exit,
    };
    // A closed stdout (`| head`) is not an error.
    let _ = io::stdout().write_all(text(&summary, layout(config)).as_bytes());
    config.html.as_deref().map_or(Exit::Done, |file| write_page(file, &summary))
}

/// Observes the environment. Logs why if that fails.
fn summarize(
    config: &LocalSummaryConfig,
    find_store: &FindStore,
    shutdown: &Shutdown,
) -> Result<EnvironmentSummary, Exit> {
    let context = &config.context;
    let summarize = |observation: &Observation, collector: &CollectorSettings| {
        let tracker = recorded(find_store(collector), &session_id(observation));
        let seen_at = observation.seen_at.unwrap_or_else(time::wall);
        EnvironmentSummary::of(observation, tracker, context, seen_at)
    };
    if let Some(source) = &config.snapshot {
        let at_exit = snapshot::read(source)?;
        let observation = snapshot::observation(&at_exit);
        return Ok(summarize(&observation, &CollectorSettings::default()));
    }
    let mut tilt = Tilt::new(config.tilt.clone(), context.tilt_mode);
    let snapshot = report::poll(&mut tilt, shutdown)?;
    let settings = collector::settings(&tilt, &snapshot, &context.collector, shutdown);
    Ok(summarize(&Observation::at(&snapshot), &settings))
}

/// The record of a collector about a session. Empty without one.
fn recorded(store: Option<Store>, session_id: &str) -> SessionTracker {
    let Some(store) = store else { return SessionTracker::default() };
    store.read(|state| state.tracker(session_id)).unwrap_or_else(|error| {
        log::warn!("{error}");
        SessionTracker::default()
    })
}

fn layout(config: &LocalSummaryConfig) -> TextLayout {
    let size = terminal::size();
    let is_terminal = io::stdout().is_terminal();
    let default_lines = if is_terminal { DEFAULT_LINES } else { LOG_LINES };
    let columns = config.columns.or(size.map(|(columns, _)| columns)).unwrap_or(DEFAULT_COLUMNS);
    let lines = config.lines.or(size.map(|(_, lines)| lines)).unwrap_or(default_lines);
    TextLayout {
        width: columns,
        height: (!config.all).then_some(lines),
        color: is_terminal && !config.no_color,
    }
}

fn write_page(file: &Path, summary: &EnvironmentSummary) -> Exit {
    match fs::write(file, html::page(summary)) {
        Ok(()) => Exit::Done,
        Err(error) => {
            log::error!("cannot write --html {}: {error}", file.display());
            Exit::Unexpected
        }
    }
}

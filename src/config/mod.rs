//! Resolves the options, the environment and the defaults into one [`Mode`]. An option wins over its
//! variable.
//!
//! Pure: the environment and the key file are passed in as functions. Every error is one line that
//! names the option or variable and says what to do. No message contains the key.

pub mod collector_settings;
pub mod environment;
pub mod error;
pub mod key;
pub mod values;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Cli, Command};
use crate::config::collector_settings::CollectorSettings;
use crate::config::environment::Environment;
use crate::config::error::ConfigError;
use crate::config::key::{FoundKey, NoKey};
use crate::events::common_fields::Context;
use crate::honeycomb::client::Client;
use crate::honeycomb::endpoint::{Destination, Endpoint};
use crate::honeycomb::sender::Sender;
use crate::metadata::ci;
use crate::spool::store::Store;
use crate::tilt::command::{TiltCommand, TiltMode};
use crate::tilt::model::Outcome;

/// The default `name` of `honeycomb_collector()` in the Tiltfile.
const DEFAULT_COLLECTOR: &str = "honeycomb-collector";
const DEFAULT_PORT: &str = "10350";
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_HEARTBEAT_FOLD: u32 = 5;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_ORPHAN_AFTER: Duration = Duration::from_mins(5);

/// The one thing that this run of the program does, with everything it needs.
#[derive(Debug)]
pub enum Mode {
    /// Keeps running beside a Tilt.
    Sidecar(SidecarConfig),
    /// `--once`: reports on a running Tilt once.
    Report(ReportConfig),
    /// `--snapshot`: reports on a `tilt ci` that has ended.
    Snapshot(SnapshotConfig),
    /// `--flush`: sends the queue.
    Flush(SendConfig),
    /// `--dry-run`: prints events.
    DryRun(DryRunConfig),
    Check(CheckConfig),
    Board(BoardConfig),
    /// `summary`: prints what happened in an environment.
    Summary(LocalSummaryConfig),
}

#[derive(Debug)]
pub struct SidecarConfig {
    pub tilt: TiltCommand,
    pub context: Context,
    pub send: SendConfig,
    /// Time between two reports.
    pub interval: Duration,
    /// One event represents this many unchanged reports of a resource.
    pub heartbeat_fold: u32,
    /// A sidecar whose parent has exited ends after Tilt was gone for this long.
    pub orphan_after: Duration,
    /// Whether to watch Tilt's objects. Otherwise the sidecar only polls every interval.
    pub watches: bool,
}

#[derive(Debug)]
pub struct ReportConfig {
    pub tilt: TiltCommand,
    pub context: Context,
    pub send: SendConfig,
    /// One event represents this many unchanged reports of a resource, one from each run.
    pub heartbeat_fold: u32,
}

#[derive(Debug)]
pub struct SnapshotConfig {
    pub source: SnapshotSource,
    pub context: Context,
    pub send: SendConfig,
    /// The summary for people; `None` with `--quiet`.
    pub summary: Option<SummaryConfig>,
}

/// A snapshot file, and how its `tilt ci` ended if the caller knows.
#[derive(Debug)]
pub struct SnapshotSource {
    pub file: PathBuf,
    pub outcome: Option<Outcome>,
}

/// The targets of the summary of a `tilt ci`, in addition to stdout.
#[derive(Debug, PartialEq)]
pub struct SummaryConfig {
    /// `GITHUB_STEP_SUMMARY`: a Markdown file that GitHub Actions shows on the job's page.
    pub github_page: Option<PathBuf>,
}

/// The destination of the events, and the folder of their queue.
#[derive(Debug)]
pub struct SendConfig {
    pub destination: Destination,
    pub state_dir: PathBuf,
    /// The longest time for one delivery, retries included.
    pub timeout: Duration,
}

impl SendConfig {
    /// A sender for this destination. Opens no connection and no file.
    pub fn sender(&self) -> Sender {
        let Destination { endpoint, dataset, .. } = &self.destination;
        let store = Store::new(&self.state_dir, &endpoint.file_stem(dataset));
        Sender::new(store, Client::new(&self.destination))
    }
}

#[derive(Debug)]
pub struct DryRunConfig {
    pub source: DryRunSource,
    pub context: Context,
    /// Read for the installation id only.
    pub state_dir: Option<PathBuf>,
}

#[derive(Debug)]
pub enum DryRunSource {
    /// A running Tilt: once, or at every interval.
    Tilt {
        command: TiltCommand,
        interval: Option<Duration>,
        heartbeat_fold: u32,
    },
    Snapshot(SnapshotSource),
}

/// The parts that `check` tests. Each is resolved by itself, so that no error hides another.
#[derive(Debug)]
pub struct CheckConfig {
    pub output: CheckOutput,
    /// Whether it is a failure that no Tilt runs.
    pub require_tilt: bool,
    /// The name of the collector's resource in Tilt.
    pub collector: String,
    pub tilt: TiltCommand,
    /// The port that `tilt` uses, for messages.
    pub port: String,
    /// The longest time for one request.
    pub timeout: Duration,
    pub state_dir: Result<PathBuf, ConfigError>,
    pub key: Result<FoundKey, NoKey>,
    pub endpoint: Result<Endpoint, ConfigError>,
    pub dataset: Result<String, ConfigError>,
    /// The address of Honeycomb's UI, if it is known.
    pub ui: Result<Option<String>, ConfigError>,
}

/// How `check` prints what it found.
#[derive(Debug, Clone, Copy)]
pub enum CheckOutput {
    Json,
    /// Lines for people, on a terminal in colour unless `NO_COLOR` is set (<https://no-color.org>).
    Lines {
        links: bool,
        no_color: bool,
    },
}

#[derive(Debug)]
pub struct BoardConfig {
    pub dataset: String,
    /// The API and the key to create the board with; `None` with `--dry-run`.
    pub destination: Option<Destination>,
    /// The longest time for one request.
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct LocalSummaryConfig {
    pub tilt: TiltCommand,
    /// The exit snapshot to read instead of a running Tilt.
    pub snapshot: Option<SnapshotSource>,
    pub context: Context,
    /// The file for the HTML page.
    pub html: Option<PathBuf>,
    /// Whether to print every row.
    pub all: bool,
    /// `COLUMNS` and `LINES`, which outweigh the size of the terminal.
    pub columns: Option<usize>,
    pub lines: Option<usize>,
    /// `NO_COLOR` (<https://no-color.org>).
    pub no_color: bool,
}

impl Mode {
    /// Checks the options and the environment, and decides what to do.
    pub fn resolve(cli: &Cli, environment: &Environment) -> Result<Self, ConfigError> {
        match cli.command {
            Some(Command::Check) => {
                Ok(Self::Check(check(cli, &CollectorSettings::default(), environment)?))
            }
            Some(Command::Board) => Ok(Self::Board(board(cli, environment)?)),
            Some(Command::Summary) => Ok(Self::Summary(summary(cli, environment)?)),
            None => report(cli, environment),
        }
    }
}

fn report(cli: &Cli, environment: &Environment) -> Result<Mode, ConfigError> {
    let snapshot = snapshot(cli);
    // Everything is checked in every mode, so that an invalid option is always reported.
    let interval = values::duration(
        "--interval",
        cli.interval.as_deref(),
        DEFAULT_INTERVAL,
        values::INTERVALS,
    )?;
    // A single report is for someone who waits for it.
    let default_fold = if cli.once { 1 } else { DEFAULT_HEARTBEAT_FOLD };
    let heartbeat_fold = values::heartbeat_fold(cli.heartbeat_fold.as_deref(), default_fold)?;
    let orphan_after = values::duration(
        "TILT_HONEYCOMB_ORPHAN_AFTER",
        environment.text("TILT_HONEYCOMB_ORPHAN_AFTER").as_deref(),
        DEFAULT_ORPHAN_AFTER,
        values::INTERVALS,
    )?;
    let tilt = tilt_command(cli)?;
    let context = context(cli, environment)?;
    let timeout = timeout(cli)?;
    let state_dir = values::state_dir(cli.state_dir.as_deref(), environment);
    if cli.dry_run {
        let source = if let Some(snapshot) = snapshot {
            DryRunSource::Snapshot(snapshot)
        } else {
            let interval = (!cli.once).then_some(interval);
            DryRunSource::Tilt { command: tilt, interval, heartbeat_fold }
        };
        return Ok(Mode::DryRun(DryRunConfig { source, context, state_dir: state_dir.ok() }));
    }
    let destination = destination(cli, environment)?;
    let send = SendConfig { destination, state_dir: state_dir?, timeout };
    Ok(match snapshot {
        Some(source) => {
            let github_page = environment.path("GITHUB_STEP_SUMMARY");
            let summary = (!cli.quiet).then_some(SummaryConfig { github_page });
            Mode::Snapshot(SnapshotConfig { source, context, send, summary })
        }
        None if cli.flush => Mode::Flush(send),
        None if cli.once => Mode::Report(ReportConfig { tilt, context, send, heartbeat_fold }),
        None => {
            let watches = !cli.no_watch;
            Mode::Sidecar(SidecarConfig {
                tilt,
                context,
                send,
                interval,
                heartbeat_fold,
                orphan_after,
                watches,
            })
        }
    })
}

fn snapshot(cli: &Cli) -> Option<SnapshotSource> {
    let outcome = cli.outcome.as_deref().and_then(Outcome::parse);
    cli.snapshot.clone().map(|file| SnapshotSource { file, outcome })
}

/// What `check` tests. A setting of the running collector counts more than a variable, and less than an
/// option.
pub fn check(
    cli: &Cli,
    collector: &CollectorSettings,
    environment: &Environment,
) -> Result<CheckConfig, ConfigError> {
    let endpoint = endpoint(cli, collector, environment);
    let key_file = cli.api_key_file.as_deref().or(collector.api_key_file.as_deref());
    let ui = match &endpoint {
        Ok(endpoint) => values::ui_url(endpoint, environment),
        Err(_) => Ok(None),
    };
    let port = cli.port.clone().or_else(|| environment.text("TILT_PORT"));
    Ok(CheckConfig {
        output: if cli.json {
            CheckOutput::Json
        } else {
            CheckOutput::Lines { links: cli.links, no_color: no_color(environment) }
        },
        require_tilt: cli.require_tilt,
        collector: collector_name(environment),
        tilt: tilt_command(cli)?,
        port: port.unwrap_or_else(|| DEFAULT_PORT.to_owned()),
        timeout: timeout(cli)?,
        state_dir: state_dir(cli, collector, environment),
        key: key::find(key_file, environment),
        endpoint,
        dataset: dataset(cli, collector, environment),
        ui,
    })
}

fn board(cli: &Cli, environment: &Environment) -> Result<BoardConfig, ConfigError> {
    let destination = if cli.dry_run { None } else { Some(destination(cli, environment)?) };
    let dataset = values::dataset(cli.dataset.as_deref(), environment)?;
    Ok(BoardConfig { dataset, destination, timeout: timeout(cli)? })
}

fn summary(cli: &Cli, environment: &Environment) -> Result<LocalSummaryConfig, ConfigError> {
    let number = |name| environment.text(name).and_then(|text| text.trim().parse().ok());
    Ok(LocalSummaryConfig {
        tilt: tilt_command(cli)?,
        snapshot: snapshot(cli),
        context: context(cli, environment)?,
        html: cli.html.clone(),
        all: cli.all,
        columns: number("COLUMNS"),
        lines: number("LINES"),
        no_color: no_color(environment),
    })
}

/// The state of a collector with these settings, which count as in [`check`]. `None` if no dataset is known.
pub fn collector_store(
    cli: &Cli,
    collector: &CollectorSettings,
    environment: &Environment,
) -> Option<Store> {
    let dataset = dataset(cli, collector, environment).ok()?;
    let endpoint = endpoint(cli, collector, environment).ok()?;
    let state_dir = state_dir(cli, collector, environment).ok()?;
    Some(Store::new(&state_dir, &endpoint.file_stem(&dataset)))
}

fn no_color(environment: &Environment) -> bool {
    environment.text("NO_COLOR").is_some()
}

/// The name of the collector's resource in Tilt.
fn collector_name(environment: &Environment) -> String {
    environment.text("TILT_HONEYCOMB_RESOURCE").unwrap_or_else(|| DEFAULT_COLLECTOR.to_owned())
}

/// The values that every event carries in addition to those from Tilt.
fn context(cli: &Cli, environment: &Environment) -> Result<Context, ConfigError> {
    // Only `tilt ci` writes a snapshot when it exits.
    let mode_of_snapshot = cli.snapshot.as_ref().map(|_| TiltMode::Ci);
    let tilt_mode = environment.tilt_mode().or(mode_of_snapshot);
    Ok(Context {
        user: cli.user.clone().or_else(|| environment.text("TILT_HONEYCOMB_USER")),
        own_fields: values::own_fields(&cli.field)?,
        send_error_text: cli.send_error_text,
        send_stage_text: cli.send_stage_text,
        tilt_mode,
        collector: collector_name(environment),
        installation_id: None,
        cpu_count: environment.cpu_count,
        ci_fields: ci::fields(environment.ci_provider, &|name| environment.text(name)),
        vcs: cli.vcs,
        checkout: Vec::new(),
        remote_parent: environment.remote_parent().filter(|_| tilt_mode == Some(TiltMode::Ci)),
    })
}

fn destination(cli: &Cli, environment: &Environment) -> Result<Destination, ConfigError> {
    let key = key::find(cli.api_key_file.as_deref(), environment)?.key;
    let dataset = values::dataset(cli.dataset.as_deref(), environment)?;
    let endpoint = endpoint(cli, &CollectorSettings::default(), environment)?;
    let ui = values::ui_url(&endpoint, environment)?;
    Ok(Destination { endpoint, dataset, key, ui })
}

fn endpoint(
    cli: &Cli,
    collector: &CollectorSettings,
    environment: &Environment,
) -> Result<Endpoint, ConfigError> {
    let option = cli.api_endpoint.as_deref().or(collector.endpoint.as_deref());
    let allow_insecure_http = cli.allow_insecure_http || collector.allow_insecure_http;
    values::endpoint(option, allow_insecure_http, environment)
}

fn dataset(
    cli: &Cli,
    collector: &CollectorSettings,
    environment: &Environment,
) -> Result<String, ConfigError> {
    values::dataset(cli.dataset.as_deref().or(collector.dataset.as_deref()), environment)
}

fn state_dir(
    cli: &Cli,
    collector: &CollectorSettings,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    values::state_dir(cli.state_dir.as_deref().or(collector.state_dir.as_deref()), environment)
}

fn timeout(cli: &Cli) -> Result<Duration, ConfigError> {
    values::duration("--timeout", cli.timeout.as_deref(), DEFAULT_TIMEOUT, values::TIMEOUTS)
}

fn tilt_command(cli: &Cli) -> Result<TiltCommand, ConfigError> {
    let program = cli.tilt.clone().unwrap_or_else(|| PathBuf::from("tilt"));
    let port = cli.port.as_deref().map(values::port).transpose()?;
    Ok(TiltCommand { program: program.into_os_string(), port })
}

//! `check`: tests in order everything that a report needs, looks at the collector, and prints one line
//! about each part. Sends no event. The last line says what the others mean.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::collector;
use crate::commands::findings::{self, Finding};
use crate::commands::print_line;
use crate::commands::stop;
use crate::config::collector_settings::CollectorSettings;
use crate::config::error::ConfigError;
use crate::config::key::NoKey;
use crate::config::{CheckConfig, CheckOutput};
use crate::exit_code::Exit;
use crate::honeycomb::api_key::{ApiKey, Shape};
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::client::{Api, NoResponse};
use crate::honeycomb::dataset_link::{self, DatasetUrl};
use crate::honeycomb::endpoint::{self, Endpoint};
use crate::honeycomb::queries::{QUERIES, Query};
use crate::honeycomb::response::Response;
use crate::honeycomb::urls;
use crate::spool::installation;
use crate::spool::store::{self, Store};
use crate::tilt::client::Tilt;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;

/// The findings so far. Prints each as it is added; as JSON, all at the end.
struct CheckReport {
    output: CheckOutput,
    findings: Vec<Finding>,
}

/// The API at the configured endpoint.
struct Connection<'a> {
    endpoint: &'a Endpoint,
    api: Api,
    /// The key, unless its format shows that it cannot work. Such a key is never sent.
    key: Option<&'a ApiKey>,
}

/// What the endpoint says about the key.
#[derive(Default)]
struct KeyAnswers {
    auth: Option<Auth>,
    /// True if a gateway takes events with this key.
    takes_events: bool,
    /// The finding about that. `None` if the endpoint was not asked.
    events: Option<Finding>,
}

/// Resolves the configuration beside a running collector with these settings.
pub type Beside<'a> = dyn Fn(&CollectorSettings) -> Result<CheckConfig, ConfigError> + 'a;

/// Checks every part, even if an earlier one does not work. Returns the exit code that a report
/// would have now. `stuck` is the exit code of a run that a signal cannot end.
pub fn run(config: &CheckConfig, beside: &Beside, stuck: Exit) -> Exit {
    let interrupter = Arc::new(OnceLock::<Box<dyn Fn() + Send + Sync>>::new());
    let interrupt = Arc::clone(&interrupter);
    let shutdown = stop::on_signals(move || interrupt.get().into_iter().for_each(|i| i()), stuck);

    let mut report = CheckReport { output: config.output, findings: Vec::new() };
    let tilt = check_tilt(config, &shutdown, &mut report);
    let settings = tilt.as_ref().map(|(_, settings)| settings);
    // Only the settings of the collector can be invalid, and each has its own result.
    let completed = settings.and_then(|settings| beside(settings).ok());
    let config = completed.as_ref().unwrap_or(config);
    if let Some((snapshot, settings)) = &tilt {
        report.add(collector::running(snapshot, settings, config));
    }
    let connection = connect(config);
    if let Ok(connection) = &connection {
        let _ = interrupter.set(Box::new(connection.api.interrupter()));
    }
    check_state(config, &mut report);
    let has_collector = tilt
        .is_some_and(|(snapshot, _)| collector::resource(&snapshot, &config.collector).is_some());
    report.add(check_format(config, has_collector));
    let KeyAnswers { auth, takes_events, events } =
        check_endpoint(config, &connection, &mut report);
    report.add(check_dataset(config, connection.as_ref().ok(), auth.as_ref(), takes_events));
    if let Some(events) = events {
        report.add(events);
    }
    if let Err(error) = &config.ui {
        report.add(Finding::invalid("links", error));
    }
    report.print_end(dataset_url(config, auth.as_ref()).as_ref());
    findings::exit_code(&report.findings)
}

fn connect(config: &CheckConfig) -> Result<Connection<'_>, &ConfigError> {
    let endpoint = config.endpoint.as_ref()?;
    let key = config.key.as_ref().ok().map(|found| &found.key);
    let key = key.filter(|key| Shape::of(key).advice().is_none());
    Ok(Connection { endpoint, api: Api::new(endpoint, key.cloned()), key })
}

/// Returns what Tilt shows, and the settings of the collector that runs in it.
fn check_tilt(
    config: &CheckConfig,
    shutdown: &Shutdown,
    report: &mut CheckReport,
) -> Option<(Snapshot, CollectorSettings)> {
    let mut tilt = Tilt::new(config.tilt.clone(), None);
    let version = tilt.program_version(shutdown);
    report.add(findings::tilt(&version));
    let polled = match version {
        Err(TiltError::NotInstalled { .. }) => None,
        _ => Some(tilt.poll(Duration::MAX, shutdown)),
    };
    let kinds = tilt.kinds();
    report.add(findings::session(polled.as_ref(), &config.port, &kinds, config.require_tilt));
    let snapshot = polled?.ok()?;
    if let Some(finding) = findings::cluster(&snapshot) {
        report.add(finding);
    }
    let settings = collector::settings(&tilt, &snapshot, &config.collector, shutdown);
    Some((snapshot, settings))
}

/// Checks the state folder, and reads from it what a collector noted.
fn check_state(config: &CheckConfig, report: &mut CheckReport) {
    let dir = match &config.state_dir {
        Ok(dir) => dir,
        Err(error) => return report.add(Finding::invalid("state", error)),
    };
    match store::try_folder(dir) {
        Ok(is_open) => check_queue(config, dir, is_open, report),
        Err(error) => report.add(findings::unusable_state(&error)),
    }
    if let Ok(Some(id)) = installation::load(dir) {
        report.add(findings::machine(&id));
    }
}

fn check_queue(config: &CheckConfig, dir: &Path, is_open: Option<bool>, report: &mut CheckReport) {
    let (folder, now) = (dir.to_string_lossy(), time::wall());
    let (Ok(endpoint), Ok(dataset)) = (&config.endpoint, &config.dataset) else {
        return report.add(findings::state(&folder, is_open, None, now));
    };
    let store = Store::new(dir, &endpoint.file_stem(dataset));
    let noted = |queue| {
        let noted = store.read(|state| (state.delivery().clone(), state.queue().dropped()))?;
        Ok((queue, noted))
    };
    match store.queue_status().and_then(noted) {
        Ok((queue, (deliveries, dropped))) => {
            report.add(findings::state(&folder, is_open, Some(queue), now));
            if let Some(finding) = collector::deliveries(&deliveries, dropped, now) {
                report.add(finding);
            }
        }
        Err(error) => report.add(findings::unusable_state(&error)),
    }
}

/// Whether there is a key, and what its format shows.
fn check_format(config: &CheckConfig, has_collector: bool) -> Finding {
    match &config.key {
        Ok(found) => findings::key(Shape::of(&found.key), &found.source),
        Err(NoKey::Missing(_)) if has_collector => findings::key_of_collector_only(),
        Err(error) => Finding::invalid("key", error),
    }
}

/// Sends one request, which shows both whether the endpoint responds and whose key it is, and one that
/// shows whether a gateway takes events.
fn check_endpoint(
    config: &CheckConfig,
    connection: &Result<Connection, &ConfigError>,
    report: &mut CheckReport,
) -> KeyAnswers {
    let connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            report.add(Finding::invalid("endpoint", error));
            report.add(findings::skipped_team("invalid endpoint"));
            return KeyAnswers::default();
        }
    };
    let started = time::now();
    let response = connection.api.get(auth::PATH, config.timeout);
    let took = response.as_ref().map(|_| time::now() - started);
    report.add(findings::endpoint(connection.endpoint, took));
    let skipped = |why| (findings::skipped_team(why), KeyAnswers::default());
    let (team, answers) = match response {
        Err(_) => skipped("no response from the endpoint"),
        Ok(_) if config.key.is_err() => skipped("no API key here"),
        Ok(_) if connection.key.is_none() => skipped("the API key cannot work"),
        Ok(response) => check_key(config, connection, &response),
    };
    report.add(team);
    answers
}

/// The finding about the team, and everything the endpoint says about the key. `response` is the one to
/// `GET /1/auth`.
fn check_key(
    config: &CheckConfig,
    connection: &Connection,
    response: &Response,
) -> (Finding, KeyAnswers) {
    let (team, auth) = findings::team(response);
    let Some(response) = send_empty_batch(config, connection) else {
        return (team, KeyAnswers { auth, ..KeyAnswers::default() });
    };
    let (events, takes_events) = findings::events(response.as_ref());
    let team = if takes_events { findings::team_behind_gateway(team) } else { team };
    (team, KeyAnswers { auth, takes_events, events: Some(events) })
}

/// Sends a batch without events. `None` if there is no dataset to send to, and for Honeycomb's own
/// address, where `GET /1/auth` decides.
fn send_empty_batch(
    config: &CheckConfig,
    Connection { endpoint, api, .. }: &Connection,
) -> Option<Result<Response, NoResponse>> {
    let dataset = config.dataset.as_ref().ok()?;
    let is_gateway = dataset_link::ui_of(&endpoint.host).is_none();
    is_gateway.then(|| api.post(&endpoint::batch_path(dataset), &json!([]), config.timeout))
}

fn check_dataset(
    config: &CheckConfig,
    connection: Option<&Connection>,
    auth: Option<&Auth>,
    takes_events: bool,
) -> Finding {
    let name = match &config.dataset {
        Ok(name) => name,
        Err(error) => return Finding::invalid("dataset", error),
    };
    let response = connection
        .zip(auth)
        .and_then(|(connection, auth)| look_up(name, &connection.api, auth, config.timeout));
    findings::dataset(name, auth, takes_events, response.as_ref())
}

/// The response to a request for the dataset. `None` for an ingest key, which may not ask for it.
fn look_up(dataset: &str, api: &Api, auth: &Auth, timeout: Duration) -> Option<Response> {
    if auth.is_ingest() {
        return None;
    }
    api.get(&format!("/1/datasets/{}", urls::slug(dataset)), timeout).ok()
}

fn dataset_url(config: &CheckConfig, auth: Option<&Auth>) -> Option<DatasetUrl> {
    let ui = config.ui.as_ref().ok()?.as_deref()?;
    DatasetUrl::of(ui, auth?, config.dataset.as_ref().ok()?)
}

impl CheckReport {
    fn add(&mut self, finding: Finding) {
        if let CheckOutput::Lines { no_color, .. } = self.output {
            print_line(&finding.line(!no_color && io::stdout().is_terminal()));
        }
        self.findings.push(finding);
    }

    /// Prints the links if they are wanted, and the conclusion; or everything as JSON.
    fn print_end(&self, url: Option<&DatasetUrl>) {
        let CheckOutput::Lines { links, .. } = self.output else {
            let is_connected = findings::is_connected(&self.findings);
            return print_line(&self.as_json(is_connected, url).to_string());
        };
        if let Some(url) = url.filter(|_| links) {
            print_line("\nLinks to queries, which show results once events were sent:");
            for query in QUERIES {
                let Query { name, question, .. } = query;
                print_line(&format!("  {name}: {question}\n    {}", url.query(query)));
            }
        }
        let conclusion = findings::conclusion(&self.findings, url.map(DatasetUrl::dataset));
        print_line(&format!("\n{conclusion}"));
    }

    fn as_json(&self, is_connected: bool, url: Option<&DatasetUrl>) -> Value {
        let queries = url.map(|url| {
            let link = |query: &Query| json!({"name": query.name, "url": url.query(query)});
            QUERIES.iter().map(link).collect::<Vec<_>>()
        });
        json!({
            "exit_code": findings::exit_code(&self.findings) as u8,
            "connected": is_connected,
            "findings": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "dataset_url": url.map(DatasetUrl::dataset),
            "queries": queries.unwrap_or_default(),
        })
    }
}

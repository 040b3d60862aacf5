//! `check`: goes through all that a report needs, in order, and prints one line each: what it
//! found, or what to do. Sends no event. Where Honeycomb says whose key it is, links follow.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::shutdown::{self, Shutdown};
use crate::base::time;
use crate::commands::findings::{self, Finding};
use crate::config::CheckConfig;
use crate::exit_code::Exit;
use crate::honeycomb::api_key::ApiKey;
use crate::honeycomb::api_key::Shape;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::client::Api;
use crate::honeycomb::dataset_link::{self, DatasetUrl};
use crate::honeycomb::endpoint::Endpoint;
use crate::honeycomb::queries::{QUERIES, Query};
use crate::honeycomb::response::Response;
use crate::spool::state::State;
use crate::spool::store::{self, Store};
use crate::tilt::client::Tilt;
use crate::tilt::error::TiltError;

/// Lines on stdout as they are found, or JSON at the end.
struct CheckReport {
    json: bool,
    findings: Vec<Finding>,
}

impl CheckReport {
    fn add(&mut self, finding: Finding) {
        if !self.json {
            say(&finding.line());
        }
        self.findings.push(finding);
    }
}

/// Whoever closed stdout has seen enough.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

pub fn run(config: &CheckConfig) -> io::Result<Exit> {
    let shape = config.key.as_ref().map(Shape::of);
    // A key that cannot work is shown to nobody.
    let key = config.key.as_ref().ok().filter(|key| Shape::of(key).advice().is_none());
    let api = config.endpoint.as_ref().map(|endpoint| (endpoint, Api::new(endpoint, key.cloned())));
    let shutdown = Shutdown::default();
    let interrupt = api.as_ref().ok().map(|(_, api)| api.interrupter());
    shutdown::on_signals(&shutdown, move || {
        if let Some(interrupt) = interrupt {
            interrupt();
        }
    })?;

    let mut report = CheckReport { json: config.json, findings: Vec::new() };
    look_at_tilt(config, &shutdown, &mut report);
    report.add(state(config));
    report.add(match shape {
        Ok(shape) => findings::key(shape),
        Err(mistake) => Finding::mistake("key", mistake),
    });
    let auth = match &api {
        Ok((endpoint, api)) => ask_whose(config, endpoint, api, key, &mut report),
        Err(mistake) => {
            report.add(Finding::mistake("endpoint", mistake));
            report.add(findings::no_team("no endpoint"));
            None
        }
    };
    let api = api.as_ref().ok().map(|(_, api)| api);
    report.add(dataset(config, api, auth.as_ref()));
    if let Err(mistake) = &config.ui {
        report.add(Finding::mistake("links", mistake));
    }
    let place = auth.as_ref().and_then(|auth| {
        let ui = config.ui.as_ref().ok()?.as_deref()?;
        DatasetUrl::of(ui, auth, config.dataset.as_ref().ok()?)
    });
    finish(&report, place.as_ref());
    Ok(findings::exit(&report.findings))
}

fn look_at_tilt(config: &CheckConfig, shutdown: &Shutdown, report: &mut CheckReport) {
    let mut tilt = Tilt::new(config.tilt.clone(), None);
    let version = tilt.program_version(shutdown);
    report.add(findings::tilt(&version));
    let looked = match version {
        Err(TiltError::NotInstalled { .. }) => None,
        _ => Some(tilt.poll(Duration::MAX, shutdown)),
    };
    report.add(findings::session(looked.as_ref(), &config.port, &tilt.kinds()));
}

fn state(config: &CheckConfig) -> Finding {
    let dir = match &config.state_dir {
        Ok(dir) => dir,
        Err(mistake) => return Finding::mistake("state", mistake),
    };
    let is_open = match store::try_folder(dir) {
        Ok(is_open) => is_open,
        Err(error) => return findings::unusable_state(&error),
    };
    let folder = dir.to_string_lossy();
    let (Ok(endpoint), Ok(dataset)) = (&config.endpoint, &config.dataset) else {
        return findings::state(&folder, is_open, None, time::wall());
    };
    let store = Store::new(dir.clone(), endpoint.file_stem(dataset));
    let told = |state: &State| findings::state(&folder, is_open, Some(state.queue()), time::wall());
    store.read(told).unwrap_or_else(|error| findings::unusable_state(&error))
}

/// One request for two findings: whether the endpoint answers, and what.
fn ask_whose(
    config: &CheckConfig,
    endpoint: &Endpoint,
    api: &Api,
    key: Option<&ApiKey>,
    report: &mut CheckReport,
) -> Option<Auth> {
    let started = time::now();
    let response = api.get(auth::PATH, config.timeout);
    let took = time::now() - started;
    let answered = response.as_ref().map(|_| took);
    report.add(findings::endpoint(endpoint, api.proxy().as_deref(), answered));
    let (finding, auth) = match (response, key, &config.key) {
        (Err(_), ..) => (findings::no_team("nothing answers"), None),
        (_, None, Err(_)) => (findings::no_team("no key"), None),
        (_, None, Ok(_)) => (findings::no_team("the key cannot work"), None),
        (Ok(response), Some(_), _) => findings::team(&response),
    };
    report.add(finding);
    auth
}

fn dataset(config: &CheckConfig, api: Option<&Api>, auth: Option<&Auth>) -> Finding {
    let name = match &config.dataset {
        Ok(name) => name,
        Err(mistake) => return Finding::mistake("dataset", mistake),
    };
    let looked_up = api.zip(auth).and_then(|(api, auth)| look_up(name, api, auth, config.timeout));
    findings::dataset(name, auth, looked_up.as_ref())
}

fn look_up(dataset: &str, api: &Api, auth: &Auth, limit: Duration) -> Option<Response> {
    if auth.is_ingest() {
        return None;
    }
    api.get(&format!("/1/datasets/{}", dataset_link::slug(dataset)), limit).ok()
}

fn finish(report: &CheckReport, place: Option<&DatasetUrl>) {
    let is_connected = findings::is_connected(&report.findings);
    if report.json {
        say(&json(report, is_connected, place).to_string());
        return;
    }
    match place {
        Some(place) if is_connected => say(&format!("\nconnected: {}", place.dataset())),
        None if is_connected => {
            say("\nconnected; for links set HONEYCOMB_UI_URL to the address of Honeycomb's UI");
        }
        _ => {}
    }
    if let Some(place) = place {
        say("\nQueries that run when you open them, once something was sent:");
        for query in QUERIES {
            say(&format!("  {}: {}\n    {}", query.name, query.question, place.query(query)));
        }
    }
}

fn json(report: &CheckReport, is_connected: bool, place: Option<&DatasetUrl>) -> Value {
    let queries = place.map(|place| {
        let link = |query: &Query| json!({"name": query.name, "url": place.query(query)});
        QUERIES.iter().map(link).collect::<Vec<_>>()
    });
    json!({
        "exit_code": findings::exit(&report.findings) as u8,
        "connected": is_connected,
        "findings": report.findings.iter().map(Finding::json).collect::<Vec<_>>(),
        "dataset_url": place.map(DatasetUrl::dataset),
        "queries": queries.unwrap_or_default(),
    })
}

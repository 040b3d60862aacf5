//! Parses the values of single options and variables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use serde_json::Value;

use crate::config::environment::Environment;
use crate::config::error::ConfigError;
use crate::events::fields;
use crate::honeycomb::dataset_link;
use crate::honeycomb::endpoint::{Endpoint, with_scheme};
use crate::honeycomb::proxy::Proxy;
use crate::honeycomb::reserved;

const DEFAULT_ENDPOINT: &str = "https://api.honeycomb.io";
/// Honeycomb's longest column or dataset name, in bytes.
const NAME_LIMIT: usize = 255;

/// Bounds catch typing errors: humantime reads `5M` as five months.
pub const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
pub const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(5));
/// An event never represents more than an hour, which is 60 reports at the default interval.
const LONGEST_FOLD: u32 = 60;

type ConfigResult<T> = Result<T, ConfigError>;

fn invalid<T>(message: impl Into<String>) -> ConfigResult<T> {
    Err(ConfigError::new(message))
}

/// Parses a duration such as `30s` and checks its bounds.
pub fn duration(
    name: &str,
    text: Option<&str>,
    default: Duration,
    (min, max): (Duration, Duration),
) -> ConfigResult<Duration> {
    let Some(text) = text else { return Ok(default) };
    let duration = humantime::parse_duration(text).map_err(|error| {
        ConfigError::new(format!("{name} {text:?}: {error}; write it like 30s or 5m"))
    })?;
    if duration < min || duration > max {
        let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
        return invalid(format!("{name} {text:?}: must be between {min} and {max}"));
    }
    Ok(duration)
}

/// Parses `--heartbeat-fold`.
pub fn heartbeat_fold(text: Option<&str>, default: u32) -> ConfigResult<u32> {
    let Some(text) = text else { return Ok(default) };
    match text.parse() {
        Ok(number @ 1..=LONGEST_FOLD) => Ok(number),
        _ => {
            invalid(format!("--heartbeat-fold {text:?}: must be a number from 1 to {LONGEST_FOLD}"))
        }
    }
}

/// Parses `--port`.
pub fn port(text: &str) -> ConfigResult<u16> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => invalid(format!("--port {text:?}: must be a number from 1 to 65535")),
    }
}

/// Parses every `--field`. If a name is given twice, the last value wins.
pub fn own_fields(options: &[String]) -> ConfigResult<Vec<(String, Value)>> {
    let mut fields: Vec<(String, Value)> = Vec::new();
    for option in options {
        let field = own_field(option)?;
        fields.retain(|(known, _)| *known != field.0);
        fields.push(field);
    }
    Ok(fields)
}

/// Parses `key=text`, or `key:=value` with a number, true or false.
fn own_field(text: &str) -> ConfigResult<(String, Value)> {
    let Some((name, value)) = text.split_once('=') else {
        return invalid(format!("--field {text:?}: must be key=value"));
    };
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => (name, typed(value)),
        None => (name, Some(Value::from(value))),
    };
    let Some(value) = value else {
        return invalid(format!(
            "--field {text:?}: after := write a number, true or false, or write = for a text"
        ));
    };
    let name = name.trim();
    if name.is_empty() || name.len() > NAME_LIMIT || name.chars().any(char::is_control) {
        return invalid(format!("--field {text:?}: the key must have 1 to {NAME_LIMIT} bytes"));
    }
    if fields::find(name).is_some() {
        return invalid(format!(
            "--field {text:?}: tilt-honeycomb sets {name} itself; choose another key"
        ));
    }
    if let Some(why) = reserved::field_reason(name) {
        return invalid(format!("--field {text:?}: {name} is reserved: {why}; choose another key"));
    }
    Ok((name.to_owned(), value))
}

/// A number or a truth value, written as in JSON.
fn typed(text: &str) -> Option<Value> {
    let value = serde_json::from_str(text.trim()).ok()?;
    matches!(value, Value::Number(_) | Value::Bool(_)).then_some(value)
}

/// The dataset from the option, or else from the environment.
pub fn dataset(option: Option<&str>, environment: &Environment) -> ConfigResult<String> {
    let option = option.map(str::to_owned);
    let Some(dataset) = option.or_else(|| environment.text("HONEYCOMB_DATASET")) else {
        let hint = environment.mistyped("HONEYCOMB_DATASET");
        return invalid(format!("no dataset: set HONEYCOMB_DATASET or give --dataset{hint}"));
    };
    let dataset = dataset.trim();
    if dataset.is_empty() || dataset.len() > NAME_LIMIT {
        return invalid(format!("dataset {dataset:?}: must have 1 to {NAME_LIMIT} bytes"));
    }
    // Honeycomb accepts no encoded slash, and a URL parser resolves dot segments.
    if dataset.contains('/')
        || dataset.chars().any(char::is_control)
        || [".", ".."].contains(&dataset)
    {
        return invalid(format!(
            "dataset {dataset:?}: must not contain a slash or a control character"
        ));
    }
    if let Some(why) = reserved::dataset_reason(dataset) {
        return invalid(format!("dataset {dataset:?} is reserved: {why}; choose another name"));
    }
    Ok(dataset.to_owned())
}

/// The API's address from the option, the environment, or Honeycomb's default, with its proxy from
/// the environment.
pub fn endpoint(
    option: Option<&str>,
    allow_insecure_http: bool,
    environment: &Environment,
) -> ConfigResult<Endpoint> {
    let text = option
        .map(str::to_owned)
        .or_else(|| environment.text("HONEYCOMB_API_ENDPOINT"))
        .or_else(|| environment.text("HONEYCOMB_API_HOST"))
        .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    // The message does not repeat the text, because it may hold credentials.
    let endpoint = Endpoint::parse(&text, allow_insecure_http).map_err(|why| {
        ConfigError::new(format!("HONEYCOMB_API_ENDPOINT or --api-endpoint: {why}"))
    })?;
    let proxy = Proxy::for_target(endpoint.target(), &|name| environment.text(name))
        .map_err(ConfigError::new)?;
    Ok(Endpoint { proxy, ..endpoint })
}

/// The address of Honeycomb's UI: `HONEYCOMB_UI_URL`, or else the one of the API's region. It only
/// appears in links; no request goes there.
pub fn ui_url(endpoint: &Endpoint, environment: &Environment) -> ConfigResult<Option<String>> {
    let Some(text) = environment.text("HONEYCOMB_UI_URL") else {
        return Ok(dataset_link::ui_of(&endpoint.host));
    };
    let url = with_scheme(&text);
    let is_plain = url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    });
    if !is_plain || url.contains('#') {
        return invalid("HONEYCOMB_UI_URL: must be a URL like https://ui.honeycomb.io");
    }
    Ok(Some(url))
}

/// `--state-dir`, or else the platform's folder for program state.
pub fn state_dir(option: Option<&Path>, environment: &Environment) -> ConfigResult<PathBuf> {
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    let in_home = |path: &str| environment.path("HOME").map(|home| home.join(path));
    // The XDG specification says to ignore a relative path.
    let base = environment.path("XDG_STATE_HOME").filter(|path| path.is_absolute()).or_else(|| {
        if cfg!(windows) {
            environment.path("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            in_home("Library/Application Support")
        } else {
            in_home(".local/state")
        }
    });
    let Some(base) = base else {
        let variable = if cfg!(windows) { "LOCALAPPDATA" } else { "HOME" };
        return invalid(format!("no folder for the state: set {variable} or give --state-dir"));
    };
    Ok(base.join("tilt-honeycomb"))
}

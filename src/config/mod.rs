//! What the program will do: options over environment over defaults, checked once.
//!
//! Pure: the environment and the key file are handed in as functions. Every mistake is one line
//! that names the option or variable and says what to do; no message holds the key.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ci_env::CiProvider;
use http::Uri;

use crate::base::child::KEY_VARIABLE;
use crate::cli::Cli;
use crate::events::common_fields::Context;
use crate::events::event::FIELDS;
use crate::events::trace::RemoteParent;
use crate::honeycomb::api_key::ApiKey;
use crate::honeycomb::dataset_link;
use crate::honeycomb::endpoint::{Destination, Endpoint};
use crate::metadata::ci;
use crate::tilt::command::{TiltCommand, TiltMode};
use crate::tilt::model::Outcome;

const DEFAULT_ENDPOINT: &str = "https://api.honeycomb.io";
const DEFAULT_PORT: &str = "10350";
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_ORPHAN_AFTER: Duration = Duration::from_mins(5);
/// Honeycomb's longest column and dataset name.
const NAME_LIMIT: usize = 255;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Config {
    pub once: bool,
    pub source: Source,
    /// How the run that left the snapshot ended, where that is known.
    pub outcome: Option<Outcome>,
    pub output: Output,
    pub interval: Duration,
    /// Bounds one delivery, retries included.
    pub timeout: Duration,
    /// How long Tilt must be gone before a sidecar whose parent is gone too ends.
    pub orphan_after: Duration,
    pub tilt: TiltCommand,
    pub user: Option<String>,
    pub own_fields: Vec<(String, String)>,
    pub send_error_text: bool,
    pub send_stage_text: bool,
    /// A sidecar that only polls.
    pub no_watch: bool,
    pub tilt_mode: Option<TiltMode>,
    /// Which pipeline, run and change a CI machine works on.
    pub ci_fields: Vec<(&'static str, String)>,
    /// Whether git is to be asked what is checked out.
    pub vcs: bool,
    /// The span of a pipeline's that `tilt ci` is part of.
    pub remote_parent: Option<RemoteParent>,
    /// After a snapshot, unless `--quiet`.
    pub summary: Option<SummaryConfig>,
}

/// Where the summary of a run of `tilt ci` goes beside stdout.
#[derive(Debug, PartialEq)]
pub struct SummaryConfig {
    /// `GITHUB_STEP_SUMMARY`.
    pub github_page: Option<PathBuf>,
}

/// What there is to report on.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Tilt,
    /// What a `tilt ci` left.
    Snapshot(PathBuf),
    /// Only what waits.
    Queue,
}

/// What `check` is to look at: each part by itself, so that one that is missing hides no other.
#[derive(Debug)]
pub struct CheckConfig {
    pub json: bool,
    pub tilt: TiltCommand,
    /// The port on which `tilt` will look, for the person.
    pub port: String,
    /// Bounds each request.
    pub timeout: Duration,
    pub state_dir: Result<PathBuf, ConfigError>,
    pub key: Result<ApiKey, ConfigError>,
    pub endpoint: Result<Endpoint, ConfigError>,
    pub dataset: Result<String, ConfigError>,
    /// The address of Honeycomb's UI, where it is known.
    pub ui: Result<Option<String>, ConfigError>,
}

impl CheckConfig {
    pub fn resolve(cli: &Cli, environment: &Environment) -> Result<Self, ConfigError> {
        let endpoint = endpoint_of(cli, environment);
        let ui = match &endpoint {
            Ok(endpoint) => ui(endpoint, environment),
            Err(_) => Ok(None),
        };
        let port = cli.port.clone().or_else(|| environment.text("TILT_PORT"));
        Ok(Self {
            json: cli.json,
            tilt: tilt_command(cli)?,
            port: port.unwrap_or_else(|| DEFAULT_PORT.to_owned()),
            timeout: timeout(cli)?,
            state_dir: state_dir(cli.state_dir.as_deref(), environment),
            key: api_key(cli.api_key_file.as_deref(), environment),
            endpoint,
            dataset: dataset(cli.dataset.clone(), environment),
            ui,
        })
    }
}

/// What `board` needs.
#[derive(Debug)]
pub struct BoardConfig {
    pub dataset: String,
    /// Where the board is to be made; `None` with `--dry-run`.
    pub destination: Option<Destination>,
    /// Bounds each request.
    pub timeout: Duration,
}

impl BoardConfig {
    pub fn resolve(cli: &Cli, environment: &Environment) -> Result<Self, ConfigError> {
        let destination = if cli.dry_run { None } else { Some(destination(cli, environment)?) };
        Ok(Self {
            dataset: dataset(cli.dataset.clone(), environment)?,
            destination,
            timeout: timeout(cli)?,
        })
    }
}

/// Where events go.
#[derive(Debug)]
pub enum Output {
    /// `--dry-run`: to stdout; the state is read for nothing but the installation's id.
    Print {
        state_dir: Option<PathBuf>,
    },
    Send {
        destination: Destination,
        state_dir: PathBuf,
    },
}

/// A mistake in the configuration: one line for the person.
#[derive(Debug, PartialEq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn mistake<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

/// What the configuration is made from beside the options.
pub struct Environment<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub read_file: &'a dyn Fn(&str) -> std::io::Result<String>,
    /// Whose CI machine it is.
    pub ci_provider: Option<CiProvider>,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

impl Environment<'_> {
    /// A variable's text; an empty one counts as unset.
    fn text(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?.to_string_lossy().into_owned();
        (!value.trim().is_empty()).then_some(value)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

impl Config {
    pub fn resolve(cli: Cli, environment: &Environment) -> Result<Self, ConfigError> {
        let source = source(&cli)?;
        let tilt_mode = tilt_mode(environment.variable).or_else(|| {
            // Only `tilt ci` leaves one.
            matches!(source, Source::Snapshot(_)).then_some(TiltMode::Ci)
        });
        let state_dir = state_dir(cli.state_dir.as_deref(), environment);
        let output = if cli.dry_run {
            Output::Print { state_dir: state_dir.ok() }
        } else {
            Output::Send { destination: destination(&cli, environment)?, state_dir: state_dir? }
        };
        Ok(Self {
            once: cli.reports_once(),
            source,
            outcome: cli.outcome.as_deref().and_then(Outcome::parse),
            output,
            interval: duration("--interval", cli.interval.as_deref(), DEFAULT_INTERVAL, INTERVALS)?,
            timeout: timeout(&cli)?,
            orphan_after: duration(
                "TILT_HONEYCOMB_ORPHAN_AFTER",
                environment.text("TILT_HONEYCOMB_ORPHAN_AFTER").as_deref(),
                DEFAULT_ORPHAN_AFTER,
                INTERVALS,
            )?,
            tilt: tilt_command(&cli)?,
            user: cli.user.or_else(|| environment.text("TILT_HONEYCOMB_USER")),
            own_fields: own_fields(&cli.field)?,
            send_error_text: cli.send_error_text,
            send_stage_text: cli.send_stage_text,
            no_watch: cli.no_watch,
            tilt_mode,
            vcs: cli.vcs,
            ci_fields: ci::fields(environment.ci_provider, &|name| environment.text(name)),
            remote_parent: remote_parent(environment).filter(|_| tilt_mode == Some(TiltMode::Ci)),
            summary: (!cli.quiet)
                .then(|| SummaryConfig { github_page: environment.path("GITHUB_STEP_SUMMARY") }),
        })
    }
}

impl Config {
    /// What every event carries beside what Tilt shows.
    pub fn context(&self, installation_id: Option<String>, cpu_count: usize) -> Context {
        Context {
            user: self.user.clone(),
            own_fields: self.own_fields.clone(),
            send_error_text: self.send_error_text,
            send_stage_text: self.send_stage_text,
            tilt_mode: self.tilt_mode,
            installation_id,
            cpu_count,
            ci_fields: self.ci_fields.clone(),
            vcs: self.vcs,
            checkout: Vec::new(),
            remote_parent: self.remote_parent.clone(),
        }
    }
}

/// Which command runs Tilt, as the Tiltfile says.
pub fn tilt_mode(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<TiltMode> {
    TiltMode::parse(variable("TILT_HONEYCOMB_MODE")?.to_str()?)
}

fn source(cli: &Cli) -> Result<Source, ConfigError> {
    match &cli.snapshot {
        Some(_) if cli.flush => mistake("--snapshot flushes too; leave out --flush"),
        Some(path) => Ok(Source::Snapshot(PathBuf::from(path))),
        None if cli.flush && cli.dry_run => {
            mistake("--flush has nothing to print; leave out --dry-run")
        }
        None => Ok(if cli.flush { Source::Queue } else { Source::Tilt }),
    }
}

/// The standard's variable before the older one.
fn remote_parent(environment: &Environment) -> Option<RemoteParent> {
    let standard = environment.text("TRACEPARENT");
    standard
        .and_then(|text| RemoteParent::from_traceparent(&text))
        .or_else(|| RemoteParent::from_honeycomb_trace(&environment.text("HONEYCOMB_TRACE")?))
}

/// Whether the person asked, as consoledonottrack.com has it, for nothing to be read or sent.
pub fn do_not_track(environment: &Environment) -> bool {
    let value = environment.text("DO_NOT_TRACK");
    value.is_some_and(|value| !matches!(value.trim(), "0" | "false"))
}

/// Bounds that keep a typing error (`5M` is five months) from becoming a silent collector.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(5));

fn timeout(cli: &Cli) -> Result<Duration, ConfigError> {
    duration("--timeout", cli.timeout.as_deref(), DEFAULT_TIMEOUT, TIMEOUTS)
}

fn tilt_command(cli: &Cli) -> Result<TiltCommand, ConfigError> {
    Ok(TiltCommand {
        program: cli.tilt.as_deref().unwrap_or("tilt").into(),
        port: cli.port.as_deref().map(port).transpose()?,
    })
}

fn duration(
    name: &str,
    text: Option<&str>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, ConfigError> {
    let Some(text) = text else { return Ok(default) };
    let duration = humantime::parse_duration(text).map_err(|error| {
        ConfigError(format!("{name} {text:?}: {error}; write it like 30s or 5m"))
    })?;
    if duration < least || duration > most {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return mistake(format!("{name} {text:?}: must be between {least} and {most}"));
    }
    Ok(duration)
}

fn port(text: &str) -> Result<u16, ConfigError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => mistake(format!("--port {text:?}: must be a number from 1 to 65535")),
    }
}

/// Of two of the same name the later: one that is sent twice may be taken for either.
fn own_fields(options: &[String]) -> Result<Vec<(String, String)>, ConfigError> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for option in options {
        let field = own_field(option)?;
        fields.retain(|(known, _)| *known != field.0);
        fields.push(field);
    }
    Ok(fields)
}

fn own_field(text: &str) -> Result<(String, String), ConfigError> {
    let Some((name, value)) = text.split_once('=') else {
        return mistake(format!("--field {text:?}: must be key=value"));
    };
    let name = name.trim();
    if name.is_empty() || name.len() > NAME_LIMIT || name.chars().any(char::is_control) {
        return mistake(format!("--field {text:?}: the key must be 1 to {NAME_LIMIT} characters"));
    }
    if FIELDS.iter().any(|(known, _)| *known == name) {
        return mistake(format!(
            "--field {text:?}: {name} is set by tilt-honeycomb itself; choose another key"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn destination(cli: &Cli, environment: &Environment) -> Result<Destination, ConfigError> {
    let key = api_key(cli.api_key_file.as_deref(), environment)?;
    let dataset = dataset(cli.dataset.clone(), environment)?;
    let endpoint = endpoint_of(cli, environment)?;
    let ui = ui(&endpoint, environment)?;
    Ok(Destination { endpoint, dataset, key, ui })
}

fn endpoint_of(cli: &Cli, environment: &Environment) -> Result<Endpoint, ConfigError> {
    let text = cli
        .api_endpoint
        .clone()
        .or_else(|| environment.text("HONEYCOMB_API_ENDPOINT"))
        .or_else(|| environment.text("HONEYCOMB_API_HOST"))
        .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    endpoint(&text, cli.allow_insecure_http)
}

/// The UI's address: as the person says, since a Refinery's name tells nothing of it, else that of
/// the API's region. Nothing is ever asked of it.
fn ui(endpoint: &Endpoint, environment: &Environment) -> Result<Option<String>, ConfigError> {
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
        return mistake("HONEYCOMB_UI_URL: must be a URL like https://ui.honeycomb.io");
    }
    Ok(Some(url))
}

/// With `https://` where no scheme is given, and without a slash at its end.
fn with_scheme(text: &str) -> String {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    url.trim_end_matches('/').to_owned()
}

fn api_key(file: Option<&str>, environment: &Environment) -> Result<ApiKey, ConfigError> {
    let (source, key) = if let Some(path) = file {
        let source = format!("the key in {path}");
        match (environment.read_file)(path) {
            Ok(key) => (source, key),
            Err(error) => return mistake(format!("--api-key-file {path}: {error}")),
        }
    } else if let Some(key) = environment.text(KEY_VARIABLE) {
        (KEY_VARIABLE.to_owned(), key)
    } else {
        return mistake("no API key: set HONEYCOMB_API_KEY or give --api-key-file");
    };
    let key = key.trim();
    if key.is_empty() {
        return mistake(format!("{source} is empty"));
    }
    // Only what an HTTP header can carry; a key pasted over two lines shows here.
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return mistake(format!(
            "{source} holds white space or characters that no key has; copy it again"
        ));
    }
    Ok(ApiKey::new(key))
}

fn dataset(option: Option<String>, environment: &Environment) -> Result<String, ConfigError> {
    let Some(dataset) = option.or_else(|| environment.text("HONEYCOMB_DATASET")) else {
        return mistake("no dataset: set HONEYCOMB_DATASET or give --dataset");
    };
    let dataset = dataset.trim();
    if dataset.is_empty() || dataset.len() > NAME_LIMIT {
        return mistake(format!("dataset {dataset:?}: must be 1 to {NAME_LIMIT} characters"));
    }
    // Honeycomb takes no encoded slash; a dot segment would be resolved away.
    if dataset.contains('/')
        || dataset.chars().any(char::is_control)
        || [".", ".."].contains(&dataset)
    {
        return mistake(format!(
            "dataset {dataset:?}: must hold no slash and no control character"
        ));
    }
    Ok(dataset.to_owned())
}

fn endpoint(text: &str, allow_insecure_http: bool) -> Result<Endpoint, ConfigError> {
    let url = with_scheme(text);
    // The text itself is not repeated where it may hold credentials.
    let bad = |why: &str| mistake(format!("HONEYCOMB_API_ENDPOINT or --api-endpoint: {why}"));
    let Ok(uri) = url.parse::<Uri>() else {
        return bad("must be a URL like https://api.honeycomb.io");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return bad("must be a URL like https://api.honeycomb.io");
    };
    if authority.as_str().contains('@') {
        return bad("must hold no user name or password");
    }
    // `https:/host` has the host `https`.
    let port = &authority.as_str()[authority.host().len()..];
    if authority.host().is_empty() || !port.is_empty() && authority.port_u16().is_none() {
        return bad("must be a URL like https://api.honeycomb.io");
    }
    if uri.query().is_some() || url.contains('#') {
        return bad("must hold no query and no fragment");
    }
    let host = authority.host().to_owned();
    let is_loopback = is_loopback(&host);
    let is_https = match scheme {
        "https" => true,
        "http" if is_loopback || allow_insecure_http => false,
        "http" => {
            return bad(&format!(
                "http:// to {host} would send the key in the clear; use https:// or give \
                 --allow-insecure-http"
            ));
        }
        _ => return bad(&format!("{scheme}:// is not supported; use https://")),
    };
    let authority = authority.as_str().to_owned();
    Ok(Endpoint { url, host, authority, is_https, is_loopback })
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `--state-dir`, else the platform's place for what programs remember.
fn state_dir(option: Option<&str>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(path) = option {
        return Ok(PathBuf::from(path));
    }
    let home = |below: &str| environment.path("HOME").map(|home| home.join(below));
    // The XDG specification: a relative path is to be ignored.
    let base = environment.path("XDG_STATE_HOME").filter(|path| path.is_absolute()).or_else(|| {
        if cfg!(windows) {
            environment.path("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            home("Library/Application Support")
        } else {
            home(".local/state")
        }
    });
    match base {
        Some(base) => Ok(base.join("tilt-honeycomb")),
        None => mistake("no place for the state: set HOME or give --state-dir"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    /// The configuration for a command line and `NAME=value` variables.
    fn resolve(line: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let cli = cli::parse(&arguments).expect(line);
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        let read_file = |path: &str| match path {
            "key.txt" => Ok("  fromfile\n".to_owned()),
            "two-lines.txt" => Ok("one\ntwo".to_owned()),
            "empty.txt" => Ok("\n".to_owned()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        Config::resolve(
            cli,
            &Environment { variable: &variable, read_file: &read_file, ci_provider: None },
        )
    }

    const USUAL: &[(&str, &str)] =
        &[("HONEYCOMB_API_KEY", "k3y"), ("HONEYCOMB_DATASET", "dev"), ("HOME", "/home/ann")];

    fn usual(line: &str, more: &[(&str, &str)]) -> Result<Config, ConfigError> {
        // Later variables win: `find` takes the first.
        resolve(line, &[more, USUAL].concat())
    }

    fn sent_to(config: &Config) -> &Destination {
        match &config.output {
            Output::Send { destination, .. } => destination,
            Output::Print { .. } => panic!("a dry run"),
        }
    }

    #[test]
    fn key_dataset_and_endpoint_come_from_the_environment_and_an_option_wins() {
        let config = usual("", &[]).expect("a configuration");
        assert_eq!(sent_to(&config).batch_url(), "https://api.honeycomb.io/1/batch/dev");
        assert_eq!(sent_to(&config).key.expose(), "k3y");

        let config = usual(
            "--dataset other --api-endpoint https://api.eu1.honeycomb.io/ --api-key-file key.txt",
            &[("HONEYCOMB_API_ENDPOINT", "https://ignored.example")],
        )
        .expect("a configuration");
        assert_eq!(sent_to(&config).batch_url(), "https://api.eu1.honeycomb.io/1/batch/other");
        assert_eq!(sent_to(&config).key.expose(), "fromfile");

        let config =
            usual("", &[("HONEYCOMB_API_HOST", "api.eu1.honeycomb.io")]).expect("old name");
        assert_eq!(sent_to(&config).endpoint.url, "https://api.eu1.honeycomb.io");
    }

    #[test]
    fn a_mistake_is_named_with_what_to_do() {
        for (line, variables, named) in [
            ("", &[("HONEYCOMB_API_KEY", "")][..], "set HONEYCOMB_API_KEY"),
            ("", &[("HONEYCOMB_DATASET", " ")], "set HONEYCOMB_DATASET"),
            ("", &[("HONEYCOMB_API_KEY", "one two")], "HONEYCOMB_API_KEY holds white space"),
            ("--api-key-file two-lines.txt", &[], "two-lines.txt holds white space"),
            ("--api-key-file empty.txt", &[], "empty.txt is empty"),
            ("--api-key-file nosuch", &[], "--api-key-file nosuch"),
            ("--dataset a/b", &[], "no slash"),
            ("--dataset ..", &[], "no slash"),
            ("--api-endpoint http://refinery:8080", &[], "--allow-insecure-http"),
            ("--api-endpoint ftp://x", &[], "use https://"),
            ("--api-endpoint https://u:p@x", &[], "no user name"),
            ("--api-endpoint https://x?y=1", &[], "no query"),
            ("--api-endpoint https://", &[], "must be a URL"),
            ("--api-endpoint https:/api.honeycomb.io", &[], "must be a URL"),
            ("--api-endpoint https://:443", &[], "must be a URL"),
            ("--api-endpoint https://x:", &[], "must be a URL"),
            ("--api-endpoint https://x:99999", &[], "must be a URL"),
            ("--interval 5", &[], "--interval"),
            ("--interval 5M", &[], "between 1s and 1day"),
            ("--interval 0s", &[], "between 1s and 1day"),
            ("--timeout 1h", &[], "--timeout"),
            ("--port 0", &[], "--port"),
            ("--port abc", &[], "--port"),
            ("--field novalue", &[], "key=value"),
            ("--field =x", &[], "--field"),
            ("--field name=x", &[], "choose another key"),
            ("", &[("HOME", "")], "--state-dir"),
            ("", &[("HONEYCOMB_UI_URL", "ftp://ui")], "HONEYCOMB_UI_URL"),
            ("", &[("HONEYCOMB_UI_URL", "https://u:p@ui")], "HONEYCOMB_UI_URL"),
            ("", &[("HONEYCOMB_UI_URL", "https://ui?team=x")], "HONEYCOMB_UI_URL"),
        ] {
            let error = usual(line, variables).expect_err(line).to_string();
            assert!(error.contains(named), "{line}: {error}");
            assert!(!error.contains('\n') && !error.contains("k3y"), "{error}");
        }
    }

    #[test]
    fn the_ui_is_that_of_the_region_unless_another_is_named() {
        for (endpoint, ui_url, expected) in [
            ("api.honeycomb.io", "", Some("https://ui.honeycomb.io")),
            ("api.eu1.honeycomb.io", "", Some("https://ui.eu1.honeycomb.io")),
            ("refinery.example", "", None),
            ("refinery.example", "ui.eu1.honeycomb.io/", Some("https://ui.eu1.honeycomb.io")),
            ("api.honeycomb.io", "http://gateway:80/ui", Some("http://gateway:80/ui")),
        ] {
            let more = [("HONEYCOMB_API_ENDPOINT", endpoint), ("HONEYCOMB_UI_URL", ui_url)];
            let config = usual("", &more).expect(endpoint);
            assert_eq!(sent_to(&config).ui.as_deref(), expected, "{endpoint} {ui_url}");
        }
    }

    #[test]
    fn what_check_looks_at_is_taken_part_by_part() {
        let check = |line: &str, variables: &[(&str, &str)]| {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let cli = cli::parse(&arguments).expect(line);
            let variable = |name: &str| {
                let known = variables.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| OsString::from(value))
            };
            let read_file = |_: &str| Err(std::io::ErrorKind::NotFound.into());
            CheckConfig::resolve(
                &cli,
                &Environment { variable: &variable, read_file: &read_file, ci_provider: None },
            )
        };
        let nothing = check("check", &[]).expect("nothing is no mistake");
        assert!(nothing.key.is_err() && nothing.dataset.is_err() && nothing.state_dir.is_err());
        assert_eq!(nothing.endpoint.expect("the default").host, "api.honeycomb.io");
        assert_eq!(nothing.port, "10350");

        let parts = check("check --port 1234", &[("HONEYCOMB_API_ENDPOINT", "ftp://x")]);
        let parts = parts.expect("each part says what is wrong with it");
        assert!(parts.endpoint.is_err() && parts.ui.is_ok());
        assert_eq!(parts.port, "1234");
        assert!(check("check --port x", &[]).is_err());
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_allowed() {
        for url in ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1"] {
            let config = usual(&format!("--api-endpoint {url}"), &[]).expect(url);
            assert!(sent_to(&config).endpoint.is_loopback, "{url}");
        }
        let line = "--allow-insecure-http --api-endpoint http://refinery:8080";
        assert!(!sent_to(&usual(line, &[]).expect(line)).endpoint.is_https);
    }

    #[test]
    fn of_two_own_fields_of_a_name_the_later_counts() {
        let config = usual("--field team=a --field x=1 --field team=b", &[]).expect("fields");
        let expected = [("x", "1"), ("team", "b")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(config.own_fields, expected);
    }

    #[test]
    fn the_dataset_is_one_encoded_segment_of_the_url() {
        for (dataset, segment) in [
            ("dev envs", "dev%20envs"),
            ("a%20b", "a%2520b"),
            ("é?#", "%C3%A9%3F%23"),
            ("a.b_c~d", "a.b_c~d"),
        ] {
            let config = usual("", &[("HONEYCOMB_DATASET", dataset)]).expect(dataset);
            assert_eq!(
                sent_to(&config).batch_url(),
                format!("https://api.honeycomb.io/1/batch/{segment}")
            );
        }
    }

    #[test]
    fn destinations_have_files_of_their_own() {
        let stem = |dataset, endpoint| {
            let more = [("HONEYCOMB_DATASET", dataset), ("HONEYCOMB_API_ENDPOINT", endpoint)];
            let config = usual("", &more).expect("a configuration");
            let destination = sent_to(&config);
            destination.endpoint.file_stem(&destination.dataset)
        };
        let first = stem("dev", "https://api.honeycomb.io");
        assert!(first.starts_with("api.honeycomb.io-dev-"), "{first}");
        assert_eq!(first, stem("Dev", "https://api.honeycomb.io/"));
        assert_ne!(first, stem("dev", "https://api.eu1.honeycomb.io"));
        assert_ne!(stem("a b", "https://x"), stem("a-b", "https://x"));
        let odd = stem("..é*", "https://x").replace(|c: char| c.is_ascii_alphanumeric(), "");
        assert!(odd.chars().all(|c| "._-".contains(c)), "{odd}");
    }

    #[test]
    fn a_dry_run_needs_no_key_no_dataset_and_no_home() {
        let config = resolve("--dry-run", &[]).expect("a dry run");
        assert!(matches!(config.output, Output::Print { state_dir: None }));
    }

    #[test]
    fn the_state_lives_where_the_platform_keeps_such_things() {
        let dir = |line: &str, more: &[(&str, &str)]| match usual(line, more).expect(line).output {
            Output::Send { state_dir, .. } => state_dir,
            Output::Print { .. } => panic!("a dry run"),
        };
        assert_eq!(dir("--state-dir /s", &[]), PathBuf::from("/s"));
        assert_eq!(dir("", &[("XDG_STATE_HOME", "/x")]), PathBuf::from("/x/tilt-honeycomb"));
        #[cfg(target_os = "linux")]
        for more in [&[][..], &[("XDG_STATE_HOME", "relative")]] {
            assert_eq!(dir("", more), PathBuf::from("/home/ann/.local/state/tilt-honeycomb"));
        }
    }

    #[test]
    fn do_not_track_counts_unless_it_says_no() {
        for (value, expected) in
            [("1", true), ("true", true), ("no", true), ("", false), ("0", false), ("false", false)]
        {
            let variable = |name: &str| (name == "DO_NOT_TRACK").then(|| OsString::from(value));
            let read_file = |_: &str| Ok(String::new());
            let environment =
                Environment { variable: &variable, read_file: &read_file, ci_provider: None };
            assert_eq!(do_not_track(&environment), expected, "{value:?}");
        }
    }

    #[test]
    fn nothing_shows_the_key() {
        let config = usual("", &[]).expect("a configuration");
        assert!(!format!("{config:?}").contains("k3y"));
    }
}

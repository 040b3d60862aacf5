//! The lines of `check`: what it found, and what to do. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::base::text::{counted, one_line, printable};
use crate::exit_code::Exit;
use crate::honeycomb::api_key::Shape;
use crate::honeycomb::auth::Auth;
use crate::honeycomb::client::NoResponse;
use crate::honeycomb::endpoint::Endpoint;
use crate::honeycomb::problem::{self, TEXT_LIMIT};
use crate::honeycomb::response::{self, EmptyBatchResult, Response};
use crate::honeycomb::status::StatusClass;
use crate::log;
use crate::messages;
use crate::spool::store::QueueStatus;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;

/// One line of `check`.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The part that was checked, such as `tilt` or `key`.
    pub topic: &'static str,
    pub verdict: Verdict,
    /// One line that says what was found or what to do.
    pub text: String,
}

/// Whether a part works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Ok,
    /// It may work. `check` cannot tell.
    Note,
    /// A report would fail with this exit code.
    Bad(Exit),
    /// It was not checked, because it depends on a part that does not work.
    Skipped,
}

impl Verdict {
    /// The ANSI code of its colour.
    fn color(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Note => "33",
            Self::Bad(_) => "1;31",
            Self::Skipped => "2",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Bad(_) => "bad",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    fn new(topic: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        // Texts may quote Tilt, a server or a variable.
        Self { topic, verdict, text: printable(&text.into(), log::LINE_LIMIT) }
    }

    pub(super) fn ok(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Ok, text)
    }

    pub(super) fn note(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Note, text)
    }

    fn bad(topic: &'static str, exit: Exit, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Bad(exit), text)
    }

    fn skipped(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Skipped, text)
    }

    /// An option or variable that is missing or invalid.
    pub fn invalid(topic: &'static str, error: &impl ToString) -> Self {
        Self::bad(topic, Exit::Usage, error.to_string())
    }

    /// The line for people: the verdict, the topic and the text in columns.
    pub fn line(&self, is_colored: bool) -> String {
        let verdict = format!("{:8}", self.verdict.as_str());
        let verdict = if is_colored {
            format!("\u{1b}[{}m{verdict}\u{1b}[0m", self.verdict.color())
        } else {
            verdict
        };
        format!("{verdict}{:10}{}", self.topic, self.text)
    }

    /// The entry of `check --json`.
    pub fn json(&self) -> Value {
        json!({"topic": self.topic, "verdict": self.verdict.as_str(), "says": self.text})
    }
}

/// The exit code that a report would have now.
pub fn exit_code(findings: &[Finding]) -> Exit {
    // A report checks its options first, then the state, Tilt and Honeycomb.
    let order = [Exit::Usage, Exit::Unexpected, Exit::NoTilt, Exit::Rejected, Exit::NotDelivered];
    let is_found = |exit: &Exit| findings.iter().any(|f| f.verdict == Verdict::Bad(*exit));
    order.into_iter().find(is_found).unwrap_or(Exit::Done)
}

/// What the findings mean. `dataset` is the address of the dataset's page, if it is known.
pub fn conclusion(findings: &[Finding], dataset: Option<&str>) -> String {
    let of = |is_wanted: fn(Verdict) -> bool| -> Vec<_> {
        let found = findings.iter().filter(|finding| is_wanted(finding.verdict));
        found.map(|finding| finding.topic).collect()
    };
    let bad = of(|verdict| matches!(verdict, Verdict::Bad(_))).join(", ");
    let skipped = of(|verdict| verdict == Verdict::Skipped).join(", ");
    match (is_connected(findings), bad.as_str()) {
        (true, "") => match dataset {
            Some(url) => format!("connected; view in Honeycomb: {url}"),
            None => {
                "connected; to get links, set HONEYCOMB_UI_URL to the URL of Honeycomb's UI".into()
            }
        },
        (true, bad) => format!("connected to Honeycomb, but not to Tilt; fix first: {bad}"),
        (false, "") => format!("not everything could be checked: {skipped}"),
        (false, bad) => format!("not connected; fix first: {bad}"),
    }
}

/// Whether Honeycomb would receive events, regardless of Tilt.
pub fn is_connected(findings: &[Finding]) -> bool {
    let is_about_tilt =
        |finding: &Finding| ["tilt", "session", "collector"].contains(&finding.topic);
    let fails = |finding: &Finding| matches!(finding.verdict, Verdict::Bad(_) | Verdict::Skipped);
    !findings.iter().any(|finding| fails(finding) && !is_about_tilt(finding))
}

/// Whether the `tilt` program runs.
pub fn tilt(version: &Result<String, TiltError>) -> Finding {
    const TOPIC: &str = "tilt";
    match version {
        Ok(version) => Finding::ok(TOPIC, version),
        Err(error @ TiltError::NotInstalled { .. }) => {
            Finding::bad(TOPIC, Exit::NoTilt, error.to_string())
        }
        // A wrapper script may not know `tilt version`. A report does not need it.
        Err(error) => {
            let error = error.to_string();
            let error = error.trim_start_matches("tilt get: ");
            Finding::note(TOPIC, format!("unknown version: {error}"))
        }
    }
}

/// Whether a Tilt runs on the port. `polled` is `None` if there is no `tilt` program.
pub fn session(
    polled: Option<&Result<Snapshot, TiltError>>,
    port: &str,
    kinds: &[&str],
    is_required: bool,
) -> Finding {
    const TOPIC: &str = "session";
    match polled {
        None => Finding::skipped(TOPIC, "not checked: no tilt program"),
        Some(Ok(snapshot)) => {
            let resources = counted(snapshot.resources.len(), "resource");
            Finding::ok(TOPIC, format!("port {port}: {resources}; kinds: {}", kinds.join(", ")))
        }
        Some(Err(error @ TiltError::NotRunning { .. })) if !is_required => {
            Finding::note(TOPIC, error.to_string())
        }
        Some(Err(error)) => Finding::bad(TOPIC, Exit::of_failed_poll(error), error.to_string()),
    }
}

/// The id of this machine in all events.
pub fn machine(installation_id: &str) -> Finding {
    Finding::ok("machine", format!("installation.id {installation_id}"))
}

/// The cluster that Tilt deploys to. `None` if it has no Kubernetes resources, or is too old to tell.
pub fn cluster(snapshot: &Snapshot) -> Option<Finding> {
    const TOPIC: &str = "cluster";
    let cluster = snapshot.cluster.as_ref()?;
    // Tilt knows the version only of a cluster that it was connected to.
    if cluster.is_unavailable && cluster.version.is_some() {
        let advice = "Tilt has lost its Kubernetes cluster; it reconnects when the cluster is back";
        return Some(Finding::note(TOPIC, advice));
    }
    if cluster.is_unavailable {
        let advice = "Tilt cannot connect to its Kubernetes cluster: repair it and restart Tilt";
        return Some(Finding::note(TOPIC, advice));
    }
    let version = cluster.version.as_deref().unwrap_or("of an unknown version");
    let product = match cluster.product.as_deref() {
        None | Some("unknown") => "unknown product",
        Some(product) => product,
    };
    Some(Finding::ok(TOPIC, format!("Tilt is connected to Kubernetes {version} ({product})")))
}

/// A state folder that can be written. `is_open` tells whether other users can read it, if that is
/// known. `queue` is `None` if the dataset or the endpoint is invalid.
pub fn state(
    folder: &str,
    is_open: Option<bool>,
    queue: Option<QueueStatus>,
    now: SystemTime,
) -> Finding {
    const TOPIC: &str = "state";
    let queued = queue.map(|queue| format!("; {}", queued(queue, now))).unwrap_or_default();
    if is_open == Some(true) {
        let problem = "writable, but other users can read it; run chmod 700 on it";
        return Finding::note(TOPIC, format!("{folder}: {problem}{queued}"));
    }
    let private = if is_open == Some(false) { ", private" } else { "" };
    Finding::ok(TOPIC, format!("{folder}: writable{private}{queued}"))
}

/// `2 events queued, the oldest for 2h`
fn queued(queue: QueueStatus, now: SystemTime) -> String {
    if queue.length == 0 {
        return "queue empty".to_owned();
    }
    // The clock may have been set back since.
    let oldest = queue.oldest.map_or(now, |at| at.min(now));
    let age = Duration::from_secs(now.duration_since(oldest).unwrap_or_default().as_secs());
    let (events, age) = (messages::events(queue.length), humantime::format_duration(age));
    if queue.length == 1 {
        format!("{events} queued for {age}")
    } else {
        format!("{events} queued, the oldest for {age}")
    }
}

/// A state folder or file that cannot be used.
pub fn unusable_state(error: &impl ToString) -> Finding {
    Finding::bad("state", Exit::Unexpected, error.to_string())
}

/// Whether the key looks usable, by its format alone. `source` is the variable or file that held it.
pub fn key(shape: Shape, source: &str) -> Finding {
    const TOPIC: &str = "key";
    let kind = format!("{source}: {}", shape.as_str());
    match (shape.advice(), shape.doubt()) {
        (Some(advice), _) => Finding::bad(TOPIC, Exit::Usage, format!("{kind}: {advice}")),
        (None, Some(doubt)) => Finding::note(TOPIC, format!("{kind}; {doubt}")),
        (None, None) => Finding::ok(TOPIC, kind),
    }
}

/// No key here, beside a collector. Only the environment of Tilt holds its key, and Tilt does not show it.
pub fn key_of_collector_only() -> Finding {
    let text = "only the collector has one, which check cannot read; to check a key, set \
                HONEYCOMB_API_KEY here or give --api-key-file";
    Finding::skipped("key", text)
}

/// Whether the endpoint responds, and how fast.
pub fn endpoint(endpoint: &Endpoint, took: Result<Duration, &NoResponse>) -> Finding {
    const TOPIC: &str = "endpoint";
    let route = endpoint.proxy.as_ref().map_or("no proxy".to_owned(), |proxy| {
        format!("via the proxy {proxy} ({})", proxy.variable)
    });
    match took {
        Ok(took) => {
            let tls = if endpoint.is_https { "TLS verified" } else { "no TLS" };
            let (url, took) = (&endpoint.url, took.as_millis());
            Finding::ok(TOPIC, format!("{url} responded in {took} ms; {tls}; {route}"))
        }
        // The reason names the proxy.
        Err(NoResponse(why)) if endpoint.proxy.is_some() => {
            Finding::bad(TOPIC, Exit::NotDelivered, why.clone())
        }
        Err(NoResponse(why)) => Finding::bad(TOPIC, Exit::NotDelivered, format!("{why} ({route})")),
    }
}

/// A team that could not be asked for.
pub fn skipped_team(why: &str) -> Finding {
    Finding::skipped("team", format!("not checked: {why}"))
}

/// Whether Honeycomb accepts the key, from the response to `GET /1/auth`. Also returns what the
/// response says about the key, if it does.
pub fn team(response: &Response) -> (Finding, Option<Auth>) {
    let http = response::http(response);
    let bad = |exit, text: String| (Finding::bad("team", exit, text), None);
    match StatusClass::of(response.status) {
        StatusClass::Success => match Auth::read(&response.body) {
            Some(auth) => (permissions(&auth), Some(auth)),
            None => bad(
                Exit::NotDelivered,
                format!(
                    "the response is not about a key (HTTP {}); check whether a proxy or a login page \
                     answers instead of Honeycomb",
                    response.status
                ),
            ),
        },
        StatusClass::Redirect => bad(Exit::Rejected, response::redirected(response)),
        StatusClass::UnknownKey => {
            bad(Exit::Rejected, format!("{} ({http})", response::UNKNOWN_KEY))
        }
        StatusClass::Forbidden | StatusClass::NotFound if problem::is_html(&response.body) => {
            bad(Exit::Rejected, format!("{} ({http})", response::WEB_PAGE))
        }
        _ if [404, 405, 501].contains(&response.status) => {
            let text = format!(
                "unknown, and so no links: the endpoint, perhaps an OpenTelemetry Collector, does \
                 not support GET /1/auth ({http})"
            );
            (Finding::note("team", text), None)
        }
        StatusClass::Temporary => {
            bad(Exit::NotDelivered, format!("unknown: {http}; try again later"))
        }
        _ => bad(Exit::Rejected, format!("the endpoint rejected the request ({http})")),
    }
}

fn permissions(auth: &Auth) -> Finding {
    const TOPIC: &str = "team";
    let team = one_line(auth.team().unwrap_or("unknown"), TEXT_LIMIT);
    let team = match auth.environment().map(|name| one_line(name, TEXT_LIMIT)) {
        Some(environment) => format!("{team}, environment {environment}"),
        None if auth.is_classic() => format!("{team}, Honeycomb Classic without environments"),
        None => team,
    };
    if !auth.may_send_events() {
        let text = format!("{team}; {}", response::MAY_NOT_SEND);
        return Finding::bad(TOPIC, Exit::Rejected, text);
    }
    let mut permissions = vec!["send events"];
    if auth.may_create_datasets() == Some(true) {
        permissions.push("create datasets");
    }
    if auth.may_manage_queries() {
        permissions.push("manage queries");
    }
    if auth.may_manage_boards() {
        permissions.push("manage boards");
    }
    Finding::ok(TOPIC, format!("{team}; the key may {}", permissions.join(", ")))
}

/// Whether the endpoint takes events with this key, from its response to a batch without events. The
/// second value is true for a gateway that does.
pub fn events(response: Result<&Response, &NoResponse>) -> (Finding, bool) {
    const TOPIC: &str = "events";
    let response = match response {
        Ok(response) => response,
        Err(NoResponse(why)) => return (Finding::bad(TOPIC, Exit::NotDelivered, why), false),
    };
    let finding = match response::judge_empty_batch(response) {
        EmptyBatchResult::Accepted => {
            return (Finding::ok(TOPIC, "the endpoint takes events with this key"), true);
        }
        EmptyBatchResult::KnownKey => Finding::ok(TOPIC, "the endpoint knows this key"),
        EmptyBatchResult::Refused { advice } => Finding::bad(TOPIC, Exit::Rejected, advice),
        EmptyBatchResult::Failed { reason } => {
            Finding::bad(TOPIC, Exit::NotDelivered, format!("{reason}; try again later"))
        }
        EmptyBatchResult::Unknown => {
            let http = response::http(response);
            Finding::note(TOPIC, format!("unknown whether the endpoint takes events ({http})"))
        }
    };
    (finding, false)
}

/// The finding about the team behind a gateway that takes events. It may send them with another key, so
/// what Honeycomb says about this one does not decide.
pub fn team_behind_gateway(finding: Finding) -> Finding {
    match finding.verdict {
        Verdict::Bad(_) => {
            Finding::note(finding.topic, format!("the endpoint takes events, but {}", finding.text))
        }
        _ => finding,
    }
}

/// Whether events can go to the dataset, from the response to `GET /1/datasets/SLUG`. An ingest key
/// may not send that request. `takes_events` is true behind a gateway that takes events.
pub fn dataset(
    name: &str,
    auth: Option<&Auth>,
    takes_events: bool,
    response: Option<&Response>,
) -> Finding {
    const TOPIC: &str = "dataset";
    let Some(auth) = auth else {
        if takes_events {
            let text =
                format!("{name}: the endpoint takes events; Honeycomb was not asked about it");
            return Finding::note(TOPIC, text);
        }
        return Finding::skipped(TOPIC, format!("{name}: not checked"));
    };
    let may_create = auth.may_create_datasets();
    match response.map(|response| response.status) {
        Some(200) => Finding::ok(TOPIC, format!("{name} exists")),
        Some(404) if may_create == Some(false) => {
            let text = format!(
                "{name} does not exist, and the key may not create it; create it, or allow the \
                 key to create datasets"
            );
            Finding::bad(TOPIC, Exit::Rejected, text)
        }
        Some(404) => {
            Finding::ok(TOPIC, format!("{name} does not exist yet; the first event creates it"))
        }
        _ if may_create == Some(true) => {
            Finding::ok(TOPIC, format!("{name}; the first event creates it if it does not exist"))
        }
        _ => {
            let text = format!("{name} must exist; the key may neither look it up nor create it");
            Finding::note(TOPIC, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_first_step_that_would_fail() {
        let bad = |exits: &[Exit]| -> Vec<_> {
            exits.iter().map(|exit| Finding::bad("x", *exit, "")).collect()
        };
        for (exits, expected) in [
            (&[][..], Exit::Done),
            (&[Exit::NoTilt, Exit::NotDelivered], Exit::NoTilt),
            (&[Exit::NoTilt, Exit::Unexpected], Exit::Unexpected),
            (&[Exit::NoTilt, Exit::Usage, Exit::Rejected], Exit::Usage),
            (&[Exit::NotDelivered, Exit::Rejected], Exit::Rejected),
        ] {
            assert_eq!(exit_code(&bad(exits)), expected, "{exits:?}");
        }
    }

    #[test]
    fn the_queue_is_shown_with_the_age_of_its_oldest_event() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(7_400_500);
        let text = |length, oldest| {
            let oldest = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(oldest));
            state("/s", Some(false), Some(QueueStatus { length, oldest }), now).text
        };
        let both = text(2, 200);
        assert_eq!(both, "/s: writable, private; 2 events queued, the oldest for 2h");
        assert_eq!(text(1, 200), "/s: writable, private; 1 event queued for 2h");
        assert_eq!(text(0, 0), "/s: writable, private; queue empty");
        let from_the_future = text(2, 8_000_000);
        assert!(from_the_future.ends_with("the oldest for 0s"), "{from_the_future}");
        assert_eq!(state("/s", Some(true), None, now).verdict, Verdict::Note);
        assert_eq!(
            state("/s", None, Some(QueueStatus::default()), now).text,
            "/s: writable; queue empty"
        );
    }

    #[test]
    fn the_conclusion_names_what_to_fix() {
        let bad = |topic| Finding::bad(topic, Exit::NoTilt, "");
        for (findings, expected) in [
            (vec![Finding::ok("key", "")], "connected; view in Honeycomb: https://ui"),
            (vec![bad("session")], "connected to Honeycomb, but not to Tilt; fix first: session"),
            (vec![bad("key"), bad("dataset")], "not connected; fix first: key, dataset"),
            (vec![Finding::skipped("dataset", "")], "not everything could be checked: dataset"),
        ] {
            assert_eq!(conclusion(&findings, Some("https://ui")), expected);
        }
    }

    #[test]
    fn a_colored_line_has_the_same_text() {
        let finding = Finding::ok("key", "good");
        assert_eq!(finding.line(false), "ok      key       good");
        assert_eq!(finding.line(true), "\u{1b}[32mok      \u{1b}[0mkey       good");
    }
}

//! What `check` says of each part: what it found, or what to do. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::base::text::one_line;
use crate::config::error::ConfigError;
use crate::exit_code::Exit;
use crate::honeycomb::api_key::Shape;
use crate::honeycomb::auth::Auth;
use crate::honeycomb::client::NoResponse;
use crate::honeycomb::endpoint::Endpoint;
use crate::honeycomb::response::{self, Response};
use crate::messages;
use crate::spool::queue::QueuedEvent;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;

#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub topic: &'static str,
    pub verdict: Level,
    pub says: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    Good,
    /// It may be right, or wrong.
    Doubtful,
    /// A report would end so.
    Bad(Exit),
    /// Not looked at, for want of another part.
    Skipped,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Doubtful => "note",
            Self::Bad(_) => "bad",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    fn new(topic: &'static str, verdict: Level, says: impl Into<String>) -> Self {
        Self { topic, verdict, says: says.into() }
    }

    fn good(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(topic, Level::Good, says)
    }

    fn bad(topic: &'static str, exit: Exit, says: impl Into<String>) -> Self {
        Self::new(topic, Level::Bad(exit), says)
    }

    fn skipped(topic: &'static str, says: impl Into<String>) -> Self {
        Self::new(topic, Level::Skipped, says)
    }

    /// What must be set, and is not or not rightly.
    pub fn mistake(topic: &'static str, mistake: &ConfigError) -> Self {
        Self::bad(topic, Exit::Usage, mistake.to_string())
    }

    pub fn line(&self) -> String {
        format!("{:8}{:10}{}", self.verdict.as_str(), self.topic, self.says)
    }

    pub fn json(&self) -> Value {
        json!({"topic": self.topic, "verdict": self.verdict.as_str(), "says": self.says})
    }
}

/// How one report would end, with all this.
pub fn exit(findings: &[Finding]) -> Exit {
    // A report meets a mistake first, then an unusable state, then Tilt, then Honeycomb.
    let order = [Exit::Usage, Exit::Unexpected, Exit::NoTilt, Exit::Rejected, Exit::NotDelivered];
    let is_found = |exit: &Exit| findings.iter().any(|f| f.verdict == Level::Bad(*exit));
    order.into_iter().find(is_found).unwrap_or(Exit::Done)
}

/// Whether events would get to Honeycomb, whatever Tilt does.
pub fn is_connected(findings: &[Finding]) -> bool {
    let matters = |finding: &&Finding| !["tilt", "session"].contains(&finding.topic);
    let stops = |finding: &Finding| matches!(finding.verdict, Level::Bad(_) | Level::Skipped);
    !findings.iter().filter(matters).any(stops)
}

pub fn tilt(version: &Result<String, TiltError>) -> Finding {
    const TOPIC: &str = "tilt";
    match version {
        Ok(version) => Finding::good(TOPIC, version),
        Err(error @ TiltError::NotInstalled { .. }) => {
            Finding::bad(TOPIC, Exit::NoTilt, error.to_string())
        }
        // A wrapper's trouble, say; what matters is whether it answers.
        Err(error) => {
            let why = error.to_string();
            let says =
                format!("its version is not known: {}", why.trim_start_matches("tilt get: "));
            Finding::new(TOPIC, Level::Doubtful, says)
        }
    }
}

/// Of a look through that program; `None` where there is none.
pub fn session(
    looked: Option<&Result<Snapshot, TiltError>>,
    port: &str,
    kinds: &[&str],
) -> Finding {
    const TOPIC: &str = "session";
    match looked {
        None => Finding::skipped(TOPIC, "not looked for: there is no tilt to ask"),
        Some(Ok(snapshot)) => {
            let count = snapshot.resources.len();
            let resources =
                if count == 1 { "1 resource".to_owned() } else { format!("{count} resources") };
            let says = format!("port {port}: {resources}; it knows {}", kinds.join(", "));
            Finding::good(TOPIC, says)
        }
        Some(Err(error)) => Finding::bad(TOPIC, Exit::of_failed_poll(error), error.to_string()),
    }
}

/// Of the folder, which takes files; with what waits there for the dataset, where that is known.
pub fn state(
    folder: &str,
    is_open: bool,
    queue: Option<&[QueuedEvent]>,
    now: SystemTime,
) -> Finding {
    const TOPIC: &str = "state";
    let waits = queue.map(|queue| waiting(queue, now)).unwrap_or_default();
    if is_open {
        let says = format!("{folder}: writable, but others may look into it; chmod 700 it{waits}");
        return Finding::new(TOPIC, Level::Doubtful, says);
    }
    Finding::good(TOPIC, format!("{folder}: writable, private{waits}"))
}

fn waiting(queue: &[QueuedEvent], now: SystemTime) -> String {
    if queue.is_empty() {
        return "; nothing waits".to_owned();
    }
    // A clock may have been set back since.
    let oldest = queue.iter().filter_map(QueuedEvent::since).min().map_or(now, |at| at.min(now));
    let age = Duration::from_secs(now.duration_since(oldest).unwrap_or_default().as_secs());
    let verb = if queue.len() == 1 { "waits" } else { "wait" };
    format!(
        "; {} {verb}, the oldest for at least {}",
        messages::events(queue.len()),
        humantime::format_duration(age)
    )
}

pub fn unusable_state(error: &impl ToString) -> Finding {
    Finding::bad("state", Exit::Unexpected, error.to_string())
}

pub fn key(shape: Shape) -> Finding {
    const TOPIC: &str = "key";
    let kind = shape.as_str();
    match (shape.advice(), shape.doubt()) {
        (Some(advice), _) => Finding::bad(TOPIC, Exit::Usage, format!("{kind}: {advice}")),
        (None, Some(doubt)) => Finding::new(TOPIC, Level::Doubtful, format!("{kind}; {doubt}")),
        (None, None) => Finding::good(TOPIC, kind),
    }
}

/// Whether anything answers there, and how soon.
pub fn endpoint(
    endpoint: &Endpoint,
    proxy: Option<&str>,
    answered: Result<Duration, &NoResponse>,
) -> Finding {
    const TOPIC: &str = "endpoint";
    let way = proxy.map_or("no proxy".to_owned(), |proxy| format!("by way of the proxy {proxy}"));
    match answered {
        Ok(took) => {
            let safety = if endpoint.is_https { "TLS verified" } else { "without TLS" };
            let says =
                format!("{} answers in {} ms; {safety}; {way}", endpoint.url, took.as_millis());
            Finding::good(TOPIC, says)
        }
        Err(NoResponse(why)) => Finding::bad(TOPIC, Exit::NotDelivered, format!("{why} ({way})")),
    }
}

pub fn no_team(why: &str) -> Finding {
    Finding::skipped("team", format!("not asked for: {why}"))
}

/// Of the answer to `GET /1/auth`; and that answer, if it is one.
pub fn team(response: &Response) -> (Finding, Option<Auth>) {
    let http = response::http(response);
    let bad = |exit, says: String| (Finding::bad("team", exit, says), None);
    match response.status {
        200 => match Auth::read(&response.body) {
            Some(auth) => (access(&auth), Some(auth)),
            None => bad(
                Exit::NotDelivered,
                "HTTP 200, but not about a key: is something else answering in Honeycomb's place?"
                    .into(),
            ),
        },
        300..=399 => bad(Exit::Rejected, response::redirected(response)),
        401 => bad(Exit::Rejected, format!("{} ({http})", response::UNKNOWN_KEY)),
        404 | 405 | 501 => {
            let says = format!(
                "not known: no GET /1/auth here, as behind a Collector, and so no links ({http})"
            );
            (Finding::new("team", Level::Doubtful, says), None)
        }
        408 | 425 | 429 | 500..=599 => {
            bad(Exit::NotDelivered, format!("not known: {http}; try again later"))
        }
        _ => bad(Exit::Rejected, format!("the request was refused ({http})")),
    }
}

fn access(auth: &Auth) -> Finding {
    const TOPIC: &str = "team";
    let team = one_line(auth.team().unwrap_or("unknown"), response::TEXT_LIMIT);
    let place = match auth.environment().map(|name| one_line(name, response::TEXT_LIMIT)) {
        Some(environment) => format!("{team}, environment {environment}"),
        None if auth.is_classic() => format!("{team}, in Honeycomb Classic without environments"),
        None => team,
    };
    if !auth.may_send_events() {
        let says = format!("{place}; {}", response::MAY_NOT_SEND);
        return Finding::bad(TOPIC, Exit::Rejected, says);
    }
    let mut may = vec!["send events"];
    if auth.may_create_datasets() == Some(true) {
        may.push("create datasets");
    }
    if auth.may_manage_queries() {
        may.push("manage queries");
    }
    if auth.may_manage_boards() {
        may.push("manage boards");
    }
    Finding::good(TOPIC, format!("{place}; the key may {}", may.join(", ")))
}

/// Of the answer to `GET /1/datasets/SLUG`, which an ingest key may not ask for.
pub fn dataset(name: &str, auth: Option<&Auth>, looked_up: Option<&Response>) -> Finding {
    const TOPIC: &str = "dataset";
    let Some(auth) = auth else {
        return Finding::skipped(TOPIC, format!("{name}; not looked up"));
    };
    let may_create = auth.may_create_datasets();
    match looked_up.map(|response| response.status) {
        Some(200) => Finding::good(TOPIC, format!("{name} is there")),
        Some(404) if may_create == Some(false) => {
            let says = format!(
                "there is no {name}, and the key may not create it; create it, or let the key \
                 create datasets"
            );
            Finding::bad(TOPIC, Exit::Rejected, says)
        }
        Some(404) => {
            Finding::good(TOPIC, format!("{name} is not there yet; the first event makes it"))
        }
        _ if may_create == Some(true) => {
            let says = format!("{name}; the first event makes it if it is not there");
            Finding::good(TOPIC, says)
        }
        _ => {
            let says =
                format!("{name} must be there already: the key may neither look nor create it");
            Finding::new(TOPIC, Level::Doubtful, says)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_what_a_report_meets_first() {
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
            assert_eq!(exit(&bad(exits)), expected, "{exits:?}");
        }
    }

    #[test]
    fn what_waits_is_counted_from_the_oldest() {
        let wire = || serde_json::value::RawValue::from_string("{}".into()).expect("JSON");
        let at = |second| {
            QueuedEvent::new(second, crate::events::event::EventKind::Session, second, wire())
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(7_400_500);
        let says = state("/s", false, Some(&[at(7_000), at(200)]), now).says;
        assert_eq!(says, "/s: writable, private; 2 events wait, the oldest for at least 2h");
        assert_eq!(state("/s", false, Some(&[]), now).says, "/s: writable, private; nothing waits");
        let odd = state("/s", false, Some(&[at(u64::MAX), at(8_000_000)]), now).says;
        assert!(odd.ends_with("the oldest for at least 0s"), "{odd}");
        assert_eq!(state("/s", true, None, now).verdict, Level::Doubtful);
    }
}

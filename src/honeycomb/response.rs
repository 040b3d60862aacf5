//! Decides from Honeycomb's response to a request what happens to its events. Pure.
//!
//! A response may come from something else: a proxy, a load balancer, a Refinery or a login page.
//! So an event counts as accepted only if its own status is 2xx, and as rejected only if its own
//! status is 4xx. In every other case it stays queued.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::base::text::one_line;
use crate::honeycomb::status::{StatusClass, is_final_for_event};

/// The longest text from a server that a message quotes, in characters.
pub const TEXT_LIMIT: usize = 200;

/// The parts of an HTTP response that matter. The API key is redacted in `location`
/// and `body`, which messages may quote.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    pub status: u16,
    /// `Retry-After`: seconds or an HTTP date.
    pub retry_after: Option<String>,
    /// `Date`: the time by the server's clock.
    pub date: Option<String>,
    /// `Location`: the target of a redirect.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// The outcome of sending a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchResult {
    /// One result per event, in order. Events beyond the last have none.
    PerEvent(Vec<EventResult>),
    /// The same batch may succeed later.
    Retry(RequestFailure),
    /// The batch is malformed or too large. A smaller or another one may succeed.
    Malformed { reason: String },
    /// The same batch will not succeed until a person follows the advice.
    Refused { advice: String },
}

/// Why a request failed that may succeed later.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFailure {
    /// One line for a message.
    pub reason: String,
    /// The pause that the server asked for.
    pub retry_after: Option<Duration>,
}

impl RequestFailure {
    /// The failure of a batch in which some events have this status of their own. `reason` is what
    /// the server says about one of them.
    pub fn of_events(status: u16, reason: &str) -> Self {
        let what = match status {
            0 => "no valid status for some events".to_owned(),
            status => format!("HTTP {status} for some events"),
        };
        Self { reason: what + &prefixed(": ", reason), retry_after: None }
    }
}

/// The outcome of one event of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum EventResult {
    Accepted,
    /// It stays queued, because Honeycomb may accept it later. The status is 0 if the server sent
    /// none that is valid. The reason may be empty.
    Retry {
        status: u16,
        reason: String,
    },
    /// It leaves the queue, because Honeycomb will never accept it.
    Rejected {
        reason: String,
    },
}

/// The advice for a 401.
pub const UNKNOWN_KEY: &str = "the API key is not known here; check HONEYCOMB_API_KEY or the \
                               file of --api-key-file, and that HONEYCOMB_API_ENDPOINT is the key's \
                               region";
/// The advice for a 403 to a batch of events.
pub const MAY_NOT_SEND: &str =
    "the API key may not send events; give it the permission \"send events\"";

/// `HTTP 503`, followed by what the server says about it.
pub fn http(response: &Response) -> String {
    format!("HTTP {}{}", response.status, prefixed(": ", &error_text(&response.body)))
}

/// The message for a rejected request. `reason` is the result of [`http()`].
pub fn rejected(reason: &str) -> String {
    format!("the server rejects the request ({reason})")
}

/// The advice for a 3xx.
pub fn redirected(response: &Response) -> String {
    format!(
        "the endpoint redirects{}, and the key is not sent there; set HONEYCOMB_API_ENDPOINT to \
         Honeycomb's own address",
        prefixed(" to ", response.location.as_deref().map_or("", without_query)),
    )
}

/// Judges the response to a batch. `now` resolves a date in `Retry-After` if the server does not send
/// its own time; the local clock may be wrong.
pub fn judge(response: &Response, now: SystemTime) -> BatchResult {
    let now = response.date.as_deref().and_then(date).unwrap_or(now);
    let retry = |reason| {
        let asked = response.retry_after.as_deref();
        let retry_after = asked.and_then(|text| retry_after(text, now));
        BatchResult::Retry(RequestFailure { reason, retry_after })
    };
    let refused =
        |advice: &str| BatchResult::Refused { advice: format!("{advice} ({})", http(response)) };
    match StatusClass::of(response.status) {
        StatusClass::Success => match results(&response.body) {
            Some(results) if !results.is_empty() => BatchResult::PerEvent(results),
            _ => retry(without_statuses(response.status)),
        },
        StatusClass::Redirect => refused(&redirected(response)),
        StatusClass::Malformed if has_statuses_after_error(&response.body) => refused(
            "Refinery cannot look up the API key; check that it reaches Honeycomb and that the key is \
             right",
        ),
        StatusClass::Malformed => BatchResult::Malformed { reason: http(response) },
        StatusClass::UnknownKey => refused(UNKNOWN_KEY),
        StatusClass::Forbidden => refused(MAY_NOT_SEND),
        StatusClass::NotFound => refused(
            "no such dataset, and the API key may not create it; check HONEYCOMB_DATASET and \
             HONEYCOMB_API_ENDPOINT",
        ),
        StatusClass::ProxyCredentials => {
            refused("the proxy needs credentials; set them in HTTPS_PROXY")
        }
        StatusClass::Temporary => retry(http(response)),
        StatusClass::Refused => BatchResult::Refused { advice: rejected(&http(response)) },
    }
}

fn without_statuses(status: u16) -> String {
    format!(
        "HTTP {status} without a status per event; check that HONEYCOMB_API_ENDPOINT is the address \
         of Honeycomb and not of a proxy or a login page"
    )
}

/// The results of the single events; `None` if the body is not a list of statuses.
fn results(body: &[u8]) -> Option<Vec<EventResult>> {
    #[derive(Deserialize)]
    struct EventStatus {
        #[serde(default)]
        status: Value,
        /// Honeycomb sends a text here. Other servers may send anything.
        error: Option<Value>,
    }
    let statuses: Vec<EventStatus> = serde_json::from_slice(body).ok()?;
    let valid = |status: &Value| status.as_u64().and_then(|status| u16::try_from(status).ok());
    let results = statuses.into_iter().map(|event| {
        let reason = event.error.as_ref().and_then(Value::as_str).unwrap_or_default();
        let mut reason = one_line(reason, TEXT_LIMIT);
        match valid(&event.status).unwrap_or(0) {
            200..=299 => EventResult::Accepted,
            status if is_final_for_event(status) => {
                if reason.is_empty() {
                    "no reason given".clone_into(&mut reason);
                }
                EventResult::Rejected { reason }
            }
            status => EventResult::Retry { status, reason },
        }
    });
    Some(results.collect())
}

/// True for an error document that a list of statuses follows. Refinery answers so if it cannot look
/// up the key (`route.go` of Refinery 3): nothing is wrong with the events.
fn has_statuses_after_error(body: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let starts_with_error = matches!(documents.next(), Some(Ok(Value::Object(_))));
    starts_with_error && matches!(documents.next(), Some(Ok(Value::Array(_))))
}

/// The text of an error in one line: Honeycomb's `error`, the `detail` or `title` of RFC 7807, or
/// the start of a plain text. Refinery may append a second document, which is ignored. HTML pages
/// give no text.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        error: Option<String>,
        detail: Option<String>,
        title: Option<String>,
    }
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Problem>();
    if let Some(Ok(problem)) = documents.next() {
        return one_line(
            &problem.error.or(problem.detail).or(problem.title).unwrap_or_default(),
            TEXT_LIMIT,
        );
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with(['<', '{', '[']) {
        String::new()
    } else {
        one_line(&text, TEXT_LIMIT)
    }
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// The query of a redirect may hold a token.
fn without_query(location: &str) -> &str {
    location.split(['?', '#']).next().unwrap_or_default()
}

/// Parses seconds or an HTTP date. A date in the past asks for no pause.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(date(text)?.duration_since(now).unwrap_or_default())
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, body: body.into(), ..Response::default() }
    }

    fn judged(status: u16, body: &str) -> BatchResult {
        judge(&response(status, body), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn every_event_has_its_own_result() {
        let body = r#"[{"status":202},{"status":400,"error":"too many\ncolumns"},{"status":429},
                       {"status":500,"error":"something went wrong!"},{"status":400},
                       {"status":202,"error":{}},{"status":400,"error":{"code":7}}]"#;
        let rejected = |reason: &str| EventResult::Rejected { reason: reason.into() };
        assert_eq!(
            judged(200, body),
            BatchResult::PerEvent(vec![
                EventResult::Accepted,
                rejected("too many columns"),
                EventResult::Retry { status: 429, reason: String::new() },
                EventResult::Retry { status: 500, reason: "something went wrong!".into() },
                rejected("no reason given"),
                EventResult::Accepted,
                rejected("no reason given"),
            ])
        );
    }

    #[test]
    fn an_invalid_status_affects_only_its_own_event() {
        for invalid in [r#"{"status":"202"}"#, r#"{"status":null}"#, r#"{"status":0}"#, "{}"] {
            let body = format!(r#"[{{"status":202}},{invalid},{{"status":202}}]"#);
            let retry = EventResult::Retry { status: 0, reason: String::new() };
            let expected = vec![EventResult::Accepted, retry, EventResult::Accepted];
            assert_eq!(judged(200, &body), BatchResult::PerEvent(expected), "{body}");
        }
    }

    #[test]
    fn an_error_with_statuses_is_not_blamed_on_the_events() {
        let body = r#"{"source":"refinery","error":"failed to parse event"}[{"status":202}]"#;
        let BatchResult::Refused { advice } = judged(400, body) else { panic!("not refused") };
        assert!(
            advice.contains("Refinery") && advice.contains("failed to parse event"),
            "{advice}"
        );
        assert!(matches!(judged(400, r#"{"error":"malformed"}"#), BatchResult::Malformed { .. }));
    }

    #[test]
    fn a_200_without_statuses_accepts_nothing() {
        for body in
            ["", "[]", "<html>please log in</html>", "{}", r#"{"status":202}"#, "[17]", "\u{0}"]
        {
            assert!(matches!(judged(200, body), BatchResult::Retry(_)), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_of_advice() {
        for (status, named) in [
            (401, "HONEYCOMB_API_KEY or the file of --api-key-file"),
            (403, "permission"),
            (404, "HONEYCOMB_DATASET"),
            (407, "proxy"),
        ] {
            for body in ["", "nope", r#"{"error":"nope"}"#, "<html>"] {
                let BatchResult::Refused { advice } = judged(status, body) else {
                    panic!("{status}")
                };
                assert!(advice.contains(named) && advice.contains(&status.to_string()), "{advice}");
                assert!(!advice.contains('\n') && !advice.contains('<'), "{advice}");
            }
        }
        assert!(matches!(judged(415, ""), BatchResult::Refused { .. }));
        assert!(matches!(judged(400, r#"{"error":"malformed"}"#), BatchResult::Malformed { .. }));
        assert!(matches!(judged(413, ""), BatchResult::Malformed { .. }));
    }

    #[test]
    fn a_redirect_is_refused_and_shown_without_its_query() {
        for status in [301, 302, 303, 307, 308] {
            let mut moved = response(status, "");
            moved.location = Some("https://elsewhere.example/login?token=s3cr3t".into());
            let BatchResult::Refused { advice } = judge(&moved, SystemTime::UNIX_EPOCH) else {
                panic!("{status}")
            };
            assert!(advice.contains("https://elsewhere.example/login"), "{advice}");
            assert!(!advice.contains("s3cr3t"), "{advice}");
        }
    }

    #[test]
    fn a_temporary_status_is_retried() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(judged(status, "<html>"), BatchResult::Retry(_)), "{status}");
        }
    }

    #[test]
    fn the_error_text_is_found_in_every_kind_of_body() {
        for (body, expected) in [
            (r#"{"error":"unknown API key"}"#, "unknown API key"),
            (
                r#"{"status":429,"title":"slow down","detail":"rate limit exceeded"}"#,
                "rate limit exceeded",
            ),
            (r#"{"status":429,"title":"slow down"}"#, "slow down"),
            (r#"{"source":"refinery","error":"first"}{"error":"second"}"#, "first"),
            ("plain\n text", "plain text"),
            ("<html><body>502", ""),
            (r#"{"error":17}"#, ""),
        ] {
            assert_eq!(error_text(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(error_text(&[0xff; 4]).chars().count(), 4);
        assert_eq!(error_text("x".repeat(900).as_bytes()).len(), 200);
    }

    #[test]
    fn a_retry_after_date_uses_the_servers_clock() {
        let dated = Response {
            status: 429,
            retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
            date: Some("Sun, 06 Nov 1994 08:49:35 GMT".into()),
            ..Response::default()
        };
        for (date, expected) in [(dated.date.clone(), 2), (Some("soon".into()), 784_111_777)] {
            let response = Response { date, ..dated.clone() };
            let BatchResult::Retry(failure) = judge(&response, SystemTime::UNIX_EPOCH) else {
                panic!("{response:?}")
            };
            assert_eq!(failure.retry_after, Some(Duration::from_secs(expected)), "{response:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = humantime::parse_rfc3339("1994-11-06T08:49:00Z").expect("a time");
        for (text, expected) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("Sun, 06 Now 1994 08:49:37 GMT", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}

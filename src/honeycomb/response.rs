//! Decides from Honeycomb's response to a request what happens to its events. Pure.
//!
//! A response may come from something else: a proxy, a load balancer, a Refinery or a login page.
//! So an event counts as accepted only if its own status is 2xx, and as rejected only if its own
//! status is 4xx. In every other case it stays queued.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::honeycomb::problem;
use crate::honeycomb::status::{StatusClass, is_final_for_event};

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
                               key file, and that HONEYCOMB_API_ENDPOINT is the key's region";
/// The advice for a key without the permission to send events.
pub const MAY_NOT_SEND: &str =
    "the API key may not send events; give it the permission \"send events\"";
/// The advice for a 403 to a batch of events. Honeycomb's description of its API names throttling as
/// the cause; a missing permission has the same status.
const FORBIDDEN: &str = "the API key may not send events, or Honeycomb throttles this team; give it the \
                         permission \"send events\", or see the team's usage in Honeycomb";
/// The advice for a web page in place of a response.
pub const WEB_PAGE: &str = "a proxy or a gateway answers with a web page instead of Honeycomb; check \
                        HTTPS_PROXY and that HONEYCOMB_API_ENDPOINT is the address of Honeycomb";

/// The advice for a 401 of a Refinery. Its `AccessKeys` decide which keys it accepts.
const NOT_LISTED: &str = "Refinery does not accept this API key; add it to the AccessKeys of Refinery, or \
                          check HONEYCOMB_API_KEY or the key file";
/// The advice for a Refinery that fails to look up the key.
const KEY_LOOK_UP_FAILED: &str = "Refinery cannot look up the API key; check that it reaches Honeycomb and that \
                                  the key is right";
/// The advice for a path that a server written in Go does not serve.
const NO_BATCH_PATH: &str = "the endpoint does not serve /1/batch/; check HONEYCOMB_API_ENDPOINT, and for an \
                             OpenTelemetry Collector that traces_url_paths has \"/1/batch/\" with a slash \
                             at the end";
/// The body of such a response (`http.NotFound` of Go).
const NO_PAGE: &[u8] = b"404 page not found";

/// `HTTP 503`, followed by what the server says about it.
pub fn http(response: &Response) -> String {
    format!("HTTP {}{}", response.status, prefixed(": ", &problem::text(&response.body)))
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

/// Judges the response to a batch. `now` resolves a date in `Retry-After`.
pub fn judge(response: &Response, now: SystemTime) -> BatchResult {
    let retry = |reason| {
        BatchResult::Retry(RequestFailure { reason, retry_after: retry_after(response, now) })
    };
    let refused =
        |advice: &str| BatchResult::Refused { advice: format!("{advice} ({})", http(response)) };
    match StatusClass::of(response.status) {
        StatusClass::Success => match results(&response.body) {
            Some(results) if !results.is_empty() => BatchResult::PerEvent(results),
            _ => retry(without_statuses(response.status)),
        },
        StatusClass::Redirect => refused(&redirected(response)),
        StatusClass::Malformed if has_statuses_after_error(&response.body) => {
            refused(KEY_LOOK_UP_FAILED)
        }
        StatusClass::Malformed => BatchResult::Malformed { reason: http(response) },
        StatusClass::UnknownKey if is_from_refinery(&response.body) => refused(NOT_LISTED),
        StatusClass::UnknownKey => refused(UNKNOWN_KEY),
        StatusClass::Forbidden | StatusClass::NotFound if problem::is_html(&response.body) => {
            refused(WEB_PAGE)
        }
        StatusClass::Forbidden => refused(FORBIDDEN),
        StatusClass::NotFound if response.body.trim_ascii() == NO_PAGE => refused(NO_BATCH_PATH),
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

/// Whether a server takes events, by its response to a batch without events.
#[derive(Debug, Clone, PartialEq)]
pub enum EmptyBatchResult {
    /// A Refinery or a Collector takes events with this key.
    Accepted,
    /// Honeycomb knows the key. Whether it may send events is a question of its permissions.
    KnownKey,
    /// The endpoint takes no events with this key until a person follows the advice.
    Refused { advice: String },
    /// The endpoint takes no events at the moment. The reason is one line.
    Failed { reason: String },
    /// The response does not tell.
    Unknown,
}

/// Judges the response to `[]`, which sends no event.
///
/// Refinery answers 200 with an empty list, and 400 if it cannot look up the key. A Collector answers
/// 200 with one status. Honeycomb answers 400 to a key that it knows, because the batch is empty, and
/// 401 to another one; Vector's health check relies on that.
pub fn judge_empty_batch(response: &Response) -> EmptyBatchResult {
    let body = serde_json::from_slice::<Value>(&response.body).unwrap_or_default();
    let refused = |advice| EmptyBatchResult::Refused { advice };
    match (response.status, judge(response, SystemTime::UNIX_EPOCH)) {
        (200..=299, _) if body.is_array() => EmptyBatchResult::Accepted,
        (400, _) if is_from_refinery(&response.body) => {
            refused(format!("{KEY_LOOK_UP_FAILED} ({})", http(response)))
        }
        (400, _) if body["error"].is_string() => EmptyBatchResult::KnownKey,
        (_, BatchResult::Refused { advice }) => refused(advice),
        (_, BatchResult::Retry(failure)) => EmptyBatchResult::Failed { reason: failure.reason },
        _ => EmptyBatchResult::Unknown,
    }
}

/// True for an error of Refinery itself. It marks these with their source.
fn is_from_refinery(body: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    documents
        .next()
        .is_some_and(|document| document.is_ok_and(|error| error["source"] == "refinery"))
}

fn without_statuses(status: u16) -> String {
    format!(
        "HTTP {status} without a status per event; check that HONEYCOMB_API_ENDPOINT is the address \
         of Honeycomb and not of a proxy or a login page"
    )
}

/// The status of an event in a response.
#[derive(Deserialize)]
struct EventStatus {
    #[serde(default)]
    status: Value,
    #[serde(flatten)]
    problem: Value,
}

/// The results of the single events; `None` if the body is not a list of statuses.
fn results(body: &[u8]) -> Option<Vec<EventResult>> {
    let statuses: Vec<EventStatus> = serde_json::from_slice(body).ok()?;
    let valid = |status: &Value| status.as_u64().and_then(|status| u16::try_from(status).ok());
    let results = statuses.into_iter().map(|event| match valid(&event.status).unwrap_or(0) {
        200..=299 => EventResult::Accepted,
        status => {
            let reason = problem::text_of(&event.problem);
            if !is_final_for_event(status) {
                EventResult::Retry { status, reason }
            } else if reason.is_empty() {
                EventResult::Rejected { reason: "no reason given".to_owned() }
            } else {
                EventResult::Rejected { reason }
            }
        }
    });
    Some(results.collect())
}

/// True if a single status means that the server has accepted all of these `events`.
///
/// The `libhoneyreceiver` of an OpenTelemetry Collector before 0.137 answers `[{"status":202}]` to a
/// request of any size when its pipelines have taken the whole request, and with an error status
/// otherwise (`handleEvent` and `MakeResponse` in its source). No known server answers so after it
/// took only the first event, so sending the others again would repeat them.
pub fn accepts_all_at_once(response: &Response, events: usize) -> bool {
    // A longer list fails at its second element, so a status per event is not read twice.
    events > 1
        && StatusClass::of(response.status) == StatusClass::Success
        && serde_json::from_slice::<[Value; 1]>(&response.body)
            .is_ok_and(|[status]| status == serde_json::json!({"status": 202}))
}

/// True for an error document that a list of statuses follows. Refinery answers so if it cannot look
/// up the key (`route.go` of Refinery 3): nothing is wrong with the events.
fn has_statuses_after_error(body: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let starts_with_error = matches!(documents.next(), Some(Ok(Value::Object(_))));
    starts_with_error && matches!(documents.next(), Some(Ok(Value::Array(_))))
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// The query of a redirect may hold a token.
fn without_query(location: &str) -> &str {
    location.split(['?', '#']).next().unwrap_or_default()
}

/// The pause that the server asks for. `now` resolves a date if the server does not send its own time;
/// the local clock may be wrong.
pub fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    let now = response.date.as_deref().and_then(date).unwrap_or(now);
    pause(response.retry_after.as_deref()?, now)
}

/// Parses seconds or an HTTP date. A date in the past asks for no pause.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
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
            (401, "HONEYCOMB_API_KEY or the key file"),
            (403, "permission"),
            (403, "throttles"),
            (404, "HONEYCOMB_DATASET"),
            (407, "proxy"),
        ] {
            for body in ["", "nope", r#"{"error":"nope"}"#] {
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
    fn an_empty_batch_tells_whether_the_key_is_accepted() {
        let refinery = r#"{"source":"refinery","error":"failed to parse event"}"#;
        let judged = |status, body: &str| judge_empty_batch(&response(status, body));
        for body in ["[]", r#"[{"status":202}]"#] {
            assert_eq!(judged(200, body), EmptyBatchResult::Accepted, "{body}");
        }
        let empty = r#"{"error":"request body should not be empty"}"#;
        assert_eq!(judged(400, empty), EmptyBatchResult::KnownKey);
        for (status, body, named) in [
            (400, refinery, "Refinery cannot look up the API key"),
            (400, &format!("{refinery}[]"), "Refinery cannot look up the API key"),
            (401, r#"{"error":"unknown API key"}"#, "HONEYCOMB_API_KEY"),
            (401, r#"{"source":"refinery","error":"not listed"}"#, "AccessKeys of Refinery"),
            (403, "", "throttles"),
            (404, "404 page not found\n", "traces_url_paths"),
            (404, "<html>", "a proxy"),
            (302, "", "redirects"),
        ] {
            let EmptyBatchResult::Refused { advice } = judged(status, body) else {
                panic!("{status}: {body}")
            };
            assert!(advice.contains(named), "{advice}");
        }
        for (status, body) in [(200, "<html>log in"), (200, "{}"), (429, ""), (503, refinery)] {
            assert!(matches!(judged(status, body), EmptyBatchResult::Failed { .. }), "{body}");
        }
        for (status, body) in [(400, ""), (400, "<html>"), (400, "[]"), (400, r#"{"error":7}"#)] {
            assert_eq!(judged(status, body), EmptyBatchResult::Unknown, "{body}");
        }
    }

    #[test]
    fn a_web_page_with_403_or_404_is_blamed_on_a_proxy() {
        for status in [403, 404] {
            for body in ["<html>blocked", "\r\n<!DOCTYPE html>"] {
                let BatchResult::Refused { advice } = judged(status, body) else {
                    panic!("{status}")
                };
                assert!(advice.contains("a proxy") && advice.contains("HTTPS_PROXY"), "{advice}");
                assert!(!advice.contains('\n') && !advice.contains('<'), "{advice}");
            }
        }
    }

    #[test]
    fn only_a_plain_202_stands_for_several_events() {
        let plain = r#" [ {"status": 202} ] "#;
        assert!(accepts_all_at_once(&response(200, plain), 2));
        assert!(!accepts_all_at_once(&response(200, plain), 1), "the usual response");
        assert!(!accepts_all_at_once(&response(400, plain), 2));
        for body in [
            "[]",
            "{}",
            r#"[{"status":202},{"status":202}]"#,
            r#"[{"status":200}]"#,
            r#"[{"status":503}]"#,
            r#"[{"status":"202"}]"#,
            r#"[{"status":202,"error":"only the first"}]"#,
            r#"[{"status":202}"#,
        ] {
            assert!(!accepts_all_at_once(&response(200, body), 5), "{body}");
        }
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
            assert_eq!(pause(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}

//! What an answer of Honeycomb's means for the events of a request. Pure.
//!
//! An answer need not come from Honeycomb: a proxy, a load balancer, a Refinery or a hotel's
//! login page may speak in its place. So nothing but a per-event 2xx counts as accepted, and
//! nothing but a per-event 4xx as rejected; whatever is unclear keeps the events.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use crate::base::text::one_line;

/// The longest text from a server that a message quotes, in characters.
pub const TEXT_LIMIT: usize = 200;

/// The parts of an HTTP answer that matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    pub status: u16,
    pub retry_after: Option<String>,
    /// The server's own idea of now.
    pub date: Option<String>,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// What to do with the request's events.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchResult {
    /// One fate per event, in order; events beyond the last were not answered for.
    Judged(Vec<EventResult>),
    /// The same request may go through later.
    Retry { why: String, after: Option<Duration> },
    /// This request will never go through, as malformed or too large; one with fewer events, or
    /// others, may.
    Malformed { advice: String },
    /// The same request will not go through until a person acts: what to fix.
    Refused { advice: String },
}

#[derive(Debug, Clone, PartialEq)]
pub enum EventResult {
    Accepted,
    /// It stays in the queue.
    Later {
        status: u16,
    },
    /// It leaves the queue: it will never be taken.
    Rejected {
        reason: String,
    },
}

/// What a 401 means.
pub const UNKNOWN_KEY: &str = "the API key is not known here; check HONEYCOMB_API_KEY or the \
                               file of --api-key-file, and that HONEYCOMB_API_ENDPOINT is the key's \
                               region";
/// What a 403 to events means.
pub const MAY_NOT_SEND: &str =
    "the API key may not send events; give it the permission \"send events\"";

/// `HTTP 503`, with what the server says of it.
pub fn http(response: &Response) -> String {
    format!("HTTP {}{}", response.status, prefixed(": ", &said(&response.body)))
}

/// What a 3xx means.
pub fn redirected(response: &Response) -> String {
    format!(
        "the endpoint redirects{}, and the key does not follow; set HONEYCOMB_API_ENDPOINT to \
         Honeycomb's own address",
        prefixed(" to ", response.location.as_deref().map_or("", without_query)),
    )
}

/// Judges the answer to a request; `now` is for a `Retry-After` that names a date, where the server
/// does not say what time it has: our clock may be wrong.
pub fn judge(response: &Response, now: SystemTime) -> BatchResult {
    let now = response.date.as_deref().and_then(date).unwrap_or(now);
    let after = response.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let refused =
        |advice: &str| BatchResult::Refused { advice: format!("{advice} ({})", http(response)) };
    match response.status {
        200..=299 => match results(&response.body) {
            Some(results) if !results.is_empty() => BatchResult::Judged(results),
            _ => BatchResult::Retry {
                why: format!(
                    "HTTP {} without a status per event: is something else answering in \
                     Honeycomb's place?",
                    response.status
                ),
                after,
            },
        },
        300..=399 => refused(&redirected(response)),
        400 | 413 => BatchResult::Malformed {
            advice: format!("the request was refused ({})", http(response)),
        },
        401 => refused(UNKNOWN_KEY),
        403 => refused(MAY_NOT_SEND),
        404 => refused(
            "no such dataset, and the API key may not create it; check HONEYCOMB_DATASET and \
             HONEYCOMB_API_ENDPOINT",
        ),
        407 => refused("the proxy wants credentials; set them in HTTPS_PROXY"),
        408 | 425 | 429 | 500..=599 => BatchResult::Retry { why: http(response), after },
        _ => refused("the request was refused"),
    }
}

/// The per-event statuses; `None` if the body is not such a list.
fn results(body: &[u8]) -> Option<Vec<EventResult>> {
    #[derive(Deserialize)]
    struct EventStatus {
        status: u16,
        /// A text, unless something else than Honeycomb says it.
        error: Option<Value>,
    }
    let statuses: Vec<EventStatus> = serde_json::from_slice(body).ok()?;
    let results = statuses.into_iter().map(|event| match event.status {
        200..=299 => EventResult::Accepted,
        status @ (429 | 401 | 403 | 404 | 408) => EventResult::Later { status },
        400..=499 => {
            let reason = event.error.as_ref().and_then(Value::as_str);
            EventResult::Rejected {
                reason: one_line(reason.unwrap_or("no reason given"), TEXT_LIMIT),
            }
        }
        status => EventResult::Later { status },
    });
    Some(results.collect())
}

/// What an error's body says, in one line: Honeycomb's own `error`, the `detail` or `title` of an
/// RFC 7807 body, else the start of a plain text. A body may hold a second document after the
/// first (Refinery), or be a page of HTML, which says nothing.
fn said(body: &[u8]) -> String {
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

/// A redirect's query may hold a token.
fn without_query(location: &str) -> &str {
    location.split(['?', '#']).next().unwrap_or_default()
}

/// Seconds or an HTTP date; a date in the past asks for no pause.
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
    fn every_event_has_its_own_fate() {
        let body = r#"[{"status":202},{"status":400,"error":"too many\ncolumns"},{"status":429},
                       {"status":500,"error":"something went wrong!"},{"status":400},
                       {"status":202,"error":{}},{"status":400,"error":{"code":7}}]"#;
        let rejected = |reason: &str| EventResult::Rejected { reason: reason.into() };
        assert_eq!(
            judged(200, body),
            BatchResult::Judged(vec![
                EventResult::Accepted,
                rejected("too many columns"),
                EventResult::Later { status: 429 },
                EventResult::Later { status: 500 },
                rejected("no reason given"),
                EventResult::Accepted,
                rejected("no reason given"),
            ])
        );
    }

    #[test]
    fn a_200_that_is_not_honeycombs_accepts_nothing() {
        for body in
            ["", "[]", "<html>please log in</html>", "{}", r#"{"status":202}"#, "[17]", "\u{0}"]
        {
            assert!(matches!(judged(200, body), BatchResult::Retry { .. }), "{body}");
        }
    }

    #[test]
    fn what_a_person_must_fix_is_said_in_one_sentence() {
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
    fn a_redirect_is_refused_and_named_without_its_query() {
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
    fn a_server_in_trouble_is_tried_again() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(matches!(judged(status, "<html>"), BatchResult::Retry { .. }), "{status}");
        }
    }

    #[test]
    fn the_reason_is_found_in_every_shape_of_body() {
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
            assert_eq!(said(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(said(&[0xff; 4]).chars().count(), 4);
        assert_eq!(said("x".repeat(900).as_bytes()).len(), 200);
    }

    #[test]
    fn a_date_to_retry_after_is_by_the_servers_own_clock() {
        let dated = Response {
            status: 429,
            retry_after: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
            date: Some("Sun, 06 Nov 1994 08:49:35 GMT".into()),
            ..Response::default()
        };
        for (date, expected) in [(dated.date.clone(), 2), (Some("soon".into()), 784_111_777)] {
            let response = Response { date, ..dated.clone() };
            let BatchResult::Retry { after, .. } = judge(&response, SystemTime::UNIX_EPOCH) else {
                panic!("{response:?}")
            };
            assert_eq!(after, Some(Duration::from_secs(expected)), "{response:?}");
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

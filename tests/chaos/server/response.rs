//! The responses of a server that misbehaves.

use std::time::{Duration, SystemTime};

use fakes::honeycomb::{Part, Reply, batch_reply};

use super::KEY;
use super::mode::ServerMode;
use crate::random::Random;

/// How the server handles a request.
pub(super) struct Response {
    /// The statuses of the events. Empty if the server rejects the whole request.
    pub(super) statuses: Vec<u16>,
    pub(super) bytes: Vec<u8>,
    pub(super) after: AfterResponse,
    /// True if the client cannot read the statuses from the response.
    pub(super) hides_statuses: bool,
}

/// How the connection continues after the response.
#[derive(Debug, Clone, Copy)]
pub(super) enum AfterResponse {
    KeepOpen,
    Stall,
    Close,
}

impl Response {
    /// 200 with these statuses.
    fn with_statuses(statuses: Vec<u16>) -> Self {
        let bytes = batch_reply(&statuses).whole();
        Self { statuses, bytes, after: AfterResponse::KeepOpen, hides_statuses: false }
    }

    fn rejection(reply: &Reply) -> Self {
        Self {
            statuses: Vec::new(),
            bytes: reply.whole(),
            after: AfterResponse::KeepOpen,
            hides_statuses: false,
        }
    }
}

/// Responds to a request with these events. A redirect leads to the port `redirect_target`.
pub(super) fn respond(
    mode: ServerMode,
    keys: &[String],
    random: &mut Random,
    redirect_target: u16,
) -> Response {
    let all_accepted = vec![202; keys.len()];
    match mode {
        ServerMode::BreakingResponse => broken_response(all_accepted, random),
        ServerMode::TooFewStatuses => {
            // One status for several events means something else: see `OneStatus`.
            let count = random.index(keys.len().max(1));
            Response::with_statuses(vec![202; if count == 1 { 0 } else { count }])
        }
        ServerMode::InvalidBody => invalid_body(all_accepted, random),
        ServerMode::RequestTooLarge => {
            let limit = 1 + random.index(4);
            if keys.len() <= limit {
                return Response::with_statuses(all_accepted);
            }
            Response::rejection(&Reply::new(413, ""))
        }
        ServerMode::RateLimited => Response::rejection(&rate_limited(random)),
        ServerMode::ServerError => {
            let status = 500 + u16::try_from(random.below(5)).expect("less than 5");
            let two = r#"{"source":"refinery","error":"first"}{"error":"second"}"#;
            let body = random.pick(&["", "<html>", two, "busy"]);
            Response::rejection(&Reply::new(status, body))
        }
        ServerMode::MixedStatuses => {
            let status = |_| random.pick(&[202, 202, 202, 202, 429, 500, 400]);
            Response::with_statuses(keys.iter().map(status).collect())
        }
        ServerMode::NoLogsPipeline => {
            let status = |key: &String| if is_span(key) { 202 } else { 503 };
            Response::with_statuses(keys.iter().map(status).collect())
        }
        ServerMode::LaterForSome => {
            let is_later = |key: &String| key.bytes().map(u32::from).sum::<u32>() % 2 == 0;
            let status = |key: &String| if is_later(key) { 429 } else { 202 };
            Response::with_statuses(keys.iter().map(status).collect())
        }
        ServerMode::OneStatus => {
            let one = batch_reply(&[202]).whole();
            Response { bytes: one, ..Response::with_statuses(all_accepted) }
        }
        ServerMode::Redirecting => {
            let status = random.pick(&[301, 302, 303, 307, 308]);
            let to = format!("http://127.0.0.1:{redirect_target}/login?next={KEY}");
            Response::rejection(&Reply::new(status, "moved").header("location", to))
        }
        ServerMode::Unauthorized => {
            Response::rejection(&Reply::new(401, "{\"error\":\"unknown API key\"}"))
        }
        ServerMode::Forbidden => {
            let status = random.pick(&[403, 404, 422]);
            let throttled = r#"{"error":"Event dropped due to administrative throttling"}"#;
            Response::rejection(&Reply::new(status, random.pick(&[throttled, "<html>", ""])))
        }
        ServerMode::LookupFailing => lookup_failed(all_accepted, random),
        ServerMode::TooManyColumns => match keys {
            [only] if is_session(only) => {
                Response { statuses: vec![400], ..Response::rejection(&too_many_columns()) }
            }
            _ if keys.iter().any(|key| is_session(key)) => Response::rejection(&too_many_columns()),
            _ => Response::with_statuses(all_accepted),
        },
        ServerMode::BadRequest => {
            let mut response = Response::rejection(&Reply::new(400, "{\"error\":\"malformed\"}"));
            if keys.len() == 1 {
                response.statuses = vec![400];
            }
            response
        }
        _ => Response::with_statuses(all_accepted),
    }
}

/// True for an event with a trace.
fn is_span(key: &str) -> bool {
    !is_session(key) && !key.starts_with("uiresource ")
}

fn is_session(key: &str) -> bool {
    key.starts_with("session ")
}

fn too_many_columns() -> Reply {
    Reply::new(400, r#"{"error":"Dataset has too many columns."}"#)
}

/// The answer of a Refinery that cannot look up the key. It has taken the events, and may deliver
/// them later or not.
fn lookup_failed(all_accepted: Vec<u16>, random: &mut Random) -> Response {
    let error = br#"{"source":"refinery","error":"failed to parse event"}"#;
    let list = batch_reply(&all_accepted).body;
    let bytes = Reply::new(400, [&error[..], &list].concat()).whole();
    let statuses = if random.is_one_in(2) { all_accepted } else { Vec::new() };
    Response { statuses, bytes, after: AfterResponse::KeepOpen, hides_statuses: true }
}

/// A response that ends early. The server accepts all events or none.
fn broken_response(all_accepted: Vec<u16>, random: &mut Random) -> Response {
    let is_accepted = random.is_one_in(2);
    let parts = [Part::Nothing, Part::StatusLine, Part::Headers, Part::HalfTheBody];
    let bytes = batch_reply(&all_accepted).bytes(random.pick(&parts));
    let after = random.pick(&[AfterResponse::Stall, AfterResponse::Close]);
    let statuses = if is_accepted { all_accepted } else { Vec::new() };
    Response { statuses, bytes, after, hides_statuses: true }
}

/// A 200 without a list of statuses. The server accepts all events or none.
fn invalid_body(all_accepted: Vec<u16>, random: &mut Random) -> Response {
    let statuses = if random.is_one_in(2) { all_accepted } else { Vec::new() };
    let bodies = ["", "OK", "<html>log in</html>", "{}", "[]", "[{\"status\":202}", "\u{0}\u{1}"];
    let bytes = Reply::new(200, random.pick(&bodies)).whole();
    Response { statuses, bytes, after: AfterResponse::KeepOpen, hides_statuses: true }
}

/// A 429, usually without a usable `Retry-After`.
fn rate_limited(random: &mut Random) -> Reply {
    let date = |seconds| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
    let reply = Reply::new(429, r#"{"error":"rate limited"}"#).header("date", date(0));
    match random.below(8) {
        0 => reply.header("retry-after", 1),
        1 => reply.header("retry-after", date(2)),
        2 => reply.header("retry-after", "99999999999999999999"),
        3 => reply.header("retry-after", "-5"),
        4 => reply.header("retry-after", "soon"),
        5 => reply.header("retry-after", 0),
        _ => reply,
    }
}

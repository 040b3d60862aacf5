//! A receiver for looking at events without an account: the stand-in for Honeycomb as a program.
//! It prints its address, then each event as it arrives: a line to read, or with `--json` as it
//! came. `--port N` chooses the port, otherwise the system does.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "printing is what it does")]

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use fakes::honeycomb;
use serde_json::Value;

struct Options {
    json: bool,
    port: u16,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("usage: fake-honeycomb [--json] [--port N]");
        return ExitCode::from(2);
    };
    let server = match honeycomb::Server::start_on(options.port) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("fake-honeycomb: cannot listen on port {}: {error}", options.port);
            return ExitCode::FAILURE;
        }
    };
    println!("{}", server.url());
    let offset = local_offset();
    let mut received = 0;
    loop {
        let Some(request) = server.request_within(Duration::from_hours(1), received) else {
            continue;
        };
        received += 1;
        for event in request.events {
            if options.json {
                println!("{event}");
            } else {
                println!("{}", line(&event, offset));
            }
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { json: false, port: 0 };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--port" => options.port = arguments.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

/// `16:22:07.934  dockerimage  web       1.7s, 9 stages`
fn line(event: &Value, offset: Offset) -> String {
    let data = &event["data"];
    let subject = text(data, "name").or_else(|| text(data, "image_name")).unwrap_or_default();
    format!(
        "{}  {:<11}  {:<20}  {}",
        clock(event["time"].as_str().unwrap_or_default(), offset),
        text(data, "kind").unwrap_or_default(),
        subject,
        facts(data).join(", ")
    )
    .trim_end()
    .to_owned()
}

fn facts(data: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    for (field, name) in [("update_status", "update"), ("runtime_status", "runtime")] {
        facts.extend(text(data, field).map(|status| format!("{name} {status}")));
    }
    for (field, name) in [
        ("resources_ok", "ok"),
        ("resources_error", "in error"),
        ("resources_pending", "pending"),
        ("resources_in_progress", "in progress"),
        ("missed_builds", "builds missed"),
    ] {
        let count = data[field].as_u64().filter(|count| *count > 0);
        facts.extend(count.map(|count| format!("{count} {name}")));
    }
    facts.extend(data["duration_ms"].as_f64().map(seconds));
    if let Some(ms) = data["time_to_ready_ms"].as_f64() {
        facts.push(format!("ready after {}", seconds(ms)));
    }
    match (data["stages"].as_u64(), data["stages_cached"].as_u64()) {
        (Some(stages), Some(cached)) if cached > 0 => {
            facts.push(format!("{stages} stages, {cached} cached"));
        }
        (Some(stages), _) => facts.push(format!("{stages} stages")),
        _ => {}
    }
    if data["error"] == true {
        let class = text(data, "error.type").unwrap_or("unknown");
        let code = data["exit_code"].as_i64().map(|code| format!(", exit code {code}"));
        facts.push(format!("failed: {class}{}", code.unwrap_or_default()));
    }
    facts
}

fn seconds(ms: f64) -> String {
    format!("{:.1}s", ms / 1000.0)
}

fn text<'a>(data: &'a Value, field: &str) -> Option<&'a str> {
    data[field].as_str().filter(|text| !text.is_empty())
}

/// What this place's clock differs from UTC.
#[derive(Debug, Clone, Copy)]
enum Offset {
    Ahead(Duration),
    Behind(Duration),
}

/// std knows no time zones; `date` does. Where there is none, times are UTC.
fn local_offset() -> Offset {
    let printed = Command::new("date").arg("+%z").output();
    let printed = printed.map(|output| output.stdout).unwrap_or_default();
    parse_offset(&String::from_utf8_lossy(&printed)).unwrap_or(Offset::Ahead(Duration::ZERO))
}

/// `+0530`
fn parse_offset(text: &str) -> Option<Offset> {
    let text = text.trim();
    let minutes = |digits: &str| {
        let (hours, minutes) = digits.split_at_checked(2)?;
        let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
        Some(Duration::from_secs(seconds))
    };
    match text.split_at_checked(1)? {
        ("+", digits) => minutes(digits).map(Offset::Ahead),
        ("-", digits) => minutes(digits).map(Offset::Behind),
        _ => None,
    }
}

/// The time of day, to the millisecond.
fn clock(time: &str, offset: Offset) -> String {
    let Ok(at) = humantime::parse_rfc3339(time) else { return time.to_owned() };
    let local = match offset {
        Offset::Ahead(by) => at + by,
        Offset::Behind(by) => at.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    let text = humantime::format_rfc3339_millis(local).to_string();
    text.get(11..23).unwrap_or(time).to_owned()
}

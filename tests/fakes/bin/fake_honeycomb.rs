//! A program that receives and prints events, so that no Honeycomb account is needed. It runs the
//! fake Honeycomb API. It prints its URL, then a summary line for each event. `--json` prints
//! the events as JSON. `--port N` sets the port; the default is a free one.

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

/// A summary such as `16:22:07.934  dockerimage  web       1.7s, 3 steps`.
fn line(event: &Value, offset: Offset) -> String {
    let data = &event["data"];
    let subject = text(data, "name").or_else(|| text(data, "image_name")).unwrap_or_default();
    format!(
        "{}  {:<11}  {:<20}  {}",
        time_of_day(event["time"].as_str().unwrap_or_default(), offset),
        text(data, "kind").unwrap_or_default(),
        subject,
        details(data).join(", ")
    )
    .trim_end()
    .to_owned()
}

fn details(data: &Value) -> Vec<String> {
    let mut details = Vec::new();
    details.extend(text(data, "state").map(str::to_owned));
    for (field, name) in [("update_status", "update"), ("runtime_status", "runtime")] {
        details.extend(text(data, field).map(|status| format!("{name} {status}")));
    }
    for (field, name) in [
        ("resources_ok", "ok"),
        ("resources_error", "in error"),
        ("resources_pending", "pending"),
        ("resources_in_progress", "in progress"),
        ("missed_builds", "builds missed"),
    ] {
        let count = data[field].as_u64().filter(|count| *count > 0);
        details.extend(count.map(|count| format!("{count} {name}")));
    }
    details.extend(data["duration_ms"].as_f64().map(seconds));
    if let Some(ms) = data["time_to_ready_ms"].as_f64() {
        details.push(format!("ready after {}", seconds(ms)));
    }
    if let Some(ms) = data["time_to_healthy_ms"].as_f64() {
        details.push(format!("healthy after {}", seconds(ms)));
    }
    details.extend(text(data, "unready").map(|names| format!("not ready: {names}")));
    match (data["stages"].as_u64(), data["stages_cached"].as_u64()) {
        (Some(stages), Some(cached)) if cached > 0 => {
            details.push(format!("{stages} steps, {cached} cached"));
        }
        (Some(stages), _) => details.push(format!("{stages} steps")),
        _ => {}
    }
    if data["error"] == true {
        let class = text(data, "error.type").unwrap_or("unknown");
        let code = data["exit_code"].as_i64().map(|code| format!(", exit code {code}"));
        details.push(format!("failed: {class}{}", code.unwrap_or_default()));
    }
    details
}

fn seconds(ms: f64) -> String {
    format!("{:.1}s", ms / 1000.0)
}

fn text<'a>(data: &'a Value, field: &str) -> Option<&'a str> {
    data[field].as_str().filter(|text| !text.is_empty())
}

/// The difference between local time and UTC.
#[derive(Debug, Clone, Copy)]
enum Offset {
    Ahead(Duration),
    Behind(Duration),
}

/// Asks the program `date`, since std has no time zones. Without it, times are UTC.
fn local_offset() -> Offset {
    let printed = Command::new("date").arg("+%z").output();
    let printed = printed.map(|output| output.stdout).unwrap_or_default();
    parse_offset(&String::from_utf8_lossy(&printed)).unwrap_or(Offset::Ahead(Duration::ZERO))
}

/// Parses an offset such as `+0530`.
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

/// The local time of day with milliseconds. Returns `time` unchanged if it is not RFC 3339.
fn time_of_day(time: &str, offset: Offset) -> String {
    let Ok(at) = humantime::parse_rfc3339(time) else { return time.to_owned() };
    let local = match offset {
        Offset::Ahead(by) => at + by,
        Offset::Behind(by) => at.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH),
    };
    let text = humantime::format_rfc3339_millis(local).to_string();
    text.get(11..23).unwrap_or(time).to_owned()
}

//! Draws traces as text, similar to Honeycomb's trace view. `scripts/waterfall` runs it.
//! It reads events from stdin, one JSON object `{"time","data"}` per line, as `--dry-run` prints
//! them. `--all` draws short stages too.

#![expect(clippy::print_stderr, reason = "a command-line tool prints")]

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The width of the column of bars, in characters.
const COLUMNS: usize = 40;
/// A stage shorter than this fraction of its trace (1/100) is counted but not drawn.
const SHORT_STAGE: u32 = 100;

struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    starts: SystemTime,
    duration: Duration,
    is_stage: bool,
    notes: String,
}

fn main() -> ExitCode {
    let all_stages = env::args().skip(1).eq(["--all"]);
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => {
            // A reader such as `head` may close stdout early. That is not an error.
            let _ = writeln!(io::stdout(), "{}", draw(&text, all_stages).join("\n\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("waterfall: cannot read the events: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Draws each trace, ordered by start time.
fn draw(events: &str, all_stages: bool) -> Vec<String> {
    let mut spans: Vec<_> =
        events.lines().filter_map(|line| span(&serde_json::from_str(line).ok()?)).collect();
    spans.sort_by_key(|span| span.starts);
    let mut traces: Vec<&str> = Vec::new();
    for span in &spans {
        if !traces.contains(&span.trace.as_str()) {
            traces.push(&span.trace);
        }
    }
    traces
        .iter()
        .map(|trace| {
            let spans: Vec<_> = spans.iter().filter(|span| span.trace == *trace).collect();
            draw_trace(&spans, all_stages)
        })
        .collect()
}

fn span(event: &Value) -> Option<Span> {
    let data = &event["data"];
    let text = |field: &str| data[field].as_str().map(str::to_owned);
    let kind = data["kind"].as_str()?;
    let name = text("name").unwrap_or_default();
    let milliseconds = data["duration_ms"].as_f64().unwrap_or_default();
    Some(Span {
        trace: text("trace.trace_id")?,
        id: text("trace.span_id")?,
        parent: text("trace.parent_id"),
        name: match kind {
            "dockerimage" | "cmdimage" => format!("image {name}"),
            "rollout" => format!("rollout {name}"),
            _ => name,
        },
        starts: humantime::parse_rfc3339(event["time"].as_str()?).ok()?,
        duration: Duration::from_secs_f64(milliseconds / 1000.0),
        is_stage: kind == "dockerimage_stage",
        notes: notes(data),
    })
}

fn notes(data: &Value) -> String {
    let mut notes = Vec::new();
    if data["error"] == true {
        let class = data["error.type"].as_str().unwrap_or("unknown");
        let code = data["exit_code"].as_i64().map(|code| format!(", exit code {code}"));
        notes.push(format!("✗ {class}{}", code.unwrap_or_default()));
    }
    if data["kind"] == "rollout" && !matches!(data["outcome"].as_str(), Some("ready" | "failed")) {
        notes.push(data["outcome"].as_str().unwrap_or("unknown").to_owned());
    }
    // During a load of the Tiltfile Tilt shows every resource as waiting, which says nothing.
    if let Some(on) = data["waiting_on"].as_str()
        && data["waiting_reason"] != "tiltfile-reload"
    {
        notes.push(format!("waited for {on}"));
    }
    notes.join(", ")
}

fn draw_trace(spans: &[&Span], all_stages: bool) -> String {
    let begins = spans.iter().map(|span| span.starts).min().expect("a trace has spans");
    let ends =
        spans.iter().map(|span| span.starts + span.duration).max().expect("a trace has spans");
    let total = ends.duration_since(begins).unwrap_or_default();
    let is_shown =
        |span: &Span| all_stages || !span.is_stage || span.duration * SHORT_STAGE >= total;

    let is_child = |span: &&&Span| {
        span.parent.as_ref().is_some_and(|parent| spans.iter().any(|other| other.id == *parent))
    };
    let mut rows = Vec::new();
    for root in spans.iter().filter(|span| !is_child(span)) {
        add_subtree(root, 0, spans, &mut rows);
    }
    let hidden = rows.iter().filter(|(_, span)| !is_shown(span)).count();
    rows.retain(|(_, span)| is_shown(span));

    let label = |(depth, span): &(usize, &Span)| format!("{}{}", "  ".repeat(*depth), span.name);
    let width = rows.iter().map(|row| label(row).chars().count()).max().unwrap_or_default();
    let mut lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let span = row.1;
            let bar =
                bar(span.starts.duration_since(begins).unwrap_or_default(), span.duration, total);
            let seconds = format!("{:.2}s", span.duration.as_secs_f64());
            let line = format!("{:width$}  {bar}  {seconds:>7}  {}", label(row), span.notes);
            line.trim_end().to_owned()
        })
        .collect();
    if hidden > 0 {
        lines.push(format!("{:width$}  and {hidden} short stages", ""));
    }
    lines.join("\n")
}

/// Adds a span and its descendants to `rows`, each with its depth.
fn add_subtree<'a>(
    span: &'a Span,
    depth: usize,
    spans: &[&'a Span],
    rows: &mut Vec<(usize, &'a Span)>,
) {
    rows.push((depth, span));
    for child in spans.iter().filter(|other| other.parent.as_ref() == Some(&span.id)) {
        add_subtree(child, depth + 1, spans, rows);
    }
}

fn bar(offset: Duration, duration: Duration, total: Duration) -> String {
    let column = |time: Duration| {
        let share = time.as_nanos() * COLUMNS as u128 / total.as_nanos().max(1);
        usize::try_from(share).unwrap_or(COLUMNS).min(COLUMNS)
    };
    let from = column(offset).min(COLUMNS - 1);
    let to = column(offset + duration);
    let drawn = if to > from { "█".repeat(to - from) } else { "▏".to_owned() };
    format!("{}{drawn:<width$}", " ".repeat(from), width = COLUMNS - from)
}

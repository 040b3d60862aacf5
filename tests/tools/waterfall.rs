//! Draws traces as text, the way Honeycomb draws them as pictures: `scripts/waterfall` runs it.
//! It reads events from stdin, one JSON object `{"time","data"}` a line, as `--dry-run` prints them.
//! With `--all` it leaves no stage out.

#![expect(clippy::print_stderr, reason = "a command line talks")]

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The width of the bars' column.
const COLUMNS: usize = 40;
/// A stage that takes less of its trace than one in so many is only counted.
const SHORT: u32 = 100;

struct Span {
    trace: String,
    id: String,
    parent: Option<String>,
    name: String,
    starts: SystemTime,
    takes: Duration,
    is_stage: bool,
    remarks: String,
}

fn main() -> ExitCode {
    let with_all_stages = env::args().skip(1).eq(["--all"]);
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => {
            // Whoever closed stdout has seen enough.
            let _ = writeln!(io::stdout(), "{}", draw(&text, with_all_stages).join("\n\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("waterfall: cannot read the events: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A picture for each trace, in the order of their starts.
fn draw(events: &str, with_all_stages: bool) -> Vec<String> {
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
            picture(&spans, with_all_stages)
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
        name: if kind.ends_with("image") { format!("image {name}") } else { name },
        starts: humantime::parse_rfc3339(event["time"].as_str()?).ok()?,
        takes: Duration::from_secs_f64(milliseconds / 1000.0),
        is_stage: kind == "dockerimage_stage",
        remarks: remarks(data),
    })
}

fn remarks(data: &Value) -> String {
    let mut remarks = Vec::new();
    if data["error"] == true {
        let class = data["error.type"].as_str().unwrap_or("unknown");
        let code = data["exit_code"].as_i64().map(|code| format!(", exit code {code}"));
        remarks.push(format!("✗ {class}{}", code.unwrap_or_default()));
    }
    // While the Tiltfile loads, everything waits for everything.
    if let Some(on) = data["waiting_on"].as_str()
        && data["waiting_reason"] != "tiltfile-reload"
    {
        remarks.push(format!("waited for {on}"));
    }
    remarks.join(", ")
}

fn picture(spans: &[&Span], with_all_stages: bool) -> String {
    let begins = spans.iter().map(|span| span.starts).min().expect("a trace has spans");
    let ends = spans.iter().map(|span| span.starts + span.takes).max().expect("likewise");
    let whole = ends.duration_since(begins).unwrap_or_default();
    let is_shown = |span: &Span| with_all_stages || !span.is_stage || span.takes * SHORT >= whole;

    let is_child = |span: &&&Span| {
        span.parent.as_ref().is_some_and(|parent| spans.iter().any(|other| other.id == *parent))
    };
    let mut rows = Vec::new();
    for root in spans.iter().filter(|span| !is_child(span)) {
        below(root, 0, spans, &mut rows);
    }
    let left_out = rows.iter().filter(|(_, span)| !is_shown(span)).count();
    rows.retain(|(_, span)| is_shown(span));

    let label = |(depth, span): &(usize, &Span)| format!("{}{}", "  ".repeat(*depth), span.name);
    let width = rows.iter().map(|row| label(row).chars().count()).max().unwrap_or_default();
    let mut lines: Vec<_> = rows
        .iter()
        .map(|row| {
            let span = row.1;
            let bar =
                bar(span.starts.duration_since(begins).unwrap_or_default(), span.takes, whole);
            let seconds = format!("{:.2}s", span.takes.as_secs_f64());
            let line = format!("{:width$}  {bar}  {seconds:>7}  {}", label(row), span.remarks);
            line.trim_end().to_owned()
        })
        .collect();
    if left_out > 0 {
        lines.push(format!("{:width$}  and {left_out} short stages", ""));
    }
    lines.join("\n")
}

/// A span and what is below it, each with its depth.
fn below<'a>(span: &'a Span, depth: usize, spans: &[&'a Span], rows: &mut Vec<(usize, &'a Span)>) {
    rows.push((depth, span));
    for child in spans.iter().filter(|other| other.parent.as_ref() == Some(&span.id)) {
        below(child, depth + 1, spans, rows);
    }
}

fn bar(offset: Duration, takes: Duration, whole: Duration) -> String {
    let column = |time: Duration| {
        let share = time.as_nanos() * COLUMNS as u128 / whole.as_nanos().max(1);
        usize::try_from(share).unwrap_or(COLUMNS).min(COLUMNS)
    };
    let from = column(offset).min(COLUMNS - 1);
    let to = column(offset + takes);
    let drawn = if to > from { "█".repeat(to - from) } else { "▏".to_owned() };
    format!("{}{drawn:<width$}", " ".repeat(from), width = COLUMNS - from)
}

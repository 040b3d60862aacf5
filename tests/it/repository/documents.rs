//! Checks that the documents agree with the program and with each other.
//!
//! Some parts of the documents are generated. They stand between `<!-- NAME -->` and
//! `<!-- /NAME -->`. [`UPDATE`] regenerates them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tilt_honeycomb::events::event::EventKind;
use tilt_honeycomb::events::fields::{self, ALL, FIELDS, Field, SPANS, ValueType};
use tilt_honeycomb::honeycomb::queries::{
    Calculation, Combination, Filter, FilterValue, QUERIES, Query,
};
use tilt_honeycomb::summary::svg;
use tilt_honeycomb::summary::text::{TextLayout, text};

use super::tidy::{read, sources};
use crate::support::{PROGRAM, capture, recorded_start};

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test it documents";
const EVENTS: &str = "docs/events.md";
const OPERATIONS: &str = "docs/operations.md";
const RECORDING: &str = "bring-up/events.jsonl";

/// Held while a document is changed, because several tests change the same one.
static CHANGING: Mutex<()> = Mutex::new(());

/// The byte range between `<!-- NAME -->` and `<!-- /NAME -->`.
fn generated_part(document: &str, name: &str) -> std::ops::Range<usize> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = document.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let length = document[from..].find(&end).unwrap_or_else(|| panic!("no {end}"));
    from..from + length
}

/// Checks that a generated part of a document is `content`, or makes it so.
#[track_caller]
pub fn assert_current(path: &str, name: &str, content: &str) {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut document = read(path);
    let part = generated_part(&document, name);
    // Without blank lines around it, Markdown may read a table as part of the comment.
    let content = format!("\n{}\n\n", content.trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        if document[part.clone()] == content {
            // Another test may be reading the document.
            return;
        }
        document.replace_range(part, &content);
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), document).expect(path);
        return;
    }
    assert!(document[part] == content, "{name} in {path} is stale; run {UPDATE}\n{content}");
}

fn fenced(language: &str, text: &str) -> String {
    format!("```{language}\n{}\n```", text.trim_end())
}

/// The rows of all tables whose first cell is a code span: that text, and the other cells.
fn rows(document: &str) -> Vec<(String, Vec<String>)> {
    let cells = |line: &str| -> Option<(String, Vec<String>)> {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = line.split('|').map(|cell| cell.trim().to_owned());
        let first = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((first, cells.collect()))
    };
    document.lines().filter_map(cells).collect()
}

fn help() -> String {
    let output = Command::new(PROGRAM).arg("--help").output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn operations_show_the_current_help() {
    assert_current(OPERATIONS, "help", &fenced("text", help().trim()));
}

/// Checks that a generated file is `content`, or makes it so.
#[track_caller]
fn assert_file_is_current(path: &str, content: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), content).expect(path);
        return;
    }
    let current = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    assert!(current.is_ok_and(|current| current == content), "{path} is stale; run {UPDATE}");
}

/// A picture of the recorded start as the page of `summary` shows it, with a title and a background.
fn picture_of_the_start() -> String {
    const WIDTH: u32 = 880;
    const PADDING: u32 = 20;
    const HEADER: u32 = 58;
    let summary = recorded_start();
    let waterfall = svg::element(&summary.waterfall, WIDTH - 2 * PADDING);
    let (_, height) = waterfall.split_once(" height=\"").expect("a height");
    let height: u32 = height.split('"').next().expect("a number").parse().expect("a number");
    let height = HEADER + height + PADDING;
    let title = format!("time to healthy: {}", summary.time_to_healthy());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"waterfall\" width=\"{WIDTH}\" \
         height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{style}.page{{fill:var(--page)}}.title{{font-size:15px;font-weight:600}}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"{PADDING}\" y=\"28\">{title}</text>\n\
         <text class=\"muted\" x=\"{PADDING}\" y=\"46\">{headline}</text>\n\
         <g transform=\"translate({PADDING} {HEADER})\">\n{waterfall}</g>\n</svg>\n",
        style = svg::STYLE,
        headline = summary.headline(),
    )
}

#[test]
fn the_picture_shows_the_recorded_start() {
    assert_file_is_current("docs/start.svg", &picture_of_the_start());
    assert!(read("README.md").contains("(docs/start.svg)"), "README.md shows the picture");
}

#[test]
fn readme_shows_a_summary_of_the_recorded_start() {
    let layout = TextLayout { width: 96, height: Some(30), color: false };
    let drawn = text(&recorded_start(), layout);
    assert_current("README.md", "summary", &fenced("text", &drawn));
}

#[test]
fn operations_explain_every_exit_code() {
    let help = help();
    let (_, codes) = help.split_once("\nError codes:\n").expect("the codes of the help");
    let code = |line: &str| line.trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    let codes: Vec<_> = codes.lines().map_while(code).collect();
    let explained: Vec<_> = rows(&read(OPERATIONS))
        .into_iter()
        .filter(|(first, _)| first.parse::<u8>().is_ok())
        .map(|(code, cells)| (code, cells[0].clone()))
        .collect();
    assert_eq!(codes.len(), 6, "{help}");
    assert_eq!(explained, codes);
}

#[test]
fn quoted_messages_exist_in_the_program() {
    let operations = read(OPERATIONS);
    let sources: String = sources().iter().map(|path| read(&format!("src/{path}"))).collect();
    // A long text is split over several lines of source.
    let words =
        |text: &str| text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ");
    let sources =
        words(&(read("scripts/extension/Tiltfile") + &read("scripts/extension/run") + &sources));
    let messages = rows(&operations[generated_part(&operations, "messages")]);
    assert!(!messages.is_empty());
    for (message, _) in messages {
        for piece in message
            .split("...")
            .map(|piece| piece.trim_matches([' ', ':']))
            .filter(|piece| !piece.is_empty())
        {
            assert!(sources.contains(piece), "{OPERATIONS} quotes {piece:?}: no such message");
        }
    }
}

/// The paths of the files in a folder of this repository.
fn files_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect(folder);
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The sections of `docs/events.md`, and the fields that each of them lists.
const SECTIONS: &[(&str, &[EventKind])] = &[
    ("update", &[EventKind::Update]),
    ("rollout", &[EventKind::Rollout]),
    ("dockerimage cmdimage", &[EventKind::DockerImage, EventKind::CmdImage]),
    ("dockerimage_stage", &[EventKind::DockerImageStage]),
    ("startup", &[EventKind::Startup]),
    ("uiresource", &[EventKind::UiResource]),
    ("session", &[EventKind::Session]),
    ("failure", &[]),
    ("span", &[]),
    ("all", &[]),
    ("ci", &[]),
    ("vcs", &[]),
];

/// The section of a field that does not belong to single kinds of events.
fn common_section(field: &Field) -> Option<&'static str> {
    match field.name.split('.').next().unwrap_or_default() {
        "error" | "exit_code" => Some("failure"),
        "ci" | "cicd" => Some("ci"),
        "vcs" => Some("vcs"),
        _ if field.kinds == SPANS => Some("span"),
        _ if field.kinds == ALL || field.name == "name" => Some("all"),
        _ => None,
    }
}

fn field_row(field: &Field) -> String {
    let Field { name, meaning, example, .. } = field;
    let (kinds, value_type) = (kinds_in_words(field.kinds), field.value_type.as_str());
    let unit = field.unit.unwrap_or_default();
    format!("| `{name}` | {kinds} | {value_type} | {unit} | {meaning} | `{example}` |")
}

fn kinds_in_words(kinds: &[EventKind]) -> String {
    let others: Vec<_> = ALL.iter().filter(|kind| !kinds.contains(kind)).collect();
    match others[..] {
        [] => "all".to_owned(),
        [other] => format!("all except `{}`", other.as_str()),
        _ if kinds == SPANS => "all spans".to_owned(),
        _ => kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn events_list_the_current_fields() {
    let kinds: Vec<_> = SECTIONS.iter().flat_map(|(_, kinds)| *kinds).copied().collect();
    assert_eq!(kinds, ALL, "each kind has one section");
    for (section, kinds) in SECTIONS {
        let mut table = "| field | kinds | type | unit | meaning | example |\n".to_owned();
        table.push_str("|---|---|---|---|---|---|\n");
        for field in FIELDS {
            let belongs = match common_section(field) {
                Some(common) => common == *section,
                None => kinds.iter().any(|kind| field.kinds.contains(kind)),
            };
            if belongs {
                table.push_str(&field_row(field));
                table.push('\n');
            }
        }
        assert_current(EVENTS, &format!("fields: {section}"), &table);
    }
}

#[test]
fn events_explain_every_field() {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = rows(&read(EVENTS));
    let is_missing = |name: &&str| !rows.iter().any(|(first, _)| first == name);
    let missing: Vec<_> = FIELDS.iter().map(|field| field.name).filter(is_missing).collect();
    assert_eq!(missing, [""; 0]);
}

fn recorded_events() -> Vec<Value> {
    let recording = fs::read_to_string(capture(RECORDING)).expect("the recording");
    recording.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn events_show_a_recorded_event() {
    let last = recorded_events().pop().expect("an event");
    let shown = serde_json::to_string_pretty(&last).expect("JSON");
    assert_current(EVENTS, "example", &fenced("json", &shown));
}

/// Checks one event against the list: each field is one of its kind and has the listed type.
fn assert_is_listed(event: &Value) {
    let kind = &event["data"]["kind"];
    for (name, value) in event["data"].as_object().expect("fields") {
        let field = fields::find(name).unwrap_or_else(|| panic!("{name} is not listed: {event}"));
        assert!(field.kinds.iter().any(|listed| kind == listed.as_str()), "{name}: {event}");
        let is_placeholder = value.as_str().is_some_and(|text| text.starts_with('<'));
        let is_of_type = match field.value_type {
            ValueType::Text => value.is_string(),
            ValueType::Number => value.is_number(),
            ValueType::Boolean => value.is_boolean(),
        };
        assert!(is_of_type || is_placeholder, "{name} is not a {:?}: {event}", field.value_type);
    }
}

#[test]
fn real_events_carry_only_fields_of_their_kind() {
    let mut events = recorded_events();
    for path in files_in("tests/expect") {
        let text = fs::read_to_string(path).expect("an expectation");
        events.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    events.iter().for_each(assert_is_listed);
    let seen: BTreeSet<_> = events.iter().filter_map(|e| e["data"]["kind"].as_str()).collect();
    assert_eq!(seen, ALL.iter().map(|kind| kind.as_str()).collect());
}

/// A query as a person builds it in Honeycomb.
fn query_row(query: &Query) -> String {
    let filter = |filter: &Filter| match filter.is {
        FilterValue::Text(text) => format!("{} = {text}", filter.column),
        FilterValue::OneOf(texts) => format!("{} in {}", filter.column, texts.join(", ")),
        FilterValue::True => format!("{} = true", filter.column),
        FilterValue::False => format!("{} = false", filter.column),
        FilterValue::Exists => format!("{} exists", filter.column),
        FilterValue::Positive => format!("{} > 0", filter.column),
    };
    let calculation = |Calculation { op, column }: &Calculation| match column {
        Some(column) => format!("{op}({column})"),
        None => (*op).to_owned(),
    };
    let code = |texts: Vec<String>, between: &str| {
        texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(between)
    };
    let or = if query.combination == Combination::Any { " or " } else { ", " };
    let (name, question) = (query.name, query.question);
    let filters = code(query.filters.iter().map(filter).collect(), or);
    let calculations = code(query.calculations.iter().map(calculation).collect(), ", ");
    let groups = code(query.breakdowns.iter().map(|&name| name.to_owned()).collect(), ", ");
    format!("| {name} | {question} | {filters} | {calculations} | {groups} |")
}

#[test]
fn queries_are_current() {
    let mut table = "| query | question | `WHERE` | `VISUALIZE` | `GROUP BY` |\n".to_owned();
    table.push_str("|---|---|---|---|---|\n");
    let rows: Vec<_> = QUERIES.iter().map(query_row).collect();
    table.push_str(&rows.join("\n"));
    assert_current("docs/queries.md", "queries", &table);
}

#[test]
fn readme_is_short_and_begins_with_the_status() {
    let readme = read("README.md");
    assert!(readme.len() <= 15_000, "README.md has {} bytes; move text to docs/", readme.len());
    let first_screen: Vec<_> = readme.lines().take(30).collect();
    let status = first_screen.iter().position(|line| *line == "## Status").expect("a status");
    // The status ends where the next section begins.
    let ends = |line: &&str| line.starts_with("## ");
    assert!(first_screen[status + 1..].iter().any(ends), "the status is not within 30 lines");
}

/// The documents whose links are checked: their paths from the repository's root.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    paths.extend(files_in("docs"));
    paths
}

/// The lines of a document that are not code.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of all `[text](target)` in a document.
fn links(document: &str) -> Vec<String> {
    let targets = |line: &str| -> Vec<String> {
        let ends = line.split("](").skip(1);
        ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    };
    prose(document).flat_map(targets).collect()
}

/// The anchors that GitHub gives to the headings of a document.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    let headings =
        prose(document).filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let mut anchor = |heading: &str| {
        let keeps = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let text: String = heading.to_lowercase().chars().filter(keeps).collect();
        let text = text.trim().replace(' ', "-");
        let count = counts.entry(text.clone()).or_default();
        *count += 1;
        if *count == 1 { text } else { format!("{text}-{}", *count - 1) }
    };
    headings.map(&mut anchor).collect()
}

/// Why a link of a document leads nowhere; `None` for a good link and for one to another site.
fn broken(document: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => document.to_owned(),
        file => document.parent().expect("a folder").join(file),
    };
    if !target.exists() {
        return Some(format!("{}: {link}: no such file", document.display()));
    }
    let leads_there = anchor.is_empty()
        || fs::read_to_string(target).is_ok_and(|text| anchors(&text).contains(anchor));
    (!leads_there).then(|| format!("{}: {link}: no such heading", document.display()))
}

#[test]
fn every_relative_link_resolves() {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    let mut all_broken = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let links = links(&text);
        count += links.len();
        all_broken.extend(links.iter().filter_map(|link| broken(&path, link)));
    }
    assert_eq!(all_broken, [""; 0]);
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn anchors_are_those_of_github() {
    let document = "# A `code_span` & more\n## Twice\n```sh\n# no heading\n```\n## Twice\n";
    let expected = ["a-code_span--more", "twice", "twice-1"];
    assert_eq!(anchors(document), expected.map(str::to_owned).into());
}

//! What the files say of each other.

use std::fs;
use std::path::Path;
use std::process::Command;

use tilt_honeycomb::events::event;
use tilt_honeycomb::exit_code;
use tilt_honeycomb::honeycomb::queries::{Calculation, Combination, Filter, FilterValue, QUERIES};

use crate::support::sandbox::{Sandbox, capture, test_tool};

fn read(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{}: {error}", whole.display()))
}

/// Every source file of the program, as its path below `src`.
fn sources() -> Vec<String> {
    fn collect(folder: &Path, prefix: &str, paths: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let entry = entry.expect("an entry");
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{path}/"), paths);
            } else {
                paths.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut paths);
    paths.sort();
    paths
}

/// The program's files whose code, not counting comments, holds one of these phrases.
fn sources_with(phrases: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = sources()
        .into_iter()
        .filter(|name| {
            let source = read(&format!("src/{name}"));
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            code.into_iter().any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
        })
        .collect();
    names.sort();
    names
}

#[test]
fn one_file_runs_tilt_one_runs_git_and_one_speaks_http() {
    assert_eq!(sources_with(&["use duct", "duct::"]), ["base/child.rs", "tilt/process.rs"]);
    assert_eq!(sources_with(&["\"git\""]), ["metadata/git.rs"]);
    assert_eq!(sources_with(&["use ureq", "ureq::"]), ["honeycomb/client.rs"]);
}

#[test]
fn nothing_is_left_to_be_done() {
    assert_eq!(sources_with(&["todo!", "unimplemented!", "dbg!", "FIXME", "TODO"]), [""; 0]);
}

/// The README's fenced block after `marker`.
fn block_after<'a>(readme: &'a str, marker: &str) -> &'a str {
    let after = readme.split_once(marker).unwrap_or_else(|| panic!("no {marker}")).1;
    let (_, fenced) = after.split_once("```").expect("a fenced block");
    // The opening fence may name a language.
    let (_, body) = fenced.split_once('\n').expect("a block of lines");
    body.split_once("\n```").expect("the end of the block").0
}

/// The rows of all tables whose first cell is a code span: that text, and the other cells.
fn rows(readme: &str) -> Vec<(String, Vec<String>)> {
    let cells = |line: &str| -> Option<(String, Vec<String>)> {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = line.split('|').map(|cell| cell.trim().to_owned());
        let first = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((first, cells.collect()))
    };
    readme.lines().filter_map(cells).collect()
}

#[test]
fn the_readme_shows_the_help_as_it_is() {
    let help = Sandbox::new().run("--help").finish().exits_with(0).stdout;
    assert_eq!(block_after(&read("README.md"), "<!-- help -->").trim(), help.trim());
}

#[test]
fn the_readme_shows_the_traces_that_were_recorded() {
    let events = fs::File::open(capture("bring-up/events.jsonl")).expect("the recording");
    let output = Command::new(test_tool("waterfall")).stdin(events).output().expect("it runs");
    let drawn = String::from_utf8(output.stdout).expect("text");
    assert_eq!(block_after(&read("README.md"), "<!-- waterfall -->").trim(), drawn.trim());
}

#[test]
fn the_readme_explains_every_exit_code() {
    let rows = rows(&read("README.md"));
    for (code, meaning) in exit_code::TABLE {
        let code = *code as u8;
        let row = rows.iter().find(|(first, _)| *first == code.to_string());
        let (_, cells) = row.unwrap_or_else(|| panic!("no row for {code}"));
        assert!(cells[0].starts_with(meaning), "{code}: {cells:?}");
    }
}

#[test]
fn the_readme_explains_every_field() {
    let rows = rows(&read("README.md"));
    let is_missing = |name: &&str| !rows.iter().any(|(first, _)| first == name);
    let missing: Vec<_> = event::FIELDS.iter().map(|(name, _)| *name).filter(is_missing).collect();
    assert_eq!(missing, [""; 0]);
}

/// A query as the person builds it in Honeycomb.
fn query_row(query: &tilt_honeycomb::honeycomb::queries::Query) -> String {
    let filter = |filter: &Filter| match filter.is {
        FilterValue::Text(text) => format!("{} = {text}", filter.column),
        FilterValue::OneOf(texts) => format!("{} in {}", filter.column, texts.join(", ")),
        FilterValue::True => format!("{} = true", filter.column),
        FilterValue::False => format!("{} = false", filter.column),
        FilterValue::Zero => format!("{} = 0", filter.column),
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
    format!("| {name}: {question} | {filters} | {calculations} | {groups} |")
}

#[test]
fn the_readme_lists_the_queries() {
    let readme = read("README.md");
    let (_, after) = readme.split_once("<!-- queries -->").expect("the queries");
    let table: Vec<_> =
        after.lines().skip(1).skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let rows: Vec<_> = QUERIES.iter().map(query_row).collect();
    assert_eq!(table[..rows.len()], rows, "{}", rows.join("\n"));
    assert_eq!(table[rows.len()], "");
}

#[test]
fn the_changelog_has_the_current_version() {
    let heading = concat!("## ", env!("CARGO_PKG_VERSION"));
    let changelog = read("CHANGELOG.md").replace(['[', ']'], "");
    assert!(changelog.lines().any(|line| line.starts_with(heading)), "no {heading:?}");
}

#[test]
fn every_recorded_answer_is_one_that_a_test_may_publish() {
    // Recorded paths were renamed; none of a real person's home may come in with a new one.
    fn search(folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                search(&path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for place in ["/home/", "/Users/", "/root/"] {
                let names = text.split(place).skip(1).map(|rest| &rest[..rest.len().min(4)]);
                let strangers: Vec<_> = names.filter(|name| *name != "dev/").collect();
                assert_eq!(strangers, [""; 0], "{place} in {}", path.display());
            }
        }
    }
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures"));
}

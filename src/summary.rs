//! What `tilt ci` did, as a person reads it in the job's log: each resource with how it ended and
//! how long its last update took, slowest first. As text and as Markdown. Pure.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::derive::Standing;
use crate::model::{Outcome, Resource, Snapshot};

/// A job's page takes no more than 1 MB.
const ROWS: usize = 200;
const BAR: u128 = 20;

#[derive(Debug, PartialEq)]
pub struct Summary {
    outcome: Option<Outcome>,
    took: Option<Duration>,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    outcome: &'static str,
    took: Option<Duration>,
}

impl Summary {
    /// Of a run that ended `at`.
    pub fn of(snapshot: &Snapshot, outcome: Option<Outcome>, at: SystemTime) -> Self {
        let started_at = snapshot.session.as_ref().and_then(|s| s.tilt_started_at.as_ref());
        let mut rows: Vec<_> = snapshot.resources.iter().map(|r| row(r, at)).collect();
        rows.sort_by(|a, b| b.took.cmp(&a.took).then_with(|| a.name.cmp(&b.name)));
        Self {
            outcome,
            took: started_at.and_then(|started| at.duration_since(started.at).ok()),
            rows,
        }
    }

    fn heading(&self) -> String {
        let took = self.took.map_or_else(String::new, |took| format!(", {}", seconds(took)));
        format!("tilt ci: {}{took}", self.outcome.map_or("outcome unknown", Outcome::as_str))
    }

    pub fn text(&self, link: Option<&str>) -> String {
        let mut text = format!("{}\n", self.heading());
        let rows = &self.rows[..self.rows.len().min(ROWS)];
        let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for Row { name, outcome, took } in rows {
            let took = took.map_or_else(|| "-".to_owned(), seconds);
            let _ = writeln!(text, "  {name:longest$}  {outcome:11}  {took:>9}");
        }
        text.push_str(&self.left_out(""));
        if let Some(link) = link {
            let _ = writeln!(text, "trace: {link}");
        }
        text
    }

    pub fn markdown(&self, link: Option<&str>) -> String {
        let mut text = format!("### {}\n\n", self.heading());
        text.push_str("| resource | outcome | duration | |\n|---|---|---:|:---|\n");
        let longest = self.rows.iter().filter_map(|row| row.took).max().unwrap_or_default();
        for Row { name, outcome, took } in self.rows.iter().take(ROWS) {
            let bar = took.map_or_else(String::new, |took| bar(took, longest));
            let took = took.map_or_else(String::new, seconds);
            let _ = writeln!(text, "| {} | {outcome} | {took} | {bar} |", escaped(name));
        }
        text.push_str(&self.left_out("\n"));
        if let Some(link) = link {
            let _ = writeln!(text, "\n[The trace in Honeycomb]({link})");
        }
        text.push('\n');
        text
    }

    fn left_out(&self, before: &str) -> String {
        match self.rows.len().saturating_sub(ROWS) {
            0 => String::new(),
            more => format!("{before}and {more} more\n"),
        }
    }
}

fn row(resource: &Resource, at: SystemTime) -> Row {
    let current = resource.current_update.as_ref();
    let under_way = current.and_then(|current| at.duration_since(current.started_at.at).ok());
    let newest = resource.updates.first().filter(|_| !resource.only_serves());
    let finished = newest.and_then(|update| update.finished_at.since(&update.started_at));
    Row {
        name: resource.name.chars().filter(|c| !c.is_control()).collect(),
        outcome: outcome(resource),
        took: under_way.or(finished),
    }
}

fn outcome(resource: &Resource) -> &'static str {
    match Standing::of(resource) {
        Standing::Disabled => "disabled",
        Standing::Error => "failed",
        Standing::InProgress | Standing::Pending => "unfinished",
        Standing::Ok if resource.update_status.as_deref() == Some("none") => "not run",
        Standing::Ok => "ok",
    }
}

fn seconds(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    let (minutes, tenths) = (tenths / 600, tenths % 600);
    let seconds = format!("{}.{}s", tenths / 10, tenths % 10);
    if minutes == 0 { seconds } else { format!("{minutes}m {seconds}") }
}

/// As long as `took` is beside the longest; the least is one mark.
fn bar(took: Duration, longest: Duration) -> String {
    let marks = (took.as_millis() * BAR).div_ceil(longest.as_millis().max(1));
    "█".repeat(usize::try_from(marks.clamp(1, BAR)).unwrap_or(1))
}

/// Markdown would take these for its own.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            letter => {
                if "\\|`*_[]()~#!".contains(letter) {
                    escaped.push('\\');
                }
                escaped.push(letter);
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CurrentUpdate, ResourceType, Session, Timestamp, Update};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2026-11-22T15:{text}Z")).expect(text)
    }

    fn resource(name: &str, status: &str, took: &str) -> Resource {
        let update = Update {
            span_id: "build:1".into(),
            started_at: at("00:00"),
            finished_at: at(took),
            error: None,
            warnings: 0,
        };
        Resource {
            name: name.into(),
            resource_type: Some(ResourceType::Local),
            update_status: Some(status.into()),
            updates: vec![update],
            ..Resource::default()
        }
    }

    fn summary() -> Summary {
        let mut building = resource("building", "in_progress", "00:01");
        building.current_update =
            Some(CurrentUpdate { span_id: "build:2".into(), started_at: at("01:00") });
        let session = Session { tilt_started_at: Some(at("00:00")), ..Session::default() };
        let snapshot = Snapshot {
            session: Some(session),
            resources: vec![
                resource("a|b", "error", "00:10.25"),
                building,
                resource("serves", "not_applicable", "00:00.1"),
                resource("web", "ok", "00:40"),
            ],
            ..Snapshot::default()
        };
        Summary::of(&snapshot, Some(Outcome::Failure), at("01:05").at)
    }

    #[test]
    fn the_slowest_comes_first_and_columns_line_up() {
        assert_eq!(
            summary().text(Some("https://ui.honeycomb.io/x")),
            "tilt ci: failure, 1m 5.0s\n\
             \u{20} web       ok               40.0s\n\
             \u{20} a|b       failed           10.3s\n\
             \u{20} building  unfinished        5.0s\n\
             \u{20} serves    ok                   -\n\
             trace: https://ui.honeycomb.io/x\n"
        );
    }

    #[test]
    fn markdown_shows_each_duration_as_a_bar() {
        assert_eq!(
            summary().markdown(None),
            "### tilt ci: failure, 1m 5.0s\n\n\
             | resource | outcome | duration | |\n|---|---|---:|:---|\n\
             | web | ok | 40.0s | ████████████████████ |\n\
             | a\\|b | failed | 10.3s | ██████ |\n\
             | building | unfinished | 5.0s | ███ |\n\
             | serves | ok |  |  |\n\n"
        );
    }

    #[test]
    fn a_crowd_is_cut() {
        let resources = (0..500).map(|n| resource(&format!("r{n}"), "ok", "00:01")).collect();
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at);
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains("outcome unknown") && text.contains("and 300 more"), "{text}");
        }
    }
}

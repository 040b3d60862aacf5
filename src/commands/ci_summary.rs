//! The table of a `tilt ci` for people: each resource with its outcome and the duration of its last
//! update, as text for the job's log and as Markdown. Failed resources come first, then the slowest.
//! Pure.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::base::text::one_line;
use crate::tilt::health::Health;
use crate::tilt::model::{Outcome, Resource, Snapshot};

/// Rows of the table. GitHub accepts a summary of at most 1 MiB
/// (<https://docs.github.com/actions/using-workflows/workflow-commands-for-github-actions>).
const MAX_ROWS: usize = 200;
/// Characters of the longest bar.
const BAR_WIDTH: u128 = 20;
/// Characters of a resource's name. A longer one would push the columns off the page, and `fmt` pads
/// to at most 65,535.
const MAX_NAME: usize = 100;
/// Resources that the note about unfinished ones names.
const MAX_NOTED: usize = 3;
const FAILED: &str = "failed";
const UNFINISHED: &str = "unfinished";

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
    /// Summarizes a run that ended at `ended_at`. `outcome` is `None` if it is unknown.
    pub fn of(snapshot: &Snapshot, outcome: Option<Outcome>, ended_at: SystemTime) -> Self {
        let started_at = snapshot.session.as_ref().and_then(|s| s.tilt_started_at.as_ref());
        let row = |resource| Row::of(resource, outcome, ended_at);
        let mut rows: Vec<_> = snapshot.resources.iter().map(row).collect();
        rows.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        Self {
            outcome,
            took: started_at.and_then(|started| ended_at.duration_since(started.at).ok()),
            rows,
        }
    }

    fn heading(&self) -> String {
        let took = self.took.map_or_else(String::new, |took| format!(", {}", seconds(took)));
        format!("tilt ci: {}{took}", self.outcome.map_or("outcome unknown", Outcome::as_str))
    }

    /// The table as aligned text. `link` leads to the run's trace.
    pub fn text(&self, link: Option<&str>) -> String {
        let mut text = format!("{}\n", self.heading());
        let rows = &self.rows[..self.rows.len().min(MAX_ROWS)];
        let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for Row { name, outcome, took } in rows {
            let took = took.map_or_else(|| "-".to_owned(), seconds);
            let _ = writeln!(text, "  {name:longest$}  {outcome:11}  {took:>9}");
        }
        if let Some(count) = self.omitted_rows() {
            let _ = writeln!(text, "and {count} more");
        }
        if let Some(note) = self.note() {
            let _ = writeln!(text, "{note}");
        }
        if let Some(link) = link {
            let _ = writeln!(text, "view in Honeycomb: {link}");
        }
        text
    }

    /// The table as Markdown, with a bar for each duration. `link` leads to the run's trace.
    pub fn markdown(&self, link: Option<&str>) -> String {
        let mut text = format!("### {}\n\n", self.heading());
        text.push_str("| resource | outcome | duration | |\n|---|---|---:|:---|\n");
        let longest = self.rows.iter().filter_map(|row| row.took).max().unwrap_or_default();
        for Row { name, outcome, took } in self.rows.iter().take(MAX_ROWS) {
            let bar = took.map_or_else(String::new, |took| bar(took, longest));
            let took = took.map_or_else(String::new, seconds);
            let _ = writeln!(text, "| {} | {outcome} | {took} | {bar} |", escaped(name));
        }
        if let Some(count) = self.omitted_rows() {
            let _ = writeln!(text, "\nand {count} more");
        }
        if let Some(note) = self.note() {
            let _ = writeln!(text, "\n{}", escaped(&note));
        }
        if let Some(link) = link {
            let _ = writeln!(text, "\n[View the trace in Honeycomb]({link})");
        }
        text.push('\n');
        text
    }

    fn omitted_rows(&self) -> Option<usize> {
        self.rows.len().checked_sub(MAX_ROWS).filter(|count| *count > 0)
    }

    /// Names what the snapshot does not show, and how to report the outcome if that is unknown.
    fn note(&self) -> Option<String> {
        let unfinished = self.rows.iter().filter(|row| row.outcome == UNFINISHED);
        let names: Vec<_> = unfinished.map(|row| row.name.as_str()).collect();
        if names.is_empty() && self.outcome.is_some() {
            return None;
        }
        let what = match names.len() {
            0 => "tilt ci".to_owned(),
            1..=MAX_NOTED => names.join(", "),
            count => {
                format!("{} and {} more", names[..MAX_NOTED].join(", "), count - MAX_NOTED)
            }
        };
        let advice = match self.outcome {
            Some(_) => "",
            None => {
                "; pass the exit code of tilt ci with --outcome, or run the collector beside it"
            }
        };
        Some(format!("the snapshot does not show how {what} ended{advice}"))
    }
}

impl Row {
    fn of(resource: &Resource, run: Option<Outcome>, ended_at: SystemTime) -> Self {
        let current = resource.current_update.as_ref();
        let so_far =
            current.and_then(|current| ended_at.duration_since(current.started_at.at).ok());
        let newest = resource.updates.first().filter(|_| !resource.only_serves());
        let finished = newest.and_then(|update| update.finished_at.since(&update.started_at));
        Self {
            name: one_line(&resource.name, MAX_NAME),
            outcome: outcome(resource, run),
            took: so_far.or(finished),
        }
    }

    fn sort_key(&self) -> (bool, Reverse<Option<Duration>>, &str) {
        (self.outcome != FAILED, Reverse(self.took), &self.name)
    }
}

/// The outcome of a resource in a run that ended with `run`.
fn outcome(resource: &Resource, run: Option<Outcome>) -> &'static str {
    match Health::of(resource) {
        Health::Disabled => "disabled",
        Health::Error => FAILED,
        // A run succeeds only if every resource did, even if the snapshot was written too early to
        // show that.
        Health::InProgress | Health::Pending if run == Some(Outcome::Success) => "ok",
        Health::InProgress | Health::Pending => UNFINISHED,
        Health::Idle => "not run",
        Health::Ok => "ok",
    }
}

fn seconds(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    let (minutes, tenths) = (tenths / 600, tenths % 600);
    let seconds = format!("{}.{}s", tenths / 10, tenths % 10);
    if minutes == 0 { seconds } else { format!("{minutes}m {seconds}") }
}

/// A bar as long as `took` in proportion to the longest duration, and at least one character.
fn bar(took: Duration, longest: Duration) -> String {
    let length = (took.as_millis() * BAR_WIDTH).div_ceil(longest.as_millis().max(1));
    "█".repeat(usize::try_from(length.clamp(1, BAR_WIDTH)).unwrap_or(1))
}

/// `text` without characters that Markdown would interpret. GitHub also links bare addresses, issues
/// and mentions, and an empty comment within them prevents that. `$` starts a formula unless it is
/// in a `span`
/// (<https://docs.github.com/get-started/writing-on-github/working-with-advanced-formatting/writing-mathematical-expressions>).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '$' => escaped.push_str("<span>$</span>"),
            // In front of the dot, it splits `www.`.
            '.' => escaped.push_str("<!-- -->."),
            ':' | '@' => {
                escaped.push(letter);
                escaped.push_str("<!-- -->");
            }
            '#' => escaped.push_str("\\#<!-- -->"),
            letter => {
                if "\\|`*_[]()~!".contains(letter) {
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
    use crate::tilt::model::{CurrentUpdate, ResourceType, Session, Timestamp, Update};

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

    fn summary(outcome: Option<Outcome>) -> Summary {
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
        Summary::of(&snapshot, outcome, at("01:05").at)
    }

    #[test]
    fn failed_resources_come_first_then_the_slowest() {
        assert_eq!(
            summary(Some(Outcome::Failure)).text(Some("https://ui.honeycomb.io/x")),
            "tilt ci: failure, 1m 5.0s\n\
             \u{20} a|b       failed           10.3s\n\
             \u{20} web       ok               40.0s\n\
             \u{20} building  unfinished        5.0s\n\
             \u{20} serves    ok                   -\n\
             the snapshot does not show how building ended\n\
             view in Honeycomb: https://ui.honeycomb.io/x\n"
        );
    }

    #[test]
    fn markdown_shows_each_duration_as_a_bar() {
        assert_eq!(
            summary(Some(Outcome::Failure)).markdown(None),
            "### tilt ci: failure, 1m 5.0s\n\n\
             | resource | outcome | duration | |\n|---|---|---:|:---|\n\
             | a\\|b | failed | 10.3s | ██████ |\n\
             | web | ok | 40.0s | ████████████████████ |\n\
             | building | unfinished | 5.0s | ███ |\n\
             | serves | ok |  |  |\n\n\
             the snapshot does not show how building ended\n\n"
        );
    }

    #[test]
    fn markdown_in_a_name_stays_text() {
        for (name, expected) in [
            ("[a](b)", "\\[a\\]\\(b\\)"),
            ("https://x", "https:<!-- -->//x"),
            ("www.x", "www<!-- -->.x"),
            ("@ann #1", "@<!-- -->ann \\#<!-- -->1"),
            ("$x$", "<span>$</span>x<span>$</span>"),
            ("<b>&", "&lt;b>&amp;"),
        ] {
            assert_eq!(escaped(name), expected);
        }
    }

    #[test]
    fn every_resource_of_a_successful_run_is_ok() {
        let text = summary(Some(Outcome::Success)).text(None);
        assert!(text.contains("building  ok                5.0s"), "{text}");
        assert!(!text.contains("unfinished") && !text.contains("the snapshot"), "{text}");
    }

    #[test]
    fn a_note_says_why_the_outcome_is_unknown_and_what_to_do() {
        let busy = |count| (0..count).map(|n| resource(&format!("_{n}"), "pending", "00:01"));
        for (count, unknown) in
            [(0, "tilt ci"), (1, "_0"), (3, "_0, _1, _2"), (5, "_0, _1, _2 and 2 more")]
        {
            let snapshot = Snapshot { resources: busy(count).collect(), ..Snapshot::default() };
            let summary = Summary::of(&snapshot, None, at("01:00").at);
            let note = format!(
                "the snapshot does not show how {unknown} ended; pass the exit code of tilt ci \
                 with --outcome, or run the collector beside it\n"
            );
            assert!(summary.text(None).ends_with(&note), "{}", summary.text(None));
            let note = format!("\n\n{}\n", note.replace('_', "\\_"));
            assert!(summary.markdown(None).ends_with(&note), "{}", summary.markdown(None));
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let resources = vec![resource(&"n".repeat(100_000), "ok", "00:01")];
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at);
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains(&"n".repeat(MAX_NAME)) && text.len() < 1000, "{text}");
        }
    }

    #[test]
    fn a_long_table_is_cut() {
        let resources = (0..500).map(|n| resource(&format!("r{n}"), "ok", "00:01")).collect();
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at);
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains("outcome unknown") && text.contains("and 300 more"), "{text}");
        }
    }
}

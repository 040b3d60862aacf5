//! What `tilt ci` did, as a person reads it in the job's log: each resource with how it ended and
//! how long its last update took: what failed, then what took longest. As text and as Markdown. Pure.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::base::text::one_line;
use crate::tilt::health::Health;
use crate::tilt::model::{Outcome, Resource, Snapshot};

/// A job's page takes no more than 1 MB.
const ROWS: usize = 200;
const BAR: u128 = 20;
/// More would push the columns off the page, and `fmt` pads to no more than 65,535.
const NAME: usize = 100;
const FAILED: &str = "failed";
const UNFINISHED: &str = "unfinished";
/// More would hide what the line says of them.
const NAMED: usize = 3;

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
        let mut rows: Vec<_> = snapshot.resources.iter().map(|r| row(r, outcome, at)).collect();
        rows.sort_by(|a, b| a.rank().cmp(&b.rank()));
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
        if let Some(unshown) = self.unshown() {
            let _ = writeln!(text, "{unshown}");
        }
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
        if let Some(unshown) = self.unshown() {
            let _ = writeln!(text, "\n{}", escaped(&unshown));
        }
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

    /// Why something is not known.
    fn unshown(&self) -> Option<String> {
        let unfinished = self.rows.iter().filter(|row| row.outcome == UNFINISHED);
        let names: Vec<_> = unfinished.map(|row| row.name.as_str()).collect();
        if names.is_empty() && self.outcome.is_some() {
            return None;
        }
        let what = match names.len() {
            0 => "any resource".to_owned(),
            1..=NAMED => format!("the end of {}", names.join(", ")),
            count => format!("the end of {} and {} more", names[..NAMED].join(", "), count - NAMED),
        };
        let advice = match self.outcome {
            Some(_) => "",
            None => {
                "; --outcome success or failure, or the collector beside it, can tell how it ended"
            }
        };
        Some(format!("tilt ended before it showed {what}{advice}"))
    }
}

impl Row {
    fn rank(&self) -> (bool, Reverse<Option<Duration>>, &str) {
        (self.outcome != FAILED, Reverse(self.took), &self.name)
    }
}

fn row(resource: &Resource, run: Option<Outcome>, at: SystemTime) -> Row {
    let current = resource.current_update.as_ref();
    let under_way = current.and_then(|current| at.duration_since(current.started_at.at).ok());
    let newest = resource.updates.first().filter(|_| !resource.only_serves());
    let finished = newest.and_then(|update| update.finished_at.since(&update.started_at));
    Row {
        name: one_line(&resource.name, NAME),
        outcome: outcome(resource, run),
        took: under_way.or(finished),
    }
}

fn outcome(resource: &Resource, run: Option<Outcome>) -> &'static str {
    match Health::of(resource) {
        Health::Disabled => "disabled",
        Health::Error => FAILED,
        // A run succeeds only once all is up, whether or not that is shown.
        Health::InProgress | Health::Pending if run == Some(Outcome::Success) => "ok",
        Health::InProgress | Health::Pending => UNFINISHED,
        Health::Ok if resource.update_status.as_deref() == Some("none") => "not run",
        Health::Ok => "ok",
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
    fn what_failed_comes_first_then_the_slowest_and_columns_line_up() {
        assert_eq!(
            summary(Some(Outcome::Failure)).text(Some("https://ui.honeycomb.io/x")),
            "tilt ci: failure, 1m 5.0s\n\
             \u{20} a|b       failed           10.3s\n\
             \u{20} web       ok               40.0s\n\
             \u{20} building  unfinished        5.0s\n\
             \u{20} serves    ok                   -\n\
             tilt ended before it showed the end of building\n\
             trace: https://ui.honeycomb.io/x\n"
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
             tilt ended before it showed the end of building\n\n"
        );
    }

    #[test]
    fn of_a_run_that_succeeded_all_is_up_whatever_was_shown() {
        let told = summary(Some(Outcome::Success)).text(None);
        assert!(told.contains("building  ok                5.0s"), "{told}");
        assert!(!told.contains("unfinished") && !told.contains("tilt ended"), "{told}");
    }

    #[test]
    fn an_outcome_that_is_not_known_is_told_with_why_and_what_helps() {
        let busy = |count| (0..count).map(|n| resource(&format!("_{n}"), "pending", "00:01"));
        for (count, unshown) in [
            (0, "any resource"),
            (1, "the end of _0"),
            (3, "the end of _0, _1, _2"),
            (5, "the end of _0, _1, _2 and 2 more"),
        ] {
            let snapshot = Snapshot { resources: busy(count).collect(), ..Snapshot::default() };
            let summary = Summary::of(&snapshot, None, at("01:00").at);
            let why = format!(
                "tilt ended before it showed {unshown}; --outcome success or failure, or the \
                 collector beside it, can tell how it ended\n"
            );
            assert!(summary.text(None).ends_with(&why), "{}", summary.text(None));
            let why = format!("\n\n{}\n", why.replace('_', "\\_"));
            assert!(summary.markdown(None).ends_with(&why), "{}", summary.markdown(None));
        }
    }

    #[test]
    fn an_endless_name_is_cut() {
        let resources = vec![resource(&"n".repeat(100_000), "ok", "00:01")];
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at);
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains(&"n".repeat(NAME)) && text.len() < 1000, "{text}");
        }
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

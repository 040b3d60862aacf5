//! The table of a `tilt ci` for people: each resource with its outcome, the duration of its last update
//! and the reason of a failure, as text for the job's log and as Markdown. Failed resources come first,
//! then those that had not finished, then the slowest. Pure.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::base::text::one_line;
use crate::events::failure::{Failure, classes};
use crate::events::runtime_failure::RuntimeFailure;
use crate::events::spans::place_of_update;
use crate::tilt::health::Health;
use crate::tilt::model::{Outcome, Resource, Snapshot, Waiting};

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
/// Characters of a reason, which may hold names.
const MAX_REASON: usize = 100;
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
    /// The time of the last update. For an unfinished resource, the time until the run ended.
    took: Option<Duration>,
    /// Why the resource failed or did not finish. Empty if it did, or if Tilt does not show it.
    reason: String,
}

impl Summary {
    /// Summarizes a run that ended at `ended_at`. `outcome` is `None` if it is unknown. The resource
    /// `collector` has no row.
    pub fn of(
        snapshot: &Snapshot,
        outcome: Option<Outcome>,
        ended_at: SystemTime,
        collector: &str,
    ) -> Self {
        let started_at = snapshot.session.as_ref().and_then(|s| s.tilt_started_at.as_ref());
        let row = |resource| Row::of(resource, outcome, ended_at);
        let resources = snapshot.resources.iter().filter(|resource| resource.name != collector);
        let mut rows: Vec<_> = resources.map(row).collect();
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
        for Row { name, outcome, took, reason } in rows {
            let took = took.map_or_else(|| "-".to_owned(), seconds);
            let row = format!("  {name:longest$}  {outcome:11}  {took:>9}  {reason}");
            let _ = writeln!(text, "{}", row.trim_end());
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
        text.push_str("| resource | outcome | reason | duration | |\n|---|---|---|---:|:---|\n");
        let longest = self.rows.iter().filter_map(|row| row.took).max().unwrap_or_default();
        for Row { name, outcome, took, reason } in self.rows.iter().take(MAX_ROWS) {
            let (name, reason) = (escaped(name), escaped(reason));
            let bar = took.map_or_else(String::new, |took| bar(took, longest));
            let took = took.map_or_else(String::new, seconds);
            let _ = writeln!(text, "| {name} | {outcome} | {reason} | {took} | {bar} |");
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
        let outcome = outcome(resource, run);
        let reason = match outcome {
            FAILED => failure_reason(resource),
            UNFINISHED => unfinished_reason(resource),
            _ => None,
        };
        Self {
            name: one_line(&resource.name, MAX_NAME),
            outcome,
            took: took(resource, outcome, ended_at),
            reason: one_line(&reason.unwrap_or_default(), MAX_REASON),
        }
    }

    fn sort_key(&self) -> (bool, bool, Reverse<Option<Duration>>, &str) {
        let (has_failed, is_unfinished) = (self.outcome == FAILED, self.outcome == UNFINISHED);
        (!has_failed, !is_unfinished, Reverse(self.took), &self.name)
    }
}

/// The duration of the last update. For one that runs, the time that it had. For a server that is not
/// ready, the time since its start.
fn took(resource: &Resource, outcome: &str, ended_at: SystemTime) -> Option<Duration> {
    if let Some(current) = &resource.current_update {
        return ended_at.duration_since(current.started_at.at).ok();
    }
    let newest = resource.updates.first()?;
    if outcome == UNFINISHED && is_updated(resource) {
        return ended_at.duration_since(newest.finished_at.at).ok();
    }
    if resource.only_serves() { None } else { newest.finished_at.since(&newest.started_at) }
}

/// True if the last update succeeded, so that only the server or the pod is not ready.
fn is_updated(resource: &Resource) -> bool {
    matches!(resource.update_status.as_deref(), Some("ok" | "not_applicable"))
}

/// The class of a failure and the exit code: `command_failed, exit code 7`. Never the error text, which
/// may hold secrets.
fn failure_reason(resource: &Resource) -> Option<String> {
    if resource.update_status.as_deref() == Some("error") {
        let update = resource.updates.first()?;
        let place = place_of_update(resource, &update.span_id);
        let Failure { class, exit_code, .. } = Failure::classify(update.error.as_ref()?, place);
        let exit_code = exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
        return Some(format!("{class}{exit_code}"));
    }
    let class = RuntimeFailure::of(resource, None)?.class;
    (class != classes::OTHER).then(|| class.to_owned())
}

/// The activity of a resource at the end of the run: `running`, `not ready` or `waiting for db`.
fn unfinished_reason(resource: &Resource) -> Option<String> {
    if resource.current_update.is_some() {
        return Some("running".to_owned());
    }
    if is_updated(resource) {
        return Some("not ready".to_owned());
    }
    match &resource.waiting {
        Some(Waiting { on, .. }) if !on.is_empty() => {
            Some(format!("waiting for {}", on.join(", ")))
        }
        _ => None,
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

/// `text` as Markdown that shows the same text: no markup, HTML, formula, link or mention.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            // GitHub finds mentions and mail addresses in the text that is left after escapes.
            '@' => escaped.push_str("@<!-- -->"),
            letter => {
                // A dot or a colon may belong to an address, which would become a link.
                if "\\|`*_[]()~#!$:.".contains(letter) {
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
        let mut broken = resource("a|b", "error", "00:10.25");
        broken.updates[0].error = Some("Command \"curl t0ken\" failed: exit status 7".into());
        let mut building = resource("building", "in_progress", "00:01");
        building.current_update =
            Some(CurrentUpdate { span_id: "build:2".into(), started_at: at("01:00") });
        let session = Session { tilt_started_at: Some(at("00:00")), ..Session::default() };
        let snapshot = Snapshot {
            session: Some(session),
            resources: vec![
                broken,
                building,
                resource("serves", "not_applicable", "00:00.1"),
                resource("web", "ok", "00:40"),
                resource("collector", "error", "00:50"),
            ],
            ..Snapshot::default()
        };
        Summary::of(&snapshot, outcome, at("01:05").at, "collector")
    }

    #[test]
    fn failed_resources_come_first_then_unfinished_ones() {
        assert_eq!(
            summary(Some(Outcome::Failure)).text(Some("https://ui.honeycomb.io/x")),
            "tilt ci: failure, 1m 5.0s\n\
             \u{20} a|b       failed           10.3s  command_failed, exit code 7\n\
             \u{20} building  unfinished        5.0s  running\n\
             \u{20} web       ok               40.0s\n\
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
             | resource | outcome | reason | duration | |\n|---|---|---|---:|:---|\n\
             | a\\|b | failed | command\\_failed, exit code 7 | 10.3s | ██████ |\n\
             | building | unfinished | running | 5.0s | ███ |\n\
             | web | ok |  | 40.0s | ████████████████████ |\n\
             | serves | ok |  |  |  |\n\n\
             the snapshot does not show how building ended\n\n"
        );
    }

    /// The reason that the table shows for a resource of a failed run, and the time.
    fn reason(resource: Resource) -> (String, String) {
        let snapshot = Snapshot { resources: vec![resource], ..Snapshot::default() };
        let summary = Summary::of(&snapshot, Some(Outcome::Failure), at("01:00").at, "collector");
        let row = &summary.rows[0];
        (row.reason.clone(), row.took.map(seconds).unwrap_or_default())
    }

    #[test]
    fn a_failed_resource_has_the_class_of_its_failure() {
        let runtime = |resource_type, pod_status: Option<&str>| Resource {
            runtime_status: Some("error".into()),
            resource_type: Some(resource_type),
            pod_status: pod_status.map(str::to_owned),
            ..resource("web", "ok", "00:01")
        };
        for (resource, expected) in [
            (runtime(ResourceType::K8s, Some("CrashLoopBackOff")), "crash_loop"),
            (runtime(ResourceType::K8s, Some("Init:ImagePullBackOff")), "image_pull"),
            (runtime(ResourceType::K8s, Some("Running")), ""),
            (runtime(ResourceType::Local, None), "command_failed"),
            (runtime(ResourceType::DockerCompose, None), "command_failed"),
            (Resource { is_job: true, ..runtime(ResourceType::K8s, Some("Error")) }, "job_failed"),
            (resource("no text", "error", "00:01"), ""),
        ] {
            assert_eq!(reason(resource).0, expected);
        }
    }

    #[test]
    fn an_unfinished_resource_shows_what_it_did_and_how_long() {
        let running = Resource {
            current_update: Some(CurrentUpdate {
                span_id: "build:2".into(),
                started_at: at("00:20"),
            }),
            ..resource("hang", "in_progress", "00:01")
        };
        let not_ready = Resource {
            runtime_status: Some("pending".into()),
            ..resource("never", "not_applicable", "00:03")
        };
        let on = vec!["db".to_owned(), "\u{1b}]8;;evil\u{202e}".to_owned()];
        let waiting = Resource {
            waiting: Some(Waiting { reason: Some("waiting-for-dep".into()), on }),
            updates: Vec::new(),
            ..resource("api", "pending", "00:01")
        };
        let pending = Resource { updates: Vec::new(), ..resource("api", "pending", "00:01") };
        for (resource, expected, took) in [
            (running, "running", "40.0s"),
            (not_ready, "not ready", "57.0s"),
            (waiting, "waiting for db, ]8;;evil", ""),
            (pending, "", ""),
        ] {
            assert_eq!(reason(resource), (expected.to_owned(), took.to_owned()));
        }
    }

    #[test]
    fn markdown_shows_a_name_as_it_is() {
        for (name, expected) in [
            ("[x](https://evil.example)", "\\[x\\]\\(https\\://evil\\.example\\)"),
            ("$a$ www.x.y", "\\$a\\$ www\\.x\\.y"),
            ("@ann <b>&amp;`", "@<!-- -->ann &lt;b>&amp;amp;\\`"),
            ("![i](j) #1 ~s~", "\\!\\[i\\]\\(j\\) \\#1 \\~s\\~"),
            ("a-b/c", "a-b/c"),
        ] {
            assert_eq!(escaped(name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_shown_without_invisible_characters() {
        let resources = vec![resource("w\u{202e}e\u{200b}b\n\u{1b}[31m", "ok", "00:01")];
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at, "collector");
        assert_eq!(summary.rows[0].name, "web [31m");
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
            let summary = Summary::of(&snapshot, None, at("01:00").at, "collector");
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
        let summary = Summary::of(&snapshot, None, at("01:00").at, "collector");
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains(&"n".repeat(MAX_NAME)) && text.len() < 1000, "{text}");
        }
    }

    #[test]
    fn a_long_table_is_cut() {
        let resources = (0..500).map(|n| resource(&format!("r{n}"), "ok", "00:01")).collect();
        let snapshot = Snapshot { resources, ..Snapshot::default() };
        let summary = Summary::of(&snapshot, None, at("01:00").at, "collector");
        for text in [summary.text(None), summary.markdown(None)] {
            assert!(text.contains("outcome unknown") && text.contains("and 300 more"), "{text}");
        }
    }
}

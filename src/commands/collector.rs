//! What `check` shows of the collector: whether it runs in this Tilt, with which settings, and how its
//! deliveries went. Pure.

use std::time::{Duration, SystemTime};

use crate::base::text::{one_line, without_credentials};
use crate::base::time::unix_seconds;
use crate::commands::findings::Finding;
use crate::config::CheckConfig;
use crate::honeycomb::problem::TEXT_LIMIT;
use crate::messages;
use crate::spool::delivery_record::DeliveryRecord;
use crate::tilt::model::Snapshot;

/// Where a collector sends events and keeps its state, as far as its arguments tell. The key is never an
/// argument.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CollectorSettings {
    dataset: Option<String>,
    endpoint: Option<String>,
    state_dir: Option<String>,
}

impl CollectorSettings {
    /// Reads the settings from the arguments of a collector.
    pub(super) fn of(arguments: &[String]) -> Self {
        let endpoint = value(arguments, "--api-endpoint");
        Self {
            dataset: value(arguments, "--dataset"),
            endpoint: endpoint.map(|endpoint| without_credentials(&endpoint)),
            state_dir: value(arguments, "--state-dir"),
        }
    }

    /// The settings as options, such as ` with --dataset dev`. Empty if there are none.
    fn options(&self) -> String {
        let options = [
            ("--dataset", &self.dataset),
            ("--api-endpoint", &self.endpoint),
            ("--state-dir", &self.state_dir),
        ];
        let given: Vec<_> = options
            .into_iter()
            .filter_map(|(option, value)| Some(format!("{option} {}", value.as_ref()?)))
            .collect();
        if given.is_empty() { String::new() } else { format!(" with {}", given.join(" ")) }
    }

    /// True if `check` looks at another destination or folder, or knows no dataset.
    fn differ_from(&self, config: &CheckConfig) -> bool {
        let differs = |own: &Option<String>, other: Option<&str>| {
            let without_end = |text: &str| text.trim_end_matches(['/', '.']).to_lowercase();
            own.as_deref()
                .zip(other)
                .is_some_and(|(own, other)| without_end(own) != without_end(other))
        };
        let state_dir = config.state_dir.as_ref().ok().map(|dir| dir.to_string_lossy());
        let endpoint = config.endpoint.as_ref().ok().map(|endpoint| endpoint.url.as_str());
        differs(&self.dataset, Some(config.dataset.as_deref().unwrap_or_default()))
            || differs(&self.endpoint, endpoint)
            || differs(&self.state_dir, state_dir.as_deref())
    }
}

/// The value of an option, as `--option value` or `--option=value`.
fn value(arguments: &[String], option: &str) -> Option<String> {
    arguments.iter().enumerate().find_map(|(index, argument)| {
        match argument.strip_prefix(option)?.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if argument == option => arguments.get(index + 1).cloned(),
            None => None,
        }
    })
}

/// Whether the resource of the collector runs in this Tilt. `settings` are those of its arguments.
pub(super) fn running(
    snapshot: &Snapshot,
    settings: &CollectorSettings,
    config: &CheckConfig,
) -> Finding {
    const TOPIC: &str = "collector";
    let name = &config.collector;
    let Some(resource) = snapshot.resources.iter().find(|resource| resource.name == *name) else {
        let advice = "call honeycomb_collector() in the Tiltfile to report all the time";
        return Finding::note(TOPIC, format!("no resource {name} in this Tilt; {advice}"));
    };
    if resource.disabled == Some(true) {
        return Finding::note(TOPIC, format!("the resource {name} is disabled"));
    }
    let options = settings.options();
    match resource.runtime_status.as_deref() {
        Some("ok") if settings.differ_from(config) => {
            let text = format!("the resource {name} runs{options}; give check the same options");
            Finding::note(TOPIC, text)
        }
        Some("ok") => Finding::ok(TOPIC, format!("the resource {name} runs{options}")),
        status => {
            let status = one_line(status.unwrap_or("unknown"), TEXT_LIMIT);
            let text = format!("the resource {name} does not run ({status}); see its log");
            Finding::note(TOPIC, text)
        }
    }
}

/// How the deliveries of the last collector went. `None` if nothing was noted or lost. `dropped` is the
/// number of events that were lost since the state was created.
pub(super) fn deliveries(
    record: &DeliveryRecord,
    dropped: u64,
    now: SystemTime,
) -> Option<Finding> {
    const TOPIC: &str = "delivery";
    let ago = |seconds: u64| {
        let age = Duration::from_secs(unix_seconds(now).saturating_sub(seconds));
        humantime::format_duration(age)
    };
    let success = record
        .last_success
        .map_or("no success yet".to_owned(), |at| format!("last success {} ago", ago(at)));
    let dropped = if dropped == 0 {
        String::new()
    } else {
        let events = messages::counted(usize::try_from(dropped).unwrap_or(usize::MAX), "event");
        format!("; {events} dropped since the state was created")
    };
    match (&record.last_problem, record.problem_since) {
        (Some(problem), Some(since)) => {
            let text = format!("failing for {}: {problem}; {success}{dropped}", ago(since));
            Some(Finding::note(TOPIC, text))
        }
        (Some(problem), None) => {
            Some(Finding::ok(TOPIC, format!("{success}; last problem: {problem}{dropped}")))
        }
        (None, _) if record.last_success.is_none() && dropped.is_empty() => None,
        (None, _) => Some(Finding::ok(TOPIC, format!("{success}{dropped}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::findings::Verdict;

    #[test]
    fn settings_are_read_in_both_spellings() {
        let settings = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
            CollectorSettings::of(&arguments).options()
        };
        for (line, expected) in [
            ("sh run --interval 5s", ""),
            ("sh run --dataset dev --port 1", " with --dataset dev"),
            ("sh run --dataset=dev", " with --dataset dev"),
            ("sh run --datasets x --dataset", ""),
            (
                "x --api-endpoint https://u:pw@host --state-dir /s",
                " with --api-endpoint https://host --state-dir /s",
            ),
        ] {
            assert_eq!(settings(line), expected, "{line}");
        }
    }

    #[test]
    fn deliveries_are_shown_with_their_last_success_and_problem() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let shown = |last_success, problem: Option<&str>, problem_since, dropped| {
            let last_problem = problem.map(ToOwned::to_owned);
            let record = DeliveryRecord { last_success, last_problem, problem_since };
            deliveries(&record, dropped, now).map(|finding| (finding.verdict, finding.text))
        };
        let ok = |text: &str| Some((Verdict::Ok, text.to_owned()));
        assert_eq!(shown(None, None, None, 0), None);
        assert_eq!(shown(Some(9_940), None, None, 0), ok("last success 1m ago"));
        let lost = "no success yet; 2 events dropped since the state was created";
        assert_eq!(shown(None, None, None, 2), ok(lost));
        let over = "last success 1m ago; last problem: HTTP 503";
        assert_eq!(shown(Some(9_940), Some("HTTP 503"), None, 0), ok(over));
        let now_failing = "failing for 10m: HTTP 503; last success 15m ago";
        let note = Some((Verdict::Note, now_failing.to_owned()));
        assert_eq!(shown(Some(9_100), Some("HTTP 503"), Some(9_400), 0), note);
    }
}

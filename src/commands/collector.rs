//! The collector of this Tilt: its settings, and what `check` shows of it: whether it runs, with which
//! settings, and how its deliveries went. Pure, except for [`settings`], which asks Tilt.

use std::time::{Duration, SystemTime};

use crate::base::shutdown::Shutdown;
use crate::base::text::{one_line, without_credentials};
use crate::base::time::unix_seconds;
use crate::commands::findings::Finding;
use crate::config::CheckConfig;
use crate::config::collector_settings::CollectorSettings;
use crate::honeycomb::problem::TEXT_LIMIT;
use crate::messages;
use crate::spool::delivery_record::DeliveryRecord;
use crate::tilt::client::Tilt;
use crate::tilt::model::{Resource, Snapshot};

/// The settings as options, such as ` with --dataset dev`. Empty if there are none.
fn options(settings: &CollectorSettings) -> String {
    let options = [
        ("--dataset", settings.dataset.clone()),
        ("--api-endpoint", settings.endpoint.as_deref().map(without_credentials)),
        ("--state-dir", settings.state_dir.as_ref().map(|dir| dir.display().to_string())),
    ];
    let given: Vec<_> = options
        .into_iter()
        .filter_map(|(option, value)| Some(format!("{option} {}", value?)))
        .collect();
    if given.is_empty() { String::new() } else { format!(" with {}", given.join(" ")) }
}

/// True if an option makes `check` look at another destination or folder.
fn differ(settings: &CollectorSettings, config: &CheckConfig) -> bool {
    let CollectorSettings { dataset, endpoint, state_dir, .. } = settings;
    let is_other = |own: &str, other: &str| {
        let without_end = |text: &str| text.trim_end_matches(['/', '.']).to_lowercase();
        without_end(own) != without_end(other)
    };
    dataset.as_deref().zip(config.dataset.as_deref().ok()).is_some_and(|(a, b)| is_other(a, b))
        || endpoint
            .as_deref()
            .zip(config.endpoint.as_ref().ok())
            .is_some_and(|(own, checked)| is_other(own, &checked.url))
        || state_dir
            .as_ref()
            .zip(config.state_dir.as_ref().ok())
            .is_some_and(|(own, checked)| own != checked)
}

/// The resource of the collector in this Tilt.
pub(super) fn resource<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Resource> {
    snapshot.resources.iter().find(|resource| resource.name == name)
}

/// The settings that the Tiltfile passes to the collector, the resource with this name.
pub(super) fn settings(
    tilt: &Tilt,
    snapshot: &Snapshot,
    name: &str,
    shutdown: &Shutdown,
) -> CollectorSettings {
    let arguments = resource(snapshot, name)
        .map(|collector| tilt.serve_arguments(&collector.name, shutdown))
        .unwrap_or_default();
    CollectorSettings::of(&arguments)
}

/// Whether the resource of the collector runs in this Tilt. `settings` are those of its arguments.
pub(super) fn running(
    snapshot: &Snapshot,
    settings: &CollectorSettings,
    config: &CheckConfig,
) -> Finding {
    const TOPIC: &str = "collector";
    let name = &config.collector;
    let Some(resource) = resource(snapshot, name) else {
        let advice = "call honeycomb_collector() in the Tiltfile to report all the time";
        return Finding::note(TOPIC, format!("no resource {name} in this Tilt; {advice}"));
    };
    if resource.disabled == Some(true) {
        return Finding::note(TOPIC, format!("the resource {name} is disabled"));
    }
    let options = options(settings);
    match resource.runtime_status.as_deref() {
        Some("ok") if differ(settings, config) => {
            let text = format!("the resource {name} runs{options}, and check looks at others");
            Finding::note(TOPIC, text)
        }
        Some("ok") => Finding::ok(TOPIC, format!("the resource {name} runs{options}")),
        Some("pending") => {
            Finding::note(TOPIC, format!("the resource {name} is starting{options}"))
        }
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
        let events = messages::events(usize::try_from(dropped).unwrap_or(usize::MAX));
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
    fn options_are_shown_without_credentials() {
        let arguments = ["--api-endpoint", "https://u:pw@host", "--state-dir", "/s"];
        let settings = CollectorSettings::of(&arguments.map(ToOwned::to_owned));
        assert_eq!(options(&settings), " with --api-endpoint https://host --state-dir /s");
        assert_eq!(options(&CollectorSettings::default()), "");
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

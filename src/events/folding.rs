//! Folds unchanged heartbeats. A report that says the same as the one before is counted, and one event
//! with a sample rate represents several such reports. Pure.
//!
//! The sum of the sample rates is the number of reports: for each resource, and for each value of each
//! field except those that grow as time passes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::ids;
use crate::base::time::unix_micros;
use crate::events::event::{Event, Fields};

/// The longest time between two reports that one event represents. It keeps an event from
/// representing reports on both sides of a night.
const LONGEST_SPAN: Duration = Duration::from_hours(1);

/// The fields that grow as time passes. An event shows the value of its last report.
const CLOCKS: &[&str] = &["in_state_ms"];

/// The fields that describe one moment. A report with one of these is sent at once, so that it is
/// counted once.
const MOMENTS: &[&str] = &[
    "previous_runtime_status",
    "previous_update_status",
    "previous_pod_status",
    "previous_state_ms",
    "time_to_ready_ms",
];

/// The last reports of one resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoldedReports {
    /// Identifies what the last report said.
    last: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<PendingReports>,
}

/// Equal reports that no sent event represents yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PendingReports {
    /// The last of them. Its sample rate is their number.
    event: Event,
    /// When the first of them was made, in Unix microseconds.
    since: u64,
}

impl FoldedReports {
    /// Adds a report. Returns the events to send now, oldest first.
    ///
    /// A changed report is sent at once, after the pending ones. An unchanged one is sent when there
    /// are `limit` of them.
    pub fn add(&mut self, mut report: Event, limit: u32) -> Vec<Event> {
        let said = identify(&report.fields);
        let is_moment = report.fields.names().any(|name| MOMENTS.contains(&name));
        if said != self.last || is_moment {
            self.last = said;
            return self.take_pending().into_iter().chain([report]).collect();
        }
        let mut events = Vec::new();
        let mut since = unix_micros(report.time);
        match self.pending.take() {
            Some(pending) if pending.can_include(&report) => {
                report.sample_rate = pending.event.sample_rate.saturating_add(1);
                since = pending.since;
            }
            pending => events.extend(pending.map(|pending| pending.event)),
        }
        if report.sample_rate >= limit {
            events.push(report);
        } else {
            self.pending = Some(PendingReports { event: report, since });
        }
        events
    }

    /// Takes the event that represents the pending reports.
    pub fn take_pending(&mut self) -> Option<Event> {
        self.pending.take().map(|pending| pending.event)
    }
}

impl PendingReports {
    /// False also if the clock was set back.
    fn can_include(&self, report: &Event) -> bool {
        let span = unix_micros(report.time).checked_sub(self.since);
        span.is_some_and(|span| Duration::from_micros(span) <= LONGEST_SPAN)
    }
}

/// Identifies the values that two reports must share to be counted together.
fn identify(fields: &Fields) -> String {
    let is_compared = |name: &str| !CLOCKS.contains(&name) && !MOMENTS.contains(&name);
    let values = fields.iter().filter(|(name, _)| is_compared(name));
    let texts: Vec<_> =
        values.flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect();
    ids::id(&texts.iter().map(String::as_str).collect::<Vec<_>>(), 16)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::event::EventKind;
    use crate::events::fields::FIELDS;

    const MINUTE: u64 = 60;

    fn report(at: u64, status: &str) -> Event {
        let mut fields = Fields::default();
        fields.set("update_status", status);
        fields.set("in_state_ms", at);
        let time = UNIX_EPOCH + Duration::from_secs(1_800_000_000 + at);
        Event::new(EventKind::UiResource, time, fields)
    }

    /// The times in minutes and the sample rates of the events for these reports.
    fn folded(reports: impl IntoIterator<Item = Event>, limit: u32) -> Vec<(u64, u32)> {
        let mut folded = FoldedReports::default();
        let mut events: Vec<_> =
            reports.into_iter().flat_map(|report| folded.add(report, limit)).collect();
        events.extend(folded.take_pending());
        let minute = |event: &Event| (unix_micros(event.time) / 1_000_000 - 1_800_000_000) / MINUTE;
        events.iter().map(|event| (minute(event), event.sample_rate)).collect()
    }

    #[test]
    fn the_first_report_is_sent_and_then_every_fifth() {
        let reports = (0..=12).map(|minute| report(minute * MINUTE, "ok"));
        assert_eq!(folded(reports, 5), [(0, 1), (5, 5), (10, 5), (12, 2)]);
    }

    #[test]
    fn a_change_is_sent_at_once_after_the_pending_reports() {
        let statuses = ["ok", "ok", "ok", "error", "error"];
        let reports = (0..).zip(statuses).map(|(minute, status)| report(minute * MINUTE, status));
        assert_eq!(folded(reports, 5), [(0, 1), (2, 2), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_limit_of_one_sends_each_report() {
        let reports = (0..4).map(|minute| report(minute * MINUTE, "ok"));
        assert_eq!(folded(reports, 1), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn a_value_of_one_moment_is_sent_alone() {
        let mut ready = report(2 * MINUTE, "ok");
        ready.fields.set("time_to_ready_ms", 8000);
        let reports = [report(0, "ok"), report(MINUTE, "ok"), ready, report(3 * MINUTE, "ok")];
        assert_eq!(folded(reports, 5), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn each_duration_of_a_status_is_a_clock_or_a_moment() {
        for field in FIELDS.iter().filter(|field| field.kinds.contains(&EventKind::UiResource)) {
            let is_listed = CLOCKS.contains(&field.name) || MOMENTS.contains(&field.name);
            let is_past = field.name.starts_with("previous_");
            let needs_list = field.unit == Some("ms") || is_past;
            assert_eq!(is_listed, needs_list, "{} would never be folded", field.name);
        }
    }

    #[test]
    fn reports_an_hour_apart_are_not_folded() {
        let night = [0, 1, 2, 600, 601].map(|minute| report(minute * MINUTE, "ok"));
        assert_eq!(folded(night, 5), [(0, 1), (2, 2), (601, 2)]);
        let clock_set_back = [0, 31, 32, 1, 2].map(|minute| report(minute * MINUTE, "ok"));
        assert_eq!(folded(clock_set_back, 5), [(0, 1), (32, 2), (2, 2)]);
    }

    #[test]
    fn stored_reports_continue_after_a_restart() {
        let mut before = FoldedReports::default();
        for minute in 0..3 {
            before.add(report(minute * MINUTE, "ok"), 5);
        }
        let stored = serde_json::to_string(&before).expect("JSON");
        let mut after: FoldedReports = serde_json::from_str(&stored).expect("the same");
        assert_eq!(after, before);
        let events = after.add(report(3 * MINUTE, "ok"), 1);
        assert_eq!(events.iter().map(|event| event.sample_rate).collect::<Vec<_>>(), [3]);
    }
}

//! Log lines about what was sent: one per report that changed something, however many deliveries it took,
//! and one per hour without changes. Pure.

use std::time::{Duration, SystemTime};

use crate::honeycomb::batch::Counts;
use crate::honeycomb::delivery::Delivery;
use crate::messages;

/// A line follows after this time even if nothing changed.
const QUIET_LIMIT: Duration = Duration::from_hours(1);

/// Events sent since the last line.
#[derive(Debug)]
pub(super) struct SendSummary {
    sent: Counts,
    /// When the last line was written; at first, when the sidecar started.
    since: SystemTime,
    /// Something in Tilt changed since the last line.
    has_news: bool,
    /// The next delivery that sends something ends a report or a problem.
    report_is_over: bool,
}

impl SendSummary {
    /// The first delivery gets a line.
    pub(super) fn new(now: SystemTime) -> Self {
        Self { sent: Counts::new(), since: now, has_news: true, report_is_over: true }
    }

    pub(super) fn add_news(&mut self) {
        self.has_news = true;
    }

    /// Makes a line due if there are news, or if the last one is an hour ago.
    pub(super) fn request_line(&mut self) {
        self.report_is_over = true;
    }

    /// Adds a delivery. Returns the line that is due.
    pub(super) fn add(&mut self, delivery: &Delivery, now: SystemTime) -> Option<String> {
        for (kind, count) in &delivery.sent {
            *self.sent.entry(*kind).or_default() += count;
        }
        // The clock may have been set back.
        let period = now.duration_since(self.since).unwrap_or_default();
        let is_due = self.report_is_over && (self.has_news || period >= QUIET_LIMIT);
        if !is_due || self.sent.is_empty() {
            return None;
        }
        let line = messages::sent_within(&self.sent, period, delivery.waiting);
        *self = Self { has_news: false, report_is_over: false, ..Self::new(now) };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::events::event::EventKind;
    use crate::honeycomb::delivery::DeliveryEnd;

    fn delivery(count: usize) -> Delivery {
        let sent = [(EventKind::UiResource, count)].into_iter().filter(|(_, count)| *count > 0);
        Delivery {
            sent: sent.collect(),
            rejected: 0,
            waiting: 0,
            took: Duration::from_millis(20),
            end: DeliveryEnd::Empty,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn deliveries_between_two_lines_are_added_up() {
        let mut summary = SendSummary::new(at(0));
        assert_eq!(summary.add(&delivery(0), at(1)), None, "nothing was sent");
        let line = summary.add(&delivery(2), at(2)).expect("the first line");
        assert_eq!(line, "sent 2 events (2 uiresource) in the last 2s; 0 queued");
        summary.add_news();
        assert_eq!(summary.add(&delivery(3), at(3)), None, "no line is due");
        summary.request_line();
        let line = summary.add(&delivery(4), at(67)).expect("the second line");
        assert_eq!(line, "sent 7 events (7 uiresource) in the last 1m 5s; 0 queued");
    }

    #[test]
    fn reports_without_changes_share_one_line_per_hour() {
        let mut summary = SendSummary::new(at(0));
        assert!(summary.add(&delivery(1), at(0)).is_some());
        let mut lines = Vec::new();
        for minute in 1..=150 {
            summary.request_line();
            lines.extend(summary.add(&delivery(2), at(60 * minute)).map(|line| (minute, line)));
        }
        let line = "sent 120 events (120 uiresource) in the last 1h; 0 queued".to_owned();
        assert_eq!(lines, [(60, line.clone()), (120, line)]);
    }

    #[test]
    fn a_clock_set_back_delays_no_line_about_a_change() {
        let mut summary = SendSummary::new(at(100));
        let line = summary.add(&delivery(1), at(0)).expect("a line");
        assert_eq!(line, "sent 1 event (1 uiresource) in the last 0s; 0 queued");
    }
}

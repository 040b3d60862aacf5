//! One log line per report that changed something, however many deliveries it took. Pure.

use std::time::Duration;

use log::Level;

use crate::honeycomb::batch::Counts;
use crate::honeycomb::delivery::Delivery;
use crate::messages;

/// Events sent since the last line.
#[derive(Debug)]
pub(super) struct SendSummary {
    sent: Counts,
    took: Duration,
    /// Something in Tilt changed since the last line.
    has_news: bool,
    /// The next delivery that sends something ends a report or a problem, so it gets a line.
    line_is_due: bool,
}

impl SendSummary {
    /// The first delivery gets a line.
    pub(super) fn new() -> Self {
        Self { sent: Counts::new(), took: Duration::ZERO, has_news: true, line_is_due: true }
    }

    pub(super) fn add_news(&mut self) {
        self.has_news = true;
    }

    /// Makes a line due.
    pub(super) fn request_line(&mut self) {
        self.line_is_due = true;
    }

    /// Adds a delivery. Returns the line that is due, with its level: debug if nothing changed.
    pub(super) fn add(&mut self, delivery: &Delivery) -> Option<(Level, String)> {
        for (kind, count) in &delivery.sent {
            *self.sent.entry(*kind).or_default() += count;
        }
        self.took += delivery.took;
        if !self.line_is_due || self.sent.is_empty() {
            return None;
        }
        let level = if self.has_news { Level::Info } else { Level::Debug };
        let line = messages::delivered(&self.sent, self.took, delivery.waiting);
        *self =
            Self { sent: Counts::new(), took: Duration::ZERO, has_news: false, line_is_due: false };
        Some((level, line))
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn deliveries_between_two_lines_are_added_up() {
        let mut summary = SendSummary::new();
        assert_eq!(summary.add(&delivery(0)), None, "nothing was sent");
        let (level, line) = summary.add(&delivery(2)).expect("the first line");
        assert_eq!(level, Level::Info);
        assert_eq!(line, "sent 2 events (2 uiresource) in 40ms; 0 queued");
        summary.add_news();
        assert_eq!(summary.add(&delivery(3)), None, "no line is due");
        summary.request_line();
        let (level, line) = summary.add(&delivery(4)).expect("the second line");
        assert_eq!(level, Level::Info);
        assert_eq!(line, "sent 7 events (7 uiresource) in 40ms; 0 queued");
    }

    #[test]
    fn a_report_without_changes_is_logged_at_debug_level() {
        let mut summary = SendSummary::new();
        assert!(summary.add(&delivery(1)).is_some());
        summary.request_line();
        let level = summary.add(&delivery(1)).map(|(level, _)| level);
        assert_eq!(level, Some(Level::Debug));
    }
}

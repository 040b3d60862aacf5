//! Log messages that more than one mode prints. Pure.

use std::time::Duration;

use crate::base::text::counted;
use crate::honeycomb::batch::Counts;
use crate::spool::queue::Dropped;

/// `sent 12 events (9 uiresource, 2 dockerimage, 1 cmdimage) in 84ms; 0 queued`
pub fn delivered(sent: &Counts, took: Duration, queued: usize) -> String {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    format!(
        "sent {}{} in {}; {queued} queued",
        events(total(sent)),
        by_kind(sent),
        humantime::format_duration(Duration::from_millis(milliseconds)),
    )
}

/// `sent 12 events (9 uiresource, 3 update) in the last 5m 10s; 0 queued`
pub fn sent_within(sent: &Counts, period: Duration, queued: usize) -> String {
    let (events, kinds) = (events(total(sent)), by_kind(sent));
    format!("sent {events}{kinds} in the last {}; {queued} queued", whole_seconds(period))
}

/// A duration in whole seconds, rounded up: `1h 5s`
pub fn whole_seconds(duration: Duration) -> humantime::FormattedDuration {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    humantime::format_duration(Duration::from_secs(seconds))
}

/// `3 events stay queued`
pub fn kept(queued: usize) -> String {
    let stay = if queued == 1 { "stays" } else { "stay" };
    format!("{} {stay} queued", events(queued))
}

/// `stopped after 10s (--timeout): 4000 sent, 5904 still queued; run it again`
pub fn out_of_time(limit: Duration, sent: &Counts, queued: usize) -> String {
    format!(
        "stopped after {} (--timeout): {} sent, {queued} still queued; run it again",
        humantime::format_duration(limit),
        total(sent),
    )
}

/// Which events left the queue without being sent; `None` if there are none.
pub fn dropped(dropped: Dropped) -> Option<String> {
    let mut parts = Vec::new();
    if dropped.heartbeats + dropped.builds > 0 {
        parts.push(format!(
            "the queue is full: dropped the oldest {} and {}",
            counted(dropped.heartbeats, "heartbeat"),
            counted(dropped.builds, "build event"),
        ));
    }
    if dropped.expired > 0 {
        parts.push(format!("dropped {} queued for 30 days", events(dropped.expired)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `3 events`
pub fn events(count: usize) -> String {
    counted(count, "event")
}

fn total(counts: &Counts) -> usize {
    counts.values().sum()
}

fn by_kind(counts: &Counts) -> String {
    let kinds: Vec<_> = counts.iter().map(|(kind, n)| format!("{n} {}", kind.as_str())).collect();
    if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::EventKind;

    #[test]
    fn dropped_events_are_one_line_or_none() {
        let line = |heartbeats, builds, expired| dropped(Dropped { heartbeats, builds, expired });
        assert_eq!(line(0, 0, 0), None);
        assert_eq!(
            line(1, 2, 3).as_deref(),
            Some(
                "the queue is full: dropped the oldest 1 heartbeat and 2 build events; \
                 dropped 3 events queued for 30 days"
            )
        );
    }

    #[test]
    fn a_delivery_is_one_line() {
        let sent = Counts::from([
            (EventKind::CmdImage, 1),
            (EventKind::UiResource, 9),
            (EventKind::DockerImage, 2),
        ]);
        let took = Duration::from_micros(84_499);
        assert_eq!(
            delivered(&sent, took, 0),
            "sent 12 events (9 uiresource, 2 dockerimage, 1 cmdimage) in 84ms; 0 queued"
        );
        let one = Counts::from([(EventKind::UiResource, 1)]);
        assert_eq!(delivered(&one, took, 3), "sent 1 event (1 uiresource) in 84ms; 3 queued");
        assert_eq!(delivered(&Counts::new(), took, 0), "sent 0 events in 84ms; 0 queued");
        assert_eq!(
            out_of_time(Duration::from_secs(10), &sent, 3),
            "stopped after 10s (--timeout): 12 sent, 3 still queued; run it again"
        );
    }
}

//! The sentences that more than one way of running says. Pure.

use std::time::Duration;

use crate::honeycomb::batch::Counts;
use crate::spool::queue::Dropped;

/// `sent 12 events (9 uiresource, 2 dockerimage, 1 cmdimage) in 84ms; 0 waiting`
pub fn delivered(sent: &Counts, took: Duration, waiting: usize) -> String {
    format!(
        "sent {}{} in {}; {waiting} waiting",
        events(sent.values().sum()),
        by_kind(sent),
        humantime::format_duration(to_the_millisecond(took)),
    )
}

/// `3 events are kept for next time`
pub fn kept(waiting: usize) -> String {
    let are = if waiting == 1 { "is" } else { "are" };
    format!("{} {are} kept for next time", events(waiting))
}

/// Which events had to leave unsent; `None` where none had to.
pub fn dropped(dropped: Dropped) -> Option<String> {
    let mut told = Vec::new();
    if dropped.heartbeats + dropped.builds > 0 {
        told.push(format!(
            "the queue is full: dropped {} and {} of builds, the oldest",
            heartbeats(dropped.heartbeats),
            events(dropped.builds)
        ));
    }
    if dropped.expired > 0 {
        told.push(format!("dropped {} that waited for 30 days", events(dropped.expired)));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// `3 events`
pub fn events(count: usize) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

fn heartbeats(count: usize) -> String {
    if count == 1 { "1 heartbeat".to_owned() } else { format!("{count} heartbeats") }
}

fn by_kind(counts: &Counts) -> String {
    let kinds: Vec<_> = counts.iter().map(|(kind, n)| format!("{n} {}", kind.as_str())).collect();
    if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
}

fn to_the_millisecond(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::EventKind;

    #[test]
    fn what_was_dropped_is_one_line_or_none() {
        let said = |heartbeats, builds, expired| dropped(Dropped { heartbeats, builds, expired });
        assert_eq!(said(0, 0, 0), None);
        assert_eq!(
            said(1, 2, 3).as_deref(),
            Some(
                "the queue is full: dropped 1 heartbeat and 2 events of builds, the oldest; \
                 dropped 3 events that waited for 30 days"
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
            "sent 12 events (9 uiresource, 2 dockerimage, 1 cmdimage) in 84ms; 0 waiting"
        );
        let one = Counts::from([(EventKind::UiResource, 1)]);
        assert_eq!(delivered(&one, took, 3), "sent 1 event (1 uiresource) in 84ms; 3 waiting");
        assert_eq!(delivered(&Counts::new(), took, 0), "sent 0 events in 84ms; 0 waiting");
    }
}

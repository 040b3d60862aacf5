//! Finds the events that make a server reject every request that contains them. Pure.
//!
//! A server may answer 400 or 413 to a whole batch because of one event. The sender halves the
//! batch until that event is alone, and sets it aside here. It is dropped only after the server
//! accepted another event: a server that rejects everything proves nothing about one event.

use crate::honeycomb::response::EventResult;
use crate::spool::queue::QueuedEvent;

/// Events that the server rejects (400 or 413) even when they are sent alone.
#[derive(Debug, Default)]
pub struct PoisonSuspects {
    /// They are at the front of the queue.
    seqs: Vec<u64>,
    /// The server has accepted other events since, so the suspects are at fault.
    is_confirmed: bool,
}

impl PoisonSuspects {
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// The sequence numbers of the suspects, oldest first.
    pub fn seqs(&self) -> &[u64] {
        &self.seqs
    }

    /// True if the suspects are at fault, because the server has accepted another event.
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// The events to send next: all others. Until the suspects are confirmed, it returns only the
    /// newest event, because that one has the least in common with them.
    pub fn remaining<'a>(&self, queue: &'a [QueuedEvent]) -> &'a [QueuedEvent] {
        let is_suspect = |event: &&QueuedEvent| self.seqs.contains(&event.seq);
        let others = &queue[queue.iter().take_while(is_suspect).count()..];
        if self.seqs.is_empty() || self.is_confirmed {
            others
        } else {
            &others[others.len().saturating_sub(1)..]
        }
    }

    /// Adds a suspect. Returns false if the server seems to reject everything: it has rejected
    /// two events alone and accepted none.
    pub fn add(&mut self, seq: u64) -> bool {
        self.seqs.push(seq);
        self.is_confirmed || self.seqs.len() == 1
    }

    /// Confirms the suspects if the server has accepted another event. Returns true the first time.
    pub fn confirm(&mut self, results: &[EventResult]) -> bool {
        let accepted = !self.seqs.is_empty() && results.contains(&EventResult::Accepted);
        accepted && !std::mem::replace(&mut self.is_confirmed, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::event::EventKind;
    use serde_json::value::RawValue;

    fn queue(seqs: std::ops::Range<u64>) -> Vec<QueuedEvent> {
        let wire = || RawValue::from_string("{}".into()).expect("JSON");
        seqs.map(|seq| QueuedEvent::new(seq, EventKind::Update, 0, wire())).collect()
    }

    fn remaining(suspects: &PoisonSuspects, queue: &[QueuedEvent]) -> Vec<u64> {
        suspects.remaining(queue).iter().map(|event| event.seq).collect()
    }

    #[test]
    fn without_suspects_the_whole_queue_remains() {
        assert_eq!(remaining(&PoisonSuspects::default(), &queue(4..7)), [4, 5, 6]);
    }

    #[test]
    fn the_newest_event_is_tried_until_one_is_accepted() {
        let mut suspects = PoisonSuspects::default();
        assert!(suspects.add(4));
        assert_eq!(remaining(&suspects, &queue(4..8)), [7]);
        assert!(!suspects.confirm(&[EventResult::Retry { status: 429 }]));
        assert!(suspects.confirm(&[EventResult::Accepted]));
        assert!(!suspects.confirm(&[EventResult::Accepted]), "they were confirmed before");
        assert_eq!(remaining(&suspects, &queue(4..7)), [5, 6]);
        assert!(suspects.add(5), "other events are accepted");
        assert_eq!(remaining(&suspects, &queue(4..7)), [6]);
    }

    #[test]
    fn two_events_rejected_alone_mean_a_server_that_rejects_all() {
        let mut suspects = PoisonSuspects::default();
        assert!(suspects.add(4));
        assert!(!suspects.add(7));
        assert!(!suspects.is_confirmed());
    }

    #[test]
    fn nothing_remains_if_all_events_are_suspects() {
        let mut suspects = PoisonSuspects::default();
        suspects.add(4);
        assert_eq!(remaining(&suspects, &queue(4..5)), [0; 0]);
        assert_eq!(remaining(&suspects, &[]), [0; 0]);
    }

    #[test]
    fn an_accepted_event_without_suspects_confirms_nothing() {
        let mut suspects = PoisonSuspects::default();
        assert!(!suspects.confirm(&[EventResult::Accepted]));
        assert!(!suspects.is_confirmed());
    }
}

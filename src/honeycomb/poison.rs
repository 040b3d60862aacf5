//! Finds the events that make a server reject every request that contains them. Pure.
//!
//! A server may answer 400 or 413 to a whole batch because of one event. The sender halves the
//! batch until that event is alone, and sets it aside here. It is dropped only after the server
//! accepted another event: a server that rejects everything proves nothing about one event.
use crate::events::event::EventKind;
use crate::honeycomb::response::EventResult;

/// Events that the server rejects (400 or 413) even when they are sent alone.
#[derive(Debug, Default)]
pub struct PoisonSuspects {
    seqs: Vec<u64>,
    /// The kind of the last suspect.
    kind: Option<EventKind>,
    /// A batch was rejected in this delivery.
    is_searching: bool,
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

    /// The kind of the suspect, if the next request is to show whether the server accepts any other
    /// event. One of another kind has the least in common with it: a server may reject a whole kind,
    /// for example because of a field that only its events have.
    pub fn kind_to_avoid(&self) -> Option<EventKind> {
        self.kind.filter(|_| !self.is_confirmed)
    }

    /// Adds a suspect. Returns false if the server seems to reject everything: it has rejected
    /// two events alone and accepted none.
    pub fn add(&mut self, seq: u64, kind: EventKind) -> bool {
        self.seqs.push(seq);
        self.kind = Some(kind);
        self.is_confirmed || self.seqs.len() == 1
    }

    /// Starts the search in a batch that the server has rejected. If it accepts a part of that
    /// batch, the suspects in the rest are at fault.
    pub fn start_search(&mut self) {
        self.is_searching = true;
    }

    /// Confirms the suspects if the server has accepted another event. Returns true the first time.
    pub fn confirm(&mut self, results: &[EventResult]) -> bool {
        let is_searching = self.is_searching || !self.seqs.is_empty();
        let accepted = is_searching && results.contains(&EventResult::Accepted);
        let is_first = accepted && !std::mem::replace(&mut self.is_confirmed, true);
        is_first && !self.seqs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: EventKind = EventKind::Update;

    #[test]
    fn other_kinds_are_tried_until_an_event_is_accepted() {
        let mut suspects = PoisonSuspects::default();
        assert_eq!(suspects.kind_to_avoid(), None, "there are no suspects");
        assert!(suspects.add(4, KIND));
        assert_eq!(suspects.kind_to_avoid(), Some(KIND));
        let retry = EventResult::Retry { status: 429, reason: String::new() };
        assert!(!suspects.confirm(&[retry]));
        assert!(suspects.confirm(&[EventResult::Accepted]));
        assert!(!suspects.confirm(&[EventResult::Accepted]), "they were confirmed before");
        assert_eq!(suspects.kind_to_avoid(), None);
        assert!(suspects.add(5, KIND), "other events are accepted");
        assert_eq!(suspects.seqs(), [4, 5]);
    }

    #[test]
    fn two_events_rejected_alone_mean_a_server_that_rejects_all() {
        let mut suspects = PoisonSuspects::default();
        assert!(suspects.add(4, KIND));
        assert!(!suspects.add(7, KIND));
        assert!(!suspects.is_confirmed());
    }

    #[test]
    fn an_accepted_part_of_a_rejected_batch_confirms_later_suspects() {
        let mut suspects = PoisonSuspects::default();
        suspects.start_search();
        assert!(!suspects.confirm(&[EventResult::Accepted]), "the search goes on");
        assert!(suspects.is_confirmed());
    }

    #[test]
    fn an_accepted_event_without_suspects_confirms_nothing() {
        let mut suspects = PoisonSuspects::default();
        assert!(!suspects.confirm(&[EventResult::Accepted]));
        assert!(!suspects.is_confirmed());
    }
}

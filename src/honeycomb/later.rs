//! Remembers which events the server wants later, so that they do not hold up the others. Pure.
//!
//! A server may give single events of a batch a status such as 429 or 503. An OpenTelemetry Collector
//! without a pipeline for logs answers 503 for each event that is not a span, for as long as it runs.

use std::collections::BTreeSet;

use crate::events::event::EventKind;
use crate::honeycomb::batch::Batch;
use crate::honeycomb::response::{EventResult, RequestFailure};

/// The events that the server wants later, and their kinds.
#[derive(Debug, Clone, Default)]
pub struct Later {
    seqs: BTreeSet<u64>,
    /// The kinds of which the server took no event when it last got one.
    kinds: BTreeSet<EventKind>,
    /// Why the server wants them later.
    failure: Option<RequestFailure>,
}

impl Later {
    /// True if no event has to wait.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// The sequence numbers of the events to leave out for now.
    pub fn seqs(&self) -> &BTreeSet<u64> {
        &self.seqs
    }

    /// The kinds to send after all others.
    pub fn kinds(&self) -> &BTreeSet<EventKind> {
        &self.kinds
    }

    /// Why the events wait; `None` if none does.
    pub fn failure(&self) -> Option<&RequestFailure> {
        self.failure.as_ref().filter(|_| !self.is_empty())
    }

    /// Adds the events of a batch that the server wants later.
    pub fn add(&mut self, batch: &Batch, results: &[EventResult]) {
        let results = || batch.seqs.iter().zip(&batch.kinds).zip(results);
        for ((seq, kind), result) in results() {
            if let EventResult::Retry { status, reason } = result {
                self.seqs.insert(*seq);
                self.kinds.insert(*kind);
                self.failure = Some(RequestFailure::of_events(*status, reason));
            }
        }
        for ((_, kind), result) in results() {
            if *result == EventResult::Accepted {
                self.kinds.remove(kind);
            }
        }
    }

    /// Lets the events be sent again. Returns false if there are none.
    pub fn retry(&mut self) -> bool {
        !std::mem::take(&mut self.seqs).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> EventResult {
        EventResult::Retry { status: 503, reason: String::new() }
    }

    fn batch(events: &[(u64, EventKind)]) -> Batch {
        let (seqs, kinds) = events.iter().copied().unzip();
        Batch { seqs, kinds, body: Vec::new() }
    }

    #[test]
    fn a_kind_waits_until_one_of_its_events_is_accepted() {
        let (heartbeat, update) = (EventKind::UiResource, EventKind::Update);
        let mut later = Later::default();
        let mixed = batch(&[(4, heartbeat), (5, update), (6, update), (7, heartbeat)]);
        later.add(&mixed, &[retry(), EventResult::Accepted, retry()]);
        assert_eq!(later.seqs(), &[4, 6].into(), "7 has no status");
        assert_eq!(later.kinds(), &[heartbeat].into(), "an update was accepted");
        let failure = later.failure().expect("a reason to wait");
        assert_eq!(failure.reason, "HTTP 503 for some events");
        assert!(later.retry() && !later.retry());
        assert_eq!(later.failure(), None, "no event waits");
        assert_eq!(later.kinds(), &[heartbeat].into());
        later.add(&batch(&[(4, heartbeat)]), &[EventResult::Accepted]);
        assert!(later.is_empty() && later.kinds().is_empty());
    }
}

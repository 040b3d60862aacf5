//! Chooses the queued events of the next request. Pure.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use crate::events::event::EventKind;
use crate::honeycomb::batch::{BatchBuilder, BatchLimits, NextBatch, cut};
use crate::spool::queue::QueuedEvent;

/// Which queued events the next request takes: the oldest that fit, with these exceptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The sequence numbers of events to leave out.
    pub skip: BTreeSet<u64>,
    /// Events of these kinds are taken only if the queue has no others.
    pub defer: BTreeSet<EventKind>,
    /// Take a single event that has as little as possible in common with this kind: the newest build
    /// for a heartbeat and the other way round, or else the newest of another kind, or the newest.
    pub probe: Option<EventKind>,
    pub limits: BatchLimits,
}

impl Selection {
    /// The oldest events that fit.
    pub fn oldest(limits: BatchLimits) -> Self {
        Self { skip: BTreeSet::new(), defer: BTreeSet::new(), probe: None, limits }
    }

    /// Cuts the next batch out of the queue, whose events come oldest first. Reads no further than
    /// needed, and holds at most two batches of events at a time.
    pub fn next_batch<E: Borrow<QueuedEvent>>(
        &self,
        queue: impl IntoIterator<Item = E>,
    ) -> NextBatch {
        let events = queue.into_iter().filter(|event| !self.skip.contains(&event.borrow().seq));
        if let Some(kind) = self.probe {
            return cut(newest_unlike(kind, events), self.limits);
        }
        let (mut batch, mut deferred) =
            (BatchBuilder::new(self.limits), BatchBuilder::new(self.limits));
        for event in events {
            if self.defer.contains(&event.borrow().kind) {
                deferred.add(event);
            } else {
                batch.add(event);
            }
            if batch.is_full() {
                break;
            }
        }
        match batch.build() {
            NextBatch::Empty => deferred.build(),
            next => next,
        }
    }
}

/// The newest of the events that have the least in common with a kind.
fn newest_unlike<E: Borrow<QueuedEvent>>(
    avoided: EventKind,
    events: impl Iterator<Item = E>,
) -> Option<E> {
    // The last of several maxima wins, which is the newest event.
    events.max_by_key(|event| {
        let kind = event.borrow().kind;
        (kind.is_heartbeat() != avoided.is_heartbeat(), kind != avoided)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    /// A queue with one event per letter, numbered from 0: `h` and `s` are heartbeats, `u` is an update
    /// and `i` an image build.
    fn queue(letters: &str) -> Vec<QueuedEvent> {
        let kind = |letter| match letter {
            'h' => EventKind::UiResource,
            's' => EventKind::Session,
            'u' => EventKind::Update,
            _ => EventKind::DockerImage,
        };
        let wire = || RawValue::from_string("{}".into()).expect("JSON");
        let events = (0..).zip(letters.chars());
        events.map(|(seq, letter)| QueuedEvent::new(seq, kind(letter), 0, wire())).collect()
    }

    fn selected(selection: &Selection, queue: &[QueuedEvent]) -> Vec<u64> {
        match selection.next_batch(queue) {
            NextBatch::Batch(batch) => batch.seqs,
            NextBatch::Empty => Vec::new(),
            NextBatch::TooLarge(seq) => panic!("{seq} is too large"),
        }
    }

    fn all() -> Selection {
        Selection::oldest(BatchLimits { events: 3, bytes: 1000 })
    }

    #[test]
    fn the_oldest_events_are_taken_first() {
        assert_eq!(selected(&all(), &queue("huhuh")), [0, 1, 2]);
        assert_eq!(selected(&all(), &[]), [0; 0]);
    }

    #[test]
    fn skipped_events_are_left_out() {
        let selection = Selection { skip: [0, 2].into(), ..all() };
        assert_eq!(selected(&selection, &queue("huhuhu")), [1, 3, 4]);
        assert_eq!(selected(&selection, &queue("h")), [0; 0]);
    }

    #[test]
    fn deferred_kinds_are_taken_after_all_others() {
        let selection = Selection { defer: [EventKind::UiResource].into(), ..all() };
        assert_eq!(selected(&selection, &queue("hhhhuhiuu")), [4, 6, 7]);
        assert_eq!(selected(&selection, &queue("hhhhu")), [4], "not filled with deferred ones");
        assert_eq!(selected(&selection, &queue("hhhh")), [0, 1, 2]);
        let selection = Selection { skip: [0, 4].into(), ..selection };
        assert_eq!(selected(&selection, &queue("hhhhu")), [1, 2, 3]);
    }

    #[test]
    fn a_probe_is_the_newest_event_of_another_kind() {
        let probe = |kind| Selection { skip: [0].into(), probe: Some(kind), ..all() };
        let heartbeat = probe(EventKind::UiResource);
        assert_eq!(selected(&heartbeat, &queue("hhuihsh")), [3], "a build");
        assert_eq!(selected(&heartbeat, &queue("hhshh")), [2], "another kind of heartbeat");
        assert_eq!(selected(&heartbeat, &queue("hhhhh")), [4], "there is no other kind");
        assert_eq!(selected(&heartbeat, &queue("h")), [0; 0], "there is no other event");
        let update = probe(EventKind::Update);
        assert_eq!(selected(&update, &queue("uhiui")), [1], "a heartbeat");
        assert_eq!(selected(&update, &queue("uuiu")), [2], "another kind of build");
    }

    #[test]
    fn an_event_over_the_limit_is_named_even_behind_skipped_ones() {
        let limits = BatchLimits { events: 3, bytes: 2 };
        let selection = Selection { skip: [0].into(), ..Selection::oldest(limits) };
        assert_eq!(selection.next_batch(queue("hu")), NextBatch::TooLarge(1));
    }
}

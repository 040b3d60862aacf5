//! Cuts the queue into request bodies for Honeycomb: gzipped JSON arrays of events, oldest first.
//! Pure.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::events::event::EventKind;
use crate::spool::queue::QueuedEvent;

/// The limits of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchLimits {
    /// The most events.
    pub events: usize,
    /// The most bytes of JSON, before compression.
    pub bytes: usize,
}

impl BatchLimits {
    /// Well below Honeycomb's limits of 5 MB for a body and 1 MB for an event
    /// (<https://docs.honeycomb.io/api/tag/Events>). Refinery also sends 500 events in a batch.
    pub const DEFAULT: Self = Self { events: 500, bytes: 1_000_000 };

    /// Half of a batch of `events` that was too large; `None` for a single event.
    pub fn halved(self, events: usize) -> Option<Self> {
        (events > 1).then_some(Self { events: events / 2, ..self })
    }
}

/// The events of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The sequence numbers, in the order of the body.
    pub seqs: Vec<u64>,
    /// The kinds of the events, in the same order.
    pub kinds: Vec<EventKind>,
    /// The gzipped JSON array.
    pub body: Vec<u8>,
}

/// The next events of the queue, within the limits.
#[derive(Debug, Clone, PartialEq)]
pub enum NextBatch {
    /// No event is left to send.
    Empty,
    Batch(Batch),
    /// The first event exceeds the limit by itself, so it can never be sent. This is its sequence
    /// number.
    TooLarge(u64),
}

/// Cuts the next batch off the front of the queue.
pub fn cut<E: Borrow<QueuedEvent>>(
    queue: impl IntoIterator<Item = E>,
    limits: BatchLimits,
) -> NextBatch {
    let mut batch = BatchBuilder::new(limits);
    for event in queue {
        batch.add(event);
        if batch.is_full() {
            break;
        }
    }
    batch.build()
}

/// Collects events until one does not fit.
#[derive(Debug)]
pub struct BatchBuilder<E> {
    limits: BatchLimits,
    events: Vec<E>,
    /// The length of the JSON array.
    bytes: usize,
    /// The first event that did not fit. No later one is added, so that the order is kept.
    overflow: Option<u64>,
}

impl<E: Borrow<QueuedEvent>> BatchBuilder<E> {
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, events: Vec::new(), bytes: "[]".len(), overflow: None }
    }

    /// True if no event can be added.
    pub fn is_full(&self) -> bool {
        self.overflow.is_some() || self.events.len() >= self.limits.events
    }

    /// Adds an event, unless the batch is full or the event exceeds the limit.
    pub fn add(&mut self, event: E) {
        if self.is_full() {
            return;
        }
        let QueuedEvent { seq, wire, .. } = event.borrow();
        let bytes = self.bytes + wire.get().len() + ",".len();
        if bytes > self.limits.bytes {
            self.overflow = Some(*seq);
            return;
        }
        self.bytes = bytes;
        self.events.push(event);
    }

    pub fn build(self) -> NextBatch {
        if self.events.is_empty() {
            return self.overflow.map_or(NextBatch::Empty, NextBatch::TooLarge);
        }
        let events = || self.events.iter().map(Borrow::borrow);
        NextBatch::Batch(Batch {
            seqs: events().map(|event| event.seq).collect(),
            kinds: events().map(|event| event.kind).collect(),
            body: body(events()).expect("writing to memory does not fail"),
        })
    }
}

fn body<'a>(events: impl Iterator<Item = &'a QueuedEvent>) -> std::io::Result<Vec<u8>> {
    let events: Vec<_> = events.map(|event| event.wire.get()).collect();
    // One write, because flate2 clears 32 KB for each.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(format!("[{}]", events.join(",")).as_bytes())?;
    gzip.finish()
}

/// The number of events of each kind.
pub type Counts = BTreeMap<EventKind, usize>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::io::Read;

    fn queue(sizes: &[usize]) -> Vec<QueuedEvent> {
        let wires = sizes.iter().map(|size| {
            RawValue::from_string(format!("\"{}\"", "x".repeat(size - 2))).expect("JSON")
        });
        (7..)
            .zip(wires)
            .map(|(n, wire)| QueuedEvent::new(n, EventKind::DockerImage, 0, wire))
            .collect()
    }

    fn unpacked(batch: &Batch) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&batch.body[..]).read_to_string(&mut text).expect("gzip");
        text
    }

    #[test]
    fn a_batch_respects_both_limits() {
        let queue = queue(&[10; 8]);
        for (limits, expected) in [
            (BatchLimits { events: 3, bytes: 1000 }, 3),
            (BatchLimits { events: 100, bytes: 2 + 11 * 5 }, 5),
            (BatchLimits { events: 100, bytes: 2 + 11 * 5 - 1 }, 4),
            (BatchLimits::DEFAULT, 8),
        ] {
            let NextBatch::Batch(batch) = cut(&queue, limits) else {
                panic!("no batch: {limits:?}")
            };
            assert_eq!(batch.seqs, (7..7 + expected).collect::<Vec<_>>(), "{limits:?}");
            let text = unpacked(&batch);
            assert!(text.len() <= limits.bytes, "{limits:?}");
            let events: Vec<String> = serde_json::from_str(&text).expect("an array");
            assert_eq!(events.len() as u64, expected, "{limits:?}");
        }
    }

    #[test]
    fn an_event_over_the_limit_is_named() {
        let limits = BatchLimits { events: 10, bytes: 20 };
        assert_eq!(cut(queue(&[30, 5]), limits), NextBatch::TooLarge(7));
        assert_eq!(cut(queue(&[]), limits), NextBatch::Empty);
    }

    #[test]
    fn halving_ends_at_one_event() {
        let mut limits = BatchLimits::DEFAULT;
        let mut seen = Vec::new();
        while let Some(less) = limits.halved(limits.events) {
            limits = less;
            seen.push(limits.events);
        }
        assert_eq!(seen, [250, 125, 62, 31, 15, 7, 3, 1]);
    }
}

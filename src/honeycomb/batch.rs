//! Cuts the queue into request bodies that Honeycomb takes: a JSON array of events, gzipped,
//! oldest first. Pure.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::events::event::EventKind;
use crate::spool::queue::QueuedEvent;

/// The most that goes into one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchLimits {
    pub events: usize,
    /// Of JSON, before compression.
    pub bytes: usize,
}

impl BatchLimits {
    /// Well inside Honeycomb's 5 MB for a body and 1 MB for an event; 500 events is what
    /// Refinery itself puts into a batch.
    pub const DEFAULT: Self = Self { events: 500, bytes: 1_000_000 };

    /// For a server that found a batch of `events` too large; `None` when there is no less.
    pub fn halved(self, events: usize) -> Option<Self> {
        (events > 1).then_some(Self { events: events / 2, ..self })
    }
}

/// One request's worth of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Their numbers, in the order in which they stand in the body.
    pub seqs: Vec<u64>,
    pub kinds: Vec<EventKind>,
    /// The gzipped JSON array.
    pub body: Vec<u8>,
}

/// The front of the queue, cut to the limits.
#[derive(Debug, Clone, PartialEq)]
pub enum NextBatch {
    /// Nothing waits.
    Empty,
    Batch(Batch),
    /// The first event alone is over the limit: it can never be sent.
    TooLarge(u64),
}

pub fn cut(queue: &[QueuedEvent], limits: BatchLimits) -> NextBatch {
    let Some(first) = queue.first() else { return NextBatch::Empty };
    let mut bytes = "[]".len();
    let fitting = queue
        .iter()
        .take(limits.events)
        .take_while(|event| {
            bytes += event.wire.get().len() + ",".len();
            bytes <= limits.bytes
        })
        .count();
    if fitting == 0 {
        return NextBatch::TooLarge(first.seq);
    }
    let events = &queue[..fitting];
    NextBatch::Batch(Batch {
        seqs: events.iter().map(|event| event.seq).collect(),
        kinds: events.iter().map(|event| event.kind).collect(),
        body: body(events).expect("writing to memory does not fail"),
    })
}

fn body(events: &[QueuedEvent]) -> std::io::Result<Vec<u8>> {
    let events: Vec<_> = events.iter().map(|event| event.wire.get()).collect();
    // At once: flate2 clears 32 KB for each write.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(format!("[{}]", events.join(",")).as_bytes())?;
    gzip.finish()
}

/// How many events of each kind.
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
    fn a_batch_is_the_front_of_the_queue_within_both_limits() {
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
    fn an_event_that_never_fits_is_named_and_an_empty_queue_is_empty() {
        let limits = BatchLimits { events: 10, bytes: 20 };
        assert_eq!(cut(&queue(&[30, 5]), limits), NextBatch::TooLarge(7));
        assert_eq!(cut(&[], limits), NextBatch::Empty);
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

//! A segment: a file of queued events, one JSON object per line. Pure.
//!
//! Events are only ever added to a file. The index, which is part of the state, tells how many bytes
//! count, so a write that a crash interrupted has no effect.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::events::event::EventKind;
use crate::spool::checksum::{self, Integrity};
use crate::spool::positions::Positions;

/// The most events of a segment. Each segment reserves this many event numbers.
pub const SEGMENT_EVENTS: u64 = 8_192;
/// The size at which a segment is full, in bytes.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// How long events are added to a segment, in seconds: a day. All of its events expire together.
const OPEN_AGE: u64 = 24 * 3600;
/// The size up to which a segment without waiting events is used again, in bytes. A new file needs
/// two more syncs.
const REUSED_BYTES: u64 = 64 * 1024;

/// The classes of events, in the order in which they are sent. A full queue drops heartbeats first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventClass {
    Builds,
    Heartbeats,
}

impl EventClass {
    pub fn of(kind: EventKind) -> Self {
        if kind.is_heartbeat() { Self::Heartbeats } else { Self::Builds }
    }
}

/// The entry of a segment in the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Segment {
    /// The number of its first event, which also names the file.
    pub first: u64,
    pub class: EventClass,
    /// How many events were added.
    pub events: u64,
    /// The bytes of the file that count.
    pub bytes: u64,
    /// When its first event was queued, by [`crate::spool::clock::Clocks::age`].
    pub started: u64,
    /// The numbers of the events that have left the queue.
    pub settled: Positions,
}

impl Segment {
    pub fn new(first: u64, class: EventClass, started: u64) -> Self {
        Self { first, class, events: 0, bytes: 0, started, settled: Positions::default() }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        let class = match self.class {
            EventClass::Builds => "builds",
            EventClass::Heartbeats => "heartbeats",
        };
        format!("{:020}-{class}.ndjson", self.first)
    }

    /// The numbers of its events.
    pub fn numbers(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.events)
    }

    /// How many of its events wait.
    pub fn waiting(&self) -> u64 {
        self.events.saturating_sub(self.settled.count())
    }

    /// About how many bytes its waiting events have.
    pub fn waiting_bytes(&self) -> u64 {
        self.bytes.checked_div(self.events).unwrap_or_default().saturating_mul(self.waiting())
    }

    /// True if events may still be added. `age` is the clock's.
    pub fn is_open(&self, age: u64) -> bool {
        let is_reusable = self.waiting() > 0 || self.bytes <= REUSED_BYTES;
        let has_room = self.events < SEGMENT_EVENTS && self.bytes < SEGMENT_BYTES;
        has_room && is_reusable && age.saturating_sub(self.started) < OPEN_AGE
    }

    /// True if no event waits in it and none will be added to it.
    pub fn is_spent(&self) -> bool {
        self.waiting() == 0 && self.bytes > REUSED_BYTES
    }

    /// Counts the numbers of `range` as settled. Returns how many of its events waited until now.
    pub fn settle(&mut self, range: &Range<u64>) -> u64 {
        let own = self.numbers();
        self.settled.add(&(range.start.max(own.start)..range.end.min(own.end)))
    }

    /// True if the numbers agree with each other. A damaged index must not lead anywhere.
    pub fn is_valid(&self) -> bool {
        let own = self.numbers();
        self.events <= SEGMENT_EVENTS
            && self.settled.is_valid()
            && self.settled.ranges().iter().all(|r| own.start <= r.start && r.end <= own.end)
    }
}

/// A line of a segment: one event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line<'a> {
    pub kind: EventKind,
    /// By the system's clock, in Unix seconds. For messages only.
    pub queued_at: u64,
    /// The event as it is sent.
    #[serde(borrow)]
    pub event: &'a RawValue,
}

impl<'a> Line<'a> {
    /// Encodes the line, with its checksum and line break.
    pub fn encode(&self) -> Vec<u8> {
        let object = serde_json::to_vec(self).expect("a name, a number and JSON always encode");
        let mut line = checksum::seal(object);
        line.push(b'\n');
        line
    }

    /// Decodes a line without its line break. `None` if it is damaged.
    pub fn decode(line: &'a [u8]) -> Option<Self> {
        if checksum::verify(line) != Integrity::Intact {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(events: u64, bytes: u64) -> Segment {
        Segment { events, bytes, ..Segment::new(100, EventClass::Builds, 50) }
    }

    #[test]
    fn a_line_decodes_and_a_damaged_one_does_not() {
        let event = RawValue::from_string(r#"{"time":"x","data":{}}"#.into()).expect("JSON");
        let line = Line { kind: EventKind::Update, queued_at: 7, event: &event }.encode();
        let line = line.strip_suffix(b"\n").expect("a line break");
        let decoded = Line::decode(line).expect("a line");
        assert_eq!((decoded.kind, decoded.event.get()), (EventKind::Update, event.get()));
        for bit in 0..line.len() * 8 {
            let mut damaged = line.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Line::decode(&damaged).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_is_open_until_it_is_full_or_a_day_old() {
        assert!(segment(SEGMENT_EVENTS - 1, SEGMENT_BYTES - 1).is_open(50));
        assert!(!segment(SEGMENT_EVENTS, 1).is_open(50));
        assert!(!segment(1, SEGMENT_BYTES).is_open(50));
        assert!(segment(1, 1).is_open(49 + OPEN_AGE));
        assert!(!segment(1, 1).is_open(50 + OPEN_AGE));
    }

    #[test]
    fn a_long_segment_without_waiting_events_is_spent() {
        for (bytes, is_spent) in [(REUSED_BYTES, false), (REUSED_BYTES + 1, true)] {
            let mut segment = segment(10, bytes);
            assert!(!segment.is_spent() && segment.is_open(50));
            assert_eq!(segment.settle(&(0..u64::MAX)), 10);
            assert_eq!((segment.is_spent(), segment.is_open(50)), (is_spent, !is_spent));
        }
    }

    #[test]
    fn settling_counts_each_waiting_event_once() {
        let mut segment = segment(10, 1_000);
        assert_eq!(segment.settle(&(95..103)), 3);
        assert_eq!(segment.settle(&(101..105)), 2);
        assert_eq!(segment.settle(&(300..400)), 0);
        assert_eq!((segment.waiting(), segment.waiting_bytes()), (5, 500));
        assert!(segment.is_valid());
    }
}

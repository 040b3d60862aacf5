//! The index of the events that wait for Honeycomb. Pure: the events themselves are in the files of
//! [`crate::spool::segment`].
//!
//! An event leaves the queue when Honeycomb has accepted or rejected it. It is dropped, and
//! counted, when the queue is full or the event is too old.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::unix_micros;
use crate::events::event::{Event, EventKind, Fields, wire_time};
use crate::spool::journal::{self, JOURNAL_BYTES, JournalPosition, Settlement};
use crate::spool::segment::{EventClass, Line, SEGMENT_EVENTS, Segment};

/// The longest queue, in events.
pub const QUEUE_LIMIT: usize = 10_000;
/// The longest queue, in bytes of encoded events.
pub const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// The longest time that an event waits, in seconds: 30 days. Honeycomb keeps events for 60 days.
const MAX_AGE: u64 = 30 * 24 * 3600;

/// The queue of one destination.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The number of the next segment's first event.
    next: u64,
    /// The number of events that were lost since the state was created.
    dropped: u64,
    /// Oldest first.
    segments: Vec<Segment>,
    journal: JournalPosition,
    /// New events that are in no segment yet, oldest first.
    #[serde(skip)]
    fresh: Vec<EncodedEvent>,
}

/// An event that waits for Honeycomb.
#[derive(Debug, Clone)]
pub struct QueuedEvent {
    /// Unique within this state. Later events of the same class have greater numbers.
    pub seq: u64,
    pub kind: EventKind,
    /// By the system's clock, in Unix seconds.
    pub queued_at: u64,
    /// The event as it is sent: `{"time":...,"samplerate":...,"data":...}`.
    pub wire: Box<RawValue>,
}

impl QueuedEvent {
    /// An event that was queued at `queued_at`, in Unix seconds.
    pub fn new(seq: u64, kind: EventKind, queued_at: u64, wire: Box<RawValue>) -> Self {
        Self { seq, kind, queued_at, wire }
    }

    /// When the event was queued. `None` if that exceeds what the system's clock can show.
    pub fn since(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.queued_at))
    }
}

/// An event, encoded as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EncodedEvent {
    pub kind: EventKind,
    pub wire: Box<RawValue>,
}

impl EncodedEvent {
    /// Encodes an event for `POST /1/batch`. Honeycomb counts an event without `samplerate` once.
    /// See <https://api-docs.honeycomb.io/api/events/createevents>.
    pub fn new(event: &Event) -> Self {
        #[derive(Serialize)]
        struct Wire<'a> {
            time: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            samplerate: Option<u32>,
            data: &'a Fields,
        }
        let wire = Wire {
            time: wire_time(event.time),
            samplerate: Some(event.sample_rate).filter(|rate| *rate > 1),
            data: &event.fields,
        };
        let wire = serde_json::value::to_raw_value(&wire)
            .expect("text keys and plain values always encode");
        Self { kind: event.kind, wire }
    }
}

/// Numbers of events that were dropped before they were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Dropped {
    /// Heartbeats, because the queue was full.
    pub heartbeats: usize,
    /// Other events, because the queue was full and held no more heartbeats.
    pub builds: usize,
    /// Events that waited for 30 days.
    pub expired: usize,
}

/// Lines to add to the file of a segment, before the index that counts them is written.
#[derive(Debug, PartialEq)]
pub struct Addition {
    /// The number of the segment's first event.
    segment: u64,
    pub file_name: String,
    /// The bytes of the file that count so far. Bytes after them are not part of the queue.
    pub offset: u64,
    pub lines: Vec<Vec<u8>>,
}

impl Addition {
    fn to(segment: &Segment) -> Self {
        let (file_name, offset) = (segment.file_name(), segment.bytes);
        Self { segment: segment.first, file_name, offset, lines: Vec::new() }
    }
}

impl Queue {
    /// The number of events that wait.
    pub fn len(&self) -> usize {
        let waiting: u64 = self.segments.iter().map(Segment::waiting).sum();
        usize::try_from(waiting).unwrap_or(usize::MAX).saturating_add(self.fresh.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The new events that are in no segment yet, oldest first.
    pub fn fresh(&self) -> &[EncodedEvent] {
        &self.fresh
    }

    /// Takes the new events out of the queue.
    pub fn take_fresh(&mut self) -> Vec<EncodedEvent> {
        std::mem::take(&mut self.fresh)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn journal(&self) -> JournalPosition {
        self.journal
    }

    /// The number of events that were lost since the state was created: dropped, or rejected by
    /// Honeycomb.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Starts the event numbers of a new queue at a time. If a state is lost, a response to its
    /// events must not settle those of the next state.
    pub fn start_numbering(&mut self, now: SystemTime) {
        if self.next == 0 {
            self.next = unix_micros(now);
            self.journal = JournalPosition { id: self.next, bytes: 0 };
        }
    }

    /// Adds events.
    pub fn push(&mut self, events: Vec<EncodedEvent>) {
        self.fresh.extend(events);
    }

    /// Moves the new events to segments. Returns the lines to write. `age` is the clock's,
    /// `queued_at` is in Unix seconds.
    pub fn place_fresh(&mut self, age: u64, queued_at: u64) -> Vec<Addition> {
        let (heartbeats, builds): (Vec<_>, Vec<_>) =
            self.take_fresh().into_iter().partition(|event| event.kind.is_heartbeat());
        let mut additions = Vec::<Addition>::new();
        for (class, events) in [(EventClass::Builds, builds), (EventClass::Heartbeats, heartbeats)]
        {
            for EncodedEvent { kind, wire } in events {
                let line = Line { kind, queued_at, event: &wire }.encode();
                let segment = self.open_segment(class, age);
                let addition = match additions.last_mut() {
                    Some(last) if last.segment == segment.first => last,
                    _ => {
                        additions.push(Addition::to(segment));
                        additions.last_mut().expect("it was just added")
                    }
                };
                segment.events += 1;
                segment.bytes += line.len() as u64;
                addition.lines.push(line);
            }
        }
        additions
    }

    /// The segment to which the next event of a class is added.
    fn open_segment(&mut self, class: EventClass, age: u64) -> &mut Segment {
        let last = self.segments.iter().rposition(|segment| segment.class == class);
        let open = last.filter(|index| self.segments[*index].is_open(age));
        let index = open.unwrap_or(self.segments.len());
        if open.is_none() {
            self.segments.push(Segment::new(self.next, class, age));
            self.next = self.next.saturating_add(SEGMENT_EVENTS);
        }
        &mut self.segments[index]
    }

    /// Removes the events that Honeycomb has accepted or rejected, and counts the rejected ones as
    /// lost.
    pub fn settle(&mut self, settlement: &Settlement) {
        let left: u64 = settlement.settled.ranges().iter().map(|range| self.remove(range)).sum();
        // The others were dropped while the request was under way, but have arrived after all.
        let arrived = settlement.settled.count().saturating_sub(left);
        self.dropped = self.dropped.saturating_add(settlement.rejected).saturating_sub(arrived);
    }

    /// Applies the part of the journal that the index does not contain yet.
    pub fn take_in_journal(&mut self, rest: &[u8]) {
        for settlement in journal::decode(rest) {
            self.settle(&settlement);
        }
        self.journal.bytes = self.journal.bytes.saturating_add(journal::used(rest) as u64);
    }

    /// Removes the events with these numbers. Returns how many of them waited.
    fn remove(&mut self, range: &Range<u64>) -> u64 {
        self.segments.iter_mut().map(|segment| segment.settle(range)).sum()
    }

    /// Drops events that are too old, then the oldest heartbeats and builds that exceed the limits.
    /// `age` is the clock's.
    pub fn make_room(&mut self, age: u64) -> Dropped {
        let is_old = |segment: &&mut Segment| age.saturating_sub(segment.started) >= MAX_AGE;
        let old = self.segments.iter_mut().filter(is_old);
        let expired: u64 = old.map(|segment| segment.settle(&segment.numbers())).sum();
        let heartbeats = self.drop_oldest(EventClass::Heartbeats);
        let builds = self.drop_oldest(EventClass::Builds);
        let expired = usize::try_from(expired).unwrap_or(usize::MAX);
        self.dropped = self.dropped.saturating_add((expired + heartbeats + builds) as u64);
        Dropped { heartbeats, builds, expired }
    }

    /// Drops the oldest events of a class until the queue fits, or has no more of them.
    fn drop_oldest(&mut self, class: EventClass) -> usize {
        let before = self.len();
        let mut excess = self.excess();
        for segment in self.segments.iter_mut().filter(|segment| segment.class == class) {
            let average = segment.bytes.checked_div(segment.events).unwrap_or_default().max(1);
            let count = excess.events.max(excess.bytes.div_ceil(average));
            for range in segment.settled.first_missing(&segment.numbers(), count) {
                let dropped = segment.settle(&range);
                excess.subtract(dropped, dropped.saturating_mul(average));
            }
        }
        self.fresh.retain(|event| {
            let is_dropped = excess.exists() && EventClass::of(event.kind) == class;
            if is_dropped {
                excess.subtract(1, event.wire.get().len() as u64);
            }
            !is_dropped
        });
        before - self.len()
    }

    /// By how much the queue exceeds its limits.
    fn excess(&self) -> Excess {
        let stored: u64 = self.segments.iter().map(Segment::waiting_bytes).sum();
        let fresh: usize = self.fresh.iter().map(|event| event.wire.get().len()).sum();
        Excess {
            events: self.len().saturating_sub(QUEUE_LIMIT) as u64,
            bytes: stored.saturating_add(fresh as u64).saturating_sub(QUEUE_BYTES as u64),
        }
    }

    /// Forgets the segments without waiting events, and starts a new journal if it is long.
    pub fn retire(&mut self, age: u64) {
        self.segments.retain(|segment| segment.waiting() > 0 || segment.is_open(age));
        if self.journal.bytes > JOURNAL_BYTES {
            self.journal = self.journal.next();
        }
    }

    /// True if the numbers agree with each other.
    pub fn is_valid(&self) -> bool {
        let in_order = self
            .segments
            .windows(2)
            .all(|pair| pair[0].first.saturating_add(SEGMENT_EVENTS) <= pair[1].first);
        in_order && self.segments.iter().all(Segment::is_valid)
    }
}

/// The events and bytes that a queue has too many.
#[derive(Debug)]
struct Excess {
    events: u64,
    bytes: u64,
}

impl Excess {
    fn exists(&self) -> bool {
        self.events > 0 || self.bytes > 0
    }

    fn subtract(&mut self, events: u64, bytes: u64) {
        self.events = self.events.saturating_sub(events);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::positions::Positions;

    const AGE: u64 = 1_000_000;
    const DAY: u64 = 24 * 3600;

    fn events(kind: EventKind, count: usize, length: usize) -> Vec<EncodedEvent> {
        let wire = RawValue::from_string(format!("\"{}\"", "x".repeat(length))).expect("JSON");
        vec![EncodedEvent { kind, wire }; count]
    }

    /// Adds builds and heartbeats, and places them in segments.
    fn add(queue: &mut Queue, builds: usize, heartbeats: usize, age: u64) -> Dropped {
        queue.start_numbering(UNIX_EPOCH + Duration::from_hours(500_000));
        queue.push(events(EventKind::Update, builds, 20));
        queue.push(events(EventKind::Session, heartbeats, 20));
        let dropped = queue.make_room(age);
        queue.place_fresh(age, 0);
        queue.retire(age);
        assert!(queue.is_valid());
        dropped
    }

    /// The numbers of the waiting events of a class, oldest first.
    fn waiting(queue: &Queue, class: EventClass) -> Vec<u64> {
        let of_class = queue.segments().iter().filter(|segment| segment.class == class);
        of_class
            .flat_map(|segment| segment.numbers().filter(|n| !segment.settled.contains(*n)))
            .collect()
    }

    fn counts(queue: &Queue) -> (usize, usize) {
        let count = |class| waiting(queue, class).len();
        (count(EventClass::Heartbeats), count(EventClass::Builds))
    }

    fn settle(queue: &mut Queue, numbers: &[u64], rejected: u64) {
        queue.settle(&Settlement { settled: Positions::of(numbers), rejected });
    }

    #[test]
    fn settled_events_leave_and_the_rest_keeps_its_order() {
        let mut queue = Queue::default();
        add(&mut queue, 4, 0, AGE);
        let [first, second, third, fourth] = waiting(&queue, EventClass::Builds)[..] else {
            panic!("four events")
        };
        settle(&mut queue, &[first, third], 0);
        assert_eq!(waiting(&queue, EventClass::Builds), [second, fourth]);
        add(&mut queue, 1, 0, AGE);
        assert_eq!(waiting(&queue, EventClass::Builds), [second, fourth, fourth + 1]);
    }

    #[test]
    fn an_event_that_arrives_after_all_is_not_dropped() {
        let mut queue = Queue::default();
        add(&mut queue, QUEUE_LIMIT, 0, AGE);
        let in_flight = waiting(&queue, EventClass::Builds)[..500].to_vec();
        add(&mut queue, 3, 0, AGE);
        assert_eq!(queue.dropped(), 3);
        settle(&mut queue, &in_flight, 1);
        assert_eq!((queue.dropped(), queue.len()), (1, QUEUE_LIMIT - 497));
    }

    #[test]
    fn a_full_queue_drops_heartbeats_first_then_builds() {
        let mut queue = Queue::default();
        add(&mut queue, QUEUE_LIMIT - 5, 5, AGE);
        assert_eq!(queue.len(), QUEUE_LIMIT);

        let dropped = add(&mut queue, 3, 0, AGE);
        assert_eq!(dropped, Dropped { heartbeats: 3, ..Dropped::default() });
        assert_eq!(counts(&queue), (2, QUEUE_LIMIT - 2));

        let oldest = waiting(&queue, EventClass::Builds)[0];
        let dropped = add(&mut queue, 4, 0, AGE);
        assert_eq!(dropped, Dropped { heartbeats: 2, builds: 2, expired: 0 });
        assert_eq!(counts(&queue), (0, QUEUE_LIMIT));
        assert_eq!(waiting(&queue, EventClass::Builds)[0], oldest + 2, "the two oldest");
    }

    #[test]
    fn a_first_report_over_the_limit_drops_its_oldest_heartbeats() {
        let mut queue = Queue::default();
        let dropped = add(&mut queue, 10, QUEUE_LIMIT, AGE);
        assert_eq!(dropped, Dropped { heartbeats: 10, ..Dropped::default() });
        assert_eq!(counts(&queue), (QUEUE_LIMIT - 10, 10));
    }

    #[test]
    fn long_events_are_bounded_by_their_bytes() {
        let mut queue = Queue::default();
        for _ in 0..20 {
            queue.push(events(EventKind::UiResource, 500, 7_000));
            queue.push(events(EventKind::Update, 1, 20));
            queue.make_room(AGE);
            queue.place_fresh(AGE, 0);
            queue.retire(AGE);
        }
        let bytes: u64 = queue.segments().iter().map(Segment::waiting_bytes).sum();
        let limit = QUEUE_BYTES as u64;
        assert!((limit - limit / 20..limit + limit / 20).contains(&bytes), "{bytes}");
        assert_eq!(counts(&queue).1, 20, "no build was dropped");
    }

    #[test]
    fn an_event_waits_for_at_most_thirty_days() {
        let mut queue = Queue::default();
        add(&mut queue, 1, 1, AGE);
        for half_day in 1..60 {
            let dropped = add(&mut queue, 0, 0, AGE + half_day * DAY / 2);
            assert_eq!((dropped, counts(&queue)), (Dropped::default(), (1, 1)));
        }
        let dropped = add(&mut queue, 0, 1, AGE + 30 * DAY);
        assert_eq!(dropped, Dropped { expired: 2, ..Dropped::default() });
        assert_eq!(counts(&queue), (1, 0));
        assert_eq!(queue.segments().len(), 1, "the old segments are retired");
    }

    #[test]
    fn an_online_queue_reuses_its_segments() {
        let mut queue = Queue::default();
        for change in 0..100 {
            add(&mut queue, 1, 1, AGE + change);
            let sent = [EventClass::Builds, EventClass::Heartbeats].map(|c| waiting(&queue, c));
            settle(&mut queue, &sent.concat(), 0);
        }
        assert_eq!((queue.len(), queue.segments().len()), (0, 2));
    }

    #[test]
    fn a_long_journal_is_replaced_once_it_is_taken_in() {
        let mut queue = Queue::default();
        add(&mut queue, 1, 0, AGE);
        let first = queue.journal();
        queue.take_in_journal("x".repeat(64 * 1024).as_bytes());
        assert_eq!(queue.journal().bytes, JOURNAL_BYTES);
        queue.retire(AGE);
        assert_eq!(queue.journal().id, first.id);
        queue.take_in_journal(b"x");
        queue.retire(AGE);
        assert_eq!(queue.journal(), first.next());
    }
}

//! The events that wait for Honeycomb, oldest first. Pure.
//!
//! An event leaves the queue when Honeycomb has accepted or rejected it. It is dropped, and
//! counted, when the queue is full or the event is too old.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::unix_micros;
use crate::events::event::{Event, EventKind, Fields, wire_time};

/// The longest queue, in events.
pub const QUEUE_LIMIT: usize = 10_000;
/// The longest queue, in bytes of encoded events: half of the largest state file that is read.
pub const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// The longest time that an event waits, in seconds: 30 days. Honeycomb keeps events for 60 days.
const MAX_AGE: u64 = 30 * 24 * 3600;

/// The queue of one destination.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The sequence number of the next event.
    next_seq: u64,
    /// The number of events that were lost since the state was created.
    dropped: u64,
    events: Vec<QueuedEvent>,
}

/// An event that waits for Honeycomb.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueuedEvent {
    /// Unique within this state. Later events have greater numbers.
    pub seq: u64,
    pub kind: EventKind,
    /// Unix seconds, moved forward by the time in which nothing was reported.
    pub(super) queued_at: u64,
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

impl Queue {
    /// The events that wait, oldest first.
    pub fn events(&self) -> &[QueuedEvent] {
        &self.events
    }

    /// The number of events that were lost since the state was created: dropped, or rejected by
    /// Honeycomb.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Starts the sequence numbers of a new queue at a time. If a state is lost, a response to its
    /// events must not settle those of the next state.
    pub fn start_numbering(&mut self, now: SystemTime) {
        if self.next_seq == 0 {
            self.next_seq = unix_micros(now);
        }
    }

    /// Adds events. `now` is in Unix seconds.
    pub fn push(&mut self, events: Vec<EncodedEvent>, now: u64) {
        for EncodedEvent { kind, wire } in events {
            self.events.push(QueuedEvent::new(self.next_seq, kind, now, wire));
            self.next_seq += 1;
        }
    }

    /// Removes the events that Honeycomb has accepted or rejected. Counts `rejected` of them as
    /// lost.
    pub fn settle(&mut self, seqs: &[u64], rejected: usize) {
        let settled: HashSet<_> = seqs.iter().copied().collect();
        let before = self.events.len();
        self.events.retain(|event| !settled.contains(&event.seq));
        // The others were dropped while the request was under way, but have arrived after all.
        let arrived = settled.len().saturating_sub(before - self.events.len()) as u64;
        self.dropped = (self.dropped + rejected as u64).saturating_sub(arrived);
    }

    /// Drops events that are too old, then the oldest heartbeats and builds that exceed the
    /// limits. `now` is in Unix seconds.
    pub fn make_room(&mut self, now: u64) -> Dropped {
        let before = self.events.len();
        self.events.retain(|event| now.saturating_sub(event.queued_at) < MAX_AGE);
        let expired = before - self.events.len();
        let heartbeats = self.drop_oldest(|event| event.kind.is_heartbeat());
        let builds = self.drop_oldest(|_| true);
        self.dropped += (expired + heartbeats + builds) as u64;
        Dropped { heartbeats, builds, expired }
    }

    /// Drops the oldest of the events that `may_drop` until the rest fits. Returns their number.
    fn drop_oldest(&mut self, may_drop: impl Fn(&QueuedEvent) -> bool) -> usize {
        let size = |event: &QueuedEvent| event.wire.get().len();
        let before = self.events.len();
        let (mut count, mut bytes) = (before, self.events.iter().map(size).sum::<usize>());
        self.events.retain(|event| {
            let is_dropped = (count > QUEUE_LIMIT || bytes > QUEUE_BYTES) && may_drop(event);
            if is_dropped {
                count -= 1;
                bytes -= size(event);
            }
            !is_dropped
        });
        before - self.events.len()
    }

    /// Changes the times at which the events were queued, in Unix seconds.
    pub fn shift_times(&mut self, shift: impl Fn(&mut u64)) {
        self.events.iter_mut().for_each(|event| shift(&mut event.queued_at));
    }
}

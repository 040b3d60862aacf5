//! The part of the state that belongs to one run of Tilt. Pure.
//!
//! A build counts as seen in the same step in which its events are emitted. An image build whose
//! update is unknown, and the substitute for an event that may never come, wait here until they
//! are emitted or replaced.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::base::time::unix_micros;
use crate::events::derived::{DerivedEvents, ProvisionalEvent};
use crate::events::image_spans::ImageSpans;
use crate::events::tracker::SessionTracker;
use crate::spool::clock::{Clocks, SEEN_AGE};
use crate::spool::queue::EncodedEvent;

/// The number of builds that are remembered after Tilt stopped showing them. Tilt does not show
/// them again, and a day of frequent saves makes thousands.
pub const UNSHOWN_LIMIT: usize = 1_000;
/// How long an image build waits for a watch to show its update.
pub const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of the state that belongs to one run of Tilt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionState {
    /// When the session was last reported, by [`Clocks::age`]. 0 before the first report.
    pub reported_at: u64,
    /// When the session was last reported, by [`Clocks::silence`].
    pub silent_since: u64,
    /// When Tilt last showed each build, by key and [`Clocks::age`].
    pub builds: BTreeMap<String, u64>,
    /// When everything that Tilt shows was last reported, by [`Clocks::age`].
    reported_in_full_at: u64,
    pub tracker: SessionTracker,
    /// The events to emit if the ones that they stand for never come, by key.
    pub provisional: BTreeMap<String, StoredProvisional>,
    pub orphan_images: Vec<OrphanImage>,
    /// The collector that last reported the session has ended.
    pub collector_ended: bool,
}

/// A [`ProvisionalEvent`], encoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredProvisional {
    resource: Option<String>,
    /// The start of the update, in Unix microseconds.
    started_at: u64,
    event: EncodedEvent,
    /// The event was emitted. The entry stays, so that it is not emitted again while the event
    /// that it stands for may still come.
    is_emitted: bool,
}

/// An image build that waits for a watch to show its update.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrphanImage {
    /// When it was first seen, in Unix microseconds.
    since: u64,
    pub spans: ImageSpans,
}

impl SessionState {
    /// Records what was derived, and adds the new events to `emitted`. Returns the number of
    /// builds that were not seen before.
    pub fn record(
        &mut self,
        mut derived: DerivedEvents,
        now: SystemTime,
        clocks: Clocks,
        emitted: &mut Vec<EncodedEvent>,
    ) -> usize {
        let mut new_builds = 0;
        // Each event is encoded and freed before the next one, because a report holds thousands.
        for build in std::mem::take(&mut derived.builds) {
            if self.builds.insert(build.key.clone(), clocks.age).is_none() {
                new_builds += usize::from(!build.events.is_empty());
                self.provisional.remove(&build.key);
                emitted.extend(build.events.iter().map(EncodedEvent::new));
            }
        }
        new_builds += self.defer(&derived, now, clocks.age);
        self.emit_orphans(&derived, now, emitted);
        self.keep_provisional(&derived, emitted);
        (self.reported_at, self.silent_since) = (clocks.age, clocks.silence);
        if derived.is_full {
            self.reported_in_full_at = clocks.age;
        }
        new_builds
    }

    /// Emits what still waits, because the session has ended. `age` is the clock's.
    pub fn end(&mut self, age: u64, emitted: &mut Vec<EncodedEvent>) {
        for orphan in std::mem::take(&mut self.orphan_images) {
            emitted.extend(orphan.spans.into_events(None).iter().map(EncodedEvent::new));
        }
        emitted.extend(self.provisional.values_mut().filter_map(StoredProvisional::emit));
        let heartbeats = self.tracker.take_pending_reports(|_| true);
        emitted.extend(heartbeats.iter().map(EncodedEvent::new));
        // The end of an update may still be shown. A startup ends only once.
        let startup = self.provisional.extract_if(.., |_, event| event.resource.is_none());
        self.builds.extend(startup.map(|(key, _)| (key, age)));
    }

    /// Forgets the builds that Tilt stopped showing a day ago, or many builds ago. `age` is
    /// the clock's.
    pub fn forget_builds(&mut self, age: u64) {
        // After a weekend asleep, the first update that a watch shows says nothing about the
        // builds that Tilt still shows. Only a full report does.
        if self.reported_in_full_at == age {
            self.builds.retain(|_, shown_at| age.saturating_sub(*shown_at) < SEEN_AGE);
        }
        let is_unshown = |shown_at: &&u64| **shown_at < self.reported_in_full_at;
        let mut unshown: Vec<_> = self.builds.values().filter(is_unshown).copied().collect();
        if unshown.len() > UNSHOWN_LIMIT {
            unshown.sort_unstable();
            let oldest_kept = unshown[unshown.len() - UNSHOWN_LIMIT];
            self.builds.retain(|_, shown_at| *shown_at >= oldest_kept);
        }
    }

    /// Keeps the image builds whose update is not known yet. Returns how many of them are new.
    fn defer(&mut self, derived: &DerivedEvents, now: SystemTime, age: u64) -> usize {
        let mut new = 0;
        for spans in &derived.orphan_images {
            if self.builds.insert(spans.build.key.clone(), age).is_none() {
                new += 1;
                self.orphan_images
                    .push(OrphanImage { since: unix_micros(now), spans: spans.clone() });
            }
        }
        new
    }

    /// Emits the image builds whose update was found, and those that have waited long enough.
    fn emit_orphans(
        &mut self,
        derived: &DerivedEvents,
        now: SystemTime,
        emitted: &mut Vec<EncodedEvent>,
    ) {
        let timeout = u64::try_from(ORPHAN_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
        for orphan in std::mem::take(&mut self.orphan_images) {
            let mut found = derived.found_parents.iter();
            let update = found.find(|(key, _)| *key == orphan.spans.build.key);
            let is_late = unix_micros(now).abs_diff(orphan.since) >= timeout;
            if update.is_some() || !derived.is_watched || is_late {
                let events = orphan.spans.into_events(update.map(|(_, update)| update));
                emitted.extend(events.iter().map(EncodedEvent::new));
            } else {
                self.orphan_images.push(orphan);
            }
        }
    }

    /// Keeps the provisional events, and emits those that a newer update of the resource shows to
    /// be final.
    fn keep_provisional(&mut self, derived: &DerivedEvents, emitted: &mut Vec<EncodedEvent>) {
        for ProvisionalEvent { key, resource, event } in &derived.provisional {
            let was_emitted = self.provisional.get(key).is_some_and(|known| known.is_emitted);
            if !self.builds.contains_key(key) && !was_emitted {
                let stored = StoredProvisional {
                    resource: resource.clone(),
                    started_at: unix_micros(event.time),
                    event: EncodedEvent::new(event),
                    is_emitted: false,
                };
                self.provisional.insert(key.clone(), stored);
            }
        }
        if derived.is_full {
            // An entry that was emitted is needed while it would be derived again.
            let is_derived = |key: &String| derived.provisional.iter().any(|new| new.key == *key);
            self.provisional.retain(|key, known| !known.is_emitted || is_derived(key));
        }
        for known in self.provisional.values_mut() {
            let newest = known.resource.as_ref().and_then(|name| derived.newest_updates.get(name));
            if newest.is_some_and(|newest| *newest > known.started_at) {
                emitted.extend(known.emit());
            }
        }
    }
}

impl StoredProvisional {
    /// The event, the first time this is called.
    fn emit(&mut self) -> Option<EncodedEvent> {
        let was_emitted = std::mem::replace(&mut self.is_emitted, true);
        (!was_emitted).then(|| self.event.clone())
    }
}

//! The resources and stages that were slow, failed or waited. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::text::counted;
use crate::events::event::EventKind;
use crate::events::update_counts::UpdateCounts;
use crate::summary::spans::{ObservedSpans, TimedSpan};
use crate::summary::waterfall::{Waterfall, WaterfallRow};
use crate::summary::words;
use crate::tilt::health::Health;
use crate::tilt::model::Resource;

/// A shorter time is not worth an entry.
const SHORT: Duration = Duration::from_millis(100);

/// An entry of a list: what it is about, how long it took, and more in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    pub took: Option<Duration>,
    pub details: String,
}

/// The updates with the longest time until their change ran: the slowest of each resource.
pub fn slow_resources(spans: &[TimedSpan]) -> Vec<Entry> {
    let mut slowest = BTreeMap::<&str, Entry>::new();
    let updates = spans.iter().filter(|span| span.kind == EventKind::Update);
    for update in updates {
        let Some(took) = update.took else { continue };
        let children = || spans.iter().filter(|span| span.is_child_of(update));
        let rollout = children().find(|span| span.kind == EventKind::Rollout);
        let rollout = rollout.and_then(|span| span.took);
        let images = children().filter(|span| span.is_image_build());
        let image = images.filter_map(|image| image.took).sum::<Duration>();
        let mut parts = Vec::new();
        let rollout_counts = rollout.is_some_and(|rollout| rollout >= SHORT);
        if took >= SHORT || !rollout_counts {
            parts.push(format!("update {}", words::duration(took)));
        }
        if image >= SHORT {
            parts.push(format!("image {}", words::duration(image)));
        }
        if let Some(rollout) = rollout.filter(|_| rollout_counts) {
            parts.push(format!("until ready {}", words::duration(rollout)));
        }
        let details = parts.join(", ");
        let took = Some(took + rollout.unwrap_or_default());
        let entry = Entry { name: words::name(&update.resource), took, details };
        let known = slowest.entry(&update.resource).or_insert_with(|| entry.clone());
        if known.took < entry.took {
            *known = entry;
        }
    }
    slowest.retain(|_, entry| entry.took >= Some(SHORT));
    longest_first(slowest.into_values().collect())
}

/// The stages of image builds that took longest.
pub fn slow_stages(spans: &[TimedSpan]) -> Vec<Entry> {
    let stages = spans.iter().filter(|span| span.kind == EventKind::DockerImageStage);
    let stages = stages.filter(|stage| !stage.is_cached && stage.took >= Some(SHORT));
    let entry = |stage: &TimedSpan| Entry {
        name: words::name(&stage.resource),
        took: stage.took,
        details: words::name(&stage.name),
    };
    longest_first(stages.map(entry).collect())
}

fn longest_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| b.took.cmp(&a.took).then_with(|| a.name.cmp(&b.name)));
    entries
}

/// The resources that are in error, then those of which an update failed, then those whose pod was
/// restarted.
pub fn failing(observed: &ObservedSpans, resources: &[&Resource]) -> Vec<Entry> {
    let mut failing: Vec<_> = resources.iter().filter_map(|r| Failures::of(observed, r)).collect();
    failing.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    failing.iter().map(Failures::entry).collect()
}

/// The failures of one resource.
struct Failures<'a> {
    resource: &'a Resource,
    is_failing: bool,
    /// The class of the last failure that Tilt shows.
    class: Option<String>,
    counts: UpdateCounts,
}

impl<'a> Failures<'a> {
    /// `None` for a resource without failures and restarts.
    fn of(observed: &ObservedSpans, resource: &'a Resource) -> Option<Self> {
        let is_update = |s: &&TimedSpan| s.kind == EventKind::Update && s.resource == resource.name;
        let updates = observed.spans.iter().filter(is_update);
        let is_failing = Health::of(resource) == Health::Error;
        let at_runtime = observed.runtime_failures.get(&resource.name).filter(|_| is_failing);
        let of_update = || updates.filter_map(|update| update.failure.clone()).next_back();
        let class = at_runtime.cloned().or_else(of_update);
        let counts = observed.tracker.update_counts(&resource.name);
        let failures = Self { resource, is_failing, class, counts };
        (is_failing || counts.failed > 0 || failures.restarts() > 0).then_some(failures)
    }

    fn restarts(&self) -> i64 {
        self.resource.restarts().unwrap_or_default()
    }

    fn sort_key(&self) -> (bool, Reverse<u32>, Reverse<i64>, &'a str) {
        (
            !self.is_failing,
            Reverse(self.counts.failed),
            Reverse(self.restarts()),
            &self.resource.name,
        )
    }

    fn entry(&self) -> Entry {
        let mut details = Vec::new();
        match &self.class {
            Some(class) if self.is_failing => details.push(class.clone()),
            Some(class) => details.push(format!("works again after {class}")),
            None if self.is_failing => details.push("in error".to_owned()),
            None => {}
        }
        let UpdateCounts { updates, failed, .. } = self.counts;
        if failed > 0 && updates > 1 {
            details.push(format!("{failed} of {updates} updates failed"));
        }
        if self.restarts() > 0 {
            let restarts = usize::try_from(self.restarts()).unwrap_or_default();
            details.push(counted(restarts, "restart"));
        }
        let name = words::name(&self.resource.name);
        Entry { name, took: None, details: details.join(", ") }
    }
}

/// The resources that waited longest for their first update, and for what.
pub fn waits(waterfall: &Waterfall) -> Vec<Entry> {
    let waited = |row: &&WaterfallRow| row.waiting_time() >= SHORT;
    let entry = |row: &WaterfallRow| Entry {
        name: row.name.clone(),
        took: Some(row.waiting_time()),
        details: row.waited.clone().unwrap_or_default(),
    };
    longest_first(waterfall.rows.iter().filter(waited).map(entry).collect())
}

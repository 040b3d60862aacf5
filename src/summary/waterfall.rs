//! The waterfall of a start: a row for each resource, each image build and each stage, with bars on a
//! common time axis. Pure.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::events::event::EventKind;
use crate::events::startup;
use crate::summary::spans::{ObservedSpans, TimedSpan};
use crate::summary::words;
use crate::tilt::health::Health;
use crate::tilt::model::{Resource, ResourceType};

/// A stage shorter than this part of the axis (1/100) is only shown if all rows are.
const SHORT_STAGE: u32 = 100;

/// The rows of a start, each resource followed by its image builds and their stages.
#[derive(Debug, Default)]
pub struct Waterfall {
    pub rows: Vec<WaterfallRow>,
    /// The length of the time axis. It begins when Tilt started.
    pub length: Duration,
    /// The number of resources whose first update Tilt no longer shows.
    pub replaced: usize,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct WaterfallRow {
    /// 0 for a resource, 1 for an image build, 2 for a stage.
    pub depth: usize,
    pub name: String,
    pub bars: Vec<Bar>,
    /// The class of its failure.
    pub failure: Option<String>,
    /// Says for which resource or until when it waited.
    pub waited: Option<String>,
}

/// Time that a row spent in one way. Times count from the start of the axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    pub kind: BarKind,
    pub from: Duration,
    pub to: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// From the load of the Tiltfile until the first update began.
    Waiting,
    Update,
    /// From the end of the update until the resource was ready.
    Rollout,
    Image,
    Stage,
}

impl BarKind {
    /// Every value with its word in a legend.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Waiting, "waiting"),
        (Self::Update, "update"),
        (Self::Rollout, "until ready"),
        (Self::Image, "image build"),
        (Self::Stage, "stage"),
    ];
}

impl WaterfallRow {
    /// The time from the first update until the end of the last bar. Waiting does not count. `None`
    /// if nothing has begun.
    pub fn took(&self) -> Option<Duration> {
        let work = || self.bars.iter().filter(|bar| bar.kind != BarKind::Waiting);
        let from = work().map(|bar| bar.from).min()?;
        let to = work().map(|bar| bar.to).max()?;
        Some(to.saturating_sub(from))
    }

    /// How long it waited before that.
    pub fn waiting_time(&self) -> Duration {
        let waiting = self.bars.iter().find(|bar| bar.kind == BarKind::Waiting);
        waiting.map_or(Duration::ZERO, |bar| bar.to.saturating_sub(bar.from))
    }

    /// Whether any of its bars is of this kind.
    pub fn has(&self, kind: BarKind) -> bool {
        self.bars.iter().any(|bar| bar.kind == kind)
    }

    fn is_short(&self, length: Duration) -> bool {
        let took = self.took().unwrap_or_default();
        self.depth == 2 && self.failure.is_none() && took * SHORT_STAGE < length
    }
}

impl Waterfall {
    /// The start that began at `origin`, as observed at `now`. `resources` are those that count.
    pub fn of(
        observed: &ObservedSpans,
        resources: &[&Resource],
        origin: SystemTime,
        now: SystemTime,
    ) -> Self {
        let start = Start::new(observed, resources, origin, now);
        let mut rows: Vec<_> =
            resources.iter().filter_map(|resource| start.subtree(resource)).collect();
        rows.sort_by_key(|rows| rows.first().and_then(order));
        let replaced = resources.iter().filter(|resource| start.is_replaced(resource)).count();
        let rows = rows.into_iter().flatten().collect();
        Self { rows, length: start.length(), replaced }
    }

    /// The most important rows, in their order, and the number of the others. Failed rows come
    /// first, then those that took longest. A row never comes without those that it is part of.
    /// `limit` is the largest number of rows; without one, all are shown.
    pub fn fit(&self, limit: Option<usize>) -> (Vec<&WaterfallRow>, usize) {
        let Some(limit) = limit else { return (self.rows.iter().collect(), 0) };
        let is_short = |index: &usize| self.rows[*index].is_short(self.length);
        let mut order: Vec<_> = (0..self.rows.len()).filter(|index| !is_short(index)).collect();
        order.sort_by_key(|&index| {
            let row = &self.rows[index];
            (row.failure.is_none(), std::cmp::Reverse(row.took()))
        });
        let mut chosen = BTreeSet::new();
        for index in order {
            let mut added = self.ancestors(index);
            added.push(index);
            added.retain(|index| !chosen.contains(index));
            if chosen.len() + added.len() <= limit {
                chosen.extend(added);
            }
        }
        let rows: Vec<_> = chosen.iter().map(|&index| &self.rows[index]).collect();
        let hidden = self.rows.len() - rows.len();
        (rows, hidden)
    }

    /// The rows that this one is part of.
    fn ancestors(&self, index: usize) -> Vec<usize> {
        let mut depth = self.rows[index].depth;
        let mut ancestors = Vec::new();
        for above in (0..index).rev() {
            if self.rows[above].depth < depth {
                depth = self.rows[above].depth;
                ancestors.push(above);
            }
        }
        ancestors
    }
}

/// Rows are ordered by the begin of their work. Resources that only wait come last.
fn order(row: &WaterfallRow) -> Option<(bool, Duration)> {
    let work = row.bars.iter().find(|bar| bar.kind != BarKind::Waiting);
    let bar = work.or(row.bars.first())?;
    Some((work.is_none(), bar.from))
}

/// The parts of a start.
struct Start<'a> {
    /// The updates and rollouts of the start, sorted by their starts.
    work: Vec<&'a TimedSpan>,
    observed: &'a ObservedSpans,
    origin: SystemTime,
    /// When Tilt had loaded its Tiltfile. Nothing else can begin before.
    loaded_at: SystemTime,
    /// The end of work that goes on.
    horizon: SystemTime,
}

impl<'a> Start<'a> {
    fn new(
        observed: &'a ObservedSpans,
        resources: &[&Resource],
        origin: SystemTime,
        now: SystemTime,
    ) -> Self {
        let latest = origin + startup::TIMEOUT;
        let starts = |span: &&TimedSpan| {
            let resource = resources.iter().find(|resource| resource.name == span.resource);
            resource.is_some_and(|resource| resource.starts_automatically())
        };
        let is_work =
            |span: &&TimedSpan| matches!(span.kind, EventKind::Update | EventKind::Rollout);
        let is_first = |span: &&TimedSpan| span.is_initial != Some(false) && span.start <= latest;
        let spans = observed.spans.iter();
        let work: Vec<_> = spans.filter(is_work).filter(is_first).filter(starts).collect();
        let loads = work.iter().filter(|span| is_tiltfile(resources, &span.resource));
        let loaded_at = loads.filter_map(|span| span.end()).min().unwrap_or(origin);
        let ends = work.iter().filter_map(|span| span.end());
        let last_end = ends.max().unwrap_or(origin);
        let goes_on = work.iter().any(|span| span.took.is_none())
            || resources.iter().any(|resource| waits_to_begin(resource));
        let horizon = if goes_on { last_end.max(now.min(latest)) } else { last_end };
        Self { work, observed, origin, loaded_at, horizon }
    }

    fn length(&self) -> Duration {
        self.horizon.duration_since(self.origin).unwrap_or_default()
    }

    /// The row of a resource and those of its image builds. `None` if it is not part of the start.
    fn subtree(&self, resource: &Resource) -> Option<Vec<WaterfallRow>> {
        let work: Vec<_> =
            self.work.iter().copied().filter(|span| span.resource == resource.name).collect();
        if work.is_empty() && !waits_to_begin(resource) {
            return None;
        }
        let mut bars: Vec<_> = work.iter().map(|span| self.bar(span)).collect();
        bars.splice(0..0, self.waiting_bar(resource, work.first().copied()));
        let row = WaterfallRow {
            depth: 0,
            name: words::name(&resource.name),
            bars,
            failure: self.failure(resource, &work),
            waited: self.waited(resource, work.first().copied()),
        };
        let images = self.observed.spans.iter().filter(|span| span.is_image_build());
        let images = images.filter(|image| work.iter().any(|update| image.is_child_of(update)));
        Some(std::iter::once(row).chain(images.flat_map(|image| self.image_rows(image))).collect())
    }

    /// Why an update or a rollout of the start failed, or why the resource is down now.
    fn failure(&self, resource: &Resource, work: &[&TimedSpan]) -> Option<String> {
        let failed = work.iter().find_map(|span| span.failure.clone());
        failed.or_else(|| {
            let is_down = Health::of(resource) == Health::Error;
            self.observed.runtime_failures.get(&resource.name).filter(|_| is_down).cloned()
        })
    }

    fn image_rows(&self, image: &TimedSpan) -> Vec<WaterfallRow> {
        let stages = self.observed.spans.iter().filter(|stage| stage.is_child_of(image));
        let row = |depth, name: String, span: &TimedSpan| WaterfallRow {
            depth,
            name,
            bars: vec![self.bar(span)],
            failure: span.failure.clone(),
            waited: None,
        };
        let image_row = row(1, format!("image {}", words::name(&image.name)), image);
        let stage_rows = stages.map(|stage| row(2, words::name(&stage.name), stage));
        std::iter::once(image_row).chain(stage_rows).collect()
    }

    fn bar(&self, span: &TimedSpan) -> Bar {
        let kind = match span.kind {
            EventKind::Update => BarKind::Update,
            EventKind::Rollout => BarKind::Rollout,
            EventKind::DockerImageStage => BarKind::Stage,
            _ => BarKind::Image,
        };
        let end = span.end().unwrap_or(self.horizon);
        Bar { kind, from: self.since_origin(span.start), to: self.since_origin(end) }
    }

    fn since_origin(&self, time: SystemTime) -> Duration {
        time.duration_since(self.origin).unwrap_or_default()
    }

    /// The wait of a resource for its first update. `None` for a Tiltfile, which waits for nothing,
    /// and for a resource whose first update may be another one.
    fn waiting_bar(&self, resource: &Resource, first: Option<&TimedSpan>) -> Option<Bar> {
        let is_known =
            first.is_none_or(|first| first.is_initial == Some(true)) || resource.updates.len() == 1;
        if resource.resource_type == Some(ResourceType::Tiltfile) || !is_known {
            return None;
        }
        let until = first.map_or(self.horizon, |first| first.start);
        (until > self.loaded_at).then(|| Bar {
            kind: BarKind::Waiting,
            from: self.since_origin(self.loaded_at),
            to: self.since_origin(until),
        })
    }

    /// Says what a resource waited for. A collector that watched has seen it. Otherwise the end of
    /// other work at the moment when the resource began tells until when it waited.
    fn waited(&self, resource: &Resource, first: Option<&TimedSpan>) -> Option<String> {
        let Some(first) = first else {
            let on = &resource.waiting.as_ref()?.on;
            return (!on.is_empty()).then(|| format!("for {}", words::names(on, 3)));
        };
        if let Some(names) = &first.waited_for {
            let names: Vec<_> = names.split(',').collect();
            return Some(format!("for {}", words::names(&names, 3)));
        }
        let (before, _) = self
            .work
            .iter()
            .filter(|other| other.resource != resource.name)
            .filter_map(|other| Some((*other, distance(other.end()?, first.start))))
            .filter(|(_, distance)| *distance < NEARBY)
            .min_by_key(|(_, distance)| *distance)?;
        let ended = if before.kind == EventKind::Rollout { "was ready" } else { "had ended" };
        Some(format!("until {} {ended}", words::name(&before.resource)))
    }

    /// True for a resource that was started, and whose first update Tilt no longer shows.
    fn is_replaced(&self, resource: &Resource) -> bool {
        resource.starts_automatically()
            && !resource.updates.is_empty()
            && !self.work.iter().any(|span| span.resource == resource.name)
    }
}

/// Work that ended this close to the begin of other work probably made it begin.
const NEARBY: Duration = Duration::from_millis(50);

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).or_else(|_| other.duration_since(one)).unwrap_or_default()
}

fn is_tiltfile(resources: &[&Resource], name: &str) -> bool {
    resources.iter().any(|resource| resource.is_tiltfile() && resource.name == name)
}

/// True for a resource of the start whose first update has not begun.
fn waits_to_begin(resource: &Resource) -> bool {
    resource.starts_automatically()
        && resource.updates.is_empty()
        && resource.current_update.is_none()
        && Health::of(resource) == Health::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(depth: usize, name: &str, from: u64, to: u64, failure: Option<&str>) -> WaterfallRow {
        let [from, to] = [from, to].map(Duration::from_millis);
        WaterfallRow {
            depth,
            name: name.to_owned(),
            bars: vec![Bar { kind: BarKind::Update, from, to }],
            failure: failure.map(str::to_owned),
            waited: None,
        }
    }

    fn waterfall() -> Waterfall {
        let rows = vec![
            row(0, "lint", 0, 100, Some("command_failed")),
            row(0, "api", 0, 9_000, None),
            row(1, "image api", 0, 8_000, None),
            row(2, "1/2 COPY", 0, 20, None),
            row(2, "2/2 RUN", 0, 7_000, None),
            row(0, "web", 0, 3_000, None),
        ];
        Waterfall { rows, length: Duration::from_secs(10), replaced: 0 }
    }

    #[test]
    fn failures_come_before_the_longest_rows() {
        for (limit, expected, hidden) in [
            (Some(1), vec!["lint"], 5),
            (Some(3), vec!["lint", "api", "image api"], 3),
            (Some(4), vec!["lint", "api", "image api", "2/2 RUN"], 2),
            (Some(9), vec!["lint", "api", "image api", "2/2 RUN", "web"], 1),
            (None, vec!["lint", "api", "image api", "1/2 COPY", "2/2 RUN", "web"], 0),
        ] {
            let waterfall = waterfall();
            let (rows, more) = waterfall.fit(limit);
            let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!((names, more), (expected, hidden), "{limit:?}");
        }
    }

    #[test]
    fn a_failed_stage_comes_with_its_image_and_resource() {
        let mut waterfall = waterfall();
        waterfall.rows[3].failure = Some("command_failed".to_owned());
        let (rows, _) = waterfall.fit(Some(4));
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["lint", "api", "image api", "1/2 COPY"]);
    }
}

//! Simulates a developer's day and counts its events, for `docs/cost.md`. Whole reports and changes go
//! through the same functions as in a running sidecar.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::event::EventKind;
use tilt_honeycomb::events::observation::{Heartbeats, Observation, Phase};
use tilt_honeycomb::sidecar::live_view::LiveView;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::model::{
    Condition, CurrentUpdate, ImageBuild, ImageKind, Resource, ResourceType, Session, Snapshot,
    Stage, Timestamp, Update,
};

use crate::repository::documents::assert_current;

const COST: &str = "docs/cost.md";
const SIZES: [usize; 3] = [10, 30, 100];
/// The default of `--heartbeat-fold`.
const FOLD: u32 = 5;
const HOUR: u64 = 3600;
const HOURS: u64 = 8;
const REBUILDS_PER_HOUR: u64 = 6;
/// One of this many rebuilds fails.
const FAILURE: u64 = 5;
/// The resources that a developer works on.
const EDITED: usize = 3;
const STAGES: u32 = 8;
const WORK_DAYS: u64 = 22;
const FREE_PLAN: u64 = 20_000_000;

/// The number of events of each kind, and the number of reports that the `uiresource` events represent.
#[derive(Debug, Default)]
struct Counts {
    events: BTreeMap<EventKind, u64>,
    reports: u64,
}

impl Counts {
    fn of(&self, kind: EventKind) -> u64 {
        self.events.get(&kind).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.events.values().sum()
    }

    fn builds(&self) -> u64 {
        self.total() - self.of(EventKind::UiResource) - self.of(EventKind::Session)
    }
}

/// The objects that Tilt shows during a day, each with its time in seconds.
#[derive(Default)]
struct Day {
    shown: BTreeMap<u64, Vec<Snapshot>>,
    builds: u32,
}

impl Day {
    /// A day with one start of Tilt and this many rebuilds per hour.
    fn new(resources: &mut [Resource], hours: u64, rebuilds_per_hour: u64) -> Self {
        let mut day = Self::default();
        for (at, resource) in (5..).step_by(3).zip(&mut *resources) {
            day.build(resource, at, false);
        }
        let edited = EDITED.min(resources.len());
        for number in 0..hours * rebuilds_per_hour {
            let at = (number + 1) * HOUR / rebuilds_per_hour - 100;
            let resource = &mut resources[usize::try_from(number).expect("few") % edited];
            day.build(resource, at, number % FAILURE == FAILURE - 1);
        }
        day
    }

    fn show(&mut self, at: u64, resource: &Resource) {
        let version = Snapshot { resources: vec![resource.clone()], ..Snapshot::default() };
        self.shown.entry(at).or_default().push(version);
    }

    /// An update with an image of eight stages, and then its rollout.
    fn build(&mut self, resource: &mut Resource, at: u64, fails: bool) {
        self.builds += 1;
        let span_id = format!("build:{}", self.builds);
        let (image_ends, ends, is_ready) = (at + 12, at + 14, at + 20);
        let error = || fails.then(|| "executor failed: exit code: 2".to_owned());
        resource.current_update =
            Some(CurrentUpdate { span_id: span_id.clone(), started_at: time(at) });
        resource.update_status = Some("in_progress".into());
        self.show(at, resource);

        let stage = |number| Stage {
            name: format!("[{number}/{STAGES}] RUN make"),
            cached: false,
            started_at: Some(time(at + 1)),
            finished_at: Some(time(image_ends)),
            error: None,
        };
        let build = ImageBuild {
            kind: ImageKind::Docker,
            object: format!("{0}:{0}", resource.name),
            image: Some(resource.name.clone()),
            tag: None,
            resource: Some(resource.name.clone()),
            started_at: time(at + 1),
            finished_at: time(image_ends),
            error: error(),
            stages: (1..=STAGES).map(stage).collect(),
        };
        let version = Snapshot { image_builds: vec![build], ..Snapshot::default() };
        self.shown.entry(image_ends).or_default().push(version);

        resource.current_update = None;
        let (started_at, finished_at) = (time(at), time(ends));
        let update = Update { span_id, started_at, finished_at, error: error(), warnings: 0 };
        resource.updates.insert(0, update);
        resource.updates.truncate(2);
        resource.update_status = Some(if fails { "error" } else { "ok" }.into());
        if fails {
            return self.show(ends, resource);
        }
        resource.runtime_status = Some("pending".into());
        resource.pod_status = Some("ContainerCreating".into());
        resource.pod_created_at = Some(time(ends));
        resource.ready = Some(ready(false, ends));
        self.show(ends, resource);
        resource.runtime_status = Some("ok".into());
        resource.pod_status = Some("Running".into());
        resource.ready = Some(ready(true, is_ready));
        self.show(is_ready, resource);
    }
}

fn time(seconds: u64) -> Timestamp {
    let start = humantime::parse_rfc3339("2026-11-23T09:00:00Z").expect("a time");
    let at = start + Duration::from_secs(seconds);
    Timestamp::parse(&humantime::format_rfc3339_micros(at).to_string()).expect("a time")
}

fn ready(holds: bool, since: u64) -> Condition {
    Condition { holds, reason: None, since: Some(time(since)) }
}

fn resource(name: String) -> Resource {
    Resource {
        name,
        resource_type: Some(ResourceType::K8s),
        builds_images: true,
        update_status: Some("pending".into()),
        ready: Some(ready(false, 0)),
        ..Resource::default()
    }
}

/// The rows that Tilt and the Tiltfile function add.
fn own_rows() -> [Resource; 2] {
    let tiltfile = Resource {
        resource_type: Some(ResourceType::Tiltfile),
        builds_images: false,
        update_status: Some("ok".into()),
        runtime_status: Some("not_applicable".into()),
        ready: Some(ready(true, 1)),
        ..resource("(Tiltfile)".into())
    };
    let collector = Resource {
        resource_type: Some(ResourceType::Local),
        update_status: Some("not_applicable".into()),
        runtime_status: Some("ok".into()),
        ..tiltfile.clone()
    };
    [tiltfile, Resource { name: "honeycomb-collector".into(), ..collector }]
}

/// A sidecar, from its start to its stop.
struct Sidecar {
    fold: u32,
    view: LiveView,
    state: State,
    counts: Counts,
}

impl Sidecar {
    fn record(&mut self, heartbeats: Heartbeats, phase: Phase, at: u64) {
        let context = Context { collector: "honeycomb-collector".into(), ..Context::default() };
        let heartbeat_fold = if at == 0 { 1 } else { self.fold };
        let is_watched = phase == Phase::Running;
        let observation =
            Observation { heartbeat_fold, is_watched, phase, ..self.view.observation(heartbeats) };
        reconcile(&mut self.state, &observation, &context, time(at).at);
        self.view.mark_reported();
        for event in self.state.take_new_events() {
            *self.counts.events.entry(event.kind).or_default() += 1;
            if event.kind == EventKind::UiResource {
                self.counts.reports += sample_rate(event.wire.get());
            }
        }
    }
}

/// The sample rate of an encoded event. Parsing all events of a day would take too long.
fn sample_rate(wire: &str) -> u64 {
    let rate = wire.split_once("\"samplerate\":").and_then(|(_, rest)| rest.split_once(','));
    rate.map_or(1, |(rate, _)| rate.parse().expect("a number"))
}

/// The events of a day.
fn count(resources: usize, fold: u32, hours: u64, rebuilds_per_hour: u64) -> Counts {
    let mut all: Vec<_> = (0..resources).map(|number| resource(format!("r{number:03}"))).collect();
    let session =
        Session { uid: Some("a day".into()), tilt_started_at: Some(time(0)), ..Session::default() };
    let mut start = Snapshot {
        session: Some(session),
        resources: all.iter().cloned().chain(own_rows()).collect(),
        has_images: [true, false],
        ..Snapshot::default()
    };
    start.sort();
    let day = Day::new(&mut all, hours, rebuilds_per_hour);
    let mut sidecar = Sidecar {
        fold,
        view: LiveView::default(),
        state: State::default(),
        counts: Counts::default(),
    };
    sidecar.view.replace(start);
    for second in 0..hours * HOUR {
        for version in day.shown.get(&second).into_iter().flatten() {
            sidecar.view.apply(version.clone());
        }
        if day.shown.contains_key(&second) {
            let changes = sidecar.view.changes();
            sidecar.record(Heartbeats::Changed(&changes), Phase::Running, second);
        }
        if second % 60 == 0 {
            sidecar.record(Heartbeats::All, Phase::Running, second);
        }
    }
    sidecar.record(Heartbeats::All, Phase::Leaving, hours * HOUR);
    sidecar.counts
}

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}

#[test]
fn cost_shows_the_events_of_a_simulated_day() {
    let mut table =
        "| resources | `--heartbeat-fold` | `uiresource` | `session` | builds | events per day | \
        events per month | developers within the free plan |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for resources in SIZES {
        let counts = count(resources, FOLD, HOURS, REBUILDS_PER_HOUR);
        // Without folding, each report is an event. The next test checks that.
        for (fold, statuses) in [(1, counts.reports), (FOLD, counts.of(EventKind::UiResource))] {
            let others = counts.of(EventKind::Session) + counts.builds();
            let month = (statuses + others) * WORK_DAYS;
            let cells = [
                resources.to_string(),
                fold.to_string(),
                grouped(statuses),
                grouped(counts.of(EventKind::Session)),
                grouped(counts.builds()),
                grouped(statuses + others),
                grouped(month),
                grouped(FREE_PLAN / month),
            ];
            writeln!(table, "| {} |", cells.join(" | ")).expect("a text");
        }
    }
    assert_current(COST, "day", &table);
}

#[test]
fn folding_changes_no_total_of_a_day() {
    let [unfolded, folded] = [1, FOLD].map(|fold| count(10, fold, HOURS, REBUILDS_PER_HOUR));
    assert_eq!(unfolded.reports, unfolded.of(EventKind::UiResource));
    assert_eq!(unfolded.reports, folded.reports);
    assert_eq!(unfolded.builds(), folded.builds());
    assert_eq!(unfolded.of(EventKind::Session), folded.of(EventKind::Session));
}

#[test]
fn cost_shows_the_events_of_each_activity() {
    let mut table =
        "| resources | start of Tilt | quiet hour | rebuild |\n|---|---|---|---|\n".to_owned();
    for resources in SIZES {
        let [one, two] = [1, 2].map(|hours| count(resources, FOLD, hours, 0).total());
        let quiet_hour = two - one;
        let busy = count(resources, FOLD, 2, REBUILDS_PER_HOUR).total() - two;
        let rebuild = busy / (2 * REBUILDS_PER_HOUR);
        let start = one - quiet_hour;
        writeln!(table, "| {resources} | {start} | {quiet_hour} | {rebuild} |").expect("a text");
    }
    assert_current(COST, "activities", &table);
}

#[test]
fn numbers_are_grouped_by_three_digits() {
    let numbers = [7, 1000, 20_000_000].map(grouped);
    assert_eq!(numbers, ["7", "1,000", "20,000,000"]);
}

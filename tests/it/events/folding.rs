//! Folding changes the number of events and no total: the sum of the sample rates is the number of
//! reports, for any course of an environment and its collectors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::observation::{Heartbeats, Observation, Phase};
use tilt_honeycomb::spool::queue::EncodedEvent;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::model::{Condition, Resource, Session, Snapshot, Timestamp};

use crate::support::of_kind;

const INTERVAL: u64 = 60;
const RESOURCES: usize = 4;

/// One step of a day.
#[derive(Debug, Clone)]
enum Step {
    /// This many intervals pass without a change.
    Reports(usize),
    /// A watch shows a new status at once.
    Status(usize, &'static str),
    /// The next report shows another value that is not part of the status.
    Label(usize, bool),
    /// The resource disappears, or comes back.
    Presence(usize, bool),
    /// The collector is stopped and starts again.
    Restart,
    /// The collector is killed and starts again.
    Kill,
    /// Tilt starts again. The old session ends with or without a last observation.
    NewSession {
        is_ended: bool,
    },
    /// Another program reports once, with its own way of folding.
    Once {
        folds: bool,
    },
    /// The machine sleeps.
    Night,
    ClockSetBack,
    /// Honeycomb accepts everything that is queued. Honeycomb is unreachable until the next delivery.
    Delivery,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![Just("ok"), Just("error"), Just("pending"), Just("in_progress")];
    prop_oneof![
        8 => (1..12_usize).prop_map(Step::Reports),
        4 => (0..RESOURCES, status).prop_map(|(index, status)| Step::Status(index, status)),
        1 => (0..RESOURCES, any::<bool>()).prop_map(|(index, is)| Step::Label(index, is)),
        1 => (0..RESOURCES, any::<bool>()).prop_map(|(index, is)| Step::Presence(index, is)),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => any::<bool>().prop_map(|is_ended| Step::NewSession { is_ended }),
        1 => any::<bool>().prop_map(|folds| Step::Once { folds }),
        1 => Just(Step::Night),
        1 => Just(Step::ClockSetBack),
        3 => Just(Step::Delivery),
    ]
}

/// An environment, the state of its collector, and what Honeycomb received.
struct Day {
    fold: u32,
    now: u64,
    session: usize,
    resources: Vec<(Resource, bool)>,
    /// True until this collector has made its first report.
    is_fresh: bool,
    state: State,
    /// The events that wait for Honeycomb.
    queue: Vec<EncodedEvent>,
    received: Vec<Value>,
}

impl Day {
    fn new(fold: u32) -> Self {
        let resource = |index: usize| Resource {
            name: format!("r{index}"),
            update_status: Some("ok".into()),
            ready: Some(Condition { holds: true, reason: None, since: Some(timestamp(0)) }),
            ..Resource::default()
        };
        Self {
            fold,
            now: 1_800_000_000,
            session: 0,
            resources: (0..RESOURCES).map(|index| (resource(index), true)).collect(),
            is_fresh: true,
            state: State::default(),
            queue: Vec::new(),
            received: Vec::new(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let shown = self.resources.iter().filter(|(_, is_shown)| *is_shown);
        let session =
            Session { uid: Some(format!("session {}", self.session)), ..Session::default() };
        Snapshot {
            session: Some(session),
            resources: shown.map(|(resource, _)| resource.clone()).collect(),
            ..Snapshot::default()
        }
    }

    fn fold(&self) -> u32 {
        if self.is_fresh { 1 } else { self.fold }
    }

    fn observe(&mut self, heartbeats: Heartbeats, phase: Phase, heartbeat_fold: u32) {
        let snapshot = self.snapshot();
        let observation =
            Observation { heartbeats, phase, heartbeat_fold, ..Observation::at(&snapshot) };
        reconcile(&mut self.state, &observation, &Context::default(), moment(self.now));
        self.queue.extend(self.state.take_new_events());
    }

    fn report(&mut self) {
        self.now += INTERVAL;
        self.observe(Heartbeats::All, Phase::Running, self.fold());
        self.is_fresh = false;
    }

    fn stop(&mut self, phase: Phase) {
        self.now += 1;
        self.observe(Heartbeats::All, phase, self.fold());
    }

    fn start(&mut self) {
        // A new process knows only what the old one wrote.
        self.state = State::decode(&self.state.encode()).expect("a readable state");
        self.is_fresh = true;
        self.report();
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Reports(count) => (0..count).for_each(|_| self.report()),
            Step::Status(index, status) => {
                self.now += 7;
                let (resource, is_shown) = &mut self.resources[index];
                let is_change = *is_shown && resource.update_status.as_deref() != Some(status);
                resource.update_status = Some(status.into());
                resource.ready.as_mut().expect("a condition").since = Some(timestamp(self.now));
                let names = [resource.name.clone()];
                if is_change {
                    let heartbeats = Heartbeats::Changed(&names);
                    self.observe(heartbeats, Phase::Running, self.fold());
                }
            }
            Step::Label(index, is_there) => {
                let labels = if is_there { vec!["team-a".to_owned()] } else { Vec::new() };
                self.resources[index].0.labels = labels;
            }
            Step::Presence(index, is_shown) => self.resources[index].1 = is_shown,
            Step::Restart => {
                self.stop(Phase::Leaving);
                self.start();
            }
            Step::Kill => self.start(),
            Step::NewSession { is_ended } => {
                if is_ended {
                    self.stop(Phase::Over(None));
                }
                self.session += 1;
                self.report();
            }
            Step::Once { folds } => {
                self.now += 3;
                let fold = if folds { self.fold } else { 1 };
                self.observe(Heartbeats::All, Phase::Running, fold);
            }
            Step::Night => self.now += 10 * 3600,
            Step::ClockSetBack => self.now -= 1800,
            Step::Delivery => self.deliver(),
        }
    }

    fn deliver(&mut self) {
        let events = std::mem::take(&mut self.queue).into_iter();
        let wires = events.map(|event| serde_json::from_str::<Value>(event.wire.get()));
        self.received.extend(wires.map(|wire| wire.expect("JSON")));
    }

    /// Ends the day and returns everything that Honeycomb received.
    fn end(mut self, steps: &[Step]) -> Vec<Value> {
        self.report();
        for step in steps {
            self.run(step);
        }
        self.stop(Phase::Leaving);
        self.state.end_left_sessions(moment(self.now + 3600));
        self.queue.extend(self.state.take_new_events());
        self.deliver();
        self.received
    }
}

fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn timestamp(seconds: u64) -> Timestamp {
    let text = humantime::format_rfc3339_seconds(moment(seconds)).to_string();
    Timestamp::parse(&text).expect("a time")
}

fn sample_rate(event: &Value) -> u64 {
    event["samplerate"].as_u64().unwrap_or(1)
}

/// The number of reports for each combination of values. The values that count time are left out.
fn totals(events: &[Value]) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for event in of_kind(events, "uiresource") {
        let mut data = event["data"].clone();
        data.as_object_mut().expect("fields").remove("in_state_ms");
        *totals.entry(data.to_string()).or_default() += sample_rate(&event);
    }
    totals
}

/// The events that are never folded, without the length of the queue.
fn others(events: &[Value]) -> BTreeSet<String> {
    let others = events.iter().filter(|event| event["data"]["kind"] != "uiresource");
    let others = others.map(|event| {
        let mut event = event.clone();
        event["data"].as_object_mut().expect("fields").remove("queued");
        event.to_string()
    });
    others.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folded_reports_have_the_totals_of_unfolded_ones(
        steps in vec(step(), 0..40),
        fold in 2..=60_u32,
    ) {
        let unfolded = Day::new(1).end(&steps);
        let folded = Day::new(fold).end(&steps);
        prop_assert_eq!(totals(&folded), totals(&unfolded));
        prop_assert_eq!(others(&folded), others(&unfolded));
        prop_assert!(unfolded.iter().all(|event| sample_rate(event) == 1));

        let key = |event: &Value| (event["time"].to_string(), event["data"].to_string());
        let reports: BTreeSet<_> = unfolded.iter().map(key).collect();
        for event in of_kind(&folded, "uiresource") {
            prop_assert!(sample_rate(&event) <= u64::from(fold), "{event}");
            prop_assert!(reports.contains(&key(&event)), "not the last of its reports: {event}");
            let is_change = event["data"].get("previous_state_ms").is_some();
            prop_assert!(!is_change || sample_rate(&event) == 1, "{event}");
        }
    }
}

#[test]
fn an_unchanged_hour_needs_a_fifth_of_the_events() {
    let hour = [Step::Reports(60)];
    let count = |fold| of_kind(&Day::new(fold).end(&hour), "uiresource").len();
    assert_eq!(count(1), RESOURCES * 62, "60 reports, the first and the last");
    assert_eq!(count(5), RESOURCES * (60 / 5 + 2));
}

#[test]
fn a_reloaded_collector_sends_every_status_at_once() {
    let mut day = Day::new(5);
    day.report();
    day.run(&Step::Reports(2));
    day.deliver();
    day.received.clear();
    day.run(&Step::Restart);
    day.deliver();
    let rates: Vec<_> = of_kind(&day.received, "uiresource").iter().map(sample_rate).collect();
    assert_eq!(rates, [[3; RESOURCES], [1; RESOURCES]].concat(), "at the stop and at the start");
}

#[test]
fn a_killed_collector_loses_no_pending_report() {
    let mut day = Day::new(5);
    day.report();
    day.run(&Step::Reports(2));
    day.deliver();
    day.received.clear();
    day.run(&Step::Kill);
    day.deliver();
    let rates: Vec<_> = of_kind(&day.received, "uiresource").iter().map(sample_rate).collect();
    assert_eq!(rates, [3; RESOURCES], "two before the kill and one after it");
}

//! Properties that hold for any input: of the queue for any sequence of reports, responses, crashes and
//! restarts, and of every parser for any bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tempfile::TempDir;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::derived::{Build, DerivedEvents};
use tilt_honeycomb::events::event::{Event, EventKind, Fields};
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::honeycomb::batch::{Batch, BatchLimits, NextBatch, cut};
use tilt_honeycomb::honeycomb::response::{BatchResult, EventResult, Response, judge};
use tilt_honeycomb::spool::checksum::seal;
use tilt_honeycomb::spool::journal::Settlement;
use tilt_honeycomb::spool::positions::Positions;
use tilt_honeycomb::spool::queue::QueuedEvent;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::segment::Segment;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::spool::store::Store;
use tilt_honeycomb::tilt::list_reader::ListReader;
use tilt_honeycomb::tilt::model::Snapshot;

use crate::support::{KINDS, captured_json};

const DESTINATION: &str = "destination";
const LIMITS: BatchLimits = BatchLimits { events: 4, bytes: 1_000_000 };

/// An event in the life of the program.
#[derive(Debug, Clone)]
enum Step {
    /// Tilt shows its builds: some old ones are gone, and some are new.
    Report {
        forgets: u32,
        adds: u32,
    },
    /// Honeycomb answers a batch with these statuses, or does not answer.
    Send {
        statuses: Option<Vec<u16>>,
    },
    /// Honeycomb accepts a batch, and the program is killed before it stores the response.
    KillAfterResponse,
    /// The program is killed while it writes, and leaves these bytes in its files.
    KillDuringWrite {
        bytes: Vec<u8>,
    },
    DayPasses,
    /// A report while the clock is off by this many days.
    ClockIsWrong {
        days: i32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![4 => Just(202_u16), 1 => Just(429), 1 => Just(500), 1 => Just(400)];
    prop_oneof![
        4 => (0..4_u32, 0..4_u32).prop_map(|(forgets, adds)| Step::Report { forgets, adds }),
        4 => proptest::option::of(vec(status, 0..6)).prop_map(|statuses| Step::Send { statuses }),
        1 => Just(Step::KillAfterResponse),
        1 => vec(any::<u8>(), 0..80).prop_map(|bytes| Step::KillDuringWrite { bytes }),
        1 => Just(Step::DayPasses),
        1 => (-400..400).prop_map(|days| Step::ClockIsWrong { days }),
    ]
}

/// The state of the program on disk, and what the server received.
struct Simulation {
    folder: TempDir,
    store: Store,
    now: SystemTime,
    /// The builds that Tilt shows.
    window: Range<u32>,
    /// Every build that Tilt ever showed.
    shown: BTreeSet<String>,
    received: BTreeMap<String, usize>,
    /// True after a kill, which may repeat a batch.
    was_killed: bool,
}

impl Simulation {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            store: Store::new(folder.path(), DESTINATION),
            folder,
            now: UNIX_EPOCH + Duration::from_hours(500_000),
            window: 0..0,
            shown: BTreeSet::new(),
            received: BTreeMap::new(),
            was_killed: false,
        }
    }

    fn run(&mut self, step: &Step) {
        self.now += Duration::from_mins(1);
        match step {
            Step::Report { forgets, adds } => self.report(*forgets, *adds),
            Step::Send { statuses: Some(statuses) } => self.send(statuses, true),
            Step::Send { statuses: None } => {}
            Step::KillAfterResponse => {
                self.send(&[202; 4], false);
                self.was_killed = true;
            }
            Step::KillDuringWrite { bytes } => self.leave_partial_writes(bytes),
            Step::DayPasses => self.now += Duration::from_hours(25),
            Step::ClockIsWrong { days } => {
                let right = self.now;
                let off = Duration::from_hours(24 * u64::from(days.unsigned_abs()));
                self.now = if *days < 0 { right - off } else { right + off };
                self.report(0, 1);
                self.now = right;
            }
        }
    }

    fn report(&mut self, forgets: u32, adds: u32) {
        // Tilt never shows a build again that it stopped showing.
        self.window.end += adds;
        self.window.start = self.window.end.min(self.window.start + forgets);
        let build = |number| {
            let name = format!("build-{number}");
            Build { events: vec![event(EventKind::DockerImage, &name)], key: name }
        };
        let shown: Vec<_> = self.window.clone().map(build).collect();
        self.shown.extend(shown.iter().map(|build| build.key.clone()));
        let report = DerivedEvents {
            builds: shown,
            heartbeats: vec![event(EventKind::UiResource, "web")],
            is_full: true,
            ..DerivedEvents::default()
        };
        let now = self.now;
        let recorded = self.store.update(|| now, |state, now| state.record("session", report, now));
        recorded.expect("a writable state");
    }

    /// Leaves in each file of the queue what a kill during a write leaves there: the bytes are
    /// written, but the state does not count them.
    fn leave_partial_writes(&self, bytes: &[u8]) {
        let folder = self.folder.path().join(DESTINATION);
        for file in fs::read_dir(folder.join("queue")).into_iter().flatten() {
            let path = file.expect("a file").path();
            // Free space follows the lines of a journal, so a cut-off line there has its bytes.
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("a file");
            file.write_all(bytes).expect("a write");
        }
        if folder.exists() {
            fs::write(folder.join("state.new"), bytes).expect("a write");
        }
    }

    fn send(&mut self, statuses: &[u16], is_stored: bool) {
        let mut queue = self.store.read_queue().expect("a readable queue");
        let next = cut(&mut queue, LIMITS);
        assert_eq!(queue.finish().expect("a readable queue"), [0; 0]);
        let NextBatch::Batch(batch) = next else { return };
        let answered: Vec<_> = statuses.iter().map(|status| json!({"status": status})).collect();
        for (event, status) in events(&batch).iter().zip(statuses) {
            let image = event["data"]["image_name"].as_str().map(str::to_owned);
            // The server accepted the event or rejected it for good.
            if let (Some(image), 202 | 400) = (image, status) {
                *self.received.entry(image).or_default() += 1;
            }
        }
        let answer = Response {
            status: 200,
            body: json!(answered).to_string().into_bytes(),
            ..Response::default()
        };
        if let BatchResult::PerEvent(fates) = judge(&answer, self.now) {
            let settled = batch.seqs.iter().zip(&fates);
            let settled = settled.filter(|(_, fate)| !matches!(fate, EventResult::Retry { .. }));
            let settled: Vec<_> = settled.map(|(number, _)| *number).collect();
            if is_stored {
                self.store.prepare_to_settle().expect("a writable journal");
                self.store.settle(&settled, 0).expect("a writable journal");
            }
        }
    }

    fn send_the_rest(&mut self) {
        while self.store.queue_length().expect("a readable queue") > 0 {
            self.send(&[202; 4], true);
        }
    }
}

fn event(kind: EventKind, name: &str) -> Event {
    let mut fields = Fields::default();
    if !kind.is_heartbeat() {
        fields.set("image_name", name);
    }
    Event::new(kind, UNIX_EPOCH, fields)
}

fn events(batch: &Batch) -> Vec<Value> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&batch.body[..]).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("an array")
}

fn recorded(kind: &str) -> Value {
    captured_json(&format!("compose/{kind}.json"))
}

/// A random place in a JSON document and its new value. `None` removes the place.
type Change = (Vec<Index>, Option<Value>);

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("0001-01-01T00:00:00Z")),
        Just(json!("9999-12-31T23:59:59.999999Z")),
        Just(json!("1970-01-01T00:00:00Z")),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    (vec(any::<Index>(), 1..9), proptest::option::of(any_value()))
}

fn apply(document: &mut Value, (path, value): &Change) {
    let Some((first, rest)) = path.split_first() else { return };
    let goes_deeper = |child: &Value| !rest.is_empty() && (child.is_object() || child.is_array());
    match document {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(first.index(fields.len())).expect("a field").clone();
            if goes_deeper(&fields[&name]) {
                apply(&mut fields[&name], &(rest.to_vec(), value.clone()));
            } else if let Some(value) = value {
                fields.insert(name, value.clone());
            } else {
                fields.remove(&name);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let index = first.index(items.len());
            if goes_deeper(&items[index]) {
                apply(&mut items[index], &(rest.to_vec(), value.clone()));
            } else if let Some(value) = value {
                items[index] = value.clone();
            } else {
                items.remove(index);
            }
        }
        _ => {}
    }
}

#[test]
fn the_fuzz_seeds_are_states_of_this_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/state");
    for seed in fs::read_dir(folder).expect("the seeds") {
        let path = seed.expect("a file").path();
        let state = State::decode(&fs::read(&path).expect("a seed"));
        assert!(state.is_ok_and(|state| !state.queue().is_empty()), "{}", path.display());
    }
}

proptest! {
    // Each case writes to the disk and syncs it.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn builds_arrive_once_unless_a_crash_loses_a_response(steps in vec(step(), 0..60)) {
        let mut simulation = Simulation::new();
        for step in &steps {
            simulation.run(step);
        }
        simulation.send_the_rest();
        for build in &simulation.shown {
            let times = simulation.received.get(build).copied().unwrap_or(0);
            prop_assert!(times >= 1, "{build} never arrived");
            prop_assert!(times == 1 || simulation.was_killed, "{build} arrived {times} times");
        }
        prop_assert_eq!(simulation.received.len(), simulation.shown.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_batches_together_contain_the_queue_in_order(
        lengths in vec(0..400_usize, 0..60),
        events_limit in 1..20_usize,
        bytes_limit in 700..3000_usize,
    ) {
        let limits = BatchLimits { events: events_limit, bytes: bytes_limit };
        let names: Vec<_> = lengths.iter().enumerate().map(|(n, l)| format!("{n}{}", "x".repeat(*l))).collect();
        let builds = names.iter().map(|name| Build {
            key: name.clone(),
            events: vec![event(EventKind::CmdImage, name)],
        });
        let report = DerivedEvents { builds: builds.collect(), ..DerivedEvents::default() };
        let mut state = State::default();
        state.record("s", report.clone(), UNIX_EPOCH);
        let fresh = (0..).zip(state.take_new_events());
        let mut queue: Vec<_> =
            fresh.map(|(seq, event)| QueuedEvent::new(seq, event.kind, 0, event.wire)).collect();
        let mut sent = Vec::new();
        while let NextBatch::Batch(batch) = cut(&queue, limits) {
            let events = events(&batch);
            prop_assert!((1..=limits.events).contains(&events.len()));
            prop_assert!(json!(events).to_string().len() <= limits.bytes);
            prop_assert_eq!(events.len(), batch.seqs.len());
            sent.extend(events.iter().map(|e| e["data"]["image_name"].as_str().expect("text").to_owned()));
            queue.drain(..batch.seqs.len());
        }
        prop_assert_eq!(sent, names);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused_without_a_panic(
        bytes in vec(any::<u8>(), 0..300),
        status in any::<u16>(),
        header in proptest::option::of(".*"),
    ) {
        let mut listing = ListReader::default();
        listing.feed(&bytes);
        let _ = listing.end();
        let _ = State::decode(&bytes);
        let (retry_after, date) = (header.clone(), header.clone());
        let answer = Response { status, retry_after, date, location: header, body: bytes };
        judge(&answer, SystemTime::now());
    }

    #[test]
    fn a_changed_state_is_read_or_refused_without_a_panic(changes in vec(change(), 1..4)) {
        let mut state = State::default();
        let report = DerivedEvents {
            heartbeats: vec![event(EventKind::UiResource, "web")],
            builds: vec![Build { key: "b".into(), events: vec![event(EventKind::DockerImage, "web")] }],
            ..DerivedEvents::default()
        };
        state.record("s", report.clone(), UNIX_EPOCH);
        state.place_events(UNIX_EPOCH);
        let encoded = state.encode();
        let lines = encoded.strip_suffix(b"\n").expect("a line break").split(|byte| *byte == b'\n');
        let mut document = Vec::new();
        for line in lines {
            let mut line: Value = serde_json::from_slice(line).expect("JSON");
            for change in &changes {
                apply(&mut line, change);
            }
            // With the right checksum, the changed state is not refused at once.
            if let Some(fields) = line.as_object_mut() {
                fields.remove("crc32");
            }
            document.extend(seal(line.to_string().into_bytes()));
            document.push(b'\n');
        }
        if let Ok(mut state) = State::decode(&document) {
            state.record("s", report.clone(), SystemTime::now());
            let numbers: Vec<_> =
                state.queue().segments().iter().flat_map(Segment::numbers).take(100).collect();
            let settlement = Settlement { settled: Positions::of(&numbers), rejected: 1 };
            state.take_in_journal(&settlement.encode());
            state.place_events(SystemTime::now());
            State::decode(&state.encode()).expect("a readable state");
        }
    }

    #[test]
    fn durations_are_never_negative_for_malformed_tilt_output(
        changes in vec(change(), 1..30),
        now in 0..4_000_000_000_u64,
    ) {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let mut snapshot = Snapshot::default();
        for kind in KINDS {
            let mut document = recorded(kind);
            for change in &changes {
                apply(&mut document, change);
            }
            let mut listing = ListReader::default();
            listing.feed(document.to_string().as_bytes());
            if let Ok(listed) = listing.end() {
                snapshot.join(listed.snapshot);
            }
        }
        let mut state = State::default();
        reconcile(&mut state, &Observation::at(&snapshot), &Context::default(), now);
        for recorded in state.take_new_events() {
            let event: Value = serde_json::from_str(recorded.wire.get()).expect("JSON");
            for (name, value) in event["data"].as_object().expect("fields") {
                if name.ends_with("_ms") {
                    prop_assert!(value.as_f64().is_some_and(|ms| ms >= 0.0), "{name}: {value}");
                }
            }
        }
    }
}

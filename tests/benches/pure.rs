//! Benchmarks of the pure functions, at two sizes: `cargo bench`. `scripts/bench` measures the whole
//! program.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use divan::Bencher;
use fakes::crowd;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::failure::{Failure, Place};
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::honeycomb::batch::{self, BatchLimits, NextBatch};
use tilt_honeycomb::spool::queue::QueuedEvent;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::list_reader::ListReader;
use tilt_honeycomb::tilt::model::Snapshot;

const SIZES: [usize; 2] = [50, 2_000];

fn main() {
    divan::main();
}

/// The output of `tilt get` for this many resources.
fn printed(resources: usize) -> Vec<u8> {
    let mut text = Vec::new();
    crowd::show(resources, resources / 10, &mut text).expect("the captures exist");
    text
}

/// Reads a list in chunks, as a pipe delivers it.
fn read_list(text: &[u8]) -> Snapshot {
    let mut reader = ListReader::default();
    text.chunks(64 * 1024).for_each(|chunk| reader.feed(chunk));
    reader.end().expect("a list").snapshot
}

fn snapshot(resources: usize) -> Snapshot {
    read_list(&printed(resources))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

/// The state after a first report.
fn state(resources: usize) -> State {
    let mut state = State::default();
    reconcile(&mut state, &Observation::at(&snapshot(resources)), &Context::default(), now());
    state
}

#[divan::bench(args = SIZES)]
fn parse(bencher: Bencher, resources: usize) {
    let text = printed(resources);
    bencher.bench(|| read_list(&text));
}

#[divan::bench(args = SIZES)]
fn first_report(bencher: Bencher, resources: usize) {
    let (snapshot, context) = (snapshot(resources), Context::default());
    bencher
        .with_inputs(State::default)
        .bench_refs(|state| reconcile(state, &Observation::at(&snapshot), &context, now()));
}

#[divan::bench(args = SIZES)]
fn later_report(bencher: Bencher, resources: usize) {
    let (snapshot, context) = (snapshot(resources), Context::default());
    let known = state(resources);
    bencher
        .with_inputs(|| known.clone())
        .bench_refs(|state| reconcile(state, &Observation::at(&snapshot), &context, now()));
}

#[divan::bench(args = SIZES)]
fn encode_state(bencher: Bencher, resources: usize) {
    let state = state(resources);
    bencher.bench(|| state.encode());
}

#[divan::bench(args = SIZES)]
fn decode_state(bencher: Bencher, resources: usize) {
    let document = state(resources).encode();
    bencher.bench(|| State::decode(&document));
}

#[divan::bench(args = SIZES)]
fn cut_batch(bencher: Bencher, resources: usize) {
    let events: Vec<_> = (0..)
        .zip(state(resources).take_new_events())
        .map(|(seq, event)| QueuedEvent::new(seq, event.kind, 0, event.wire))
        .collect();
    bencher.bench(|| match batch::cut(&events, BatchLimits::DEFAULT) {
        NextBatch::Batch(batch) => batch.body.len(),
        NextBatch::Empty | NextBatch::TooLarge(_) => 0,
    });
}

/// A text of 1 MB, as a tool with much to say may leave: lines of BuildKit's and of a program's.
#[divan::bench]
fn classify_failure(bencher: Bencher) {
    let line = "ImageBuild: failed to compute cache key: failed to calculate checksum of ref \
        pzhz5wxhfuk4nt6gvf90y7xb3::uydm9wxbcjq4otmpf0mm502cn: \"/src/app.json\": lookup in \
        /home/dev/shop by pod web-7bcc7d5c5d-hfwkg [step 3/9] said 'nothing here'\n";
    let text = line.repeat(1_000_000 / line.len());
    bencher.bench(|| Failure::classify(&text, Place::DockerImage));
}

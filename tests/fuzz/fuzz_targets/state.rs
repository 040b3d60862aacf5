//! Decodes arbitrary bytes as a state. The decoder either rejects them or returns a usable state.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::honeycomb::batch::{BatchLimits, cut};
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::tilt::model::Snapshot;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut state) = State::decode(bytes) else { return };
    cut(state.queue(), BatchLimits::DEFAULT);
    let seqs: Vec<_> = state.queue().iter().map(|waiting| waiting.seq).collect();
    state.settle(&seqs[..seqs.len() / 2], 1);
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    reconcile(&mut state, &Observation::at(&Snapshot::default()), &Context::default(), now);
    State::decode(&state.encode()).expect("what was written reads back");
});

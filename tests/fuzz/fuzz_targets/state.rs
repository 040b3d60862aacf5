//! Decodes arbitrary bytes as a state. The decoder either rejects them or returns a usable state.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::batch::{Limits, cut};
use tilt_honeycomb::context::Context;
use tilt_honeycomb::look::Look;
use tilt_honeycomb::model::Snapshot;
use tilt_honeycomb::state::State;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut state) = State::decode(bytes) else { return };
    cut(state.queue(), Limits::DEFAULT);
    let numbers: Vec<_> = state.queue().iter().map(|waiting| waiting.number).collect();
    state.settle(&numbers[..numbers.len() / 2], 1);
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    state.take_in(&Look::at(&Snapshot::default()), &Context::default(), now);
    State::decode(&state.encode()).expect("an encoded state decodes");
});

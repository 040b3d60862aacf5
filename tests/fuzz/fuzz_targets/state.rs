//! Decodes arbitrary bytes as a state. The decoder either rejects them or returns a usable state.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::spool::checksum::seal;
use tilt_honeycomb::spool::journal::Settlement;
use tilt_honeycomb::spool::positions::Positions;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::segment::Segment;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::model::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    let _ = State::decode(bytes);
    // With the right checksums, the content is looked at.
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let sealed: Vec<_> = lines.map(|line| seal(line.to_vec())).collect();
    let Ok(mut state) = State::decode(&[&sealed.join(&b'\n')[..], b"\n"].concat()) else { return };
    let numbers: Vec<_> =
        state.queue().segments().iter().flat_map(Segment::numbers).take(1000).collect();
    let settlement = Settlement { settled: Positions::of(&numbers), rejected: 1 };
    state.take_in_journal(&settlement.encode());
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    reconcile(&mut state, &Observation::at(&Snapshot::default()), &Context::default(), now);
    state.place_events(now);
    State::decode(&state.encode()).expect("what was written reads back");
});

//! Reads arbitrary output of `tilt`, both as a list and as a stream of objects, and records the
//! resulting events in a state.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::context::Context;
use tilt_honeycomb::listing::Listing;
use tilt_honeycomb::look::Look;
use tilt_honeycomb::model::Snapshot;
use tilt_honeycomb::state::State;
use tilt_honeycomb::stream::Objects;

fuzz_target!(|bytes: &[u8]| {
    let list = read_list([bytes]);
    assert_eq!(list, read_list(bytes.chunks(7)));
    let mut watched = Snapshot::default();
    let mut objects = Objects::default();
    for part in bytes.chunks(7) {
        objects.feed(part, |object| {
            watched.add(object);
        });
    }
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut state = State::default();
    for snapshot in [&list, &watched, &list] {
        state.take_in(&Look::at(snapshot), &Context::default(), now);
    }
    // A list that was already recorded contains no new builds.
    let recorded = state.take_in(&Look::at(&list), &Context::default(), now);
    assert_eq!(recorded.new_builds, 0);
    State::decode(&state.encode()).expect("an encoded state decodes");
});

fn read_list<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Snapshot {
    let mut listing = Listing::default();
    parts.into_iter().for_each(|part| listing.feed(part));
    listing.end().map(|list| list.snapshot).unwrap_or_default()
}

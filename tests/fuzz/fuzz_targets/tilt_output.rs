//! Reads arbitrary output of `tilt`, both as a list and as a stream of objects, and records the
//! resulting events in a state.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::tilt::list_reader::ListReader;
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::tilt::model::Snapshot;
use tilt_honeycomb::spool::reconcile::reconcile;
use tilt_honeycomb::spool::state::State;
use tilt_honeycomb::tilt::watch_reader::WatchReader;

fuzz_target!(|bytes: &[u8]| {
    let list = read_list([bytes]);
    assert_eq!(list, read_list(bytes.chunks(7)));
    let mut watched = Snapshot::default();
    let mut objects = WatchReader::default();
    for part in bytes.chunks(7) {
        objects.feed(part, |object| {
            watched.add(object);
        });
    }
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut state = State::default();
    for snapshot in [&list, &watched, &list] {
        reconcile(&mut state, &Observation::at(snapshot), &Context::default(), now);
    }
    // A build that was recorded is not new a second time.
    let recorded = reconcile(&mut state, &Observation::at(&list), &Context::default(), now);
    assert_eq!(recorded.new_builds, 0);
    State::decode(&state.encode()).expect("an encoded state decodes");
});

fn read_list<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Snapshot {
    let mut reader = ListReader::default();
    parts.into_iter().for_each(|part| reader.feed(part));
    reader.end().map(|list| list.snapshot).unwrap_or_default()
}

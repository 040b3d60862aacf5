//! The number of bytes that a change writes does not depend on the length of the queue.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use fakes::honeycomb::{Reply, Server};
use serde_json::json;
use tilt_honeycomb::events::derived::DerivedEvents;
use tilt_honeycomb::events::event::{Event, EventKind, Fields};
use tilt_honeycomb::spool::store::Store;

use crate::support::{Sandbox, Signal, eventually};

/// A full queue.
const QUEUED: usize = 10_000;

/// The bytes and the syncs of a run.
fn written(sandbox: &Sandbox) -> (usize, usize) {
    let steps = sandbox.steps();
    let of = |call: &'static str| steps.iter().filter(move |step| step.call == call);
    let bytes = of("write").map(|step| {
        let (bytes, _) = step.target.split_once(' ').expect("bytes and a path");
        bytes.parse::<usize>().expect("a number")
    });
    (bytes.sum(), of("fsync").count())
}

/// How often a run replaced the state.
fn commits(sandbox: &Sandbox) -> usize {
    let steps = sandbox.steps();
    steps.iter().filter(|s| s.call == "rename" && s.target.ends_with("/state.ndjson")).count()
}

/// Fills the queue of the sandbox with events of about 560 bytes, as another session would.
fn fill_queue(sandbox: &Sandbox, server: &Server) {
    sandbox.queue_report(server);
    let mut fields = Fields::default();
    fields.set("text", "x".repeat(500));
    let heartbeat = Event { kind: EventKind::UiResource, time: UNIX_EPOCH, sample_rate: 1, fields };
    let heartbeats = vec![heartbeat; QUEUED - sandbox.queued()];
    let derived = DerivedEvents { heartbeats, ..DerivedEvents::default() };
    let now = UNIX_EPOCH + Duration::from_hours(500_000);
    let destination = sandbox.destination();
    let name = destination.file_name().and_then(|name| name.to_str()).expect("a name");
    let store = Store::new(&sandbox.state_dir(), name);
    let recorded = store.update(|| now, |state, now| state.record("other", derived, now));
    recorded.expect("a full queue");
    assert_eq!(sandbox.queued(), QUEUED);
}

#[test]
fn a_change_with_a_full_queue_writes_only_what_is_new() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    fill_queue(&sandbox, &server);
    server.usually(Reply::new(503, "").header("retry-after", 600));
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).with_steps(&sandbox).start();
    sandbox.is_watched();
    sidecar.says("stay queued");
    let (before, _) = written(&sandbox);
    for change in 0..100 {
        let recorded = commits(&sandbox);
        let status = if change % 2 == 0 { "in_progress" } else { "ok" };
        let lint = json!({
            "kind": "UIResource",
            "metadata": {"name": "lint"},
            "status": {"updateStatus": status, "runtimeStatus": "not_applicable"},
        });
        sandbox.tilt().add("watch-uiresources.jsonl", &lint);
        eventually("the recorded change", || commits(&sandbox) > recorded);
    }
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    let (after, _) = written(&sandbox);
    assert!(after - before < 3_000_000, "{} bytes", after - before);
}

#[test]
fn ten_thousand_events_are_delivered_with_few_writes() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    fill_queue(&sandbox, &server);
    let size = |path: &std::path::PathBuf| fs::metadata(path).expect("a file").len();
    let recorded: u64 = sandbox.queue_files().iter().map(size).sum();
    let flush = sandbox.run("--flush --timeout 1m").sending_to(&server).with_steps(&sandbox);
    flush.finish().exits_with(0);
    let (bytes, syncs) = written(&sandbox);
    assert_eq!((server.accepted().len(), sandbox.queued()), (QUEUED, 0));
    assert!(recorded + (bytes as u64) < 8_000_000, "{recorded} and {bytes} bytes");
    assert!(syncs <= 30, "{syncs} syncs");
}

//! Every build arrives once and with its own time, across outages, kills and damaged files.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};
use serde_json::Value;

use crate::support::{
    KILLED, RECORDED_EVENTS, Sandbox, Signal, builds, eventually, of_kind, recorded_builds, retry,
    set_mode,
};

/// A 503 whose `Retry-After` is longer than any delivery waits.
fn unavailable() -> Reply {
    Reply::new(503, "").header("retry-after", 600)
}

#[test]
fn restarts_of_a_sidecar_send_no_build_twice() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..3 {
        let sidecar = sandbox.polling_sidecar_to(&server).start();
        sidecar.says("sent ");
        sidecar.stop();
    }
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn sidecars_and_reports_in_parallel_send_each_build_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecars =
        [sandbox.polling_sidecar_to(&server).start(), sandbox.polling_sidecar_to(&server).start()];
    let mut expected = recorded_builds();
    for minute in 10..13 {
        let start = format!("2026-11-22T17:{minute}:00.000000Z");
        sandbox.tilt().build_web(&start, &start.replace(":00.", ":01."));
        expected.push(("web".to_owned(), start));
        let reports: Vec<_> = (0..3).map(|_| sandbox.report_to(&server).start()).collect();
        for report in reports {
            report.finish().exits_with(0);
        }
    }
    for sidecar in sidecars {
        sidecar.stop();
    }
    // Send the events that the sidecars left in the queue.
    sandbox.run("--flush --timeout 1m").sending_to(&server).finish().exits_with(0);
    expected.sort();
    // The first build may have been replaced before the first poll.
    let mut sent = builds(&server.accepted());
    if !sent.contains(&recorded_builds()[1]) {
        sent.push(recorded_builds()[1].clone());
        sent.sort();
    }
    assert_eq!(sent, expected);
    assert_eq!(sandbox.queued(), 0);
}

#[test]
fn a_build_during_an_outage_arrives_later_with_its_own_time() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);

    sandbox.tilt().build_web("2026-11-22T17:00:00.25Z", "2026-11-22T17:00:02.5Z");
    sandbox.queue_report(&server);
    // Tilt drops a finished build when the next one starts.
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);

    let last = server.requests().last().expect("a request").clone();
    let build = &of_kind(&last.events, "dockerimage")[0];
    assert_eq!(build["time"], "2026-11-22T17:00:00.250000Z");
    assert_eq!(build["data"]["duration_ms"], 2250.0);
    assert_eq!(builds(&server.accepted()).len(), 4);
}

#[test]
fn a_build_during_an_outage_survives_a_killed_sidecar() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("a report", || server.accepted().len() >= RECORDED_EVENTS);
    server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Close });
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    sidecar.says("queued; retrying in ");
    sidecar.signal(Signal::KILL);
    sidecar.finish();
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!(builds(&server.accepted()).len(), 4);
}

#[test]
fn events_are_sent_after_a_kill_during_a_stalled_response() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Stall });
    for (index, run) in
        [sandbox.polling_sidecar_to(&server), sandbox.report_to(&server)].into_iter().enumerate()
    {
        let run = run.start();
        server.request(index);
        run.signal(Signal::KILL);
        assert_eq!(run.finish().code, KILLED);
    }
    let waiting = sandbox.queued();
    assert!(waiting >= RECORDED_EVENTS, "{waiting}");

    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!(server.accepted().len(), waiting);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn a_report_killed_at_any_moment_loses_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for step in 0..12 {
        sandbox.report_to(&server).start().kill_after(Duration::from_millis(step * 3));
    }
    sandbox.report_to(&server).finish().exits_with(0);
    let mut sent = builds(&server.accepted());
    // A kill between the response and the write repeats a build. It never loses one.
    sent.dedup();
    assert_eq!(sent, recorded_builds());
}

#[test]
fn a_damaged_state_is_moved_aside_and_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let whole = fs::read(sandbox.state_file()).expect("a state");
    // The unit tests truncate it at every length.
    let lengths = [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1];
    let mut damaged: Vec<Vec<u8>> = lengths.map(|length| whole[..length].to_vec()).to_vec();
    damaged.push(b"not a state".to_vec());
    damaged.push(vec![0; whole.len()]);
    damaged.push([&whole[..], b"}"].concat());
    for bytes in damaged {
        let state = sandbox.state_file();
        fs::write(&state, &bytes).expect("a damaged state");
        let outcome =
            sandbox.report_to(&server).finish().exits_with(0).says("was damaged; moved it to");
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        let is_copy = |path: &std::path::PathBuf| {
            let copy = path.join("state.ndjson");
            is_named(path, "corrupt-") && fs::read(copy).expect("a copy") == bytes
        };
        let aside: Vec<_> =
            folders_in(&sandbox.destination()).into_iter().filter(is_copy).collect();
        assert_eq!(aside.len(), 1, "{} bytes", bytes.len());
        // With a new state, it sends every build that Tilt still shows.
        let last = server.requests().last().expect("a request").events.clone();
        assert_eq!(builds(&last), recorded_builds());
    }
}

fn is_named(path: &std::path::Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
}

fn folders_in(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn a_state_of_an_older_version_is_moved_aside() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let older = br#"{"version":1,"next":7,"dropped":0,"sessions":{},"queue":[]}"#;
    fs::write(sandbox.state_file(), older).expect("an older state");
    let report = sandbox.report_to(&server).finish().exits_with(0);
    let report = report.says("is from another version of tilt-honeycomb; moved it to");
    assert!(!report.stderr.contains("damaged"), "{}", report.stderr);
    let is_copy = |path: &std::path::PathBuf| {
        let copy = path.join("state.ndjson");
        is_named(path, "version-1-") && fs::read(copy).expect("a copy") == older
    };
    assert_eq!(folders_in(&sandbox.destination()).into_iter().filter(is_copy).count(), 1);
    let last = server.requests().last().expect("a request").events.clone();
    assert_eq!(builds(&last), recorded_builds());
}

#[test]
fn a_state_of_a_newer_version_is_not_changed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let state = sandbox.state_file();
    let newer = br#"{"version":999,"anything":"else"}"#;
    fs::write(&state, newer).expect("a newer state");
    sandbox
        .report_to(&server)
        .finish()
        .exits_with(1)
        .says("version 999 is newer")
        .says("update tilt-honeycomb");
    assert_eq!(fs::read(&state).expect("the state"), newer);

    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("version 999 is newer");
    fs::remove_file(&state).expect("the newer state");
    sidecar.says("the state is usable again").says("sent ");
    assert_eq!(fs::exists(&state).ok(), Some(true));
}

#[test]
fn an_unusable_state_folder_does_not_end_the_sidecar() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let taken = sandbox.path("work/taken");
    fs::write(&taken, "a file").expect("a file");
    let options = ["--state-dir", taken.to_str().expect("text")];
    sandbox
        .report_to(&server)
        .args(&options)
        .finish()
        .exits_with(1)
        .says("work/taken")
        .says("--state-dir");
    let sidecar = sandbox.polling_sidecar_to(&server).args(&options).start();
    sidecar.says("work/taken");
    eventually("two polls", || sandbox.tilt().calls().len() >= 3);
    assert!(sidecar.is_running());

    fs::remove_file(&taken).expect("the file");
    sidecar.says("the state is usable again");
    eventually("a report", || server.accepted().len() >= RECORDED_EVENTS);
}

// Windows has no file modes.
#[cfg(unix)]
#[test]
fn a_read_only_state_folder_is_reported() {
    if rustix::process::geteuid().is_root() {
        crate::support::skipped("root can write to a read-only folder");
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let permit = |mode| set_mode(&sandbox.state_dir(), mode);
    permit(0o500);
    let outcome = sandbox.report_to(&server).finish();
    permit(0o700);
    outcome.exits_with(1).says("Permission denied").says("--state-dir");
    assert_eq!(sandbox.queued(), RECORDED_EVENTS);
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no file modes")]
fn a_world_writable_state_folder_is_refused() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    fs::create_dir(sandbox.state_dir()).expect("a folder");
    set_mode(&sandbox.state_dir(), 0o777);
    sandbox.report_to(&server).finish().exits_with(1).says("chmod 700");
    assert_eq!(server.connections(), 0);
}

// On Windows, only administrators can create links.
#[cfg(unix)]
#[test]
fn a_symlink_as_state_file_is_not_followed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let (state, victim) = (sandbox.state_file(), sandbox.path("work/victim"));
    fs::rename(&state, &victim).expect("a renamed file");
    std::os::unix::fs::symlink(&victim, &state).expect("a link");
    let before = fs::read(&victim).expect("the victim");
    sandbox.report_to(&server).finish().exits_with(1);
    assert_eq!(fs::read(&victim).expect("the victim"), before);
}

// Windows has no file modes.
#[cfg(unix)]
#[test]
fn state_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&sandbox.state_dir()), 0o700);
    let destination = sandbox.destination();
    for folder in [&destination, &destination.join("queue")] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    let own = ["state.ndjson", "lock", "sending"].map(|name| destination.join(name));
    let files = [&own[..], &sandbox.queue_files(), &[sandbox.state_dir().join("installation-id")]];
    for file in files.concat() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// Duplicates in Honeycomb can be found by their span id.
#[test]
fn a_repeated_span_has_the_same_id() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    fs::remove_dir_all(sandbox.state_dir()).expect("a folder");
    sandbox.report_to(&server).finish().exits_with(0);
    let mut ids = BTreeMap::<String, Vec<Value>>::new();
    for event in server.accepted() {
        let data = &event["data"];
        let span =
            ["kind", "name", "image_name", "image", "stage"].map(|name| data[name].to_string());
        if data["trace.span_id"].is_string() {
            ids.entry(format!("{} {span:?}", event["time"]))
                .or_default()
                .push(data["trace.span_id"].clone());
        }
    }
    assert_eq!(ids.len(), RECORDED_EVENTS - 10, "every event except the statuses has an id");
    for (span, ids) in ids {
        assert!(ids.len() == 2 && ids[0] == ids[1], "{span}: {ids:?}");
    }
}

#[test]
fn every_event_carries_the_stored_installation_id() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..2 {
        sandbox.report_to(&server).finish().exits_with(0);
    }
    let id = fs::read_to_string(sandbox.state_dir().join("installation-id")).expect("an id");
    let events = server.accepted();
    assert!(events.len() > RECORDED_EVENTS, "{}", events.len());
    assert!(events.iter().all(|event| event["data"]["installation.id"] == id.as_str()));
    assert_eq!(names_in(&sandbox.state_dir()).len(), 3, "{:?}", sandbox.state_files());
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries.map(|entry| name(entry).into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn no_temporary_files_are_left() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..2 {
        sandbox.report_to(&server).finish().exits_with(0);
    }
    let destination = sandbox.destination();
    let name = destination.file_name().and_then(|name| name.to_str()).expect("a name");
    assert_eq!(names_in(&sandbox.state_dir()), [name, "installation-id", "installation-id.lock"]);
    assert_eq!(names_in(&destination), ["lock", "queue", "sending", "state.ndjson"]);
    let queue = names_in(&destination.join("queue")).into_iter();
    let kinds: Vec<_> = queue.map(|name| name.replace(|c: char| c.is_ascii_digit(), "")).collect();
    assert_eq!(kinds, ["-builds.ndjson", "-heartbeats.ndjson", "settled-.ndjson"]);
    for folder in ["home", "work"] {
        assert_eq!(fs::read_dir(sandbox.path(folder)).expect("a folder").count(), 0, "{folder}");
    }
}

#[test]
fn a_full_queue_drops_heartbeats_and_says_so() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(6000);
    sandbox.queue_report(&server);
    server.usually(unavailable());
    retry("a poll", || sandbox.report_to(&server).finish().unless_tilt_was_slow())
        .exits_with(4)
        .says("the queue is full: dropped the oldest 2055 heartbeats");
    assert_eq!(sandbox.queued(), 10_000);
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    let sent = server.accepted();
    assert_eq!((sent.len(), builds(&sent)), (10_000, recorded_builds()));
    assert!(sent.iter().all(Value::is_object));
}

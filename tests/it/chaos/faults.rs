//! One fault at a time: of the disk, of the process and of `tilt`. The campaign in `tests/chaos` combines
//! them.

use std::fs::{self, File};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fakes::honeycomb::{Answer, Server};

use crate::support::{
    Invocation, KILLED, PROGRAM, Sandbox, Signal, builds, eventually, make_pipe, of_kind,
    recorded_builds, swap_paths, takes_less_than,
};

type HeldLock = Arc<Mutex<Option<File>>>;

/// Makes the server take the state lock when it responds. The program then cannot store the response.
fn lock_state_on_response(sandbox: &Sandbox, server: &Server) -> HeldLock {
    let lock = sandbox.destination().join("lock");
    let held = HeldLock::default();
    let holder = Arc::clone(&held);
    server.usually(Answer::By(Arc::new(move |_| {
        let lock = File::open(&lock).expect("a lock");
        lock.lock().expect("no process holds the lock during a request");
        *holder.lock().expect("no one panicked") = Some(lock);
        Answer::Accept
    })));
    held
}

fn unlock(held: &HeldLock) {
    *held.lock().expect("no one panicked") = None;
}

#[test]
fn a_report_killed_before_its_first_write_loses_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    sandbox.report_to(&server).finish().exits_with(0);
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let lock = sandbox.lock_state();
    let report = sandbox.report_to(&server).start();
    eventually("the poll", || sandbox.tilt().calls().len() == 3);
    report.signal(Signal::KILL);
    report.finish();
    drop(lock);
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(builds(&server.accepted()).len(), recorded_builds().len() + 1);
}

#[test]
fn a_kill_before_the_response_is_stored_repeats_one_batch() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    sandbox.tilt().set("no-tilt", "");
    let locked = lock_state_on_response(&sandbox, &server);
    let before = server.requests().len();
    let report = sandbox.report_to(&server).start();
    eventually("the response", || server.accepted().len() == waiting);
    report.signal(Signal::KILL);
    report.finish();
    unlock(&locked);
    assert_eq!(sandbox.queued(), waiting);

    server.usually(Answer::Accept);
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!(server.requests().len(), before + 2);
    assert_eq!((server.accepted().len(), sandbox.queued()), (2 * waiting, 0));
}

#[test]
fn a_response_is_stored_once_the_lock_is_free() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    sandbox.tilt().set("no-tilt", "");
    let held = lock_state_on_response(&sandbox, &server);
    let report = sandbox.report_to(&server).start();
    eventually("the response", || server.accepted().len() == waiting);
    // The first attempt of the first report waits as long for the lock, and started earlier.
    let other = sandbox.run("--once --timeout 100ms").sending_to(&server);
    other.finish().exits_with(3).says("another collector has held");
    unlock(&held);
    report.finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
}

#[test]
fn a_batch_is_not_repeated_while_its_response_is_unstored() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // Long enough for any response, and shorter than the wait for the lock.
    let sidecar = sandbox.run("--timeout 4s").sending_to(&server).start();
    sidecar.says("sent ");
    sandbox.is_watched();
    let before = server.accepted().len();
    let held = lock_state_on_response(&sandbox, &server);
    sandbox.tilt().fail_lint();
    sidecar.says("another collector has held");
    assert_eq!(server.accepted().len(), before + 1);
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    unlock(&held);
    sandbox.report_to(&server).finish().exits_with(3);
    eventually("the stored response", || sandbox.queued() == 0);
    sidecar.stop();
    assert_eq!(server.accepted().len(), before + 1);
}

#[test]
fn a_kill_between_write_and_rename_leaves_a_usable_state() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    fs::write(sandbox.destination().join("state.new"), "{\"version\":1,\"que")
        .expect("a truncated file");
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
}

#[test]
fn a_sidecar_killed_at_any_moment_loses_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut delay = 0x9e37_u64;
    for _ in 0..25 {
        let sidecar = sandbox.polling_sidecar_to(&server).start();
        delay = delay.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let killed = sidecar.kill_after(Duration::from_micros((delay >> 33) % 60_000));
        assert_eq!(killed.code, KILLED, "{killed:?}");
    }
    sandbox.report_to(&server).finish().exits_with(0);
    let mut sent = builds(&server.accepted());
    sent.dedup();
    assert_eq!(sent, recorded_builds());
}

/// A report that can write files of this many blocks only: 512 or 1024 bytes, depending on the shell.
fn report_with_file_limit(sandbox: &Sandbox, server: &Server, blocks: u32) -> Invocation {
    let full = format!(r#"trap "" XFSZ; ulimit -f {blocks}; exec "$0" --once"#);
    sandbox.command(&["/bin/sh", "-c", &full, PROGRAM]).sending_to(server)
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn a_full_disk_loses_nothing_and_repeats_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    let before = server.requests().len();
    for _ in 0..3 {
        let report = report_with_file_limit(&sandbox, &server, 1);
        report.finish().exits_with(1).says("cannot write");
    }
    assert_eq!(server.requests().len(), before, "nothing is sent if it cannot be marked as sent");
    assert_eq!(sandbox.queued(), waiting);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn a_disk_with_room_for_responses_only_still_empties_the_queue() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(300);
    let waiting = sandbox.queue_report(&server);
    // The state of 300 resources is larger than 32 KiB, and the journal is smaller than 16 KiB.
    for _ in 0..3 {
        let report = report_with_file_limit(&sandbox, &server, 32);
        report.finish().exits_with(1).says("cannot write");
    }
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!(server.accepted().len(), waiting);
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot exchange two folders in one step")]
fn a_state_folder_that_is_a_file_for_a_while_loses_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("sent ");
    let (folder, aside) = (sandbox.state_dir(), sandbox.path("work/aside"));
    fs::write(&aside, "a file").expect("a file");
    swap_paths(&folder, &aside);
    sidecar.says("state/tilt-honeycomb");
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let polls = sandbox.tilt().calls().len();
    eventually("two more polls", || sandbox.tilt().calls().len() >= polls + 2);
    swap_paths(&folder, &aside);
    sidecar.says("the state is usable again");
    eventually("the build", || builds(&server.accepted()).len() > recorded_builds().len());
    sidecar.stop();
    assert_eq!(builds(&server.accepted()).len(), recorded_builds().len() + 1);
}

#[test]
fn a_removed_state_folder_is_created_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("sent ");
    fs::remove_dir_all(sandbox.state_dir()).expect("a folder");
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let has_build = || {
        let sent = builds(&server.accepted());
        sent.iter().any(|(_, start)| start.starts_with("2026-11-22T17:00:00"))
    };
    eventually("the build", has_build);
    sidecar.stop();
}

#[test]
#[cfg_attr(windows, ignore = "Windows keeps a file that is locked")]
fn a_removed_lock_file_blocks_nobody() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let held = sandbox.lock_state();
    let report = sandbox.report_to(&server).start();
    fs::remove_file(sandbox.destination().join("lock")).expect("a lock");
    report.finish().exits_with(0);
    drop(held);
    assert_eq!(sandbox.queued(), 0);
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no named pipes in folders")]
fn a_pipe_or_folder_as_state_file_is_an_error_without_a_wait() {
    for name in ["state.ndjson", "lock", "sending"] {
        for is_pipe in [true, false] {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            sandbox.queue_report(&server);
            let path = sandbox.destination().join(name);
            fs::remove_file(&path).expect("a file");
            if is_pipe {
                make_pipe(&path);
            } else {
                fs::create_dir(&path).expect("a folder");
            }
            takes_less_than(Duration::from_secs(8), || {
                let outcome = sandbox.report_to(&server).finish().exits_with(1);
                assert!(outcome.stderr.contains(name), "{}", outcome.stderr);
                outcome.took
            });
        }
    }
}

#[test]
fn a_flipped_bit_moves_the_state_aside() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let whole = fs::read(sandbox.state_file()).expect("a state");
    let text = String::from_utf8(whole.clone()).expect("text");
    // A changed version would look like a newer program. A changed name would be another resource.
    let version = text.find("\"version\":3").expect("a version") + "\"version\":".len();
    let name = text.find("\"web\"").expect("a resource") + 1;
    for at in [version, name] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(sandbox.state_file(), flipped).expect("a damaged state");
        let report = sandbox.report_to(&server).finish().exits_with(0);
        report.says("was damaged; moved it to");
        assert_eq!(builds(&server.requests().last().expect("a request").events), recorded_builds());
    }
}

#[test]
fn a_flipped_bit_in_an_event_loses_only_that_event() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    let segment = sandbox.queue_files().remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[30] ^= 1;
    fs::write(&segment, bytes).expect("a damaged segment");
    sandbox.tilt().set("no-tilt", "");
    let report = sandbox.report_to(&server).finish().exits_with(3);
    report.says("lost 1 queued event");
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting - 1, 0));
}

#[test]
fn a_removed_segment_loses_its_events_and_blocks_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    fs::remove_file(sandbox.queue_files().remove(0)).expect("a segment");
    sandbox.tilt().set("no-tilt", "");
    let report = sandbox.report_to(&server).finish().exits_with(3);
    report.says("queued events: a file in the state folder was damaged or removed");
    assert!((1..waiting).contains(&server.accepted().len()), "{}", server.accepted().len());
    assert_eq!(sandbox.queued(), 0);
}

#[test]
fn what_an_interrupted_write_left_in_a_segment_is_overwritten() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.queue_report(&server);
    for segment in sandbox.queue_files() {
        let mut file = fs::OpenOptions::new().append(true).open(segment).expect("a file");
        file.write_all(b"{\"kind\":\"update\",\"que").expect("a partial line");
    }
    fs::write(sandbox.destination().join("queue/00000000000000000001-builds.ndjson"), "left")
        .expect("a segment without an entry in the index");
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(sandbox.queued(), 0);
    assert!(server.accepted().len() > waiting);
    assert_eq!(builds(&server.accepted()).len(), recorded_builds().len() + 1);
    assert_eq!(sandbox.queue_files().len(), 3, "{:?}", sandbox.queue_files());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_watch_restarts_even_if_its_child_keeps_the_pipe_open() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let watches = || sandbox.tilt().watches("uiresources");
    sandbox.tilt().set("leave-process", "");
    let sidecar = sandbox.sidecar_to(&server).start();
    eventually("a watch", || watches() == 1);
    sidecar.says("sent ");
    sandbox.tilt().unset("leave-process").set("end", "");
    eventually("another watch", || watches() > 1);
    sandbox.tilt().unset("end");
    // A watch has two threads: `tilt watch` reads stdout, and `tilt output` reads stderr.
    eventually("no thread of the ended watch", || {
        let threads = sidecar.threads();
        let named = |name: &str| threads.iter().filter(|thread| *thread == name).count();
        named("tilt output") == named("tilt watch")
    });
    sidecar.stop();
}

#[test]
fn the_recorded_environment_has_both_kinds_of_image_build() {
    // The tests above rely on this.
    let sandbox = Sandbox::new();
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    assert_eq!((of_kind(&events, "dockerimage").len(), of_kind(&events, "cmdimage").len()), (2, 1));
}

//! A sidecar exits within 1.5 s of a signal, even when busy, and keeps all events on disk. Tilt
//! warns about a process that takes longer.

use std::fs;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use fakes::honeycomb::{Answer, Mishap, Part, Server};

use crate::support::{
    FINAL_POLL_TIMED_OUT, PROGRAM, Process, RECORDED_EVENTS, SHUTDOWN_BUDGET, Sandbox, Signal,
    builds, eventually, recorded_builds, retry, takes_less_than, test_tool,
};

/// The longest time from a signal to the exit.
const EXIT_LIMIT: Duration = Duration::from_millis(1500);

/// Returns the time from the signal to the exit.
fn time_to_exit(sidecar: Process, signal: Signal) -> Duration {
    let (outcome, took) = sidecar.ends_after(signal);
    outcome.exits_with(0);
    took
}

/// Asserts that the events stay in the queue. Returns the time to the exit.
fn time_to_exit_with_a_queue(sandbox: &Sandbox, sidecar: Process) -> Duration {
    let took = time_to_exit(sidecar, Signal::TERM);
    assert!(sandbox.queued() >= RECORDED_EVENTS, "{}", sandbox.queued());
    took
}

/// Starts a sidecar and stalls its first response after this part.
fn start_stalled(sandbox: &Sandbox, server: &Server, after: Part) -> Process {
    server.usually(Answer::Broken { after, then: Mishap::Stall });
    let sidecar = sandbox.polling_sidecar_to(server).start();
    server.request(0);
    sidecar
}

#[track_caller]
fn exits_in_time(attempt: impl FnMut() -> Duration) {
    takes_less_than(EXIT_LIMIT, attempt);
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn an_idle_sidecar_exits_on_term_int_and_hup() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        exits_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            let sidecar = sandbox.run("").sending_to(&server).start();
            sidecar.says("sent ");
            time_to_exit(sidecar, signal)
        });
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_sidecar_exits_while_tilt_hangs() {
    exits_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.tilt().set("hang", "").set("ignore-signals", "");
        let sidecar = sandbox.polling_sidecar_to(&server).start();
        eventually("a hung tilt", || !sandbox.tilt().calls().is_empty());
        time_to_exit(sidecar, Signal::TERM)
    });
}

/// Memory stays bounded while the state cannot be written.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn the_sidecar_exits_while_a_watch_floods_it() {
    exits_in_time(flooded);
}

/// Returns the time from the signal to the exit.
fn flooded() -> Duration {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let fake_tilt = fs::read_link(sandbox.tilt_program()).expect("a link");
    let shown = r#"{"kind":"UIResource","metadata":{"name":"lint"},"status":{}}"#;
    let script = format!(
        "case \"$*\" in *uiresources*--watch*) exec /usr/bin/yes '{shown}';; esac\nexec '{}' \"$@\"",
        fake_tilt.display()
    );
    sandbox.install("tilt", &script);
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent ");
    let held = sandbox.lock_state();
    sidecar.says("has held");
    assert!(sidecar.resident_kib() < 100 * 1024, "{} KiB", sidecar.resident_kib());
    drop(held);
    sidecar.says("the state is usable again");
    time_to_exit(sidecar, Signal::TERM)
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_batch_in_flight_to_a_stalled_server_is_kept_at_exit() {
    for after in [Part::Nothing, Part::Headers] {
        exits_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            let sidecar = start_stalled(&sandbox, &server, after);
            time_to_exit_with_a_queue(&sandbox, sidecar)
        });
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_sidecar_exits_while_tilt_and_server_hang() {
    exits_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = start_stalled(&sandbox, &server, Part::Nothing);
        sandbox.tilt().set("hang", "");
        let calls = sandbox.tilt().calls().len();
        eventually("a hung tilt", || sandbox.tilt().calls().len() > calls);
        time_to_exit_with_a_queue(&sandbox, sidecar)
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_sidecar_exits_during_a_backoff() {
    exits_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Close });
        let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "1m"]).start();
        server.request(2);
        time_to_exit_with_a_queue(&sandbox, sidecar)
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_final_poll_sends_new_builds() {
    retry("the sidecar exits in time", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
        sidecar.says("sent ");
        assert_eq!(builds(&server.accepted()), recorded_builds());

        let start = "2026-11-22T17:00:00.000000Z";
        sandbox.tilt().build_web(start, "2026-11-22T17:00:01Z");
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        if took >= SHUTDOWN_BUDGET || outcome.stderr.contains(FINAL_POLL_TIMED_OUT) {
            return None;
        }
        outcome.exits_with(0);
        let sent = builds(&server.accepted());
        assert_eq!(sent.len(), 4);
        assert!(sent.contains(&("web".to_owned(), start.to_owned())), "{sent:?}");
        assert_eq!(sandbox.queued(), 0);
        Some(())
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn builds_of_the_final_poll_stay_queued_if_sending_fails() {
    retry("the sidecar exits in time", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
        sidecar.says("sent ");
        server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Stall });
        sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        if took >= EXIT_LIMIT || outcome.stderr.contains(FINAL_POLL_TIMED_OUT) {
            return None;
        }
        outcome.exits_with(0);

        server.usually(Answer::Accept);
        sandbox.tilt().set("no-tilt", "");
        sandbox.report_to(&server).finish().exits_with(3);
        assert_eq!(builds(&server.accepted()).len(), 4);
        Some(())
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_second_signal_ends_the_sidecar_at_once() {
    retry("the second signal arrives before the exit", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = start_stalled(&sandbox, &server, Part::Nothing);
        sandbox.tilt().set("hang", "");
        let calls = sandbox.tilt().calls().len();
        sidecar.signal(Signal::TERM);
        eventually("the final poll", || sandbox.tilt().calls().len() > calls);
        if !sidecar.is_running() {
            // The sidecar spent its shutdown budget before the second signal.
            return None;
        }
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        assert!(sandbox.queued() >= RECORDED_EVENTS, "{}", sandbox.queued());
        (outcome.code == Some(128 + 15) && took < Duration::from_millis(300)).then_some(())
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_stopped_report_keeps_its_events() {
    // The report waits for its next attempt, or for a response that never comes.
    for (then, requests) in [(Mishap::Close, 3), (Mishap::Stall, 1)] {
        exits_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.usually(Answer::Broken { after: Part::Nothing, then });
            let report = sandbox.report_to(&server).start();
            server.request(requests - 1);
            let (outcome, took) = report.ends_after(Signal::INT);
            outcome.exits_with(4).says("45 events stay queued");
            assert_eq!(sandbox.queued(), RECORDED_EVENTS);
            took
        });
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_stopped_report_waits_a_moment_for_the_response() {
    // The response has to arrive within `RESPONSE_GRACE`.
    retry("the response arrives in time", response_after_signal);
}

fn response_after_signal() -> Option<()> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    server.usually(Answer::By(Arc::new(move |_| {
        // An error means that the test has failed.
        let _ = released.lock().expect("one request").recv();
        Answer::Accept
    })));
    let report = sandbox.report_to(&server).args(&["--verbose"]).start();
    server.request(0);
    let signalled = Instant::now();
    report.signal(Signal::TERM).says("asked to stop");
    release.send(()).expect("a waiting server");
    let outcome = report.finish();
    if outcome.code == Some(4) && outcome.ended - signalled >= Duration::from_millis(600) {
        return None;
    }
    outcome.exits_with(0);
    assert_eq!(sandbox.queued(), 0);
    Some(())
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_second_signal_ends_a_blocked_report_at_once() {
    exits_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.report_to(&server).finish().exits_with(0);
        // The first signal does not interrupt a wait for another process's write.
        let _held = sandbox.lock_state();
        let calls = sandbox.tilt().calls().len();
        let report = sandbox.report_to(&server).start();
        eventually("a poll", || sandbox.tilt().calls().len() > calls);
        // Two different signals, because the kernel merges two pending signals of the same kind.
        report.signal(Signal::INT);
        let (outcome, took) = report.ends_after(Signal::TERM);
        assert!([Some(128 + 2), Some(128 + 15)].contains(&outcome.code), "{outcome:?}");
        took
    });
}

/// Starts a sidecar from a program that exits when its stdin is closed.
fn start_by_parent(sandbox: &Sandbox, server: &Server) -> Process {
    let parent = test_tool("fake-tilt");
    let program = std::path::absolute(PROGRAM).expect("a path");
    let [parent, program] = [&parent, &program].map(|path| path.to_str().expect("text"));
    sandbox
        .command(&[parent, "--parent", program, "--no-watch", "--interval", "1s"])
        .sending_to(server)
        .env("TILT_HONEYCOMB_ORPHAN_AFTER", "1s")
        .env("TILT_HONEYCOMB_MODE", "up")
        .with_open_stdin()
        .start()
}

/// Starts a sidecar whose parent exits after the first report. The sidecar keeps its output open.
fn start_orphan(sandbox: &Sandbox, server: &Server) -> Process {
    let mut parent = start_by_parent(sandbox, server);
    parent.says("sent ");
    parent.close_stdin();
    eventually("the parent has exited", || !parent.is_running());
    parent
}

#[test]
fn an_orphaned_sidecar_exits_when_a_new_tilt_starts() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let parent = start_orphan(&sandbox, &server);
    sandbox.tilt().change("uisession", |sessions| sessions[0]["metadata"]["uid"] = "next".into());
    eventually("the sidecar has exited", || parent.output_is_closed());
}

#[test]
fn an_orphaned_sidecar_exits_when_its_tilt_is_gone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let parent = start_orphan(&sandbox, &server);

    // While its Tilt runs, the sidecar stays.
    let polls = sandbox.tilt().calls().len();
    eventually("two more polls", || sandbox.tilt().calls().len() >= polls + 2);
    assert!(!parent.output_is_closed());

    sandbox.tilt().set("no-tilt", "");
    eventually("the sidecar has exited", || parent.output_is_closed());
    assert!(
        parent.stderr().contains("tilt and the process that started this one are gone; exiting")
    );
}

#[test]
fn a_sidecar_with_a_living_parent_waits_for_tilt() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let parent = start_by_parent(&sandbox, &server);
    parent.says("sent ");
    sandbox.tilt().set("no-tilt", "");
    let polls = sandbox.tilt().calls().len();
    eventually("four failed polls", || sandbox.tilt().calls().len() >= polls + 4);
    sandbox.tilt().unset("no-tilt");
    parent.says("tilt answers again");
    assert!(parent.is_running());
}

#[test]
#[cfg(target_os = "linux")]
fn a_sidecar_without_tilt_uses_no_cpu_between_polls() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar =
        sandbox.polling_sidecar_to(&server).env("TILT_HONEYCOMB_ORPHAN_AFTER", "1s").start();
    let wait_for_polls = |count| eventually("polls", || sandbox.tilt().calls().len() >= count);
    wait_for_polls(3);
    let before = sidecar.cpu_time();
    wait_for_polls(6);
    // Three seconds pass. A busy loop would use them all.
    let used = sidecar.cpu_time().checked_sub(before).expect("CPU time does not shrink");
    assert!(used < Duration::from_secs(1), "{used:?}");
}

/// Also before the signal handlers are installed.
#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_signal_at_any_moment_of_startup_ends_the_sidecar() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for quarter_milliseconds in 0..60 {
        let sidecar = sandbox.polling_sidecar_to(&server).start();
        std::thread::sleep(Duration::from_micros(250 * quarter_milliseconds));
        if sidecar.is_running() {
            sidecar.ends_after(Signal::TERM);
        }
    }
}

//! However busy it is, a collector ends within 1.5 s of a signal, with everything on disk: Tilt speaks up
//! about a sidecar that takes longer.

use std::fs;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::sandbox::{
    FAREWELL, LATE_LOOK, PROGRAM, Process, RECORDED, Sandbox, builds, eventually, in_some_tries,
    recorded_builds, takes_less_than,
};
use fakes::honeycomb::{Answer, Mishap, Part, Server};

const PROMISED: Duration = Duration::from_millis(1500);

fn ends(sidecar: Process, signal: Signal) -> Duration {
    let (outcome, took) = sidecar.ends_after(signal);
    outcome.exits_with(0);
    took
}

/// A sidecar to which the server says no more than this.
fn left_waiting(sandbox: &Sandbox, server: &Server, after: Part) -> Process {
    server.usually(Answer::Broken { after, then: Mishap::Stall });
    let sidecar = sandbox.sidecar_to(server).start();
    server.request(0);
    sidecar
}

#[track_caller]
fn ends_in_time(attempt: impl FnMut() -> Duration) {
    takes_less_than(PROMISED, attempt);
}

#[test]
fn asleep_between_reports_it_ends_at_any_of_the_three_signals() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        ends_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            let sidecar = sandbox.run("").sending_to(&server).start();
            sidecar.says("sent ");
            ends(sidecar, signal)
        });
    }
}

#[test]
fn it_ends_while_tilt_hangs() {
    ends_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.tilt().set("hang", "").set("ignore-signals", "");
        let sidecar = sandbox.sidecar_to(&server).start();
        eventually("a hung tilt", || !sandbox.tilt().calls().is_empty());
        ends(sidecar, Signal::TERM)
    });
}

/// Nor does what cannot be written meanwhile take more and more memory.
#[test]
fn it_ends_while_a_watch_floods_it() {
    ends_in_time(flooded);
}

/// How long it then takes to end.
fn flooded() -> Duration {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let stand_in = fs::read_link(sandbox.path("bin/tilt")).expect("a link");
    let shown = r#"{"kind":"UIResource","metadata":{"name":"lint"},"status":{}}"#;
    let script = format!(
        "case \"$*\" in *uiresources*--watch*) exec /usr/bin/yes '{shown}';; esac\nexec '{}' \"$@\"",
        stand_in.display()
    );
    sandbox.install("tilt", &script);
    let sidecar = sandbox.live_to(&server).start();
    sidecar.says("sent ");
    let held = sandbox.hold_state();
    sidecar.says("has held");
    assert!(sidecar.resident_kib() < 100 * 1024, "{} KiB", sidecar.resident_kib());
    drop(held);
    sidecar.says("the state is usable again");
    ends(sidecar, Signal::TERM)
}

#[test]
fn it_ends_while_the_server_stalls_and_keeps_what_was_on_its_way() {
    for after in [Part::Nothing, Part::Headers] {
        ends_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            let sidecar = left_waiting(&sandbox, &server, after);
            let took = ends(sidecar, Signal::TERM);
            assert!(sandbox.waiting() >= RECORDED, "{}", sandbox.waiting());
            took
        });
    }
}

#[test]
fn it_ends_while_both_hang() {
    ends_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = left_waiting(&sandbox, &server, Part::Nothing);
        sandbox.tilt().set("hang", "");
        let calls = sandbox.tilt().calls().len();
        eventually("a hung tilt", || sandbox.tilt().calls().len() > calls);
        let took = ends(sidecar, Signal::TERM);
        assert!(sandbox.waiting() >= RECORDED, "{}", sandbox.waiting());
        took
    });
}

#[test]
fn it_ends_while_it_waits_to_try_again() {
    ends_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Close });
        let sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "1m"]).start();
        server.request(2);
        let took = ends(sidecar, Signal::TERM);
        assert!(sandbox.waiting() >= RECORDED, "{}", sandbox.waiting());
        took
    });
}

#[test]
fn it_takes_one_last_look_and_sends_what_it_sees() {
    in_some_tries("it ends in time", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
        sidecar.says("sent ");
        assert_eq!(builds(&server.accepted()), recorded_builds());

        let start = "2026-11-22T17:00:00.000000Z";
        sandbox.tilt().build_web(start, "2026-11-22T17:00:01Z");
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        if took >= FAREWELL || outcome.stderr.contains(LATE_LOOK) {
            return None;
        }
        outcome.exits_with(0);
        let sent = builds(&server.accepted());
        assert_eq!(sent.len(), 4);
        assert!(sent.contains(&("web".to_owned(), start.to_owned())), "{sent:?}");
        assert_eq!(sandbox.waiting(), 0);
        Some(())
    });
}

#[test]
fn what_the_last_look_sees_is_kept_where_it_cannot_be_sent() {
    in_some_tries("it ends in time", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
        sidecar.says("sent ");
        server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Stall });
        sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        if took >= PROMISED || outcome.stderr.contains(LATE_LOOK) {
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
fn a_second_signal_ends_it_at_once() {
    in_some_tries("it ends at once", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = left_waiting(&sandbox, &server, Part::Nothing);
        sandbox.tilt().set("hang", "");
        let calls = sandbox.tilt().calls().len();
        sidecar.signal(Signal::TERM);
        eventually("its last look", || sandbox.tilt().calls().len() > calls);
        if !sidecar.is_running() {
            // It had a second for its farewell, and that is over.
            return None;
        }
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        assert!(sandbox.waiting() >= RECORDED, "{}", sandbox.waiting());
        (outcome.code == Some(128 + 15) && took < Duration::from_millis(300)).then_some(())
    });
}

#[test]
fn a_single_report_that_is_stopped_keeps_its_events() {
    // It waits to try again, or for an answer that never comes.
    for (then, requests) in [(Mishap::Close, 3), (Mishap::Stall, 1)] {
        ends_in_time(|| {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.usually(Answer::Broken { after: Part::Nothing, then });
            let report = sandbox.report_to(&server).start();
            server.request(requests - 1);
            let (outcome, took) = report.ends_after(Signal::INT);
            outcome.exits_with(4).says("39 events are kept for next time");
            assert_eq!(sandbox.waiting(), RECORDED);
            took
        });
    }
}

#[test]
fn a_single_report_that_is_stopped_hears_the_answer_first() {
    // It waits for a second, in which the answer has to come.
    in_some_tries("it hears the answer", hears_the_answer_first);
}

fn hears_the_answer_first() -> Option<()> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (answer, asked) = mpsc::channel::<()>();
    let asked = Mutex::new(asked);
    server.usually(Answer::By(Arc::new(move |_| {
        // When the test has failed, nobody asks any more.
        let _ = asked.lock().expect("one request").recv();
        Answer::Accept
    })));
    let report = sandbox.report_to(&server).args(&["--verbose"]).start();
    server.request(0);
    let signalled = Instant::now();
    report.signal(Signal::TERM).says("asked to end");
    answer.send(()).expect("a server that waits");
    let outcome = report.finish();
    if outcome.code == Some(4) && outcome.ended - signalled >= Duration::from_secs(1) {
        return None;
    }
    outcome.exits_with(0);
    assert_eq!(sandbox.waiting(), 0);
    Some(())
}

#[test]
fn a_second_signal_ends_a_single_report_whatever_it_waits_for() {
    ends_in_time(|| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.report_to(&server).finish().exits_with(0);
        // The first is not heard by who waits for another collector's write.
        let _held = sandbox.hold_state();
        let calls = sandbox.tilt().calls().len();
        let report = sandbox.report_to(&server).start();
        eventually("its look", || sandbox.tilt().calls().len() > calls);
        // Two different ones: of two equal ones that wait, a process gets one.
        report.signal(Signal::INT);
        let (outcome, took) = report.ends_after(Signal::TERM);
        assert!([Some(128 + 2), Some(128 + 15)].contains(&outcome.code), "{outcome:?}");
        took
    });
}

/// Starts a sidecar from a shell that ends as soon as its stdin is closed.
fn started_by_a_shell(sandbox: &Sandbox, server: &Server) -> Process {
    let script = r#""$0" --no-watch --interval 1s & read line"#;
    sandbox
        .command(&["/bin/sh", "-c", script, PROGRAM])
        .sending_to(server)
        .env("TILT_HONEYCOMB_ORPHAN_AFTER", "1s")
        .env("TILT_HONEYCOMB_MODE", "up")
        .with_open_stdin()
        .start()
}

#[test]
fn an_orphan_leaves_the_next_tilt_to_that_ones_own_collector() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut shell = started_by_a_shell(&sandbox, &server);
    shell.says("sent ");
    shell.close_stdin();
    eventually("the shell has ended", || !shell.is_running());
    sandbox.tilt().change("uisession", |sessions| sessions[0]["metadata"]["uid"] = "next".into());
    eventually("it has ended", || shell.is_silent());
}

#[test]
fn an_orphan_ends_when_its_tilt_stays_gone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut shell = started_by_a_shell(&sandbox, &server);
    shell.says("sent ");
    shell.close_stdin();
    eventually("the shell has ended", || !shell.is_running());

    // Its Tilt lives: it stays.
    let looks = sandbox.tilt().calls().len();
    eventually("two more looks", || sandbox.tilt().calls().len() >= looks + 2);
    assert!(!shell.is_silent());

    sandbox.tilt().set("no-tilt", "");
    eventually("it has ended", || shell.is_silent());
    assert!(shell.stderr().contains("so is the process that started this one: ending"));
}

#[test]
fn a_sidecar_whose_parent_lives_stays_however_long_tilt_is_gone() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let shell = started_by_a_shell(&sandbox, &server);
    shell.says("sent ");
    sandbox.tilt().set("no-tilt", "");
    let looks = sandbox.tilt().calls().len();
    eventually("four looks in vain", || sandbox.tilt().calls().len() >= looks + 4);
    sandbox.tilt().unset("no-tilt");
    shell.says("tilt answers again");
    assert!(shell.is_running());
}

#[test]
#[cfg(target_os = "linux")]
fn a_sidecar_whose_tilt_stays_gone_sleeps_between_its_looks() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_ORPHAN_AFTER", "1s").start();
    let looks = |count| eventually("looks", || sandbox.tilt().calls().len() >= count);
    looks(3);
    let before = sidecar.cpu_ticks();
    looks(6);
    // Three seconds, of which a loop that does not wait would use all: 300.
    let used = sidecar.cpu_ticks() - before;
    assert!(used < 100, "{used} hundredths of a second");
}

/// However early it comes: also before anything is ready to heed it.
#[test]
fn a_signal_at_any_moment_of_the_start_is_heeded() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for quarter_milliseconds in 0..60 {
        let sidecar = sandbox.sidecar_to(&server).start();
        std::thread::sleep(Duration::from_micros(250 * quarter_milliseconds));
        if sidecar.is_running() {
            sidecar.ends_after(Signal::TERM);
        }
    }
}

//! The wall clock leaps while the clock that waits are measured by goes on: the machine was asleep, or
//! its clock was set.

use rustix::process::Signal;
use serde_json::Value;

use crate::honeycomb::{Answer, Reply, Server};
use crate::machine::Clock;
use crate::sandbox::{Invocation, Sandbox, builds, eventually, machine, of_kind, recorded_builds};

const DAY: i64 = 24 * 3600;

fn clock(sandbox: &Sandbox) -> Clock {
    Clock::new(sandbox.path("clock")).expect("a file")
}

fn by(clock: &Clock, run: Invocation) -> Invocation {
    run.env("LD_PRELOAD", machine()).env("CLOCK_LEAP", clock.file())
}

fn reports(server: &Server) -> Vec<Value> {
    of_kind(&server.accepted(), "session")
}

#[test]
fn a_laptop_that_wakes_up_reports_soon_and_not_an_hour_later() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = clock(&sandbox);
    let sidecar = by(&clock, sandbox.run("--interval 1h").sending_to(&server)).start();
    eventually("the first report", || reports(&server).len() == 1);
    clock.leap(8 * 3600).expect("a leap");
    eventually("another", || reports(&server).len() == 2);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn a_laptop_that_wakes_up_sends_what_waited_for_a_server_that_had_asked_for_a_minute() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = clock(&sandbox);
    server.usually(Reply::new(429, "").header("retry-after", 600));
    let sidecar = by(&clock, sandbox.run("--interval 1h").sending_to(&server)).start();
    sidecar.says("trying again");
    server.usually(Answer::Accept);
    clock.leap(DAY).expect("a leap");
    eventually("what waited", || builds(&server.accepted()) == recorded_builds());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn a_clock_that_is_set_ahead_and_back_loses_and_repeats_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = clock(&sandbox);
    let sidecar = by(&clock, sandbox.sidecar_to(&server)).start();
    sidecar.says("sent ");
    server.usually(Reply::new(503, "").header("retry-after", 600));
    for (days, second) in [(400, 10), (-400, 20), (0, 30)] {
        clock.leap(days * DAY).expect("a leap");
        let starts = format!("2026-11-22T17:00:{second}Z");
        sandbox.tilt().build_web(&starts, &starts.replace('Z', ".5Z"));
        let looks = sandbox.tilt().calls().len();
        eventually("two more reports", || sandbox.tilt().calls().len() >= looks + 2);
    }
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    let told = builds(&server.accepted());
    assert_eq!(told.len(), recorded_builds().len() + 3, "{told:?}");
}

//! The wall clock leaps while the clock that waits are measured by goes on: the machine was asleep, or
//! its clock was set.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::sandbox::{
    Invocation, Sandbox, builds, eventually, machine, of_kind, recorded_builds,
};
use fakes::honeycomb::{Answer, Reply, Server};
use fakes::machine::Clock;

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

/// Has Tilt have started a minute ago, and everything wait since.
fn starts_and_never_comes_up(sandbox: &Sandbox) {
    let minute_ago = SystemTime::now() - Duration::from_mins(1);
    sandbox.tilt().change("uisession", |sessions| {
        let started = humantime::format_rfc3339_micros(minute_ago).to_string();
        sessions[0]["status"]["tiltStartTime"] = started.into();
    });
    sandbox.tilt().change("uiresources", |resources| {
        for resource in resources {
            resource["status"] = json!({"updateStatus": "pending", "runtimeStatus": "pending"});
        }
    });
}

#[test]
fn a_start_up_that_ended_with_its_tilt_is_no_timeout_however_late_that_is_told() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = clock(&sandbox);
    starts_and_never_comes_up(&sandbox);
    let sidecar = by(&clock, sandbox.run("--interval 1h").sending_to(&server)).start();
    sandbox.is_watched();
    eventually("a report", || reports(&server).len() == 1);
    sandbox.tilt().set("no-tilt", "").set("end", "");
    sidecar.says("cannot reach Tilt");
    clock.leap(3600).expect("a leap");
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let startups = of_kind(&server.accepted(), "startup");
    assert_eq!((startups.len(), &startups[0]["data"]["ended_by"]), (1, &"session_end".into()));
    let took = startups[0]["data"]["duration_ms"].as_f64().expect("a number");
    assert!((60e3..1000e3).contains(&took), "until its end: {took}");
}

#[test]
fn a_start_up_in_which_nothing_moved_lasted_until_tilt_was_last_there() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = clock(&sandbox);
    starts_and_never_comes_up(&sandbox);
    let sidecar = by(&clock, sandbox.run("--interval 1s").sending_to(&server)).start();
    sandbox.is_watched();
    eventually("a report", || !reports(&server).is_empty());
    clock.leap(240).expect("a leap");
    let uptime = || reports(&server).last().expect("one")["data"]["uptime_ms"].as_f64();
    eventually("a report four minutes later", || uptime() > Some(300e3));
    sandbox.tilt().set("no-tilt", "").set("end", "");
    sidecar.says("cannot reach Tilt");
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let startup = &of_kind(&server.accepted(), "startup")[0]["data"];
    assert!(startup["duration_ms"].as_f64() > Some(300e3), "{startup}");
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

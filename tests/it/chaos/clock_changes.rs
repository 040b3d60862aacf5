//! The wall clock jumps, while the monotonic clock that measures waits goes on: after a suspend, or
//! when the clock is set.

use std::fs;
use std::time::{Duration, SystemTime};

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::{Value, json};

use crate::support::{Sandbox, builds, eventually, of_kind, recorded_builds};

const DAY: i64 = 24 * 3600;

fn reports(server: &Server) -> Vec<Value> {
    of_kind(&server.accepted(), "session")
}

#[test]
fn a_report_follows_soon_after_resume() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).with_clock(&clock).start();
    eventually("the first report", || reports(&server).len() == 1);
    clock.leap(8 * 3600).expect("a clock file");
    eventually("another report", || reports(&server).len() == 2);
    sidecar.stop();
}

#[test]
fn the_queue_is_sent_after_resume_despite_retry_after() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    server.usually(Reply::new(429, "").header("retry-after", 600));
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).with_clock(&clock).start();
    sidecar.says("retrying in ");
    server.usually(Answer::Accept);
    clock.leap(DAY).expect("a clock file");
    eventually("the queued builds", || builds(&server.accepted()) == recorded_builds());
    sidecar.stop();
}

#[test]
fn deliveries_that_fail_for_ten_minutes_are_logged_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    server.usually(Reply::new(503, ""));
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).with_clock(&clock).start();
    sidecar.says("retrying in ");
    clock.leap(700).expect("a clock file");
    sidecar.says("Z WARNING: all deliveries have failed for 11m ").says(" stay queued");
    let button = sandbox.path("tilt/uibutton");
    eventually("a notice in Tilt's UI", || button.exists());
    let shown = fs::read_to_string(&button).expect("a button");
    let location = r#""location":{"componentID":"honeycomb-collector","componentType":"Resource"}"#;
    assert!(shown.contains(location), "{shown}");
    assert!(shown.contains("No delivery to Honeycomb for over 10 minutes"), "{shown}");
    // A named icon needs a font from the internet.
    assert!(shown.contains(r#""iconSVG":"<svg "#), "{shown}");
    server.usually(Answer::Accept);
    sidecar.says("Z deliveries work again after 11m ").says("Z sent ");
    eventually("no notice in Tilt's UI", || !button.exists());
    sidecar.stop();
}

/// Makes Tilt show a session that started a minute ago and whose resources are all pending.
fn show_stuck_startup(sandbox: &Sandbox) {
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
fn a_startup_that_ended_with_tilt_is_not_a_timeout_later() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    show_stuck_startup(&sandbox);
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).with_clock(&clock).start();
    sandbox.is_watched();
    eventually("a report", || reports(&server).len() == 1);
    sandbox.tilt().set("no-tilt", "").set("end", "");
    sidecar.says("cannot reach Tilt");
    clock.leap(3600).expect("a clock file");
    sidecar.stop();
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let startups = of_kind(&server.accepted(), "startup");
    assert_eq!((startups.len(), &startups[0]["data"]["ended_by"]), (1, &"session_end".into()));
    let took = startups[0]["data"]["duration_ms"].as_f64().expect("a number");
    assert!((60e3..1000e3).contains(&took), "until Tilt ended: {took}");
}

#[test]
fn a_startup_without_progress_lasts_until_tilt_was_last_seen() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    show_stuck_startup(&sandbox);
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).with_clock(&clock).start();
    sandbox.is_watched();
    eventually("a report", || !reports(&server).is_empty());
    clock.leap(240).expect("a clock file");
    let uptime = || reports(&server).last().expect("a report")["data"]["uptime_ms"].as_f64();
    eventually("a report four minutes later", || uptime() > Some(300e3));
    sandbox.tilt().set("no-tilt", "").set("end", "");
    sidecar.says("cannot reach Tilt");
    sidecar.stop();
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let startup = &of_kind(&server.accepted(), "startup")[0]["data"];
    assert!(startup["duration_ms"].as_f64() > Some(300e3), "{startup}");
}

#[test]
fn a_clock_set_forward_and_back_loses_and_repeats_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    let sidecar = sandbox.polling_sidecar_to(&server).with_clock(&clock).start();
    sidecar.says("sent ");
    server.usually(Reply::new(503, "").header("retry-after", 600));
    for (days, second) in [(400, 10), (-400, 20), (0, 30)] {
        clock.leap(days * DAY).expect("a clock file");
        let starts = format!("2026-11-22T17:00:{second}Z");
        sandbox.tilt().build_web(&starts, &starts.replace('Z', ".5Z"));
        let polls = sandbox.tilt().calls().len();
        eventually("two more polls", || sandbox.tilt().calls().len() >= polls + 2);
    }
    sidecar.stop();
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    let sent = builds(&server.accepted());
    assert_eq!(sent.len(), recorded_builds().len() + 3, "{sent:?}");
}

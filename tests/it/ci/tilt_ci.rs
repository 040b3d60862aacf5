//! The sidecar beside `tilt ci` reports the run as it ends, and a later step reports the rest.

use std::time::Duration;

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::{Value, json};

use crate::ci::runs::{
    before_the_end_of_b, end_session, failed, just_now, names, post_step, recorded, show,
    start_sidecar, unfinished,
};
use crate::support::{
    FINAL_POLL_TIMED_OUT, Sandbox, Signal, eventually, of_kind, retry, takes_less_than,
};

/// The time that a sidecar may spend on sending its queue after `tilt ci` has ended.
const CI_SHUTDOWN_BUDGET: Duration = Duration::from_secs(5);

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn sidecar_and_post_step_together_send_every_event_once() {
    for (snapshot, error, outcome) in
        [(recorded(), "", "success"), (failed(), "Resource b failed", "failure")]
    {
        retry("the final poll finishes in time", || {
            check_sent_once(&just_now(snapshot.clone()), error, outcome)
        });
    }
}

/// Returns `None` if Tilt was too slow for the final poll.
fn check_sent_once(snapshot: &Value, error: &str, outcome: &str) -> Option<()> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, snapshot);
    let sidecar = start_sidecar(&sandbox, &server);
    end_session(&sandbox, error);
    let before = server.accepted().len();
    let ended = sidecar.ends_after(Signal::TERM).0.exits_with(0);
    if ended.stderr.contains(FINAL_POLL_TIMED_OUT) {
        return None;
    }

    let last = server.accepted().split_off(before);
    assert_eq!(of_kind(&last, "uiresource").len(), 4, "the final states");
    sandbox.write_snapshot(snapshot.to_string());
    let requests = server.requests().len();
    post_step(&sandbox, &server).finish().exits_with(0);
    assert_eq!(server.requests().len(), requests, "the queue was empty");

    let all = server.accepted();
    assert_eq!(names(&all, "update"), ["(Tiltfile)", "a", "b"]);
    assert_eq!(names(&all, "startup"), ["tilt ci"]);
    let finals: Vec<_> = of_kind(&all, "session")
        .into_iter()
        .filter(|s| s["data"].get("outcome").is_some())
        .collect();
    assert_eq!(finals.len(), 1);
    assert_eq!(finals[0]["data"]["outcome"], outcome);
    Some(())
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn a_timed_out_run_has_no_failed_resource() {
    for (error, error_type) in [
        ("Timeout after 4s: 1 resources waiting (b:update)", "timeout"),
        ("Readiness timeout after 3s: target b not ready", "timeout"),
        ("Resource b failed", "_OTHER"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        show(&sandbox, &just_now(unfinished()));
        end_session(&sandbox, error);
        let sidecar = start_sidecar(&sandbox, &server);
        sidecar.stop();
        let all = server.accepted();
        let root = &of_kind(&all, "startup")[0]["data"];
        assert_eq!(root["outcome"], "failure");
        assert_eq!((&root["error"], &root["error.type"]), (&json!(true), &json!(error_type)));
        assert_eq!(root["resources_failed"], 0);
        // A later step knows the result that the sidecar observed.
        sandbox.write_snapshot(just_now(unfinished()).to_string());
        let table = post_step(&sandbox, &server).finish().exits_with(0).stdout;
        assert!(table.starts_with("tilt ci: failure, "), "{table}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn a_status_missed_by_the_final_poll_comes_from_the_post_step() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let end = just_now(failed());
    show(&sandbox, &before_the_end_of_b(&end));
    end_session(&sandbox, "Resource b failed");
    let sidecar = start_sidecar(&sandbox, &server);
    sidecar.stop();
    let sent = server.accepted().len();

    sandbox.write_snapshot(end.to_string());
    post_step(&sandbox, &server).finish().exits_with(0);
    let late = server.accepted().split_off(sent);
    assert_eq!(
        (names(&late, "uiresource"), names(&late, "update")),
        (vec!["b".into()], vec!["b".into()])
    );
    assert_eq!(names(&late, "startup"), [""; 0], "the sidecar sent the root");
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_status_watched_after_the_final_poll_is_sent_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let end = just_now(recorded());
    show(&sandbox, &before_the_end_of_b(&end));
    end_session(&sandbox, "");
    let sidecar = start_sidecar(&sandbox, &server);
    sandbox.is_watched();
    let requests = server.requests().len();
    server.then([Reply::new(503, "").header("retry-after", 2).into()]);
    sidecar.signal(Signal::TERM);
    eventually("a request with the final poll", || server.requests().len() > requests);
    sandbox.tilt().add("watch-uiresources.jsonl", &end["view"]["uiResources"][2]);
    sidecar.finish().exits_with(0);

    sandbox.write_snapshot(end.to_string());
    post_step(&sandbox, &server).finish().exits_with(0);
    let all = server.accepted();
    let is_up =
        |event: &&Value| event["data"]["name"] == "b" && event["data"]["update_status"] == "ok";
    assert_eq!(of_kind(&all, "uiresource").iter().filter(is_up).count(), 1);
    assert_eq!(names(&all, "update"), ["(Tiltfile)", "a", "b"]);
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_final_poll_is_repeated_while_the_result_is_not_visible() {
    let mut busy = just_now(recorded());
    busy["view"]["uiResources"][2]["status"]["updateStatus"] = json!("in_progress");
    for (snapshot, expected) in [(busy, 1), (just_now(recorded()), 0)] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        show(&sandbox, &snapshot);
        end_session(&sandbox, "");
        let sidecar = sandbox.run("--no-watch --interval 1h --verbose").sending_to(&server);
        let sidecar = sidecar.env("TILT_HONEYCOMB_MODE", "ci").start();
        sidecar.says("sent ");
        let outcome = sidecar.ends_after(Signal::TERM).0.exits_with(0);
        assert_eq!(outcome.stderr.matches("polling once more").count(), expected);
        let all = server.accepted();
        let ends = of_kind(&all, "session");
        assert_eq!(ends.iter().filter(|s| s["data"].get("outcome").is_some()).count(), 1);
        assert_eq!(names(&all, "startup"), ["tilt ci"]);
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_slow_final_poll_under_tilt_ci_delivers_the_outcome() {
    retry("the final poll finishes in time", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        show(&sandbox, &before_the_end_of_b(&just_now(failed())));
        let sidecar = sandbox.run("--no-watch --interval 1h").sending_to(&server);
        let sidecar = sidecar.env("TILT_HONEYCOMB_MODE", "ci").start();
        sidecar.says("sent ");
        show(&sandbox, &just_now(failed()));
        end_session(&sandbox, "Resource b failed");
        // Longer than the whole shutdown under `tilt up`.
        sandbox.tilt().set("sleep", "1500");
        let ended = sidecar.ends_after(Signal::TERM).0.exits_with(0);
        if ended.stderr.contains(FINAL_POLL_TIMED_OUT) {
            return None;
        }
        let all = server.accepted();
        assert!(names(&all, "update").contains(&"b".to_owned()), "{}", ended.stderr);
        let outcomes =
            of_kind(&all, "session").into_iter().filter_map(|s| s["data"].get("outcome").cloned());
        assert_eq!(outcomes.collect::<Vec<_>>(), ["failure"]);
        Some(())
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_failure_that_tilt_shows_late_is_delivered() {
    retry("the final polls are quick enough", || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        show(&sandbox, &before_the_end_of_b(&just_now(failed())));
        end_session(&sandbox, "Resource b failed");
        let sidecar = sandbox.run("--no-watch --interval 1h").sending_to(&server);
        let sidecar = sidecar.env("TILT_HONEYCOMB_MODE", "ci").start();
        sidecar.says("sent ");
        let before = sandbox.tilt().calls().len();
        sidecar.signal(Signal::TERM);
        // The second poll does not show it either.
        let has_polled = || sandbox.tilt().calls().len() >= before + 3;
        eventually("three final polls", || has_polled() || !sidecar.is_running());
        show(&sandbox, &just_now(failed()));
        end_session(&sandbox, "Resource b failed");
        let ended = sidecar.finish().exits_with(0);
        if ended.stderr.contains(FINAL_POLL_TIMED_OUT) {
            return None;
        }
        let all = server.accepted();
        let outcomes =
            of_kind(&all, "session").into_iter().filter_map(|s| s["data"].get("outcome").cloned());
        assert_eq!(outcomes.collect::<Vec<_>>(), ["failure"], "{}", ended.stderr);
        (names(&all, "update") == ["(Tiltfile)", "a", "b"]).then_some(())
    });
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_failed_final_poll_is_logged_in_one_line() {
    for (mode, budget) in [("up", "600ms"), ("ci", "3s")] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let sidecar = sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_MODE", mode).start();
        sidecar.says("sent ");
        sandbox.tilt().set("hang", "");
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        let outcome = outcome.exits_with(0).says(&format!("{FINAL_POLL_TIMED_OUT} {budget}"));
        assert_eq!(outcome.stderr.matches("the final poll failed").count(), 1, "{outcome:?}");
        assert!(mode == "up" || took >= Duration::from_secs(3), "{took:?}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_run_that_ends_during_the_first_poll_leaves_its_events() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    show(&sandbox, &just_now(failed()));
    end_session(&sandbox, "Resource b failed");
    server.usually(Reply::new(503, ""));
    retry("the final poll finishes in time", || {
        sandbox.tilt().set("sleep", "700");
        let calls = sandbox.tilt().calls().len();
        let sidecar = sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_MODE", "ci").start();
        eventually("a poll", || sandbox.tilt().calls().len() > calls);
        let ended = sidecar.ends_after(Signal::TERM).0.exits_with(0);
        (!ended.stderr.contains(FINAL_POLL_TIMED_OUT)).then_some(())
    });

    server.usually(Answer::Accept);
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    let all = server.accepted();
    assert_eq!(names(&all, "update"), ["(Tiltfile)", "a", "b"]);
    for kind in ["startup", "session"] {
        assert_eq!(of_kind(&all, kind)[0]["data"]["outcome"], "failure", "{kind}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn flush_sends_the_events_queued_by_a_cancelled_run() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut snapshot = just_now(recorded());
    snapshot["view"]["uiResources"][2]["status"]["conditions"] = json!([]);
    show(&sandbox, &snapshot);
    server.usually(Reply::new(503, ""));
    let sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "200ms"]);
    let sidecar = sidecar.env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("stay queued");
    sidecar.stop();

    server.usually(Answer::Accept);
    let calls = sandbox.tilt().calls().len();
    sandbox.run("--flush").sending_to(&server).finish().exits_with(0);
    assert_eq!(sandbox.tilt().calls().len(), calls, "`tilt` does not run");
    let all = server.accepted();
    assert_eq!(names(&all, "update"), ["(Tiltfile)", "a", "b"]);
    let root = of_kind(&all, "startup");
    assert_eq!(root.len(), 1, "{}", sandbox.state_text());
    assert_eq!(root[0]["data"]["ended_by"], "session_end");
    assert_eq!(sandbox.queued(), 0);

    sandbox.write_snapshot(just_now(recorded()).to_string());
    post_step(&sandbox, &server).finish().exits_with(0);
    assert_eq!(
        of_kind(&server.accepted(), "startup").len(),
        1,
        "a later step does not repeat the root"
    );
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn shutdown_after_tilt_ci_retries_for_up_to_5_seconds() {
    takes_less_than(CI_SHUTDOWN_BUDGET + Duration::from_secs(1), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        show(&sandbox, &just_now(recorded()));
        end_session(&sandbox, "");
        let sidecar = start_sidecar(&sandbox, &server);
        // A longer wait than any other shutdown allows.
        server.then([Reply::new(503, "").header("retry-after", 2).into()]);
        let (outcome, first_took) = sidecar.ends_after(Signal::TERM);
        if first_took >= CI_SHUTDOWN_BUDGET {
            return first_took.max(CI_SHUTDOWN_BUDGET * 2);
        }
        assert_eq!(sandbox.queued(), 0, "{}", outcome.stderr);

        let sidecar = sandbox.sidecar_to(&server).env("TILT_HONEYCOMB_MODE", "ci").start();
        sidecar.says("; 0 events queued");
        server.usually(Reply::new(503, ""));
        let (outcome, took) = sidecar.ends_after(Signal::TERM);
        outcome.exits_with(0);
        took
    });
}

#[test]
fn a_usage_error_under_tilt_ci_idles_instead_of_exiting() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for (missing, value, named) in [
        ("HONEYCOMB_API_KEY", "", "set HONEYCOMB_API_KEY"),
        ("HONEYCOMB_DATASET", "", "set HONEYCOMB_DATASET"),
        ("HONEYCOMB_API_KEY", "two words", "contains white space"),
    ] {
        let sidecar = sandbox
            .sidecar_to(&server)
            .env(missing, value)
            .env("TILT_HONEYCOMB_MODE", "ci")
            .start();
        sidecar.says(named).says("staying idle");
        assert!(sidecar.is_running());
        sidecar.stop();
    }
    let sidecar = sandbox.run("--nosuch").env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("--nosuch").says("staying idle");
    sidecar.stop();
    sandbox.run("--once").env("TILT_HONEYCOMB_MODE", "ci").finish().exits_with(2);
    assert_eq!(server.connections(), 0);
}

/// A clock before 1970 makes the program panic: no event can carry such a time.
#[test]
#[cfg(target_os = "linux")]
fn a_panic_under_tilt_ci_idles_instead_of_exiting() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let clock = sandbox.clock();
    clock.leap(-100 * 365 * 24 * 3600).expect("a clock file");
    let sidecar = || {
        let sidecar =
            sandbox.sidecar_to(&server).env("PATH", std::env::var("PATH").expect("a PATH"));
        let tilt = sandbox.tilt_program();
        sidecar.args(&["--tilt", tilt.to_str().expect("text")]).with_clock(&clock)
    };
    let idle = sidecar().env("TILT_HONEYCOMB_MODE", "ci").start();
    idle.says("panicked").says("staying idle");
    sandbox.report_to(&server).finish().exits_with(0);
    assert!(idle.is_running());
    sidecar().finish().exits_with(1).says("panicked");
}

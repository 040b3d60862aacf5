//! `tilt ci`: the sidecar reports the run as it ends. A later step reports the rest from a snapshot,
//! after Tilt has exited.

use std::fs;
use std::time::{Duration, SystemTime};

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::{Value, json};

use crate::support::{
    DATASET, FINAL_POLL_TIMED_OUT, Invocation, KEY, Outcome, Process, RECORDED_EVENTS, Sandbox,
    Signal, captured_json, eventually, not_unicode, of_kind, retry, takes_less_than,
};

/// The time that a sidecar may spend on sending its queue after `tilt ci` has ended.
const CI_SHUTDOWN_BUDGET: Duration = Duration::from_secs(5);

/// The snapshot of a successful run, recorded from a real `tilt ci`.
fn recorded() -> Value {
    captured_json("ci/snapshot.json")
}

/// The recorded run, changed so that `b` failed.
fn failed() -> Value {
    let mut snapshot = recorded();
    let b = &mut snapshot["view"]["uiResources"][2]["status"];
    b["updateStatus"] = json!("error");
    b["buildHistory"][0]["error"] = json!("command \"sh -c 'curl t0ken'\" failed: exit status 7");
    b["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "UpdateError",
        "lastTransitionTime": "2026-11-22T15:27:33.292842Z"}]);
    snapshot
}

/// The recorded run, changed so that Tilt exited while `b` was still building.
fn unfinished() -> Value {
    let mut snapshot = recorded();
    let b = &mut snapshot["view"]["uiResources"][2]["status"];
    b["updateStatus"] = json!("in_progress");
    b["buildHistory"] = Value::Null;
    b["currentBuild"] = json!({"spanID": "build:9", "startTime": "2026-11-22T15:27:33.000000Z"});
    b["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    snapshot
}

/// The snapshot with a session that started 20 seconds ago. The sidecar does not report old startups.
fn just_now(mut snapshot: Value) -> Value {
    let at = |age| {
        let time = SystemTime::now() - Duration::from_secs(age);
        json!(humantime::format_rfc3339_micros(time).to_string())
    };
    snapshot["view"]["uiSession"]["status"]["tiltStartTime"] = at(20);
    snapshot["createdAt"] = at(0);
    snapshot
}

/// The snapshot as it was while `b` was still building.
fn before_the_end_of_b(snapshot: &Value) -> Value {
    let mut before = snapshot.clone();
    before["view"]["uiResources"][2]["status"]["updateStatus"] = json!("in_progress");
    before["view"]["uiResources"][2]["status"]["buildHistory"] = json!([]);
    before
}

/// Starts a sidecar beside `tilt ci` and waits for its first report.
fn start_sidecar(sandbox: &Sandbox, server: &Server) -> Process {
    let sidecar = sandbox.sidecar_to(server).env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("sent ");
    sidecar
}

fn post_step(sandbox: &Sandbox, server: &Server) -> Invocation {
    sandbox.run("--once --snapshot tilt.json").sending_to(server)
}

/// The events that a post step sends for a snapshot while Tilt is not running.
fn events_of(snapshot: &Value) -> (Vec<Value>, Outcome) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    sandbox.write_snapshot(snapshot.to_string());
    let outcome = post_step(&sandbox, &server).finish().exits_with(0);
    assert_eq!(sandbox.tilt().calls().len(), 0, "`tilt` does not run");
    (server.accepted(), outcome)
}

/// Makes Tilt show the objects of the snapshot.
fn show(sandbox: &Sandbox, snapshot: &Value) {
    sandbox
        .tilt()
        .show("uisession", [snapshot["view"]["uiSession"].clone()])
        .show("uiresources", snapshot["view"]["uiResources"].clone())
        .show("dockerimages", json!([]))
        .show("cmdimages", json!([]))
        .show_ci_status(&json!({"done": false}));
}

/// Makes Tilt show that its session has ended: an empty `error` means success.
fn end_session(sandbox: &Sandbox, error: &str) {
    sandbox.tilt().show_ci_status(&json!({"done": true, "error": error}));
}

fn names(events: &[Value], kind: &str) -> Vec<String> {
    let name = |event: &Value| event["data"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<_> = of_kind(events, kind).iter().map(name).collect();
    names.sort();
    names
}

/// Asserts that the recorded run was reported completely: every event once.
#[track_caller]
fn assert_complete(events: &[Value], outcome: &str) {
    assert_eq!(names(events, "uiresource"), ["(Tiltfile)", "a", "b", "collector"]);
    assert_eq!(names(events, "update"), ["(Tiltfile)", "a", "b"]);
    assert_eq!(names(events, "startup"), ["tilt ci"]);
    assert_eq!(of_kind(events, "session").len(), 1);
    assert_eq!(names(events, "rollout"), ["collector"]);
    assert_eq!(events.len(), 10);
    for kind in ["startup", "session"] {
        assert_eq!(of_kind(events, kind)[0]["data"]["outcome"], outcome, "{kind}");
    }
    for event in events {
        assert_eq!(event["data"]["tilt_mode"], "ci");
    }
}

#[test]
fn a_successful_snapshot_yields_its_events_and_a_table() {
    let (events, outcome) = events_of(&recorded());
    assert_complete(&events, "success");
    let root = &of_kind(&events, "startup")[0];
    assert_eq!(root["time"], "2026-11-22T15:27:29.000000Z");
    assert_eq!((&root["data"]["ended_by"], root["data"].get("error")), (&json!("settled"), None));
    for update in of_kind(&events, "update") {
        assert_eq!(update["data"]["trace.parent_id"], root["data"]["trace.span_id"]);
    }
    for status in of_kind(&events, "uiresource") {
        assert_eq!(
            status["time"],
            recorded()["createdAt"],
            "a status has the time of the snapshot"
        );
    }
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines[0].starts_with("tilt ci: success, "), "{lines:?}");
    for (line, start, end) in [
        (1, "  b ", "2.3s"),
        (2, "  a ", "1.3s"),
        (3, "  (Tiltfile) ", "0.0s"),
        (4, "  collector", "-"),
    ] {
        assert!(lines[line].starts_with(start) && lines[line].ends_with(end), "{lines:?}");
    }
}

#[test]
fn a_failed_snapshot_yields_a_failed_root_without_error_text() {
    let (events, outcome) = events_of(&failed());
    assert_complete(&events, "failure");
    let root = &of_kind(&events, "startup")[0]["data"];
    assert_eq!((&root["error"], &root["resources_failed"]), (&json!(true), &json!(1)));
    let b = of_kind(&events, "update")
        .into_iter()
        .find(|u| u["data"]["name"] == "b")
        .expect("an update of b");
    assert_eq!(b["data"]["exit_code"], 7);
    assert!(!json!(events).to_string().contains("t0ken"));
    assert!(outcome.stdout.contains("failed") && !outcome.stdout.contains("t0ken"));
}

#[test]
fn an_update_still_in_progress_is_reported_as_unfinished() {
    let (events, outcome) = events_of(&unfinished());
    let root = &of_kind(&events, "startup")[0]["data"];
    assert_eq!((&root["ended_by"], root.get("outcome")), (&json!("session_end"), None));
    let b = of_kind(&events, "uiresource").into_iter().find(|r| r["data"]["name"] == "b");
    assert_eq!(b.expect("a status of b")["data"]["update_status"], "in_progress");
    assert!(outcome.stdout.contains("unfinished"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("\nthe snapshot does not show how b ended; pass "));
}

#[test]
fn outcome_option_decides_when_the_snapshot_is_unfinished() {
    for (said, expected) in [
        ("success", Some("success")),
        ("0", Some("success")),
        ("failure", Some("failure")),
        ("failed", Some("failure")),
        ("1", Some("failure")),
        ("cancelled", None),
        ("", None),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.write_snapshot(unfinished().to_string());
        let post_step = || post_step(&sandbox, &server).args(&["--outcome", said]);
        let dry = post_step().args(&["--dry-run"]).finish().exits_with(0).events();
        let table = post_step().finish().exits_with(0).stdout;
        for events in [dry, server.accepted()] {
            for kind in ["startup", "session"] {
                let event = &of_kind(&events, kind)[0]["data"];
                assert_eq!(event.get("outcome").and_then(Value::as_str), expected, "{kind} {said}");
            }
            let failed = (expected == Some("failure")).then_some(&Value::Bool(true));
            assert_eq!(of_kind(&events, "startup")[0]["data"].get("error"), failed, "{said}");
        }
        let heading = format!("tilt ci: {}, ", expected.unwrap_or("outcome unknown"));
        assert!(table.starts_with(&heading), "{said}: {table}");
        assert_eq!(table.contains("unfinished"), expected != Some("success"), "{said}: {table}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "a killed sidecar takes no last look")]
fn outcome_option_beats_statuses_but_not_the_session_result() {
    let heading = |sandbox: &Sandbox, server: &Server| {
        let run = post_step(sandbox, server).args(&["--outcome", "failure"]);
        run.finish().exits_with(0).stdout.lines().next().expect("a heading").to_owned()
    };
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write_snapshot(recorded().to_string());
    assert!(heading(&sandbox, &server).starts_with("tilt ci: failure, "));

    let (sandbox, server) = (Sandbox::new(), Server::start());
    let snapshot = just_now(unfinished());
    show(&sandbox, &snapshot);
    end_session(&sandbox, "");
    let sidecar = start_sidecar(&sandbox, &server);
    sidecar.stop();
    sandbox.write_snapshot(snapshot.to_string());
    assert!(heading(&sandbox, &server).starts_with("tilt ci: success, "));
    let all = server.accepted();
    let outcomes =
        of_kind(&all, "session").into_iter().filter_map(|s| s["data"].get("outcome").cloned());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["success"]);
}

#[test]
fn a_run_of_an_hour_has_a_root_span() {
    let mut snapshot = recorded();
    snapshot["createdAt"] = json!("2026-11-22T16:27:40Z");
    assert_complete(&events_of(&snapshot).0, "success");
}

#[test]
fn bytes_after_the_first_json_value_are_ignored() {
    for tail in ["\n  \"left\": \"over\"\n}\n", "\n{}", "\u{0}\u{0}", "garbage"] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.write_snapshot(format!("{}{tail}", recorded()));
        post_step(&sandbox, &server).finish().exits_with(0);
        assert_complete(&server.accepted(), "success");
    }
}

#[test]
#[cfg_attr(windows, ignore = "Wine responds too slowly for its timeouts")]
fn a_bad_snapshot_is_reported_and_the_queue_is_still_sent() {
    let whole = recorded().to_string();
    for (left, named) in [
        (Some(&whole[..whole.len() / 2]), "is truncated after"),
        (Some(" \n"), "is empty"),
        (Some("not JSON"), "is not a snapshot (line 1"),
        (Some("{}"), "contains no Tilt resources"),
        (Some("[1]"), "is not a snapshot"),
        (None, "no snapshot tilt.json"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(503, ""));
        sandbox.report_within("200ms", &server).finish().exits_with(4);
        server.usually(Answer::Accept);
        if let Some(left) = left {
            sandbox.write_snapshot(left);
        }
        let outcome = post_step(&sandbox, &server).finish().exits_with(1);
        let outcome = outcome.says(named).says_one_line();
        assert_eq!(
            (server.accepted().len(), outcome.stdout.as_str()),
            (RECORDED_EVENTS, ""),
            "{named}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn fifty_mb_of_logs_take_under_1_s_of_cpu_and_100_mb_of_memory() {
    use fakes::proc;
    use std::sync::{Arc, Mutex, OnceLock};

    let mut snapshot = recorded();
    let line = json!({"time": "2026-11-22T15:27:29.405907Z", "text": format!("{}\n", "x".repeat(800)),
        "spanId": "build:1", "level": "INFO"});
    snapshot["view"]["logList"]["segments"] = json!(vec![line; 58_000]);
    let text = serde_json::to_string_pretty(&snapshot).expect("JSON");
    assert!(text.len() > 50_000_000, "{}", text.len());

    takes_less_than(Duration::from_secs(1), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.write_snapshot(&text);
        // Peak memory can only be read while the process runs, so the server reads it on arrival.
        let (started, usage) =
            (Arc::<OnceLock<u32>>::default(), Arc::<Mutex<Option<(u64, Duration)>>>::default());
        let (pid, seen) = (Arc::clone(&started), Arc::clone(&usage));
        server.usually(Answer::By(Arc::new(move |_| {
            let pid = *pid.wait();
            let used = proc::status(pid, "VmHWM").zip(proc::cpu_time(pid));
            *seen.lock().expect("no one panicked") = used;
            Answer::Accept
        })));
        let step = post_step(&sandbox, &server).start();
        started.set(step.pid()).expect("one process");
        step.finish().exits_with(0);
        assert_complete(&server.accepted(), "success");
        let (peak_kib, cpu) = usage.lock().expect("no one panicked").expect("a request arrived");
        assert!(peak_kib < 100_000, "{peak_kib} KiB");
        // CPU time does not depend on other load on the machine.
        cpu
    });
}

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
fn the_table_shows_reasons_and_leaves_out_the_collector() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write_snapshot(failed().to_string());
    let page = sandbox.path("work/summary.md");
    let step = post_step(&sandbox, &server).env("TILT_HONEYCOMB_RESOURCE", "collector");
    let step = step.env("GITHUB_STEP_SUMMARY", &page);
    let table = step.finish().exits_with(0).stdout;
    let row = table.lines().nth(1).expect("a row");
    assert!(row.starts_with("  b ") && row.ends_with("  command_failed, exit code 7"), "{table}");
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains(r"| b | failed | command\_failed, exit code 7 | "), "{page}");
    for text in [table, page] {
        assert!(!text.contains("collector") && !text.contains("t0ken"), "{text}");
    }

    sandbox.write_snapshot(unfinished().to_string());
    let table = post_step(&sandbox, &server).finish().exits_with(0).stdout;
    let row = table.lines().find(|line| line.starts_with("  b ")).expect("a row");
    assert!(row.contains("unfinished") && row.ends_with("s  running"), "{table}");
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

#[test]
fn never_fail_prints_errors_and_exits_with_0() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let post_step =
        |options: &str| sandbox.run(&format!("--once --snapshot tilt.json --never-fail {options}"));
    sandbox.write_snapshot(recorded().to_string());
    let keyless = post_step("").finish().exits_with(0).says("set HONEYCOMB_API_KEY");
    assert_eq!(keyless.says_one_line().stdout, "");
    fs::remove_file(sandbox.path("work/tilt.json")).expect("a snapshot");
    post_step("--nosuch").finish().exits_with(0).says("--nosuch");
    sandbox.run("--once --never-fail=true").finish().exits_with(0).says("true");
    post_step("").sending_to(&server).finish().exits_with(0).says("no snapshot tilt.json");
    sandbox.write_snapshot(recorded().to_string());
    server.usually(Reply::new(401, ""));
    post_step("").sending_to(&server).finish().exits_with(0).says("check HONEYCOMB_API_KEY");
}

#[test]
fn flush_cannot_be_combined_with_snapshot_or_dry_run() {
    let sandbox = Sandbox::new();
    for (options, named) in [
        ("--flush --snapshot x", "leave out --flush"),
        ("--flush --dry-run", "cannot be combined with --dry-run"),
    ] {
        sandbox.run(options).with_key().finish().exits_with(2).says(named).says_one_line();
    }
}

#[test]
fn events_carry_the_ci_providers_fields() {
    for (variables, provider, field, value) in [
        (
            &[("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "9127")][..],
            "github-actions",
            "cicd.pipeline.run.id",
            "9127",
        ),
        (
            &[("GITLAB_CI", "true"), ("CI_JOB_NAME", "tilt")],
            "gitlab",
            "cicd.pipeline.task.name",
            "tilt",
        ),
        (
            &[("BUILDKITE", "true"), ("BUILDKITE_REPO", "https://u:t0ken@host/acme/shop.git")],
            "buildkite",
            "vcs.repository.name",
            "shop",
        ),
        (
            &[("CIRCLECI", "true"), ("CIRCLE_SHA1", "beef")],
            "circleci",
            "vcs.ref.head.revision",
            "beef",
        ),
    ] {
        let sandbox = Sandbox::new();
        let mut dry = sandbox.run("--once --dry-run").env("CI", "true");
        for (name, value) in variables {
            dry = dry.env(name, value);
        }
        let outcome = dry.finish().exits_with(0);
        assert_eq!(outcome.events().len(), RECORDED_EVENTS);
        for event in outcome.events() {
            assert_eq!(event["data"]["ci.provider"], provider);
            assert_eq!(event["data"][field], value);
        }
        assert!(!outcome.stdout.contains("t0ken"));
    }
    // A variable that is not Unicode is ignored.
    let sandbox = Sandbox::new();
    let here = sandbox.run("--once --dry-run").finish().events();
    let odd = sandbox.run("--once --dry-run").env("PLACE", not_unicode());
    for event in [here, odd.finish().exits_with(0).events()].concat() {
        assert_eq!(event["data"].get("ci.provider"), None);
    }
}

#[test]
fn the_root_span_is_a_child_of_the_pipelines_trace() {
    let standard = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (variable, value, trace, parent) in [
        ("TRACEPARENT", standard, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
        (
            "HONEYCOMB_TRACE",
            "1;trace_id=build-7,parent_id=step-2,context=e30=",
            "build-7",
            "step-2",
        ),
    ] {
        let sandbox = Sandbox::new();
        let dry = sandbox.dry_run_of_snapshot(recorded().to_string(), "");
        let events = dry.env(variable, value).finish().exits_with(0).events();
        let root = &of_kind(&events, "startup")[0]["data"];
        assert_eq!(
            (&root["trace.trace_id"], &root["trace.parent_id"]),
            (&json!(trace), &json!(parent))
        );
        for update in of_kind(&events, "update") {
            assert_eq!(update["data"]["trace.trace_id"], trace);
            assert_eq!(update["data"]["trace.parent_id"], root["trace.span_id"]);
        }
    }
}

#[test]
fn the_table_goes_to_the_github_summary_unless_quiet() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.write_snapshot(failed().to_string());
    let page = sandbox.path("work/page.md");
    fs::write(&page, "before\n").expect("a page");
    let run = || post_step(&sandbox, &server).env("GITHUB_STEP_SUMMARY", &page);
    run().args(&["--quiet"]).finish().exits_with(0).says_nothing();
    assert_eq!(fs::read_to_string(&page).expect("the page"), "before\n");

    run().finish().exits_with(0);
    let page = fs::read_to_string(&page).expect("the page");
    assert!(page.starts_with("before\n### tilt ci: failure, "), "{page}");
    assert!(page.contains("exit code 7 | 2.3s | ████████████████████ |"), "{page}");
}

#[test]
fn the_trace_link_needs_the_keys_team_and_a_known_ui_url() {
    let (sandbox, honeycomb) = (Sandbox::new(), Server::start());
    sandbox.write_snapshot(recorded().to_string());
    let run = || {
        sandbox
            .run("--once --snapshot tilt.json --allow-insecure-http")
            .env("HONEYCOMB_API_KEY", KEY)
            .env("HONEYCOMB_DATASET", DATASET)
            .env("HONEYCOMB_API_ENDPOINT", "http://api.honeycomb.io")
            .env("HTTP_PROXY", honeycomb.url())
            .finish()
            .exits_with(0)
    };
    honeycomb.usually(Answer::By(std::sync::Arc::new(|request| match request.method.as_str() {
        "GET" => {
            let team = r#"{"team":{"slug":"acme"},"environment":{"slug":"ci"}}"#;
            Reply::new(200, team).into()
        }
        _ => Answer::Accept,
    })));
    let table = run().stdout;
    let root = of_kind(&honeycomb.accepted(), "startup")[0]["data"]["trace.trace_id"].clone();
    let link = format!(
        "view in Honeycomb: https://ui.honeycomb.io/acme/environments/ci/datasets/{DATASET}/trace?trace_id={}",
        root.as_str().expect("an id")
    );
    assert!(table.contains(&link), "{table}");

    // The address of a Refinery does not tell the region of the UI.
    let behind_refinery = |ui: &str| {
        let run = sandbox.run("--once --snapshot tilt.json").sending_to(&honeycomb);
        run.env("HONEYCOMB_UI_URL", ui).finish().exits_with(0).stdout
    };
    assert!(!behind_refinery("").contains("view in Honeycomb"));
    let link = "view in Honeycomb: https://ui.eu1.honeycomb.io/acme/environments/ci/datasets/";
    assert!(behind_refinery("https://ui.eu1.honeycomb.io").contains(link));

    honeycomb.usually(Answer::By(std::sync::Arc::new(|request| match request.method.as_str() {
        "GET" => Reply::new(401, "").into(),
        _ => Answer::Accept,
    })));
    let outcome = run();
    assert!(
        outcome.stdout.starts_with("tilt ci: success")
            && !outcome.stdout.contains("view in Honeycomb")
    );
    assert_eq!(outcome.stderr, "");
}

//! The step after `tilt ci`, which reports the run from an exit snapshot.

use std::fs;

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::{Value, json};

use crate::ci::runs::{
    assert_complete, end_session, events_of, failed, just_now, post_step, recorded, show,
    start_sidecar, unfinished,
};
use crate::support::{RECORDED_EVENTS, Sandbox, not_unicode, of_kind};

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

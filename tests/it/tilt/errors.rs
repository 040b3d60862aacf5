//! How the program runs `tilt get`, and how it handles errors and odd output.

use std::time::Duration;

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use crate::support::{
    Invocation, RECORDED_EVENTS, Sandbox, builds, eventually, is_alive, of_kind, recorded_builds,
    retry, takes_less_than,
};

fn poll(sandbox: &Sandbox) -> Invocation {
    sandbox.run("--once --dry-run")
}

#[test]
fn all_kinds_are_read_by_one_tilt_get() {
    let sandbox = Sandbox::new();
    poll(&sandbox).finish().exits_with(0);
    assert_eq!(
        sandbox.tilt().called_with(),
        ["get uisessions,uiresources,dockerimages,cmdimages -o json"]
    );
}

#[test]
fn kinds_are_read_one_by_one_if_tilt_takes_no_list() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("single-kinds-only", "");
    assert_eq!(poll(&sandbox).finish().exits_with(0).events().len(), RECORDED_EVENTS);
    assert_eq!(
        sandbox.tilt().called_with()[1..],
        [
            "get uisession -o json",
            "get uiresources -o json",
            "get dockerimages -o json",
            "get cmdimages -o json"
        ]
    );
}

#[test]
fn kinds_that_an_older_tilt_does_not_know_are_left_out() {
    let sandbox = Sandbox::new();
    sandbox.tilt().unset("cmdimages.json");
    let events = poll(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "cmdimage").len(), 0);
    assert_eq!(of_kind(&events, "dockerimage").len(), 2);

    sandbox.tilt().unset("dockerimages.json").unset("uisession.json");
    let events = poll(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "uiresource").len(), 9);
    assert_eq!(events[0]["data"].get("tilt_version"), None);
    let session = events[0]["data"]["session.id"].as_str().expect("an id without a session object");
    assert_eq!(session.len(), 32);
}

#[test]
fn a_tilt_without_uiresources_is_too_old() {
    let sandbox = Sandbox::new();
    sandbox.tilt().unset("uiresources.json");
    poll(&sandbox).finish().exits_with(1).says("update Tilt to 0.20.2 or later").says_one_line();
}

#[test]
fn a_sidecar_asks_an_older_tilt_for_known_kinds_only() {
    let sandbox = Sandbox::new();
    sandbox.tilt().unset("cmdimages.json");
    let sidecar = sandbox.run("--dry-run --interval 1s").start();
    eventually("three reports", || sandbox.tilt().calls().len() >= 7);
    drop(sidecar);
    let calls = sandbox.tilt().called_with();
    assert_eq!(calls.iter().filter(|call| call.contains("cmdimages")).count(), 2, "{calls:?}");
    assert_eq!(calls[6], "get uisessions,uiresources,dockerimages -o json");
}

#[test]
fn port_is_passed_as_an_option_and_variables_are_inherited() {
    let sandbox = Sandbox::new();
    let variables =
        |invocation: Invocation| invocation.env("TILT_PORT", "10401").env("TILT_HOST", "devbox");
    variables(poll(&sandbox)).finish().exits_with(0);
    variables(poll(&sandbox)).args(&["--port", "10402"]).finish().exits_with(0);
    poll(&sandbox).finish().exits_with(0);
    let calls = sandbox.tilt().calls();
    for call in &calls[..2] {
        assert_eq!((&call["TILT_PORT"], &call["TILT_HOST"]), (&json!("10401"), &json!("devbox")));
    }
    assert_eq!((&calls[2]["TILT_PORT"], &calls[2]["TILT_HOST"]), (&Value::Null, &Value::Null));
    assert!(!sandbox.tilt().called_with()[0].contains("--port"));
    assert!(sandbox.tilt().called_with()[1].ends_with(" --port 10402"));
}

#[test]
fn tilt_runs_without_analytics_and_without_stdin() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("read-stdin", "");
    // With a stdin, the fake Tilt would read it until it is killed.
    poll(&sandbox).with_open_stdin().start().finish().exits_with(0);
    assert_eq!(sandbox.tilt().calls()[0]["TILT_DISABLE_ANALYTICS"], "1");
}

#[test]
fn the_tilt_option_names_the_program() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("work/tilt-0.37");
    std::fs::rename(sandbox.tilt_program(), &other).expect("a renamed program");
    poll(&sandbox).args(&["--tilt", "./tilt-0.37"]).finish().exits_with(0);
    poll(&sandbox).args(&["--tilt", other.to_str().expect("text")]).finish().exits_with(0);
    poll(&sandbox).args(&["--tilt", "nosuch"]).finish().exits_with(3).says("cannot run nosuch");
    poll(&sandbox)
        .args(&["--tilt", "/"])
        .finish()
        .exits_with(3)
        .says("cannot run /: not an executable file; install Tilt or give --tilt");
}

#[test]
fn a_missing_tilt_is_reported_with_a_fix() {
    let sandbox = Sandbox::new();
    std::fs::rename(sandbox.tilt_program(), sandbox.path("gone")).expect("a renamed program");
    poll(&sandbox)
        .finish()
        .exits_with(3)
        .says("cannot run tilt: no such program; install Tilt or give --tilt")
        .says_one_line();
}

#[test]
fn a_port_without_tilt_is_reported_with_tilts_message() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("no-tilt", "");
    poll(&sandbox)
        .args(&["--port", "10351"])
        .finish()
        .exits_with(3)
        .says("No tilt apiserver found: tilt-10351")
        .says_one_line();
}

#[test]
fn an_empty_list_after_a_connection_error_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stale", "");
    let outcome = poll(&sandbox).finish().exits_with(3).says("was refused").says_one_line();
    assert_eq!(outcome.stdout, "");
}

#[test]
fn an_empty_list_of_a_new_tilt_is_not_an_error() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stdout", r#"{"apiVersion":"v1","items":[],"kind":"List"}"#);
    poll(&sandbox).finish().exits_with(0).says_nothing();
}

#[test]
fn malformed_output_is_an_error_that_quotes_nothing() {
    let whole = Sandbox::new().tilt().read("uiresources.json");
    let truncated = &whole[..whole.len() / 2];
    for printed in ["", "\n", "token=s3cr3t", "{}", "[]", "null", truncated, "\u{0}\u{1}"] {
        let sandbox = Sandbox::new();
        sandbox.tilt().set("stdout", printed);
        let outcome = poll(&sandbox).finish().exits_with(1).says("tilt get: ").says_one_line();
        assert!(!outcome.stderr.contains("s3cr3t"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stdout", b"\xff\xfe{}");
    poll(&sandbox).finish().exits_with(1).says("not UTF-8");
}

#[test]
fn an_unknown_error_of_tilt_is_passed_on() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stderr", "Error: open /x/config.lock: permission denied\nUsage:\n");
    sandbox.tilt().set("exit", "1");
    poll(&sandbox).finish().exits_with(1).says("config.lock: permission denied").says_one_line();
}

#[test]
fn a_warning_on_stderr_is_ignored() {
    let sandbox = Sandbox::new();
    let list = sandbox.tilt().read("uiresources.json");
    sandbox.tilt().set("stdout", list).set("stderr", "W1122 a new version is out\n");
    let events = poll(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "uiresource").len(), 9);
}

#[test]
fn output_over_32_mb_is_refused() {
    for output in ["flood", "noise"] {
        let sandbox = Sandbox::new();
        sandbox.tilt().set(output, "80");
        retry("a poll", || poll(&sandbox).finish().unless_tilt_was_slow())
            .exits_with(1)
            .says("more than 32 MB");
    }
}

#[test]
fn two_thousand_resources_are_reported() {
    let sandbox = Sandbox::new();
    sandbox.tilt().add_resources(2000);
    assert_eq!(poll(&sandbox).finish().exits_with(0).events().len(), RECORDED_EVENTS + 2000);
}

#[test]
fn null_and_missing_fields_are_left_out_of_events() {
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", |resources| {
        let nulls = json!({"buildHistory": null, "conditions": null, "specs": null, "waiting": null,
            "disableStatus": null, "updateStatus": "none", "runtimeStatus": "",
            "k8sResourceInfo": null, "composeResourceInfo": {"healthStatus": ""}});
        *resources = vec![
            json!({"kind": "UIResource", "metadata": {"name": "bare"}}),
            json!({"kind": "UIResource", "metadata": {"name": "null", "labels": null}, "status": nulls}),
            json!({"kind": "UIResource", "metadata": null, "status": {}}),
            json!({"kind": "UIResource", "metadata": {"name": "odd"}, "status": {"conditions": 7}}),
            json!(null),
        ];
    });
    sandbox.tilt().change("dockerimages", |images| {
        images[0]["status"]["completed"]["finishedAt"] = json!("0001-01-01T00:00:00Z");
        images[1]["spec"] = json!(null);
        images[1]["metadata"]["annotations"] = json!(null);
    });
    let events = poll(&sandbox).finish().exits_with(0).events();
    let names: Vec<_> =
        of_kind(&events, "uiresource").iter().map(|e| e["data"]["name"].clone()).collect();
    assert_eq!(names, ["null"], "a resource without a status has no event");
    assert_eq!(of_kind(&events, "dockerimage").len(), 1);
    for event in &events {
        for (name, value) in event["data"].as_object().expect("fields") {
            let has_value = !value.is_null() && (value != "" || name == "user");
            assert!(has_value, "{name} in {event}");
        }
    }
}

#[test]
fn names_with_special_characters_are_unchanged() {
    let names = ["(Tiltfile)", "a \"quoted\" 'name'", "größe/✓:日本", "back\\slash", "tab\there"];
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", |resources| {
        resources.truncate(names.len());
        for (resource, name) in resources.iter_mut().zip(names) {
            resource["metadata"]["name"] = json!(name);
        }
    });
    let events = poll(&sandbox).finish().exits_with(0).events();
    let mut found: Vec<_> = of_kind(&events, "uiresource")
        .iter()
        .map(|event| event["data"]["name"].as_str().expect("text").to_owned())
        .collect();
    found.sort();
    let mut names = names.map(str::to_owned);
    names.sort();
    assert_eq!(found, names);
}

#[test]
fn a_child_left_by_tilt_does_not_delay_the_report() {
    takes_less_than(Duration::from_secs(5), || {
        let sandbox = Sandbox::new();
        sandbox.tilt().set("leave-process", "");
        let outcome = poll(&sandbox).finish().exits_with(0);
        assert_eq!(builds(&outcome.events()), recorded_builds());
        eventually("the process is killed", || !is_alive(&sandbox.tilt().read("left-process")));
        outcome.took
    });
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn tilts_error_is_read_even_if_a_child_keeps_stderr_open() {
    let sandbox = Sandbox::new();
    let error = "Error: No tilt apiserver found: tilt-default";
    let script = format!("/bin/sleep 60 >/dev/null &\necho '{error}' >&2\nexit 1");
    sandbox.install("tilt", &script);
    poll(&sandbox).finish().exits_with(3).says("cannot reach Tilt").says_one_line();
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn a_child_outside_the_process_group_leaves_no_thread_behind() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("leave-process", "apart");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("sent ");
    let left = sandbox.tilt().read("left-process");
    sandbox.tilt().unset("leave-process");
    eventually("no reader thread", || !sidecar.threads().iter().any(|name| name == "tilt output"));
    assert!(is_alive(&left), "the process is not in the process group");
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

/// One test for all cases, because it waits for the whole timeout of 20 seconds.
#[test]
fn a_hung_tilt_is_killed_with_its_children() {
    let polite = Sandbox::new();
    polite.tilt().set("hang", "");
    let stubborn = Sandbox::new();
    stubborn.tilt().set("hang", "").set("ignore-signals", "").set("leave-process", "");
    let reports = [poll(&polite).start(), poll(&stubborn).start()];
    for report in reports {
        report.finish().exits_with(3).says("no response after 20s; killed it").says_one_line();
    }
    for sandbox in [&polite, &stubborn] {
        let hung = sandbox.tilt().calls()[0]["pid"].to_string();
        eventually("the process is killed", || !is_alive(&hung));
    }
    eventually("its child is killed", || !is_alive(&stubborn.tilt().read("left-process")));
}

#[test]
fn a_hung_tilt_is_killed_when_the_report_is_stopped() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("hang", "").set("ignore-signals", "");
    let report = poll(&sandbox).start();
    eventually("tilt runs", || sandbox.tilt().calls().len() == 1);
    report.stop();
    let hung = sandbox.tilt().calls()[0]["pid"].to_string();
    eventually("the process is killed", || !is_alive(&hung));
}

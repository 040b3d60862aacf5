//! What can be wrong with Tilt, and how it is asked.

use std::time::Duration;

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::support::sandbox::{
    Invocation, RECORDED, Sandbox, builds, eventually, in_some_tries, of_kind, recorded_builds,
    takes_less_than,
};
use fakes::honeycomb::Server;

fn look(sandbox: &Sandbox) -> Invocation {
    sandbox.run("--once --dry-run")
}

#[test]
fn all_kinds_are_asked_for_in_one_call() {
    let sandbox = Sandbox::new();
    look(&sandbox).finish().exits_with(0);
    assert_eq!(
        sandbox.tilt().called_with(),
        ["get uisessions,uiresources,dockerimages,cmdimages -o json"]
    );
}

#[test]
fn a_tilt_that_takes_no_lists_is_asked_for_one_kind_at_a_time() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("single-kinds-only", "");
    assert_eq!(look(&sandbox).finish().exits_with(0).events().len(), RECORDED);
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
fn an_older_tilt_is_reported_without_the_kinds_it_does_not_know() {
    let sandbox = Sandbox::new();
    sandbox.tilt().unset("cmdimages.json");
    let events = look(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "cmdimage").len(), 0);
    assert_eq!(of_kind(&events, "dockerimage").len(), 2);

    sandbox.tilt().unset("dockerimages.json").unset("uisession.json");
    let events = look(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "uiresource").len(), 9);
    assert_eq!(events[0]["data"].get("tilt_version"), None);
    let session = events[0]["data"]["session.id"].as_str().expect("a session without a session");
    assert_eq!(session.len(), 32);
}

#[test]
fn a_tilt_without_resources_is_too_old() {
    let sandbox = Sandbox::new();
    sandbox.tilt().unset("uiresources.json");
    look(&sandbox).finish().exits_with(1).says("update Tilt to 0.20.2 or later").says_one_line();
}

#[test]
fn a_sidecar_asks_an_older_tilt_only_for_what_it_knows() {
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
fn the_port_goes_to_tilt_as_an_option_and_its_variables_pass_through() {
    let sandbox = Sandbox::new();
    let variables =
        |invocation: Invocation| invocation.env("TILT_PORT", "10401").env("TILT_HOST", "devbox");
    variables(look(&sandbox)).finish().exits_with(0);
    variables(look(&sandbox)).args(&["--port", "10402"]).finish().exits_with(0);
    look(&sandbox).finish().exits_with(0);
    let calls = sandbox.tilt().calls();
    for call in &calls[..2] {
        assert_eq!((&call["TILT_PORT"], &call["TILT_HOST"]), (&json!("10401"), &json!("devbox")));
    }
    assert_eq!((&calls[2]["TILT_PORT"], &calls[2]["TILT_HOST"]), (&Value::Null, &Value::Null));
    assert!(!sandbox.tilt().called_with()[0].contains("--port"));
    assert!(sandbox.tilt().called_with()[1].ends_with(" --port 10402"));
}

#[test]
fn tilt_is_told_not_to_count_these_calls_and_gets_no_stdin() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("read-stdin", "");
    // Had it any, it would read until it is killed.
    look(&sandbox).with_open_stdin().start().finish().exits_with(0);
    assert_eq!(sandbox.tilt().calls()[0]["TILT_DISABLE_ANALYTICS"], "1");
}

#[test]
fn the_program_may_be_named() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("work/tilt-0.37");
    std::fs::rename(sandbox.path("bin/tilt"), &other).expect("another name");
    look(&sandbox).args(&["--tilt", "./tilt-0.37"]).finish().exits_with(0);
    look(&sandbox).args(&["--tilt", other.to_str().expect("text")]).finish().exits_with(0);
    look(&sandbox).args(&["--tilt", "nosuch"]).finish().exits_with(3).says("cannot run nosuch");
    look(&sandbox)
        .args(&["--tilt", "/"])
        .finish()
        .exits_with(3)
        .says("cannot run /: not an executable file; install Tilt or give --tilt");
}

#[test]
fn a_missing_tilt_is_named_with_what_to_do() {
    let sandbox = Sandbox::new();
    std::fs::remove_file(sandbox.path("bin/tilt")).expect("the link");
    look(&sandbox)
        .finish()
        .exits_with(3)
        .says("cannot run tilt: no such program; install Tilt or give --tilt")
        .says_one_line();
}

#[test]
fn no_tilt_on_the_port_is_said_with_tilts_own_words() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("no-tilt", "");
    look(&sandbox)
        .args(&["--port", "10351"])
        .finish()
        .exits_with(3)
        .says("No tilt apiserver found: tilt-10351")
        .says_one_line();
}

#[test]
fn a_stale_tilts_empty_list_is_no_report() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stale", "");
    let outcome = look(&sandbox).finish().exits_with(3).says("was refused").says_one_line();
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_tilt_that_has_only_started_is_a_report_of_little() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stdout", r#"{"apiVersion":"v1","items":[],"kind":"List"}"#);
    look(&sandbox).finish().exits_with(0).says_nothing();
}

#[test]
fn what_makes_no_sense_is_an_error_that_quotes_nothing() {
    let whole = Sandbox::new().tilt().read("uiresources.json");
    let truncated = &whole[..whole.len() / 2];
    for printed in ["", "\n", "token=s3cr3t", "{}", "[]", "null", truncated, "\u{0}\u{1}"] {
        let sandbox = Sandbox::new();
        sandbox.tilt().set("stdout", printed);
        let outcome = look(&sandbox).finish().exits_with(1).says("tilt get: ").says_one_line();
        assert!(!outcome.stderr.contains("s3cr3t"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stdout", b"\xff\xfe{}");
    look(&sandbox).finish().exits_with(1).says("not UTF-8");
}

#[test]
fn another_failure_of_tilts_is_passed_on() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("stderr", "Error: open /x/config.lock: permission denied\nUsage:\n");
    sandbox.tilt().set("exit", "1");
    look(&sandbox).finish().exits_with(1).says("config.lock: permission denied").says_one_line();
}

#[test]
fn a_warning_on_stderr_spoils_nothing() {
    let sandbox = Sandbox::new();
    let list = sandbox.tilt().read("uiresources.json");
    sandbox.tilt().set("stdout", list).set("stderr", "W1122 a new version is out\n");
    let events = look(&sandbox).finish().exits_with(0).events();
    assert_eq!(of_kind(&events, "uiresource").len(), 9);
}

#[test]
fn more_output_than_any_tilt_prints_is_not_taken_in() {
    for output in ["flood", "noise"] {
        let sandbox = Sandbox::new();
        sandbox.tilt().set(output, "80");
        in_some_tries("a look", || look(&sandbox).finish().unless_tilt_was_slow())
            .exits_with(1)
            .says("more than 32 MB");
    }
}

#[test]
fn a_large_environment_is_reported_whole() {
    let sandbox = Sandbox::new();
    sandbox.tilt().crowd(2000);
    assert_eq!(look(&sandbox).finish().exits_with(0).events().len(), RECORDED + 2000);
}

#[test]
fn nulls_and_absent_fields_are_said_by_saying_nothing() {
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", |resources| {
        let nulls = json!({"buildHistory": null, "conditions": null, "specs": null, "waiting": null,
            "disableStatus": null, "updateStatus": null, "runtimeStatus": "",
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
    let events = look(&sandbox).finish().exits_with(0).events();
    let names: Vec<_> =
        of_kind(&events, "uiresource").iter().map(|e| e["data"]["name"].clone()).collect();
    assert_eq!(names, ["bare", "null"]);
    assert_eq!(of_kind(&events, "dockerimage").len(), 1);
    for event in &events {
        for (name, value) in event["data"].as_object().expect("fields") {
            let says_something = !value.is_null() && (value != "" || name == "user");
            assert!(says_something, "{name} in {event}");
        }
    }
}

#[test]
fn odd_names_arrive_as_they_are() {
    let names = ["(Tiltfile)", "a \"quoted\" 'name'", "größe/✓:日本", "back\\slash", "tab\there"];
    let sandbox = Sandbox::new();
    sandbox.tilt().change("uiresources", |resources| {
        resources.truncate(names.len());
        for (resource, name) in resources.iter_mut().zip(names) {
            resource["metadata"]["name"] = json!(name);
        }
    });
    let events = look(&sandbox).finish().exits_with(0).events();
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
fn a_process_that_tilt_leaves_behind_does_not_hold_up_the_report() {
    takes_less_than(Duration::from_secs(5), || {
        let sandbox = Sandbox::new();
        sandbox.tilt().set("leave-process", "");
        let outcome = look(&sandbox).finish().exits_with(0);
        assert_eq!(builds(&outcome.events()), recorded_builds());
        eventually("it was killed", || !lives(&sandbox.tilt().read("left-process")));
        outcome.took
    });
}

#[test]
fn what_a_failed_tilt_said_is_heard_though_what_it_left_behind_holds_its_stderr() {
    let sandbox = Sandbox::new();
    let said = "Error: No tilt apiserver found: tilt-default";
    let script = format!("/bin/sleep 60 >/dev/null &\necho '{said}' >&2\nexit 1");
    sandbox.install("tilt", &script);
    look(&sandbox).finish().exits_with(3).says("cannot reach Tilt").says_one_line();
}

#[test]
fn a_process_that_nobody_can_kill_with_tilt_costs_a_sidecar_nothing_that_lasts() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("leave-process", "apart");
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent ");
    let left = sandbox.tilt().read("left-process");
    sandbox.tilt().unset("leave-process");
    eventually("nobody reads on", || !sidecar.threads().iter().any(|name| name == "tilt output"));
    assert!(lives(&left), "it is none of ours");
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

/// Takes the whole of the time that a look may take, so all of it is in one test.
#[test]
fn a_hung_tilt_is_killed_with_everything_it_started() {
    let polite = Sandbox::new();
    polite.tilt().set("hang", "");
    let stubborn = Sandbox::new();
    stubborn.tilt().set("hang", "").set("ignore-signals", "").set("leave-process", "");
    let looks = [look(&polite).start(), look(&stubborn).start()];
    for look in looks {
        look.finish().exits_with(3).says("no response after 20s; killed it").says_one_line();
    }
    for sandbox in [&polite, &stubborn] {
        let hung = sandbox.tilt().calls()[0]["pid"].to_string();
        eventually("it was killed", || !lives(&hung));
    }
    eventually("what it started too", || !lives(&stubborn.tilt().read("left-process")));
}

#[test]
fn a_tilt_that_hangs_is_killed_when_the_report_is_stopped() {
    let sandbox = Sandbox::new();
    sandbox.tilt().set("hang", "").set("ignore-signals", "");
    let look = look(&sandbox).start();
    eventually("tilt runs", || sandbox.tilt().calls().len() == 1);
    look.ends_after(Signal::TERM).0.exits_with(0);
    let hung = sandbox.tilt().calls()[0]["pid"].to_string();
    eventually("it was killed", || !lives(&hung));
}

/// Whether a process exists that is more than an entry its parent has yet to remove.
fn lives(pid: &str) -> bool {
    let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a process id");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    let is_zombie = stat.is_ok_and(|stat| stat.contains(") Z "));
    test_kill_process(pid).is_ok() && !is_zombie
}

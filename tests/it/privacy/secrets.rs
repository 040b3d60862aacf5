//! Secrets are not sent, printed or stored. The tests put a canary in every place where a secret may
//! be, and search everything that the program sends, prints and writes.

use std::fs;
use std::path::Path;
use std::process::Command;

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};
use serde_json::json;

use crate::support::{KEY, Outcome, RECORDED_EVENTS, Sandbox, Signal, eventually, of_kind, retry};

const COMMAND_TOKEN: &str = "canary-token-of-a-failing-command";
const BUILD_ARG: &str = "canary-value-of-a-build-arg";
const HOME_PATH: &str = "/home/canary-user/src/canary-shop";
const STAGE: &str = "canary-in-the-name-of-a-stage";
const DOCKERFILE: &str = "canary-line-of-a-dockerfile";
const LOG_LINE: &str = "canary-line-of-a-log";
/// The program must never reveal these.
const TILT_CANARIES: [&str; 6] = [COMMAND_TOKEN, BUILD_ARG, HOME_PATH, STAGE, DOCKERFILE, LOG_LINE];

/// A sandbox whose Tilt shows canaries in commands, arguments, paths, names and errors.
fn sandbox_with_canaries() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tilt().change("dockerimages", |images| {
        images[0]["spec"]["context"] = json!(HOME_PATH);
        images[0]["spec"]["dockerfileContents"] = json!(DOCKERFILE);
        let stage = format!("[2/4] RUN {STAGE} npm set //registry/:_authToken={BUILD_ARG}");
        images[0]["status"]["stageStatuses"][3]["name"] = json!(stage);
        images[1]["status"]["completed"]["error"] = json!(format!(
            "ImageBuild: executor failed running [/bin/sh -c curl -H 'token: {COMMAND_TOKEN}' \
             {HOME_PATH}/x?t={BUILD_ARG}]: exit code: 22"
        ));
        images[1]["status"]["stageStatuses"][7]["error"] = json!(COMMAND_TOKEN);
    });
    sandbox.tilt().change("cmdimages", |images| {
        images[0]["spec"]["args"] = json!(["sh", "-c", format!("build --token {COMMAND_TOKEN}")]);
        images[0]["spec"]["dir"] = json!(HOME_PATH);
        images[0]["status"]["completed"]["error"] =
            json!(format!("Custom build \"build --token {COMMAND_TOKEN}\" failed: exit status 1"));
    });
    sandbox.tilt().change("uiresources", |resources| {
        resources[0]["status"]["buildHistory"][0]["error"] = json!(COMMAND_TOKEN);
        resources[0]["status"]["buildHistory"][0]["warnings"] = json!([LOG_LINE]);
        resources[0]["status"]["endpointLinks"] = json!([{"url": format!("http://x/{BUILD_ARG}")}]);
        resources[0]["metadata"]["annotations"] = json!({"note": HOME_PATH});
    });
    sandbox.tilt().change("uisession", |session| {
        session[0]["status"]["tiltfileKey"] = json!(format!("{HOME_PATH}/Tiltfile"));
    });
    sandbox
}

#[track_caller]
fn assert_contains_none(what: &str, text: &str, canaries: &[&str]) {
    for canary in canaries {
        assert!(!text.contains(canary), "{canary} in {what}:\n{text}");
    }
}

#[track_caller]
pub(super) fn assert_printed_none(outcome: &Outcome, canaries: &[&str]) {
    assert_contains_none("stdout", &outcome.stdout, canaries);
    assert_contains_none("stderr", &outcome.stderr, canaries);
}

/// Searches every file that the program may have written.
#[track_caller]
pub(super) fn assert_wrote_none(sandbox: &Sandbox, canaries: &[&str]) {
    fn search(folder: &Path, canaries: &[&str]) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files += search(&path, canaries);
            } else {
                let bytes = fs::read(&path).expect("a file");
                assert_contains_none("a file", &String::from_utf8_lossy(&bytes), canaries);
                files += 1;
            }
        }
        files
    }
    let [in_state, ..] =
        ["state", "home", "work"].map(|folder| search(&sandbox.path(folder), canaries));
    assert!(in_state > 0, "no file of the state was searched");
}

/// Asserts that the key is in its header only, and no canary is in any request.
#[track_caller]
pub(super) fn assert_sent_none(server: &Server, canaries: &[&str]) {
    assert!(!server.requests().is_empty());
    for request in server.requests() {
        assert_contains_none("a path", &request.path, canaries);
        assert_contains_none("a body", &json!(request.events).to_string(), canaries);
        assert_contains_none("a body", &json!(request.events).to_string(), &[KEY]);
        let holders: Vec<_> =
            request.headers.iter().filter(|(_, value)| value.contains(KEY)).collect();
        assert_eq!(holders, [&("x-honeycomb-team".to_owned(), KEY.to_owned())]);
        for (name, value) in &request.headers {
            assert_contains_none("a header", &format!("{name}: {value}"), canaries);
        }
    }
}

#[test]
fn a_report_contains_no_commands_arguments_paths_or_files() {
    let (sandbox, server) = (sandbox_with_canaries(), Server::start());
    server.then([Reply::new(503, "").into()]);
    let outcome = sandbox.report_to(&server).args(&["--verbose"]).finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    let all = [&TILT_CANARIES[..], &[KEY]].concat();
    assert_printed_none(&outcome, &all);
    assert_wrote_none(&sandbox, &all);
    assert_sent_none(&server, &TILT_CANARIES);
}

#[test]
fn a_report_contains_no_names_of_clusters_pods_or_addresses() {
    let canaries = [
        "canary-context",
        "canary-cluster",
        "canary-namespace",
        "canary-config",
        "canary-pod",
        "canary-object",
        "10.98.76.54",
        "canary-registry",
    ];
    for is_reachable in [true, false] {
        let (sandbox, server) = (sandbox_with_canaries(), Server::start());
        let connected = json!({"kubernetes": {
            "context": canaries[0], "cluster": canaries[1], "namespace": canaries[2],
            "configPath": format!("/home/{}", canaries[3]), "product": "kind",
        }});
        let status = if is_reachable {
            json!({"arch": "arm64", "version": "v1.32.9", "connection": connected})
        } else {
            json!({"error": format!("Get https://{}:6443: {}", canaries[6], canaries[0])})
        };
        let cluster = json!({
            "kind": "Cluster", "metadata": {"name": canaries[1]}, "status": status,
            "spec": {"connection": connected, "defaultRegistry": {"host": canaries[7]}},
        });
        sandbox.tilt().show("clusters", [cluster]).change("uiresources", |resources| {
            let web = resources.iter_mut().find(|r| r["metadata"]["name"] == "web").expect("web");
            web["status"]["specs"] = json!([{"id": "k8s:web", "type": "k8s"}]);
            web["status"]["k8sResourceInfo"] = json!({
                "podName": canaries[4], "podStatus": "Running",
                "displayNames": [canaries[5]], "podStatusMessage": format!("at {}", canaries[6]),
            });
            web["status"]["waiting"] = json!({"reason": "waiting-for-cluster",
                "on": [{"kind": "Cluster", "name": canaries[1]}]});
        });
        let outcome = sandbox.report_to(&server).args(&["--verbose"]).finish().exits_with(0);
        let session = &of_kind(&server.accepted(), "session")[0]["data"];
        let expected = if is_reachable { ("kind", "") } else { ("", "cluster_unavailable") };
        let text = |name: &str| session[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((&*text("cluster.product"), &*text("error.type")), expected);
        assert_printed_none(&outcome, &canaries);
        assert_wrote_none(&sandbox, &canaries);
        assert_sent_none(&server, &canaries);
        let check = sandbox.run("check --json --api-endpoint http://127.0.0.1:1").finish();
        assert_printed_none(&check, &canaries);
    }
}

#[test]
fn a_dry_run_prints_no_secrets() {
    let sandbox = sandbox_with_canaries();
    let outcome = sandbox.run("--once --dry-run --verbose").with_key().finish().exits_with(0);
    assert_printed_none(&outcome, &[&TILT_CANARIES[..], &[KEY]].concat());
}

#[test]
fn queued_events_on_disk_contain_no_secrets() {
    let (sandbox, server) = (sandbox_with_canaries(), Server::start());
    server.usually(Reply::new(503, ""));
    let report = sandbox.report_within("200ms", &server);
    let outcome = report.finish().exits_with(4);
    let all = [&TILT_CANARIES[..], &[KEY]].concat();
    assert_printed_none(&outcome, &all);
    assert_eq!(sandbox.queued(), RECORDED_EVENTS);
    assert_wrote_none(&sandbox, &all);
}

#[test]
fn send_error_text_sends_error_text_and_nothing_else() {
    let (sandbox, server) = (sandbox_with_canaries(), Server::start());
    let options = ["--send-error-text", "--verbose"];
    let outcome = sandbox.report_to(&server).args(&options).finish().exits_with(0);
    assert!(json!(server.accepted()).to_string().contains(COMMAND_TOKEN));
    assert_printed_none(&outcome, &[&TILT_CANARIES[..], &[KEY]].concat());
    assert_sent_none(&server, &[STAGE, DOCKERFILE, LOG_LINE]);
}

#[test]
fn send_stage_text_sends_truncated_stage_text_only() {
    let (sandbox, server) = (sandbox_with_canaries(), Server::start());
    sandbox.tilt().change("dockerimages", |images| {
        images[0]["status"]["stageStatuses"][2]["name"] = json!("x".repeat(5000));
    });
    let options = ["--send-stage-text", "--verbose"];
    let outcome = sandbox.report_to(&server).args(&options).finish().exits_with(0);
    let stages = of_kind(&server.accepted(), "dockerimage_stage");
    let texts: Vec<_> = stages.iter().filter_map(|e| e["data"]["stage_text"].as_str()).collect();
    assert!(texts.iter().any(|text| text.contains(STAGE) && text.contains(BUILD_ARG)), "{texts:?}");
    assert!(texts.iter().any(|text| text.starts_with("xxx")), "{texts:?}");
    assert!(texts.iter().all(|text| text.len() <= 1024 + 3), "{texts:?}");
    assert_printed_none(&outcome, &[&TILT_CANARIES[..], &[KEY]].concat());
    assert_sent_none(&server, &[COMMAND_TOKEN, HOME_PATH, DOCKERFILE, LOG_LINE]);
}

#[test]
fn the_key_is_in_no_message_when_delivery_fails() {
    for answer in [
        Reply::new(401, format!("{{\"error\":\"unknown API key {KEY}\"}}")).into(),
        Reply::new(403, format!("the key {KEY} may not")).into(),
        Reply::new(404, "").into(),
        Reply::new(302, "").header("location", format!("http://127.0.0.1:1/{KEY}?k={KEY}")).into(),
        Reply::new(503, format!("{{\"error\":\"no room for {KEY}\"}}")).into(),
        Reply::new(200, format!("[{{\"status\":400,\"error\":\"{KEY}\"}}]")).into(),
        Reply::new(200, format!("welcome, {KEY}")).into(),
        Answer::Broken { after: Part::Nothing, then: Mishap::Stall },
        Answer::Broken { after: Part::HalfTheBody, then: Mishap::Close },
        Answer::Broken { after: Part::Nothing, then: Mishap::Reset },
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(answer);
        let outcome = retry("a request", || {
            let outcome = sandbox.report_within("1s", &server).args(&["--verbose"]).finish();
            (!server.requests().is_empty()).then_some(outcome)
        });
        assert_printed_none(&outcome, &[KEY]);
        assert_wrote_none(&sandbox, &[KEY]);
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_sidecar_never_prints_the_key() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.then([Reply::new(429, "").into()]);
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--verbose"]).start();
    eventually("two reports", || server.accepted().len() >= 21);
    let (outcome, _) = sidecar.ends_after(Signal::TERM);
    assert_printed_none(&outcome, &[KEY]);
    assert_wrote_none(&sandbox, &[KEY]);
    assert_sent_none(&server, &[]);
}

#[test]
fn host_name_login_name_and_folders_are_not_sent() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox
        .report_to(&server)
        .env("USER", "canary-login")
        .env("LOGNAME", "canary-login")
        .env("HOSTNAME", "canary-host")
        .finish()
        .exits_with(0);
    let root = sandbox.path("");
    let host = Command::new("hostname").output().expect("a name").stdout;
    // Quoted: a short host name may be part of another word.
    let host = format!("\"{}\"", String::from_utf8_lossy(&host).trim());
    let root = root.to_str().expect("text");
    assert_sent_none(&server, &["canary-login", "canary-host", root, &host]);
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn child_processes_do_not_get_the_key() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().change("uisession", |sessions| {
        sessions[0]["status"]["tiltfileKey"] = sandbox.path("work/Tiltfile").to_str().into();
    });
    fs::rename(sandbox.tilt_program(), sandbox.path("real-tilt")).expect("a renamed program");
    for (name, then) in [("tilt", "exec ../real-tilt \"$@\""), ("git", "")] {
        let given = sandbox.path(name).with_extension("given");
        let note = format!("echo \"${{HONEYCOMB_API_KEY-nothing}}\" >>'{}'", given.display());
        sandbox.install(name, &format!("{note}\n{then}"));
    }
    sandbox.report_to(&server).args(&["--vcs"]).finish().exits_with(0);
    for name in ["tilt", "git"] {
        let given = sandbox.path(name).with_extension("given");
        let given = fs::read_to_string(given).expect("the program ran");
        assert!(given.lines().all(|line| line == "nothing"), "{name}: {given}");
    }
}

#[test]
fn a_key_that_a_response_escapes_is_not_printed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let escaped: Vec<_> = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let escaped = escaped.concat();
    server.usually(Reply::new(401, format!(r#"{{"error": "unknown key {escaped}"}}"#)));
    let outcome = sandbox.report_to(&server).finish().exits_with(5);
    assert_printed_none(&outcome, &[KEY, &escaped]);
}

#[test]
fn a_redirect_reaches_the_log_without_invisible_characters() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let address = format!("https://login.example/\u{202e}{}", "x".repeat(5000));
    server.usually(Reply::new(302, "").header("location", address));
    let outcome = sandbox.report_to(&server).finish().exits_with(5);
    assert!(outcome.stderr.contains("https://login.example/xxx"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\u{202e}'), "{}", outcome.stderr);
    assert!(outcome.stderr.len() < 1000, "{}", outcome.stderr);
}

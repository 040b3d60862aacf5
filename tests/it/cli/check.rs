//! `check`: each line of its output, passed and failed, against a fake of Honeycomb's API.

use std::fs;

use fakes::honeycomb::{Reply, Server};
use serde_json::{Value, json};
use tilt_honeycomb::honeycomb::queries::QUERIES;

use crate::support::api::{
    Api, CLASSIC_KEY, CONFIGURATION_KEY, INGEST_KEY, auth_of, configuration_auth,
};
use crate::support::{
    DATASET, Invocation, KINDS, Outcome, RECORDED_EVENTS, Sandbox, UNREACHABLE, eventually,
    set_mode,
};

/// On Windows, the program does not know who can read a folder, and says nothing about it.
const PRIVATE: &str = if cfg!(windows) { "" } else { ", private" };

pub fn check(sandbox: &Sandbox, server: &Server, key: &str) -> Invocation {
    sandbox.run("check").sending_to(server).env("HONEYCOMB_API_KEY", key)
}

/// Runs `check` with this endpoint. A proxy redirects it to the fake Honeycomb.
pub fn check_at(sandbox: &Sandbox, honeycomb: &Server, endpoint: &str) -> Invocation {
    sandbox
        .run("check --timeout 20s --allow-insecure-http")
        .with_key()
        .env("HONEYCOMB_API_KEY", INGEST_KEY)
        .env("HONEYCOMB_API_ENDPOINT", endpoint)
        .env("HTTP_PROXY", honeycomb.url())
}

pub fn ready() -> (Sandbox, Server, Api) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let api = Api::on(&server);
    (sandbox, server, api)
}

#[test]
fn check_passes_when_everything_is_set_up() {
    let (sandbox, server, _api) = ready();
    let outcome = check(&sandbox, &server, INGEST_KEY).finish().exits_with(0);
    let state = format!("{}: writable{PRIVATE}; queue empty", sandbox.state_dir().display());
    let outcome = outcome
        .finds_exactly("tilt", "ok", "0.37.6, built 2026-07-01")
        .finds_exactly(
            "session",
            "ok",
            "port 10350: 9 resources; kinds: uisession, uiresources, dockerimages, cmdimages",
        )
        .finds_exactly("state", "ok", &state)
        .finds_exactly("key", "ok", "HONEYCOMB_API_KEY: an ingest key")
        .finds("endpoint", "ok", "no TLS; no proxy")
        .finds_exactly(
            "team",
            "ok",
            "Acme, environment Dev Machines; the key may send events, create datasets",
        )
        .finds("dataset", "ok", "dev-environments; the first event creates it");
    assert_eq!(outcome.stderr, "");
    let topics: Vec<_> = outcome.stdout.lines().take(8).map(|line| line[8..18].trim()).collect();
    assert_eq!(
        topics,
        ["tilt", "session", "collector", "state", "key", "endpoint", "team", "dataset"]
    );
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert!(lines.len() < 24, "more than one screen: {lines:?}");
    assert!(lines.last().is_some_and(|line| line.starts_with("connected; ")), "{lines:?}");
}

#[test]
fn check_sends_no_event_and_never_shows_the_key() {
    let (sandbox, server, api) = ready();
    for (key, auth) in [
        (INGEST_KEY, auth_of("ingest", &json!({"createDatasets": true}))),
        (CONFIGURATION_KEY, configuration_auth()),
        (&INGEST_KEY[..32], json!({})),
        (&INGEST_KEY[32..], json!({"error": format!("unknown API key {}", &INGEST_KEY[32..])})),
        (CLASSIC_KEY, configuration_auth()),
        ("hcamk_01j1824es7n4evcmv81cn392jb:s3cr3t", json!({})),
        ("hcalk_01j1824es7n4evcmv81cn392jb", json!({})),
        ("something-else", json!({"team": {"name": "something-else", "slug": "x"}})),
    ] {
        api.set_key_details(&auth);
        for options in [&["--verbose"][..], &["--verbose", "--json"]] {
            let outcome = check(&sandbox, &server, key).args(options).finish();
            assert!(!outcome.stdout.contains(key), "{}", outcome.stdout);
            assert!(!outcome.stderr.contains(key), "{}", outcome.stderr);
        }
    }
    for request in server.requests() {
        match request.method.as_str() {
            "GET" => {}
            method => assert_eq!((method, &request.body[..]), ("POST", &b"[]"[..]), "no event"),
        }
    }
    assert!(api.world().changes.is_empty());
}

#[test]
fn each_failed_line_says_what_to_do() {
    let sandbox = Sandbox::new();
    fs::rename(sandbox.tilt_program(), sandbox.path("gone")).expect("a renamed program");
    let outcome = sandbox
        .run("check")
        .without_env("HOME")
        .without_env("XDG_STATE_HOME")
        .env("HONEYCOMB_API_ENDPOINT", UNREACHABLE)
        .finish()
        .exits_with(2);
    outcome
        .finds("tilt", "bad", "install Tilt or give --tilt")
        .finds("session", "skipped", "no tilt program")
        .finds(
            "state",
            "bad",
            if cfg!(windows) { "LOCALAPPDATA" } else { "set HOME or give --state-dir" },
        )
        .finds("key", "bad", "set HONEYCOMB_API_KEY")
        .finds("endpoint", "bad", "no response from 127.0.0.1:1")
        .finds("team", "skipped", "no response from the endpoint")
        .finds("dataset", "bad", "set HONEYCOMB_DATASET");
}

#[test]
fn one_missing_part_does_not_fail_the_other_lines() {
    let (sandbox, server, _api) = ready();
    let run = || check(&sandbox, &server, INGEST_KEY);
    let others_are_good = |outcome: &Outcome, missing: &[&str]| {
        for topic in ["tilt", "session", "state", "key", "endpoint", "team", "dataset"] {
            if !missing.contains(&topic) {
                assert_eq!(outcome.found(topic).0, "ok", "{topic} without {missing:?}");
            }
        }
    };
    let outcome = run().args(&["--tilt", "/nowhere/tilt"]).finish().exits_with(3);
    others_are_good(&outcome, &["tilt", "session"]);
    sandbox.tilt().set("no-tilt", "");
    let outcome = run().finish().exits_with(0).finds("session", "note", "start Tilt");
    others_are_good(&outcome, &["session"]);
    let outcome = run().args(&["--require-tilt"]).finish().exits_with(3);
    others_are_good(&outcome, &["session"]);
    let conclusion = outcome.stdout.lines().last();
    assert_eq!(conclusion, Some("connected to Honeycomb, but not to Tilt; fix first: session"));
    sandbox.tilt().unset("no-tilt");
    let outcome = run().without_env("HONEYCOMB_API_KEY").finish().exits_with(2);
    others_are_good(&outcome, &["key", "team", "dataset"]);
    let outcome = run().without_env("HONEYCOMB_DATASET").finish().exits_with(2);
    others_are_good(&outcome, &["dataset"]);
    let outcome = run().env("HONEYCOMB_API_ENDPOINT", UNREACHABLE).finish().exits_with(4);
    others_are_good(&outcome, &["endpoint", "team", "dataset"]);
    let outcome = run().without_env("HOME").without_env("XDG_STATE_HOME").finish().exits_with(2);
    others_are_good(&outcome, &["state"]);
}

#[test]
fn an_unknown_tilt_version_is_only_a_note() {
    let (sandbox, server, _api) = ready();
    sandbox.tilt().set("no-version", "");
    check(&sandbox, &server, INGEST_KEY)
        .finish()
        .exits_with(0)
        .finds("tilt", "note", "unknown version")
        .finds("session", "ok", "9 resources");
}

#[test]
fn check_asks_the_tilt_on_the_given_port() {
    let (sandbox, server, _api) = ready();
    let run = || check(&sandbox, &server, INGEST_KEY);
    run().args(&["--port", "10399"]).finish().finds("session", "ok", "port 10399: 9 resources");
    run().env("TILT_PORT", "10398").finish().finds("session", "ok", "port 10398: 9 resources");
    sandbox.tilt().set("no-tilt", "");
    run().args(&["--port", "10399", "--require-tilt"]).finish().exits_with(3).finds(
        "session",
        "bad",
        "No tilt apiserver found: tilt-10399; start Tilt, or give its port with",
    );
}

#[test]
fn check_lists_the_kinds_that_an_older_tilt_knows() {
    let (sandbox, server, _api) = ready();
    let run = || check(&sandbox, &server, INGEST_KEY);
    sandbox.tilt().unset(&format!("{}.json", KINDS[3]));
    run().finish().exits_with(0).finds(
        "session",
        "ok",
        "kinds: uisession, uiresources, dockerimages",
    );
    sandbox.tilt().unset("uiresources.json");
    run().finish().exits_with(1).finds("session", "bad", "update Tilt to 0.20.2 or later");
    sandbox.tilt().set("stdout", "no JSON");
    run().finish().exits_with(1).finds("session", "bad", "tilt get: ");
}

#[test]
fn check_shows_if_a_collector_runs_in_this_tilt() {
    let (sandbox, server, _api) = ready();
    let run = |name: &str| {
        let run = check(&sandbox, &server, INGEST_KEY).env("TILT_HONEYCOMB_RESOURCE", name);
        run.finish().exits_with(0)
    };
    run("").finds("collector", "note", "no resource honeycomb-collector in this Tilt");
    let mut name = String::new();
    let mut set = |status: &str, disabled: &str| {
        sandbox.tilt().change("uiresources", |all| {
            all[1]["status"]["runtimeStatus"] = status.into();
            all[1]["status"]["disableStatus"]["state"] = disabled.into();
            name = all[1]["metadata"]["name"].as_str().expect("a name").to_owned();
        });
        name.clone()
    };
    let name = set("ok", "Enabled");
    run(&name).finds_exactly("collector", "ok", &format!("the resource {name} runs"));
    let set_arguments = |arguments: Value| {
        sandbox.tilt().set("serve-args", json!({&name: arguments}).to_string());
    };
    set_arguments(json!(["sh", "run", "--dataset", DATASET, "--interval", "5s"]));
    let same = format!("the resource {name} runs with --dataset {DATASET}");
    run(&name).finds_exactly("collector", "ok", &same);
    set_arguments(json!(["sh", "run", "--dataset=other"]));
    let other = format!("the resource {name} runs with --dataset other");
    run(&name).finds_exactly("collector", "ok", &other).finds("dataset", "ok", "other; the first");
    let run_without_dataset = check(&sandbox, &server, INGEST_KEY)
        .env("TILT_HONEYCOMB_RESOURCE", &name)
        .without_env("HONEYCOMB_DATASET");
    run_without_dataset.finish().exits_with(0).finds("dataset", "ok", "other; the first");
    let run_with_option = check(&sandbox, &server, INGEST_KEY)
        .env("TILT_HONEYCOMB_RESOURCE", &name)
        .args(&["--dataset", DATASET]);
    let outcome = run_with_option.finish().exits_with(0).finds("dataset", "ok", DATASET);
    outcome.finds("collector", "note", "with --dataset other, and check looks at others");
    let starting = format!("the resource {name} is starting with --dataset other");
    run(&set("pending", "Enabled")).finds_exactly("collector", "note", &starting);
    run(&set("error", "Enabled")).finds("collector", "note", "does not run (error); see its log");
    run(&set("none", "Disabled")).finds("collector", "note", "is disabled");
}

#[test]
fn a_key_that_only_the_collector_has_is_not_called_bad() {
    let (sandbox, server, _api) = ready();
    let check_without_key = || check(&sandbox, &server, "").finish();
    check_without_key().exits_with(2).finds("key", "bad", "no API key: set HONEYCOMB_API_KEY");
    sandbox.tilt().change("uiresources", |all| {
        all[1]["metadata"]["name"] = "honeycomb-collector".into();
        all[1]["status"]["runtimeStatus"] = "ok".into();
    });
    let outcome = check_without_key()
        .exits_with(0)
        .finds("collector", "ok", "runs")
        .finds("key", "skipped", "only the collector has one, which check cannot read")
        .finds("key", "skipped", "set HONEYCOMB_API_KEY here or give --api-key-file")
        .finds("team", "skipped", "no API key here");
    let conclusion = outcome.stdout.lines().last();
    assert_eq!(conclusion, Some("not everything could be checked: key, team, dataset"));
    let given = ["--api-key-file", "/no-such-file"];
    let outcome = check(&sandbox, &server, "").args(&given).finish();
    outcome.exits_with(2).finds("key", "bad", "--api-key-file /no-such-file");
}

#[test]
fn check_shows_how_the_collectors_deliveries_went() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _api = Api::on(&server);
    let delivery = || check(&sandbox, &server, INGEST_KEY).finish().exits_with(0);
    let shows = |what: &str, text: &str| {
        eventually(what, || delivery().stdout.contains(text));
    };
    assert!(!delivery().stdout.contains("delivery"), "no collector has run");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    shows("a success", "ok      delivery  last success ");
    let id = fs::read_to_string(sandbox.state_dir().join("installation-id")).expect("an id");
    delivery().finds_exactly("machine", "ok", &format!("installation.id {}", id.trim()));
    sidecar.stop();
    shows("the same without the collector", "ok      delivery  last success ");
}

#[test]
fn check_shows_for_how_long_deliveries_have_failed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "1s"]).start();
    sidecar.says("retrying in ");
    let failing = || check(&sandbox, &server, INGEST_KEY).finish();
    eventually("the problem", || failing().stdout.contains("note    delivery  failing for "));
    failing().finds("delivery", "note", "HTTP 503").finds("delivery", "note", "no success yet");
    sidecar.stop();
}

#[test]
fn check_has_no_colors_without_a_terminal() {
    let (sandbox, server, _api) = ready();
    assert!(!check(&sandbox, &server, INGEST_KEY).finish().stdout.contains('\u{1b}'));
}

#[test]
fn check_shows_the_queue_and_the_age_of_its_oldest_event() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    sandbox.report_within("200ms", &server).finish().exits_with(4);
    let api = Api::on(&server);
    let outcome = check(&sandbox, &server, INGEST_KEY).finish().exits_with(0);
    let queued = format!("writable{PRIVATE}; 45 events queued, the oldest for ");
    outcome.finds("state", "ok", &queued);
    assert_eq!(sandbox.queued(), RECORDED_EVENTS, "check leaves the queue unchanged");
    assert!(api.world().changes.is_empty());
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no file modes")]
fn an_unsuitable_state_folder_is_reported() {
    let (sandbox, server, _api) = ready();
    let in_folder = |folder: &std::path::Path| {
        let option = ["--state-dir", folder.to_str().expect("text")];
        check(&sandbox, &server, INGEST_KEY).args(&option).finish()
    };

    let open = sandbox.path("work/open");
    fs::create_dir(&open).expect("a folder");
    set_mode(&open, 0o755);
    in_folder(&open).exits_with(0).finds("state", "note", "chmod 700");
    set_mode(&open, 0o777);
    in_folder(&open).exits_with(1).finds("state", "bad", "everyone may write");

    let file = sandbox.path("work/file");
    fs::write(&file, "").expect("a file");
    in_folder(&file).exits_with(1).finds("state", "bad", "choose another folder with --state-dir");

    let newer = sandbox.path("work/newer");
    fs::create_dir(&newer).expect("a folder");
    set_mode(&newer, 0o700);
    in_folder(&newer).exits_with(0).finds("state", "ok", "private; queue empty");
    let left: Vec<_> =
        fs::read_dir(&newer).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    assert_eq!(left.len(), 0, "a check leaves no file: {left:?}");
}

#[test]
fn a_working_setup_is_shown_with_links_to_its_queries() {
    let (sandbox, server, api) = ready();
    let links = |endpoint: &str, ui: &str| {
        let run = check_at(&sandbox, &server, endpoint).env("HONEYCOMB_UI_URL", ui);
        run.args(&["--links"]).finish().exits_with(0)
    };
    let dataset = |ui: &str| format!("{ui}/acme/environments/dev-machines/datasets/{DATASET}");
    for (endpoint, ui_url, ui) in [
        ("http://api.honeycomb.io", "", "https://ui.honeycomb.io"),
        ("http://api.eu1.honeycomb.io", "", "https://ui.eu1.honeycomb.io"),
        ("http://refinery.example", "https://ui.eu1.honeycomb.io", "https://ui.eu1.honeycomb.io"),
    ] {
        let outcome = links(endpoint, ui_url);
        let connected = format!("\nconnected; view in Honeycomb: {}\n", dataset(ui));
        assert!(outcome.stdout.contains(&connected), "{}", outcome.stdout);
        for query in QUERIES {
            assert!(outcome.stdout.contains(&format!("  {}: {}", query.name, query.question)));
        }
        let queries = outcome.stdout.matches(&format!("{}?query=%7B", dataset(ui))).count();
        assert_eq!(queries, QUERIES.len());
        assert!(outcome.stdout.ends_with(&connected), "the conclusion comes last");
    }
    let short = check_at(&sandbox, &server, "http://api.honeycomb.io").finish().exits_with(0);
    assert!(!short.stdout.contains("?query="), "links without --links: {}", short.stdout);
    // The address of a Refinery does not tell the address of the UI.
    let outcome = links("http://refinery.example", "");
    assert!(outcome.stdout.contains("set HONEYCOMB_UI_URL"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("https://"), "{}", outcome.stdout);

    let mut classic = configuration_auth();
    classic["environment"] = json!({"name": "", "slug": ""});
    api.set_key_details(&classic);
    let outcome = links("http://api.honeycomb.io", "");
    let connected = format!("view in Honeycomb: https://ui.honeycomb.io/acme/datasets/{DATASET}\n");
    assert!(outcome.stdout.contains(&connected), "{}", outcome.stdout);
}

#[test]
fn json_output_contains_the_same_findings() {
    let (sandbox, server, api) = ready();
    let run = || check(&sandbox, &server, INGEST_KEY).args(&["--json"]);
    let read = |outcome: &Outcome| -> Value {
        serde_json::from_str(&outcome.stdout).expect("one JSON document")
    };
    let run_with_ui = run().env("HONEYCOMB_UI_URL", "https://ui.honeycomb.io");
    let all = read(&run_with_ui.finish().exits_with(0));
    assert_eq!((&all["exit_code"], &all["connected"]), (&json!(0), &json!(true)));
    let found = all["findings"].as_array().expect("findings");
    assert_eq!(found.len(), 9);
    let says = "HONEYCOMB_API_KEY: an ingest key";
    assert_eq!(found[4], json!({"topic": "key", "verdict": "ok", "says": says}));
    let queries = all["queries"].as_array().expect("queries");
    assert_eq!(queries.len(), QUERIES.len());
    assert!(queries[0]["url"].as_str().expect("a link").starts_with("https://ui.honeycomb.io/"));

    api.answers_auth(Reply::new(401, ""));
    let refused = read(&run().finish().exits_with(5));
    assert_eq!((&refused["exit_code"], &refused["connected"]), (&json!(5), &json!(false)));
    assert_eq!(refused["findings"][6]["verdict"], "bad");
    assert_eq!((&refused["dataset_url"], &refused["queries"]), (&Value::Null, &json!([])));
}

#[test]
fn do_not_track_also_disables_check() {
    let (sandbox, server, _api) = ready();
    let outcome = check(&sandbox, &server, INGEST_KEY).env("DO_NOT_TRACK", "1").finish();
    outcome.exits_with(0).says("DO_NOT_TRACK").says_one_line();
    assert_eq!((server.connections(), sandbox.tilt().calls().len()), (0, 0));
}

//! Options, environment variables and exit codes.

use fakes::honeycomb::{Reply, Server};
use serde_json::json;

use crate::support::{DATASET, KEY, PROGRAM, STOP, Sandbox, builds, recorded_builds};

#[test]
fn version_and_help_are_printed_on_stdout() {
    let sandbox = Sandbox::new();
    for option in ["--version", "-V"] {
        let outcome = sandbox.run(option).finish().exits_with(0);
        assert_eq!(outcome.stdout, concat!("tilt-honeycomb ", env!("CARGO_PKG_VERSION"), "\n"));
        assert_eq!(outcome.stderr, "");
    }
    for option in ["--help", "-h"] {
        let outcome = sandbox.run(option).finish().exits_with(0);
        assert!(
            outcome.stdout.starts_with("Usage: tilt-honeycomb [check|board|summary] [options]"),
            "{}",
            outcome.stdout
        );
        assert_eq!(outcome.stderr, "");
    }
    assert_eq!(sandbox.tilt().calls().len(), 0);
}

#[test]
fn an_option_takes_its_value_after_a_space_or_equals_sign() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let key_file = sandbox.path("work/key");
    std::fs::write(&key_file, format!("\n  {KEY}\t\n")).expect("a key file");
    let values = [
        ("--api-endpoint", server.url()),
        ("--dataset", "from-an-option".to_owned()),
        ("--api-key-file", key_file.to_str().expect("text").to_owned()),
        ("--port", "10399".to_owned()),
        ("--timeout", "1m".to_owned()),
        ("--user", "ann=smith".to_owned()),
    ];
    let spaced = values.iter().map(|(name, value)| format!("{name} {value}"));
    let joined = values.iter().map(|(name, value)| format!("{name}={value}"));
    for options in [spaced.collect::<Vec<_>>(), joined.collect()] {
        sandbox
            .run(&format!("--once {}", options.join(" ")))
            .env("HONEYCOMB_API_KEY", "not-this-one")
            .env("HONEYCOMB_DATASET", "not-this-one")
            .env("HONEYCOMB_API_ENDPOINT", "http://127.0.0.1:1")
            .finish()
            .exits_with(0);
        let request = server.requests().pop().expect("a request");
        assert_eq!(request.path, "/1/batch/from-an-option");
        assert_eq!(request.header("x-honeycomb-team"), Some(KEY));
        assert_eq!(request.events[0]["data"]["user"], "ann=smith");
        assert!(sandbox.tilt().called_with().pop().expect("a call").ends_with("--port 10399"));
    }
}

#[test]
fn a_field_is_sent_as_text_number_or_boolean() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fields = ["--field", "team=5", "--field", "size:=5", "--field", "load:=0.5"];
    let report = sandbox.report_to(&server).args(&fields).args(&["--field", "remote:=true"]);
    report.finish().exits_with(0);
    for event in server.accepted() {
        let data = &event["data"];
        assert_eq!((&data["team"], &data["size"]), (&json!("5"), &json!(5)), "{event}");
        assert_eq!((&data["load"], &data["remote"]), (&json!(0.5), &json!(true)), "{event}");
    }
}

#[test]
fn the_help_of_a_command_lists_only_its_options() {
    let sandbox = Sandbox::new();
    for (command, own, foreign) in [
        ("check", "--json", "--html"),
        ("board", "--dry-run", "--json"),
        ("summary", "--html", "--once"),
    ] {
        let help = sandbox.run(&format!("{command} --help")).finish().exits_with(0).stdout;
        assert!(help.starts_with(&format!("Usage: tilt-honeycomb {command} [options]")), "{help}");
        assert!(help.contains(own) && !help.contains(foreign), "{help}");
    }
}

#[test]
fn api_endpoint_variable_overrides_the_older_api_host() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let older = |value: &str| sandbox.run("--once").with_key().env("HONEYCOMB_API_HOST", value);
    older(&server.url()).finish().exits_with(0);
    older("http://127.0.0.1:1").env("HONEYCOMB_API_ENDPOINT", server.url()).finish().exits_with(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn state_dir_option_moves_the_state() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let chosen = sandbox.path("work/some/where");
    let option = ["--state-dir", chosen.to_str().expect("text")];
    sandbox.report_to(&server).args(&option).finish().exits_with(0);
    assert!(chosen.join("installation-id").exists());
    assert_eq!(sandbox.state_files().len(), 0);
}

#[test]
fn the_state_is_in_xdg_state_home_or_home_or_is_an_error() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).without_env("XDG_STATE_HOME").finish().exits_with(0);
    assert!(sandbox.path("home/.local/state/tilt-honeycomb/installation-id").exists());
    sandbox
        .report_to(&server)
        .without_env("XDG_STATE_HOME")
        .without_env("HOME")
        .finish()
        .exits_with(2)
        .says("set HOME or give --state-dir");
}

#[test]
fn exit_code_0_means_that_the_report_arrived() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
}

#[test]
fn exit_code_1_means_an_unexpected_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("stdout", "no JSON");
    sandbox.report_to(&server).finish().exits_with(1).says_one_line();
}

#[test]
fn exit_code_2_means_a_usage_error_and_nothing_was_done() {
    let sandbox = Sandbox::new();
    for (options, named) in [
        ("--nosuch", "--nosuch"),
        ("--intervall 5s", "unknown option --intervall (did you mean --interval?)"),
        ("chekc", "unknown command chekc (did you mean check?)"),
        ("--once stray", "stray"),
        ("check --once", "--once cannot be combined with check"),
        ("--completions tcsh", "must be bash, fish, powershell or zsh"),
        ("--interval", "--interval"),
        ("--interval 5", "write it like 30s or 5m"),
        ("--interval=5M", "between 1s and 1day"),
        ("--timeout soon", "--timeout"),
        ("--port 70000", "a number from 1 to 65535"),
        ("--field novalue", "key=value"),
        ("--field size:=five", "write a number, true or false"),
        ("--field kind:=5", "choose another key"),
        ("--field kind=mine", "choose another key"),
        ("--field meta.team=x", "meta.team is reserved: Refinery and Honeycomb set names"),
        ("--field traceId=x", "place an event in its trace by it; choose another key"),
        ("--field samplerate=2", "samplerate is reserved"),
        ("--dataset a/b", "must not contain a slash"),
        ("--dataset __all__", "is reserved: Honeycomb uses this name for all datasets"),
        ("--api-endpoint https://api.honeycomb.io/1/events", "must not end in /1/events"),
        ("--api-endpoint https://gateway.example/x/v1/traces/", "must not end in /v1/traces"),
        ("--api-endpoint https://me:pw@example.org", "must not contain a user name or password"),
        ("--api-key-file nosuch", "--api-key-file nosuch"),
    ] {
        let outcome = sandbox
            .run(options)
            .env("HONEYCOMB_API_KEY", KEY)
            .env("HONEYCOMB_DATASET", DATASET)
            .finish()
            .exits_with(2)
            .says(named)
            .says_one_line();
        assert!(outcome.stderr.starts_with("tilt-honeycomb: "), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("pw@"), "{}", outcome.stderr);
    }
    assert_eq!((sandbox.tilt().calls().len(), sandbox.state_files().len()), (0, 0));
}

#[test]
fn a_missing_key_or_dataset_names_its_variable() {
    let sandbox = Sandbox::new();
    for (missing, named) in [
        ("HONEYCOMB_API_KEY", "set HONEYCOMB_API_KEY"),
        ("HONEYCOMB_DATASET", "set HONEYCOMB_DATASET"),
    ] {
        let run = || sandbox.run("--once").with_key();
        run().without_env(missing).finish().exits_with(2).says(named).says_one_line();
        run().env(missing, "").finish().exits_with(2).says(named);
    }
}

#[test]
fn spellings_of_one_endpoint_share_their_state() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for endpoint in [
        server.url().replace("127.0.0.1", "localhost"),
        server.url().replace("http://127.0.0.1", "HTTP://LocalHost"),
        server.url().replace("127.0.0.1", "localhost") + "//",
    ] {
        sandbox.report_to(&server).env("HONEYCOMB_API_ENDPOINT", endpoint).finish().exits_with(0);
    }
    assert_eq!(server.requests().len(), 3);
    assert_eq!(builds(&server.accepted()), recorded_builds(), "each build is sent once");
}

#[test]
fn a_key_unfit_for_a_header_is_refused_and_not_shown() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for key in ["hcaik_s3cr3t pasted", "hcaik_s3cr3t\npasted", "hcaik_s3cr3t\u{7}", "hcaik_s3cr3té"]
    {
        let outcome =
            sandbox.report_to(&server).env("HONEYCOMB_API_KEY", key).finish().exits_with(2);
        assert!(!outcome.stderr.contains("s3cr3t"), "{}", outcome.stderr);
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn exit_code_3_means_that_no_tilt_is_running() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3).says_one_line();
    assert_eq!(server.connections(), 0);
}

#[test]
fn exit_code_4_means_that_events_are_still_queued() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let report = sandbox.report_within("200ms", &server);
    report.finish().exits_with(4).says_one_line();
}

#[test]
fn exit_code_5_means_that_honeycomb_refused() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(401, ""));
    sandbox.report_to(&server).finish().exits_with(5).says_one_line();
}

#[test]
fn quiet_hides_everything_except_usage_errors() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let quiet = || sandbox.report_to(&server).args(&["--quiet"]);
    quiet().finish().exits_with(0).says_nothing();
    server.usually(Reply::new(401, ""));
    quiet().finish().exits_with(5).says_nothing();
    server.usually(Reply::new(503, "").header("retry-after", 600));
    quiet().finish().exits_with(4).says_nothing();
    sandbox.tilt().set("no-tilt", "");
    quiet().finish().exits_with(3).says_nothing();
    quiet().args(&["--interval", "x"]).finish().exits_with(2).says_one_line();
}

#[test]
fn verbose_adds_lines_to_stderr_and_none_to_stdout() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let outcome = sandbox.report_to(&server).args(&["--verbose"]).finish().exits_with(0);
    let outcome = outcome
        .says("running tilt get uisessions,uiresources,dockerimages,cmdimages -o json")
        .says("sent 45 events (9 uiresource, 1 session, 9 update, 6 rollout, 2 dockerimage, 1 cmdimage, 17 dockerimage_stage) in ");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_dry_run_prints_only_events_on_stdout() {
    let sandbox = Sandbox::new();
    let dry = sandbox.run("--once --dry-run --verbose").finish().exits_with(0);
    assert_eq!(builds(&dry.events()), recorded_builds());
}

#[test]
#[cfg_attr(windows, ignore = "needs a Unix shell and its files")]
fn a_closed_stdout_is_not_an_error() {
    let sandbox = Sandbox::new();
    sandbox.tilt().add_resources(3000);
    let script = r#""$0" --once --dry-run | { read line; echo "$line"; }"#;
    let outcome = sandbox.command(&["/bin/sh", "-c", script, PROGRAM]).finish().exits_with(0);
    assert_eq!(outcome.events().len(), 1);
    assert_eq!(outcome.stderr, "");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_during_a_dry_run_is_reported() {
    let sandbox = Sandbox::new();
    sandbox.write_snapshot(crate::support::read_capture("ci/snapshot.json"));
    for what in ["", "--snapshot tilt.json"] {
        let line = format!("exec {PROGRAM} --once --dry-run {what} >/dev/full");
        let run = sandbox.command(&["/bin/sh", "-c", &line]).finish().exits_with(1);
        run.says("No space left").says_one_line();
    }
}

#[test]
fn do_not_track_sends_nothing_and_says_so() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for value in ["1", "true", "yes"] {
        let report = sandbox.report_to(&server).env("DO_NOT_TRACK", value);
        report.finish().exits_with(0).says("DO_NOT_TRACK").says_one_line();
    }
    // A key is not needed either.
    sandbox.run("--once").env("DO_NOT_TRACK", "1").finish().exits_with(0);

    let sidecar = sandbox.polling_sidecar_to(&server).env("DO_NOT_TRACK", "1").start();
    sidecar.says("DO_NOT_TRACK");
    assert!(sidecar.is_running(), "the sidecar idles");
    // It prints its line before it handles signals, so the exit code may differ.
    sidecar.ends_after(STOP);

    assert_eq!(sandbox.tilt().calls().len(), 0);
    assert_eq!((server.connections(), sandbox.state_files().len()), (0, 0));
}

#[test]
fn an_opt_out_of_this_program_alone_sends_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let report = sandbox.report_to(&server).env("TILT_HONEYCOMB_OPT_OUT", "1");
    report.finish().exits_with(0).says("TILT_HONEYCOMB_OPT_OUT is set").says_one_line();
    assert_eq!((server.connections(), sandbox.tilt().calls().len()), (0, 0));
}

#[test]
fn do_not_track_set_to_0_or_false_is_ignored() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for value in ["", "0", "false"] {
        sandbox.report_to(&server).env("DO_NOT_TRACK", value).finish().exits_with(0);
    }
    assert_eq!(server.requests().len(), 3);
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no endless files")]
fn an_endless_key_file_is_refused() {
    let sandbox = Sandbox::new();
    for command in ["--once", "board"] {
        let run = sandbox.run(command).args(&["--api-key-file", "/dev/zero", "--dataset", "d"]);
        run.finish().exits_with(2).says("longer than 64 KiB").says_one_line();
    }
}

//! Names and errors from Tilt and from servers reach people without characters that control a terminal,
//! change the order of the text, or show nothing.

use std::fs;

use fakes::honeycomb::{Reply, Server};
use serde_json::json;

use crate::support::api::INGEST_KEY;
use crate::support::{Sandbox, captured_json, retry};

/// A name that contains an escape sequence, a change of direction, a zero-width character and a tag.
const NAME: &str = "we\u{1b}[2J\u{202e}b\u{200b}\u{e0041}\u{9b}x";
/// The text that remains.
const VISIBLE: &str = "we[2Jbx";

#[track_caller]
fn is_visible(text: &str) {
    let hidden = |c: char| "\u{1b}\u{202e}\u{200b}\u{e0041}\u{9b}\u{7}\r".contains(c);
    assert!(!text.contains(hidden), "{text:?}");
}

#[test]
fn a_name_in_the_table_and_the_step_summary_is_visible() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut snapshot = captured_json("ci/snapshot.json");
    snapshot["view"]["uiResources"][2]["metadata"]["name"] = json!(NAME);
    sandbox.write_snapshot(snapshot.to_string());
    let page = sandbox.path("work/page.md");
    let run = sandbox.run("--once --verbose --snapshot tilt.json").sending_to(&server);
    let outcome = run.env("GITHUB_STEP_SUMMARY", &page).finish().exits_with(0);
    let page = fs::read_to_string(page).expect("a page");
    for text in [&outcome.stdout, &outcome.stderr, &page] {
        is_visible(text);
    }
    assert!(outcome.stdout.contains(VISIBLE), "{}", outcome.stdout);
    assert!(page.contains("2Jbx"), "{page}");
}

#[test]
fn an_error_of_a_server_is_visible_and_short() {
    for status in [400, 401, 403, 422, 500] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let reason = format!("{NAME}\r\n{}", "y".repeat(5000));
        server.usually(Reply::new(status, json!({"error": reason}).to_string()));
        let outcome = retry("a response before the timeout", || {
            let outcome = sandbox.report_within("500ms", &server).finish();
            Some(outcome).filter(|outcome| outcome.stderr.contains(&format!("HTTP {status}")))
        });
        is_visible(&outcome.stderr);
        assert!(outcome.stderr.contains(VISIBLE), "{status}: {}", outcome.stderr);
        let longest = outcome.stderr.lines().map(str::len).max();
        assert!(longest.is_some_and(|length| length < 2100), "{}", outcome.stderr);
        // `check` asks the server only for a key that is complete.
        let check = sandbox.run("check").sending_to(&server).env("HONEYCOMB_API_KEY", INGEST_KEY);
        let check = check.finish();
        is_visible(&check.stdout);
        assert!(check.stdout.contains(VISIBLE), "{status}: {}", check.stdout);
    }
}

#[test]
fn an_argument_in_a_usage_error_is_visible() {
    let outcome = Sandbox::new().run("--once --interval").args(&[NAME]).finish().exits_with(2);
    is_visible(&outcome.stderr);
    let outcome = Sandbox::new().run("").args(&[&format!("--{NAME}")]).finish().exits_with(2);
    is_visible(&outcome.says_one_line().stderr);
}

#[test]
#[cfg_attr(windows, ignore = "Windows refuses a path with such characters")]
fn a_path_in_a_message_is_visible() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = sandbox.run("--once").args(&["--snapshot", NAME]).sending_to(&server);
    let outcome = run.finish().exits_with(1).says("no snapshot we[2Jbx").says_one_line();
    is_visible(&outcome.stderr);
}

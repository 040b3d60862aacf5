//! The table of the run in the log of the job and in the summary of GitHub Actions.

use std::fs;

use fakes::honeycomb::{Answer, Reply, Server};

use crate::ci::runs::{failed, post_step, recorded, unfinished};
use crate::support::{DATASET, KEY, Sandbox, of_kind};

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

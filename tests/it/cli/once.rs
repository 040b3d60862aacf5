//! `--once` sends one report, for cron, for CI or by hand.

use fakes::honeycomb::{Answer, Reply, Server};

#[cfg(target_os = "linux")]
use crate::support::{Invocation, api::Api};
use crate::support::{RECORDED_EVENTS, Sandbox, builds, of_kind, recorded_builds};

#[test]
fn once_sends_every_resource_and_every_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(of_kind(&server.accepted(), "uiresource").len(), 9);
    assert_eq!(builds(&server.accepted()), recorded_builds());
    assert_eq!(sandbox.queued(), 0);
}

#[test]
fn success_prints_nothing_without_a_terminal() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0).says_nothing();
}

#[test]
#[cfg(target_os = "linux")]
fn a_link_is_printed_only_on_a_terminal() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _api = Api::on(&server);
    let ui = |run: Invocation| run.sending_to(&server).env("HONEYCOMB_UI_URL", "ui.honeycomb.io");
    let shown = ui(sandbox.on_terminal("--once")).finish().exits_with(0).stdout;
    // The start was over before.
    let link = "view in Honeycomb: https://ui.honeycomb.io/acme/environments/dev-machines/datasets/\
                dev-environments\r\n";
    assert!(shown.ends_with(link), "{shown}");

    let links = || server.requests().iter().filter(|request| request.method == "GET").count();
    assert_eq!(links(), 1);
    ui(sandbox.on_terminal("--once --quiet")).finish().exits_with(0);
    ui(sandbox.run("--once --verbose")).finish().exits_with(0);
    assert_eq!(links(), 1, "nobody reads a link");
}

#[test]
fn a_second_report_repeats_heartbeats_but_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..3 {
        sandbox.report_to(&server).finish().exits_with(0);
    }
    assert_eq!(of_kind(&server.accepted(), "uiresource").len(), 27);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn the_queue_is_sent_even_if_no_tilt_is_running() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    sandbox.report_within("300ms", &server).finish().exits_with(4);
    assert_eq!(sandbox.queued(), RECORDED_EVENTS);

    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3).says("cannot reach Tilt");
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    assert_eq!(sandbox.queued(), 0);
}

#[test]
fn a_dry_run_needs_no_key_and_sends_and_stores_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let dry = sandbox
        .run("--once --dry-run")
        .env("HONEYCOMB_API_ENDPOINT", server.url())
        .finish()
        .exits_with(0);
    assert_eq!(dry.events().len(), RECORDED_EVENTS);
    assert_eq!(dry.stderr, "");
    assert_eq!(server.connections(), 0);
    assert_eq!(sandbox.state_files().len(), 0);
}

#[test]
fn a_dry_run_does_not_mark_builds_as_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..2 {
        let dry = sandbox.run("--once --dry-run").finish().exits_with(0);
        assert_eq!(builds(&dry.events()), recorded_builds());
    }
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(builds(&server.accepted()), recorded_builds());

    let before = std::fs::read(sandbox.state_file()).expect("a state");
    sandbox.run("--once --dry-run").finish().exits_with(0);
    assert_eq!(std::fs::read(sandbox.state_file()).expect("a state"), before);
}

#[test]
fn each_endpoint_and_dataset_has_its_own_queue() {
    let (sandbox, first, second) = (Sandbox::new(), Server::start(), Server::start());
    sandbox.report_to(&first).finish().exits_with(0);
    sandbox.report_to(&second).finish().exits_with(0);
    sandbox.report_to(&second).args(&["--dataset", "other"]).finish().exits_with(0);
    assert_eq!(builds(&first.accepted()), recorded_builds());
    let paths: Vec<_> = second.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/1/batch/dev-environments", "/1/batch/other"]);
    for request in second.requests() {
        assert_eq!(builds(&request.events), recorded_builds());
    }
}

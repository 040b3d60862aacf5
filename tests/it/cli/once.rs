//! `--once`: one report from cron, by hand or in CI.

use crate::support::sandbox::{RECORDED, Sandbox, builds, of_kind, recorded_builds};
use fakes::honeycomb::{Answer, Reply, Server};

#[test]
fn one_report_sends_every_resource_and_every_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(of_kind(&server.accepted(), "uiresource").len(), 9);
    assert_eq!(builds(&server.accepted()), recorded_builds());
    assert_eq!(sandbox.waiting(), 0);
}

#[test]
fn success_is_silent_where_no_person_looks() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0).says_nothing();
}

#[test]
fn the_second_report_sends_the_heartbeats_again_and_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for _ in 0..3 {
        sandbox.report_to(&server).finish().exits_with(0);
    }
    assert_eq!(of_kind(&server.accepted(), "uiresource").len(), 27);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn what_waited_is_sent_even_where_no_tilt_runs() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    sandbox.report_within("300ms", &server).finish().exits_with(4);
    assert_eq!(sandbox.waiting(), RECORDED);

    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3).says("no Tilt");
    assert_eq!(server.accepted().len(), RECORDED);
    assert_eq!(sandbox.waiting(), 0);
}

#[test]
fn a_dry_run_needs_no_key_sends_nothing_and_leaves_no_trace() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let dry = sandbox
        .run("--once --dry-run")
        .env("HONEYCOMB_API_ENDPOINT", server.url())
        .finish()
        .exits_with(0);
    assert_eq!(dry.events().len(), RECORDED);
    assert_eq!(dry.stderr, "");
    assert_eq!(server.connections(), 0);
    assert_eq!(sandbox.state_files().len(), 0);
}

#[test]
fn a_dry_run_does_not_count_as_having_seen_a_build() {
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
fn each_destination_has_a_queue_of_its_own() {
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

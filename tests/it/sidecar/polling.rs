//! The sidecar: reports at intervals, outlives its Tilt and its network, speaks on change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::api::Api;
use crate::support::sandbox::{
    Process, RECORDED, Sandbox, builds, eventually, in_some_tries, of_kind, recorded_builds,
    takes_less_than,
};
use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};

#[test]
fn the_sidecar_reports_at_once_and_then_at_every_interval() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let began = Instant::now();
    let sidecar = sandbox.sidecar_to(&server).start();
    eventually("three reports", || of_kind(&server.accepted(), "uiresource").len() >= 27);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(builds(&server.accepted()), recorded_builds());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

/// The line that tells of so many reports, and of what else was sent.
fn sent(reports: usize, what: &str) -> String {
    let (statuses, words) = (9 * reports, what.split(' ').skip(1).step_by(2));
    let others: usize = words.map(|count| count.parse::<usize>().expect("a number")).sum();
    let events = statuses + reports + others;
    format!("sent {events} events ({statuses} uiresource, {reports} session{what}) in ")
}

#[test]
fn the_sidecar_says_what_changed_in_one_line_and_is_quiet_when_nothing_did() {
    // A report may come while the one before is still on its way, and then its line tells of both,
    // or of that one.
    in_some_tries("a line for each", || says_what_changed().then_some(()));
}

fn says_what_changed() -> bool {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    let has_said = |count: usize, what: &str| {
        eventually(what, || sidecar.stderr().matches("sent ").count() >= count);
        let said = sidecar.stderr();
        said.lines().any(|line| (1..100).any(|reports| line.starts_with(&sent(reports, what))))
    };
    let knows_all = has_said(1, ", 9 update, 2 dockerimage, 1 cmdimage, 17 dockerimage_stage");
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    assert_eq!(sidecar.stderr().matches("sent ").count(), 1, "{}", sidecar.stderr());

    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let knows_build = has_said(2, ", 1 dockerimage, 9 dockerimage_stage");
    sandbox.tilt().change("uiresources", |all| {
        all[1]["status"]["updateStatus"] = "ok".into();
    });
    let knows_status = has_said(3, "");
    sidecar.says("; 0 waiting");
    knows_all && knows_build && knows_status
}

#[test]
fn a_sidecar_without_tilt_says_so_once_and_finds_it_when_it_comes() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.sidecar_to(&server).start();
    eventually("three looks", || sandbox.tilt().calls().len() >= 3);
    assert_eq!(sidecar.stderr().matches("no Tilt").count(), 1, "{}", sidecar.stderr());
    assert_eq!(server.connections(), 0);

    sandbox.tilt().unset("no-tilt");
    sidecar.says("tilt answers again");
    eventually("a report", || server.accepted().len() == RECORDED);
    sandbox.tilt().set("stale", "");
    sidecar.says("was refused");
    assert!(sidecar.is_running());
}

#[test]
fn a_tilt_that_knows_more_than_the_one_before_is_asked_for_more() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let images = sandbox.tilt().read("dockerimages.json");
    sandbox.tilt().unset("dockerimages.json");
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent ");
    assert_eq!(of_kind(&server.accepted(), "dockerimage").len(), 0);
    sandbox.tilt().set("no-tilt", "");
    sidecar.says("no Tilt");
    sandbox.tilt().set("dockerimages.json", images).unset("no-tilt");
    eventually("image builds", || of_kind(&server.accepted(), "dockerimage").len() == 2);
}

#[test]
fn a_tilt_that_comes_late_is_found_long_before_the_next_report() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sidecar.says("no Tilt");
    sandbox.tilt().unset("no-tilt");
    sidecar.says("tilt answers again");
    eventually("a report", || server.accepted().len() == RECORDED);
}

#[test]
fn a_sidecar_without_honeycomb_says_so_once_and_delivers_when_it_comes() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    // Whoever asks waits half a second for the answer: one that is not heard comes again.
    let sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "2s"]).start();
    sidecar.says("kept for next time, trying again");
    eventually("more reports wait", || sandbox.waiting() >= 30);
    assert_eq!(sidecar.stderr().matches("trying again").count(), 1, "{}", sidecar.stderr());

    server.usually(Answer::Accept);
    sidecar.says("sent ");
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(sandbox.waiting(), 0);
}

/// A slow disk, or another collector that is in no hurry, says nothing of Honeycomb.
#[test]
fn a_delivery_that_had_no_time_to_ask_does_not_end_an_outage() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let sidecar = sandbox.run("--interval 1h --timeout 1s").sending_to(&server).start();
    sidecar.says("kept for next time, trying again");
    // The next delivery comes after 2.5 s to 5, and waits for 5 at the most.
    let held = sandbox.hold_state();
    let since = Instant::now();
    eventually("its time is up", || since.elapsed() > Duration::from_millis(6500));
    drop(held);
    let before = server.requests().len();
    // Within a second a delivery asks three times at the most.
    eventually("one more failure", || server.requests().len() > before + 3);
    server.usually(Answer::Accept);
    sidecar.says("sent ");
    assert_eq!(sidecar.stderr().matches("trying again").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn the_environments_row_says_what_waits_and_why() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let _sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "1s"]).start();
    let looks = || sandbox.tilt().calls().len();
    eventually("a failure, and reports after it", || !server.requests().is_empty() && looks() > 4);
    server.usually(Answer::Accept);
    let tells = |event: &Value| {
        event["data"]["send_error"] == "kept" && event["data"]["queued"].as_u64() >= Some(39)
    };
    eventually("it tells", || of_kind(&server.accepted(), "session").iter().any(tells));
}

#[test]
fn a_sidecar_whose_key_is_refused_stays_and_does_not_insist() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(401, r#"{"error":"unknown API key - check your credentials"}"#));
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("check HONEYCOMB_API_KEY");
    eventually("three reports wait", || sandbox.waiting() >= 30);
    assert_eq!(server.requests().len(), 1);
    assert!(sidecar.is_running());
    assert_eq!(sidecar.stderr().matches("401").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn what_waits_from_before_is_sent_also_where_no_tilt_runs() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    sandbox.report_within("200ms", &server).finish().exits_with(4);

    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("39 waiting from before");
    eventually("a delivery without Tilt", || server.accepted().len() == RECORDED);
}

#[test]
fn it_starts_with_one_line_of_where_how_often_and_what_waits() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let greeting = |sidecar: Process| {
        sidecar.says("from before\n");
        sidecar.stderr().lines().next().expect("a line").to_owned()
    };
    assert_eq!(
        greeting(sandbox.live_to(&server).start()),
        "reporting to dev-environments, live and every 1m; nothing waits from before"
    );
    assert_eq!(
        greeting(sandbox.run("--no-watch --interval 30s").sending_to(&server).start()),
        "reporting to dev-environments, only every 30s; nothing waits from before"
    );
    // It does not know where a server on loopback is to be seen, and asks nobody.
    assert!(server.requests().iter().all(|request| request.method == "POST"));
}

#[test]
fn it_links_to_the_dataset_once_it_knows_where_that_is() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _api = Api::on(&server);
    let start = || {
        let sidecar = sandbox.sidecar_to(&server);
        sidecar.env("HONEYCOMB_UI_URL", "https://ui.honeycomb.io").start()
    };
    let sidecar = start();
    sidecar.says(
        "to be seen at https://ui.honeycomb.io/acme/environments/dev-machines/datasets/dev-environments",
    );
    eventually("two reports", || server.accepted().len() >= 21);
    let (outcome, _) = sidecar.ends_after(Signal::TERM);
    assert_eq!(outcome.stderr.matches("https://").count(), 1, "{}", outcome.stderr);
}

#[test]
fn a_link_that_cannot_be_had_delays_and_fails_nothing() {
    for answer in [
        Reply::new(401, "").into(),
        Reply::new(200, "<html>").into(),
        Answer::Broken { after: Part::Nothing, then: Mishap::Stall },
    ] {
        // It would have waited for ten.
        takes_less_than(Duration::from_secs(4), || {
            let (sandbox, server, answer) = (Sandbox::new(), Server::start(), answer.clone());
            server.usually(Answer::By(Arc::new(move |request| match request.method.as_str() {
                "GET" => answer.clone(),
                _ => Answer::Accept,
            })));
            let sidecar = sandbox.sidecar_to(&server).env("HONEYCOMB_UI_URL", "ui.honeycomb.io");
            let sidecar = sidecar.start();
            eventually("a report", || server.accepted().len() >= RECORDED);
            eventually("a question", || server.requests().iter().any(|r| r.method == "GET"));
            let (outcome, took) = sidecar.ends_after(Signal::TERM);
            assert!(!outcome.stderr.contains("https://"), "{}", outcome.stderr);
            outcome.exits_with(0);
            took
        });
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).env("HONEYCOMB_UI_URL", "ui.honeycomb.io");
    let sidecar = sidecar.args(&["--quiet"]).start();
    eventually("a report", || server.accepted().len() >= RECORDED);
    assert!(server.requests().iter().all(|request| request.method == "POST"), "nobody would hear");
    sidecar.ends_after(Signal::TERM);
}

#[test]
fn a_hung_tilt_does_not_hold_up_what_waits_from_before() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, "").header("retry-after", 600));
    sandbox.report_to(&server).finish().exits_with(4);

    server.usually(Answer::Accept);
    sandbox.tilt().set("hang", "");
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent 39 events (");
    assert!(!sidecar.stderr().contains("no answer"), "{}", sidecar.stderr());
}

#[test]
fn a_dry_run_without_once_prints_each_build_once_until_stopped() {
    let sandbox = Sandbox::new();
    let dry = sandbox.run("--dry-run --interval 1s").start();
    eventually("three reports", || dry.stdout().lines().count() >= 30);
    let outcome = dry.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(builds(&outcome.events()), recorded_builds());
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_sidecar_that_started_without_a_disk_says_later_which_machine_it_is_on() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    std::fs::write(sandbox.state_dir(), "").expect("a file in its place");
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("choose another folder with --state-dir");
    std::fs::remove_file(sandbox.state_dir()).expect("the file");
    eventually("a report", || !server.accepted().is_empty());
    for event in server.accepted() {
        assert!(event["data"]["installation.id"].is_string(), "{event}");
    }
}

#[test]
fn what_another_collector_kept_from_going_out_goes_out_soon_after_that_one() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_in_vain(&server);
    let sending = std::fs::File::open(sandbox.state_file().with_extension("sending"));
    let sending = sending.expect("a lock");
    sending.lock().expect("it is free");
    let sidecar = sandbox.run("--interval 1h --timeout 2s").sending_to(&server).start();
    sandbox.is_watched();
    // Longer than it waits for its turn.
    let held = Instant::now();
    eventually("its time is up", || held.elapsed() > Duration::from_secs(3));
    assert_eq!(server.accepted().len(), 0);
    drop(sending);
    sidecar.says("; 0 waiting");
}

//! The sidecar with `--no-watch` polls at intervals. It survives the loss of Tilt and of the network,
//! and logs only changes.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};
use serde_json::Value;

use crate::support::api::Api;
use crate::support::{
    Process, RECORDED_EVENTS, Sandbox, Signal, builds, eventually, of_kind, recorded_builds, retry,
    takes_less_than,
};

#[test]
fn the_sidecar_reports_at_once_and_then_at_every_interval() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let began = Instant::now();
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("three reports", || of_kind(&server.accepted(), "session").len() >= 3);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(builds(&server.accepted()), recorded_builds());
    sidecar.stop();
}

/// The start of the log line for this many reports and these other events.
fn sent_line(reports: usize, what: &str) -> String {
    let (statuses, words) = (9 * reports, what.split(' ').skip(1).step_by(2));
    let others: usize = words.map(|count| count.parse::<usize>().expect("a number")).sum();
    let events = statuses + reports + others;
    format!("sent {events} events ({statuses} uiresource, {reports} session{what}) in ")
}

#[test]
fn a_change_is_logged_in_one_line_and_no_change_is_not() {
    // If two reports overlap, one line counts both. Then the test starts again.
    retry("each report has its own line", || changes_are_logged().then_some(()));
}

fn changes_are_logged() -> bool {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--heartbeat-fold", "1"]).start();
    let has_logged = |count: usize, what: &str| {
        eventually(what, || sidecar.stderr().matches("sent ").count() >= count);
        let said = sidecar.stderr();
        said.lines().any(|line| (1..100).any(|reports| line.contains(&sent_line(reports, what))))
    };
    let logged_all =
        has_logged(1, ", 9 update, 6 rollout, 2 dockerimage, 1 cmdimage, 17 dockerimage_stage");
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    assert_eq!(sidecar.stderr().matches("sent ").count(), 1, "{}", sidecar.stderr());

    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let logged_build = has_logged(2, ", 1 dockerimage, 9 dockerimage_stage");
    sandbox.tilt().change("uiresources", |all| {
        all[1]["status"]["updateStatus"] = "ok".into();
    });
    let logged_status = has_logged(3, "");
    sidecar.says("; 0 queued");
    logged_all && logged_build && logged_status
}

#[test]
fn a_missing_tilt_is_logged_once_and_found_when_it_starts() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("three polls", || sandbox.tilt().calls().len() >= 3);
    assert_eq!(sidecar.stderr().matches("cannot reach Tilt").count(), 1, "{}", sidecar.stderr());
    assert_eq!(server.connections(), 0);

    sandbox.tilt().unset("no-tilt");
    sidecar.says("tilt answers again");
    eventually("a report", || server.accepted().len() == RECORDED_EVENTS);
    sandbox.tilt().set("stale", "");
    sidecar.says("was refused");
    assert!(sidecar.is_running());
}

#[test]
fn a_newer_tilt_is_polled_for_more_kinds() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let images = sandbox.tilt().read("dockerimages.json");
    sandbox.tilt().unset("dockerimages.json");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("sent ");
    assert_eq!(of_kind(&server.accepted(), "dockerimage").len(), 0);
    sandbox.tilt().set("no-tilt", "");
    sidecar.says("cannot reach Tilt");
    sandbox.tilt().set("dockerimages.json", images).unset("no-tilt");
    eventually("image builds", || of_kind(&server.accepted(), "dockerimage").len() == 2);
}

#[test]
fn a_late_tilt_is_found_before_the_next_interval() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sidecar.says("cannot reach Tilt");
    sandbox.tilt().unset("no-tilt");
    sidecar.says("tilt answers again");
    eventually("a report", || server.accepted().len() == RECORDED_EVENTS);
}

#[test]
#[cfg_attr(windows, ignore = "Wine responds too slowly for its timeouts")]
fn an_outage_is_logged_once_and_the_backlog_is_sent_after_it() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    // The sidecar waits half a second for each response. Events without a response are sent again.
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "2s"]).start();
    sidecar.says("queued; retrying in ");
    eventually("more reports wait", || sandbox.queued() >= 30);
    assert_eq!(sidecar.stderr().matches("retrying in ").count(), 1, "{}", sidecar.stderr());

    server.usually(Answer::Accept);
    sidecar.says("Z deliveries work again after ").says("sent ");
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    sidecar.stop();
    assert_eq!(sandbox.queued(), 0);
}

/// A slow disk or another sender that holds the lock says nothing about Honeycomb.
#[test]
#[cfg_attr(windows, ignore = "Wine responds too slowly for its timeouts")]
fn a_delivery_that_sent_no_request_does_not_end_an_outage() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let sidecar = sandbox.run("--interval 1h --timeout 1s").sending_to(&server).start();
    sidecar.says("queued; retrying in ");
    // The next delivery starts after 2.5 to 5 s and waits for the lock for at most 5 s.
    let held = sandbox.lock_state();
    let since = Instant::now();
    eventually("the delivery has timed out", || since.elapsed() > Duration::from_millis(6500));
    drop(held);
    let before = server.requests().len();
    // A delivery of one second sends at most three requests.
    eventually("one more failure", || server.requests().len() > before + 3);
    server.usually(Answer::Accept);
    sidecar.says("sent ");
    assert_eq!(sidecar.stderr().matches("retrying in ").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn session_events_carry_the_queue_length_and_the_send_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    let _sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "1s"]).start();
    let polls = || sandbox.tilt().calls().len();
    eventually("reports after a failure", || !server.requests().is_empty() && polls() > 4);
    server.usually(Answer::Accept);
    let has_error = |event: &Value| {
        event["data"]["send_error"] == "kept" && event["data"]["queued"].as_u64() >= Some(45)
    };
    eventually("a session event with the error", || {
        of_kind(&server.accepted(), "session").iter().any(has_error)
    });
}

#[test]
fn a_sidecar_with_a_rejected_key_keeps_running_and_backs_off() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(401, r#"{"error":"unknown API key - check your credentials"}"#));
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("check HONEYCOMB_API_KEY");
    eventually("three reports wait", || sandbox.queued() >= 30);
    assert_eq!(server.requests().len(), 1);
    assert!(sidecar.is_running());
    assert_eq!(sidecar.stderr().matches("401").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn an_old_queue_is_sent_even_if_no_tilt_is_running() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, ""));
    sandbox.report_within("200ms", &server).finish().exits_with(4);

    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("; 45 events queued");
    eventually("a delivery without Tilt", || server.accepted().len() == RECORDED_EVENTS);
}

#[test]
fn the_first_line_shows_dataset_interval_and_queue() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let first_line = |sidecar: Process| {
        sidecar.says(" queued\n");
        let stderr = sidecar.stderr();
        let (time, rest) =
            stderr.lines().next().and_then(|line| line.split_once(' ')).expect("a line");
        let pattern = time.replace(|letter: char| letter.is_ascii_digit(), "0");
        assert_eq!(pattern, "00:00:00Z", "the time comes first");
        rest.to_owned()
    };
    assert_eq!(
        first_line(sandbox.sidecar_to(&server).start()),
        "reporting to dev-environments, live and every 1m; 0 events queued"
    );
    assert_eq!(
        first_line(sandbox.run("--no-watch --interval 30s").sending_to(&server).start()),
        "reporting to dev-environments, every 30s; 0 events queued"
    );
    // A server on loopback has no UI address, so nothing asks for a link.
    assert!(server.requests().iter().all(|request| request.method == "POST"));
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn the_dataset_link_is_printed_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _api = Api::on(&server);
    let start = || {
        let sidecar = sandbox.polling_sidecar_to(&server);
        sidecar.env("HONEYCOMB_UI_URL", "https://ui.honeycomb.io").start()
    };
    let sidecar = start();
    sidecar.says(
        "view in Honeycomb: https://ui.honeycomb.io/acme/environments/dev-machines/datasets/dev-environments",
    );
    eventually("two reports", || server.accepted().len() >= 21);
    let (outcome, _) = sidecar.ends_after(Signal::TERM);
    assert_eq!(outcome.stderr.matches("https://").count(), 1, "{}", outcome.stderr);
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn an_unavailable_link_neither_delays_nor_fails_a_report() {
    for answer in [
        Reply::new(401, "").into(),
        Reply::new(200, "<html>").into(),
        Answer::Broken { after: Part::Nothing, then: Mishap::Stall },
    ] {
        // The link request alone would wait for 10 seconds.
        takes_less_than(Duration::from_secs(4), || {
            let (sandbox, server, answer) = (Sandbox::new(), Server::start(), answer.clone());
            server.usually(Answer::By(Arc::new(move |request| match request.method.as_str() {
                "GET" => answer.clone(),
                _ => Answer::Accept,
            })));
            let sidecar =
                sandbox.polling_sidecar_to(&server).env("HONEYCOMB_UI_URL", "ui.honeycomb.io");
            let sidecar = sidecar.start();
            eventually("a report", || server.accepted().len() >= RECORDED_EVENTS);
            eventually("a request for the link", || {
                server.requests().iter().any(|r| r.method == "GET")
            });
            let (outcome, took) = sidecar.ends_after(Signal::TERM);
            assert!(!outcome.stderr.contains("https://"), "{}", outcome.stderr);
            outcome.exits_with(0);
            took
        });
    }
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.polling_sidecar_to(&server).env("HONEYCOMB_UI_URL", "ui.honeycomb.io");
    let sidecar = sidecar.args(&["--quiet"]).start();
    eventually("a report", || server.accepted().len() >= RECORDED_EVENTS);
    assert!(
        server.requests().iter().all(|request| request.method == "POST"),
        "--quiet needs no link"
    );
    sidecar.ends_after(Signal::TERM);
}

#[test]
fn a_hung_tilt_does_not_delay_an_old_queue() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, "").header("retry-after", 600));
    sandbox.report_to(&server).finish().exits_with(4);

    server.usually(Answer::Accept);
    sandbox.tilt().set("hang", "");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("sent 45 events (");
    assert!(!sidecar.stderr().contains("no answer"), "{}", sidecar.stderr());
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_dry_run_without_once_prints_each_build_once() {
    let sandbox = Sandbox::new();
    let dry = sandbox.run("--dry-run --interval 1s").start();
    eventually("three reports", || dry.stdout().lines().count() >= 30);
    let outcome = dry.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(builds(&outcome.events()), recorded_builds());
    assert_eq!(outcome.stderr, "");
}

#[test]
fn events_have_an_installation_id_once_the_disk_is_usable() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    std::fs::write(sandbox.state_dir(), "").expect("a file instead of the folder");
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("choose another folder with --state-dir");
    std::fs::remove_file(sandbox.state_dir()).expect("the file");
    eventually("a report", || !server.accepted().is_empty());
    for event in server.accepted() {
        assert!(event["data"]["installation.id"].is_string(), "{event}");
    }
}

#[test]
fn the_queue_is_sent_soon_after_another_sender_releases_it() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let sending_lock = std::fs::File::open(sandbox.destination().join("sending"));
    let sending_lock = sending_lock.expect("a lock");
    sending_lock.lock().expect("a free lock");
    let sidecar = sandbox.run("--interval 1h --timeout 2s").sending_to(&server).start();
    sandbox.is_watched();
    // Longer than the sidecar waits for the lock.
    let held = Instant::now();
    eventually("the delivery has timed out", || held.elapsed() > Duration::from_secs(3));
    assert_eq!(server.accepted().len(), 0);
    drop(sending_lock);
    sidecar.says("; 0 queued");
}

#[test]
fn two_alternating_problems_are_logged_once_each() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    let locks = ["lock", "sending"].map(|name| sandbox.destination().join(name));
    for lock in &locks {
        fs::remove_file(lock).expect("a lock");
        fs::create_dir(lock).expect("a folder");
    }
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--verbose"]).start();
    let polls = || sandbox.tilt().calls().len();
    let before = polls();
    eventually("several polls", || polls() > before + 12);
    for lock in &locks {
        let name = lock.to_str().expect("text");
        let lines = sidecar.stderr().lines().filter(|line| line.contains(name)).count();
        assert!(lines <= 1, "{}", sidecar.stderr());
    }
    for lock in &locks {
        fs::remove_dir(lock).expect("a folder");
    }
    sidecar.says("the state is usable again").says("sent ");
}

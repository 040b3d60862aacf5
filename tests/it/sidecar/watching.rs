//! The sidecar watches Tilt. It sends every build once, as soon as it finishes.

use std::fs;
use std::time::{Duration, Instant};

use fakes::honeycomb::Server;
use serde_json::{Value, json};

use crate::support::{
    Sandbox, builds, eventually, of_kind, recorded_builds, retry, swap_paths, takes_less_than,
};

#[test]
fn a_status_change_is_sent_at_once_with_the_old_status() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.sidecar_to(&server).start();
    sandbox.is_watched();
    eventually("a report", || !server.accepted().is_empty());
    let before = server.accepted().len();
    sandbox.tilt().fail_lint();
    eventually("the change", || server.accepted().len() > before);
    let event = &server.accepted()[before];
    assert_eq!(event["data"]["name"], "lint");
    assert_eq!(event["data"]["update_status"], "error");
    assert_eq!(event["data"]["previous_update_status"], "ok");
    assert_eq!(event["data"]["previous_runtime_status"], "not_applicable");
}

#[test]
fn an_idle_environment_starts_no_tilt_process() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1s --heartbeat-fold 1").sending_to(&server).start();
    eventually("three watches", || sandbox.tilt().watches("") == 3);
    let calls = sandbox.tilt().calls().len();
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    assert_eq!(sandbox.tilt().calls().len(), calls, "{:?}", sandbox.tilt().called_with());
    let events = server.accepted();
    assert_eq!(of_kind(&events, "uiresource").len(), 9 * of_kind(&events, "session").len());
}

#[test]
fn images_are_not_watched_if_there_are_none() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for kind in ["dockerimages", "cmdimages"] {
        sandbox.tilt().change(kind, Vec::clear);
    }
    sandbox.tilt().change("uiresources", |resources| {
        resources.retain(|resource| resource["status"].get("composeResourceInfo").is_none());
    });
    let _sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("three reports", || of_kind(&server.accepted(), "session").len() >= 3);
    let calls = sandbox.tilt().called_with();
    let watches: Vec<_> = calls.iter().filter(|call| call.contains("--watch")).collect();
    assert_eq!(watches, ["get uiresources --watch -o json"]);
}

/// Builds an image that only a poll can show.
#[track_caller]
fn a_polled_build_arrives(sandbox: &Sandbox, server: &Server) {
    let start = "2026-11-22T17:00:00.000000Z";
    sandbox.tilt().build_web(start, "2026-11-22T17:00:01Z");
    eventually("a build from a poll", || {
        of_kind(&server.accepted(), "dockerimage").iter().any(|event| event["time"] == start)
    });
}

#[test]
fn without_watches_the_sidecar_polls_and_says_so_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-watch", "");
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    sidecar.says("cannot watch tilt (unknown flag: --watch); polling every interval instead");
    a_polled_build_arrives(&sandbox, &server);
    assert_eq!(sidecar.stderr().matches("cannot watch").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn image_builds_are_polled_if_images_cannot_be_watched() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-watch", "dockerimages");
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    sidecar
        .says("cannot watch tilt's images (unknown flag: --watch); polling every interval instead");
    let watches = || sandbox.tilt().watches("dockerimages");
    let before = watches();
    a_polled_build_arrives(&sandbox, &server);
    assert_eq!(watches(), before);
    assert_eq!(sidecar.stderr().matches("cannot watch").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn an_ended_watch_is_restarted() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    let watches = || sandbox.tilt().watches("uiresources");
    eventually("a watch", || watches() >= 1);
    sandbox.tilt().set("end", "");
    eventually("another watch", || watches() >= 2);
    sandbox.tilt().unset("end");
    assert!(sidecar.is_running());
    sidecar.stop();
}

/// A watch prints a deleted object once more without marking it as deleted.
#[test]
fn a_resource_removed_from_the_tiltfile_is_not_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("a report", || !of_kind(&server.accepted(), "session").is_empty());
    let mut reloaded = Value::Null;
    sandbox.tilt().change("uiresources", |resources| {
        resources.retain(|resource| resource["metadata"]["name"] != "manual");
        let tiltfile = resources.iter_mut().find(|r| r["metadata"]["name"] == "(Tiltfile)");
        let tiltfile = tiltfile.expect("a Tiltfile");
        tiltfile["status"]["buildHistory"] = json!([{
            "spanID": "tiltfile:(Tiltfile):7",
            "startTime": "2026-11-22T17:00:00Z",
            "finishTime": "2026-11-22T17:00:01Z",
        }]);
        reloaded = tiltfile.clone();
    });
    sandbox.tilt().add("watch-uiresources.jsonl", &reloaded);
    eventually("a report without it", || {
        let sessions = of_kind(&server.accepted(), "session");
        sessions.last().is_some_and(|session| session["data"]["resources"] == 8)
    });
}

/// A resource with one finished update.
fn updated(name: &str, span_id: &str) -> Value {
    json!({
        "kind": "UIResource",
        "metadata": {"name": name},
        "status": {
            "buildHistory": [{
                "spanID": span_id,
                "startTime": "2026-11-22T17:00:00Z",
                "finishTime": "2026-11-22T17:00:01Z",
            }],
            "updateStatus": "ok",
        },
    })
}

#[track_caller]
fn update_arrives(server: &Server, id: &str) {
    eventually("the update", || {
        of_kind(&server.accepted(), "update").iter().any(|e| e["data"]["update_id"] == id)
    });
}

/// A second Tilt can remove the entry by which `tilt get` finds the first one.
#[test]
fn a_tilt_without_apiserver_entry_is_reported_while_watched() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("three watches", || sandbox.tilt().watches("") == 3);
    sandbox.tilt().set("no-tilt", "");
    // After a Tiltfile load, only a poll shows which resources were removed.
    let tiltfile = updated("(Tiltfile)", "tiltfile:(Tiltfile):7");
    sandbox.tilt().add("watch-uiresources.jsonl", &tiltfile);
    sidecar.says("cannot reach Tilt");
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    sandbox.tilt().set("end", "");
    let calls = || sandbox.tilt().calls().len();
    let before = calls();
    eventually("failed polls", || calls() >= before + 3);
    let last = sessions();
    let before = calls();
    eventually("more failed polls", || calls() >= before + 2);
    assert_eq!(sessions(), last, "no report without Tilt");
}

/// The update left the history before its end was seen. Its image build still has a parent.
#[test]
fn an_update_whose_end_was_missed_is_sent_as_incomplete() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.sidecar_to(&server).start();
    eventually("a watch of images", || sandbox.tilt().watches("dockerimages") > 0);
    let web = |current: Value, history: Value| {
        json!({
            "kind": "UIResource",
            "metadata": {"name": "web"},
            "status": {
                "buildHistory": history, "currentBuild": current, "updateStatus": "in_progress",
                "specs": [{"type": "image"}, {"type": "docker-compose"}],
            },
        })
    };
    let running =
        web(json!({"spanID": "build:30", "startTime": "2026-11-22T17:00:00Z"}), json!([]));
    sandbox.tilt().add("watch-uiresources.jsonl", &running);
    eventually("the status in_progress", || {
        of_kind(&server.accepted(), "uiresource")
            .iter()
            .any(|event| event["data"]["update_status"] == "in_progress")
    });
    let built = json!({
        "kind": "DockerImage",
        "metadata": {"name": "web:web", "annotations": {"tilt.dev/resource": "web"}},
        "spec": {"ref": "web"},
        "status": {"completed": {
            "startedAt": "2026-11-22T17:00:01Z", "finishedAt": "2026-11-22T17:00:02Z",
        }},
    });
    sandbox.tilt().add("watch-dockerimages.jsonl", &built);
    let image = || {
        let images = of_kind(&server.accepted(), "dockerimage");
        images.into_iter().find(|event| event["time"] == "2026-11-22T17:00:01.000000Z")
    };
    eventually("the image build", || image().is_some());
    let parent = image().expect("an image build")["data"]["trace.parent_id"].clone();
    assert!(parent.is_string(), "the parent is known before the update ends");

    // Two later updates replace it in the history.
    let update = |number: u32, second: u32| {
        json!({
            "spanID": format!("build:{number}"),
            "startTime": format!("2026-11-22T17:00:{second:02}Z"),
            "finishTime": format!("2026-11-22T17:00:{:02}Z", second + 1),
        })
    };
    let later = web(Value::Null, json!([update(32, 20), update(31, 10)]));
    sandbox.tilt().add("watch-uiresources.jsonl", &later);
    eventually("the incomplete update", || {
        of_kind(&server.accepted(), "update").iter().any(|event| {
            event["data"]["trace.span_id"] == parent
                && event["data"]["incomplete"] == true
                && event["data"]["update_id"] == "build:30"
        })
    });
}

#[test]
fn a_tilt_without_a_session_is_polled_again() {
    // The sidecar waits five seconds for a session. Then it reports without one.
    retry("a session within five seconds", late_session);
}

fn late_session() -> Option<()> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let session = sandbox.tilt().read("uisession.json");
    sandbox.tilt().change("uisession", Vec::clear);
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    eventually("two polls", || sandbox.tilt().calls().len() >= 2);
    sandbox.tilt().set("uisession.json", &session);
    if sandbox.tilt().calls().len() >= 10 {
        return None;
    }
    sidecar.says("sent ");
    let without_session =
        server.accepted().iter().filter(|e| e["data"]["tilt_version"].is_null()).count();
    assert_eq!(without_session, 0, "every event belongs to a session");
    Some(())
}

#[test]
fn a_tilt_that_never_shows_a_session_is_still_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().change("uisession", Vec::clear);
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    eventually("reports", || of_kind(&server.accepted(), "session").len() >= 3);
    sidecar.stop();
    sandbox.run("--flush --timeout 1m").sending_to(&server).finish().exits_with(0);
    let (polls, reports) =
        (sandbox.tilt().calls().len(), of_kind(&server.accepted(), "session").len());
    // Up to two polls may be interrupted at shutdown.
    assert!(polls <= 10 + reports + 2, "extra polls only after the start: {polls}");
}

#[test]
fn a_final_poll_without_a_session_repeats_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("; 0 queued");
    sandbox.tilt().change("uisession", Vec::clear);
    sidecar.stop();
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn a_build_is_sent_before_the_next_interval() {
    // It takes milliseconds. scripts/storm measures them.
    takes_less_than(Duration::from_secs(10), time_to_send_a_build);
}

fn time_to_send_a_build() -> Duration {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sandbox.is_watched();
    let shown_at = Instant::now();
    sandbox.tilt().add("watch-uiresources.jsonl", &updated("lint", "build:40"));
    // The next report is an hour away.
    update_arrives(&server, "build:40");
    shown_at.elapsed()
}

/// Tilt 0.37.6 puts the whole output of a failed `local` into the error.
#[test]
fn a_failure_with_megabytes_of_text_is_sent() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sandbox.is_watched();
    let mut failed = updated("(Tiltfile)", "tiltfile:(Tiltfile):2");
    failed["status"]["updateStatus"] = "error".into();
    failed["status"]["buildHistory"][0]["error"] =
        format!("error: exit status 3\nstdout: {}", "x".repeat(3_000_000)).into();
    sandbox.tilt().add("watch-uiresources.jsonl", &failed);
    update_arrives(&server, "tiltfile:(Tiltfile):2");
}

/// A change keeps the session that showed it, even if Tilt restarts before the disk is back.
#[test]
#[cfg_attr(windows, ignore = "Windows cannot exchange two folders in one step")]
fn changes_seen_without_a_disk_are_sent_when_it_is_back() {
    for tilt_restarts in [false, true] {
        change_without_a_disk(tilt_restarts);
    }
}

fn change_without_a_disk(tilt_restarts: bool) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sandbox.is_watched();
    sidecar.says("sent ");
    // A file replaces the folder, so not even root can write there.
    let (folder, aside) = (sandbox.state_dir(), sandbox.path("aside"));
    fs::write(&aside, "").expect("a file");
    swap_paths(&folder, &aside);
    sandbox.tilt().add("watch-uiresources.jsonl", &updated("lint", "build:41"));
    sidecar.says("choose another folder with --state-dir");
    if tilt_restarts {
        sandbox.tilt().change("uisession", |sessions| {
            sessions[0]["metadata"]["uid"] = json!("another run of Tilt");
        });
        let polls =
            || sandbox.tilt().called_with().iter().filter(|c| !c.contains("--watch")).count();
        let before = polls();
        sandbox.tilt().unset("watch-uiresources.jsonl").set("end", "");
        eventually("a processed poll", || polls() > before + 1);
        sandbox.tilt().unset("end");
    }
    swap_paths(&folder, &aside);
    // The next report is an hour away.
    let update = || {
        let updates = of_kind(&server.accepted(), "update");
        updates.into_iter().find(|update| update["data"]["update_id"] == "build:41")
    };
    eventually("the update", || update().is_some());
    assert_ne!(update().expect("an update")["data"]["session.id"], "another run of Tilt");
    sidecar.says("the state is usable again");
    eventually("a report of the other session", || {
        let events = server.accepted();
        !tilt_restarts || events.iter().any(|e| e["data"]["session.id"] == "another run of Tilt")
    });
}

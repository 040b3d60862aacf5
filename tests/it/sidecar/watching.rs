//! The sidecar that watches: every build the moment it finishes, once, as part of a trace whose
//! every parent is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use tilt_honeycomb::events::event::FIELDS;

use crate::support::sandbox::{
    FAREWELL, Process, Sandbox, builds, capture, change_places, eventually, in_some_tries, of_kind,
    recorded_builds, takes_less_than,
};
use fakes::honeycomb::{Answer, Reply, Server};
use fakes::storm::{self, Finished, Storm};

/// How often each finished build was accepted.
fn told(server: &Server) -> BTreeMap<Finished, usize> {
    let mut told = BTreeMap::new();
    for event in server.accepted() {
        if let Some(finished) = storm::finished(&event) {
            *told.entry(finished).or_default() += 1;
        }
    }
    told
}

#[track_caller]
fn assert_once_each(server: &Server, shown: &BTreeSet<Finished>) {
    let told = told(server);
    let lost: Vec<_> = shown.iter().filter(|finished| !told.contains_key(finished)).collect();
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}");
}

/// Every parent that an accepted event names is an accepted span of the same trace, and every
/// image build has one.
#[track_caller]
fn assert_traces_are_whole(events: &[Value]) {
    for event in events {
        let fields = event["data"].as_object().expect("fields");
        let is_known = |name: &String| FIELDS.iter().any(|(known, _)| name == known);
        assert!(fields.keys().all(is_known), "a field that is not in the list: {event}");
    }
    let text = |event: &Value, name: &str| event["data"][name].as_str().map(str::to_owned);
    let spans: HashMap<_, _> = events
        .iter()
        .filter_map(|event| Some((text(event, "trace.span_id")?, text(event, "trace.trace_id")?)))
        .collect();
    for event in events {
        if let Some(parent) = text(event, "trace.parent_id") {
            assert_eq!(spans.get(&parent), text(event, "trace.trace_id").as_ref(), "{event}");
        } else {
            let kind = event["data"]["kind"].as_str();
            let needs_one = matches!(kind, Some("dockerimage" | "cmdimage" | "dockerimage_stage"));
            assert!(!needs_one, "an image build without its update: {event}");
        }
    }
}

/// A sandbox in which a storm will be shown, and a sidecar that waits for it.
struct Stage {
    sandbox: Sandbox,
    server: Server,
    storm: Storm,
}

impl Stage {
    fn new(updates: usize, seed: u64) -> Self {
        let stage = Self {
            sandbox: Sandbox::new(),
            server: Server::start(),
            storm: Storm::new(updates, seed, SystemTime::now()),
        };
        let folder = stage.sandbox.path("tilt");
        storm::prepare(&stage.storm, SystemTime::now(), &folder).expect("a stand-in's folder");
        stage
    }

    fn start(&self) -> Process {
        let sidecar = self.sandbox.live_to(&self.server).start();
        self.is_watched();
        sidecar
    }

    /// Both watches follow.
    fn is_watched(&self) {
        let watches = |call: &String| call.contains("--watch");
        let before = self.sandbox.tilt().called_with().iter().filter(|c| watches(c)).count();
        eventually("two watches", || {
            let calls = self.sandbox.tilt().called_with();
            before >= 2 || calls.iter().filter(|call| watches(call)).count() >= 2
        });
    }

    fn play(&self, steps: std::ops::Range<usize>) -> BTreeSet<Finished> {
        let part = Storm { session: Value::Null, steps: self.storm.steps[steps].to_vec() };
        let shown = storm::play(&part, &self.sandbox.path("tilt"), 1).expect("the storm is shown");
        shown.into_keys().collect()
    }

    #[track_caller]
    fn all_arrive(&self, shown: &BTreeSet<Finished>) {
        eventually("every build", || {
            let told = told(&self.server);
            shown.iter().all(|finished| told.contains_key(finished))
        });
        assert_once_each(&self.server, shown);
    }
}

#[test]
fn every_build_of_a_storm_arrives_once_with_every_parent() {
    let stage = Stage::new(200, 7);
    let sidecar = stage.start();
    let shown = stage.play(0..stage.storm.steps.len());
    assert_eq!(shown.len(), 300, "200 updates and 100 image builds");
    stage.all_arrive(&shown);

    eventually("the start-up", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    let events = stage.server.accepted();
    assert_traces_are_whole(&events);
    assert_eq!(of_kind(&events, "startup").len(), 1);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn a_restart_and_an_outage_in_the_middle_of_a_storm_lose_and_repeat_nothing() {
    // What has no time left to be noted at the farewell may come again.
    in_some_tries("a farewell in time", restart_and_outage);
}

fn restart_and_outage() -> Option<()> {
    let stage = Stage::new(200, 8);
    let steps = stage.storm.steps.len();
    let first = stage.start();
    let mut shown = stage.play(0..steps / 3);
    let (outcome, took) = first.ends_after(Signal::TERM);
    outcome.exits_with(0);
    if took >= FAREWELL {
        return None;
    }

    stage.server.usually(Reply::new(503, ""));
    let second = stage.start();
    shown.extend(stage.play(steps / 3..steps * 2 / 3));
    stage.server.usually(Answer::Accept);
    shown.extend(stage.play(steps * 2 / 3..steps));
    stage.all_arrive(&shown);
    eventually("the start-up", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    assert_traces_are_whole(&stage.server.accepted());
    second.ends_after(Signal::TERM).0.exits_with(0);
    Some(())
}

/// What the watches of a real Tilt printed in 75 s of saving, ten times as fast.
#[test]
fn the_recorded_storm_is_told_whole() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let tilt = sandbox.tilt();
    tilt.replay(|journal| capture(&format!("storm/{journal}")), 10).unset("cmdimages.json");
    let sidecar = sandbox.live_to(&server).start();
    tilt.is_watched_by(2).unset("replay-held");

    let updates = |prefix: &str| {
        let told = told(&server).into_keys();
        told.filter(|f| matches!(f, Finished::Update(id) if id.starts_with(prefix))).count()
    };
    let images = || told(&server).into_keys().filter(|f| matches!(f, Finished::Image(_))).count();
    eventually("the storm has passed", || updates("build:") >= 111 && images() >= 51);
    assert_eq!((updates("build:"), updates("tiltfile:"), images()), (111, 1, 51));
    assert!(told(&server).values().all(|times| *times == 1), "{:?}", told(&server));
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_traces_are_whole(&server.accepted());
    let session = of_kind(&server.accepted(), "session").pop().expect("a last report");
    assert_eq!(session["data"]["missed_builds"], 0);
}

#[test]
fn a_change_of_status_is_told_at_once_with_what_was_before() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.live_to(&server).start();
    sandbox.is_watched();
    eventually("a report", || !server.accepted().is_empty());
    let before = server.accepted().len();
    sandbox.tilt().break_lint();
    eventually("the change", || server.accepted().len() > before);
    let event = &server.accepted()[before];
    assert_eq!(event["data"]["name"], "lint");
    assert_eq!(event["data"]["update_status"], "error");
    assert_eq!(event["data"]["previous_update_status"], "ok");
    assert_eq!(event["data"]["previous_runtime_status"], "not_applicable");
}

#[test]
fn an_idle_environment_starts_no_tilt_between_reports() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("three watches", || {
        sandbox.tilt().called_with().iter().filter(|call| call.contains("--watch")).count() == 3
    });
    let calls = sandbox.tilt().calls().len();
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    assert_eq!(sandbox.tilt().calls().len(), calls, "{:?}", sandbox.tilt().called_with());
    let told = server.accepted();
    assert_eq!(of_kind(&told, "uiresource").len(), 9 * of_kind(&told, "session").len());
}

#[test]
fn there_is_no_watch_for_images_where_there_are_none() {
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

#[test]
fn where_there_is_no_watch_it_looks_and_says_so_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-watch", "");
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    sidecar.says("cannot watch tilt (unknown flag: --watch): only looking at every interval");
    let start = "2026-11-22T17:00:00.000000Z";
    sandbox.tilt().build_web(start, "2026-11-22T17:00:01Z");
    eventually("a build that a look saw", || {
        of_kind(&server.accepted(), "dockerimage").iter().any(|event| event["time"] == start)
    });
    assert_eq!(sidecar.stderr().matches("cannot watch").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn where_only_images_cannot_be_watched_it_looks_for_their_builds_at_every_interval() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().set("no-watch", "dockerimages");
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    sidecar
        .says("cannot watch tilt's images (unknown flag: --watch): only looking at every interval");
    let watches = || {
        let calls = sandbox.tilt().called_with();
        calls.iter().filter(|call| call.contains("dockerimages --watch")).count()
    };
    let before = watches();
    let start = "2026-11-22T17:00:00.000000Z";
    sandbox.tilt().build_web(start, "2026-11-22T17:00:01Z");
    eventually("a build that a look saw", || {
        of_kind(&server.accepted(), "dockerimage").iter().any(|event| event["time"] == start)
    });
    assert_eq!(watches(), before);
    assert_eq!(sidecar.stderr().matches("cannot watch").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn a_watch_that_ends_is_started_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.live_to(&server).start();
    let watches = || {
        let calls = sandbox.tilt().called_with();
        calls.iter().filter(|call| call.contains("uiresources --watch")).count()
    };
    eventually("a watch", || watches() >= 1);
    sandbox.tilt().set("end", "");
    eventually("another watch", || watches() >= 2);
    sandbox.tilt().unset("end");
    assert!(sidecar.is_running());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

/// A watch prints a deleted object once more, without a mark.
#[test]
fn a_resource_that_the_tiltfile_no_longer_defines_is_no_longer_reported() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("a report", || of_kind(&server.accepted(), "session").len() == 1);
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

/// A resource with one update, which has finished.
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

/// As a Tilt that lives does whose entry another has taken out of the list of those that run.
#[test]
fn a_tilt_that_is_found_no_more_is_reported_for_as_long_as_its_watches_show_it() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    eventually("three watches", || {
        sandbox.tilt().called_with().iter().filter(|call| call.contains("--watch")).count() == 3
    });
    sandbox.tilt().set("no-tilt", "");
    // Only a look could tell what it has taken away.
    let tiltfile = updated("(Tiltfile)", "tiltfile:(Tiltfile):7");
    sandbox.tilt().add("watch-uiresources.jsonl", &tiltfile);
    sidecar.says("no Tilt to report on");
    let sessions = || of_kind(&server.accepted(), "session").len();
    let before = sessions();
    eventually("three more reports", || sessions() >= before + 3);
    sandbox.tilt().set("end", "");
    let calls = || sandbox.tilt().calls().len();
    let before = calls();
    eventually("looks in vain", || calls() >= before + 3);
    let last = sessions();
    let before = calls();
    eventually("more of them", || calls() >= before + 2);
    assert_eq!(sessions(), last, "it is gone");
}

/// Tilt ended, or went on too fast, before the update was seen to finish: its image build still
/// has a parent.
#[test]
fn an_update_whose_end_nobody_saw_is_told_as_incomplete() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.live_to(&server).start();
    eventually("a watch of images", || {
        sandbox.tilt().called_with().iter().any(|call| call.contains("dockerimages --watch"))
    });
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
    eventually("its status", || {
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
    let parent = image().expect("it is there")["data"]["trace.parent_id"].clone();
    assert!(parent.is_string(), "known before its update has ended");

    // Two later updates have pushed it out of the history.
    let update = |number: u32, second: u32| {
        json!({
            "spanID": format!("build:{number}"),
            "startTime": format!("2026-11-22T17:00:{second:02}Z"),
            "finishTime": format!("2026-11-22T17:00:{:02}Z", second + 1),
        })
    };
    let later = web(Value::Null, json!([update(32, 20), update(31, 10)]));
    sandbox.tilt().add("watch-uiresources.jsonl", &later);
    eventually("the update, incomplete", || {
        of_kind(&server.accepted(), "update").iter().any(|event| {
            event["data"]["trace.span_id"] == parent
                && event["data"]["incomplete"] == true
                && event["data"]["update_id"] == "build:30"
        })
    });
}

/// A bring-up is one trace: the start-up, and below it each resource's first update.
#[test]
fn an_environment_that_comes_up_is_one_trace() {
    let stage = Stage::new(16, 9);
    let sidecar = stage.start();
    let shown = stage.play(0..stage.storm.steps.len());
    stage.all_arrive(&shown);
    eventually("the start-up", || !of_kind(&stage.server.accepted(), "startup").is_empty());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);

    let events = stage.server.accepted();
    let startup = &of_kind(&events, "startup")[0]["data"];
    assert_eq!(startup["name"], "tilt up");
    assert_eq!(startup["ended_by"], "settled");
    assert_eq!(startup["resources_ready"], 9);
    assert_eq!(startup.get("trace.parent_id"), None);
    let updates = of_kind(&events, "update");
    for update in &updates {
        let data = &update["data"];
        if data["initial"] == true {
            assert_eq!(data["trace.parent_id"], startup["trace.span_id"], "{update}");
            assert_eq!(data["trace.trace_id"], startup["trace.trace_id"], "{update}");
        } else {
            assert_eq!(data.get("trace.parent_id"), None, "{update}");
        }
    }
    let first: Vec<_> = updates.iter().filter(|update| update["data"]["initial"] == true).collect();
    assert_eq!(first.len(), 9, "eight resources and the Tiltfile");
    let ready = of_kind(&events, "uiresource")
        .into_iter()
        .filter(|event| event["data"]["time_to_ready_ms"].is_number())
        .count();
    assert_eq!(ready, 9, "each resource tells once how long it took");
}

#[test]
fn a_tilt_that_shows_no_session_yet_is_asked_again() {
    // For five seconds; then it is reported without.
    in_some_tries("a session in time", session_that_comes_late);
}

fn session_that_comes_late() -> Option<()> {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let session = sandbox.tilt().read("uisession.json");
    sandbox.tilt().change("uisession", Vec::clear);
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    eventually("two looks", || sandbox.tilt().calls().len() >= 2);
    sandbox.tilt().set("uisession.json", &session);
    if sandbox.tilt().calls().len() >= 10 {
        return None;
    }
    sidecar.says("sent ");
    let strangers =
        server.accepted().iter().filter(|e| e["data"]["tilt_version"].is_null()).count();
    assert_eq!(strangers, 0, "events of which nobody knows of which run they are");
    Some(())
}

#[test]
fn a_tilt_that_never_shows_a_session_is_reported_all_the_same() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().change("uisession", Vec::clear);
    let sidecar = sandbox.sidecar_to(&server).start();
    eventually("reports", || of_kind(&server.accepted(), "session").len() >= 3);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    sandbox.run("--flush --timeout 1m").sending_to(&server).finish().exits_with(0);
    let (looks, reports) =
        (sandbox.tilt().calls().len(), of_kind(&server.accepted(), "session").len());
    // The last look may be cut short, as may the one before it.
    assert!(looks <= 10 + reports + 2, "asked again at first, not at each report: {looks}");
}

#[test]
fn a_last_look_that_shows_no_session_tells_nothing_twice() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.live_to(&server).start();
    sidecar.says("; 0 waiting");
    sandbox.tilt().change("uisession", Vec::clear);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
fn a_build_is_on_its_way_at_once() {
    // It is milliseconds; scripts/storm measures them.
    takes_less_than(Duration::from_secs(10), build_on_its_way);
}

fn build_on_its_way() -> Duration {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let _sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sandbox.is_watched();
    let shown_at = Instant::now();
    sandbox.tilt().add("watch-uiresources.jsonl", &updated("lint", "build:40"));
    // The next report is an hour away.
    update_arrives(&server, "build:40");
    shown_at.elapsed()
}

/// As that of a `local` that printed so much: Tilt 0.37.6 shows all of it.
#[test]
fn a_failure_whose_text_has_megabytes_is_told_as_any_other() {
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

/// What the disk does not take meanwhile, although Tilt was started anew, stays that of the run
/// of Tilt that showed it.
#[test]
fn what_the_disk_did_not_take_is_told_as_soon_as_it_does() {
    for tilt_restarts in [false, true] {
        told_when_the_disk_takes_it(tilt_restarts);
    }
}

fn told_when_the_disk_takes_it(tilt_restarts: bool) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--interval 1h").sending_to(&server).start();
    sandbox.is_watched();
    sidecar.says("sent ");
    // A file in the place of the folder: nothing can be written, whoever runs this.
    let (folder, aside) = (sandbox.state_dir(), sandbox.path("aside"));
    fs::write(&aside, "").expect("a file");
    change_places(&folder, &aside);
    let done = json!({
        "kind": "UIResource",
        "metadata": {"name": "lint"},
        "status": {
            "buildHistory": [{
                "spanID": "build:41",
                "startTime": "2026-11-22T17:00:00Z",
                "finishTime": "2026-11-22T17:00:01Z",
            }],
            "updateStatus": "ok",
        },
    });
    sandbox.tilt().add("watch-uiresources.jsonl", &done);
    sidecar.says("choose another folder with --state-dir");
    if tilt_restarts {
        sandbox.tilt().change("uisession", |sessions| {
            sessions[0]["metadata"]["uid"] = json!("another run of Tilt");
        });
        let looks =
            || sandbox.tilt().called_with().iter().filter(|c| !c.contains("--watch")).count();
        let before = looks();
        sandbox.tilt().unset("watch-uiresources.jsonl").set("end", "");
        eventually("a look, taken in", || looks() > before + 1);
        sandbox.tilt().unset("end");
    }
    change_places(&folder, &aside);
    // The next report is an hour away.
    let update = || {
        let updates = of_kind(&server.accepted(), "update");
        updates.into_iter().find(|update| update["data"]["update_id"] == "build:41")
    };
    eventually("the update", || update().is_some());
    assert_ne!(update().expect("it is there")["data"]["session.id"], "another run of Tilt");
    sidecar.says("the state is usable again");
    eventually("the other run's report", || {
        let told = server.accepted();
        !tilt_restarts || told.iter().any(|e| e["data"]["session.id"] == "another run of Tilt")
    });
}

//! The fake `tilt` behaves like the recorded real Tilt.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Process, Sandbox, capture, eventually};

fn tilt(sandbox: &Sandbox, arguments: &[&str]) -> Process {
    let program = sandbox.tilt_program();
    let words = [&[program.to_str().expect("text")], arguments].concat();
    sandbox.command(&words).start()
}

fn objects(printed: &str) -> Vec<Value> {
    let objects = serde_json::Deserializer::from_str(printed).into_iter();
    // The last object may be incomplete.
    objects.map_while(Result::ok).collect()
}

fn names(printed: &str) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
    objects(printed).iter().map(name).collect()
}

#[test]
fn get_prints_a_kind_as_recorded() {
    let sandbox = Sandbox::new();
    let got = tilt(&sandbox, &["get", "uiresources", "-o", "json"]).finish().exits_with(0);
    let recorded = capture("compose/uiresources.json");
    assert_eq!(got.stdout, fs::read_to_string(recorded).expect("a capture"));
}

#[test]
fn a_watch_accepts_one_kind_only() {
    let kinds = ["get", "uiresources,dockerimages", "--watch", "-o", "json"];
    tilt(&Sandbox::new(), &kinds)
        .finish()
        .exits_with(1)
        .says("error: you may only specify a single resource type");
}

#[test]
fn a_watch_prints_the_list_twice_and_then_each_change() {
    let sandbox = Sandbox::new();
    let watch = tilt(&sandbox, &["get", "dockerimages", "--watch", "-o", "json"]);
    eventually("the list twice", || names(&watch.stdout()).len() == 4);

    let change = |name: &str| {
        let path = sandbox.path("tilt/watch-dockerimages.jsonl");
        let mut journal =
            fs::OpenOptions::new().create(true).append(true).open(path).expect("a journal");
        let object = json!({"kind": "DockerImage", "metadata": {"name": name}, "status": {}});
        writeln!(journal, "{object}").expect("a line");
    };
    change("web:web");
    change("new:new");
    eventually("both changes", || names(&watch.stdout()).len() == 6);
    // A later `get` shows the changed list.
    let later = tilt(&sandbox, &["get", "dockerimages", "-o", "json"]).finish().exits_with(0);
    assert_eq!(objects(&later.stdout)[0]["items"].as_array().map(Vec::len), Some(3));

    sandbox.tilt().set("end", "");
    let ended = watch.finish().exits_with(0);
    let shown = ["web:web", "api:api", "web:web", "api:api", "web:web", "new:new"];
    assert_eq!(names(&ended.stdout), shown);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_replay_shows_every_recorded_build() {
    let sandbox = Sandbox::new();
    sandbox.tilt().replay("storm", 50);
    let watches = ["uiresources", "dockerimages"]
        .map(|kind| tilt(&sandbox, &["get", kind, "--watch", "-o", "json"]));
    let updates = || {
        let mut ids = BTreeSet::new();
        for object in objects(&watches[0].stdout()) {
            for update in object["status"]["buildHistory"].as_array().into_iter().flatten() {
                ids.insert(update["spanID"].to_string());
            }
        }
        ids.len()
    };
    let image_builds = || {
        let mut builds = BTreeSet::new();
        for object in objects(&watches[1].stdout()) {
            let finished = &object["status"]["completed"]["finishedAt"];
            if finished.is_string() {
                builds.insert((object["metadata"]["name"].to_string(), finished.to_string()));
            }
        }
        builds.len()
    };
    sandbox.tilt().is_watched_by(2);
    assert!(updates() < 50, "the replay starts gradually");
    let began = Instant::now();
    sandbox.tilt().unset("replay-held");
    // 111 builds and the load of the Tiltfile.
    eventually("all updates and image builds", || (updates(), image_builds()) == (112, 51));
    assert!(began.elapsed() > Duration::from_secs(1), "75 recorded seconds take more than one");
    sandbox.tilt().set("end", "");
    for watch in watches {
        watch.finish().exits_with(0);
    }
}

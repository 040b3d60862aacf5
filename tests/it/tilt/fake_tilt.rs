//! The stand-in for `tilt` is as good as what it stands in for: what a real Tilt was recorded to
//! do, it does too.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::sandbox::{Process, Sandbox, capture, eventually};

fn tilt(sandbox: &Sandbox, arguments: &[&str]) -> Process {
    let program = sandbox.path("bin/tilt");
    let words = [&[program.to_str().expect("text")], arguments].concat();
    sandbox.command(&words).start()
}

fn objects(printed: &str) -> Vec<Value> {
    let objects = serde_json::Deserializer::from_str(printed).into_iter();
    // The last one may still be on its way.
    objects.map_while(Result::ok).collect()
}

fn names(printed: &str) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
    objects(printed).iter().map(name).collect()
}

#[test]
fn a_kind_is_printed_as_it_was_recorded() {
    let sandbox = Sandbox::new();
    let got = tilt(&sandbox, &["get", "uiresources", "-o", "json"]).finish().exits_with(0);
    let recorded = capture("compose/uiresources.json");
    assert_eq!(got.stdout, fs::read_to_string(recorded).expect("a capture"));
}

#[test]
fn a_watch_takes_one_kind() {
    let kinds = ["get", "uiresources,dockerimages", "--watch", "-o", "json"];
    tilt(&Sandbox::new(), &kinds)
        .finish()
        .exits_with(1)
        .says("error: you may only specify a single resource type");
}

#[test]
fn a_watch_shows_the_list_twice_then_each_change_until_tilt_ends() {
    let sandbox = Sandbox::new();
    let watch = tilt(&sandbox, &["get", "dockerimages", "--watch", "-o", "json"]);
    eventually("the list twice", || names(&watch.stdout()).len() == 4);

    let change = |name: &str| {
        let path = sandbox.path("tilt/watch-dockerimages.jsonl");
        let mut journal = fs::OpenOptions::new().create(true).append(true).open(path).expect("");
        let object = json!({"kind": "DockerImage", "metadata": {"name": name}, "status": {}});
        writeln!(journal, "{object}").expect("a line");
    };
    change("web:web");
    change("new:new");
    eventually("both changes", || names(&watch.stdout()).len() == 6);
    // Who looks only now sees where things have got to.
    let later = tilt(&sandbox, &["get", "dockerimages", "-o", "json"]).finish().exits_with(0);
    assert_eq!(objects(&later.stdout)[0]["items"].as_array().map(Vec::len), Some(3));

    sandbox.tilt().set("end", "");
    let ended = watch.finish().exits_with(0);
    let shown = ["web:web", "api:api", "web:web", "api:api", "web:web", "new:new"];
    assert_eq!(names(&ended.stdout), shown);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_replayed_storm_shows_every_build_that_was_recorded() {
    let sandbox = Sandbox::new();
    sandbox.tilt().replay(|journal| capture(&format!("storm/{journal}")), 50);
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
    assert!(updates() < 50, "not all at once");
    let began = Instant::now();
    sandbox.tilt().unset("replay-held");
    // The 111 builds, and the Tiltfile's load.
    eventually("all updates and image builds", || (updates(), image_builds()) == (112, 51));
    assert!(began.elapsed() > Duration::from_secs(1), "75 seconds of it");
    sandbox.tilt().set("end", "");
    for watch in watches {
        watch.finish().exits_with(0);
    }
}

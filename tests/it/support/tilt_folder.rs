//! The folder that the fake `tilt` answers from.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::recorded::read_capture;
use super::wait::{eventually, within};

/// The files that control the fake `tilt`. `tests/fakes/bin/fake_tilt.rs` describes each of them.
pub struct TiltFolder(pub(super) PathBuf);

impl TiltFolder {
    /// Writes a file in one step.
    pub fn set(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        // A reader must never see half of the file.
        let fresh = self.0.join(format!("{name}.fresh"));
        fs::write(&fresh, contents).expect("a file");
        let path = self.0.join(name);
        once_free(|| fs::rename(&fresh, &path)).expect("a renamed file");
        self
    }

    /// Makes Tilt show these objects of a kind, and no others.
    pub fn show(&self, kind: &str, objects: impl Into<Value>) -> &Self {
        let list = json!({"kind": "List", "items": objects.into()});
        self.set(&format!("{kind}.json"), list.to_string())
    }

    /// Makes Tilt show these kinds as they are recorded in a folder of the captures.
    pub fn show_recorded(&self, folder: &str, kinds: &[&str]) -> &Self {
        for kind in kinds {
            let name = format!("{kind}.json");
            self.set(&name, read_capture(&format!("{folder}/{name}")));
        }
        self
    }

    /// Makes Tilt show the status of a `tilt ci`.
    pub fn show_ci_status(&self, status: &Value) -> &Self {
        let metadata = json!({"name": "Tiltfile"});
        self.show("sessions", [json!({"kind": "Session", "metadata": metadata, "status": status})])
    }

    /// Makes a watch print another version of an object.
    pub fn add(&self, journal: &str, object: &Value) -> &Self {
        let path = self.0.join(journal);
        let journal = fs::OpenOptions::new().create(true).append(true).open(path);
        let written = journal.and_then(|mut j| j.write_all(format!("{object}\n").as_bytes()));
        written.expect("the journal");
        self
    }

    pub fn unset(&self, name: &str) -> &Self {
        once_free(|| fs::remove_file(self.0.join(name))).expect("a file that was set");
        self
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Changes the objects of a kind that Tilt shows.
    pub fn change(&self, kind: &str, change: impl FnOnce(&mut Vec<Value>)) -> &Self {
        let name = format!("{kind}.json");
        let mut list: Value = serde_json::from_str(&self.read(&name)).expect("a list");
        change(list["items"].as_array_mut().expect("items"));
        self.set(&name, list.to_string())
    }

    /// Makes Tilt show a new build of the image `web`.
    pub fn build_web(&self, started_at: &str, finished_at: &str) -> &Self {
        self.change("dockerimages", |images| {
            images[0]["status"]["completed"] =
                json!({"startedAt": started_at, "finishedAt": finished_at});
        })
    }

    /// Makes the watch show that `lint` failed.
    pub fn fail_lint(&self) -> &Self {
        let broken = json!({
            "kind": "UIResource",
            "metadata": {"name": "lint"},
            "status": {"updateStatus": "error", "runtimeStatus": "not_applicable"},
        });
        self.add("watch-uiresources.jsonl", &broken)
    }

    /// Adds this many resources.
    pub fn add_resources(&self, count: usize) -> &Self {
        self.change("uiresources", |resources| {
            let mut another = resources[0].clone();
            another["status"]["buildHistory"] = Value::Null;
            for number in 0..count {
                another["metadata"]["name"] = json!(format!("another-{number}"));
                resources.push(another.clone());
            }
        })
    }

    /// Replays the recorded watches of a folder, this many times as fast. The replay starts when
    /// `replay-held` is removed.
    pub fn replay(&self, folder: &str, speed: u32) -> &Self {
        for kind in ["uiresources", "dockerimages"] {
            let journal = format!("watch-{kind}.jsonl");
            let recorded = read_capture(&format!("{folder}/{journal}"));
            self.unset(&format!("{kind}.json")).set(&journal, recorded);
        }
        self.set("replay-held", "").set("replay-speed", speed.to_string())
    }

    /// Waits until this many watches have printed the current list.
    #[track_caller]
    pub fn is_watched_by(&self, watches: usize) -> &Self {
        eventually("watches with a list", || self.read("watched").lines().count() >= watches);
        self
    }

    /// The recorded calls of `tilt`.
    pub fn calls(&self) -> Vec<Value> {
        let calls = self.read("calls");
        calls.lines().map(|line| serde_json::from_str(line).expect("a call")).collect()
    }

    /// Counts the watches of a kind that were started. An empty kind counts all watches.
    pub fn watches(&self, kind: &str) -> usize {
        let is_watch = |call: &&String| call.contains(&format!("{kind} --watch"));
        self.called_with().iter().filter(is_watch).count()
    }

    /// The arguments of each call, joined by spaces.
    pub fn called_with(&self) -> Vec<String> {
        let joined = |call: &Value| {
            let words = call["arguments"].as_array().expect("arguments");
            words.iter().map(|w| w.as_str().expect("text")).collect::<Vec<_>>().join(" ")
        };
        self.calls().iter().map(joined).collect()
    }
}

/// Windows refuses to replace or remove a file while the fake `tilt` reads it.
fn once_free(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut result = attempt();
    let is_held = |result: &io::Result<()>| {
        let code = result.as_ref().err().and_then(io::Error::raw_os_error);
        cfg!(windows) && matches!(code, Some(5 | 32))
    };
    within(Duration::from_secs(10), || {
        if is_held(&result) {
            result = attempt();
        }
        !is_held(&result)
    });
    result
}

//! Reads the state on disk. Only this file of the campaign knows its format.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::key;

/// The state file in this folder.
pub fn state_file(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "json"))
}

/// Takes the state's lock within two seconds.
pub fn lock_state(file: &Path) -> Option<File> {
    let lock = File::open(file.with_extension("lock")).ok()?;
    let deadline = Instant::now() + Duration::from_secs(2);
    while lock.try_lock().is_err() {
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_micros(200));
    }
    Some(lock)
}

/// The keys of all events on disk: those queued for Honeycomb, and image builds whose update is not
/// known yet.
pub fn events(scratch: &Path) -> HashSet<String> {
    let found = ["state", "aside"].iter().find_map(|folder| {
        let file = state_file(&scratch.join(folder))?;
        serde_json::from_slice::<Value>(&fs::read(file).ok()?).ok()
    });
    let Some(state) = found else { return HashSet::new() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut keys: HashSet<_> =
        list(&state["queue"]["events"]).iter().map(|e| key(&e["wire"])).collect();
    for session in state["sessions"].as_object().into_iter().flat_map(serde_json::Map::values) {
        for orphan in list(&session["orphan_images"]) {
            let events = list(&orphan["spans"]["events"]);
            let wires = events.iter().map(|e| json!({"time": e["time"], "data": e["fields"]}));
            keys.extend(wires.map(|wire| key(&wire)));
        }
    }
    keys
}

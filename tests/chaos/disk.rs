//! Reads the state on disk. Only this file of the campaign knows its format.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::key;

/// The state file of the only destination in this folder.
pub fn state_file(folder: &Path) -> Option<PathBuf> {
    files(folder).map(|path| path.join("state.ndjson")).find(|path| path.exists())
}

/// The files and folders in a folder.
pub fn files(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Takes the state's lock within two seconds.
pub fn lock_state(file: &Path) -> Option<File> {
    let lock = File::open(file.with_file_name("lock")).ok()?;
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
/// known yet. Reads the files without the lock, which the campaign may hold.
pub fn events(scratch: &Path) -> HashSet<String> {
    let file = ["state", "aside"].iter().find_map(|folder| state_file(&scratch.join(folder)));
    let Some(file) = file else { return HashSet::new() };
    let mut lines = read_lines(&file).into_iter();
    let mut next_line = || lines.next().unwrap_or_default();
    let (index, state) = (next_line(), next_line());
    let mut keys = queued(&index["queue"], &file.with_file_name("queue"));
    for session in state["sessions"].as_object().into_iter().flat_map(serde_json::Map::values) {
        for orphan in list(&session["orphan_images"]) {
            let events = list(&orphan["spans"]["events"]);
            let wires = events.iter().map(|e| json!({"time": e["time"], "data": e["fields"]}));
            keys.extend(wires.map(|wire| key(&wire)));
        }
    }
    keys
}

/// The keys of the events in the segments that have not left the queue.
fn queued(index: &Value, folder: &Path) -> HashSet<String> {
    let mut keys = HashSet::new();
    let journal = folder.join(format!("settled-{}.ndjson", index["journal"]["id"]));
    let journal = read_lines(&journal);
    for segment in list(&index["segments"]) {
        let first = segment["first"].as_u64().unwrap_or(0);
        let class = segment["class"].as_str().unwrap_or("");
        let settled: Vec<_> = journal.iter().chain([&segment]).map(|s| &s["settled"]).collect();
        let events = (first..).zip(read_lines(&folder.join(format!("{first:020}-{class}.ndjson"))));
        let waiting = events.filter(|(number, _)| !settled.iter().any(|s| contains(s, *number)));
        keys.extend(waiting.map(|(_, line)| key(&line["event"])));
    }
    keys
}

/// True if a set of ranges contains a number.
fn contains(set: &Value, number: u64) -> bool {
    let bound = |range: &Value, name: &str| range[name].as_u64().unwrap_or(0);
    let ranges = list(&set["ranges"]);
    ranges.iter().any(|range| (bound(range, "start")..bound(range, "end")).contains(&number))
}

/// The lines of a file that are JSON. The others were cut off.
fn read_lines(path: &Path) -> Vec<Value> {
    let text = fs::read(path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

//! The recorded output of a real Tilt, and the events that it yields.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The path of a recorded file.
pub fn capture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/0.37.6").join(path)
}

/// The number of events in the first report on the recorded environment: 9 `uiresource`, 1 `session`,
/// 9 `update`, 6 `rollout`, and 3 image builds with 17 stages.
pub const RECORDED_EVENTS: usize = 45;

/// The four recorded kinds, in the order in which single calls of `tilt get` read them.
pub const KINDS: [&str; 4] = ["uisession", "uiresources", "dockerimages", "cmdimages"];

/// The events of one kind.
pub fn of_kind(events: &[Value], kind: &str) -> Vec<Value> {
    events.iter().filter(|event| event["data"]["kind"] == kind).cloned().collect()
}

/// The image and the start time of every image build, sorted.
pub fn builds(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut builds: Vec<_> = events
        .iter()
        .filter(|event| matches!(event["data"]["kind"].as_str(), Some("dockerimage" | "cmdimage")))
        .map(|event| (text(&event["data"]["image_name"]), text(&event["time"])))
        .collect();
    builds.sort();
    builds
}

/// The three image builds of the recorded environment.
pub fn recorded_builds() -> Vec<(String, String)> {
    [
        ("api", "2026-11-22T16:03:32.395415Z"),
        ("web", "2026-11-22T15:22:07.934675Z"),
        ("worker", "2026-11-22T15:25:12.885547Z"),
    ]
    .map(|(image, start)| (image.to_owned(), start.to_owned()))
    .to_vec()
}

//! The recorded output of a real Tilt, and the events that it yields.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tilt_honeycomb::events::common_fields::Context;
use tilt_honeycomb::events::observation::Observation;
use tilt_honeycomb::events::tracker::SessionTracker;
use tilt_honeycomb::summary::model::EnvironmentSummary;
use tilt_honeycomb::tilt::command::TiltMode;
use tilt_honeycomb::tilt::model::Snapshot;

/// The path of a recorded file.
pub fn capture(path: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/0.37.6");
    // A program that Wine runs in another folder may have another current drive.
    std::path::absolute(folder.join(path)).expect("a path")
}

/// The content of a recorded file.
pub fn read_capture(path: &str) -> Vec<u8> {
    fs::read(capture(path)).expect(path)
}

/// A recorded JSON document.
pub fn captured_json(path: &str) -> Value {
    serde_json::from_slice(&read_capture(path)).expect(path)
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

/// The folder of a recorded start on Kubernetes: eleven resources, three of them with images.
pub const BRING_UP: &str = "kubernetes-bring-up";

/// The kinds in the folder [`BRING_UP`].
pub const BRING_UP_KINDS: [&str; 6] =
    ["uisession", "uiresources", "dockerimages", "cmdimages", "clusters", "kubernetesdiscoveries"];

/// The summary of the recorded start on Kubernetes, 75 s after Tilt started.
#[cfg_attr(windows, expect(dead_code, reason = "only tests of documents use it"))]
pub fn recorded_start() -> EnvironmentSummary {
    let mut snapshot = Snapshot::default();
    for kind in BRING_UP_KINDS {
        let list = captured_json(&format!("{BRING_UP}/{kind}.json"));
        for object in list["items"].as_array().expect("items") {
            let mut one = Snapshot::default();
            assert!(one.add(&object.to_string()), "{object}");
            snapshot.join(one);
        }
    }
    snapshot.attach_pods();
    snapshot.sort();
    let started_at = snapshot.session.as_ref().and_then(|s| s.tilt_started_at.clone());
    let now = started_at.expect("a start").at + Duration::from_secs(75);
    let context = Context {
        collector: "honeycomb-collector".into(),
        tilt_mode: Some(TiltMode::Up),
        ..Context::default()
    };
    let observation = Observation::at(&snapshot);
    EnvironmentSummary::of(&observation, SessionTracker::default(), &context, now)
}

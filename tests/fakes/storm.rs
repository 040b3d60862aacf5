//! A storm of saves: Tilt's output while files are saved several times a second. Eight resources,
//! half of which build images, start and are then rebuilt continuously. Some builds take less than
//! 50 ms.
//!
//! The storm is generated from a seed, so it can be repeated. Each step is one version of one
//! object and the time at which Tilt prints it.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

pub const RESOURCES: usize = 8;

#[derive(Debug, Clone)]
pub struct Step {
    /// When Tilt prints it, since the start of the storm.
    pub at: Duration,
    /// The kind whose watch prints it.
    pub kind: &'static str,
    pub object: Value,
    /// The build that this step is the first to show as finished.
    pub finishes: Option<Finished>,
}

/// The identity of a finished build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finished {
    /// Tilt's span id.
    Update(String),
    /// Its start time, exactly as Tilt prints it.
    Image(String),
}

#[derive(Debug)]
pub struct Storm {
    pub session: Value,
    pub steps: Vec<Step>,
}

/// One update of one resource. Times are in microseconds since the start of the storm.
struct Update {
    resource: usize,
    starts: u64,
    ends: u64,
    /// When its image build ends. `None` if it builds no image.
    image_ends: Option<u64>,
    number: usize,
}

impl Storm {
    /// A storm of `updates` updates in total, in a Tilt that started one second before `begins`.
    pub fn new(updates: usize, seed: u64, begins: SystemTime) -> Self {
        let mut random = Random(seed);
        let mut planned = Vec::new();
        for resource in 0..RESOURCES {
            let mut time = 50_000 + random.below(100_000);
            for _ in 0..updates / RESOURCES {
                let duration = if random.below(4) == 0 {
                    10_000 + random.below(40_000)
                } else {
                    50_000 + random.below(400_000)
                };
                let image_ends = builds_images(resource).then(|| time + 300 + duration * 6 / 10);
                let ends = time + duration;
                planned.push(Update { resource, starts: time, ends, image_ends, number: 0 });
                // Half of the updates follow within 5 ms, like a save during the previous update.
                let longest = if random.below(2) == 0 { 5_000 } else { 200_000 };
                time = ends + 1_000 + random.below(longest);
            }
        }
        planned.sort_by_key(|update| update.starts);
        for (number, update) in (1..).zip(&mut planned) {
            update.number = number;
        }
        let clock = Clock(begins);
        let mut steps: Vec<_> =
            (0..RESOURCES).flat_map(|resource| steps(resource, &planned, clock)).collect();
        steps.sort_by_key(|step| step.at);
        Self { session: session(begins), steps }
    }
}

fn builds_images(resource: usize) -> bool {
    resource.is_multiple_of(2)
}

#[derive(Clone, Copy)]
struct Clock(SystemTime);

impl Clock {
    fn at(self, micros: u64) -> String {
        let time = self.0 + Duration::from_micros(micros);
        humantime::format_rfc3339_micros(time).to_string()
    }
}

fn session(begins: SystemTime) -> Value {
    let started = begins - Duration::from_secs(1);
    json!({
        "kind": "UISession",
        "metadata": {"name": "Tiltfile", "uid": "5701a5701a"},
        "status": {
            "runningTiltBuild": {"version": "0.37.6"},
            "tiltStartTime": humantime::format_rfc3339_seconds(started).to_string(),
        }
    })
}

/// The steps of one resource, in order.
fn steps(resource: usize, planned: &[Update], clock: Clock) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut history: Vec<&Update> = Vec::new();
    let own_updates = planned.iter().filter(|update| update.resource == resource);
    for update in own_updates {
        let at = Duration::from_micros;
        steps.push(Step {
            at: at(update.starts),
            kind: "uiresources",
            object: ui_resource(resource, &history, Some(update), clock),
            finishes: None,
        });
        if let Some(image_ends) = update.image_ends {
            let starts = clock.at(update.starts + 100);
            steps.push(Step {
                at: at(update.starts + 100),
                kind: "dockerimages",
                object: image(resource, &json!({"building": {"startedAt": starts}})),
                finishes: None,
            });
            let completed = json!({
                "completed": {"startedAt": starts, "finishedAt": clock.at(image_ends)},
                "ref": format!("{}:tilt-{}", name(resource), update.number),
                "stageStatuses": [{
                    "name": "[1/1] COPY src /src",
                    "cached": update.number % 2 == 0,
                    "startedAt": starts,
                    "finishedAt": clock.at(image_ends),
                }],
            });
            steps.push(Step {
                at: at(image_ends),
                kind: "dockerimages",
                object: image(resource, &completed),
                finishes: Some(Finished::Image(starts)),
            });
        }
        history.insert(0, update);
        history.truncate(2);
        steps.push(Step {
            at: at(update.ends),
            kind: "uiresources",
            object: ui_resource(resource, &history, None, clock),
            finishes: Some(Finished::Update(span_id(update))),
        });
    }
    steps
}

fn name(resource: usize) -> String {
    format!("r{resource}")
}

fn span_id(update: &Update) -> String {
    format!("build:{}", update.number)
}

fn ui_resource(
    resource: usize,
    history: &[&Update],
    current: Option<&Update>,
    clock: Clock,
) -> Value {
    let name = name(resource);
    let specs = if builds_images(resource) {
        json!([{"id": format!("image:{name}"), "type": "image"}, {"type": "docker-compose"}])
    } else {
        json!([{"id": format!("local:{name}"), "type": "local"}])
    };
    let history: Vec<_> = history
        .iter()
        .map(|update| {
            json!({
                "spanID": span_id(update),
                "startTime": clock.at(update.starts),
                "finishTime": clock.at(update.ends),
            })
        })
        .collect();
    let ready = if history.is_empty() { "False" } else { "True" };
    let mut status = json!({
        "buildHistory": history,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": clock.at(0)}],
        "runtimeStatus": "ok",
        "specs": specs,
        "updateStatus": if current.is_some() { "in_progress" } else { "ok" },
    });
    if let Some(update) = current {
        status["currentBuild"] =
            json!({"spanID": span_id(update), "startTime": clock.at(update.starts)});
    }
    json!({"kind": "UIResource", "metadata": {"name": name}, "status": status})
}

fn image(resource: usize, status: &Value) -> Value {
    let name = name(resource);
    json!({
        "kind": "DockerImage",
        "metadata": {
            "name": format!("{name}:{name}"),
            "annotations": {"tilt.dev/resource": name},
        },
        "spec": {"ref": name},
        "status": status,
    })
}

/// The resource of the Tiltfile, which was loaded before the storm.
pub fn tiltfile(begins: SystemTime) -> Value {
    let clock = Clock(begins - Duration::from_secs(1));
    json!({
        "kind": "UIResource",
        "metadata": {"name": "(Tiltfile)", "uid": "71f"},
        "status": {
            "buildHistory": [{
                "spanID": "tiltfile:(Tiltfile):1",
                "startTime": clock.at(100),
                "finishTime": clock.at(200_000),
            }],
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": clock.at(200_000)}
            ],
            "runtimeStatus": "not_applicable",
            "updateStatus": "ok",
        }
    })
}

/// The objects of a kind before the first build.
pub fn before(kind: &str, begins: SystemTime) -> Vec<Value> {
    match kind {
        "uiresources" => std::iter::once(tiltfile(begins))
            .chain((0..RESOURCES).map(|resource| ui_resource(resource, &[], None, Clock(begins))))
            .collect(),
        "dockerimages" => (0..RESOURCES)
            .filter(|resource| builds_images(*resource))
            .map(|resource| image(resource, &json!({})))
            .collect(),
        _ => Vec::new(),
    }
}

/// A small random number generator (xorshift64*). A seed gives the same storm on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let mut x = self.0.max(1);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Writes the objects from before the storm into a fake Tilt's folder.
pub fn prepare(storm: &Storm, begins: SystemTime, folder: &Path) -> io::Result<()> {
    let list = |items: Vec<Value>| json!({"kind": "List", "items": items}).to_string();
    fs::write(folder.join("uisession.json"), list(vec![storm.session.clone()]))?;
    for kind in ["uiresources", "dockerimages", "cmdimages"] {
        fs::write(folder.join(format!("{kind}.json")), list(before(kind, begins)))?;
    }
    Ok(())
}

/// Makes the fake Tilt print each step at its time, `speed` times as fast as the storm's own pace.
/// Returns when each build was first shown as finished.
pub fn play(storm: &Storm, folder: &Path, speed: u32) -> io::Result<HashMap<Finished, Instant>> {
    let journal = |kind: &str| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(format!("watch-{kind}.jsonl")))
    };
    let mut journals = HashMap::from([
        ("uiresources", journal("uiresources")?),
        ("dockerimages", journal("dockerimages")?),
    ]);
    let began = Instant::now();
    let mut completed_at = HashMap::new();
    for step in &storm.steps {
        thread::sleep((step.at / speed).saturating_sub(began.elapsed()));
        let file = journals.get_mut(step.kind).expect("one of the two");
        // Taken before the write, so that no arrival can be earlier.
        let now = Instant::now();
        file.write_all(format!("{}\n", step.object).as_bytes())?;
        if let Some(finished) = &step.finishes {
            completed_at.insert(finished.clone(), now);
        }
    }
    Ok(completed_at)
}

/// The build that an event reports. `None` for an event of another kind.
pub fn finished(event: &Value) -> Option<Finished> {
    let data = &event["data"];
    match data["kind"].as_str()? {
        "update" => Some(Finished::Update(data["update_id"].as_str()?.to_owned())),
        "dockerimage" => Some(Finished::Image(event["time"].as_str()?.to_owned())),
        _ => None,
    }
}

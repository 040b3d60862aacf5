//! What Tilt shows during the campaign: resources that are built all the time, half of them with
//! images.
//!
//! Every build that is shown counts, so none may leave before a collector could see it. A build
//! leaves when its resource is built anew, and that happens only after a witness: a single report
//! that was started after the build was shown, and whose exit code says that it wrote down what it
//! saw. When a state was damaged on purpose, every build that is shown needs another witness.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::random::Random;

const RESOURCES: usize = 12;
/// A watch that hangs is given up after 10 s, a look after 20, and what was seen is written down
/// after that.
const IN_HAND: Duration = Duration::from_secs(40);
const TILTFILE: &str = "(Tiltfile)";
const LOADED_AT: &str = "2026-11-22T16:59:58.000001Z";
/// A watch's journal starts anew after so many lines, so that long runs stay as fast as short ones.
const LINES_KEPT: usize = 400;

/// What must stay on the machine.
pub const TOKEN: &str = "canary-token-of-a-failing-command";
pub const BUILD_ARG: &str = "canary-value-of-a-build-arg";
pub const PASSWORD: &str = "canary-password-of-a-registry";
pub const HOME: &str = "/home/canary-user/src/shop";
pub const CANARIES: [&str; 4] = [TOKEN, BUILD_ARG, PASSWORD, "canary-user"];

#[derive(Debug)]
pub struct World {
    folder: PathBuf,
    random: Random,
    resources: Vec<Resource>,
    journals: HashMap<&'static str, Journal>,
    number: u64,
    tilt_started_at: String,
    last_start: SystemTime,
    is_paused: bool,
    /// The key of every build that was ever shown as finished.
    shown: HashSet<String>,
    /// What was shown until then; a collector may have it in hand still.
    left: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Journal {
    file: File,
    lines: usize,
}

#[derive(Debug)]
struct Resource {
    name: String,
    builds_images: bool,
    /// Newest first, at most two.
    history: Vec<Update>,
    under_way: Option<UnderWay>,
    /// The last image build, while it is shown as completed.
    image: Option<Image>,
    /// Since when something is shown that no witness has seen.
    unseen_since: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Update {
    number: u64,
    starts: String,
    ends: String,
    error: Option<String>,
}

#[derive(Debug, Clone)]
struct Image {
    number: u64,
    starts: String,
    ends: String,
    error: Option<String>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    starts: String,
    image_starts: Option<String>,
    image_ends_at: Option<Instant>,
    ends_at: Instant,
}

/// What tells the events of two builds apart: the kind, the resource and the start.
pub fn key(event: &Value) -> String {
    let data = &event["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = if data["resource"].is_string() { &data["resource"] } else { &data["name"] };
    format!("{} {} {}", text(&data["kind"]), text(resource), text(&event["time"]))
}

fn image_keys(resource: &str, starts: &str) -> [String; 2] {
    ["dockerimage", "dockerimage_stage"].map(|kind| format!("{kind} {resource} {starts}"))
}

fn update_key(resource: &str, starts: &str) -> String {
    format!("update {resource} {starts}")
}

impl World {
    pub fn new(folder: &Path, seed: u64) -> io::Result<Self> {
        let resources = (0..RESOURCES).map(|index| Resource {
            name: format!("r{index}"),
            builds_images: index % 2 == 0,
            history: Vec::new(),
            under_way: None,
            image: None,
            unseen_since: None,
        });
        let mut world = Self {
            folder: folder.to_owned(),
            random: Random::new(seed),
            resources: resources.collect(),
            journals: HashMap::new(),
            number: 0,
            tilt_started_at: micros(SystemTime::now()),
            last_start: SystemTime::now(),
            is_paused: false,
            shown: HashSet::from([update_key(TILTFILE, LOADED_AT)]),
            left: VecDeque::new(),
        };
        let list = |items: &[Value]| json!({"kind": "List", "items": items}).to_string();
        world.write("uisession.json", &list(&[session(&world.tilt_started_at)]))?;
        world.write("cmdimages.json", &list(&[]))?;
        for kind in ["uiresources", "dockerimages"] {
            world.turn_page(kind)?;
        }
        Ok(world)
    }

    /// Lets pass what is due. At most one build begins.
    pub fn pass(&mut self, now: Instant) -> io::Result<()> {
        for index in 0..self.resources.len() {
            self.go_on(index, now)?;
        }
        let mut idle: Vec<_> = (0..self.resources.len()).collect();
        idle.retain(|index| {
            let resource = &self.resources[*index];
            resource.under_way.is_none() && resource.unseen_since.is_none()
        });
        if !self.is_paused && !idle.is_empty() && self.random.is_one_in(8) {
            let index = self.random.pick(&idle);
            self.begin(index, now)?;
        }
        Ok(())
    }

    /// No build begins until resumed.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    pub fn is_idle(&self) -> bool {
        self.resources.iter().all(|resource| resource.under_way.is_none())
    }

    /// A report that began then has written down what it saw.
    pub fn witnessed(&mut self, began: Instant) {
        for resource in &mut self.resources {
            if resource.unseen_since.is_some_and(|since| since < began) {
                resource.unseen_since = None;
            }
        }
    }

    /// What was written down is gone. Only while idle, so that nothing leaves unseen.
    pub fn forgotten(&mut self, now: Instant) {
        assert!(self.is_idle(), "a build under way would push an older one out");
        for resource in &mut self.resources {
            resource.unseen_since = Some(now);
        }
    }

    pub fn shown(&self) -> &HashSet<String> {
        &self.shown
    }

    /// What a collector may have seen and not yet written down, and the end of the start-up, which
    /// follows from it.
    pub fn displayed_lately(&self) -> HashSet<String> {
        let mut lately = self.displayed();
        lately.insert(format!("startup tilt up {}", self.tilt_started_at));
        lately.extend(self.left.iter().map(|(_, key)| key.clone()));
        lately
    }

    /// What Tilt shows as finished now.
    pub fn displayed(&self) -> HashSet<String> {
        let mut displayed = HashSet::from([update_key(TILTFILE, LOADED_AT)]);
        for resource in &self.resources {
            displayed
                .extend(resource.history.iter().map(|u| update_key(&resource.name, &u.starts)));
            displayed
                .extend(resource.image.iter().flat_map(|i| image_keys(&resource.name, &i.starts)));
        }
        displayed
    }

    fn begin(&mut self, index: usize, now: Instant) -> io::Result<()> {
        self.number += 1;
        // Two builds never begin in the same microsecond.
        let starts = SystemTime::now().max(self.last_start + Duration::from_micros(2));
        self.last_start = starts;
        let takes = Duration::from_millis(5 + self.random.below(250));
        let resource = &mut self.resources[index];
        let builds_images = resource.builds_images;
        resource.under_way = Some(UnderWay {
            number: self.number,
            starts: micros(starts),
            image_starts: builds_images.then(|| micros(starts + Duration::from_micros(1))),
            image_ends_at: builds_images.then(|| now + takes / 2),
            ends_at: now + takes,
        });
        let name = resource.name.clone();
        let image = resource.image.take_if(|_| builds_images);
        let leave = image.iter().flat_map(|image| image_keys(&name, &image.starts));
        self.left.extend(leave.map(|key| (now, key)));
        self.left.retain(|(at, _)| now.duration_since(*at) < IN_HAND);
        self.show("uiresources", index)?;
        if builds_images { self.show("dockerimages", index) } else { Ok(()) }
    }

    fn go_on(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let resource = &mut self.resources[index];
        let Some(under_way) = &mut resource.under_way else { return Ok(()) };
        let number = under_way.number;
        if under_way.image_ends_at.is_some_and(|at| now >= at) {
            under_way.image_ends_at = None;
            let starts = under_way.image_starts.clone().expect("an image is built");
            let error = number.is_multiple_of(5).then(|| {
                format!("executor failed running [/bin/sh -c curl -H 'token: {TOKEN}' {HOME}]: exit code: 22")
            });
            self.shown.extend(image_keys(&resource.name, &starts));
            let ends = micros(SystemTime::now());
            resource.image = Some(Image { number, starts, ends, error });
            return self.show("dockerimages", index);
        }
        if now < under_way.ends_at {
            return Ok(());
        }
        let error = number.is_multiple_of(3).then(|| {
            format!("command \"sh -c 'deploy --token {TOKEN}'\" failed in {HOME}: exit status 1")
        });
        let update = Update {
            number,
            starts: under_way.starts.clone(),
            ends: micros(SystemTime::now()),
            error,
        };
        self.shown.insert(update_key(&resource.name, &update.starts));
        resource.history.insert(0, update);
        let leaves = resource.history.split_off(resource.history.len().min(2));
        let leave = leaves.iter().map(|update| (now, update_key(&resource.name, &update.starts)));
        self.left.extend(leave);
        resource.under_way = None;
        self.show("uiresources", index)?;
        // Only now can anyone have seen it.
        self.resources[index].unseen_since = Some(Instant::now());
        Ok(())
    }

    /// Prints the newest version of an object.
    fn show(&mut self, kind: &'static str, index: usize) -> io::Result<()> {
        let resource = &self.resources[index];
        let object = if kind == "uiresources" { resource.ui_resource() } else { resource.image() };
        let journal = self.journals.get_mut(kind).expect("one of the two");
        journal.file.write_all(format!("{object}\n").as_bytes())?;
        journal.lines += 1;
        if journal.lines >= LINES_KEPT { self.turn_page(kind) } else { Ok(()) }
    }

    /// Starts a journal anew: the list first, which holds what the journal held.
    fn turn_page(&mut self, kind: &'static str) -> io::Result<()> {
        let items: Vec<_> = if kind == "uiresources" {
            std::iter::once(tiltfile())
                .chain(self.resources.iter().map(Resource::ui_resource))
                .collect()
        } else {
            self.resources.iter().filter(|r| r.builds_images).map(Resource::image).collect()
        };
        let list = json!({"kind": "List", "items": items}).to_string();
        self.write(&format!("{kind}.json"), &list)?;
        let name = format!("watch-{kind}.jsonl");
        self.write(&name, "")?;
        let file = OpenOptions::new().append(true).open(self.folder.join(name))?;
        self.journals.insert(kind, Journal { file, lines: 0 });
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let fresh = self.folder.join(format!("{name}.fresh"));
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.folder.join(name))
    }
}

impl Resource {
    fn ui_resource(&self) -> Value {
        let name = &self.name;
        let specs = if self.builds_images {
            json!([{"id": format!("image:{name}"), "type": "image"}, {"type": "docker-compose"}])
        } else {
            json!([{"id": format!("local:{name}"), "type": "local"}])
        };
        let history = self.history.iter().map(|update| {
            let mut build = json!({
                "spanID": format!("build:{}", update.number),
                "startTime": update.starts,
                "finishTime": update.ends,
            });
            if let Some(error) = &update.error {
                build["error"] = json!(error);
            }
            build
        });
        let mut status = json!({
            "buildHistory": history.collect::<Value>(),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T17:00:00Z"}],
            "runtimeStatus": "ok",
            "specs": specs,
            "updateStatus": if self.under_way.is_some() { "in_progress" } else { "ok" },
        });
        if let Some(under_way) = &self.under_way {
            status["currentBuild"] = json!({
                "spanID": format!("build:{}", under_way.number),
                "startTime": under_way.starts,
            });
        }
        json!({"kind": "UIResource", "metadata": {"name": name}, "status": status})
    }

    fn image(&self) -> Value {
        let name = &self.name;
        let building = self.under_way.as_ref().and_then(|u| u.image_starts.clone());
        let status = match (&self.image, building) {
            (Some(image), _) => {
                let mut completed = json!({"startedAt": image.starts, "finishedAt": image.ends});
                if let Some(error) = &image.error {
                    completed["error"] = json!(error);
                }
                json!({
                    "completed": completed,
                    "ref": format!("{name}:tilt-{}", image.number),
                    "stageStatuses": [{
                        "name": format!("[1/1] RUN login --password {BUILD_ARG} {HOME}"),
                        "startedAt": image.starts,
                        "finishedAt": image.ends,
                    }],
                })
            }
            (None, Some(starts)) => json!({"building": {"startedAt": starts}}),
            (None, None) => json!({}),
        };
        json!({
            "kind": "DockerImage",
            "metadata": {
                "name": format!("{name}:{name}"),
                "annotations": {"tilt.dev/resource": name},
            },
            "spec": {
                "ref": format!("robot:{PASSWORD}@registry.example/team/{name}"),
                "args": [format!("PASSWORD={BUILD_ARG}")],
                "context": HOME,
            },
            "status": status,
        })
    }
}

fn session(tilt_started_at: &str) -> Value {
    json!({
        "kind": "UISession",
        "metadata": {"name": "Tiltfile", "uid": "5701a5701a"},
        "status": {
            "runningTiltBuild": {"version": "0.37.6"},
            "tiltStartTime": tilt_started_at,
            "tiltfileKey": format!("{HOME}/Tiltfile"),
        }
    })
}

/// Loaded before the campaign, in vain.
fn tiltfile() -> Value {
    json!({
        "kind": "UIResource",
        "metadata": {"name": TILTFILE, "uid": "71f"},
        "status": {
            "buildHistory": [{
                "spanID": "tiltfile:(Tiltfile):1",
                "startTime": LOADED_AT,
                "finishTime": "2026-11-22T16:59:59Z",
                "error": format!("Traceback: {HOME}/Tiltfile:7: undefined: {TOKEN}"),
            }],
            "runtimeStatus": "not_applicable",
            "updateStatus": "error",
        }
    })
}

fn micros(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

//! Simulates a Tilt environment for the fault campaign. It rebuilds its resources continuously, and
//! half of them build images.
//!
//! The campaign expects every completed build to arrive, so a build must stay visible until a
//! collector has recorded it. A new build of a resource hides an older one. It therefore starts only
//! after a `--once` report has recorded the older one: the report started after that build
//! completed, and its exit code says that it saved what it saw. After the campaign has damaged the
//! state, every visible build needs another such report.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::random::Random;

const RESOURCES: usize = 12;
/// The longest time between Tilt's output of a build and its record on disk. A collector gives up a
/// hanging watch after 10 s and a hanging poll after 20 s, and records what it saw after that.
const MAX_RECORDING_DELAY: Duration = Duration::from_secs(40);
const TILTFILE: &str = "(Tiltfile)";
const LOADED_AT: &str = "2026-11-22T16:59:58.000001Z";
/// A watch's journal restarts after this many lines, so that long campaigns do not slow down.
const MAX_JOURNAL_LINES: usize = 400;

/// Secrets in Tilt's output that no event may contain.
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
    /// The keys of all builds that Tilt has ever shown as finished.
    completed: HashSet<String>,
    /// Builds that became invisible recently, with the time of it. A collector may not have recorded
    /// them yet.
    recently_hidden: VecDeque<(Instant, String)>,
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
    /// The newest update first. Tilt keeps at most two.
    history: Vec<Update>,
    running: Option<RunningUpdate>,
    /// The last image build, as long as Tilt shows it as completed.
    image: Option<Image>,
    /// Since when a build is visible that no `--once` report has recorded.
    unrecorded_since: Option<Instant>,
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
struct RunningUpdate {
    number: u64,
    starts: String,
    image_starts: Option<String>,
    image_ends_at: Option<Instant>,
    ends_at: Instant,
}

/// Identifies the build of an event by its kind, resource and start time.
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

/// The keys of an update and of its rollout, which starts when the update ends. A collector that has
/// lost its state sends both again for as long as Tilt shows the update.
fn keys_of_update(resource: &str, update: &Update) -> [String; 2] {
    [update_key(resource, &update.starts), format!("rollout {resource} {}", update.ends)]
}

impl World {
    pub fn new(folder: &Path, seed: u64) -> io::Result<Self> {
        let resources = (0..RESOURCES).map(|index| Resource {
            name: format!("r{index}"),
            builds_images: index % 2 == 0,
            history: Vec::new(),
            running: None,
            image: None,
            unrecorded_since: None,
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
            completed: HashSet::from([update_key(TILTFILE, LOADED_AT)]),
            recently_hidden: VecDeque::new(),
        };
        let list = |items: &[Value]| json!({"kind": "List", "items": items}).to_string();
        world.write("uisession.json", &list(&[session(&world.tilt_started_at)]))?;
        world.write("cmdimages.json", &list(&[]))?;
        for kind in ["uiresources", "dockerimages"] {
            world.rotate_journal(kind)?;
        }
        Ok(world)
    }

    /// Completes the builds that are due and starts at most one new build.
    pub fn advance(&mut self, now: Instant) -> io::Result<()> {
        for index in 0..self.resources.len() {
            self.continue_update(index, now)?;
        }
        let mut idle: Vec<_> = (0..self.resources.len()).collect();
        idle.retain(|index| {
            let resource = &self.resources[*index];
            resource.running.is_none() && resource.unrecorded_since.is_none()
        });
        if !self.is_paused && !idle.is_empty() && self.random.is_one_in(8) {
            let index = self.random.pick(&idle);
            self.start_update(index, now)?;
        }
        Ok(())
    }

    /// Starts no build until `resume`.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    pub fn is_idle(&self) -> bool {
        self.resources.iter().all(|resource| resource.running.is_none())
    }

    /// Notes that a report that started at `began` has recorded everything it saw.
    pub fn mark_recorded(&mut self, began: Instant) {
        for resource in &mut self.resources {
            if resource.unrecorded_since.is_some_and(|since| since < began) {
                resource.unrecorded_since = None;
            }
        }
    }

    /// Requires a new report of every visible build, because the state was destroyed. Call it only
    /// while no build runs, since a completing build would hide an older one.
    pub fn require_new_report(&mut self, now: Instant) {
        assert!(self.is_idle(), "a completing build would hide an older one");
        for resource in &mut self.resources {
            resource.unrecorded_since = Some(now);
        }
    }

    /// The keys of all builds that Tilt has ever shown as finished.
    pub fn completed(&self) -> &HashSet<String> {
        &self.completed
    }

    /// The keys of all builds that a collector may have seen but not yet recorded, and the key of the
    /// startup event, which follows from them.
    pub fn recently_visible(&self) -> HashSet<String> {
        let mut visible = self.visible();
        visible.insert(format!("startup tilt up {}", self.tilt_started_at));
        visible.extend(self.recently_hidden.iter().map(|(_, key)| key.clone()));
        visible
    }

    /// The keys of the builds that Tilt currently shows as finished.
    pub fn visible(&self) -> HashSet<String> {
        let mut visible = HashSet::from([update_key(TILTFILE, LOADED_AT)]);
        for resource in &self.resources {
            visible.extend(resource.history.iter().flat_map(|u| keys_of_update(&resource.name, u)));
            visible
                .extend(resource.image.iter().flat_map(|i| image_keys(&resource.name, &i.starts)));
        }
        visible
    }

    fn start_update(&mut self, index: usize, now: Instant) -> io::Result<()> {
        self.number += 1;
        // Start times must differ, since they identify the builds.
        let starts = SystemTime::now().max(self.last_start + Duration::from_micros(2));
        self.last_start = starts;
        let duration = Duration::from_millis(5 + self.random.below(250));
        let resource = &mut self.resources[index];
        let builds_images = resource.builds_images;
        resource.running = Some(RunningUpdate {
            number: self.number,
            starts: micros(starts),
            image_starts: builds_images.then(|| micros(starts + Duration::from_micros(1))),
            image_ends_at: builds_images.then(|| now + duration / 2),
            ends_at: now + duration,
        });
        let name = resource.name.clone();
        let image = resource.image.take_if(|_| builds_images);
        let hidden = image.iter().flat_map(|image| image_keys(&name, &image.starts));
        self.recently_hidden.extend(hidden.map(|key| (now, key)));
        self.recently_hidden.retain(|(at, _)| now.duration_since(*at) < MAX_RECORDING_DELAY);
        self.publish("uiresources", index)?;
        if builds_images { self.publish("dockerimages", index) } else { Ok(()) }
    }

    fn continue_update(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let resource = &mut self.resources[index];
        let Some(running) = &mut resource.running else { return Ok(()) };
        let number = running.number;
        if running.image_ends_at.is_some_and(|at| now >= at) {
            running.image_ends_at = None;
            let starts = running.image_starts.clone().expect("the update builds an image");
            let error = number.is_multiple_of(5).then(|| {
                format!("executor failed running [/bin/sh -c curl -H 'token: {TOKEN}' {HOME}]: exit code: 22")
            });
            self.completed.extend(image_keys(&resource.name, &starts));
            let ends = micros(SystemTime::now());
            resource.image = Some(Image { number, starts, ends, error });
            return self.publish("dockerimages", index);
        }
        if now < running.ends_at {
            return Ok(());
        }
        let error = number.is_multiple_of(3).then(|| {
            format!("command \"sh -c 'deploy --token {TOKEN}'\" failed in {HOME}: exit status 1")
        });
        let update = Update {
            number,
            starts: running.starts.clone(),
            ends: micros(SystemTime::now()),
            error,
        };
        self.completed.insert(update_key(&resource.name, &update.starts));
        resource.history.insert(0, update);
        let dropped = resource.history.split_off(resource.history.len().min(2));
        let hidden = dropped.iter().flat_map(|update| keys_of_update(&resource.name, update));
        self.recently_hidden.extend(hidden.map(|key| (now, key)));
        resource.running = None;
        self.publish("uiresources", index)?;
        // Set after the write: no report that started earlier can have seen the build.
        self.resources[index].unrecorded_since = Some(Instant::now());
        Ok(())
    }

    /// Makes the watches print the current version of an object.
    fn publish(&mut self, kind: &'static str, index: usize) -> io::Result<()> {
        let resource = &self.resources[index];
        let object = if kind == "uiresources" { resource.ui_resource() } else { resource.image() };
        let journal = self.journals.get_mut(kind).expect("one of the two");
        journal.file.write_all(format!("{object}\n").as_bytes())?;
        journal.lines += 1;
        if journal.lines >= MAX_JOURNAL_LINES { self.rotate_journal(kind) } else { Ok(()) }
    }

    /// Restarts a journal. It writes the list first, which contains the objects of the old journal.
    fn rotate_journal(&mut self, kind: &'static str) -> io::Result<()> {
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
            "updateStatus": if self.running.is_some() { "in_progress" } else { "ok" },
        });
        if let Some(running) = &self.running {
            status["currentBuild"] = json!({
                "spanID": format!("build:{}", running.number),
                "startTime": running.starts,
            });
        }
        json!({"kind": "UIResource", "metadata": {"name": name}, "status": status})
    }

    fn image(&self) -> Value {
        let name = &self.name;
        let building = self.running.as_ref().and_then(|u| u.image_starts.clone());
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

/// The resource of the Tiltfile, whose load failed before the campaign.
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

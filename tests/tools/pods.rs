//! Measures a sidecar beside a Tilt whose pods come and go. `scripts/pods` runs it. Each of the
//! resources is deployed again and again: its old pod goes, and a new one starts and becomes ready.
//! Every fourth one crashes first. If an update or a rollout was lost or arrived twice, the tool says
//! so and exits with 1.

#![expect(clippy::print_stdout, reason = "a command-line tool prints")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod collector;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use std::{env, thread};

use fakes::honeycomb::Server;
use serde_json::{Value, json};

/// The time between two changes.
const TICK: Duration = Duration::from_millis(100);
/// A real object has 4.4 kB, most of it in fields that the collector skips.
const SKIPPED_BYTES: usize = 3_500;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let mut number = |default| arguments.next().map_or(default, |n| n.parse().expect("a number"));
    let (seconds, resources) = (number(600), number(200));
    let resources = usize::try_from(resources).expect("a count");

    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Cluster::new(scratch.path().join("tilt"), resources);
    let (server, state) = (Server::start(), scratch.path().join("state"));
    let mut collector = collector::collect(&state, &cluster.folder, &server.url());
    let watched = || fs::read_to_string(cluster.folder.join("watched")).unwrap_or_default();
    collector::wait_until(|| watched().lines().count() >= 2);
    let memory_before = collector::memory(&collector, "VmRSS");

    let ends = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < ends {
        cluster.change();
        thread::sleep(TICK);
    }
    cluster.finish();
    let expected = cluster.updates();
    collector::wait_until(|| arrived(&server, "rollout").len() >= expected);
    let peak = collector::memory(&collector, "VmHWM");
    let memory_after = collector::memory(&collector, "VmRSS");
    let cpu = collector::cpu(&collector);
    collector::end(&mut collector, &cluster.folder);

    let calls = fs::read_to_string(cluster.folder.join("calls")).unwrap_or_default();
    let polls = calls.lines().filter(|call| !call.contains("--watch")).count();
    println!("resources         {resources:>8}  whose pods come and go for {seconds} s");
    println!("changes           {:>8}", cluster.version);
    println!("polls             {polls:>8}");
    println!("resident memory   {memory_before} -> {memory_after}, at most {peak}");
    println!("CPU time          {cpu:>8}  ms");
    for warning in collector::warnings(&state) {
        println!("warning: {warning}");
    }
    let mut exit = ExitCode::SUCCESS;
    for kind in ["update", "rollout"] {
        let arrived = arrived(&server, kind);
        let (lost, twice) =
            (expected.abs_diff(arrived.len()), arrived.values().filter(|n| **n > 1).count());
        println!("{kind:<8}          {expected:>8}  lost {lost}, sent twice {twice}");
        if lost + twice > 0 {
            exit = ExitCode::FAILURE;
        }
    }
    exit
}

/// How often each span of this kind arrived.
fn arrived(server: &Server, kind: &str) -> HashMap<String, usize> {
    let mut arrived = HashMap::new();
    for event in server.requests().iter().flat_map(|request| &request.events) {
        if event["data"]["kind"] == kind {
            let span = event["data"]["trace.span_id"].as_str().expect("a span").to_owned();
            *arrived.entry(span).or_default() += 1;
        }
    }
    arrived
}

/// The stages of a deploy, one for each change of a resource.
const STAGES: [&str; 4] = ["ContainerCreating", "CrashLoopBackOff", "Running", "Ready"];

/// The objects that the fake Tilt shows.
struct Cluster {
    folder: PathBuf,
    resources: Vec<Deployment>,
    /// The number of changes so far, and the `resourceVersion` of the last one.
    version: usize,
    pods_written_at: Instant,
}

/// A resource that is deployed again and again.
#[derive(Clone)]
struct Deployment {
    deploys: usize,
    /// An index of [`STAGES`].
    stage: usize,
    crashes: bool,
    updated_at: SystemTime,
    ready_at: SystemTime,
}

impl Cluster {
    fn new(folder: PathBuf, resources: usize) -> Self {
        fs::create_dir(&folder).expect("a folder");
        let now = SystemTime::now() - Duration::from_secs(30);
        let running = Deployment {
            deploys: 1,
            stage: STAGES.len() - 1,
            crashes: false,
            updated_at: now,
            ready_at: now + Duration::from_secs(2),
        };
        let resources = vec![running; resources];
        let cluster = Self { folder, resources, version: 0, pods_written_at: Instant::now() };
        cluster
            .write("uiresources.json", (0..cluster.resources.len()).map(|at| cluster.resource(at)));
        cluster.write("kubernetesdiscoveries.json", cluster.pods());
        let tilt_started_at = time(now - Duration::from_mins(1));
        let session = json!({
            "kind": "UISession",
            "metadata": {"name": "Tiltfile", "uid": "pods"},
            "status": {"tiltStartTime": tilt_started_at},
        });
        cluster.write("uisession.json", [session].into_iter());
        let connected = json!({
            "kind": "Cluster",
            "metadata": {"name": "default"},
            "spec": {"connection": {"kubernetes": {}}},
            "status": {"version": "v1.32.9"},
        });
        cluster.write("clusters.json", [connected].into_iter());
        for kind in ["dockerimages", "cmdimages"] {
            cluster.write(&format!("{kind}.json"), [].into_iter());
        }
        cluster
    }

    /// The number of updates so far. Each has a rollout.
    fn updates(&self) -> usize {
        self.resources.iter().map(|resource| resource.deploys).sum()
    }

    /// Moves the next resource to its next stage.
    fn change(&mut self) {
        self.advance(self.version % self.resources.len());
    }

    /// Lets every resource become ready.
    fn finish(&mut self) {
        for at in 0..self.resources.len() {
            while self.resources[at].stage + 1 < STAGES.len() {
                self.advance(at);
                thread::sleep(TICK / 4);
            }
        }
    }

    fn advance(&mut self, at: usize) {
        self.version += 1;
        let version = self.version;
        let resource = &mut self.resources[at];
        resource.stage = (resource.stage + 1) % STAGES.len();
        if resource.stage == 0 {
            resource.deploys += 1;
            resource.updated_at = SystemTime::now();
            resource.crashes = version.is_multiple_of(4);
        } else if STAGES[resource.stage] == "CrashLoopBackOff" && !resource.crashes {
            resource.stage += 1;
        }
        if STAGES[resource.stage] == "Ready" {
            resource.ready_at = SystemTime::now();
        }
        if self.pods_written_at.elapsed() > Duration::from_secs(1) {
            self.write("kubernetesdiscoveries.json", self.pods());
            self.pods_written_at = Instant::now();
        }
        let journal = self.folder.join("watch-uiresources.jsonl");
        let journal = OpenOptions::new().create(true).append(true).open(journal);
        let line = format!("{}\n", self.resource(at));
        journal.expect("a journal").write_all(line.as_bytes()).expect("the journal is written");
    }

    /// Writes a list in one step, so that no reader sees half of it.
    fn write(&self, name: &str, items: impl Iterator<Item = Value>) {
        let fresh = self.folder.join("fresh");
        let mut file = BufWriter::new(File::create(&fresh).expect("a file"));
        let items: Vec<_> = items.collect();
        serde_json::to_writer(&mut file, &json!({"kind": "List", "items": items})).expect("a list");
        file.flush().expect("the list is written");
        fs::rename(fresh, self.folder.join(name)).expect("a renamed file");
    }

    fn resource(&self, at: usize) -> Value {
        let Deployment { deploys, stage, crashes, updated_at, ready_at } =
            self.resources[at].clone();
        let is_ready = STAGES[stage] == "Ready";
        let pod_status = if is_ready { "Running" } else { STAGES[stage] };
        let build = |number: usize, end: SystemTime| {
            let start = time(end - Duration::from_millis(400));
            json!({"spanID": format!("build:{}", at + number * self.resources.len()),
                "startTime": start, "finishTime": time(end)})
        };
        json!({
            "kind": "UIResource",
            "metadata": {
                "name": format!("resource-{at}"), "uid": format!("uid-{at}"),
                "resourceVersion": (self.version + 1).to_string(),
            },
            "status": {
                "updateStatus": "ok",
                "runtimeStatus": if is_ready { "ok" } else { "pending" },
                "specs": [{"id": format!("k8s:resource-{at}"), "type": "k8s"}],
                "conditions": [
                    {"type": "UpToDate", "status": "True", "lastTransitionTime": time(updated_at)},
                    {"type": "Ready", "status": if is_ready { "True" } else { "False" },
                     "lastTransitionTime": time(if is_ready { ready_at } else { updated_at })},
                ],
                "buildHistory": [build(deploys, updated_at)],
                "k8sResourceInfo": {
                    "displayNames": [format!("resource-{at}:deployment")],
                    "podName": format!("resource-{at}-{deploys}"),
                    "podCreationTime": second(updated_at),
                    "podStatus": pod_status,
                    "podRestarts": u8::from(crashes && stage > 0),
                },
            },
        })
    }

    fn pods(&self) -> impl Iterator<Item = Value> {
        self.resources.iter().enumerate().map(|(at, resource)| {
            let is_ready = STAGES[resource.stage] == "Ready";
            let since = second(if is_ready { resource.ready_at } else { resource.updated_at });
            let condition = |name: &str, holds: bool| {
                json!({"type": name, "status": if holds { "True" } else { "False" },
                    "lastTransitionTime": since})
            };
            json!({
                "kind": "KubernetesDiscovery",
                "metadata": {
                    "name": format!("resource-{at}"),
                    "annotations": {"tilt.dev/resource": format!("resource-{at}")},
                    "managedFields": "x".repeat(SKIPPED_BYTES),
                },
                "status": {"pods": [{
                    "name": format!("resource-{at}-{}", resource.deploys),
                    "createdAt": second(resource.updated_at),
                    "conditions": [condition("PodScheduled", true), condition("Ready", is_ready)],
                    "containers": [{"name": "main", "restarts": 0, "state": {}}],
                }]},
            })
        })
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

/// A time as Kubernetes writes it, in whole seconds.
fn second(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

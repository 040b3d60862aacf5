//! One environment of the fleet: a fake Tilt and its sidecar.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fakes::honeycomb::Server;
use fakes::{crowd, proc, programs};
use serde_json::{Value, json};

use crate::run::Options;

/// The fake Tilts look for changes this often, in milliseconds. More often, they would use the CPU.
const TILT_POLL: &str = "250";
const COLLECTOR: &str = "honeycomb-collector";

/// One environment: a fake Tilt and its sidecar.
pub struct Member {
    pub number: u32,
    pub tilt: PathBuf,
    log: PathBuf,
    /// The program with its settings, for `--flush`.
    settings: Vec<String>,
    pub process: Child,
}

impl Member {
    pub fn start(number: u32, scratch: &Path, server: &Server, options: &Options) -> Self {
        let folder = scratch.join(number.to_string());
        let (tilt, log) = (folder.join("tilt"), folder.join("log"));
        fs::create_dir_all(&tilt).expect("a folder");
        show_environment(&tilt, number, options.resources);
        let text = |path: PathBuf| path.into_os_string().into_string().expect("text");
        let settings = ["--tilt", &text(programs().join("fake-tilt")), "--state-dir"]
            .map(str::to_owned)
            .into_iter()
            .chain([text(folder.join("state"))]);
        let settings: Vec<_> = settings.collect();
        let mut command = program(&settings, server);
        command.arg("--interval").arg(format!("{}s", options.interval.as_secs()));
        command.arg("--field").arg(format!("member={number}"));
        command.env("STAND_IN", &tilt);
        let process = command.stderr(File::create(&log).expect("a file")).spawn();
        Self { number, tilt, log, settings, process: process.expect("the program starts") }
    }

    /// Sends what is queued. Returns true if something was.
    pub fn flush(&self, server: &Server) -> bool {
        let before = server.accepted().len();
        let flushed = program(&self.settings, server).arg("--flush").stderr(Stdio::null()).status();
        assert!(flushed.expect("the program starts").success(), "cannot flush {}", self.number);
        server.accepted().len() > before
    }

    /// The lines of the log that do not describe normal work.
    pub fn warnings(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("a log");
        let is_normal =
            |line: &&str| ["reporting to ", "sent "].iter().any(|start| line.starts_with(start));
        log.lines()
            .filter(|line| !is_normal(line))
            .map(|l| format!("{}: {l}", self.number))
            .collect()
    }

    pub fn show(&self, kind: &str, object: &Value) {
        let journal = self.tilt.join(format!("watch-{kind}.jsonl"));
        let journal = OpenOptions::new().create(true).append(true).open(journal);
        journal.and_then(|mut file| writeln!(file, "{object}")).expect("a journal");
    }
}

fn program(settings: &[String], server: &Server) -> Command {
    let mut command = Command::new(programs().join("tilt-honeycomb"));
    command.env_clear().args(settings).stdin(Stdio::null()).stdout(Stdio::null());
    command
        .env("HONEYCOMB_API_KEY", "fleet")
        .env("HONEYCOMB_DATASET", "fleet")
        .env("HONEYCOMB_API_ENDPOINT", server.url());
    command
}

/// Writes what the fake Tilt shows: a session, the Tiltfile, the collector and the resources, one of
/// which builds an image.
fn show_environment(folder: &Path, number: u32, resources: usize) {
    let mut list = Vec::new();
    crowd::show(resources, 1, &mut list).expect("a list");
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    let items = list["items"].as_array().expect("a list");
    let of_kind = |kind: &str| -> Vec<Value> {
        items.iter().filter(|item| item["kind"] == kind).cloned().collect()
    };
    let mut session = of_kind("UISession").remove(0);
    session["metadata"]["uid"] = json!(format!("session-{number}"));
    let mut rows = of_kind("UIResource");
    let mut collector = rows[0].clone();
    collector["metadata"]["name"] = json!(COLLECTOR);
    collector["status"]["buildHistory"] = json!([]);
    rows.push(collector);
    let write = |name: &str, items: Value| {
        fs::write(folder.join(name), json!({"kind": "List", "items": items}).to_string())
            .expect("a file");
    };
    write("uisession.json", json!([session]));
    write("uiresources.json", json!(rows));
    write("dockerimages.json", json!(of_kind("DockerImage")));
    write("cmdimages.json", json!([]));
    fs::write(folder.join("poll"), TILT_POLL).expect("a file");
}

/// The cost of one sidecar, without the processes that it started.
pub struct Usage {
    pub cpu: Duration,
    pub resident_kib: u64,
    pub peak_kib: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        let kib = |name: &str| proc::status(pid, name).expect("a running process");
        Self {
            cpu: proc::cpu_time(pid).expect("a running process"),
            resident_kib: kib("VmRSS"),
            peak_kib: kib("VmHWM"),
        }
    }
}

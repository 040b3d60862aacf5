//! Measures what one report costs: `scripts/bench` runs it. Each figure is the median of several
//! runs of the whole program; processor time is the user's and the system's together.
//!
//! ```text
//! cost              everything, with the stand-in for Tilt
//! cost --quick      a little of it, to see that it works
//! cost beside TILT  a report against `TILT get` alone, with the Tilt that runs
//! ```
//!
//! What a report costs by itself is what it and the stand-in cost together, less what the stand-in
//! costs when another reads its output.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks")]
#![expect(clippy::disallowed_methods, reason = "it has an environment, and waits for a server")]

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, thread};

use fakes::{crowd, programs};
use wait4::Wait4;

/// What the `get` of a report asks for.
const KINDS: &str = "uisessions,uiresources,dockerimages,cmdimages";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => everything(&[10, 50, 100, 500, 2_000, 10_000], 21),
        ["--quick"] => everything(&[10, 100], 3),
        ["beside", tilt] => beside(tilt, 41),
        _ => {
            eprintln!("usage: cost [--quick] | cost beside TILT");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn everything(sizes: &[usize], runs: usize) {
    let bench = Bench::new();
    let version = median(runs * 5, || finish(bench.program().arg("--version")));
    println!("--version            {}   {}", ms(version.cpu), mb(version.peak));
    println!();
    println!("                       JSON  first report  later report      peak");
    let mut rows = Vec::new();
    for &resources in sizes {
        // The large ones take long, and vary little.
        let runs = if resources > 500 { runs.min(7) } else { runs };
        let row = bench.report(resources, 0, runs);
        println!("{resources:>6} resources   {row}");
        rows.push((resources, row));
    }
    let builds = sizes.last().copied().unwrap_or(0).min(1_000);
    println!("{builds:>6} images      {}", bench.report(0, builds, runs.min(7)));
    println!();
    println!("a later report, per resource");
    for (resources, row) in &rows {
        let each = micros(row.later.cpu) / f64::from(u32::try_from(*resources).unwrap_or(1));
        println!("{resources:>6}  {:>7.1} us  {}", each, bar(each / 4.0));
    }
    println!();
    let waiting = sizes.last().copied().unwrap_or(0).min(10_000);
    let (kept, sent) = bench.queue(waiting, runs.min(7));
    println!("{waiting:>6} events wait; a report of 50 resources that finds no server");
    println!("                          {}  {}", ms(kept.cpu), mb(kept.peak));
    println!("                    their delivery");
    println!("                          {}  {}", ms(sent.cpu), mb(sent.peak));
}

/// The two in turn, so that a busy moment of the machine meets both.
fn beside(tilt: &str, runs: usize) {
    let bench = Bench::new();
    let get = || {
        let mut get = Command::new(tilt);
        get.args(["get", KINDS, "-o", "json"]).env("TILT_DISABLE_ANALYTICS", "1");
        finish(&mut get)
    };
    let report = || {
        let mut report = Command::new(programs().join("tilt-honeycomb"));
        report.args(["--once", "--tilt", tilt, "--state-dir"]).arg(bench.scratch.path());
        finish(with_honeycomb(&mut report, &bench.server.url))
    };
    get();
    report();
    let pairs: Vec<_> = (0..runs).map(|_| (get(), report())).collect();
    let middle = |cost: &dyn Fn(&(Usage, Usage)) -> f64| {
        let mut costs: Vec<_> = pairs.iter().map(cost).collect();
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    println!("tilt get             {:>8.1} ms", middle(&|(get, _)| micros(get.cpu) / 1000.0));
    println!("tilt-honeycomb --once{:>8.1} ms", middle(&|(_, all)| micros(all.cpu) / 1000.0));
    let ratio = middle(&|(get, all)| micros(all.cpu) / micros(get.cpu));
    println!("ratio                {ratio:>8.3}");
}

struct Bench {
    scratch: tempfile::TempDir,
    server: Receiver,
}

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let server = Receiver::start(&scratch.path().join("arrived"), 0);
        Self { scratch, server }
    }

    fn program(&self) -> Command {
        let mut program = Command::new(programs().join("tilt-honeycomb"));
        program.env_clear().env("HOME", self.scratch.path());
        program
    }

    /// A report on what `folder` shows, to `url`.
    fn once(&self, folder: &Path, state: &Path, url: &str) -> Command {
        let mut once = self.program();
        once.env("STAND_IN", folder).args(["--once", "--quiet", "--tilt"]);
        once.arg(programs().join("fake-tilt")).arg("--state-dir").arg(state);
        with_honeycomb(&mut once, url);
        once
    }

    fn folder(&self, resources: usize, images: usize) -> PathBuf {
        let folder = self.scratch.path().join(format!("tilt-{resources}-{images}"));
        fs::create_dir_all(&folder).expect("a folder");
        let file = File::create(folder.join("combined.json")).expect("a file");
        crowd::show(resources, images, BufWriter::new(file)).expect("it is written");
        folder
    }

    fn report(&self, resources: usize, images: usize, runs: usize) -> Row {
        let folder = self.folder(resources, images);
        let json = fs::metadata(folder.join("combined.json")).expect("a file").len();
        let alone = median(runs, || {
            let mut tilt = Command::new(programs().join("fake-tilt"));
            finish(tilt.env_clear().env("STAND_IN", &folder).args(["get", KINDS, "-o", "json"]))
        });
        let state = self.scratch.path().join("state");
        let report = || finish(&mut self.once(&folder, &state, &self.server.url));
        let first = median(runs, || {
            let _ = fs::remove_dir_all(&state);
            report()
        });
        let later = median(runs, report);
        fs::remove_dir_all(&state).expect("a folder");
        Row { json, first: first.less(alone), later: later.less(alone) }
    }

    /// What it costs to add to a long queue, and to deliver it.
    fn queue(&self, waiting: usize, runs: usize) -> (Usage, Usage) {
        let (many, few) = (self.folder(waiting, 0), self.folder(50, 0));
        let [full, state] = ["full", "state"].map(|name| self.scratch.path().join(name));
        // A port where nobody listens yet: what waits, waits for this address.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a port").port();
        let url = format!("http://127.0.0.1:{port}");
        finish(&mut self.once(&many, &full, &url));
        let kept = median(runs, || finish(&mut self.once(&few, &full, &url)));
        let _server = Receiver::start(&self.scratch.path().join("delivered"), port);
        let sent = median(runs, || {
            let _ = fs::remove_dir_all(&state);
            copy(&full, &state);
            let mut flush = self.program();
            flush.args(["--flush", "--timeout", "60s", "--state-dir"]).arg(&state);
            finish(with_honeycomb(&mut flush, &url))
        });
        (kept, sent)
    }
}

/// A server in a process of its own: what this one holds would count as the peak of those that it
/// starts.
struct Receiver {
    url: String,
    process: Child,
}

impl Receiver {
    fn start(arrived: &Path, port: u16) -> Self {
        let process = Command::new(programs().join("fake-honeycomb"))
            .args(["--port", &port.to_string()])
            .stdout(File::create(arrived).expect("a file"))
            .spawn()
            .expect("the stand-in for Honeycomb starts");
        let mut receiver = Self { url: String::new(), process };
        while receiver.url.is_empty() {
            thread::sleep(Duration::from_millis(10));
            let said = fs::read_to_string(arrived).unwrap_or_default();
            if let Some((url, _)) = said.split_once('\n') {
                url.clone_into(&mut receiver.url);
            }
        }
        receiver
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_honeycomb<'a>(command: &'a mut Command, url: &str) -> &'a mut Command {
    command
        .env("HONEYCOMB_API_KEY", "bench")
        .env("HONEYCOMB_DATASET", "bench")
        .env("HONEYCOMB_API_ENDPOINT", url)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// What one run cost.
#[derive(Clone, Copy, Default)]
struct Usage {
    cpu: Duration,
    /// The most memory that it held at a time, in bytes.
    peak: u64,
}

impl Usage {
    fn less(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(other.cpu), ..self }
    }
}

/// What a report costs by itself.
struct Row {
    /// Bytes that Tilt prints.
    json: u64,
    /// With nothing remembered: every build is news.
    first: Usage,
    /// With every build known, as after a minute without one.
    later: Usage,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { json, first, later } = self;
        let peak = first.peak.max(later.peak);
        write!(f, "{}  {}    {}  {}", mb(*json), ms(first.cpu), ms(later.cpu), mb(peak))
    }
}

/// Runs it to its end, reading what it prints. What it waited for itself counts as its own.
fn finish(command: &mut Command) -> Usage {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(1..) = output.read(&mut buffer) {}
    let used = child.wait4().expect("a child of ours").rusage;
    Usage { cpu: used.utime + used.stime, peak: used.maxrss }
}

fn median(runs: usize, run: impl Fn() -> Usage) -> Usage {
    run();
    let runs: Vec<_> = (0..runs).map(|_| run()).collect();
    let (mut cpu, mut peak): (Vec<_>, Vec<_>) = runs.iter().map(|r| (r.cpu, r.peak)).unzip();
    cpu.sort_unstable();
    peak.sort_unstable();
    Usage { cpu: cpu[runs.len() / 2], peak: peak[runs.len() / 2] }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000_000.0
}

fn ms(time: Duration) -> String {
    format!("{:>7.1} ms", micros(time) / 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn mb(bytes: u64) -> String {
    format!("{:>6.1} MB", bytes as f64 / 1_000_000.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a picture")]
fn bar(length: f64) -> String {
    "█".repeat(length.round().clamp(0.0, 60.0) as usize)
}

//! Measures the CPU time and memory of one report. `scripts/bench` runs it. Each figure is the
//! median of several runs of the whole program. CPU time is user plus system time.
//!
//! ```text
//! cost               all measurements, with a fake Tilt
//! cost --quick       a few of them, to check that the tool works
//! cost compare TILT  compares a report with `TILT get`, with the Tilt that is running
//! ```
//!
//! A report's own cost is the cost of the report with the fake Tilt that it starts, minus the cost
//! of that fake Tilt alone.

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

use fakes::{copy_folder, crowd, programs};
use wait4::Wait4;

/// The kinds that a report asks `tilt get` for.
const KINDS: &str = "uisessions,uiresources,dockerimages,cmdimages";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure_all(&[10, 50, 100, 500, 2_000, 10_000], 21),
        ["--quick"] => measure_all(&[10, 100], 3),
        ["compare", tilt] => compare(tilt, 41),
        _ => {
            eprintln!("usage: cost [--quick] | cost compare TILT");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn measure_all(sizes: &[usize], runs: usize) {
    let bench = Bench::new();
    let version = median(runs * 5, || measure(bench.program().arg("--version")));
    println!("--version            {}   {}", ms(version.cpu), mb(version.peak));
    println!();
    println!("                       JSON  first report  later report      peak");
    let mut costs = Vec::new();
    for &resources in sizes {
        // Large sizes take long and vary little, so fewer runs are enough.
        let runs = if resources > 500 { runs.min(7) } else { runs };
        let cost = bench.report(resources, 0, runs);
        println!("{resources:>6} resources   {cost}");
        costs.push((resources, cost));
    }
    let builds = sizes.last().copied().unwrap_or(0).min(1_000);
    println!("{builds:>6} images      {}", bench.report(0, builds, runs.min(7)));
    println!();
    println!("CPU time per resource of a later report");
    for (resources, cost) in &costs {
        let per_resource =
            micros(cost.later.cpu) / f64::from(u32::try_from(*resources).unwrap_or(1));
        println!("{resources:>6}  {:>7.1} us  {}", per_resource, bar(per_resource / 4.0));
    }
    println!();
    let queued = sizes.last().copied().unwrap_or(0).min(10_000);
    let (queueing, sending) = bench.queue(queued, runs.min(7));
    println!("{queued:>6} queued events: a report of 50 resources while the server is down");
    println!("                          {}  {}", ms(queueing.cpu), mb(queueing.peak));
    println!("                    sending the queue");
    println!("                          {}  {}", ms(sending.cpu), mb(sending.peak));
}

/// Runs `tilt get` and a report alternately, so that other load on the machine affects both.
fn compare(tilt: &str, runs: usize) {
    let bench = Bench::new();
    let get = || {
        let mut get = Command::new(tilt);
        get.args(["get", KINDS, "-o", "json"]).env("TILT_DISABLE_ANALYTICS", "1");
        measure(&mut get)
    };
    let report = || {
        let mut report = Command::new(programs().join("tilt-honeycomb"));
        report.args(["--once", "--tilt", tilt, "--state-dir"]).arg(bench.scratch.path());
        measure(with_honeycomb(&mut report, &bench.server.url))
    };
    get();
    report();
    let pairs: Vec<_> = (0..runs).map(|_| (get(), report())).collect();
    let median_of = |cost: &dyn Fn(&(Usage, Usage)) -> f64| {
        let mut costs: Vec<_> = pairs.iter().map(cost).collect();
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    };
    println!("tilt get             {:>8.1} ms", median_of(&|(get, _)| micros(get.cpu) / 1000.0));
    println!("tilt-honeycomb --once{:>8.1} ms", median_of(&|(_, all)| micros(all.cpu) / 1000.0));
    let ratio = median_of(&|(get, all)| micros(all.cpu) / micros(get.cpu));
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

    /// A `--once` report of the fake Tilt in `folder`, sent to `url`.
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
        crowd::show(resources, images, BufWriter::new(file)).expect("the list is written");
        folder
    }

    fn report(&self, resources: usize, images: usize, runs: usize) -> ReportCost {
        let folder = self.folder(resources, images);
        let json = fs::metadata(folder.join("combined.json")).expect("a file").len();
        let tilt_only = median(runs, || {
            let mut tilt = Command::new(programs().join("fake-tilt"));
            measure(tilt.env_clear().env("STAND_IN", &folder).args(["get", KINDS, "-o", "json"]))
        });
        let state = self.scratch.path().join("state");
        let report = || measure(&mut self.once(&folder, &state, &self.server.url));
        let first = median(runs, || {
            let _ = fs::remove_dir_all(&state);
            report()
        });
        let later = median(runs, report);
        fs::remove_dir_all(&state).expect("a folder");
        ReportCost { json, first: first.minus(tilt_only), later: later.minus(tilt_only) }
    }

    /// The cost of adding a report to a long queue, and of sending the queue.
    fn queue(&self, queued: usize, runs: usize) -> (Usage, Usage) {
        let (large, small) = (self.folder(queued, 0), self.folder(50, 0));
        let [queue_state, state] =
            ["queue_state", "state"].map(|name| self.scratch.path().join(name));
        // The server starts on this port later, since queued events belong to one endpoint.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a port").port();
        let url = format!("http://127.0.0.1:{port}");
        measure(&mut self.once(&large, &queue_state, &url));
        let queueing = median(runs, || measure(&mut self.once(&small, &queue_state, &url)));
        let _server = Receiver::start(&self.scratch.path().join("delivered"), port);
        let sending = median(runs, || {
            let _ = fs::remove_dir_all(&state);
            copy_folder(&queue_state, &state);
            let mut flush = self.program();
            flush.args(["--flush", "--timeout", "60s", "--state-dir"]).arg(&state);
            measure(with_honeycomb(&mut flush, &url))
        });
        (queueing, sending)
    }
}

/// A fake Honeycomb in its own process. In this process its memory would count towards the peak of
/// every child, because a child starts as a copy of this process.
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
            .expect("the fake Honeycomb starts");
        let mut receiver = Self { url: String::new(), process };
        while receiver.url.is_empty() {
            thread::sleep(Duration::from_millis(10));
            let printed = fs::read_to_string(arrived).unwrap_or_default();
            if let Some((url, _)) = printed.split_once('\n') {
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

/// The cost of one run.
#[derive(Clone, Copy, Default)]
struct Usage {
    cpu: Duration,
    /// Peak resident memory in bytes.
    peak: u64,
}

impl Usage {
    fn minus(self, other: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(other.cpu), ..self }
    }
}

/// The cost of a report, without the fake Tilt that it starts.
struct ReportCost {
    /// Size of Tilt's output in bytes.
    json: u64,
    /// The first report, which sends every build.
    first: Usage,
    /// A later report in which every build is already known.
    later: Usage,
}

impl fmt::Display for ReportCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { json, first, later } = self;
        let peak = first.peak.max(later.peak);
        write!(f, "{}  {}    {}  {}", mb(*json), ms(first.cpu), ms(later.cpu), mb(peak))
    }
}

/// Runs a command to its end and reads its output. The result includes the children it waited for.
fn measure(command: &mut Command) -> Usage {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(1..) = output.read(&mut buffer) {}
    let used = child.wait4().expect("this process started it").rusage;
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the length of a bar")]
fn bar(length: f64) -> String {
    "█".repeat(length.round().clamp(0.0, 60.0) as usize)
}

//! Makes each system call on the state fail once, and checks what the program promises: nothing is
//! lost, and an event arrives twice only if its response could not be recorded. Each call that a run
//! without faults makes must have failed. `scripts/inject` runs it. It needs `strace` (Linux).
//!
//! ```text
//! inject          every system call with each error
//! inject --quick  every system call with one error
//! ```
//!
//! The files of the state are found by tracing a run without faults, so the tool does not know their
//! names or their format.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]
#![expect(clippy::disallowed_methods, reason = "it has an environment and measures time")]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fmt, fs};

use fakes::honeycomb::{Answer, Reply, Server};
use fakes::{copy_folder, programs};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The system calls of files, folders and locks, except `close`, whose errors std ignores. The first ones
/// are [`CALLS_OF_STATE`].
const CALLS: [&str; 27] = [
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "flock",
    "openat",
    "read",
    "pread64",
    "readv",
    "write",
    "pwrite64",
    "writev",
    "lseek",
    "fcntl",
    "fstat",
    "newfstatat",
    "statx",
    "getdents64",
];
/// How many of `CALLS` only the state makes, so that its files need not be known.
const CALLS_OF_STATE: usize = 14;
const ERRORS: [&str; 4] = ["EIO", "ENOSPC", "EINTR", "EINVAL"];
/// The exit codes of a run with a fault: done, failed, not delivered.
const ALLOWED_EXITS: [Option<i32>; 3] = [Some(0), Some(1), Some(4)];
/// Stops a call that would otherwise be counted without end.
const MAX_OCCURRENCES: u32 = 500;

/// The run in which the fault occurs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scenario {
    /// The first report of all, which creates the state. The names of its files are not known.
    First,
    /// A report while the server is down: it only queues.
    Queue,
    /// A report that sends the queue and a new build.
    Report,
    /// Sends the queue.
    Flush,
}

impl Scenario {
    const ALL: [Self; 4] = [Self::First, Self::Queue, Self::Report, Self::Flush];

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::First | Self::Queue | Self::Report => &["--once"],
            Self::Flush => &["--flush"],
        }
    }

    fn calls(self) -> &'static [&'static str] {
        if self == Self::First { &CALLS[..CALLS_OF_STATE] } else { &CALLS }
    }
}

/// One fault: the n-th such call of a thread on a file of the state.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: &'static str,
    error: &'static str,
    occurrence: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, error, occurrence } = self;
        write!(f, "{error} from {call} number {occurrence}")
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let errors = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => &ERRORS[..],
        ["--quick"] => &ERRORS[..1],
        _ => {
            eprintln!("usage: inject [--quick]");
            return ExitCode::from(2);
        }
    };
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("inject: needs strace; install it");
        return ExitCode::FAILURE;
    }
    // One server for all runs, because the names of the state's files depend on its port.
    let server = Server::start();
    let mut totals = Totals::default();
    for scenario in Scenario::ALL {
        inject_all(scenario, errors, &server, &mut totals);
    }
    println!("{} faults: {} repeated events, all explained", totals.faults, totals.repeated);
    for problem in &totals.problems {
        println!("FAILED: {problem}");
    }
    if totals.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Totals {
    faults: u32,
    repeated: usize,
    problems: Vec<String>,
}

fn inject_all(scenario: Scenario, errors: &[&'static str], server: &Server, totals: &mut Totals) {
    let template = Template::new(scenario, server);
    let files = match scenario {
        Scenario::First => BTreeSet::new(),
        _ => Machine::new(&template).traced_files(),
    };
    let planned = Machine::new(&template).count_calls(&files);
    println!("{scenario:?}: {} files of the state", files.len());
    assert!(!planned.is_empty(), "{scenario:?}: a run without faults makes no call on the state");
    for call in planned.keys().filter(|call| !CALLS.contains(&call.as_str()) && *call != "close") {
        totals.problems.push(format!("{scenario:?}: no {call} fails; add it to the list of calls"));
    }
    for call in scenario.calls() {
        let planned = planned.get(*call).copied().unwrap_or(0);
        let mut counts = Vec::new();
        for error in errors {
            let failed = inject_each(call, error, &template, &files, totals);
            if failed < planned {
                let missed = format!("only {failed} of {planned} calls failed");
                totals.problems.push(format!("{scenario:?}, {error} from {call}: {missed}"));
            }
            counts.push(format!("{error} {failed}"));
        }
        if counts.iter().any(|count| !count.ends_with(" 0")) {
            println!("  {call:<12}{}", counts.join(", "));
        }
    }
}

/// Makes each occurrence of a call fail, in a run of its own. Returns how many there were.
fn inject_each(
    call: &'static str,
    error: &'static str,
    template: &Template<'_>,
    files: &BTreeSet<PathBuf>,
    totals: &mut Totals,
) -> u32 {
    let mut failed = 0;
    for occurrence in 1..MAX_OCCURRENCES {
        let fault = Fault { call, error, occurrence };
        match Machine::new(template).inject(fault, files) {
            Ok(None) => break,
            Ok(Some(repeated)) => totals.repeated += repeated,
            Err(problem) => {
                totals.problems.push(format!("{:?}, {fault}: {problem}", template.scenario));
            }
        }
        failed += 1;
    }
    totals.faults += failed;
    failed
}

/// The state before the fault. Every run starts with a copy of it, so the names of its files stay the
/// same.
struct Template<'a> {
    scratch: TempDir,
    server: &'a Server,
    scenario: Scenario,
    /// Events that are queued in it.
    queued: Vec<Value>,
}

impl<'a> Template<'a> {
    fn new(scenario: Scenario, server: &'a Server) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(scratch.path().join("state")).expect("a folder");
        let mut template = Self { scratch, server, scenario, queued: Vec::new() };
        if scenario != Scenario::First {
            let machine = Machine::new(&template);
            machine.show_builds(3);
            machine.refuse();
            run(&mut machine.program(&["--once"]), "a report that queues", Some(4));
            let queued = server.requests().pop().expect("a request").events;
            copy_folder(&machine.state(), &template.state());
            template.queued = queued;
        }
        template
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }
}

/// A folder with a fake Tilt and a state, and a fake Honeycomb.
struct Machine<'a> {
    scratch: TempDir,
    template: &'a Template<'a>,
}

impl<'a> Machine<'a> {
    /// A machine with a copy of the state and a new build.
    fn new(template: &'a Template<'a>) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(scratch.path().join("tilt")).expect("a folder");
        let machine = Self { scratch, template };
        if template.scenario != Scenario::First {
            copy_folder(&template.state(), &machine.state());
        }
        machine.show_builds(4);
        template.server.forget_requests();
        match template.scenario {
            Scenario::Queue => machine.refuse(),
            _ => drop(template.server.usually(Answer::Accept)),
        }
        machine
    }

    /// Makes the server refuse events. The `Retry-After` is longer than any delivery waits.
    fn refuse(&self) {
        self.template.server.usually(Reply::new(503, "").header("retry-after", 600));
    }

    /// Makes the fake Tilt show this many updates, one per resource.
    fn show_builds(&self, count: usize) {
        let resource = |number: usize| {
            let update = json!({
                "spanID": format!("build:{number}"),
                "startTime": format!("2026-11-22T17:00:{number:02}.000001Z"),
                "finishTime": format!("2026-11-22T17:00:{number:02}.500000Z"),
            });
            json!({
                "kind": "UIResource",
                "metadata": {"name": format!("r{number}")},
                "status": {
                    "buildHistory": [update],
                    "runtimeStatus": "not_applicable",
                    "specs": [{"id": format!("local:r{number}"), "type": "local"}],
                    "updateStatus": "ok",
                },
            })
        };
        let session = json!({
            "kind": "UISession",
            "metadata": {"name": "Tiltfile", "uid": "5701a5701a"},
            "status": {
                "runningTiltBuild": {"version": "0.37.6"},
                "tiltStartTime": "2026-11-22T17:00:00.000000Z",
                "tiltfileKey": "/src/Tiltfile",
            },
        });
        let lists = [
            ("uisession", vec![session]),
            ("uiresources", (0..count).map(resource).collect()),
            ("dockerimages", Vec::new()),
            ("cmdimages", Vec::new()),
        ];
        for (kind, items) in lists {
            let list = json!({"kind": "List", "items": items}).to_string();
            fs::write(self.scratch.path().join(format!("tilt/{kind}.json")), list).expect("a file");
        }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// The program with these options.
    fn program(&self, options: &[&str]) -> Command {
        self.prepared(Command::new(programs().join("tilt-honeycomb")), options)
    }

    fn prepared(&self, mut command: Command, options: &[&str]) -> Command {
        command
            .args(options)
            .args(["--timeout", "30s"])
            .args(["--tilt".as_ref(), programs().join("fake-tilt").as_os_str()])
            .args(["--state-dir".as_ref(), self.state().as_os_str()])
            .env("STAND_IN", self.scratch.path().join("tilt"))
            .env("HONEYCOMB_API_KEY", "a-key-that-nobody-checks")
            .env("HONEYCOMB_DATASET", "inject")
            .env("HONEYCOMB_API_ENDPOINT", self.template.server.url())
            .env_remove("DO_NOT_TRACK")
            .stdin(Stdio::null());
        command
    }

    /// The program of the scenario under strace, which writes to the file `trace`.
    fn traced(&self, strace_options: &[String]) -> Command {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-ttt", "-y", "-o"]).arg(self.scratch.path().join("trace"));
        strace.args(strace_options).arg("--").arg(programs().join("tilt-honeycomb"));
        self.prepared(strace, self.template.scenario.options())
    }

    fn trace(&self) -> String {
        fs::read_to_string(self.scratch.path().join("trace")).expect("a trace")
    }

    /// The files and folders of the state that a run without faults uses, below the state folder.
    fn traced_files(&self) -> BTreeSet<PathBuf> {
        let calls = format!("trace=?{}", CALLS.join(",?"));
        run(&mut self.traced(&["-e".to_owned(), calls]), "a traced run", None);
        let state = self.state();
        let trace = self.trace();
        let quoted = trace.split(['"', '<', '>']);
        let files = quoted.filter_map(|text| Path::new(text).strip_prefix(&state).ok());
        files.map(Path::to_owned).collect()
    }

    /// How often a run without faults makes each call on these files. strace counts the calls of each
    /// thread by themselves, so these are those of the thread that makes the most.
    fn count_calls(&self, files: &BTreeSet<PathBuf>) -> HashMap<String, u32> {
        let mut options = self.only(files);
        if files.is_empty() {
            let calls = self.template.scenario.calls().join(",?");
            options.extend(["-e".to_owned(), format!("trace=?{calls}")]);
        }
        run(&mut self.traced(&options), "a traced run", None);
        let mut by_thread = HashMap::<_, u32>::new();
        let trace = self.trace();
        for made in trace.lines().filter_map(thread_and_call) {
            *by_thread.entry(made).or_default() += 1;
        }
        let mut most = HashMap::new();
        for ((_, call), count) in by_thread {
            let known = most.entry(call.to_owned()).or_default();
            *known = count.max(*known);
        }
        most
    }

    /// Options that limit strace to calls on these files of the state. Returns none if there are no files.
    fn only(&self, files: &BTreeSet<PathBuf>) -> Vec<String> {
        let path = |file| self.state().join(file).display().to_string();
        files.iter().flat_map(|file| ["-P".to_owned(), path(file)]).collect()
    }

    /// Runs the scenario with a fault, and then without until everything must have arrived. Returns
    /// how many events arrived again, or `None` if the fault did not occur.
    fn inject(&self, fault: Fault, files: &BTreeSet<PathBuf>) -> Result<Option<usize>, String> {
        let Fault { call, error, occurrence, .. } = fault;
        let mut options = self.only(files);
        options.extend([
            "-e".to_owned(),
            format!("trace=?{call}"),
            "-e".to_owned(),
            format!("inject=?{call}:error={error}:when={occurrence}"),
        ]);
        let clock = Clock::now();
        let output = self.traced(&options).output().expect("strace runs");
        let trace = self.trace();
        let Some(failed_at) = trace.lines().rev().find_map(|line| clock.of_injected(line)) else {
            return Ok(None);
        };
        check_exit(&output, &ALLOWED_EXITS)?;
        let already = self.template.server.requests().len();
        self.template.server.usually(Answer::Accept);
        let clean = self.program(&["--once"]).output().expect("the program runs");
        check_exit(&clean, &[Some(0)])?;
        self.check_arrivals(already, failed_at).map(Some)
    }

    /// Checks that everything has arrived, and returns how many events arrived again.
    fn check_arrivals(&self, already: usize, failed_at: Instant) -> Result<usize, String> {
        let mut times = HashMap::<String, usize>::new();
        for event in self.template.server.accepted() {
            *times.entry(event.to_string()).or_default() += 1;
        }
        let lost =
            self.template.queued.iter().find(|event| !times.contains_key(&event.to_string()));
        if let Some(lost) = lost {
            return Err(format!("lost: {lost}"));
        }
        let builds = times.keys().filter(|event| event.contains("\"kind\":\"update\"")).count();
        if builds != 4 {
            return Err(format!("{builds} of 4 builds arrived"));
        }
        // The fault may have kept the program from recording the responses to these events.
        let requests = self.template.server.requests();
        let unrecorded = requests[..already].iter().filter(|request| request.came < failed_at);
        let unrecorded: BTreeSet<_> =
            unrecorded.flat_map(|request| &request.events).map(Value::to_string).collect();
        let mut repeated = 0;
        for (event, times) in times {
            if times > 1 + usize::from(unrecorded.contains(&event)) {
                return Err(format!("arrived {times} times: {event}"));
            }
            repeated += times - 1;
        }
        Ok(repeated)
    }
}

/// The thread and the call of a line of a trace: "PID SECONDS CALL(...)". A line without a pid starts
/// with the seconds.
fn thread_and_call(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let thread = if first.contains('.') { "" } else { first };
    let call = words.find(|word| word.contains('('))?.split_once('(')?.0;
    // The rest of an interrupted call has no name.
    (!call.is_empty()).then_some((thread, call))
}

/// Runs a command that must end with this exit code, if it is given.
fn run(command: &mut Command, what: &str, code: Option<i32>) {
    let output = command.output().expect("it starts");
    let is_right = code.is_none_or(|code| output.status.code() == Some(code));
    assert!(is_right, "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

fn check_exit(output: &Output, allowed: &[Option<i32>]) -> Result<(), String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !allowed.contains(&output.status.code()) || stderr.contains("panicked") {
        return Err(format!("{}: {stderr}", output.status));
    }
    Ok(())
}

/// Relates the wall clock of strace to that of this process.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    since_epoch: Duration,
}

impl Clock {
    fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Self { instant: Instant::now(), since_epoch }
    }

    /// When the call of this line of a trace failed. `None` if it did not.
    fn of_injected(self, line: &str) -> Option<Instant> {
        if !line.contains("(INJECTED)") {
            return None;
        }
        let seconds = line.split_whitespace().find(|word| word.contains('.'))?;
        let at = Duration::from_secs_f64(seconds.parse().ok()?);
        Some(self.instant + at.saturating_sub(self.since_epoch))
    }
}

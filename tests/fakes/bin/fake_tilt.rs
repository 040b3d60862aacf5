//! A stand-in for `tilt get`, and `tilt version`: it answers from the folder that the variable `STAND_IN` names, and
//! misbehaves on demand. Its words and its exit status are those of Tilt 0.37.6.
//!
//! What Tilt shows:
//!
//! | file | |
//! |---|---|
//! | `uisession.json`, `uiresources.json`, `dockerimages.json`, `cmdimages.json` | what a `get` of that kind prints; without its file a kind is unknown |
//! | `sessions.json` | likewise; under `tilt ci` it says how the run ended |
//! | `combined.json` | what a `get` of a comma list prints; otherwise the list is put together |
//! | `watch-KIND.jsonl` | newer versions of objects, one a line; lines may be added at any time; replaced by another file, watches read on there |
//! | `replay-speed` | a number: `watch-KIND.jsonl` happens at the pace of its own times, so much faster |
//! | `replay-held` | the replay has yet to begin, for who began to watch meanwhile |
//! | `end` | watches end, as they do when Tilt ends |
//!
//! How it fails:
//!
//! | file | |
//! |---|---|
//! | `no-tilt`, `stale` | no Tilt on this port; a Tilt that was killed |
//! | `single-kinds-only` | it takes no comma lists |
//! | `no-watch` | it knows no `--watch`, or not for the kind that this names |
//! | `no-version` | it does not say its version |
//! | `stdout`, `stderr`, `exit` | it prints exactly this, and exits with this |
//! | `flood`, `noise` | it prints a list, or what is none, of so many megabytes |
//! | `sleep`, `hang` | it takes so many milliseconds, or until the file is gone |
//! | `ignore-signals` | only SIGKILL ends it |
//! | `leave-process` | a process that it started lives on and holds its output; `apart`: in a process group of its own |
//! | `read-stdin` | it reads its stdin to the end first |
//!
//! Each call adds a JSON line to `calls`, and each watch, once it has shown the list, its kind to
//! `watched`. The folder is written to: point at a copy. Whatever still runs when the folder is
//! removed ends.

#![expect(clippy::print_stderr, reason = "a command line talks")]
#![expect(clippy::disallowed_methods, reason = "it has an environment and a clock, and polls")]

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

const POLL: Duration = Duration::from_millis(3);
const HANGING_POLL: Duration = Duration::from_millis(500);
/// The argument that makes this program the process that is left behind.
const LEFT_BEHIND: &str = "--left-behind";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let folder = env::var_os("STAND_IN").expect("STAND_IN names the folder to answer from");
    let folder = Folder(folder.into());
    if arguments.first().is_some_and(|argument| argument == LEFT_BEHIND) {
        folder.outlast();
    }
    folder.note_call(&arguments);
    folder.misbehave();
    match run(&folder, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Err(Failure::Scripted(code)) => code.into(),
        // Whoever read the output has seen enough.
        Err(Failure::Closed) => ExitCode::FAILURE,
    }
}

enum Failure {
    Said(String),
    Scripted(u8),
    Closed,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

fn said<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Said(text.into()))
}

fn run(folder: &Folder, arguments: &[String]) -> Result<(), Failure> {
    if arguments == ["version"] {
        if folder.has("no-version") {
            return said("Error: unknown command \"version\" for \"tilt\"");
        }
        return Ok(println_to_stdout("v0.37.6, built 2026-07-01")?);
    }
    let get = Get::parse(arguments)?;
    if folder.has("no-tilt") {
        return said(format!("Error: No tilt apiserver found: tilt-{}", get.api_server()));
    }
    if folder.has("stale") {
        print(&list(&[]))?;
        return said(
            "The connection to the server 127.0.0.1:43931 was refused - did you specify the right \
             host or port?",
        );
    }
    if folder.has("stdout") || folder.has("stderr") || folder.has("exit") {
        return folder.recite();
    }
    if let Some(megabytes) = folder.number("flood") {
        return flood(folder, megabytes);
    }
    if let Some(megabytes) = folder.number("noise") {
        return noise(megabytes);
    }
    match (get.watch, &get.kinds[..]) {
        (true, [kind]) if folder.can_watch(kind) => watch(folder, kind),
        (true, [_]) => said("Error: unknown flag: --watch"),
        (true, _) => said("error: you may only specify a single resource type"),
        (false, [kind]) => get_one(folder, kind),
        (false, kinds) => get_several(folder, kinds),
    }
}

/// `get KIND[,KIND] -o json [--watch] [--port N]`
struct Get {
    kinds: Vec<String>,
    watch: bool,
    port: Option<String>,
}

impl Get {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut get = Self { kinds: Vec::new(), watch: false, port: env::var("TILT_PORT").ok() };
        let mut arguments = arguments.iter().map(String::as_str);
        if arguments.next() != Some("get") {
            return said("Error: this stand-in knows only get");
        }
        while let Some(argument) = arguments.next() {
            match argument {
                "--watch" | "-w" => get.watch = true,
                "--port" => get.port = arguments.next().map(str::to_owned),
                "-o" if arguments.next() == Some("json") => {}
                "-o" => return said("error: this stand-in prints only JSON"),
                flag if flag.starts_with('-') => {
                    println_to_stdout(&format!("unknown flag: {flag}"))?;
                    return said(format!(
                        "Error: unknown flag: {flag}\nUsage:\n  tilt get [flags]"
                    ));
                }
                kinds => get.kinds = kinds.split(',').map(plural).collect(),
            }
        }
        Ok(get)
    }

    /// How Tilt's configuration names a server.
    fn api_server(&self) -> &str {
        match self.port.as_deref() {
            None | Some("" | "10350") => "default",
            Some(port) => port,
        }
    }
}

/// The one spelling that files have; Tilt takes both.
fn plural(kind: &str) -> String {
    match kind {
        "uisession" | "uisessions" => "uisession".to_owned(),
        "uiresource" | "dockerimage" | "cmdimage" => format!("{kind}s"),
        kind => kind.to_owned(),
    }
}

fn get_one(folder: &Folder, kind: &str) -> Result<(), Failure> {
    match folder.objects(kind)? {
        Objects::AsTheyStand(text) => Ok(io::stdout().write_all(&text)?),
        Objects::Changed(objects) => Ok(print(&list(&objects))?),
    }
}

fn get_several(folder: &Folder, kinds: &[String]) -> Result<(), Failure> {
    if folder.has("single-kinds-only") {
        return unknown(&kinds.join(","));
    }
    if let Ok(text) = fs::read(folder.path("combined.json")) {
        return Ok(io::stdout().write_all(&text)?);
    }
    let mut objects = Vec::new();
    for kind in kinds {
        objects.extend(folder.objects(kind)?.parsed());
    }
    Ok(print(&list(&objects))?)
}

/// The current objects twice, then each change, until Tilt ends.
fn watch(folder: &Folder, kind: &str) -> Result<(), Failure> {
    let mut journal = Journal::open(folder, kind);
    let objects = folder.objects_with(kind, &mut journal)?.parsed();
    for object in objects.iter().chain(&objects) {
        print(object)?;
    }
    folder.note("watched", kind);
    loop {
        for object in journal.due() {
            print(&object)?;
        }
        if folder.has("end") || !folder.0.exists() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
}

fn unknown<T>(kind: &str) -> Result<T, Failure> {
    said(format!("error: the server doesn't have a resource type \"{kind}\""))
}

fn noise(megabytes: u64) -> Result<(), Failure> {
    let megabyte = b"a line of a log\n".repeat(64 * 1024);
    (0..megabytes).try_for_each(|_| Ok(io::stdout().write_all(&megabyte)?))
}

/// A list that goes on and on.
fn flood(folder: &Folder, megabytes: u64) -> Result<(), Failure> {
    let objects = folder.objects("uiresources")?.parsed();
    let mut object = pretty(objects.first().expect("a resource was recorded"))?;
    object.push(b',');
    let megabyte = object.repeat((1024 * 1024) / object.len() + 1);
    let mut stdout = io::stdout().lock();
    stdout.write_all(b"{\"items\": [\n")?;
    for _ in 0..megabytes {
        stdout.write_all(&megabyte)?;
    }
    Ok(())
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// As Tilt prints: four spaces deep.
fn pretty(value: &Value) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, pretty))?;
    Ok(text)
}

/// In one piece.
fn print(value: &Value) -> io::Result<()> {
    let mut text = pretty(value)?;
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}

fn println_to_stdout(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

struct Folder(PathBuf);

/// What Tilt shows of a kind.
enum Objects {
    /// The file's own bytes.
    AsTheyStand(Vec<u8>),
    Changed(Vec<Value>),
}

impl Objects {
    fn parsed(self) -> Vec<Value> {
        match self {
            Self::AsTheyStand(text) => items(&text),
            Self::Changed(objects) => objects,
        }
    }
}

fn items(text: &[u8]) -> Vec<Value> {
    let mut list: Value = serde_json::from_slice(text).expect("a recorded answer is JSON");
    match list["items"].take() {
        Value::Array(items) => items,
        _ => vec![list],
    }
}

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn can_watch(&self, kind: &str) -> bool {
        let cannot = fs::read_to_string(self.path("no-watch"));
        !cannot.is_ok_and(|kinds| kinds.is_empty() || kinds == kind)
    }

    /// For ever, as far as anyone who looks can tell.
    fn outlast(&self) -> ! {
        while self.0.exists() {
            thread::sleep(HANGING_POLL);
        }
        process::exit(1);
    }

    fn number(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        Some(text.trim().parse().expect("a number"))
    }

    fn note_call(&self, arguments: &[String]) {
        let variable = |name| env::var(name).ok();
        let call = json!({
            "arguments": arguments,
            "pid": process::id(),
            "TILT_PORT": variable("TILT_PORT"),
            "TILT_HOST": variable("TILT_HOST"),
            "TILT_DISABLE_ANALYTICS": variable("TILT_DISABLE_ANALYTICS"),
        });
        self.note("calls", &call.to_string());
    }

    fn note(&self, name: &str, line: &str) {
        let notes = OpenOptions::new().create(true).append(true).open(self.path(name));
        // One write, so that calls side by side do not mix. On a full disk Tilt answers still.
        let _ = notes.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }

    fn misbehave(&self) {
        if self.has("ignore-signals") {
            ignore_signals();
        }
        if self.has("read-stdin") {
            io::stdin().read_to_end(&mut Vec::new()).expect("stdin can be read");
        }
        if self.has("leave-process") {
            let mut command = Command::new(env::current_exe().expect("a path"));
            command.arg(LEFT_BEHIND).stdin(Stdio::null());
            #[cfg(unix)]
            if fs::read(self.path("leave-process")).is_ok_and(|how| how == b"apart") {
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
            }
            #[expect(clippy::zombie_processes, reason = "to outlive this one is its purpose")]
            let left = command.spawn().expect("a second process starts");
            fs::write(self.path("left-process"), left.id().to_string()).expect("a file");
        }
        if let Some(milliseconds) = self.number("sleep") {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        if self.has("hang") {
            self.outlast();
        }
    }

    /// Prints what the files `stdout` and `stderr` hold.
    fn recite(&self) -> Result<(), Failure> {
        let scripted = |name| fs::read(self.path(name)).unwrap_or_default();
        io::stdout().write_all(&scripted("stdout"))?;
        io::stderr().write_all(&scripted("stderr"))?;
        match self.number("exit") {
            None | Some(0) => Ok(()),
            Some(code) => Err(Failure::Scripted(u8::try_from(code).expect("an exit code"))),
        }
    }

    fn objects(&self, kind: &str) -> Result<Objects, Failure> {
        self.objects_with(kind, &mut Journal::open(self, kind))
    }

    fn objects_with(&self, kind: &str, journal: &mut Journal) -> Result<Objects, Failure> {
        // In this order: whoever replaces both writes the list first.
        let changes = journal.due();
        let recorded = fs::read(self.path(&format!("{kind}.json"))).ok();
        match recorded {
            None if !journal.exists() => unknown(kind),
            Some(text) if changes.is_empty() => Ok(Objects::AsTheyStand(text)),
            recorded => {
                let mut objects = recorded.map(|text| items(&text)).unwrap_or_default();
                for changed in changes {
                    let name = &changed["metadata"]["name"];
                    match objects.iter_mut().find(|object| object["metadata"]["name"] == *name) {
                        Some(object) => *object = changed,
                        None => objects.push(changed),
                    }
                }
                Ok(Objects::Changed(objects))
            }
        }
    }
}

/// `watch-KIND.jsonl`, as far as it has happened.
struct Journal {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The start of a line that is still being written.
    unfinished: String,
    /// Read, but yet to happen; only in a replay.
    ahead: VecDeque<(SystemTime, Value)>,
    replay: Option<Replay>,
    latest: SystemTime,
}

impl Journal {
    fn open(folder: &Folder, kind: &str) -> Self {
        Self {
            path: folder.path(&format!("watch-{kind}.jsonl")),
            file: None,
            unfinished: String::new(),
            ahead: VecDeque::new(),
            replay: Replay::of(folder),
            latest: UNIX_EPOCH,
        }
    }

    fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// What has happened since the last call.
    fn due(&mut self) -> Vec<Value> {
        self.read_on();
        let mut due = Vec::new();
        while let Some((at, object)) = self.ahead.pop_front() {
            if self.replay.as_mut().is_some_and(|replay| !replay.has_reached(at)) {
                self.ahead.push_front((at, object));
                break;
            }
            due.push(object);
        }
        due
    }

    fn read_on(&mut self) {
        let was_replaced = self.was_replaced();
        self.read_lines();
        if was_replaced || self.file.is_none() {
            self.file = File::open(&self.path).ok().map(BufReader::new);
            self.read_lines();
        }
    }

    #[cfg(unix)]
    fn was_replaced(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let open = self.file.as_ref().and_then(|file| file.get_ref().metadata().ok());
        let named = fs::metadata(&self.path).ok();
        open.zip(named).is_some_and(|(open, named)| open.ino() != named.ino())
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "elsewhere it is used")]
    fn was_replaced(&self) -> bool {
        false
    }

    fn read_lines(&mut self) {
        let Some(file) = &mut self.file else { return };
        while file.read_line(&mut self.unfinished).is_ok_and(|length| length > 0) {
            if !self.unfinished.ends_with('\n') {
                return;
            }
            let object = serde_json::from_str(&self.unfinished).expect("an object a line");
            self.unfinished.clear();
            // Lines stay in order even where an object's own times do not move.
            self.latest = self.latest.max(latest_time(&object));
            self.ahead.push_back((self.latest, object));
        }
    }
}

/// The pace of recorded lines: all calls on one folder share it, as they share one Tilt.
struct Replay {
    folder: PathBuf,
    speed: f64,
    /// Unless it is held.
    started: Option<SystemTime>,
    /// The recorded moment at which the replay starts.
    origin: SystemTime,
}

impl Replay {
    fn of(folder: &Folder) -> Option<Self> {
        let speed = fs::read_to_string(folder.path("replay-speed")).ok()?;
        let speed = speed.trim().parse().expect("a number");
        let journals = fs::read_dir(&folder.0).expect("a folder");
        let origin = journals
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .map(|path| time_of_first_list(&path))
            .max()?;
        Some(Self { folder: folder.0.clone(), speed, started: None, origin })
    }

    fn has_reached(&mut self, recorded: SystemTime) -> bool {
        let folder = Folder(self.folder.clone());
        if self.started.is_none() && !folder.has("replay-held") {
            self.started = Some(replay_start(&folder));
        }
        let since_origin = recorded.duration_since(self.origin).unwrap_or_default();
        let started = self.started.and_then(|at| SystemTime::now().duration_since(at).ok());
        let since_start = started.unwrap_or_default();
        since_origin.as_secs_f64() <= since_start.as_secs_f64() * self.speed
    }
}

/// The first call of all decides.
fn replay_start(folder: &Folder) -> SystemTime {
    let path = folder.path("replay-start");
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let own = folder.path(&format!("replay-start-{}", process::id()));
    fs::write(&own, now).expect("the folder can be written to");
    // Fails for all but the first, and they read what the first wrote.
    let _ = fs::hard_link(&own, &path);
    let _ = fs::remove_file(&own);
    let started = fs::read_to_string(&path).expect("the start of the replay");
    humantime::parse_rfc3339(&started).expect("a time")
}

/// A watch begins with a list, every name once, of what had happened before.
fn time_of_first_list(path: &Path) -> SystemTime {
    let text = fs::read_to_string(path).expect("a recorded watch");
    let mut names = Vec::new();
    let mut latest = UNIX_EPOCH;
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).expect("an object a line");
        let name = object["metadata"]["name"].clone();
        if names.contains(&name) {
            break;
        }
        names.push(name);
        latest = latest.max(latest_time(&object));
    }
    latest
}

/// The latest of all times that an object's status holds: about when it was printed.
fn latest_time(object: &Value) -> SystemTime {
    fn latest(value: &Value) -> SystemTime {
        match value {
            Value::String(text) => humantime::parse_rfc3339(text).unwrap_or(UNIX_EPOCH),
            Value::Array(values) => values.iter().map(latest).max().unwrap_or(UNIX_EPOCH),
            Value::Object(fields) => fields.values().map(latest).max().unwrap_or(UNIX_EPOCH),
            _ => UNIX_EPOCH,
        }
    }
    latest(&object["status"])
}

#[cfg(unix)]
fn ignore_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        let noted = std::sync::Arc::default();
        signal_hook::flag::register(signal, noted).expect("a signal that can be caught");
    }
}

#[cfg(not(unix))]
fn ignore_signals() {}

//! A fake `tilt` with the subcommands `get`, `apply`, `delete` and `version`. It answers from the folder in the
//! variable `STAND_IN` and can fail in many ways. Its messages and exit codes are those of Tilt 0.37.6.
//!
//! Files with the objects of Tilt:
//!
//! | file | |
//! |---|---|
//! | `uisession.json`, `uiresources.json`, `dockerimages.json`, `cmdimages.json` | the output of `get` for that kind; a kind without a file is unknown |
//! | `uibutton` | the button that was applied last and not deleted |
//! | `serve-args` | the arguments of each resource's `serve_cmd`, as JSON by name |
//! | `sessions.json` | the output of `get sessions`; under `tilt ci` it says how the run ended |
//! | `combined.json` | the output of `get` for several kinds; without it the output is built from the files of the kinds |
//! | `watch-KIND.jsonl` | newer versions of objects, one per line; tests may append lines, or replace the file, which watches then read from its start |
//! | `replay-speed` | a number: replays `watch-KIND.jsonl` by its recorded times, this many times as fast |
//! | `replay-held` | holds the replay until the file is removed; watches can start meanwhile |
//! | `poll` | watches look for changes only every this many milliseconds |
//! | `end` | watches end, as they do when Tilt exits |
//!
//! Files that cause failures:
//!
//! | file | |
//! |---|---|
//! | `no-tilt`, `stale` | no Tilt on this port; a Tilt that was killed and left its config entry |
//! | `single-kinds-only` | rejects several kinds in one `get` |
//! | `no-watch` | rejects `--watch`; only for the kind that the file names, if it names one |
//! | `no-version` | rejects `version` |
//! | `stdout`, `stderr`, `exit` | prints exactly this, and exits with this code |
//! | `flood`, `noise` | prints a list, or text that is not a list, of this many megabytes |
//! | `sleep`, `hang` | waits this many milliseconds, or until the folder is removed |
//! | `ignore-signals` | ignores SIGTERM, SIGINT and SIGHUP |
//! | `leave-process` | leaves a child that holds its output open; `apart`: in its own process group |
//! | `read-stdin` | first reads its stdin to the end |
//!
//! Each call appends a JSON line to `calls`. Each watch appends its kind to `watched` after it has
//! printed its list. Use a copy of a recorded folder, since these files are written to it. Every
//! process of the fake Tilt ends when the folder is removed.

#![expect(clippy::print_stderr, reason = "a command-line tool prints")]
#![expect(clippy::disallowed_methods, reason = "it reads its environment and the clock, and polls")]

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
#[cfg(windows)]
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

const POLL: Duration = Duration::from_millis(3);
const HANG_POLL: Duration = Duration::from_millis(500);
/// The argument that makes this program the child that outlives its parent.
const ORPHAN: &str = "--orphan";
/// The argument that makes this program the parent of the command in the other arguments.
const PARENT: &str = "--parent";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some((PARENT, command)) = arguments.split_first().map(|(first, rest)| (&**first, rest)) {
        return start_and_exit_with_stdin(command);
    }
    let folder = env::var_os("STAND_IN").expect("STAND_IN names the folder with the answers");
    let folder = Folder(folder.into());
    if arguments.first().is_some_and(|argument| argument == ORPHAN) {
        folder.run_until_removed();
    }
    folder.log_call(&arguments);
    folder.misbehave();
    match run(&folder, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Message(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Err(Failure::Scripted(code)) => code.into(),
        // The reader has closed the pipe. That needs no message.
        Err(Failure::OutputClosed) => ExitCode::FAILURE,
    }
}

/// Starts the command, and exits before it when stdin is closed.
fn start_and_exit_with_stdin(command: &[String]) -> ExitCode {
    #[expect(clippy::zombie_processes, reason = "the child must outlive this process")]
    let _child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .spawn()
        .expect("the command starts");
    io::stdin().read_to_end(&mut Vec::new()).expect("stdin can be read");
    ExitCode::SUCCESS
}

/// Why the program exits with an error.
enum Failure {
    /// Prints this message to stderr and exits with 1.
    Message(String),
    /// Exits with the code in the file `exit`.
    Scripted(u8),
    /// The reader has closed the output.
    OutputClosed,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::OutputClosed
    }
}

fn fail<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Message(text.into()))
}

fn run(folder: &Folder, arguments: &[String]) -> Result<(), Failure> {
    if arguments == ["version"] {
        if folder.has("no-version") {
            return fail("Error: unknown command \"version\" for \"tilt\"");
        }
        return Ok(println_to_stdout("v0.37.6, built 2026-07-01")?);
    }
    if let [verb @ ("apply" | "delete"), object, name, ..] =
        &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        folder.change_button(verb, object, name);
        return Ok(());
    }
    let get = Get::parse(arguments)?;
    if folder.has("no-tilt") {
        return fail(format!("Error: No tilt apiserver found: tilt-{}", get.api_server()));
    }
    if folder.has("stale") {
        print(&list(&[]))?;
        return fail(
            "The connection to the server 127.0.0.1:43931 was refused - did you specify the right \
             host or port?",
        );
    }
    if folder.has("stdout") || folder.has("stderr") || folder.has("exit") {
        return folder.print_scripted();
    }
    if let Some(megabytes) = folder.number("flood") {
        return flood(folder, megabytes);
    }
    if let Some(megabytes) = folder.number("noise") {
        return noise(megabytes);
    }
    if let Some(resource) = get.served {
        let arguments = fs::read(folder.path("serve-args")).unwrap_or_else(|_| b"{}".to_vec());
        let arguments: Value = serde_json::from_slice(&arguments).expect("a JSON object");
        return Ok(arguments.get(resource).map_or(Ok(()), print)?);
    }
    match (get.watch, &get.kinds[..]) {
        (true, [kind]) if folder.can_watch(kind) => watch(folder, kind),
        (true, [_]) => fail("Error: unknown flag: --watch"),
        (true, _) => fail("error: you may only specify a single resource type"),
        (false, [kind]) => get_one(folder, kind),
        (false, kinds) => get_several(folder, kinds),
    }
}

/// The arguments of `get KIND[,KIND] -o json [--watch] [--port N]`.
struct Get {
    kinds: Vec<String>,
    watch: bool,
    port: Option<String>,
    /// The resource whose `serve_cmd` is asked for.
    served: Option<String>,
}

impl Get {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let port = env::var("TILT_PORT").ok();
        let mut get = Self { kinds: Vec::new(), watch: false, port, served: None };
        let mut arguments = arguments.iter().map(String::as_str);
        if arguments.next() != Some("get") {
            return fail("Error: the fake tilt knows only get and version");
        }
        while let Some(argument) = arguments.next() {
            match argument {
                "--watch" | "-w" => get.watch = true,
                "--port" => get.port = arguments.next().map(str::to_owned),
                "-o" => match arguments.next() {
                    Some("json") => {}
                    Some(path) if served(path).is_some() => get.served = served(path),
                    _ => return fail("error: the fake tilt prints only JSON"),
                },
                flag if flag.starts_with('-') => {
                    println_to_stdout(&format!("unknown flag: {flag}"))?;
                    return fail(format!(
                        "Error: unknown flag: {flag}\nUsage:\n  tilt get [flags]"
                    ));
                }
                kinds => get.kinds = kinds.split(',').map(plural).collect(),
            }
        }
        Ok(get)
    }

    /// The name of the server in Tilt's configuration.
    fn api_server(&self) -> &str {
        match self.port.as_deref() {
            None | Some("" | "10350") => "default",
            Some(port) => port,
        }
    }
}

/// The resource in the one expression that the program uses to read the arguments of a `serve_cmd`.
fn served(jsonpath: &str) -> Option<String> {
    let start = r#"jsonpath={.items[?(@.metadata.annotations.tilt\.dev/owner-name==""#;
    let name = jsonpath.strip_prefix(start)?.strip_suffix(r#"")].spec.args}"#)?;
    Some(name.to_owned())
}

/// The spelling of a kind in file names. Tilt accepts singular and plural.
fn plural(kind: &str) -> String {
    match kind {
        "uisession" | "uisessions" => "uisession".to_owned(),
        "uiresource" | "dockerimage" | "cmdimage" => format!("{kind}s"),
        kind => kind.to_owned(),
    }
}

fn get_one(folder: &Folder, kind: &str) -> Result<(), Failure> {
    match folder.objects(kind)? {
        Objects::Recorded(text) => Ok(io::stdout().write_all(&text)?),
        Objects::Updated(objects) => Ok(print(&list(&objects))?),
    }
}

fn get_several(folder: &Folder, kinds: &[String]) -> Result<(), Failure> {
    if folder.has("single-kinds-only") {
        return unknown_kind(&kinds.join(","));
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

/// Prints the current objects twice, as Tilt does, then each change, until `end` exists.
fn watch(folder: &Folder, kind: &str) -> Result<(), Failure> {
    let pause = folder.number("poll").map_or(POLL, Duration::from_millis);
    let mut journal = Journal::open(folder, kind);
    let objects = folder.objects_with(kind, &mut journal)?.parsed();
    for object in objects.iter().chain(&objects) {
        print(object)?;
    }
    folder.append_line("watched", kind);
    loop {
        for object in journal.take_due() {
            print(&object)?;
        }
        if folder.has("end") || !folder.0.exists() {
            return Ok(());
        }
        thread::sleep(pause);
    }
}

fn unknown_kind<T>(kind: &str) -> Result<T, Failure> {
    fail(format!("error: the server doesn't have a resource type \"{kind}\""))
}

fn noise(megabytes: u64) -> Result<(), Failure> {
    let megabyte = b"a line of a log\n".repeat(64 * 1024);
    (0..megabytes).try_for_each(|_| Ok(io::stdout().write_all(&megabyte)?))
}

/// Prints a list of this size without its end.
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

/// Formats with an indentation of four spaces, like Tilt.
fn pretty(value: &Value) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, pretty))?;
    Ok(text)
}

/// Prints a value with one write, so that a reader rarely gets half of it.
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

/// The folder that `STAND_IN` names.
struct Folder(PathBuf);

/// The objects of one kind.
enum Objects {
    /// The bytes of the file, unchanged.
    Recorded(Vec<u8>),
    /// The objects of the file with the changes of the journal.
    Updated(Vec<Value>),
}

impl Objects {
    fn parsed(self) -> Vec<Value> {
        match self {
            Self::Recorded(text) => items(&text),
            Self::Updated(objects) => objects,
        }
    }
}

fn items(text: &[u8]) -> Vec<Value> {
    let mut list: Value = serde_json::from_slice(text).expect("a recorded output is JSON");
    match list["items"].take() {
        Value::Array(items) => items,
        _ => vec![list],
    }
}

impl Folder {
    /// Keeps the button of `apply -f FILE`, or removes that of `delete uibutton NAME`.
    fn change_button(&self, verb: &str, object: &str, name: &str) {
        let button = self.path("uibutton");
        match (verb, object) {
            ("apply", "-f") => {
                // A test must never read half of the button.
                let fresh = self.path("uibutton.fresh");
                fs::copy(name, &fresh).expect("a file to apply");
                fs::rename(fresh, button).expect("a renamed file");
            }
            ("delete", "uibutton") => drop(fs::remove_file(button)),
            _ => panic!("an unknown object: {object}"),
        }
    }

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

    /// Runs until the folder is removed.
    fn run_until_removed(&self) -> ! {
        while self.0.exists() {
            thread::sleep(HANG_POLL);
        }
        process::exit(1);
    }

    fn number(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        Some(text.trim().parse().expect("a number"))
    }

    fn log_call(&self, arguments: &[String]) {
        let variable = |name| env::var(name).ok();
        let call = json!({
            "arguments": arguments,
            "pid": process::id(),
            "TILT_PORT": variable("TILT_PORT"),
            "TILT_HOST": variable("TILT_HOST"),
            "TILT_DISABLE_ANALYTICS": variable("TILT_DISABLE_ANALYTICS"),
        });
        self.append_line("calls", &call.to_string());
    }

    fn append_line(&self, name: &str, line: &str) {
        let notes = OpenOptions::new().create(true).append(true).open(self.path(name));
        // One write, so that lines of parallel calls do not mix. A full disk must not stop the answer.
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
            command.arg(ORPHAN).stdin(Stdio::null());
            #[cfg(unix)]
            if fs::read(self.path("leave-process")).is_ok_and(|how| how == b"apart") {
                std::os::unix::process::CommandExt::process_group(&mut command, 0);
            }
            #[expect(clippy::zombie_processes, reason = "the child must outlive this process")]
            let orphan = command.spawn().expect("a second process starts");
            fs::write(self.path("left-process"), orphan.id().to_string()).expect("a file");
        }
        if let Some(milliseconds) = self.number("sleep") {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        if self.has("hang") {
            self.run_until_removed();
        }
    }

    /// Prints the files `stdout` and `stderr` and exits with the code in `exit`.
    fn print_scripted(&self) -> Result<(), Failure> {
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
        // The journal first: a test that replaces both files writes the list first.
        let changes = journal.take_due();
        let recorded = fs::read(self.path(&format!("{kind}.json"))).ok();
        match recorded {
            None if !journal.exists() => unknown_kind(kind),
            Some(text) if changes.is_empty() => Ok(Objects::Recorded(text)),
            recorded => {
                let mut objects = recorded.map(|text| items(&text)).unwrap_or_default();
                for changed in changes {
                    let name = &changed["metadata"]["name"];
                    match objects.iter_mut().find(|object| object["metadata"]["name"] == *name) {
                        Some(object) => *object = changed,
                        None => objects.push(changed),
                    }
                }
                Ok(Objects::Updated(objects))
            }
        }
    }
}

/// Reads `watch-KIND.jsonl` line by line.
struct Journal {
    path: PathBuf,
    file: Option<BufReader<File>>,
    #[cfg(windows)]
    was_opened: bool,
    #[cfg(windows)]
    position: u64,
    /// The start of a line that a test is still writing.
    partial_line: String,
    /// Objects that are read but not due yet. Only a replay has them.
    pending: VecDeque<(SystemTime, Value)>,
    replay: Option<Replay>,
    latest: SystemTime,
}

impl Journal {
    fn open(folder: &Folder, kind: &str) -> Self {
        Self {
            path: folder.path(&format!("watch-{kind}.jsonl")),
            file: None,
            #[cfg(windows)]
            was_opened: false,
            #[cfg(windows)]
            position: 0,
            partial_line: String::new(),
            pending: VecDeque::new(),
            replay: Replay::of(folder),
            latest: UNIX_EPOCH,
        }
    }

    fn exists(&self) -> bool {
        #[cfg(windows)]
        return self.was_opened;
        #[cfg(unix)]
        self.file.is_some()
    }

    /// Returns the objects that have become due since the last call.
    fn take_due(&mut self) -> Vec<Value> {
        self.read_new_lines();
        let mut due = Vec::new();
        while let Some((at, object)) = self.pending.pop_front() {
            if self.replay.as_mut().is_some_and(|replay| !replay.has_reached(at)) {
                self.pending.push_front((at, object));
                break;
            }
            due.push(object);
        }
        due
    }

    #[cfg(unix)]
    fn read_new_lines(&mut self) {
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

    /// Reads on from the last position. Windows does not replace an open file, so it is opened for
    /// each read. A shorter file is a new one.
    #[cfg(windows)]
    fn read_new_lines(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        self.was_opened = true;
        if file.metadata().is_ok_and(|metadata| metadata.len() < self.position) {
            (self.position, self.partial_line) = (0, String::new());
        }
        file.seek(SeekFrom::Start(self.position)).expect("a position in the file");
        self.file = Some(BufReader::new(file));
        self.read_lines();
        let mut file = self.file.take().expect("the open file");
        self.position = file.stream_position().expect("a position");
    }

    fn read_lines(&mut self) {
        let Some(file) = &mut self.file else { return };
        while file.read_line(&mut self.partial_line).is_ok_and(|length| length > 0) {
            if !self.partial_line.ends_with('\n') {
                return;
            }
            let object = serde_json::from_str(&self.partial_line).expect("one object per line");
            self.partial_line.clear();
            // Keeps the order of the lines, even if an object's own times do not advance.
            self.latest = self.latest.max(latest_time(&object));
            self.pending.push_back((self.latest, object));
        }
    }
}

/// Replays recorded lines at their own pace. All calls with one folder share the same replay.
struct Replay {
    folder: PathBuf,
    speed: f64,
    /// When the replay started. `None` while `replay-held` exists.
    started: Option<SystemTime>,
    /// The recorded time at which the replay starts.
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
            .map(|path| end_of_initial_list(&path))
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

/// The start of the replay, which the first call sets for all calls.
fn replay_start(folder: &Folder) -> SystemTime {
    let path = folder.path("replay-start");
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let own_file = folder.path(&format!("replay-start-{}", process::id()));
    fs::write(&own_file, now).expect("the folder can be written to");
    // The link fails for all calls except the first, so all of them read the first call's time.
    let _ = fs::hard_link(&own_file, &path);
    let _ = fs::remove_file(&own_file);
    let started = fs::read_to_string(&path).expect("the start of the replay");
    humantime::parse_rfc3339(&started).expect("a time")
}

/// The latest time in a watch's initial list, which ends before the first repeated name.
fn end_of_initial_list(path: &Path) -> SystemTime {
    let text = fs::read_to_string(path).expect("a recorded watch");
    let mut names = Vec::new();
    let mut latest = UNIX_EPOCH;
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).expect("one object per line");
        let name = object["metadata"]["name"].clone();
        if names.contains(&name) {
            break;
        }
        names.push(name);
        latest = latest.max(latest_time(&object));
    }
    latest
}

/// The latest time in an object's status, which is about when Tilt printed it.
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

#[cfg(windows)]
fn ignore_signals() {}

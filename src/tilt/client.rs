//! The only file that runs `tilt`: one bounded look at a time, a snapshot or a typed error; and
//! watches, which tell of each object as it changes.
//!
//! Tilt's exit status comes before its output: a stale server prints a valid empty list and exits
//! with 1. Every call has a deadline and a bound on what it may print; a `tilt` that hangs is
//! killed with everything it started.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::base::child::{self, ProcessGroup};
use crate::base::shutdown::Shutdown;
use crate::base::text::one_line;
use crate::base::time;
use crate::tilt::command::{TiltCommand, TiltMode};
use crate::tilt::list_reader::{ListReader, ParseError};
use crate::tilt::model::{ImageKind, Snapshot};
use crate::tilt::watch_reader::WatchReader;

/// Longest time for one look; 500 resources take Tilt 0.9 s.
const POLL_TIMEOUT: Duration = Duration::from_secs(20);
/// Ten thousand resources are about 27 MB.
const OUTPUT_LIMIT: usize = 32 * 1024 * 1024;
/// As much as is kept of what it says for a person to read.
const STDERR_LIMIT: usize = 64 * 1024;
/// The longest text of Tilt's that a message quotes, in characters.
const MESSAGE_LIMIT: usize = 300;
/// As much as is read at once.
const READ_SIZE: usize = 64 * 1024;
/// How long what a finished `tilt` left behind may hold its output open before it is killed.
const LEFTOVER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a pipe may be quiet before it is asked whether its `tilt` still runs.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// How often a wait looks whether it should stop.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// A kind of Tilt object, in the spelling that a call for it alone uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    UiSession,
    UiResources,
    DockerImages,
    CmdImages,
    /// Of the process, not of its UI: says whether `tilt ci` is about to end, and how.
    Sessions,
}

impl ObjectKind {
    const ALL: [Self; 5] =
        [Self::UiSession, Self::UiResources, Self::DockerImages, Self::CmdImages, Self::Sessions];

    fn for_mode(mode: Option<TiltMode>) -> Vec<Self> {
        let only_ci = |kind: &Self| *kind != Self::Sessions || mode == Some(TiltMode::Ci);
        Self::ALL.into_iter().filter(only_ci).collect()
    }

    fn alone(self) -> &'static str {
        match self {
            Self::UiSession => "uisession",
            Self::UiResources => "uiresources",
            Self::DockerImages => "dockerimages",
            Self::CmdImages => "cmdimages",
            Self::Sessions => "sessions",
        }
    }

    fn in_a_list(self) -> &'static str {
        match self {
            Self::UiSession => "uisessions",
            kind => kind.alone(),
        }
    }
}

/// How the kinds are asked for, as far as this Tilt has shown what it knows.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    /// All in one call: it costs about what a single kind does.
    Together(Vec<ObjectKind>),
    OneByOne(Vec<ObjectKind>),
}

/// A Tilt to look at.
#[derive(Debug)]
pub struct Tilt {
    command: TiltCommand,
    mode: Option<TiltMode>,
    plan: Plan,
}

/// Why Tilt could not be looked at.
#[derive(Debug)]
pub enum TiltError {
    /// There is no such program, or none that may be run.
    NotInstalled {
        program: OsString,
        why: &'static str,
    },
    /// No Tilt runs there, or it does not answer yet or any more.
    NotRunning {
        message: String,
    },
    /// This Tilt is too old to know its own resources.
    NoResources,
    UnknownKind,
    TimedOut {
        after: Duration,
    },
    TooMuchOutput,
    Failed {
        message: String,
    },
    Unreadable(ParseError),
    Io(io::Error),
    /// Asked to stop meanwhile.
    Stopped,
}

impl fmt::Display for TiltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { program, why } => write!(
                f,
                "cannot run {}: {why}; install Tilt or give --tilt",
                program.to_string_lossy()
            ),
            Self::NotRunning { message } => {
                write!(f, "no Tilt to report on: {message}; start one, or give its --port")
            }
            Self::NoResources => {
                f.write_str("this Tilt knows no uiresources; update it to 0.20.2 or later")
            }
            Self::UnknownKind => f.write_str("tilt get: no such kind of object"),
            Self::TimedOut { after } => write!(
                f,
                "tilt get: no answer after {}; killed it",
                humantime::format_duration(*after)
            ),
            Self::TooMuchOutput => {
                write!(f, "tilt get: more than {} MB of output", OUTPUT_LIMIT / (1024 * 1024))
            }
            Self::Failed { message } => write!(f, "tilt get: {message}"),
            Self::Unreadable(error) => write!(f, "tilt get: {error}"),
            Self::Io(error) => write!(f, "tilt get: {error}"),
            Self::Stopped => f.write_str("tilt get: stopped"),
        }
    }
}

impl std::error::Error for TiltError {}

impl From<io::Error> for TiltError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Tilt {
    pub fn new(command: TiltCommand, mode: Option<TiltMode>) -> Self {
        Self { command, mode, plan: Plan::Together(ObjectKind::for_mode(mode)) }
    }

    /// Of the program, which need not be that of the Tilt that runs: `0.37.6, built 2026-07-01`.
    pub fn program_version(&self, shutdown: &Shutdown) -> Result<String, TiltError> {
        let limit = POLL_TIMEOUT;
        let calls =
            Calls { command: &self.command, limit, deadline: time::now() + limit, shutdown };
        let printed = calls.run(vec!["version".to_owned()])?;
        let output = String::from_utf8_lossy(&printed.head);
        let line = output.lines().next().unwrap_or_default();
        Ok(shortened(line.strip_prefix('v').unwrap_or(line)))
    }

    /// The kinds of objects that are asked for: after a look, those that this Tilt knows.
    pub fn kinds(&self) -> Vec<&'static str> {
        let (Plan::Together(kinds) | Plan::OneByOne(kinds)) = &self.plan;
        kinds.iter().map(|kind| kind.alone()).collect()
    }

    /// One look at everything, within `limit` at the most.
    pub fn poll(&mut self, limit: Duration, shutdown: &Shutdown) -> Result<Snapshot, TiltError> {
        let polled = self.poll_as_planned(limit, shutdown);
        if let Err(TiltError::NotRunning { .. }) = polled {
            // The next one may be of another version, and know more.
            self.plan = Plan::Together(ObjectKind::for_mode(self.mode));
        }
        polled
    }

    fn poll_as_planned(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
    ) -> Result<Snapshot, TiltError> {
        let limit = limit.min(POLL_TIMEOUT);
        let calls =
            Calls { command: &self.command, limit, deadline: time::now() + limit, shutdown };
        let kinds = match &self.plan {
            Plan::Together(kinds) => {
                let names: Vec<_> = kinds.iter().map(|kind| kind.in_a_list()).collect();
                match calls.get(&names.join(",")) {
                    Err(TiltError::UnknownKind) => {}
                    printed => return snapshot([printed?]),
                }
                // Asking for what this Tilt was seen to know, it may still take no lists.
                kinds.clone()
            }
            Plan::OneByOne(kinds) => kinds.clone(),
        };
        let (known, printed) = calls.get_each(&kinds)?;
        self.plan =
            if known.len() < kinds.len() { Plan::Together(known) } else { Plan::OneByOne(known) };
        snapshot(printed)
    }
}

fn snapshot(printed: impl IntoIterator<Item = CallOutput>) -> Result<Snapshot, TiltError> {
    let mut snapshot = Snapshot::default();
    for printed in printed {
        let listed = printed.listing.end().map_err(TiltError::Unreadable)?;
        if listed.left_out > 0 {
            log::debug!("left out {} objects of an unknown shape", listed.left_out);
        }
        snapshot.join(listed.snapshot);
    }
    snapshot.sort();
    Ok(snapshot)
}

/// What can be watched: one kind of object each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchTarget {
    Resources,
    Images(ImageKind),
}

/// What a watch has to tell.
#[derive(Debug)]
pub enum WatchEvent {
    /// A changed object.
    Shown(Snapshot),
    /// The last there is: why it ended.
    Ended(String),
}

/// A watch that runs until it is dropped, or Tilt ends it.
#[derive(Debug)]
pub struct Watch {
    handle: Arc<duct::Handle>,
}

impl Watch {
    /// Starts to follow one kind; `tell` is called on a thread of the watch's own, until it
    /// returns false or the watch has ended.
    pub fn start(
        command: &TiltCommand,
        target: WatchTarget,
        on_event: impl FnMut(WatchEvent) -> bool + Send + 'static,
    ) -> Result<Self, TiltError> {
        let kind = match target {
            WatchTarget::Resources => ObjectKind::UiResources,
            WatchTarget::Images(ImageKind::Docker) => ObjectKind::DockerImages,
            WatchTarget::Images(ImageKind::Cmd) => ObjectKind::CmdImages,
        };
        let arguments = arguments(command, &["get", kind.alone(), "--watch", "-o", "json"]);
        let (output, stderr, handle) = spawn(command, arguments, ProcessGroup::Shared)?;
        let stderr = in_background(move || read_head(stderr))?;
        std::thread::Builder::new()
            .name("tilt watch".into())
            .spawn(move || follow(output, &stderr, on_event))?;
        Ok(Self { handle })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its thread sees the pipe close, and reaps it.
        if let Err(error) = self.handle.kill() {
            log::debug!("could not kill tilt: {error}");
        }
    }
}

fn follow(
    mut output: ChildOutput,
    stderr: &mpsc::Receiver<io::Result<Vec<u8>>>,
    mut on_event: impl FnMut(WatchEvent) -> bool,
) {
    let mut objects = WatchReader::default();
    // Where the pipe breaks, so does the watch.
    let _ = output.each_chunk(|bytes| {
        let mut is_heard = true;
        objects.feed(bytes, |object| {
            let mut fragment = Snapshot::default();
            if fragment.add(object) {
                is_heard = is_heard && on_event(WatchEvent::Shown(fragment));
            } else {
                log::debug!("left out a watched object of an unknown shape");
            }
        });
        is_heard
    });
    let _ = output.tilt.kill();
    let status = output.tilt.wait_timeout(LEFTOVER_TIMEOUT).ok().flatten();
    let status = status.map_or("it hangs".to_owned(), |output| output.status.to_string());
    let stderr =
        stderr.recv_timeout(LEFTOVER_TIMEOUT).ok().and_then(Result::ok).unwrap_or_default();
    let first = String::from_utf8_lossy(&stderr).lines().next().map(shortened);
    on_event(WatchEvent::Ended(first.unwrap_or(status)));
}

/// Calls of `tilt` that share a deadline.
struct Calls<'a> {
    command: &'a TiltCommand,
    limit: Duration,
    deadline: Instant,
    shutdown: &'a Shutdown,
}

impl Calls<'_> {
    /// Each kind by itself: those this Tilt knows, with what it printed of them.
    fn get_each(
        &self,
        kinds: &[ObjectKind],
    ) -> Result<(Vec<ObjectKind>, Vec<CallOutput>), TiltError> {
        let mut known = Vec::new();
        let mut all = Vec::new();
        for kind in kinds {
            match self.get(kind.alone()) {
                Ok(printed) => {
                    known.push(*kind);
                    all.push(printed);
                }
                Err(TiltError::UnknownKind) if *kind == ObjectKind::UiResources => {
                    return Err(TiltError::NoResources);
                }
                Err(TiltError::UnknownKind) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((known, all))
    }

    fn get(&self, kinds: &str) -> Result<CallOutput, TiltError> {
        self.run(arguments(self.command, &["get", kinds, "-o", "json"]))
    }

    fn run(&self, arguments: Vec<String>) -> Result<CallOutput, TiltError> {
        let mut running = RunningCall::start(self.command, arguments)?;
        let Some(finished) = running.finish(self.deadline, self.shutdown)? else {
            return Err(TiltError::TimedOut { after: self.limit });
        };
        if finished.succeeded {
            return Ok(finished.printed);
        }
        Err(diagnosis(&finished.printed.head, &finished.stderr, &finished.status))
    }
}

struct FinishedCall {
    succeeded: bool,
    status: String,
    printed: CallOutput,
    stderr: Vec<u8>,
}

/// What a `tilt` printed on its stdout.
#[derive(Default)]
struct CallOutput {
    /// Of it, [`TALK_LIMIT`] bytes at the most.
    head: Vec<u8>,
    listing: ListReader,
    length: usize,
}

/// A started `tilt`. Dropped before it has finished, it is killed with all it started.
struct RunningCall {
    handle: Arc<duct::Handle>,
    printed: mpsc::Receiver<io::Result<CallOutput>>,
    stderr: mpsc::Receiver<io::Result<Vec<u8>>>,
    ended: bool,
}

impl RunningCall {
    fn start(command: &TiltCommand, arguments: Vec<String>) -> Result<Self, TiltError> {
        let (output, stderr, handle) = spawn(command, arguments, ProcessGroup::Own)?;
        enlarge(&output.pipe);
        Ok(Self {
            handle,
            printed: in_background(move || read_list(output))?,
            stderr: in_background(move || read_head(stderr))?,
            ended: false,
        })
    }

    /// `None` if it has not finished by the deadline.
    fn finish(
        &mut self,
        deadline: Instant,
        shutdown: &Shutdown,
    ) -> Result<Option<FinishedCall>, TiltError> {
        let status = loop {
            if let Some(output) =
                self.handle.wait_deadline(deadline.min(time::now() + SHUTDOWN_POLL))?
            {
                break output.status;
            }
            if shutdown.requested() {
                return Err(TiltError::Stopped);
            }
            if time::now() >= deadline {
                return Ok(None);
            }
        };
        // What `tilt` left behind may hold the pipes; then it goes, and they close. If it cannot
        // be reached, they are given up: it is quiet, and asked once more at the most.
        let mut printed = self.printed.recv_timeout(LEFTOVER_TIMEOUT);
        if printed.is_err() {
            self.kill();
            printed = self.printed.recv_timeout(2 * QUIET_PERIOD);
        }
        let Ok(printed) = printed else { return Ok(None) };
        let printed = printed?;
        // Without its words nobody knows why it failed.
        let mut stderr = self.stderr.recv_timeout(LEFTOVER_TIMEOUT);
        if stderr.is_err() {
            self.kill();
            stderr = self.stderr.recv_timeout(2 * QUIET_PERIOD);
        }
        self.ended = stderr.is_ok();
        let stderr = stderr.unwrap_or(Ok(Vec::new()))?;
        if printed.length > OUTPUT_LIMIT {
            return Err(TiltError::TooMuchOutput);
        }
        let (succeeded, status) = (status.success(), status.to_string());
        Ok(Some(FinishedCall { succeeded, status, printed, stderr }))
    }

    fn kill(&self) {
        for pid in self.handle.pids() {
            child::kill_group(pid);
        }
        if let Err(error) = self.handle.kill() {
            log::debug!("could not kill tilt: {error}");
        }
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            // Reaps it; killed, it is gone in a moment.
            let _ = self.handle.wait_timeout(LEFTOVER_TIMEOUT);
        }
    }
}

fn arguments(command: &TiltCommand, arguments: &[&str]) -> Vec<String> {
    let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    if let Some(port) = command.port {
        arguments.extend(["--port".to_owned(), port.to_string()]);
    }
    arguments
}

/// What comes through a pipe, to its end or to that of its `tilt`: what that left behind may hold
/// the pipe open for ever, and say nothing.
struct ChildOutput {
    pipe: PipeReader,
    tilt: Arc<duct::Handle>,
}

impl Read for ChildOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked first: what it printed last is in the pipe by then.
            let has_ended = !matches!(self.tilt.try_wait(), Ok(None));
            if wait_readable(&self.pipe) {
                return self.pipe.read(buffer);
            }
            if has_ended {
                return Ok(0);
            }
        }
    }
}

impl ChildOutput {
    /// Hands on what comes, until it has ended or nobody wants more.
    fn each_chunk(&mut self, mut wants_more: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) if wants_more(&buffer[..count]) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A pipe as it comes holds 64 KiB, and whoever reads a large answer through it is woken for each.
#[cfg(target_os = "linux")]
fn enlarge(pipe: &PipeReader) {
    const MEGABYTE: usize = 1024 * 1024;
    // Where the user has used up what the system grants for pipes, it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, MEGABYTE);
}

#[cfg(not(target_os = "linux"))]
fn enlarge(_pipe: &PipeReader) {}

/// Waits a while until there is something to read, or the end.
#[cfg(unix)]
fn wait_readable(pipe: &PipeReader) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let quiet = Timespec::try_from(QUIET_PERIOD).expect("a few seconds");
    // Where it cannot be known, reading finds out.
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&quiet)) != Ok(0)
}

#[cfg(not(unix))]
fn wait_readable(_pipe: &PipeReader) -> bool {
    true
}

/// Starts `tilt`; gives what it prints, what it says, and a handle on it.
fn spawn(
    command: &TiltCommand,
    arguments: Vec<String>,
    group: ProcessGroup,
) -> Result<(ChildOutput, ChildOutput, Arc<duct::Handle>), TiltError> {
    log::debug!("running {} {}", command.program.to_string_lossy(), arguments.join(" "));
    let (output, output_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let expression = child::command(&command.program, arguments, group)
        .stdout_file(output_end)
        .stderr_file(stderr_end)
        .env("TILT_DISABLE_ANALYTICS", "1");
    let not_installed = |why| TiltError::NotInstalled { program: command.program.clone(), why };
    let handle = expression.start().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_installed("no such program"),
        io::ErrorKind::PermissionDenied => not_installed("not a program that may be run"),
        _ => TiltError::Io(error),
    })?;
    // Our ends of the pipes go with the expression; only what `tilt` holds keeps them open.
    drop(expression);
    let handle = Arc::new(handle);
    let of = |pipe| ChildOutput { pipe, tilt: Arc::clone(&handle) };
    Ok((of(output), of(stderr), handle))
}

fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("tilt output".into()).spawn(move || {
        // Nobody listens any more when the call was given up.
        let _ = sender.send(read());
    })?;
    Ok(receiver)
}

/// Reads objects to the end, or until it is more than the limit: then the pipe closes, and its
/// writer with it.
fn read_list(mut output: ChildOutput) -> io::Result<CallOutput> {
    let mut printed = CallOutput::default();
    output.each_chunk(|bytes| {
        printed.length += bytes.len();
        let room = STDERR_LIMIT - printed.head.len();
        printed.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        printed.listing.feed(bytes);
        printed.length <= OUTPUT_LIMIT
    })?;
    Ok(printed)
}

/// Reads as much as is kept of it, and no more: then the pipe closes.
fn read_head(stderr: ChildOutput) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stderr.take(STDERR_LIMIT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Every failure of `tilt get` exits with 1; only its words tell them apart. Some of them it
/// prints on stdout, and above them it may print many lines about caches.
fn diagnosis(output: &[u8], stderr: &[u8], status: &str) -> TiltError {
    let stderr = String::from_utf8_lossy(stderr);
    let output = String::from_utf8_lossy(&output[..output.len().min(1024)]);
    let lines = || stderr.lines().chain(output.lines()).map(str::trim).filter(|l| !l.is_empty());
    let says = |phrase: &str| lines().find(|line| line.contains(phrase));

    if says("the server doesn't have a resource type").is_some() {
        return TiltError::UnknownKind;
    }
    let away = [
        "No tilt apiserver found",
        "was refused",
        "connection refused",
        "connection reset",
        "Unable to connect to the server",
    ];
    if let Some(line) = away.iter().find_map(|phrase| says(phrase)) {
        return TiltError::NotRunning { message: shortened(line) };
    }
    let telling = lines().find(|line| line.to_lowercase().starts_with("error"));
    let message = telling.or_else(|| lines().next()).map_or_else(|| status.to_owned(), shortened);
    TiltError::Failed { message }
}

fn shortened(line: &str) -> String {
    let line = line.strip_prefix("Error: ").or(line.strip_prefix("error: ")).unwrap_or(line);
    one_line(line, MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tilt_says_when_it_cannot_answer_is_told_apart() {
        let of = |output: &str, stderr: &str| {
            diagnosis(output.as_bytes(), stderr.as_bytes(), "exit status: 1").to_string()
        };
        // Recorded from Tilt 0.37.6.
        for stderr in [
            "Error: No tilt apiserver found: tilt-10351\n",
            "The connection to the server 127.0.0.1:43931 was refused - did you specify the right host or port?",
            "E1122 16:00:00 memcache.go:265 ...\nThe connection to the server 127.0.0.1:1 was refused",
        ] {
            let error = diagnosis(br#"{"kind":"List","items":[]}"#, stderr.as_bytes(), "");
            assert!(matches!(error, TiltError::NotRunning { .. }), "{stderr}: {error:?}");
        }
        let unknown = "error: the server doesn't have a resource type \"cmdimages\"";
        assert!(matches!(diagnosis(b"", unknown.as_bytes(), ""), TiltError::UnknownKind));

        assert_eq!(
            of("", "Error: open /x/config.lock: denied\nusage"),
            "tilt get: open /x/config.lock: denied"
        );
        assert_eq!(of("parsing env TILT_PORT: bad\n", ""), "tilt get: parsing env TILT_PORT: bad");
        assert_eq!(of("", ""), "tilt get: exit status: 1");
        assert_eq!(of("", &"x".repeat(900)).len(), "tilt get: ".len() + 300);
    }
}

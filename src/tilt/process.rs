//! The only file that starts, reads and kills `tilt` processes.
//!
//! A call has a deadline and a limit on its output. A call that hangs is killed with every process
//! that it started. A watch has neither limit: it runs until it is killed.

use std::io::{self, PipeReader, Read};
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::base::child::{self, ProcessGroup};
use crate::base::process_tree::ProcessTree;
use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::tilt::command::TiltCommand;
use crate::tilt::error::TiltError;
use crate::tilt::list_reader::ListReader;

/// The most that a call may print on stdout, in bytes. Ten thousand resources are about 27 MB.
const OUTPUT_LIMIT: usize = 32 * 1024 * 1024;
/// How much of stdout and stderr is kept for messages, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;
/// The most that one read returns, in bytes.
const READ_SIZE: usize = 64 * 1024;
/// How long a process that a finished `tilt` left behind may hold a pipe open before it is killed.
const LEFTOVER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a pipe may be silent before its reader checks whether `tilt` still runs.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// How often a wait checks for a shutdown request.
const SHUTDOWN_POLL: Duration = Duration::from_millis(50);

/// A started `tilt` and the pipes that it prints to.
pub(super) struct StartedTilt {
    pub(super) stdout: OutputPipe,
    pub(super) stderr: OutputPipe,
    pub(super) process: TiltProcess,
}

/// Starts `tilt`. Fails with `NotInstalled` if the program does not exist or cannot be executed.
pub(super) fn spawn(
    command: &TiltCommand,
    arguments: Vec<String>,
    group: ProcessGroup,
) -> Result<StartedTilt, TiltError> {
    log::debug!("running {} {}", command.program.to_string_lossy(), arguments.join(" "));
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let expression = child::command(&command.program, arguments, group)
        .stdout_file(stdout_end)
        .stderr_file(stderr_end)
        .env("TILT_DISABLE_ANALYTICS", "1");
    let not_installed = |why| TiltError::NotInstalled { program: command.program.clone(), why };
    let handle = expression.start().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_installed("no such program"),
        // Windows calls the path of a drive an invalid input.
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
            not_installed("not an executable file")
        }
        _ => TiltError::Io(error),
    })?;
    // The expression holds copies of the write ends, which would keep the pipes open.
    drop(expression);
    let process = TiltProcess::new(handle, group);
    let pipe = |pipe| OutputPipe { pipe, process: process.clone() };
    Ok(StartedTilt { stdout: pipe(stdout), stderr: pipe(stderr), process })
}

/// A `tilt` process that was started.
#[derive(Debug, Clone)]
pub(super) struct TiltProcess {
    handle: Arc<duct::Handle>,
    /// Empty if `tilt` runs in this program's process group.
    trees: Arc<[ProcessTree]>,
}

impl TiltProcess {
    fn new(handle: duct::Handle, group: ProcessGroup) -> Self {
        let own = if group == ProcessGroup::Own { handle.pids() } else { Vec::new() };
        let trees = own.into_iter().map(ProcessTree::of).collect();
        Self { handle: Arc::new(handle), trees }
    }

    /// Kills `tilt` itself, not the processes that it started.
    pub(super) fn kill(&self) {
        if let Err(error) = self.handle.kill() {
            log::debug!("could not kill tilt: {error}");
        }
    }

    /// Kills `tilt` with every process that it started, if it runs in a process group of its own.
    fn kill_group(&self) {
        self.trees.iter().for_each(ProcessTree::kill);
        self.kill();
    }

    /// Kills `tilt` with every process that it started, and waits, so that no zombie process stays.
    pub(super) fn end(&self) {
        self.kill_group();
        self.wait_after_kill();
    }

    /// Waits for the exit of a `tilt` that was killed. Returns `None` if it does not exit.
    pub(super) fn wait_after_kill(&self) -> Option<ExitStatus> {
        let output = self.handle.wait_timeout(LEFTOVER_TIMEOUT).ok().flatten()?;
        Some(output.status)
    }

    fn wait_until(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        Ok(self.handle.wait_deadline(deadline)?.map(|output| output.status))
    }

    fn is_running(&self) -> bool {
        matches!(self.handle.try_wait(), Ok(None))
    }
}

/// The result of a call that finished.
pub(super) struct FinishedCall {
    pub(super) status: ExitStatus,
    pub(super) stdout: CallOutput,
    /// At most [`HEAD_LIMIT`] bytes.
    pub(super) stderr: Vec<u8>,
}

/// The stdout of a call.
#[derive(Default)]
pub(super) struct CallOutput {
    /// At most [`HEAD_LIMIT`] bytes.
    pub(super) head: Vec<u8>,
    pub(super) list: ListReader,
    length: usize,
}

/// A call of `tilt` whose output is read on two threads. If it is dropped before it has finished, it
/// is killed with every process that it started.
pub(super) struct RunningCall {
    process: TiltProcess,
    stdout: mpsc::Receiver<io::Result<CallOutput>>,
    stderr: mpsc::Receiver<io::Result<Vec<u8>>>,
    is_finished: bool,
}

impl RunningCall {
    /// Starts `tilt` in a process group of its own.
    pub(super) fn start(command: &TiltCommand, arguments: Vec<String>) -> Result<Self, TiltError> {
        let StartedTilt { stdout, stderr, process } = spawn(command, arguments, ProcessGroup::Own)?;
        enlarge(&stdout.pipe);
        let readers = in_background(move || read_list(stdout))
            .and_then(|stdout| Ok((stdout, in_background(move || read_head(stderr))?)));
        let (stdout, stderr) = readers.inspect_err(|_| process.end())?;
        Ok(Self { process, stdout, stderr, is_finished: false })
    }

    /// Waits until `tilt` has exited and its output is read. Returns `None` if that takes longer
    /// than the deadline allows, and `Stopped` if a shutdown is requested meanwhile.
    pub(super) fn finish(
        &mut self,
        deadline: Instant,
        shutdown: &Shutdown,
    ) -> Result<Option<FinishedCall>, TiltError> {
        let Some(status) = self.wait(deadline, shutdown)? else { return Ok(None) };
        let Some(stdout) = self.output(&self.stdout) else { return Ok(None) };
        let stdout = stdout?;
        // Stderr is needed too: only its text tells why a call failed.
        let stderr = self.output(&self.stderr);
        self.is_finished = stderr.is_some();
        let stderr = stderr.unwrap_or(Ok(Vec::new()))?;
        if stdout.length > OUTPUT_LIMIT {
            return Err(TiltError::TooMuchOutput { limit_bytes: OUTPUT_LIMIT });
        }
        Ok(Some(FinishedCall { status, stdout, stderr }))
    }

    /// Waits until `tilt` has exited. Returns `None` if it still runs at the deadline.
    fn wait(
        &self,
        deadline: Instant,
        shutdown: &Shutdown,
    ) -> Result<Option<ExitStatus>, TiltError> {
        loop {
            let next_check = deadline.min(time::now() + SHUTDOWN_POLL);
            if let Some(status) = self.process.wait_until(next_check)? {
                return Ok(Some(status));
            }
            if shutdown.requested() {
                return Err(TiltError::Stopped);
            }
            if time::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Returns what a reader thread has read after `tilt` exited. A process that `tilt` left behind
    /// may hold the pipe open, so it is killed. Returns `None` if the pipe stays open even then.
    fn output<T>(&self, reader: &mpsc::Receiver<T>) -> Option<T> {
        let output = reader.recv_timeout(LEFTOVER_TIMEOUT);
        if output.is_ok() {
            return output.ok();
        }
        self.process.kill_group();
        // The reader of a silent pipe notices the exit of `tilt` after one quiet period.
        reader.recv_timeout(2 * QUIET_PERIOD).ok()
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        if !self.is_finished {
            self.process.end();
        }
    }
}

/// A pipe that ends when `tilt` exits, even if a process that `tilt` left behind holds it open.
pub(super) struct OutputPipe {
    pipe: PipeReader,
    process: TiltProcess,
}

impl Read for OutputPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Checked first: the last output of a `tilt` that has exited is in the pipe already.
            let is_running = self.process.is_running();
            if wait_readable(&self.pipe) {
                return self.pipe.read(buffer);
            }
            if !is_running {
                return Ok(0);
            }
        }
    }
}

impl OutputPipe {
    /// Passes the bytes to `wants_more` until the pipe ends or `wants_more` returns false.
    pub(super) fn each_chunk(
        &mut self,
        mut wants_more: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<()> {
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

/// Makes the pipe's buffer 1 MiB instead of 64 KiB, so that a large output wakes the reader less
/// often.
#[cfg(target_os = "linux")]
fn enlarge(pipe: &PipeReader) {
    const MEBIBYTE: usize = 1024 * 1024;
    // This fails if the user has reached the system's limit for pipes. Then the size stays.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, MEBIBYTE);
}

#[cfg(not(target_os = "linux"))]
fn enlarge(_pipe: &PipeReader) {}

/// Waits for input or the end of the pipe. Returns false if the pipe is silent for a
/// [`QUIET_PERIOD`].
#[cfg(unix)]
fn wait_readable(pipe: &PipeReader) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let quiet = Timespec::try_from(QUIET_PERIOD).expect("a few seconds");
    // After an error, the read itself reports the problem.
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&quiet)) != Ok(0)
}

/// Without `poll`, the read itself waits.
#[cfg(not(unix))]
fn wait_readable(_pipe: &PipeReader) -> bool {
    true
}

/// Reads on a thread. The receiver gets the result.
pub(super) fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("tilt output".into()).spawn(move || {
        // The receiver is gone if the call was given up.
        let _ = sender.send(read());
    })?;
    Ok(receiver)
}

/// Reads objects until the pipe ends, or until the output is longer than [`OUTPUT_LIMIT`]. Then the
/// pipe closes, which ends its writer.
fn read_list(mut stdout: OutputPipe) -> io::Result<CallOutput> {
    let mut output = CallOutput::default();
    stdout.each_chunk(|bytes| {
        output.length += bytes.len();
        let room = HEAD_LIMIT - output.head.len();
        output.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        output.list.feed(bytes);
        output.length <= OUTPUT_LIMIT
    })?;
    Ok(output)
}

/// Reads at most [`HEAD_LIMIT`] bytes, then closes the pipe.
pub(super) fn read_head(stderr: OutputPipe) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stderr.take(HEAD_LIMIT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

//! One signal ends every command within a second, even while it waits.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};
use rustix::fs::OFlags;
use rustix::io::ioctl_fionread;

use crate::support::api::CONFIGURATION_KEY;
use crate::support::{
    Invocation, PROGRAM, Process, Sandbox, Signal, UNREACHABLE, capture, eventually, make_pipe,
    takes_less_than,
};

const LIMIT: Duration = Duration::from_secs(1);

/// Creates a named pipe.
fn pipe(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("work/pipe");
    make_pipe(&path);
    path
}

/// Opens a pipe without waiting for its other end.
fn open(path: &Path, write: bool) -> std::io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(!write).write(write).custom_flags(flags).open(path)
}

/// A pipe that is almost full. A writer of several lines blocks.
struct AlmostFullPipe {
    path: PathBuf,
    reader: File,
    _writer: File,
    length: u64,
}

impl AlmostFullPipe {
    const PAGE: usize = 4096;

    /// `room` is at most a page: more than the first line that the writer writes, and less than all
    /// its lines.
    fn new(sandbox: &Sandbox, room: usize) -> Self {
        let path = pipe(sandbox);
        let mut reader = open(&path, false).expect("a reader");
        let mut writer = open(&path, true).expect("a writer");
        // Single bytes, because a pipe with room for less than a page refuses a larger write.
        let full = loop {
            if let Err(error) = writer.write_all(b"x") {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        // Room appears only when a page was read completely.
        reader.read_exact(&mut [0; Self::PAGE]).expect("a page");
        for _ in room..Self::PAGE {
            writer.write_all(b"x").expect("room");
        }
        let length = ioctl_fionread(&reader).expect("a length");
        Self { path, reader, _writer: writer, length }
    }

    /// Waits until something was written. Later bytes do not fit.
    fn blocks_its_writer(&self) {
        eventually("the first line", || {
            ioctl_fionread(&self.reader).expect("a length") > self.length
        });
    }
}

/// A file for `RESOLV_HOST_CONF` with which a lookup of a host name never ends: glibc opens it before
/// the first lookup, and a pipe without a writer does not open. This needs no privileges.
#[cfg(target_os = "linux")]
struct HangingLookup(PathBuf);

#[cfg(target_os = "linux")]
impl HangingLookup {
    const HOST: &str = "http://honeycomb.invalid";

    fn new(sandbox: &Sandbox) -> Self {
        Self(pipe(sandbox))
    }

    /// Runs the program, which reports to a host whose lookup hangs.
    fn run(&self, sandbox: &Sandbox, options: &str) -> Invocation {
        let endpoint = ["--allow-insecure-http", "--api-endpoint", Self::HOST];
        let run = sandbox.run(options).args(&endpoint).with_key();
        run.env("RESOLV_HOST_CONF", &self.0).env("HONEYCOMB_API_KEY", CONFIGURATION_KEY)
    }

    /// Waits until a lookup opens the file. The returned writer must exist as long as it is to hang:
    /// the file then opens, but never ends.
    fn began(&self) -> File {
        let mut writer = None;
        eventually("a lookup", || {
            writer = open(&self.0, true).ok();
            writer.is_some()
        });
        writer.expect("a writer")
    }
}

/// The program with `stream` (1 or 2) redirected to a file.
fn redirected(sandbox: &Sandbox, options: &str, stream: u8, to: &Path) -> Invocation {
    let script = format!("exec '{PROGRAM}' {options} {stream}>'{}'", to.display());
    sandbox.command(&["/bin/sh", "-c", &script])
}

#[track_caller]
fn stops(process: Process, code: i32) -> Duration {
    let (outcome, took) = process.ends_after(Signal::TERM);
    outcome.exits_with(code);
    took
}

#[test]
fn a_report_from_a_pipe_without_writer_stops() {
    for (options, code) in [("--once", 4), ("--once --never-fail", 0), ("--once --dry-run", 0)] {
        takes_less_than(LIMIT, || {
            let sandbox = Sandbox::new();
            let snapshot = pipe(&sandbox);
            let report = sandbox
                .run(options)
                .args(&["--snapshot", snapshot.to_str().expect("text")])
                .env("HONEYCOMB_API_ENDPOINT", UNREACHABLE)
                .with_key()
                .start();
            // This works only once the program opens the pipe to read.
            let mut writer = None;
            eventually("a reader", || {
                writer = open(&snapshot, true).ok();
                writer.is_some()
            });
            stops(report, code)
        });
    }
}

#[test]
fn a_report_whose_step_summary_is_a_pipe_stops() {
    takes_less_than(LIMIT, || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let summary = pipe(&sandbox);
        let snapshot = capture("ci/snapshot.json");
        let report = sandbox
            .run("--once")
            .args(&["--snapshot", snapshot.to_str().expect("text")])
            .env("GITHUB_STEP_SUMMARY", &summary)
            .sending_to(&server)
            .start();
        eventually("the table", || report.stdout().contains("tilt ci:"));
        stops(report, 4)
    });
}

#[test]
fn a_report_with_a_blocked_stderr_stops() {
    takes_less_than(LIMIT, || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(401, ""));
        let stderr = AlmostFullPipe::new(&sandbox, 100);
        let report =
            redirected(&sandbox, "--once --verbose", 2, &stderr.path).sending_to(&server).start();
        stderr.blocks_its_writer();
        stops(report, 4)
    });
}

#[test]
fn a_dry_run_with_a_blocked_stdout_stops() {
    takes_less_than(LIMIT, || {
        let sandbox = Sandbox::new();
        let stdout = AlmostFullPipe::new(&sandbox, AlmostFullPipe::PAGE);
        let run = redirected(&sandbox, "--once --dry-run", 1, &stdout.path).start();
        stdout.blocks_its_writer();
        stops(run, 0)
    });
}

#[test]
fn a_check_with_a_blocked_stdout_stops() {
    takes_less_than(LIMIT, || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let stdout = AlmostFullPipe::new(&sandbox, 100);
        let check = redirected(&sandbox, "check", 1, &stdout.path).sending_to(&server).start();
        stdout.blocks_its_writer();
        stops(check, 4)
    });
}

#[test]
fn a_board_with_a_blocked_stdout_stops() {
    takes_less_than(LIMIT, || {
        let sandbox = Sandbox::new();
        let stdout = AlmostFullPipe::new(&sandbox, AlmostFullPipe::PAGE);
        let options = "board --dry-run --dataset d";
        let board = redirected(&sandbox, options, 1, &stdout.path).start();
        stdout.blocks_its_writer();
        stops(board, 0)
    });
}

/// Every command that sends requests.
const SENDERS: [&str; 4] = ["--once", "--flush", "check", "board"];

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_command_stops_while_a_lookup_hangs() {
    for options in SENDERS {
        takes_less_than(LIMIT, || {
            let sandbox = Sandbox::new();
            let lookup = HangingLookup::new(&sandbox);
            let proxy = format!("socks5h{}", UNREACHABLE.trim_start_matches("http"));
            let report = lookup.run(&sandbox, "--once").env("ALL_PROXY", proxy);
            report.args(&["--timeout", "100ms"]).finish().exits_with(4);
            let command = lookup.run(&sandbox, options).args(&["--timeout", "1m"]).start();
            let _writer = lookup.began();
            let (outcome, took) = command.ends_after(Signal::TERM);
            outcome.exits_with(4);
            took
        });
    }
}

#[test]
fn a_command_stops_while_the_server_is_silent() {
    for options in SENDERS {
        takes_less_than(LIMIT, || {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            sandbox.queue_report(&server);
            server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Stall });
            let sent = server.requests().len();
            let command = sandbox
                .run(options)
                .args(&["--timeout", "1m"])
                .sending_to(&server)
                .env("HONEYCOMB_API_KEY", CONFIGURATION_KEY)
                .start();
            server.request(sent);
            let (outcome, took) = command.ends_after(Signal::TERM);
            let outcome = outcome.exits_with(4);
            if options != "check" {
                outcome.says("stopped by a signal").says_one_line();
            }
            took
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_hangup_stays_ignored() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let script = format!("trap '' HUP; exec '{PROGRAM}' --interval 1s --no-watch");
    let sidecar = sandbox.command(&["/bin/sh", "-c", &script]).sending_to(&server).start();
    server.request(0);
    sidecar.signal(Signal::HUP);
    // The sidecar still reports after the signal.
    server.request(server.requests().len() + 1);
    assert!(sidecar.is_running());
    let (outcome, _) = sidecar.ends_after(Signal::TERM);
    outcome.exits_with(0);
}

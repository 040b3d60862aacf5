//! One signal ends every command within a second, whatever it waits for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fakes::honeycomb::{Reply, Server};
use rustix::fs::OFlags;

use crate::support::{
    Invocation, PROGRAM, Process, Sandbox, Signal, UNREACHABLE, capture, eventually,
    takes_less_than,
};

const LIMIT: Duration = Duration::from_secs(1);

/// Creates a named pipe.
fn pipe(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.path("work/pipe");
    // macOS has no mknodat.
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    path
}

/// Opens a pipe without waiting for its other end.
fn open(path: &Path, write: bool) -> std::io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(!write).write(write).custom_flags(flags).open(path)
}

/// A pipe that is full, with its reader. A writer blocks.
fn full_pipe(sandbox: &Sandbox) -> (PathBuf, File, File) {
    let path = pipe(sandbox);
    let reader = open(&path, false).expect("a reader");
    let mut writer = open(&path, true).expect("a writer");
    // Single bytes, because a pipe with room for less than a page refuses a larger write.
    let full = loop {
        if let Err(error) = writer.write_all(b"x") {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    (path, reader, writer)
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
        let (stderr, _reader, _writer) = full_pipe(&sandbox);
        let report = redirected(&sandbox, "--once", 2, &stderr).sending_to(&server).start();
        server.request(0);
        stops(report, 4)
    });
}

#[test]
fn a_dry_run_with_a_blocked_stdout_stops() {
    takes_less_than(LIMIT, || {
        let sandbox = Sandbox::new();
        let (stdout, _reader, _writer) = full_pipe(&sandbox);
        let run = redirected(&sandbox, "--once --dry-run", 1, &stdout).start();
        eventually("a poll", || !sandbox.tilt().calls().is_empty());
        stops(run, 0)
    });
}

#[test]
fn a_check_with_a_blocked_stdout_stops() {
    takes_less_than(LIMIT, || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let (stdout, _reader, _writer) = full_pipe(&sandbox);
        let check = redirected(&sandbox, "check", 1, &stdout).sending_to(&server).start();
        eventually("a call", || !sandbox.tilt().calls().is_empty());
        stops(check, 4)
    });
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

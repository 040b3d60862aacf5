//! Snapshots of any length, and from a pipe, are read in bounded memory.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fakes::honeycomb::{Answer, Server};
use fakes::proc;
use serde_json::json;

use crate::ci::runs::{assert_complete, post_step, recorded};
use crate::support::{
    Invocation, PROGRAM, RECORDED_EVENTS, Sandbox, capture, captured_json, takes_less_than,
};

/// More address space than the program and its libraries reserve, and not enough for more than one
/// snapshot of the longest kind that is read.
const MEMORY_KIB: usize = 300_000;

/// The program with a shell command before it, within the limit on memory.
fn limited(sandbox: &Sandbox, before: &str, options: &str, server: &Server) -> Invocation {
    let script = format!("ulimit -v {MEMORY_KIB}; {before} '{PROGRAM}' --once {options}");
    sandbox.command(&["/bin/sh", "-c", &script]).env("PATH", "/usr/bin:/bin").sending_to(server)
}

/// Writes the beginning of a snapshot and extends it to this length. The rest takes no disk space.
fn write_sparse_snapshot(sandbox: &Sandbox, length: u64) {
    let mut file = File::create(sandbox.path("work/tilt.json")).expect("a file");
    file.write_all(b"{\"view\":{\"logList\":\"").expect("a beginning");
    file.set_len(length).expect("a length");
}

#[test]
fn a_snapshot_of_more_than_256_mb_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let queued = sandbox.queue_report(&server);
    assert!(queued >= RECORDED_EVENTS);
    write_sparse_snapshot(&sandbox, 300 * 1024 * 1024);
    let outcome = limited(&sandbox, "", "--snapshot tilt.json", &server).finish().exits_with(1);
    let outcome = outcome.says("the snapshot tilt.json is longer than 256 MB").says_one_line();
    assert_eq!(outcome.stdout, "");
    assert_eq!(server.accepted().len(), queued, "the queue is sent");
    let options = "--snapshot tilt.json --never-fail";
    limited(&sandbox, "", options, &server).finish().exits_with(0).says("longer than 256 MB");
}

#[test]
fn the_logs_of_a_long_snapshot_are_not_held_in_memory() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_sparse_snapshot(&sandbox, 250 * 1024 * 1024);
    let mut file = OpenOptions::new().append(true).open(sandbox.path("work/tilt.json"));
    let view = captured_json("ci/snapshot.json")["view"].to_string();
    let rest = format!("\",{}}}", view.strip_prefix('{').expect("an object"));
    file.as_mut().expect("the file").write_all(rest.as_bytes()).expect("the rest");
    limited(&sandbox, "", "--snapshot tilt.json", &server).finish().exits_with(0);
    assert!(!server.accepted().is_empty());
}

#[test]
fn an_endless_device_is_not_a_snapshot() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let outcome = limited(&sandbox, "", "--snapshot /dev/zero", &server).finish().exits_with(1);
    outcome.says("/dev/zero is not a snapshot").says_one_line();
}

#[test]
fn an_endless_pipe_is_an_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for before in ["yes '{\"a\":\"x' |", "yes '{ ' |"] {
        let run = limited(&sandbox, before, "--snapshot /dev/stdin", &server);
        run.finish().exits_with(1).says("/dev/stdin").says_one_line();
    }
}

#[test]
fn a_snapshot_is_read_from_stdin() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let before = format!("cat '{}' |", capture("ci/snapshot.json").display());
    limited(&sandbox, &before, "--snapshot /dev/stdin", &server).finish().exits_with(0);
    assert!(!server.accepted().is_empty());
}

#[test]
fn fifty_mb_of_logs_take_under_1_s_of_cpu_and_100_mb_of_memory() {
    let mut snapshot = recorded();
    let line = json!({"time": "2026-11-22T15:27:29.405907Z", "text": format!("{}\n", "x".repeat(800)),
        "spanId": "build:1", "level": "INFO"});
    snapshot["view"]["logList"]["segments"] = json!(vec![line; 58_000]);
    let text = serde_json::to_string_pretty(&snapshot).expect("JSON");
    assert!(text.len() > 50_000_000, "{}", text.len());

    takes_less_than(Duration::from_secs(1), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.write_snapshot(&text);
        // Peak memory can only be read while the process runs, so the server reads it on arrival.
        let (started, usage) =
            (Arc::<OnceLock<u32>>::default(), Arc::<Mutex<Option<(u64, Duration)>>>::default());
        let (pid, seen) = (Arc::clone(&started), Arc::clone(&usage));
        server.usually(Answer::By(Arc::new(move |_| {
            let pid = *pid.wait();
            let used = proc::status(pid, "VmHWM").zip(proc::cpu_time(pid));
            *seen.lock().expect("no one panicked") = used;
            Answer::Accept
        })));
        let step = post_step(&sandbox, &server).start();
        started.set(step.pid()).expect("one process");
        step.finish().exits_with(0);
        assert_complete(&server.accepted(), "success");
        let (peak_kib, cpu) = usage.lock().expect("no one panicked").expect("a request arrived");
        assert!(peak_kib < 100_000, "{peak_kib} KiB");
        // CPU time does not depend on other load on the machine.
        cpu
    });
}

//! The program survives a system without free threads, disk space or memory, or ends with its own exit
//! code, and never leaves a core dump.

use std::fs;

use fakes::honeycomb::{Answer, Reply, Server};
use fakes::machine::{FaultFile, MachineFault};
use fakes::proc;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::support::{Process, Sandbox, builds, eventually, recorded_builds};

/// A limit that any user exceeds with one more thread.
const NO_THREADS: &str = "{ ulimit -S -u 1 || ulimit -S -p 1; } 2>/dev/null";

/// Sets the limit on threads of a process that [`Sandbox::limited`] started. It belongs to another user,
/// and even root may lack the privilege.
fn limit_threads(sandbox: &Sandbox, process: &Process, limit: u64) {
    let pid = process.pid();
    let script = format!("exec /usr/bin/prlimit --pid {pid} --nproc={limit}:");
    sandbox.limited(&script).finish().exits_with(0);
}

fn usual_threads() -> u64 {
    getrlimit(Resource::Nproc).current.unwrap_or(100_000)
}

fn limit_file_size(process: &Process, current: Option<u64>) {
    let limit = Rlimit { current, maximum: getrlimit(Resource::Fsize).maximum };
    let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Fsize, limit).expect("a limit");
}

/// Writes a snapshot of this length. Nearly all of it must be held in memory.
fn write_large_snapshot(sandbox: &Sandbox, length: usize) {
    let name = "x".repeat(length);
    let text = format!(r#"{{"view":{{"uiResources":[{{"metadata":{{"name":"{name}"}}}}]}}}}"#);
    sandbox.write_snapshot(text);
}

#[test]
fn a_sidecar_starts_once_a_thread_is_free() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for mode in ["ci", "up"] {
        let sent = server.requests().len();
        let script = format!("{NO_THREADS}; exec \"$PROGRAM\" --no-watch --interval 1s");
        let sidecar =
            sandbox.limited(&script).sending_to(&server).env("TILT_HONEYCOMB_MODE", mode).start();
        sidecar.says("cannot start a thread");
        assert!(sidecar.is_running() && server.requests().len() == sent);
        limit_threads(&sandbox, &sidecar, usual_threads());
        server.request(sent);
        sidecar.ends_after(Signal::TERM).0.exits_with(0);
    }
}

#[test]
fn a_signal_ends_a_sidecar_without_threads() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar =
        sandbox.limited(&format!("{NO_THREADS}; exec \"$PROGRAM\"")).sending_to(&server).start();
    sidecar.says("cannot start a thread");
    // Without a thread there is no handler, so the signal itself ends the process.
    assert_eq!(sidecar.ends_after(Signal::TERM).0.code, None);
}

#[test]
fn an_idle_sidecar_needs_no_thread() {
    let sandbox = Sandbox::new();
    let script = format!("{NO_THREADS}; exec \"$PROGRAM\" --no-such-option");
    let sidecar = sandbox.limited(&script).env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("staying idle");
    eventually("a wait", || proc::state(sidecar.pid()) == Some('S'));
    assert_eq!(sidecar.ends_after(Signal::TERM).0.code, None);
}

#[test]
fn a_running_sidecar_survives_a_time_without_threads() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for options in ["--no-watch --interval 1s", "--interval 1s"] {
        let script = format!("exec \"$PROGRAM\" {options}");
        let sidecar = sandbox.limited(&script).sending_to(&server).start();
        sidecar.says("sent ");
        limit_threads(&sandbox, &sidecar, 1);
        sandbox.tilt().set("end", "");
        sidecar.says("os error 11");
        sandbox.tilt().unset("end");
        limit_threads(&sandbox, &sidecar, usual_threads());
        sidecar.says("tilt answers again");
        sidecar.ends_after(Signal::TERM).0.exits_with(0);
    }
}

/// A lookup of a host name usually runs in its own thread.
#[test]
fn a_queue_is_sent_without_a_free_thread() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let url = server.url().replace("127.0.0.1", "localhost");
    server.usually(Reply::new(503, "").header("retry-after", 600));
    let script = "exec \"$PROGRAM\" --once";
    let endpoint = |script: &str| {
        sandbox.limited(script).sending_to(&server).env("HONEYCOMB_API_ENDPOINT", &url)
    };
    endpoint(script).finish().exits_with(4);
    let queued = sandbox.queued();
    assert!(queued > 0);
    server.usually(Answer::Accept);
    let flush = format!("{NO_THREADS}; exec \"$PROGRAM\" --flush --timeout 1m");
    endpoint(&flush).finish().exits_with(0);
    assert_eq!((server.accepted().len(), sandbox.queued()), (queued, 0));
}

#[test]
fn a_file_size_limit_is_an_error_and_not_a_kill() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let script = "ulimit -f 0; exec \"$PROGRAM\" --once";
    let outcome = sandbox.limited(script).sending_to(&server).finish();
    outcome.exits_with(1).says("File too large").says_one_line();
}

#[test]
fn a_sidecar_survives_a_file_size_limit() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // The watches started before the limit, so only this program is limited.
    let sidecar = sandbox.run("--interval 1s").sending_to(&server).start();
    sandbox.is_watched();
    sidecar.says("sent ");
    limit_file_size(&sidecar, Some(0));
    sidecar.says("File too large");
    let sent = server.requests().len();
    limit_file_size(&sidecar, None);
    sidecar.says("the state is usable again");
    server.request(sent);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn a_failed_allocation_ends_with_an_exit_code_and_no_core() {
    let sandbox = Sandbox::new();
    write_large_snapshot(&sandbox, 60_000_000);
    for (option, code) in [("", 1), (" --never-fail", 0)] {
        let script = format!(
            "ulimit -c unlimited; ulimit -v 60000; \
             exec \"$PROGRAM\" --once --snapshot tilt.json{option}"
        );
        let outcome = sandbox.limited(&script).with_key().finish();
        outcome.exits_with(code).says("memory allocation of");
        let left = fs::read_dir(sandbox.path("work")).expect("a folder").flatten();
        let names: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["tilt.json"]);
    }
}

#[test]
fn the_program_allows_no_core_dump() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let script = "ulimit -S -c unlimited; exec \"$PROGRAM\"";
    let sidecar = sandbox.limited(script).sending_to(&server).start();
    sidecar.says("sent ");
    let limits = fs::read_to_string(proc::folder(sidecar.pid()).join("limits"));
    let limits = limits.expect("a running process");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let soft = core.and_then(|line| line.split_whitespace().nth(4));
    assert_eq!(soft, Some("0"), "{limits}");
    sidecar.signal(Signal::QUIT);
    eventually("an exit", || !sidecar.is_running());
    assert_eq!(fs::read_dir(sandbox.path("work")).expect("a folder").count(), 0);
}

/// Some network file systems cannot sync a folder. The rename before has happened.
#[test]
fn a_folder_that_cannot_be_synced_is_not_a_failure() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let faults = FaultFile::new(sandbox.path("faults")).expect("a file");
    faults.set(Some(MachineFault::NoFolderSync)).expect("a fault");
    let report = || sandbox.report_to(&server).with_faults(&faults).with_steps(&sandbox);
    report().finish().exits_with(0).says_nothing();
    assert_eq!(builds(&server.accepted()), recorded_builds());
    let steps = sandbox.steps();
    assert!(steps.iter().any(|step| step.target == "folder EINVAL"), "{steps:#?}");
    // The next report knows what was sent.
    report().finish().exits_with(0).says_nothing();
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

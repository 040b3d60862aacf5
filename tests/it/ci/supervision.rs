//! The sidecar beside `tilt ci` may end in any way. The process that Tilt started goes on.

use std::fs;

use fakes::honeycomb::Server;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::support::{Process, Sandbox, eventually};

fn start_beside_ci(sandbox: &Sandbox, server: &Server) -> Process {
    let sidecar = sandbox.run("--no-watch --interval 1s").sending_to(server);
    let sidecar = sidecar.env("TILT_HONEYCOMB_MODE", "ci").start();
    sidecar.says("sent ");
    sidecar
}

/// The sidecar that a supervisor runs.
fn supervised(supervisor: &Process) -> Pid {
    let pid = supervisor.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("a running process");
    let child = children.split_whitespace().next().expect("a child");
    Pid::from_raw(child.parse().expect("a number")).expect("a process")
}

/// In bytes.
fn address_space(pid: Pid) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero()));
    let pages = pages.expect("a running process");
    let pages: u64 =
        pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

fn exists(pid: Pid) -> bool {
    fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).expect("/proc")
}

#[test]
fn a_sidecar_killed_under_tilt_ci_does_not_fail_the_job() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let supervisor = start_beside_ci(&sandbox, &server);
    let sidecar = supervised(&supervisor);
    kill_process(sidecar, Signal::KILL).expect("our process");
    supervisor.says("the collector has ended; staying idle");
    assert!(supervisor.is_running() && !exists(sidecar));
    supervisor.stop();
}

#[test]
fn a_failed_allocation_under_tilt_ci_does_not_fail_the_job() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let supervisor = start_beside_ci(&sandbox, &server);
    let sidecar = supervised(&supervisor);
    // Enough for the threads of a poll, and too little for an object of this size.
    let limit = Rlimit { current: Some(address_space(sidecar) + 10_000_000), maximum: None };
    prlimit(Some(sidecar), Resource::As, limit).expect("a limit");
    sandbox.tilt().change("uiresources", |resources| {
        resources[0]["metadata"]["annotations"]["large"] = "x".repeat(7_000_000).into();
    });
    supervisor.says("memory allocation of").says("staying idle");
    assert!(supervisor.is_running());
    supervisor.stop();
}

#[test]
fn a_sidecar_under_tilt_ci_ends_with_its_supervisor() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let supervisor = start_beside_ci(&sandbox, &server);
        let sidecar = supervised(&supervisor);
        let (outcome, took) = supervisor.ends_after(signal);
        if signal != Signal::KILL {
            outcome.exits_with(0);
            assert!(!exists(sidecar), "it was waited for, {took:?}");
        }
        eventually("the end of the sidecar", || !exists(sidecar));
    }
}

#[test]
fn a_sidecar_under_tilt_up_has_no_supervisor() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.run("--no-watch").sending_to(&server).start();
    sidecar.says("sent ");
    let pid = sidecar.pid();
    eventually("no child", || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("a running process").is_empty()
    });
    sidecar.stop();
}

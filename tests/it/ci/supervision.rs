//! The sidecar beside `tilt ci` may end in any way. The process that Tilt started goes on.

use fakes::honeycomb::Server;
use fakes::proc;
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
    let children = proc::children(supervisor.pid());
    let child = children.first().expect("a child").cast_signed();
    Pid::from_raw(child).expect("a process")
}

/// In bytes.
fn address_space(pid: Pid) -> u64 {
    1024 * proc::status(pid.as_raw_pid().cast_unsigned(), "VmSize").expect("a running process")
}

fn exists(pid: Pid) -> bool {
    proc::folder(pid.as_raw_pid().cast_unsigned()).exists()
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
    eventually("no child", || proc::children(sidecar.pid()).is_empty());
    sidecar.stop();
}

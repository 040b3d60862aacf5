//! SIGKILL and SIGTERM before and after each write, sync, truncation, rename, removal, connection and
//! send.
//! `tests/fakes/machine.c` counts these steps and sends the signal.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use fakes::honeycomb::Server;

use crate::support::{
    Invocation, Outcome, Sandbox, Signal, Step, builds, eventually, recorded_builds, retry,
};

/// The calls of the steps that a report and its delivery take.
const CALLS: [&str; 7] = ["connect", "fsync", "ftruncate64", "rename", "send", "unlink", "write"];

/// With this many more resources, a report takes two requests.
const EXTRA_RESOURCES: usize = 450;
/// The shortest time that a stopped process waits for the response of a sent batch.
const LAST_RESPONSE_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Strike {
    signal: Signal,
    when: &'static str,
    at: usize,
}

impl Strike {
    fn on(self, run: Invocation, sandbox: &Sandbox) -> Invocation {
        let strike = format!("{} {} {}", self.signal.as_raw(), self.when, self.at);
        run.with_steps(sandbox).env("STRIKE", strike)
    }
}

/// Asserts that a run took steps of every call, and thus that every call was struck.
#[track_caller]
fn assert_every_call_is_a_step(steps: &[Step]) {
    let calls: BTreeSet<_> = steps.iter().map(|step| step.call.as_str()).collect();
    assert_eq!(calls, BTreeSet::from(CALLS), "{steps:#?}");
}

/// True if the steps show that the process ended between a response and its storage. One thread both
/// sends a batch and stores the response.
fn ended_with_unstored_response(steps: &[Step]) -> bool {
    let Some(sent) = steps.iter().rposition(|step| step.call == "send") else { return false };
    let sender = &steps[sent].thread;
    let stores = |step: &Step| step.call == "fsync" && step.target.contains("/settled-");
    !steps[sent..].iter().any(|step| step.thread == *sender && stores(step))
}

/// An environment with queued events and a new build.
fn environment() -> (Sandbox, Server) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.queue_report(&server);
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    (sandbox, server)
}

/// Asserts that the next report sends the rest. Each build arrives once, or twice after a kill before
/// the first response was stored. Returns `None` if a stopped process ran out of time to store one.
#[track_caller]
fn assert_next_report_completes(
    sandbox: &Sandbox,
    server: &Server,
    strike: Strike,
    struck: &Outcome,
) -> Option<IsOver> {
    let mut taken = sandbox.steps();
    if strike.signal == Signal::KILL && strike.when == "before" {
        taken.truncate(strike.at - 1);
    }
    sandbox.report_to(server).finish().exits_with(0);
    assert_eq!(sandbox.queued(), 0, "{strike:?}");
    let accepted = server.accepted();
    let mut sent = builds(&accepted);
    sent.dedup();
    assert_eq!(sent.len(), recorded_builds().len() + 1, "{strike:?}");
    let mut times = HashMap::<String, usize>::new();
    for event in &accepted {
        *times.entry(event.to_string()).or_default() += 1;
    }
    let most = times.into_values().max();
    let was_killed = strike.signal == Signal::KILL;
    let was_cut_short = was_killed || struck.took >= LAST_RESPONSE_WAIT;
    let allowed = 1 + usize::from(was_cut_short && ended_with_unstored_response(&taken));
    assert!(most <= Some(allowed), "{strike:?}: {most:?} times, after {taken:#?}");
    (was_killed || most <= Some(1)).then_some(false)
}

/// True if the process finished before the step to strike at.
type IsOver = bool;

/// Strikes at each step in turn.
#[track_caller]
fn strike_each(signal: Signal, when: &'static str, strike: fn(Strike) -> Option<IsOver>) {
    for at in 1.. {
        let what = format!("{signal:?} {when} step {at}, with responses stored in time");
        if retry(&what, || strike(Strike { signal, when, at })) {
            return;
        }
    }
}

/// Strikes a report of two requests at a step.
fn strike_single_report(strike: Strike) -> Option<IsOver> {
    let (sandbox, server) = environment();
    sandbox.tilt().add_resources(EXTRA_RESOURCES);
    let outcome = strike.on(sandbox.report_to(&server), &sandbox).finish();
    let steps = sandbox.steps();
    if steps.len() < strike.at {
        outcome.exits_with(0);
        assert_every_call_is_a_step(&steps);
        assert_eq!(server.requests().len(), 3, "one failed request and two of the report");
        return Some(true);
    }
    let was_killed = outcome.code.is_none();
    assert_eq!(was_killed, strike.signal == Signal::KILL, "{strike:?}: {outcome:?}");
    assert_next_report_completes(&sandbox, &server, strike, &outcome)
}

#[test]
fn the_next_report_completes_one_killed_before_any_step() {
    strike_each(Signal::KILL, "before", strike_single_report);
}

#[test]
fn the_next_report_completes_one_killed_after_any_step() {
    strike_each(Signal::KILL, "after", strike_single_report);
}

#[test]
fn the_next_report_completes_one_stopped_at_any_step() {
    strike_each(Signal::TERM, "before", strike_single_report);
}

/// Strikes a sidecar at a step between its start and an empty queue.
fn strike_sidecar(strike: Strike) -> Option<IsOver> {
    let (sandbox, server) = environment();
    let sidecar = strike.on(sandbox.sidecar_to(&server), &sandbox).start();
    let is_done = || builds(&server.accepted()).len() > recorded_builds().len();
    eventually("the sidecar has exited or has nothing to do", || {
        !sidecar.is_running() || is_done() && sandbox.queued() == 0
    });
    let steps = sandbox.steps();
    if sidecar.is_running() && steps.len() < strike.at {
        assert_every_call_is_a_step(&steps);
        return Some(true);
    }
    let outcome = sidecar.finish();
    if strike.signal == Signal::KILL {
        assert_eq!(outcome.code, None, "{strike:?}");
    } else {
        assert_eq!(outcome.code, Some(0), "{strike:?}: {outcome:?}");
    }
    assert_next_report_completes(&sandbox, &server, strike, &outcome)
}

#[test]
fn a_sidecar_killed_after_any_step_loses_nothing() {
    strike_each(Signal::KILL, "after", strike_sidecar);
}

#[test]
fn a_sidecar_stopped_at_any_step_loses_and_repeats_nothing() {
    strike_each(Signal::TERM, "before", strike_sidecar);
}

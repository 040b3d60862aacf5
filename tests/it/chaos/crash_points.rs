//! An end at each step: before and after each write, sync, rename, removal, connection and send, by
//! SIGKILL and by SIGTERM. `machine.c` counts the steps, and strikes.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::sandbox::{
    Invocation, Outcome, Sandbox, builds, eventually, in_some_tries, machine, recorded_builds,
};
use fakes::honeycomb::Server;

/// With so many resources more, what there is to send takes two requests.
const CROWD: usize = 450;
/// For so long whoever is asked to end waits for an answer, at the least.
const LAST_ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Strike {
    signal: Signal,
    when: &'static str,
    at: usize,
}

impl Strike {
    fn on(self, run: Invocation, sandbox: &Sandbox) -> Invocation {
        run.env("LD_PRELOAD", machine())
            .env("STEPS", sandbox.path("steps"))
            .env("STRIKE", format!("{} {} {}", self.signal.as_raw(), self.when, self.at))
    }
}

/// The steps that were taken, or were about to be: by which thread, and what.
fn steps(sandbox: &Sandbox) -> Vec<(String, String)> {
    let steps = fs::read_to_string(sandbox.path("steps")).unwrap_or_default();
    let words = steps.lines().map(|line| line.split_once(' ').expect("a thread and a step"));
    words.map(|(thread, step)| (thread.to_owned(), step.to_owned())).collect()
}

/// Whether the process ended between an answer and the note of it, as far as its steps tell: the
/// thread that sends notes the answer too.
fn had_an_answer_to_note(steps: &[(String, String)]) -> bool {
    let is = |step: &(String, String), name: &str| step.1.starts_with(name);
    let Some(sent) = steps.iter().rposition(|step| is(step, "send")) else { return false };
    let sender = &steps[sent].0;
    !steps[sent..].iter().any(|step| step.0 == *sender && is(step, "rename"))
}

/// An environment of which some events wait from before, and that has a build to tell.
fn environment() -> (Sandbox, Server) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_in_vain(&server);
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    (sandbox, server)
}

/// Whatever a process was struck at, the next report tells the rest: each build once, or twice where
/// it was killed and the first answer had not been noted. `None` where it was asked to end, and did
/// before it had noted an answer: then its time was up.
#[track_caller]
fn the_next_report_makes_it_whole(
    sandbox: &Sandbox,
    server: &Server,
    strike: Strike,
    struck: &Outcome,
) -> Option<IsOver> {
    let mut taken = steps(sandbox);
    if strike.signal == Signal::KILL && strike.when == "before" {
        taken.truncate(strike.at - 1);
    }
    sandbox.report_to(server).finish().exits_with(0);
    assert_eq!(sandbox.waiting(), 0, "{strike:?}");
    let accepted = server.accepted();
    let mut told = builds(&accepted);
    told.dedup();
    assert_eq!(told.len(), recorded_builds().len() + 1, "{strike:?}");
    let mut times = HashMap::<String, usize>::new();
    for event in &accepted {
        *times.entry(event.to_string()).or_default() += 1;
    }
    let most = times.into_values().max();
    let was_killed = strike.signal == Signal::KILL;
    let was_cut_short = was_killed || struck.took >= LAST_ANSWER;
    let allowed = 1 + usize::from(was_cut_short && had_an_answer_to_note(&taken));
    assert!(most <= Some(allowed), "{strike:?}: {most:?} times, after {taken:#?}");
    (was_killed || most <= Some(1)).then_some(false)
}

/// Whether there are no more steps to strike at.
type IsOver = bool;

/// Strikes at each step.
#[track_caller]
fn strike_each(signal: Signal, when: &'static str, strike: fn(Strike) -> Option<IsOver>) {
    for at in 1.. {
        let what = format!("{signal:?} {when} step {at}, and all is noted in time");
        if in_some_tries(&what, || strike(Strike { signal, when, at })) {
            return;
        }
    }
}

/// Strikes a single report of two requests at a step that it takes.
fn strike_single_report(strike: Strike) -> Option<IsOver> {
    let (sandbox, server) = environment();
    sandbox.tilt().crowd(CROWD);
    let outcome = strike.on(sandbox.report_to(&server), &sandbox).finish();
    if steps(&sandbox).len() < strike.at {
        outcome.exits_with(0);
        assert_eq!(server.requests().len(), 3, "one in vain, and two");
        return Some(true);
    }
    let was_killed = outcome.code.is_none();
    assert_eq!(was_killed, strike.signal == Signal::KILL, "{strike:?}: {outcome:?}");
    the_next_report_makes_it_whole(&sandbox, &server, strike, &outcome)
}

#[test]
fn a_report_killed_before_any_of_its_steps_is_made_whole_by_the_next() {
    strike_each(Signal::KILL, "before", strike_single_report);
}

#[test]
fn a_report_killed_after_any_of_its_steps_is_made_whole_by_the_next() {
    strike_each(Signal::KILL, "after", strike_single_report);
}

#[test]
fn a_report_asked_to_end_at_any_of_its_steps_is_made_whole_by_the_next() {
    strike_each(Signal::TERM, "before", strike_single_report);
}

/// Strikes a sidecar at a step from its start until all is told and noted.
fn strike_sidecar(strike: Strike) -> Option<IsOver> {
    let (sandbox, server) = environment();
    let sidecar = strike.on(sandbox.live_to(&server), &sandbox).start();
    let is_done = || builds(&server.accepted()).len() > recorded_builds().len();
    eventually("it has ended, or has no more to do", || {
        !sidecar.is_running() || is_done() && sandbox.waiting() == 0
    });
    if sidecar.is_running() && steps(&sandbox).len() < strike.at {
        assert!(strike.at > 15, "a report and a delivery take more steps than {}", strike.at);
        return Some(true);
    }
    let outcome = sidecar.finish();
    if strike.signal == Signal::KILL {
        assert_eq!(outcome.code, None, "{strike:?}");
    } else {
        assert_eq!(outcome.code, Some(0), "{strike:?}: {outcome:?}");
    }
    the_next_report_makes_it_whole(&sandbox, &server, strike, &outcome)
}

#[test]
fn a_sidecar_killed_after_any_of_its_steps_loses_nothing() {
    strike_each(Signal::KILL, "after", strike_sidecar);
}

#[test]
fn a_sidecar_asked_to_end_at_any_of_its_steps_loses_and_repeats_nothing() {
    strike_each(Signal::TERM, "before", strike_sidecar);
}

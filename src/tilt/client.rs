//! Polls Tilt: the output of `tilt get` becomes a snapshot or an error.
//!
//! The exit status of `tilt` counts before its output, because `tilt get` on the server of a Tilt
//! that has ended prints a valid empty list and exits with 1.

use std::time::{Duration, Instant};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::tilt::command::{TiltCommand, TiltMode};
use crate::tilt::error::{TiltError, diagnosis, quote};
use crate::tilt::kinds::{CLUSTERS, ObjectKind, PODS};
use crate::tilt::model::Snapshot;
use crate::tilt::process::{CallOutput, RunningCall};

/// The longest time for one poll. Tilt takes 0.9 s for 500 resources.
const POLL_TIMEOUT: Duration = Duration::from_secs(20);

/// A Tilt to poll.
#[derive(Debug)]
pub struct Tilt {
    command: TiltCommand,
    mode: Option<TiltMode>,
    plan: Plan,
}

/// The calls of one poll. It follows from the kinds that this Tilt is known to have.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    /// One call for all kinds. It costs about as much as a call for one kind.
    Together(Vec<ObjectKind>),
    /// One call for each kind, for a Tilt that takes no list of kinds.
    OneByOne(Vec<ObjectKind>),
}

impl Tilt {
    /// A Tilt of which nothing is known yet. No `tilt` runs before the first poll.
    pub fn new(command: TiltCommand, mode: Option<TiltMode>) -> Self {
        Self { command, mode, plan: Plan::Together(ObjectKind::for_mode(mode)) }
    }

    /// Returns the version of the program, such as `0.37.6, built 2026-07-01`. The Tilt that runs
    /// may have another version.
    pub fn program_version(&self, shutdown: &Shutdown) -> Result<String, TiltError> {
        let calls = self.calls(POLL_TIMEOUT, shutdown);
        let output = calls.run(vec!["version".to_owned()])?;
        let text = String::from_utf8_lossy(&output.head);
        let line = text.lines().next().unwrap_or_default();
        Ok(quote(line.strip_prefix('v').unwrap_or(line)))
    }

    /// The names of the kinds that a poll asks for. After a successful poll, they are those that
    /// this Tilt has.
    pub fn kinds(&self) -> Vec<&'static str> {
        let (Plan::Together(kinds) | Plan::OneByOne(kinds)) = &self.plan;
        kinds.iter().map(|kind| kind.name()).collect()
    }

    /// Asks Tilt for all objects. Takes at most `limit`, and never more than 20 s.
    pub fn poll(&mut self, limit: Duration, shutdown: &Shutdown) -> Result<Snapshot, TiltError> {
        let limit = limit.min(POLL_TIMEOUT);
        let deadline = time::now() + limit;
        let mut polled = self.poll_as_planned(limit, shutdown);
        if let Ok(snapshot) = &mut polled
            && snapshot.uses_kubernetes()
        {
            Calls { command: &self.command, limit, deadline, shutdown }.add_kubernetes(snapshot);
        }
        if let Err(TiltError::NotRunning { .. }) = polled {
            // The next Tilt may have another version, with more kinds.
            self.plan = Plan::Together(ObjectKind::for_mode(self.mode));
        }
        polled
    }

    fn poll_as_planned(
        &mut self,
        limit: Duration,
        shutdown: &Shutdown,
    ) -> Result<Snapshot, TiltError> {
        let calls = self.calls(limit, shutdown);
        let kinds = match &self.plan {
            Plan::Together(kinds) => {
                let names: Vec<_> = kinds.iter().map(|kind| kind.name_in_list()).collect();
                match calls.get(&names.join(",")) {
                    Err(TiltError::UnknownKind) => {}
                    output => return snapshot([output?]),
                }
                // A Tilt that has all these kinds may still not take a list of them.
                kinds.clone()
            }
            Plan::OneByOne(kinds) => kinds.clone(),
        };
        let (known, outputs) = calls.get_each(&kinds)?;
        self.plan =
            if known.len() < kinds.len() { Plan::Together(known) } else { Plan::OneByOne(known) };
        snapshot(outputs)
    }

    fn calls<'a>(&'a self, limit: Duration, shutdown: &'a Shutdown) -> Calls<'a> {
        Calls { command: &self.command, limit, deadline: time::now() + limit, shutdown }
    }
}

/// Joins the objects of all calls.
fn snapshot(outputs: impl IntoIterator<Item = CallOutput>) -> Result<Snapshot, TiltError> {
    let mut snapshot = Snapshot::default();
    for output in outputs {
        let parsed = output.list.end().map_err(TiltError::Unreadable)?;
        if parsed.skipped > 0 {
            log::debug!("skipped {} objects of an unknown shape", parsed.skipped);
        }
        snapshot.join(parsed.snapshot);
    }
    snapshot.sort();
    Ok(snapshot)
}

/// Calls of `tilt` that share a deadline.
struct Calls<'a> {
    command: &'a TiltCommand,
    limit: Duration,
    deadline: Instant,
    shutdown: &'a Shutdown,
}

impl Calls<'_> {
    /// Adds the cluster and the pods. A failure loses only details, so it is not an error of the poll.
    fn add_kubernetes(&self, snapshot: &mut Snapshot) {
        for kind in [CLUSTERS, PODS] {
            match self.get(kind).and_then(|output| output.list.end().map_err(TiltError::Unreadable))
            {
                Ok(parsed) => snapshot.join(parsed.snapshot),
                Err(error) => log::debug!("cannot read {kind}: {error}"),
            }
        }
        snapshot.attach_pods();
    }

    /// Asks for each kind in a call of its own. Returns the kinds that this Tilt has, and their
    /// outputs. Fails with `NoResources` if it does not have `uiresources`.
    fn get_each(
        &self,
        kinds: &[ObjectKind],
    ) -> Result<(Vec<ObjectKind>, Vec<CallOutput>), TiltError> {
        let mut known = Vec::new();
        let mut outputs = Vec::new();
        for kind in kinds {
            match self.get(kind.name()) {
                Ok(output) => {
                    known.push(*kind);
                    outputs.push(output);
                }
                Err(TiltError::UnknownKind) if *kind == ObjectKind::UiResources => {
                    return Err(TiltError::NoResources);
                }
                Err(TiltError::UnknownKind) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((known, outputs))
    }

    fn get(&self, kinds: &str) -> Result<CallOutput, TiltError> {
        self.run(self.command.arguments(&["get", kinds, "-o", "json"]))
    }

    fn run(&self, arguments: Vec<String>) -> Result<CallOutput, TiltError> {
        let mut running = RunningCall::start(self.command, arguments)?;
        let Some(finished) = running.finish(self.deadline, self.shutdown)? else {
            return Err(TiltError::TimedOut { after: self.limit });
        };
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        let status = finished.status.to_string();
        Err(diagnosis(&finished.stdout.head, &finished.stderr, &status))
    }
}

//! Polls Tilt: the output of `tilt get` becomes a snapshot or an error.
//!
//! The exit status of `tilt` counts before its output, because `tilt get` on the server of a Tilt
//! that has ended prints a valid empty list and exits with 1.

use std::time::{Duration, Instant};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::tilt::command::{TiltCommand, TiltMode};
use crate::tilt::error::{TiltError, diagnosis, quote};
use crate::tilt::kinds::{KUBERNETES, ObjectKind};
use crate::tilt::model::Snapshot;
use crate::tilt::process::{CallOutput, RunningCall};

/// The longest time for one poll. Tilt takes 0.9 s for 500 resources.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A Tilt to poll.
#[derive(Debug)]
pub struct Tilt {
    command: TiltCommand,
    mode: Option<TiltMode>,
    /// True if the last poll showed resources on Kubernetes.
    uses_kubernetes: bool,
    /// The kinds that this Tilt does not have.
    missing: Vec<ObjectKind>,
    /// True if this Tilt takes no list of kinds, so that each kind needs a call of its own. One call
    /// for all kinds costs about as much as a call for one kind.
    takes_one_kind: bool,
}

impl Tilt {
    /// A Tilt of which nothing is known yet. No `tilt` runs before the first poll.
    pub fn new(command: TiltCommand, mode: Option<TiltMode>) -> Self {
        let (missing, takes_one_kind) = (Vec::new(), false);
        Self { command, mode, uses_kubernetes: false, missing, takes_one_kind }
    }

    /// Returns the version of the program, such as `0.37.6, built 2026-07-01`. The Tilt that runs
    /// may have another version.
    pub fn program_version(&self, shutdown: &Shutdown) -> Result<String, TiltError> {
        let calls = Calls::new(&self.command, CALL_TIMEOUT, shutdown);
        let output = calls.run(vec!["version".to_owned()])?;
        let text = String::from_utf8_lossy(&output.head);
        let line = text.lines().next().unwrap_or_default();
        Ok(quote(line.strip_prefix('v').unwrap_or(line)))
    }

    /// Returns the arguments of the `serve_cmd` of a resource. Empty if there is none, or if Tilt does
    /// not tell. Asks for nothing else, because the environment of a command may hold secrets.
    pub fn serve_arguments(&self, resource: &str, shutdown: &Shutdown) -> Vec<String> {
        // Tilt reads the name as part of an expression.
        if resource.contains(['"', '\'', '\\']) {
            return Vec::new();
        }
        let owner = format!(r#"@.metadata.annotations.tilt\.dev/owner-name=="{resource}""#);
        let format = format!("jsonpath={{.items[?({owner})].spec.args}}");
        let calls = Calls::new(&self.command, CALL_TIMEOUT, shutdown);
        let output = calls.run(self.command.arguments(&["get", "cmds", "-o", &format]));
        match output {
            // After a restart, the last one is that which runs.
            Ok(output) => serde_json::Deserializer::from_slice(&output.head)
                .into_iter()
                .map_while(Result::ok)
                .last()
                .unwrap_or_default(),
            Err(error) => {
                log::debug!("cannot read the command of {resource}: {error}");
                Vec::new()
            }
        }
    }

    /// The names of the kinds that a poll asks for. After a successful poll, they are those that
    /// this Tilt has.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.known(&self.wanted()).into_iter().map(ObjectKind::name).collect()
    }

    /// Asks Tilt for all objects. Takes at most `limit`, and never more than 20 s.
    pub fn poll(&mut self, limit: Duration, shutdown: &Shutdown) -> Result<Snapshot, TiltError> {
        // The calls borrow the command, and the poll changes what is known of this Tilt.
        let command = self.command.clone();
        let calls = Calls::new(&command, limit.min(CALL_TIMEOUT), shutdown);
        let polled = self.get(&self.wanted(), &calls);
        if let Err(TiltError::NotRunning { .. }) = polled {
            // The next Tilt may have another version, with more kinds.
            (self.missing, self.takes_one_kind) = (Vec::new(), false);
        }
        let mut snapshot = polled?;
        let had_kubernetes =
            std::mem::replace(&mut self.uses_kubernetes, snapshot.uses_kubernetes());
        if self.uses_kubernetes && !had_kubernetes {
            // A failure loses only details until the next poll.
            match self.get(&KUBERNETES, &calls) {
                Ok(details) => snapshot.join(details),
                Err(error) => log::debug!("cannot read the cluster and its pods: {error}"),
            }
        }
        snapshot.attach_pods();
        snapshot.sort();
        Ok(snapshot)
    }

    fn wanted(&self) -> Vec<ObjectKind> {
        ObjectKind::wanted(self.mode, self.uses_kubernetes)
    }

    /// Those of `kinds` that this Tilt is not known to lack.
    fn known(&self, kinds: &[ObjectKind]) -> Vec<ObjectKind> {
        kinds.iter().copied().filter(|kind| !self.missing.contains(kind)).collect()
    }

    /// Asks for the objects of these kinds: in one call, or in one for each kind.
    fn get(&mut self, kinds: &[ObjectKind], calls: &Calls) -> Result<Snapshot, TiltError> {
        let kinds = self.known(kinds);
        if !self.takes_one_kind && !kinds.is_empty() {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name_in_list()).collect();
            match calls.get(&names.join(",")) {
                Err(TiltError::UnknownKind) => {}
                output => return snapshot([output?]),
            }
        }
        let mut outputs = Vec::new();
        let mut missing = Vec::new();
        for kind in kinds {
            match calls.get(kind.name()) {
                Ok(output) => outputs.push(output),
                Err(TiltError::UnknownKind) if kind == ObjectKind::UiResources => {
                    return Err(TiltError::NoResources);
                }
                Err(TiltError::UnknownKind) => missing.push(kind),
                Err(error) => return Err(error),
            }
        }
        // A Tilt that has all these kinds does not take a list of them.
        self.takes_one_kind |= missing.is_empty() && outputs.len() > 1;
        self.missing.extend(missing);
        snapshot(outputs)
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
    Ok(snapshot)
}

/// Calls of `tilt` that share a deadline.
pub(super) struct Calls<'a> {
    command: &'a TiltCommand,
    limit: Duration,
    deadline: Instant,
    shutdown: &'a Shutdown,
}

impl<'a> Calls<'a> {
    pub(super) fn new(command: &'a TiltCommand, limit: Duration, shutdown: &'a Shutdown) -> Self {
        Self { command, limit, deadline: time::now() + limit, shutdown }
    }

    fn get(&self, kinds: &str) -> Result<CallOutput, TiltError> {
        self.run(self.command.arguments(&["get", kinds, "-o", "json"]))
    }

    pub(super) fn run(&self, arguments: Vec<String>) -> Result<CallOutput, TiltError> {
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

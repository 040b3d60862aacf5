//! Runs with the library of `tests/fakes/machine.c`: with another wall clock, with a fault of the
//! machine, or with a log of their steps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fakes::machine::{Clock, FaultFile, compiled};

use super::process::Invocation;
use super::sandbox::{PROGRAM, Sandbox};

/// A system call with an effect outside the process.
#[derive(Debug)]
pub struct Step {
    pub thread: String,
    pub call: String,
    /// For a write, a sync and a change of the length: a number of bytes and the path.
    pub target: String,
}

impl Step {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some(Self { thread: words.next()?, call: words.next()?, target: words.next()? })
    }
}

impl Invocation {
    fn with_library(self) -> Self {
        static COMPILED: OnceLock<PathBuf> = OnceLock::new();
        let folder = Path::new(PROGRAM).parent().expect("a folder");
        self.env("LD_PRELOAD", COMPILED.get_or_init(|| compiled(folder)))
    }

    /// Its wall clock is this one.
    pub fn with_clock(self, clock: &Clock) -> Self {
        self.with_library().env("CLOCK_LEAP", clock.file())
    }

    pub fn with_faults(self, faults: &FaultFile) -> Self {
        self.with_library().env("FAULTS", faults.file())
    }

    /// Logs its steps, which [`Sandbox::steps`] returns.
    pub fn with_steps(self, sandbox: &Sandbox) -> Self {
        self.with_library().env("STEPS", sandbox.path("steps"))
    }
}

impl Sandbox {
    /// A wall clock that shows the real time.
    pub fn clock(&self) -> Clock {
        Clock::new(self.path("clock")).expect("a file")
    }

    /// Every step that was done or about to be done in runs [with steps](Invocation::with_steps).
    pub fn steps(&self) -> Vec<Step> {
        let log = fs::read_to_string(self.path("steps")).unwrap_or_default();
        // A running process may be writing the last line.
        let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.map(|line| Step::parse(line).expect("a thread, a call and a target")).collect()
    }
}

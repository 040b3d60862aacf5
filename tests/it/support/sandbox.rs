//! An isolated machine for the program: its own home, state folder, PATH and environment, and a fake
//! `tilt`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fakes::honeycomb::{Answer, Reply, Server};
use serde_json::Value;
use tempfile::TempDir;

use super::process::Invocation;
use super::recorded::{KINDS, capture};
use super::tilt_folder::TiltFolder;
use super::wait::{eventually, retry};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tilt-honeycomb");
/// The API key of the tests. Privacy tests search all output for it.
pub const KEY: &str = "hcaik_01canary7key9never4shown2anywhere";
pub const DATASET: &str = "dev-environments";
/// An address where no server listens. Parallel tests cannot bind this port either.
pub const UNREACHABLE: &str = "http://127.0.0.1:1";
/// The longest time that a sidecar spends on sending its queue at shutdown, except under `tilt ci`. A
/// shutdown that takes longer may have left events in the queue.
pub const SHUTDOWN_BUDGET: Duration = Duration::from_millis(1100);
/// The error of a final poll that exceeded its part of the shutdown budget.
pub const FINAL_POLL_TIMED_OUT: &str =
    "the final poll failed, so the last changes may be missing: tilt get: no response after";

/// A machine with temporary folders.
pub struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    /// A machine whose Tilt shows the recorded compose environment: nine resources, two Docker images
    /// (one of them failed) and one custom image.
    pub fn new() -> Self {
        let sandbox = Self { root: tempfile::tempdir().expect("a temporary folder") };
        for folder in ["home", "state", "bin", "tilt", "work"] {
            fs::create_dir(sandbox.path(folder)).expect("a folder");
        }
        for kind in KINDS {
            let name = format!("{kind}.json");
            let recorded = capture(&format!("compose/{name}"));
            fs::copy(recorded, sandbox.path("tilt").join(name)).expect("a copy");
        }
        std::os::unix::fs::symlink(test_tool("fake-tilt"), sandbox.path("bin/tilt"))
            .expect("a link");
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn tilt(&self) -> TiltFolder {
        TiltFolder(self.path("tilt"))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state/tilt-honeycomb")
    }

    /// The state file. The test must have used only one endpoint and dataset.
    pub fn state_file(&self) -> PathBuf {
        let mut files = self.state_files();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        assert_eq!(files.len(), 1, "one state file: {files:?}");
        files.remove(0)
    }

    pub fn state_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state_dir()) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The number of events in the queue on disk.
    pub fn queued(&self) -> usize {
        let state = fs::read(self.state_file()).expect("a state");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        state["queue"]["events"].as_array().expect("a queue").len()
    }

    /// The program with these options, which are separated by spaces.
    pub fn run(&self, options: &str) -> Invocation {
        self.command(&[&[PROGRAM], &options.split_whitespace().collect::<Vec<_>>()[..]].concat())
    }

    /// Any other command, in the same environment.
    pub fn command(&self, words: &[&str]) -> Invocation {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("PATH", self.path("bin"))
            .env("STAND_IN", self.path("tilt"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        Invocation { command }
    }

    /// Installs a shell script as a program on PATH, or replaces one.
    pub fn install(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let (program, fresh) = (self.path("bin").join(name), self.path("fresh-program"));
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).expect("a file mode");
        // A rename never leaves PATH without the program.
        fs::rename(fresh, program).expect("a renamed script");
    }

    /// One report to a server with a timeout of one minute.
    pub fn report_to(&self, server: &Server) -> Invocation {
        self.report_within("1m", server)
    }

    /// One report to a server with this timeout.
    pub fn report_within(&self, timeout: &str, server: &Server) -> Invocation {
        self.run("--once").args(&["--timeout", timeout]).sending_to(server)
    }

    /// Runs a report that leaves all its events in the queue. Returns their number.
    pub fn queue_report(&self, server: &Server) -> usize {
        // The `Retry-After` is longer than any delivery waits.
        server.usually(Reply::new(503, "").header("retry-after", 600));
        retry("a poll", || self.report_to(server).finish().unless_tilt_was_slow()).exits_with(4);
        server.usually(Answer::Accept);
        self.queued()
    }

    /// Takes the lock that protects the state.
    pub fn lock_state(&self) -> File {
        let lock = File::open(self.state_file().with_extension("lock")).expect("a lock");
        lock.lock().expect("a free lock");
        lock
    }

    /// Waits until the resources are watched.
    #[track_caller]
    pub fn is_watched(&self) {
        eventually("a watch", || self.tilt().watches("uiresources") > 0);
    }

    /// A sidecar that polls at the shortest interval.
    pub fn polling_sidecar_to(&self, server: &Server) -> Invocation {
        self.run("--no-watch --interval 1s").sending_to(server)
    }

    /// A sidecar that watches.
    pub fn sidecar_to(&self, server: &Server) -> Invocation {
        self.run("").sending_to(server)
    }
}

/// Exchanges two paths in one step, so that a running program never finds one missing.
pub fn swap_paths(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("both paths exist");
}

/// The path of the `LD_PRELOAD` library that counts steps and moves the clock. Compiled once.
#[cfg(target_os = "linux")]
pub fn machine_library() -> PathBuf {
    static COMPILED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let folder = Path::new(PROGRAM).parent().expect("a folder");
    COMPILED.get_or_init(|| fakes::machine::compiled(folder)).clone()
}

/// The path of a program of `test-tools`. `cargo test` builds them beside `tilt-honeycomb`.
pub fn test_tool(name: &str) -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

//! An isolated machine for the program: its own home, state folder, PATH and environment, and a fake
//! `tilt`.

use std::env::consts::EXE_EXTENSION;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use fakes::honeycomb::{Answer, Reply, Server};
use tempfile::TempDir;
use tilt_honeycomb::base::process_tree;
use tilt_honeycomb::spool::store::Store;

use super::process::Invocation;
use super::recorded::KINDS;
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
        // On Windows, nothing else ends what a test leaves behind.
        static JOINED: Once = Once::new();
        JOINED.call_once(process_tree::end_children_with_this_process);
        let sandbox = Self { root: tempfile::tempdir().expect("a temporary folder") };
        for folder in ["home", "state", "bin", "tilt", "work"] {
            fs::create_dir(sandbox.path(folder)).expect("a folder");
        }
        sandbox.tilt().show_recorded("compose", &KINDS);
        sandbox.install_copy("tilt", &test_tool("fake-tilt"));
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn tilt(&self) -> TiltFolder {
        TiltFolder(self.path("tilt"))
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state").join("tilt-honeycomb")
    }

    /// The fake `tilt` on PATH.
    pub fn tilt_program(&self) -> PathBuf {
        self.path("bin").join("tilt").with_extension(EXE_EXTENSION)
    }

    /// The folder of the destination. The test must have used only one endpoint and dataset.
    pub fn destination(&self) -> PathBuf {
        let mut folders = self.state_files();
        folders.retain(|path| path.is_dir());
        assert_eq!(folders.len(), 1, "one destination: {folders:?}");
        folders.remove(0)
    }

    /// The state file of the only destination.
    pub fn state_file(&self) -> PathBuf {
        self.destination().join("state.ndjson")
    }

    /// The files in the folder of the queue, by name.
    pub fn queue_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.destination().join("queue")).expect("the queue");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }

    /// Everything that the state folder holds, as one text.
    pub fn state_text(&self) -> String {
        let files = [vec![self.state_file()], self.queue_files()].concat();
        let texts = files.iter().map(|file| fs::read(file).expect("a file"));
        texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// The files and folders in the state folder.
    pub fn state_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.state_dir()) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The number of events in the queue on disk.
    pub fn queued(&self) -> usize {
        let destination = self.destination();
        let name = destination.file_name().and_then(|name| name.to_str()).expect("a name");
        Store::new(&self.state_dir(), name).queue_length().expect("a state")
    }

    /// The program with these options, which are separated by spaces.
    pub fn run(&self, options: &str) -> Invocation {
        self.command(&[&[PROGRAM], &options.split_whitespace().collect::<Vec<_>>()[..]].concat())
    }

    /// Writes `tilt.json`, the exit snapshot of a `tilt ci`, to the current folder of the program.
    pub fn write_snapshot(&self, snapshot: impl AsRef<[u8]>) {
        fs::write(self.path("work/tilt.json"), snapshot).expect("a snapshot");
    }

    /// A dry run that reports an exit snapshot. `options` are separated by spaces.
    pub fn dry_run_of_snapshot(&self, snapshot: impl AsRef<[u8]>, options: &str) -> Invocation {
        self.write_snapshot(snapshot);
        self.run(&format!("--once --dry-run --snapshot tilt.json {options}"))
    }

    /// The program on a terminal of its own. stdout is what the terminal shows.
    #[cfg(target_os = "linux")]
    pub fn on_terminal(&self, options: &str) -> Invocation {
        let run = format!("exec {PROGRAM} {options}");
        self.command(&["/usr/bin/script", "--quiet", "--return", "--command", &run, "/dev/null"])
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
        #[cfg(windows)]
        command.env("APPDATA", self.path("home/.config"));
        #[cfg(windows)]
        if let Some(system) = std::env::var_os("SystemRoot") {
            // Without it, Windows finds neither sockets nor certificates.
            command.env("SystemRoot", system);
        }
        Invocation { command }
    }

    /// Installs a built program on PATH, without a copy where that is possible.
    fn install_copy(&self, name: &str, program: &Path) {
        let installed = self.path("bin").join(name).with_extension(EXE_EXTENSION);
        #[cfg(unix)]
        std::os::unix::fs::symlink(program, installed).expect("a link");
        // A link of Windows needs rights, or the same drive.
        #[cfg(windows)]
        fs::hard_link(program, &installed)
            .or_else(|_| fs::copy(program, &installed).map(drop))
            .expect("a copy");
    }

    /// Installs a shell script as a program on PATH, or replaces one.
    #[cfg(unix)]
    pub fn install(&self, name: &str, script: &str) {
        let (program, fresh) = (self.path("bin").join(name), self.path("fresh-program"));
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).expect("a script");
        set_mode(&fresh, 0o755);
        // A rename never leaves PATH without the program.
        fs::rename(fresh, program).expect("a renamed script");
    }

    /// Windows runs no shell scripts. Tests that need one are ignored there.
    #[cfg(windows)]
    pub fn install(&self, name: &str, _script: &str) {
        panic!("{} is a shell script", self.path(name).display());
    }

    /// A shell script in this sandbox, run by a user whom the limit on threads applies to, which is not
    /// root. `$PROGRAM` is the program.
    #[cfg(target_os = "linux")]
    pub fn limited(&self, script: &str) -> Invocation {
        const ORDINARY_USER: u32 = 64_321;
        let program = self.path("bin/program");
        if !program.exists() {
            // An ordinary user may not be allowed into the folder of the build.
            copy_program(Path::new(PROGRAM), &program);
            fs::remove_file(self.path("bin/tilt")).expect("the fake tilt");
            copy_program(&test_tool("fake-tilt"), &self.path("bin/tilt"));
        }
        let run = self.command(&["/bin/sh", "-c", script]).env("PROGRAM", program);
        if !rustix::process::geteuid().is_root() {
            return run;
        }
        give(self.root.path(), ORDINARY_USER);
        run.run_by(ORDINARY_USER)
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
        let lock = File::open(self.destination().join("lock")).expect("a lock");
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

/// A text of the system that is not Unicode.
pub fn not_unicode() -> OsString {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9".to_vec());
    #[cfg(windows)]
    return std::os::windows::ffi::OsStringExt::from_wide(&[0x63, 0xd800]);
}

/// Sets who may read and write a file. Windows has no such modes.
pub fn set_mode(path: &Path, mode: u32) {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .expect("a file mode");
    #[cfg(windows)]
    let _ = (path, mode);
}

/// Copies a program with `cp`. A file that this process writes may be open in a process that another test
/// starts at that moment, and such a file cannot run.
#[cfg(target_os = "linux")]
fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").args([from, to]).status().expect("cp");
    assert!(status.success(), "cp: {status}");
}

/// Makes a file or a folder with its content belong to a user.
#[cfg(target_os = "linux")]
fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("root may do this");
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).expect("a folder").flatten().for_each(|entry| give(&entry.path(), user));
    }
}

/// Creates a named pipe.
pub fn make_pipe(path: &Path) {
    // macOS has no mknodat.
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

/// Exchanges two paths in one step, so that a running program never finds one missing.
#[cfg(unix)]
pub fn swap_paths(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("both paths exist");
}

/// Windows has no such step. Tests that need one are ignored there.
#[cfg(windows)]
pub fn swap_paths(one: &Path, other: &Path) {
    panic!("cannot exchange {} and {}", one.display(), other.display());
}

/// The path of a program of `test-tools`. `cargo test` builds them beside `tilt-honeycomb`.
pub fn test_tool(name: &str) -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name(name).with_extension(EXE_EXTENSION);
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

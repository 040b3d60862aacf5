//! Compiles `machine.c`, a library for `LD_PRELOAD` that changes a process's wall clock, makes calls
//! fail, and can send it a signal at any step.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the library into this folder and returns its path for `LD_PRELOAD`. Needs a C
/// compiler, which building this package needs anyway.
pub fn compiled(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fakes/machine.c");
    let (library, fresh) =
        (folder.join("machine.so"), folder.join(format!("machine-{}.so", std::process::id())));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&fresh, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler").success(), "{} compiles", source.display());
    // Replaced by a rename, since another process may be loading the existing file.
    fs::rename(fresh, &library).expect("a rename");
    library
}

/// A file that shifts the wall clock of every process whose `CLOCK_LEAP` names it.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// Creates the file with an offset of zero.
    pub fn new(file: PathBuf) -> io::Result<Self> {
        fs::write(&file, 0_i64.to_ne_bytes())?;
        Ok(Self(file))
    }

    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Sets the wall clock this many seconds ahead of the real time; behind it if negative.
    pub fn leap(&self, seconds: i64) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.0)?.write_all_at(&seconds.to_ne_bytes(), 0)
    }
}

/// The faults of every process whose `FAULTS` names a [`FaultFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineFault {
    /// The lookup of a host name hangs until this ends.
    NamesHang,
    /// The lookup of a host name fails at once.
    NamesFail,
    /// No thread can start.
    NoThreads,
    /// Syncing a folder fails with EINVAL, as on some network shares.
    NoFolderSync,
}

/// A file with the current [`MachineFault`].
#[derive(Debug)]
pub struct FaultFile(PathBuf);

impl FaultFile {
    /// Creates the file without a fault.
    pub fn new(file: PathBuf) -> io::Result<Self> {
        fs::write(&file, [0; 24])?;
        Ok(Self(file))
    }

    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Starts a fault, or ends the current one.
    pub fn set(&self, fault: Option<MachineFault>) -> io::Result<()> {
        let values: [i64; 3] = match fault {
            None => [0, 0, 0],
            Some(MachineFault::NamesHang) => [1, 0, 0],
            Some(MachineFault::NamesFail) => [2, 0, 0],
            Some(MachineFault::NoThreads) => [0, 1, 0],
            Some(MachineFault::NoFolderSync) => [0, 0, 1],
        };
        let file = OpenOptions::new().write(true).open(&self.0)?;
        file.write_all_at(&values.map(i64::to_ne_bytes).concat(), 0)
    }
}

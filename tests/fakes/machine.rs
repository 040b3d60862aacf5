//! Compiles `machine.c`, a library for `LD_PRELOAD` that changes a process's wall clock and can
//! send it a signal at any step.

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

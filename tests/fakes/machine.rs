//! What a machine does to a process: `machine.c`, compiled, to be laid before any program.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles it into this folder: what `LD_PRELOAD` is to name. Whoever builds this package has a C
/// compiler.
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
    // Others may be loading the one that is there.
    fs::rename(fresh, &library).expect("its name");
    library
}

/// The wall clock of the processes that have `CLOCK_LEAP` name its file.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// A clock that is right.
    pub fn new(file: PathBuf) -> io::Result<Self> {
        fs::write(&file, 0_i64.to_ne_bytes())?;
        Ok(Self(file))
    }

    pub fn file(&self) -> &Path {
        &self.0
    }

    /// So many seconds ahead from now on, or behind.
    pub fn leap(&self, seconds: i64) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.0)?.write_all_at(&seconds.to_ne_bytes(), 0)
    }
}

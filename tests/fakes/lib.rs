//! Fakes and helpers that the tests, the chaos campaign and the measuring tools share.

#![expect(clippy::disallowed_methods, reason = "fakes have deadlines and poll")]
#![expect(missing_debug_implementations, reason = "a fake server is never printed")]

pub mod crowd;
pub mod honeycomb;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod proc;
pub mod storm;
pub mod tls;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The folder that Cargo built the running program into. It holds `tilt-honeycomb` and the fakes.
pub fn programs() -> PathBuf {
    let this = env::current_exe().expect("the path of this program");
    this.parent().expect("the folder of this program").to_owned()
}

/// Copies a folder with everything in it. The target may exist.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(from, to).expect("a copy");
        }
    }
}

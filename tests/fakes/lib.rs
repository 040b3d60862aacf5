//! Fakes that the tests, the chaos campaign and the measuring tools share.

#![expect(clippy::disallowed_methods, reason = "fakes have deadlines and poll")]
#![expect(missing_debug_implementations, reason = "a fake server is never printed")]

pub mod crowd;
pub mod honeycomb;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod storm;
pub mod tls;

use std::env;
use std::path::PathBuf;

/// The folder that Cargo built the running program into. It holds `tilt-honeycomb` and the fakes.
pub fn programs() -> PathBuf {
    let this = env::current_exe().expect("the path of this program");
    this.parent().expect("the folder of this program").to_owned()
}

//! Helpers that all tests share.

pub mod api;
mod process;
mod recorded;
mod sandbox;
pub mod schema;
mod tilt_folder;
mod wait;

pub use process::{Invocation, Outcome, Process, cpu_ticks};
pub use recorded::{KINDS, RECORDED_EVENTS, builds, capture, of_kind, recorded_builds};
#[cfg(target_os = "linux")]
pub use sandbox::machine_library;
pub use sandbox::{
    DATASET, FINAL_POLL_TIMED_OUT, KEY, PROGRAM, SHUTDOWN_BUDGET, Sandbox, UNREACHABLE, swap_paths,
    test_tool,
};
pub use wait::{eventually, retry, skipped, takes_less_than};

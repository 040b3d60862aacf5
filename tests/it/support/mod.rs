//! Helpers that all tests share.

pub mod api;
#[cfg(target_os = "linux")]
mod machine;
mod process;
mod recorded;
mod sandbox;
pub mod schema;
mod signal;
mod tilt_folder;
mod wait;

#[cfg(target_os = "linux")]
pub use machine::Step;
pub use process::{Invocation, KILLED, Outcome, Process};
#[cfg(unix)]
pub use recorded::recorded_start;
pub use recorded::{
    BRING_UP, BRING_UP_KINDS, KINDS, RECORDED_EVENTS, builds, capture, captured_json, of_kind,
    read_capture, recorded_builds,
};
pub use sandbox::{
    DATASET, FINAL_POLL_TIMED_OUT, KEY, PROGRAM, SHUTDOWN_BUDGET, Sandbox, UNREACHABLE, make_pipe,
    not_unicode, set_mode, swap_paths, test_tool,
};
pub use signal::{STOP, Signal, is_alive};
pub use wait::{eventually, retry, skipped, takes_less_than};

//! Everything that knows Tilt: its objects, and the processes that show them.

pub mod client;
pub mod command;
mod condition_json;
pub mod error;
mod excerpt;
pub mod exit_snapshot;
pub mod health;
mod json;
mod kinds;
pub mod list_reader;
pub mod model;
pub mod notice;
mod pod_json;
mod process;
pub mod watch;
pub mod watch_reader;

//! Everything that knows Tilt: its objects, and the processes that show them.

pub mod client;
pub mod command;
pub mod exit_snapshot;
pub mod health;
mod json;
pub mod list_reader;
pub mod model;
pub mod watch_reader;

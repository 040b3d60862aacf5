//! Everything that knows Tilt: its objects, and the processes that show them.

pub mod client;
pub mod command;
pub mod error;
pub mod exit_snapshot;
pub mod health;
mod json;
mod kinds;
pub mod list_reader;
pub mod model;
mod process;
pub mod watch;
pub mod watch_reader;

//! The parts of `tilt-honeycomb`. It is a library only so that tests can reach the pure parts: its
//! interface is not stable.

pub mod base;
pub mod cli;
pub mod commands;
pub mod config;
pub mod events;
pub mod exit_code;
pub mod honeycomb;
pub mod log;
pub mod messages;
pub mod metadata;
pub mod sidecar;
pub mod spool;
pub mod summary;
pub mod tilt;

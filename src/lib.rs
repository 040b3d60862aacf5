//! The rooms of `tilt-honeycomb`, in the order in which data passes through them. A library
//! only so that tests can reach the pure parts; it promises nothing to others.

pub mod answer;
pub mod awake;
pub mod backoff;
pub mod batch;
pub mod builds;
pub mod cli;
pub mod config;
pub mod context;
pub mod deliver;
pub mod derive;
pub mod dry_run;
pub mod event;
pub mod exit;
pub mod failure;
pub mod honeycomb;
pub mod ids;
pub mod log;
pub mod memory;
pub mod model;
pub mod once;
pub mod parent;
pub mod report;
pub mod say;
pub mod sidecar;
pub mod startup;
pub mod state;
pub mod stop;
pub mod store;
pub mod stream;
pub mod tilt;
pub mod trace;
pub mod view;
pub mod watching;

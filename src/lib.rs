//! The rooms of `tilt-honeycomb`. A library only so that tests can reach the pure parts; it
//! promises nothing to others.

// What the person wants.
pub mod ci;
pub mod cli;
pub mod config;
pub mod exit;
pub mod findings;
pub mod log;
pub mod say;
pub mod summary;

// What Tilt shows, and what it has checked out.
pub mod exit_snapshot;
pub mod git;
pub mod group;
pub mod listing;
pub mod model;
pub mod stream;
pub mod tilt;
pub mod view;
pub mod watching;

// What there is to say of it.
pub mod builds;
pub mod context;
pub mod derive;
pub mod event;
pub mod failure;
pub mod ids;
pub mod look;
pub mod memory;
pub mod report;
pub mod startup;
pub mod trace;

// What is remembered.
pub mod state;
pub mod store;

// How it gets to Honeycomb.
pub mod answer;
pub mod auth;
pub mod awake;
pub mod backoff;
pub mod batch;
pub mod board;
pub mod deliver;
pub mod honeycomb;
pub mod key;
pub mod link;
pub mod place;
pub mod queries;

// The ways to run, and what they share.
pub mod after;
pub mod check;
pub mod clock;
pub mod dry_run;
pub mod make_board;
pub mod once;
pub mod parent;
pub mod sidecar;
pub mod stop;

//! Turns observations of Tilt into events. Pure: no process, file, clock, network or environment.
//!
//! [`derive::derive`] is the way in. It reads an [`observation::Observation`], updates the
//! [`tracker::SessionTracker`] and returns [`derived::DerivedEvents`].

pub mod build_numbers;
pub mod common_fields;
pub mod derivation;
pub mod derive;
pub mod derived;
pub mod environment_state;
pub mod event;
pub mod failure;
pub mod fields;
pub mod folding;
pub mod image_spans;
pub mod observation;
pub mod open_rollout;
pub mod outcome;
pub mod resource_history;
pub mod rollout;
pub mod runtime_failure;
pub mod session_id;
pub mod session_row;
pub mod spans;
pub mod stage_label;
pub mod startup;
pub mod status;
pub mod trace;
pub mod tracker;
pub mod trouble;
pub mod update_counts;

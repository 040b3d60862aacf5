//! Pure: turns observations of Tilt into events.

pub mod common_fields;
pub mod derive;
pub mod derived;
pub mod event;
pub mod failure;
pub mod fields;
pub mod observation;
pub mod spans;
pub mod stage_label;
pub mod startup;
pub mod trace;
pub mod tracker;

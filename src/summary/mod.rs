//! Summarizes one environment for the developer at its machine, as text and as an HTML page: the time to
//! healthy, the waterfall of the start, and slow, failed and waiting resources.
//!
//! [`model::EnvironmentSummary::of`] builds it from one observation of Tilt. Pure.

pub mod html;
pub mod model;
pub mod rankings;
pub mod spans;
pub mod svg;
pub mod text;
pub mod time_to_healthy;
pub mod waterfall;
pub mod words;

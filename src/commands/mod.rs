//! The commands that end by themselves.

pub mod board;
pub mod check;
pub mod ci_summary;
pub mod dry_run;
pub mod findings;
pub mod flush;
pub mod idle;
pub mod report;
pub mod snapshot;

//! The commands that end by themselves, and the process that runs the sidecar beside `tilt ci`.

use std::io::{self, Write};

pub mod board;
pub mod check;
pub mod ci_summary;
pub mod ci_supervisor;
mod collector;
pub mod dry_run;
pub mod findings;
pub mod flush;
pub mod idle;
mod progress_line;
pub mod report;
pub mod snapshot;
mod stop;
pub mod summary;
mod trace_link;

/// Prints a line on stdout. A closed stdout (`| head`) is not an error.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

//! What the person reads: one line each on stderr.
//!
//! Information comes bare, since Tilt and cron put their own names and times beside it; warnings
//! and errors say whose they are. Of other crates only ureq's warnings are let through (an ignored
//! proxy, say): below that it shows whole requests, the key among them.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Stderr;

/// Starts talking, up to `level`.
pub fn init(level: LevelFilter) {
    // A second call, which only a test could make, changes nothing.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

fn is_for_the_person(metadata: &Metadata) -> bool {
    let is_ureqs = metadata.target().starts_with("ureq");
    metadata.target().starts_with("tilt_honeycomb") || is_ureqs && metadata.level() <= Level::Warn
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        is_for_the_person(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let prefix = if record.level() <= Level::Warn { "tilt-honeycomb: " } else { "" };
        // Whoever closed stderr does not want to know.
        let _ = writeln!(std::io::stderr(), "{prefix}{}", record.args());
    }

    fn flush(&self) {}
}

//! Messages for people: one line each on stderr.
//!
//! Warnings and errors start with the program's name. Other messages have no prefix, because Tilt and
//! cron add their own names and times. The only messages of another crate are ureq's warnings, such as
//! one about a proxy that is ignored. Its lower levels log whole requests, including the key.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct StderrLogger;

/// Starts logging messages up to `level`.
pub fn init(level: LevelFilter) {
    // A second call, which only happens in tests, keeps the first logger.
    let _ = log::set_logger(&StderrLogger);
    log::set_max_level(level);
}

impl Log for StderrLogger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let is_from_ureq = metadata.target().starts_with("ureq");
        metadata.target().starts_with("tilt_honeycomb")
            || is_from_ureq && metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let prefix = if record.level() <= Level::Warn { "tilt-honeycomb: " } else { "" };
        // A closed stderr is not an error.
        let _ = writeln!(std::io::stderr(), "{prefix}{}", record.args());
    }

    fn flush(&self) {}
}

//! Messages for people: one line each on stderr.
//!
//! A message is cut to [`LINE_LIMIT`] characters and loses its control and format characters, because it
//! may quote texts from elsewhere. Warnings and errors start with the program's name. Other messages have no prefix, because Tilt and
//! cron add their own names and times. The only messages of another crate are ureq's warnings. Its lower
//! levels log whole requests, including the key.

use std::io::Write;

use crate::base::text::printable;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The most characters of a message.
pub const LINE_LIMIT: usize = 2000;

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
        let message = printable(&record.args().to_string(), LINE_LIMIT);
        let _ = writeln!(std::io::stderr(), "{prefix}{message}");
    }

    fn flush(&self) {}
}

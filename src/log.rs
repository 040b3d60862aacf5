//! Messages for people: one line each on stderr.
//!
//! A message is cut to [`LINE_LIMIT`] characters and loses its control and format characters, because it
//! may quote texts from elsewhere. The lines of a long run start with the time, because Tilt shows none, and
//! then name the level of a warning or an error. In a short run, warnings and errors start with the
//! program's name, and other messages have no prefix: cron and CI add their own names and times. The only
//! messages of another crate are ureq's warnings. Its lower levels log whole requests, including the key.

use std::io::Write;
use std::sync::OnceLock;

use crate::base::text::printable;
use crate::base::time;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The most characters of a message.
pub const LINE_LIMIT: usize = 2000;

/// How a line starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LineStart {
    /// With the time, and the level of a warning or an error.
    Time,
    /// With the program's name, if it is a warning or an error.
    Name,
}

struct StderrLogger {
    start: LineStart,
}

static LOGGER: OnceLock<StderrLogger> = OnceLock::new();

/// Starts logging messages up to `level`.
pub fn init(level: LevelFilter, start: LineStart) {
    // A second call, which only happens in tests, keeps the first logger.
    let _ = log::set_logger(LOGGER.get_or_init(|| StderrLogger { start }));
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
        let prefix = prefix(self.start, record.level());
        let message = printable(&record.args().to_string(), LINE_LIMIT);
        // A closed stderr is not an error.
        let _ = writeln!(std::io::stderr(), "{prefix}{message}");
    }

    fn flush(&self) {}
}

fn prefix(start: LineStart, level: Level) -> String {
    match (start, level) {
        (LineStart::Time, Level::Error) => format!("{} ERROR: ", time::of_day(time::wall())),
        (LineStart::Time, Level::Warn) => format!("{} WARNING: ", time::of_day(time::wall())),
        (LineStart::Time, _) => format!("{} ", time::of_day(time::wall())),
        (LineStart::Name, Level::Error | Level::Warn) => "tilt-honeycomb: ".to_owned(),
        (LineStart::Name, _) => String::new(),
    }
}

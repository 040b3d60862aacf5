//! One line on a terminal that shows how much of the queue was sent. Never in a log.

use std::io::{self, IsTerminal, Write};

/// The line. It stays empty if stderr is not a terminal, with `--quiet`, and with `--verbose`, whose
/// messages would continue it.
#[derive(Debug)]
pub(super) struct ProgressLine {
    /// The number of events that were queued at the start.
    queued: usize,
    is_shown: bool,
}

impl ProgressLine {
    pub(super) fn new(queued: usize) -> Self {
        let is_shown = io::stderr().is_terminal()
            && log::log_enabled!(log::Level::Info)
            && !log::log_enabled!(log::Level::Debug);
        Self { queued, is_shown }
    }

    /// Replaces the line.
    pub(super) fn show(&self, sent: usize) {
        self.write(&format!("\r{}", text(sent, self.queued)));
    }

    /// Removes the line, so that the next message takes its place.
    pub(super) fn clear(&self) {
        let longest = text(self.queued, self.queued).len();
        self.write(&format!("\r{:longest$}\r", ""));
    }

    fn write(&self, text: &str) {
        if self.is_shown {
            // A closed stderr is not an error.
            let mut stderr = io::stderr();
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

/// A sidecar may add events meanwhile.
fn text(sent: usize, queued: usize) -> String {
    format!("sent {sent} of {} events", queued.max(sent))
}

//! The journal: which events have left the queue since the state was last written. Pure.
//!
//! Recording a response must be cheap, because it happens once per request. So it adds one line to
//! a file instead of replacing the state. The next replacement of the state takes the lines in, and
//! tells up to which byte it did so: each line counts exactly once.

use serde::{Deserialize, Serialize};

use crate::spool::checksum::{self, Integrity};
use crate::spool::positions::Positions;

/// The size at which a new journal is started, in bytes.
pub const JOURNAL_BYTES: u64 = 64 * 1024;

/// How much of which journal the state has taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalPosition {
    /// Names the file. Each journal has a greater number than the one before.
    pub id: u64,
    pub bytes: u64,
}

impl JournalPosition {
    pub fn file_name(self) -> String {
        format!("settled-{}.ndjson", self.id)
    }

    /// The start of the next journal.
    #[must_use]
    pub fn next(self) -> Self {
        Self { id: self.id.saturating_add(1), bytes: 0 }
    }
}

/// A line of the journal: events that Honeycomb has accepted or rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    pub settled: Positions,
    /// How many of them count as lost.
    pub rejected: u64,
}

impl Settlement {
    /// Encodes the line with its checksum, after a line break: the line before it may be cut off.
    pub fn encode(&self) -> Vec<u8> {
        let object = serde_json::to_vec(self).expect("numbers always encode");
        [b"\n", &checksum::seal(object)[..]].concat()
    }

    fn decode(line: &[u8]) -> Option<Self> {
        if checksum::verify(line) != Integrity::Intact {
            return None;
        }
        serde_json::from_slice(line).ok().filter(|line: &Self| line.settled.is_valid())
    }
}

/// Decodes the lines of a journal. A line that a crash cut off, and the space that is kept free at
/// the end, have no effect.
pub fn decode(journal: &[u8]) -> Vec<Settlement> {
    journal.split(|byte| *byte == b'\n').filter_map(Settlement::decode).collect()
}

/// The number of bytes before the free space at the end.
pub fn used(journal: &[u8]) -> usize {
    journal.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(numbers: &[u64], rejected: u64) -> Settlement {
        Settlement { settled: Positions::of(numbers), rejected }
    }

    #[test]
    fn a_cut_off_line_hides_no_other() {
        let (first, second) = (settlement(&[1, 2], 0), settlement(&[7], 1));
        let (one, two) = (first.encode(), second.encode());
        assert_eq!(decode(&[&one[..], &two].concat()), [first, second.clone()]);
        for end in 0..one.len() {
            let journal = [&one[..end], &two, b"\n\n\n"].concat();
            assert_eq!(decode(&journal), std::slice::from_ref(&second), "{end} bytes");
        }
    }

    #[test]
    fn free_space_is_not_used() {
        let line = settlement(&[1], 0).encode();
        assert_eq!(used(&[&line[..], b"\n\n\n"].concat()), line.len());
        assert_eq!((used(b"\n\n"), used(b"")), (0, 0));
    }
}

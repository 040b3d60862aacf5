//! The state as a document of two lines: the index of the queue, and the sessions. Pure.
//!
//! Each line is a JSON object with a checksum. The sender reads the first line only; the second may
//! be a thousand times longer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spool::checksum::{self, Integrity};
use crate::spool::clock::Clocks;
use crate::spool::delivery_record::DeliveryRecord;
use crate::spool::queue::Queue;
use crate::spool::session::SessionState;
use crate::spool::state::State;

/// The version of the document. Raise it when a stored field changes its name or meaning.
pub const VERSION: u32 = 3;

/// The first line.
#[derive(Serialize, Deserialize)]
struct QueueLine<'a> {
    version: u32,
    queue: Cow<'a, Queue>,
}

/// The second line.
#[derive(Serialize, Deserialize)]
struct SessionsLine<'a> {
    clocks: Clocks,
    sessions: Cow<'a, BTreeMap<String, SessionState>>,
    #[serde(default)]
    delivery: Cow<'a, DeliveryRecord>,
}

/// Why a document cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A later version of this program wrote it.
    Newer {
        version: u64,
    },
    /// An earlier version of this program wrote it.
    Older {
        version: u64,
    },
    Corrupt,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { version } => {
                write!(f, "version {version} is newer than this program's {VERSION}")
            }
            Self::Older { version } => {
                write!(f, "version {version} is older than this program's {VERSION}")
            }
            Self::Corrupt => f.write_str("not a state file, or damaged"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl State {
    /// Decodes a document.
    pub fn decode(document: &[u8]) -> Result<Self, DecodeError> {
        let mut lines = document.splitn(2, |byte| *byte == b'\n');
        let queue = decode_queue(lines.next().unwrap_or_default())?;
        let sessions = lines.next().and_then(|line| line.strip_suffix(b"\n"));
        let sessions: SessionsLine =
            sessions.and_then(decode_intact).ok_or(DecodeError::Corrupt)?;
        Ok(Self {
            clocks: sessions.clocks,
            sessions: sessions.sessions.into_owned(),
            queue,
            delivery: sessions.delivery.into_owned(),
        })
    }

    /// Encodes the state as a document.
    pub fn encode(&self) -> Vec<u8> {
        let queue = QueueLine { version: VERSION, queue: Cow::Borrowed(&self.queue) };
        let sessions = SessionsLine {
            clocks: self.clocks,
            sessions: Cow::Borrowed(&self.sessions),
            delivery: Cow::Borrowed(&self.delivery),
        };
        let mut document = Vec::new();
        add_line(&mut document, &queue);
        add_line(&mut document, &sessions);
        document
    }
}

/// Decodes the first line of a document, without its line break.
pub fn decode_queue(line: &[u8]) -> Result<Queue, DecodeError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    if let Some(QueueLine { version: VERSION, queue }) = decode_intact(line)
        && queue.is_valid()
    {
        return Ok(queue.into_owned());
    }
    let own_version = u64::from(VERSION);
    let version = match checksum::verify(line) {
        Integrity::Damaged => None,
        // Another version may have another checksum.
        Integrity::Intact | Integrity::Unsealed => serde_json::from_slice(line).ok(),
    };
    match version {
        Some(Versioned { version }) if version > own_version => Err(DecodeError::Newer { version }),
        Some(Versioned { version }) if (1..own_version).contains(&version) => {
            Err(DecodeError::Older { version })
        }
        _ => Err(DecodeError::Corrupt),
    }
}

fn decode_intact<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    if checksum::verify(line) != Integrity::Intact {
        return None;
    }
    serde_json::from_slice(line).ok()
}

fn add_line(document: &mut Vec<u8>, line: &impl Serialize) {
    let start = document.len();
    serde_json::to_writer(&mut *document, line)
        .expect("maps with text keys, numbers and JSON always encode");
    checksum::seal_from(document, start);
    document.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::events::derived::{Build, DerivedEvents};
    use crate::events::event::{Event, EventKind, Fields};

    fn state() -> State {
        let now = UNIX_EPOCH + Duration::from_hours(500_000);
        let event = |kind| Event::new(kind, now, Fields::default());
        let derived = DerivedEvents {
            is_full: true,
            heartbeats: vec![event(EventKind::UiResource)],
            builds: vec![Build { key: "a".into(), events: vec![event(EventKind::DockerImage)] }],
            ..DerivedEvents::default()
        };
        let mut state = State::default();
        state.record("s", derived, now);
        state.place_events(now);
        let delivery = DeliveryRecord { last_success: Some(1), ..DeliveryRecord::default() };
        state.note_delivery(&delivery);
        state
    }

    fn error(document: &[u8]) -> Option<DecodeError> {
        State::decode(document).err()
    }

    #[test]
    fn a_document_decodes_and_a_damaged_one_is_detected() {
        let written = state().encode();
        assert_eq!(State::decode(&written).expect("a state").encode(), written);
        let queue = written.split(|byte| *byte == b'\n').next().expect("a line");
        assert_eq!(decode_queue(queue).expect("a queue").segments().len(), 2);

        for end in 0..written.len() {
            assert_eq!(error(&written[..end]), Some(DecodeError::Corrupt), "{end}");
        }
        for bit in 0..written.len() * 8 {
            let mut flipped = written.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(error(&flipped), Some(DecodeError::Corrupt), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_not_reported_as_damaged() {
        let newer = br#"{"version":4,"layout":"unknown"}"#;
        assert_eq!(error(newer), Some(DecodeError::Newer { version: 4 }));
        let older = br#"{"version":2,"next":0,"dropped":0,"sessions":{},"queue":[]}"#;
        assert_eq!(error(older), Some(DecodeError::Older { version: 2 }));
        let never_written = br#"{"version":0}"#;
        assert_eq!(error(never_written), Some(DecodeError::Corrupt));
    }
}

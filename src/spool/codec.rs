//! The state as a document: JSON with a version, and a checksum in front. Pure.

use std::fmt;

use serde::Deserialize;

use crate::spool::state::{State, VERSION};

/// The start of a document. The checksum covers the rest. Without it, one flipped bit could leave
/// valid JSON with another meaning, such as another build or a later version.
const CHECKSUM: &str = "{\"crc32\":\"";
const CHECKSUM_DIGITS: usize = 8;

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
    /// Decodes a document. A document without a checksum is trusted.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if !is_intact(bytes) {
            return Err(DecodeError::Corrupt);
        }
        if let Ok(state) = serde_json::from_slice::<Self>(bytes)
            && state.version == VERSION
        {
            return Ok(state);
        }
        let own_version = u64::from(VERSION);
        match serde_json::from_slice(bytes) {
            Ok(Versioned { version }) if version > own_version => {
                Err(DecodeError::Newer { version })
            }
            Ok(Versioned { version }) if (1..own_version).contains(&version) => {
                Err(DecodeError::Older { version })
            }
            _ => Err(DecodeError::Corrupt),
        }
    }

    /// Encodes the state as a document with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        // The document may be long, so it is written once: behind room for the checksum, whose
        // comma then replaces the opening brace.
        let brace = CHECKSUM.len() + CHECKSUM_DIGITS + 1;
        let mut document = vec![0; brace];
        serde_json::to_writer(&mut document, self)
            .expect("maps with text keys, numbers and JSON always encode");
        let checksum = crc32fast::hash(&document[brace..]);
        document[..=brace].copy_from_slice(format!("{CHECKSUM}{checksum:08x}\",").as_bytes());
        document
    }

    /// Encodes the state, and forgets the oldest sessions while the document is longer than
    /// `limit` bytes: it could not be read again. The last session is never forgotten.
    pub fn encode_within(&mut self, limit: usize) -> Vec<u8> {
        loop {
            let document = self.encode();
            if document.len() <= limit || !self.forget_oldest_session() {
                return document;
            }
        }
    }
}

/// True if the checksum is right, or if there is none.
fn is_intact(bytes: &[u8]) -> bool {
    let Some(checked) = bytes.strip_prefix(CHECKSUM.as_bytes()) else { return true };
    let Some((checksum, rest)) = checked.split_at_checked(CHECKSUM_DIGITS) else { return false };
    let Some(rest) = rest.strip_prefix(b"\",") else { return false };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"{");
    hasher.update(rest);
    format!("{:08x}", hasher.finalize()).as_bytes() == checksum
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
        state.record("s", &derived, now);
        state
    }

    fn error(document: &[u8]) -> Option<DecodeError> {
        State::decode(document).err()
    }

    #[test]
    fn a_document_decodes_and_a_damaged_one_is_detected() {
        let written = state().encode();
        assert_eq!(State::decode(&written).expect("a state").encode(), written);

        for end in 0..written.len() {
            assert_eq!(error(&written[..end]), Some(DecodeError::Corrupt), "{end}");
        }
        for bit in 0..written.len() * 8 {
            let mut flipped = written.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A bit in the name of the checksum hides it. Then the rest is intact.
            match State::decode(&flipped) {
                Ok(state) => assert_eq!(state.encode(), written, "bit {bit}"),
                Err(error) => assert_eq!(error, DecodeError::Corrupt, "bit {bit}"),
            }
        }
    }

    #[test]
    fn another_version_is_not_reported_as_damaged() {
        let newer = br#"{"version":3,"layout":"unknown"}"#;
        assert_eq!(error(newer), Some(DecodeError::Newer { version: 3 }));
        let older = br#"{"version":1,"next":0,"dropped":0,"sessions":{},"queue":[]}"#;
        assert_eq!(error(older), Some(DecodeError::Older { version: 1 }));
        let never_written = br#"{"version":0}"#;
        assert_eq!(error(never_written), Some(DecodeError::Corrupt));
    }
}

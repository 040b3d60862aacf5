//! The only file that reads what `tilt ci --output-snapshot-on-exit=FILE` left.
//!
//! It holds the session, the resources, and every line that anything printed: the logs are passed
//! over, not read. Tilt writes over an older file without emptying it first, so what follows the
//! first JSON value means nothing. There are no image builds in it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::tilt::model::{Outcome, Snapshot, Timestamp};

/// What a run of Tilt left.
#[derive(Debug, PartialEq)]
pub struct ExitSnapshot {
    pub snapshot: Snapshot,
    pub created_at: Option<SystemTime>,
}

/// Why there is nothing to report from: one line that names the file.
#[derive(Debug)]
pub struct ExitSnapshotError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Io(io::Error),
    Empty,
    /// After so many bytes.
    CutShort(usize),
    /// At this line and column. What stands there may be a secret.
    NoJson(usize, usize),
    NoSnapshot,
}

impl fmt::Display for ExitSnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let expected = "give tilt ci --output-snapshot-on-exit and its file here";
        match &self.why {
            Why::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(
                    f,
                    "no snapshot {path}: a tilt ci that was killed leaves none; else {expected}"
                )
            }
            Why::Io(error) => write!(f, "cannot read the snapshot {path}: {error}"),
            Why::Empty => write!(f, "the snapshot {path} is empty: tilt ci was killed meanwhile"),
            Why::CutShort(bytes) => write!(
                f,
                "the snapshot {path} is cut short after {bytes} bytes: tilt ci was killed meanwhile"
            ),
            Why::NoJson(line, column) => {
                write!(f, "{path} is no snapshot (line {line}, column {column}); {expected}")
            }
            Why::NoSnapshot => write!(f, "{path} holds no resources of Tilt; {expected}"),
        }
    }
}

impl std::error::Error for ExitSnapshotError {}

/// Reads what a run left that ended with this outcome, which no snapshot tells.
pub fn read(path: &Path, outcome: Option<Outcome>) -> Result<ExitSnapshot, ExitSnapshotError> {
    let failed = |why| ExitSnapshotError { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| failed(Why::Io(error)))?;
    let mut left = parse(&bytes).map_err(failed)?;
    left.snapshot.outcome = outcome;
    Ok(left)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotFile<'a> {
    #[serde(borrow)]
    view: Option<SnapshotView<'a>>,
    created_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotView<'a> {
    #[serde(borrow)]
    ui_session: Option<&'a RawValue>,
    ui_resources: Option<Vec<&'a RawValue>>,
}

fn parse(bytes: &[u8]) -> Result<ExitSnapshot, Why> {
    if bytes.trim_ascii().is_empty() {
        return Err(Why::Empty);
    }
    // Not to the end: only the first value counts.
    let left = SnapshotFile::deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    let left = left.map_err(|error| {
        if error.is_eof() {
            Why::CutShort(bytes.len())
        } else {
            Why::NoJson(error.line(), error.column())
        }
    })?;
    let Some(SnapshotView { ui_session, ui_resources: Some(resources) }) = left.view else {
        return Err(Why::NoSnapshot);
    };
    let mut snapshot = Snapshot::default();
    let objects = ui_session.into_iter().chain(resources);
    let left_out = objects.filter(|object| !snapshot.add(object.get())).count();
    if left_out > 0 {
        log::debug!("left out {left_out} objects of an unknown shape");
    }
    snapshot.sort();
    let created_at = left.created_at.as_deref().and_then(Timestamp::parse).map(|time| time.at);
    Ok(ExitSnapshot { snapshot, created_at })
}

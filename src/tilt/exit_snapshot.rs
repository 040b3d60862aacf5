//! Reads the file that `tilt ci --output-snapshot-on-exit=FILE` writes. No other module reads it.
//!
//! The file contains the session, the resources and all logs, but no image builds. The logs are
//! skipped. Tilt overwrites an older file without truncating it, so only the first JSON value counts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::tilt::model::{Outcome, Snapshot, Timestamp};

/// The content of an exit snapshot.
#[derive(Debug, PartialEq)]
pub struct ExitSnapshot {
    pub snapshot: Snapshot,
    /// When Tilt wrote the file, by its own clock.
    pub created_at: Option<SystemTime>,
}

/// Why an exit snapshot cannot be used. The message is one line and names the file.
#[derive(Debug)]
pub struct ExitSnapshotError {
    path: PathBuf,
    problem: SnapshotProblem,
}

#[derive(Debug)]
enum SnapshotProblem {
    Io(io::Error),
    Empty,
    /// The file ends within a JSON value.
    Truncated {
        bytes: usize,
    },
    /// The message gives the position but not the text, which may be secret.
    NotJson {
        line: usize,
        column: usize,
    },
    NoResources,
}

impl fmt::Display for ExitSnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let advice = "give the file that tilt ci --output-snapshot-on-exit wrote";
        match &self.problem {
            SnapshotProblem::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "no snapshot {path}: a killed tilt ci writes none; otherwise {advice}")
            }
            SnapshotProblem::Io(error) => write!(f, "cannot read the snapshot {path}: {error}"),
            SnapshotProblem::Empty => write!(f, "the snapshot {path} is empty: tilt ci was killed"),
            SnapshotProblem::Truncated { bytes } => write!(
                f,
                "the snapshot {path} is truncated after {bytes} bytes: tilt ci was killed"
            ),
            SnapshotProblem::NotJson { line, column } => {
                write!(f, "{path} is not a snapshot (line {line}, column {column}); {advice}")
            }
            SnapshotProblem::NoResources => {
                write!(f, "{path} contains no Tilt resources; {advice}")
            }
        }
    }
}

impl std::error::Error for ExitSnapshotError {}

/// Reads an exit snapshot. `outcome` is how the run ended, which the file does not contain. Fails if
/// the file cannot be read, is empty or truncated, or is not a snapshot.
pub fn read(path: &Path, outcome: Option<Outcome>) -> Result<ExitSnapshot, ExitSnapshotError> {
    let failed = |problem| ExitSnapshotError { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| failed(SnapshotProblem::Io(error)))?;
    let mut exit_snapshot = parse(&bytes).map_err(failed)?;
    exit_snapshot.snapshot.outcome = outcome;
    Ok(exit_snapshot)
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

fn parse(bytes: &[u8]) -> Result<ExitSnapshot, SnapshotProblem> {
    if bytes.trim_ascii().is_empty() {
        return Err(SnapshotProblem::Empty);
    }
    // `deserialize` does not check what follows the first value.
    let file = SnapshotFile::deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    let file = file.map_err(|error| {
        if error.is_eof() {
            SnapshotProblem::Truncated { bytes: bytes.len() }
        } else {
            SnapshotProblem::NotJson { line: error.line(), column: error.column() }
        }
    })?;
    let Some(SnapshotView { ui_session, ui_resources: Some(resources) }) = file.view else {
        return Err(SnapshotProblem::NoResources);
    };
    let mut snapshot = Snapshot::default();
    let objects = ui_session.into_iter().chain(resources);
    let skipped = objects.filter(|object| !snapshot.add(object.get())).count();
    if skipped > 0 {
        log::debug!("skipped {skipped} objects of an unknown shape");
    }
    snapshot.sort();
    let created_at = file.created_at.as_deref().and_then(Timestamp::parse).map(|time| time.at);
    Ok(ExitSnapshot { snapshot, created_at })
}

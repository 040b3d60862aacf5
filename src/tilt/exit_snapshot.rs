//! Reads the file that `tilt ci --output-snapshot-on-exit=FILE` writes. No other module reads it.
//!
//! The file contains the session, the resources and all logs, but no image builds. The logs are
//! never held in memory. Tilt overwrites an older file without truncating it, so only the first JSON value counts.
//!
//! Every Tilt since 0.20.2 writes a `view` with `uiSession` and `uiResources` (`pkg/webview` in Tilt).
//! Before 0.37.0, the objects in it have no `kind`. Before 0.30.0, there is no `createdAt`. Before
//! 0.20.5, the objects have no `metadata.uid`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::tilt::excerpt::{Excerpt, TEXT_LIMIT, excerpt};
use crate::tilt::model::{Outcome, Snapshot, Timestamp};

/// The most bytes of a snapshot. A larger file is probably something else, such as a device.
const SIZE_LIMIT: u64 = 256 * 1024 * 1024;
/// How many bytes are read at once.
const BUFFER_SIZE: usize = 64 * 1024;

/// The content of an exit snapshot. It has at least one resource.
#[derive(Debug, PartialEq)]
pub struct ExitSnapshot {
    pub snapshot: Snapshot,
    /// When Tilt wrote the file: by its own clock, or else the file's modification time.
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
    /// The file is longer than [`SIZE_LIMIT`].
    TooLong,
    /// The parts that are read are longer than [`TEXT_LIMIT`].
    TooMuchToRead,
    Empty,
    /// The file ends within a JSON value.
    Truncated {
        bytes: u64,
    },
    /// The message gives the position but not the text, which may be secret.
    NotJson {
        line: usize,
        column: usize,
    },
    NoResources,
    /// The file contains resources, but all have an unexpected shape.
    NoReadableResources {
        resources: usize,
    },
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
            SnapshotProblem::TooLong => write!(
                f,
                "the snapshot {path} is longer than {} MB; {advice}",
                SIZE_LIMIT / (1024 * 1024)
            ),
            SnapshotProblem::TooMuchToRead => write!(
                f,
                "the snapshot {path} has more than {} MB besides its logs; {advice}",
                TEXT_LIMIT / (1024 * 1024)
            ),
            SnapshotProblem::Empty => write!(f, "the snapshot {path} is empty: tilt ci was killed"),
            SnapshotProblem::Truncated { bytes } => write!(
                f,
                "the snapshot {path} is truncated after {bytes} bytes: tilt ci was killed"
            ),
            SnapshotProblem::NotJson { line, column } => {
                write!(f, "{path} is not a snapshot (line {line}, column {column}); {advice}")
            }
            SnapshotProblem::NoResources => {
                write!(f, "{path} contains no Tilt resources; {advice}, with Tilt 0.20.2 or later")
            }
            SnapshotProblem::NoReadableResources { resources } => {
                write!(f, "cannot read any resource in {path} (it shows {resources}); {advice}")
            }
        }
    }
}

impl std::error::Error for ExitSnapshotError {}

/// Reads an exit snapshot. `outcome` is how the run ended, which the file does not contain. Fails if
/// the file cannot be read, is longer than 256 MB, empty or truncated, is not a snapshot, or shows no resource.
pub fn read(path: &Path, outcome: Option<Outcome>) -> Result<ExitSnapshot, ExitSnapshotError> {
    let failed = |problem| ExitSnapshotError { path: path.to_owned(), problem };
    let (excerpt, modified_at) =
        read_file(path).map_err(|error| failed(SnapshotProblem::Io(error)))?;
    if excerpt.length > SIZE_LIMIT {
        return Err(failed(SnapshotProblem::TooLong));
    }
    if excerpt.text.len() > TEXT_LIMIT {
        return Err(failed(SnapshotProblem::TooMuchToRead));
    }
    let mut exit_snapshot = parse(&excerpt).map_err(failed)?;
    exit_snapshot.snapshot.outcome = outcome;
    exit_snapshot.created_at = exit_snapshot.created_at.or(modified_at);
    Ok(exit_snapshot)
}

/// Returns the needed parts of a file, which may be a pipe, and the time of its last change.
fn read_file(path: &Path) -> io::Result<(Excerpt, Option<SystemTime>)> {
    let file = File::open(path)?;
    let modified_at = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let source = BufReader::with_capacity(BUFFER_SIZE, file.take(SIZE_LIMIT + 1));
    Ok((excerpt(source)?, modified_at))
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
    #[serde(borrow)]
    clusters: Option<Vec<&'a RawValue>>,
}

fn parse(excerpt: &Excerpt) -> Result<ExitSnapshot, SnapshotProblem> {
    if excerpt.text.trim_ascii().is_empty() {
        return Err(SnapshotProblem::Empty);
    }
    // `deserialize` does not check what follows the first value.
    let mut json = serde_json::Deserializer::from_slice(&excerpt.text);
    let file = SnapshotFile::deserialize(&mut json);
    let file = file.map_err(|error| {
        if error.is_eof() {
            SnapshotProblem::Truncated { bytes: excerpt.length }
        } else {
            SnapshotProblem::NotJson { line: error.line(), column: error.column() }
        }
    })?;
    let created_at = file.created_at.as_deref().and_then(Timestamp::parse).map(|time| time.at);
    let snapshot = file.view.map_or(Err(SnapshotProblem::NoResources), read_view)?;
    Ok(ExitSnapshot { snapshot, created_at })
}

/// Reads the objects of a view. Skips those with an unexpected shape, unless that is every resource.
fn read_view(view: SnapshotView) -> Result<Snapshot, SnapshotProblem> {
    let mut snapshot = Snapshot::default();
    let skips_session = view.ui_session.is_some_and(|text| !snapshot.add_session(text.get()));
    let resources = view.ui_resources.unwrap_or_default();
    let skipped = resources.iter().filter(|text| !snapshot.add_resource(text.get())).count();
    if resources.is_empty() {
        return Err(SnapshotProblem::NoResources);
    }
    if skipped == resources.len() {
        return Err(SnapshotProblem::NoReadableResources { resources: skipped });
    }
    let clusters = view.clusters.unwrap_or_default();
    let skipped_clusters = clusters.iter().filter(|text| !snapshot.add_cluster(text.get())).count();
    let skipped = skipped + usize::from(skips_session) + skipped_clusters;
    if skipped > 0 {
        log::warn!("skipped {skipped} objects of an unknown shape in the snapshot");
    }
    snapshot.sort();
    Ok(snapshot)
}

//! The random id of this machine, in the file `installation-id` of the state folder.

use std::fs;
use std::io;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::ids;
use crate::spool::error::{StoreResult, failed};
use crate::spool::files;

const FILE: &str = "installation-id";
/// The length of an id, in hex digits.
const DIGITS: usize = 32;
/// The longest file that is read, in bytes.
const SIZE_LIMIT: usize = 4096;

/// Returns the id of this machine, and creates it if there is none.
pub fn load_or_create(dir: &Path) -> StoreResult<String> {
    files::create_private(dir)?;
    let path = dir.join(FILE);
    if let Some(id) = load(dir) {
        return Ok(id);
    }
    let mut random = [0; DIGITS / 2];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| io::Error::other("the system gives no random numbers"))
        .map_err(failed("create", &path))?;
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let written = files::write_synced(&fresh, ids::hex(&random, DIGITS).as_bytes());
    let placed = written.and_then(|_| place(dir, &fresh, &path));
    let _ = files::remove(&fresh);
    placed.map_err(failed("write", &path))?;
    load(dir).ok_or_else(|| failed("read", &path)(io::Error::other("it contains no id")))
}

/// Returns the id of this machine if it has one.
pub fn load(dir: &Path) -> Option<String> {
    let (bytes, _) = files::read_bounded(&dir.join(FILE), SIZE_LIMIT).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let id = text.trim();
    (id.len() == DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Moves the file with a new id to its place. If two collectors start together, the first one
/// decides the id of both, because a link does not replace a file.
fn place(dir: &Path, fresh: &Path, path: &Path) -> io::Result<()> {
    let Err(error) = fs::hard_link(fresh, path) else { return Ok(()) };
    if load(dir).is_some() {
        return Ok(());
    }
    if error.kind() == io::ErrorKind::AlreadyExists {
        log::warn!("{} contained no id; created a new one", path.display());
    }
    // The file is damaged, or the file system has no links. Then the last collector decides.
    files::rename(fresh, path)
}

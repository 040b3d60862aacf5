//! The random id of this machine, in the file `installation-id` of the state folder.

use std::io::{self, ErrorKind};
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
    if let Some(id) = load(dir)? {
        return Ok(id);
    }
    // If two collectors start together, the first one decides the id of both.
    let _lock = files::lock(&dir.join("installation-id.lock"))?;
    if let Some(id) = load(dir)? {
        return Ok(id);
    }
    let path = dir.join(FILE);
    if path.exists() {
        log::warn!("{} contained no id; created a new one", path.display());
    }
    let mut random = [0; DIGITS / 2];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| io::Error::other("the system gives no random numbers"))
        .map_err(failed("create", &path))?;
    let id = ids::hex(&random, DIGITS);
    files::replace(&path, &dir.join("installation-id.new"), id.as_bytes())
        .map_err(failed("write", &path))?;
    Ok(id)
}

/// Returns the id of this machine if it has one. Fails if the file cannot be read at the moment: it may
/// contain an id.
pub fn load(dir: &Path) -> StoreResult<Option<String>> {
    let path = dir.join(FILE);
    let bytes = match files::read_bounded(&path, SIZE_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::FileTooLarge) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let id = String::from_utf8(bytes).unwrap_or_default().trim().to_owned();
    let is_id = id.len() == DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(is_id.then_some(id))
}

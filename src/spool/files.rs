//! Private files and folders: files that only their owner can read, replaced as a whole, and file
//! locks.
//!
//! A file is replaced in four steps: write a new file beside it, sync that, rename it, and sync
//! the folder. A reader sees the old content or the new. A lock counts only while its path still
//! leads to the locked file: if someone removes the file, others lock a new one.
//!
//! On Windows, a file that another program holds open cannot be renamed or removed, and not even opened
//! if that program does not share it. Virus scanners and programs that read a file hold it for
//! milliseconds, so all of these are tried again for two seconds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::base::time;
use crate::spool::error::{LOCK_TIMEOUT, StoreError, StoreResult, failed};

const LOCK_POLL: Duration = Duration::from_millis(5);
/// How long a file that another program holds open is tried again.
const HELD_TIMEOUT: Duration = Duration::from_secs(2);
const HELD_POLL: Duration = Duration::from_millis(20);

/// Reads a file of at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be a state file"));
    }
    Ok(bytes)
}

/// Replaces the file at `path` by a new one, which is written to `fresh` first. After an error the
/// old file is still there.
pub fn replace(path: &Path, fresh: &Path, bytes: &[u8]) -> io::Result<()> {
    write_synced(fresh, bytes)
        .and_then(|()| rename(fresh, path))
        .inspect_err(|_| drop(remove(fresh)))?;
    sync_folder(path)
}

/// Writes a new file, and returns once it is on disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    sync(&write_new(path, bytes)?)
}

/// Writes a new file. A file that a crash or someone else left there is removed first, never
/// written to.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_private(OpenOptions::new().write(true).create_new(true), path)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Renames a file, over an existing one too.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    while_held(|| fs::rename(from, to))
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    while_held(|| fs::remove_file(path))
}

/// Repeats what fails because another program holds the file open, for at most [`HELD_TIMEOUT`].
#[expect(clippy::disallowed_methods, reason = "a file may be held during the shutdown too")]
fn while_held<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = time::now() + HELD_TIMEOUT;
    loop {
        match attempt() {
            Err(error) if is_held(&error) && time::now() < deadline => {
                std::thread::sleep(HELD_POLL);
            }
            result => return result,
        }
    }
}

/// True for the errors of Windows that a file in use causes: `ERROR_ACCESS_DENIED` and
/// `ERROR_SHARING_VIOLATION`. Other systems do not refuse to open, rename or remove an open file.
fn is_held(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32))
}

/// Locks the file at `path`, and waits for at most [`LOCK_TIMEOUT`].
#[expect(clippy::disallowed_methods, reason = "std has no lock with a deadline")]
pub fn lock(path: &Path) -> StoreResult<File> {
    let mut file = open_lock(path)?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) if is_file_at(&file, path) => return Ok(file),
            // The file was removed, so the next collector would lock another.
            Ok(()) => file = open_lock(path)?,
            Err(TryLockError::WouldBlock) if waited < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_POLL);
                waited += LOCK_POLL;
                if !is_file_at(&file, path) {
                    file = open_lock(path)?;
                }
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Busy { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
        }
    }
}

/// Locks the file at `path`, or returns `None` if another process has locked it.
pub fn try_lock(path: &Path) -> StoreResult<Option<File>> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file).filter(|file| is_file_at(file, path))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}

/// Opens a file to read it.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open_private(OpenOptions::new().read(true), path)
}

/// Opens a file that exists to change its content.
pub fn open_to_change(path: &Path) -> io::Result<File> {
    open_private(OpenOptions::new().write(true), path)
}

/// Opens a file to change its content, and creates it if it is missing.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    open_private(OpenOptions::new().write(true).create(true), path)
}

fn open_lock(path: &Path) -> StoreResult<File> {
    open_private(OpenOptions::new().read(true).write(true).create(true), path)
        .map_err(failed("open", path))
}

/// Opens a file that only its owner can read. Fails for a link, a pipe or a device, and does not
/// wait for one.
#[cfg(unix)]
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.mode(0o600).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    while_held(|| options.open(path))
}

/// True if the path still leads to this open file.
#[cfg(unix)]
pub fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = fs::symlink_metadata(path).and_then(|named| Ok((named, file.metadata()?)));
    named.is_ok_and(|(named, open)| (named.dev(), named.ino()) == (open.dev(), open.ino()))
}

/// Windows does not remove a file that is open.
#[cfg(not(unix))]
pub fn is_file_at(_file: &File, _path: &Path) -> bool {
    true
}

/// Creates a folder that only its owner can use, if it is missing. Fails if every user of the
/// machine can write to it.
#[cfg(unix)]
pub fn create_private(dir: &Path) -> StoreResult<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
    let mode = fs::metadata(dir).map_err(failed("inspect", dir))?.permissions().mode();
    if mode & 0o002 == 0 { Ok(()) } else { Err(StoreError::Exposed { path: dir.to_owned() }) }
}

#[cfg(not(unix))]
pub fn create_private(dir: &Path) -> StoreResult<()> {
    fs::create_dir_all(dir).map_err(failed("create", dir))
}

/// True if others can read the folder or write to it. `None` if this program cannot tell.
#[cfg(unix)]
pub fn is_open_to_others(dir: &Path) -> StoreResult<Option<bool>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir).map_err(failed("inspect", dir))?.permissions().mode();
    Ok(Some(mode & 0o077 != 0))
}

/// Windows has access control lists, which std does not show.
#[cfg(not(unix))]
pub fn is_open_to_others(_dir: &Path) -> StoreResult<Option<bool>> {
    Ok(None)
}

/// Returns once the file is on disk.
#[cfg(not(target_vendor = "apple"))]
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Returns once the file is on disk. std uses F_FULLFSYNC, which network shares and some external
/// disks do not have. SQLite falls back to fsync there too.
#[cfg(target_vendor = "apple")]
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|_| Ok(rustix::fs::fsync(file)?))
}

/// Syncs the folder of a file, which makes a rename in it permanent.
#[cfg(unix)]
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = sync(&File::open(path.parent().unwrap_or(Path::new(".")))?);
    // Some file systems, such as network shares, answer EINVAL because they cannot sync a folder.
    // The rename has happened, so this is not a failure.
    synced.or_else(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Ok(()),
        _ => Err(error),
    })
}

#[cfg(not(unix))]
pub fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

//! The state on disk: one document per destination, in a private folder.
//!
//! Any number of collectors can share it. Each change holds a lock while it reads, changes and
//! replaces the document. A second lock is held while events are being sent, so that no two
//! collectors send the same ones.
//!
//! The document that was last read or written stays in memory, and is read again only if the file
//! was replaced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::time;
use crate::spool::codec::DecodeError;
use crate::spool::error::{StoreError, StoreResult, failed};
use crate::spool::files;
use crate::spool::state::State;

/// The largest document, in bytes: twice the limit of the queue.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;

/// The state of one destination, on disk.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    stem: String,
    /// Read and written under the lock of the state, like the document.
    cached: Arc<Mutex<Option<CachedState>>>,
}

/// The document as this process last read or wrote it.
#[derive(Debug)]
struct CachedState {
    state: State,
    /// Held open, so that no other file can get the same inode.
    file: File,
    changed_at: SystemTime,
}

/// The right to send events. It ends when this is dropped or the process dies.
#[derive(Debug)]
pub struct SendLock {
    locked: File,
    path: PathBuf,
}

impl SendLock {
    /// True if it still keeps other collectors from sending.
    pub fn holds(&self) -> bool {
        files::is_file_at(&self.locked, &self.path)
    }
}

impl Store {
    /// Names the folder and the files in it. Creates nothing.
    pub fn new(dir: PathBuf, stem: String) -> Self {
        Self { dir, stem, cached: Arc::default() }
    }

    /// Changes the state. When this returns, the change is on disk.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> StoreResult<T> {
        files::create_private(&self.dir)?;
        let (path, lock_path) = (self.path("json"), self.path("lock"));
        let lock = files::lock(&lock_path)?;
        let (mut state, _) = self.load()?;
        let result = change(&mut state);
        if !files::is_file_at(&lock, &lock_path) {
            // Another collector may have changed the state. This would undo its change.
            let removed = io::Error::new(io::ErrorKind::NotFound, "its lock was removed");
            return Err(failed("write", &path)(removed));
        }
        let document = state.encode_within(SIZE_LIMIT);
        let file = files::replace(&path, &self.path("json.new"), &document)
            .map_err(failed("write", &path))?;
        self.remember(state, Some(file));
        drop(lock);
        Ok(result)
    }

    /// Checks that the next change can be written. Without that, nothing may be sent: it could not
    /// be recorded as sent, and would be sent again and again.
    pub fn try_writing(&self) -> StoreResult<()> {
        files::create_private(&self.dir)?;
        let lock = files::lock(&self.path("lock"))?;
        let (path, trial) = (self.path("json"), self.path("json.new"));
        // Settling only shortens the state, so its current length is enough.
        let (bytes, _) = files::read_bounded(&path, SIZE_LIMIT).map_err(failed("read", &path))?;
        let written = files::write_new(&trial, &bytes).map(drop);
        let removed = files::remove(&trial);
        drop(lock);
        written.and(removed).map_err(failed("write", &path))
    }

    /// Reads the state as it is now.
    pub fn read<T>(&self, inspect: impl FnOnce(&State) -> T) -> StoreResult<T> {
        files::create_private(&self.dir)?;
        let lock = files::lock(&self.path("lock"))?;
        let (state, file) = self.load()?;
        let result = inspect(&state);
        self.remember(state, file);
        drop(lock);
        Ok(result)
    }

    /// Takes the right to send. `None` if another collector has it.
    pub fn try_sending(&self) -> StoreResult<Option<SendLock>> {
        files::create_private(&self.dir)?;
        let path = self.path("sending");
        let locked = files::try_lock(&path)?;
        Ok(locked.map(|locked| SendLock { locked, path }))
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.stem))
    }

    /// Loads the state and the file that holds it. The caller holds the lock. A document that
    /// cannot be used is moved aside with a warning, except that of a later version.
    fn load(&self) -> StoreResult<(State, Option<File>)> {
        let path = self.path("json");
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cached) = cached.filter(|cached| cached.is_still_at(&path)) {
            return Ok((cached.state, Some(cached.file)));
        }
        let (bytes, file) = match files::read_bounded(&path, SIZE_LIMIT) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match State::decode(&bytes) {
            Ok(state) => Ok((state, Some(file))),
            Err(error @ DecodeError::Newer { .. }) => Err(StoreError::Newer { path, error }),
            Err(DecodeError::Older { version }) => {
                let aside = self.move_aside(&format!("version-{version}"))?;
                log::warn!(
                    "the state {} is from another version of tilt-honeycomb; moved it to {} and \
                     started a new one: events that it held are not sent, and builds that Tilt \
                     still shows are sent again",
                    path.display(),
                    aside.display()
                );
                Ok(Default::default())
            }
            Err(DecodeError::Corrupt) => {
                let aside = self.move_aside("corrupt")?;
                log::warn!(
                    "the state {} was damaged; moved it to {} and started a new one: builds that \
                     Tilt still shows will be sent again",
                    path.display(),
                    aside.display()
                );
                Ok(Default::default())
            }
        }
    }

    /// Renames the document, and returns its new path.
    fn move_aside(&self, why: &str) -> StoreResult<PathBuf> {
        let path = self.path("json");
        let millis = time::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let aside = self.path(&format!("{why}-{millis}"));
        files::rename(&path, &aside).map_err(failed("move aside", &path))?;
        Ok(aside)
    }

    fn remember(&self, state: State, file: Option<File>) {
        let cached = file.and_then(|file| CachedState::new(state, file));
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = cached;
    }
}

impl CachedState {
    #[cfg(unix)]
    fn new(state: State, file: File) -> Option<Self> {
        let changed_at = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some(Self { state, file, changed_at })
    }

    /// Windows cannot tell whether two files are the same, and does not replace an open one.
    #[cfg(not(unix))]
    fn new(_state: State, _file: File) -> Option<Self> {
        None
    }

    fn is_still_at(&self, path: &Path) -> bool {
        let changed_at = self.file.metadata().and_then(|metadata| metadata.modified());
        changed_at.is_ok_and(|at| at == self.changed_at) && files::is_file_at(&self.file, path)
    }
}

/// Creates the state folder if it is missing, and checks that a file can be written to it. Returns
/// true if others can read the folder or write to it, and `None` if that is unknown.
pub fn try_folder(dir: &Path) -> StoreResult<Option<bool>> {
    files::create_private(dir)?;
    let trial = dir.join(format!("trial-{}", std::process::id()));
    let written = files::write_synced(&trial, b"tilt-honeycomb");
    let removed = files::remove(&trial);
    written.and(removed).map_err(failed("write to", dir))?;
    files::is_open_to_others(dir)
}

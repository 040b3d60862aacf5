//! Where the state lives: one document per destination, in a private folder.
//!
//! Every change is read, changed and replaced under a lock, so that any number of collectors can
//! share it: written whole to a file beside it, synced, renamed over it, and the folder synced. A
//! reader sees the old document or the new one. A second lock is held while events are on their
//! way, so that no two collectors send the same ones. A lock whose file was removed, alone or with
//! the folder, holds nobody off: it counts only while its name still leads to it.
//!
//! What was last read or written here is kept, and not read again while it is still there.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::ids;
use crate::base::time;
use crate::spool::state::{DecodeError, State};

/// Far above what the queue's own bounds allow; a larger file is not ours.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;
/// A change takes milliseconds; whoever holds the lock for longer is stopped or hung.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);
const INSTALLATION_ID: &str = "installation-id";

#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    stem: String,
    /// Looked at under the lock on the state, like the document itself.
    known: Arc<Mutex<Option<CachedState>>>,
}

/// The document as it was last read or written by this process.
#[derive(Debug)]
struct CachedState {
    state: State,
    /// Held open, so that no other file can be taken for it.
    file: File,
    changed_at: SystemTime,
}

/// Held while events are on their way; dropped, or its holder dead, another may send.
#[derive(Debug)]
pub struct SendLock {
    locked: File,
    path: PathBuf,
}

impl SendLock {
    /// Whether it still keeps others from sending.
    pub fn holds(&self) -> bool {
        is_the_file_at(&self.locked, &self.path)
    }
}

#[derive(Debug)]
pub enum StoreError {
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Written by a newer program, and left alone.
    Newer {
        path: PathBuf,
        error: DecodeError,
    },
    /// Another collector has held the lock for seconds.
    Busy {
        path: PathBuf,
    },
    /// Anyone on the machine could change what is sent.
    Exposed {
        path: PathBuf,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, source } => {
                write!(
                    f,
                    "cannot {what} {}: {source}; --state-dir chooses another folder",
                    path.display()
                )
            }
            Self::Newer { path, error } => {
                write!(
                    f,
                    "cannot use {}: {error}; update tilt-honeycomb or give --state-dir",
                    path.display()
                )
            }
            Self::Busy { path } => write!(
                f,
                "another collector has held {} for {} seconds; is one of them suspended?",
                path.display(),
                LOCK_PATIENCE.as_secs()
            ),
            Self::Exposed { path } => write!(
                f,
                "everyone may write to the state folder {}; run chmod 700 on it or give --state-dir",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {}

type StoreResult<T> = std::result::Result<T, StoreError>;

/// Names what was tried on what, for an error that the system leaves without either.
fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

impl Store {
    /// Names the place; touches nothing yet.
    pub fn new(dir: PathBuf, stem: String) -> Self {
        Self { dir, stem, known: Arc::default() }
    }

    /// Changes the state, durably: when this returns, it is on disk.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> StoreResult<T> {
        make_private(&self.dir)?;
        let lock = self.lock_state()?;
        let (mut state, _) = self.load()?;
        let result = change(&mut state);
        if !is_the_file_at(&lock, &self.path("lock")) {
            // Another may have changed the state meanwhile; writing ours would undo that.
            let removed = io::Error::new(io::ErrorKind::NotFound, "its lock was removed");
            return Err(failed("write", &self.path("json"))(removed));
        }
        let file = self.save(&mut state)?;
        self.remember(state, Some(file));
        drop(lock);
        Ok(result)
    }

    /// Whether the next change could be written: where it could not, nothing may be sent, because
    /// it could not be noted as sent, and would go out again and again.
    pub fn try_writing(&self) -> StoreResult<()> {
        make_private(&self.dir)?;
        let lock = self.lock_state()?;
        let (path, trial) = (self.path("json"), self.path("json.new"));
        // As long as the state is: settling only makes it shorter.
        let (bytes, _) = read_bounded(&path).map_err(failed("read", &path))?;
        let written = write_new(&trial, &bytes).map(drop);
        let removed = fs::remove_file(&trial);
        drop(lock);
        written.and(removed).map_err(failed("write", &path))
    }

    /// Looks at the state as it is now.
    pub fn read<T>(&self, answer: impl FnOnce(&State) -> T) -> StoreResult<T> {
        make_private(&self.dir)?;
        let lock = self.lock_state()?;
        let (state, file) = self.load()?;
        let result = answer(&state);
        self.remember(state, file);
        drop(lock);
        Ok(result)
    }

    /// The right to send; `None` while another collector has it.
    pub fn try_sending(&self) -> StoreResult<Option<SendLock>> {
        make_private(&self.dir)?;
        let path = self.path("sending");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(SendLock { locked: file, path }).filter(SendLock::holds)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.stem))
    }

    #[expect(clippy::disallowed_methods, reason = "std has no lock with a deadline")]
    fn lock_state(&self) -> StoreResult<File> {
        let path = self.path("lock");
        let mut file = open_lock(&path)?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) if is_the_file_at(&file, &path) => return Ok(file),
                // Whoever comes next would not meet this one.
                Ok(()) => file = open_lock(&path)?,
                Err(TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_POLL);
                    waited += LOCK_POLL;
                    if !is_the_file_at(&file, &path) {
                        file = open_lock(&path)?;
                    }
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { path }),
                Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            }
        }
    }

    /// Under the lock, with the file that holds it. A damaged document is moved aside, said, and
    /// never used.
    fn load(&self) -> StoreResult<(State, Option<File>)> {
        let path = self.path("json");
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(known) = known.filter(|known| known.is_still_at(&path)) {
            return Ok((known.state, Some(known.file)));
        }
        let (bytes, file) = match read_bounded(&path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match State::decode(&bytes) {
            Ok(state) => Ok((state, Some(file))),
            Err(error @ DecodeError::Newer { .. }) => Err(StoreError::Newer { path, error }),
            Err(DecodeError::Corrupt) => {
                let aside = self.path(&format!("corrupt-{}", unix_millis()));
                fs::rename(&path, &aside).map_err(failed("move aside", &path))?;
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

    fn remember(&self, state: State, file: Option<File>) {
        let known = file.and_then(|file| CachedState::new(state, file));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn save(&self, state: &mut State) -> StoreResult<File> {
        let (path, fresh) = (self.path("json"), self.path("json.new"));
        replace(&path, &fresh, &state.encode_within(SIZE_LIMIT)).map_err(failed("write", &path))
    }
}

impl CachedState {
    #[cfg(unix)]
    fn new(state: State, file: File) -> Option<Self> {
        let changed_at = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some(Self { state, file, changed_at })
    }

    /// Windows neither tells files apart nor replaces one that is open.
    #[cfg(not(unix))]
    fn new(_state: State, _file: File) -> Option<Self> {
        None
    }

    fn is_still_at(&self, path: &Path) -> bool {
        let changed_at = self.file.metadata().and_then(|metadata| metadata.modified());
        changed_at.is_ok_and(|at| at == self.changed_at) && is_the_file_at(&self.file, path)
    }
}

/// Makes the folder if there is none, and tries whether it takes a file; whether others may look
/// into it.
pub fn try_folder(dir: &Path) -> StoreResult<bool> {
    make_private(dir)?;
    let trial = dir.join(format!("trial-{}", std::process::id()));
    let written = write_synced(&trial, b"tilt-honeycomb");
    let removed = fs::remove_file(&trial);
    written.and(removed).map_err(failed("write to", dir))?;
    is_open_to_others(dir)
}

/// The random id of this machine, made when first asked for.
pub fn installation_id(dir: &Path) -> StoreResult<String> {
    make_private(dir)?;
    let path = dir.join(INSTALLATION_ID);
    if let Some(id) = known_installation_id(dir) {
        return Ok(id);
    }
    let mut random = [0; 16];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| io::Error::other("no randomness to be had"))
        .map_err(failed("make", &path))?;
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_synced(&fresh, ids::hex(&random, 32).as_bytes());
    let placed = written.and_then(|_| place_id(dir, &fresh, &path));
    let _ = fs::remove_file(&fresh);
    placed.map_err(failed("write", &path))?;
    known_installation_id(dir)
        .ok_or_else(|| failed("read", &path)(io::Error::other("it holds no id")))
}

/// Of two collectors that start at once, the first to link the name decides for both.
fn place_id(dir: &Path, fresh: &Path, path: &Path) -> io::Result<()> {
    let Err(error) = fs::hard_link(fresh, path) else { return Ok(()) };
    if known_installation_id(dir).is_some() {
        return Ok(());
    }
    if error.kind() == io::ErrorKind::AlreadyExists {
        log::warn!("{} held no id: this machine has a new one", path.display());
    }
    // Not every file system knows links; then, and in place of what is damaged, the last decides.
    fs::rename(fresh, path)
}

/// The id of this machine if it has one already.
pub fn known_installation_id(dir: &Path) -> Option<String> {
    let (bytes, _) = read_bounded(&dir.join(INSTALLATION_ID)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let id = text.trim();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

fn read_bounded(path: &Path) -> io::Result<(Vec<u8>, File)> {
    let mut bytes = Vec::new();
    let file = open_plain(OpenOptions::new().read(true), path)?;
    (&file).take(SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > SIZE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be a state file"));
    }
    Ok((bytes, file))
}

/// Replaces a file by way of `fresh` beside it: whole, on disk, or not at all.
fn replace(path: &Path, fresh: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = write_synced(fresh, bytes)
        .and_then(|file| fs::rename(fresh, path).map(|()| file))
        .inspect_err(|_| drop(fs::remove_file(fresh)))?;
    sync_folder(path)?;
    Ok(file)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = write_new(path, bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// A new file: what a crash or a stranger left under the name is removed, never written through.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = open_plain(OpenOptions::new().write(true).create_new(true), path)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn open_lock(path: &Path) -> StoreResult<File> {
    open_plain(OpenOptions::new().read(true).write(true).create(true), path)
        .map_err(failed("open", path))
}

/// Opens a file that only its owner may read, and nothing that a link points to; a pipe or a
/// device in its place is refused, and not waited for.
#[cfg(unix)]
fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
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
fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

/// Whether the name still leads to this open file.
#[cfg(unix)]
fn is_the_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = fs::symlink_metadata(path).and_then(|named| Ok((named, file.metadata()?)));
    named.is_ok_and(|(named, open)| (named.dev(), named.ino()) == (open.dev(), open.ino()))
}

/// Windows removes no file that is open.
#[cfg(not(unix))]
fn is_the_file_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(unix)]
fn make_private(dir: &Path) -> StoreResult<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))?;
    let mode = fs::metadata(dir).map_err(failed("look at", dir))?.permissions().mode();
    if mode & 0o002 == 0 { Ok(()) } else { Err(StoreError::Exposed { path: dir.to_owned() }) }
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> StoreResult<()> {
    fs::create_dir_all(dir).map_err(failed("make", dir))
}

#[cfg(unix)]
fn is_open_to_others(dir: &Path) -> StoreResult<bool> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir).map_err(failed("look at", dir))?.permissions().mode();
    Ok(mode & 0o077 != 0)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn is_open_to_others(_dir: &Path) -> StoreResult<bool> {
    Ok(false)
}

/// A rename lasts once the folder that holds the name is on disk.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn unix_millis() -> u128 {
    time::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

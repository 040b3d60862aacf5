//! The state on disk: a private folder per destination.
//!
//! | file | content |
//! |---|---|
//! | `state.ndjson` | the index of the queue, and the sessions |
//! | `queue/*-builds.ndjson`, `queue/*-heartbeats.ndjson` | the queued events, in segments |
//! | `queue/settled-*.ndjson` | the journal: which events have left the queue since |
//! | `lock`, `sending` | the locks |
//!
//! Replacing `state.ndjson` is what commits a change. Events are written and synced before that, and
//! what a crash leaves behind is not in the index. Any number of collectors can share the folder:
//! each change holds a lock. A second lock is held while events are being sent, so that no two
//! collectors send the same ones.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::time;
use crate::spool::codec::{DecodeError, decode_queue};
use crate::spool::error::{StoreError, StoreResult, failed};
use crate::spool::files;
use crate::spool::journal::Settlement;
use crate::spool::positions::Positions;
use crate::spool::queue::{Addition, Queue};
use crate::spool::segment::Segment;
use crate::spool::segment_file::{self, QueueReader};
use crate::spool::state::State;

/// The largest document that is read, in bytes. The state is bounded by the number of its sessions,
/// so only another program can have written a larger one.
const DOCUMENT_LIMIT: usize = 256 * 1024 * 1024;
/// The free space that a journal has before events are sent. Without it, nothing may be
/// sent: on a full disk the response could not be recorded, and the events would be sent again.
const JOURNAL_RESERVE: [u8; 4096] = [b'\n'; 4096];

/// The state of one destination, on disk.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// The events that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueueStatus {
    pub length: usize,
    /// When the oldest of them was queued.
    pub oldest: Option<SystemTime>,
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
    /// Names the folder of a destination. Creates nothing.
    pub fn new(state_dir: &Path, destination: &str) -> Self {
        Self { dir: state_dir.join(destination) }
    }

    /// Changes the state. When this returns, the change is on disk. `clock` is read under the lock: an
    /// older time would look like a clock that was set back since another collector's change.
    pub fn update<T>(
        &self,
        clock: impl FnOnce() -> SystemTime,
        change: impl FnOnce(&mut State, SystemTime) -> T,
    ) -> StoreResult<T> {
        self.create_folders()?;
        let lock_path = self.dir.join("lock");
        let lock = files::lock(&lock_path)?;
        let mut state = self.load()?;
        let now = clock();
        let result = change(&mut state, now);
        let additions = state.place_events(now);
        if !files::is_file_at(&lock, &lock_path) {
            // Another collector may have changed the state. This would undo its change.
            let removed = io::Error::new(io::ErrorKind::NotFound, "its lock was removed");
            return Err(failed("write", &self.document())(removed));
        }
        self.write_events(additions, state.queue())?;
        let fresh = self.dir.join("state.new");
        files::replace(&self.document(), &fresh, &state.encode())
            .map_err(failed("write", &self.document()))?;
        self.remove_unused(state.queue());
        drop(lock);
        Ok(result)
    }

    /// Reads the state as it is now. It is empty if there is none.
    pub fn read<T>(&self, inspect: impl FnOnce(&State) -> T) -> StoreResult<T> {
        if !self.exists()? {
            return Ok(inspect(&State::default()));
        }
        let lock = files::lock(&self.dir.join("lock"))?;
        let state = self.load()?;
        drop(lock);
        Ok(inspect(&state))
    }

    /// How many events wait, and since when.
    pub fn queue_status(&self) -> StoreResult<QueueStatus> {
        let (lock, queue) = self.locked_queue()?;
        let length = queue.len();
        let oldest = self.reader(lock, &queue).filter_map(|event| event.since()).min();
        Ok(QueueStatus { length, oldest })
    }

    /// The number of events that wait.
    pub fn queue_length(&self) -> StoreResult<usize> {
        self.locked_queue().map(|(_, queue)| queue.len())
    }

    /// Reads the waiting events: builds, then heartbeats, each oldest first. Collectors cannot
    /// change the state until the reader is dropped.
    pub fn read_queue(&self) -> StoreResult<QueueReader> {
        let (lock, queue) = self.locked_queue()?;
        Ok(self.reader(lock, &queue))
    }

    /// Checks that the next response can be recorded, and keeps space for it. Without that, nothing
    /// may be sent.
    pub fn prepare_to_settle(&self) -> StoreResult<()> {
        let (_lock, queue) = self.locked_queue()?;
        if queue.is_empty() {
            return Ok(());
        }
        let path = self.journal(&queue);
        let reserve = |mut file: File| {
            file.seek(SeekFrom::Start(queue.journal().bytes))?;
            file.write_all(&JOURNAL_RESERVE)
        };
        files::open_to_change(&path).and_then(reserve).map_err(failed("write", &path))
    }

    /// Records that events were accepted or rejected. Counts `rejected` of them as lost.
    pub fn settle(&self, numbers: &[u64], rejected: usize) -> StoreResult<()> {
        let (_lock, mut queue) = self.locked_queue()?;
        if queue.is_empty() {
            // The state was lost since the events were read.
            return Ok(());
        }
        let settlement = Settlement { settled: Positions::of(numbers), rejected: rejected as u64 };
        let path = self.journal(&queue);
        let append = |mut file: File| {
            file.seek(SeekFrom::Start(queue.journal().bytes))?;
            file.write_all(&settlement.encode())?;
            files::sync(&file)
        };
        files::open_to_change(&path).and_then(append).map_err(failed("write", &path))?;
        queue.settle(&settlement);
        for segment in queue.segments().iter().filter(|segment| segment.is_spent()) {
            // Their space is needed more than their names: the next change removes those.
            let _ = fs::remove_file(self.queue_file(&segment.file_name()));
        }
        Ok(())
    }

    /// Takes the right to send. `None` if another collector has it.
    pub fn try_sending(&self) -> StoreResult<Option<SendLock>> {
        self.create_folders()?;
        let path = self.dir.join("sending");
        let locked = files::try_lock(&path)?;
        Ok(locked.map(|locked| SendLock { locked, path }))
    }

    fn reader(&self, lock: Option<File>, queue: &Queue) -> QueueReader {
        let mut segments = queue.segments().to_vec();
        segments.sort_by_key(|segment| segment.class);
        QueueReader::new(lock, self.dir.join("queue"), segments)
    }

    /// False if the folder is missing. A folder that cannot be reached is an error: it may come back.
    fn exists(&self) -> StoreResult<bool> {
        match fs::metadata(&self.dir) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("inspect", &self.dir)(error)),
        }
    }

    fn create_folders(&self) -> StoreResult<()> {
        if let Some(state_dir) = self.dir.parent() {
            files::create_private(state_dir)?;
        }
        files::create_private(&self.dir)?;
        files::create_private(&self.dir.join("queue"))
    }

    fn document(&self) -> PathBuf {
        self.dir.join("state.ndjson")
    }

    fn queue_file(&self, name: &str) -> PathBuf {
        self.dir.join("queue").join(name)
    }

    fn journal(&self, queue: &Queue) -> PathBuf {
        self.queue_file(&queue.journal().file_name())
    }

    /// Loads the state. The caller holds the lock. A document that cannot be used is moved aside
    /// with a warning, except that of a later version.
    fn load(&self) -> StoreResult<State> {
        let document = match files::read_bounded(&self.document(), DOCUMENT_LIMIT) {
            Ok(document) => State::decode(&document),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(DecodeError::Corrupt),
            Err(error) => return Err(failed("read", &self.document())(error)),
        };
        match document {
            Ok(mut state) => {
                let journal = self.read_journal(state.queue())?;
                state.take_in_journal(&journal);
                Ok(state)
            }
            Err(error) => self.refuse(error).map(|()| State::default()),
        }
    }

    /// Takes the lock, and reads the index of the queue. It is empty if there is none.
    fn locked_queue(&self) -> StoreResult<(Option<File>, Queue)> {
        if !self.exists()? {
            return Ok(Default::default());
        }
        let lock = files::lock(&self.dir.join("lock"))?;
        let mut line = Vec::new();
        let read = files::open_to_read(&self.document())
            .and_then(|file| BufReader::new(file).read_until(b'\n', &mut line));
        let queue = match read {
            Ok(_) => decode_queue(line.strip_suffix(b"\n").unwrap_or(&line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Queue::default()),
            Err(error) => return Err(failed("read", &self.document())(error)),
        };
        match queue {
            Ok(mut queue) => {
                let journal = self.read_journal(&queue)?;
                queue.take_in_journal(&journal);
                Ok((Some(lock), queue))
            }
            Err(error) => self.refuse(error).map(|()| (Some(lock), Queue::default())),
        }
    }

    /// Reads the part of the journal that the index does not contain yet.
    fn read_journal(&self, queue: &Queue) -> StoreResult<Vec<u8>> {
        let path = self.journal(queue);
        let read = |mut file: File| {
            let mut content = Vec::new();
            file.seek(SeekFrom::Start(queue.journal().bytes))?;
            file.read_to_end(&mut content).map(|_| content)
        };
        match files::open_to_read(&path).and_then(read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            content => content.map_err(failed("read", &path)),
        }
    }

    /// Writes new lines to the files of segments, and returns once they are on disk. Frees each part
    /// before the next one.
    fn write_events(&self, additions: Vec<Addition>, queue: &Queue) -> StoreResult<()> {
        let journal = self.journal(queue);
        let mut is_new = !journal.exists();
        if is_new {
            files::write_new(&journal, b"").map_err(failed("write", &journal))?;
        }
        for addition in additions {
            let path = self.queue_file(&addition.file_name);
            is_new |= addition.offset == 0;
            segment_file::append(&path, &addition).map_err(failed("write", &path))?;
        }
        if is_new {
            files::sync_folder(&journal).map_err(failed("sync the folder of", &journal))?;
        }
        Ok(())
    }

    /// Removes the files of the queue that the index does not name: those of retired segments, old
    /// journals, and what an interrupted change left behind. One that cannot be removed now is
    /// removed later.
    fn remove_unused(&self, queue: &Queue) {
        let journal = queue.journal().file_name();
        let segments = queue.segments().iter().map(Segment::file_name);
        let used: HashSet<_> = segments.chain([journal]).map(OsString::from).collect();
        let files = fs::read_dir(self.dir.join("queue")).into_iter().flatten().flatten();
        for file in files.filter(|file| !used.contains(&file.file_name())) {
            let _ = fs::remove_file(file.path());
        }
    }

    /// Moves a document that cannot be used aside, together with its events. Fails for that of a
    /// later version, which is left alone.
    fn refuse(&self, error: DecodeError) -> StoreResult<()> {
        let path = self.document();
        let reason = match error {
            DecodeError::Newer { .. } => return Err(StoreError::Newer { path, error }),
            DecodeError::Older { version } => format!("version-{version}"),
            DecodeError::Corrupt => "corrupt".to_owned(),
        };
        let millis = time::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let aside = self.dir.join(format!("{reason}-{millis}"));
        files::create_private(&aside)?;
        for name in ["queue", "state.ndjson"] {
            match files::rename(&self.dir.join(name), &aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("move aside", &self.dir.join(name))(error));
                }
                _ => {}
            }
        }
        let consequence = match error {
            DecodeError::Older { .. } => {
                "is from another version of tilt-honeycomb; moved it to {} and started a new one: \
                 events that it held are not sent, and builds that Tilt still shows are sent again"
            }
            _ => {
                "was damaged; moved it to {} and started a new one: builds that Tilt still shows \
                 will be sent again"
            }
        };
        let consequence = consequence.replacen("{}", &aside.display().to_string(), 1);
        log::warn!("the state {} {consequence}", path.display());
        self.create_folders()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_clock_is_read_under_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path(), "destination");
        store.update(time::wall, |_, _| ()).expect("a state");
        let held = files::lock(&folder.path().join("destination/lock")).expect("the lock");
        let is_released = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (sender, started) = std::sync::mpsc::channel();
            let clock = || {
                assert!(is_released.load(Ordering::SeqCst), "read while another held the lock");
                time::wall()
            };
            let store = &store;
            let update = scope.spawn(move || {
                sender.send(()).expect("a receiver");
                store.update(clock, |_, _| ())
            });
            started.recv().expect("a started thread");
            is_released.store(true, Ordering::SeqCst);
            drop(held);
            update.join().expect("no failed assertion").expect("a changed state");
        });
    }
}

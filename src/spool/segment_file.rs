//! The files of segments: adds lines, and reads the events that wait.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::spool::error::{StoreError, failed};
use crate::spool::files;
use crate::spool::queue::{Addition, QueuedEvent};
use crate::spool::segment::{Line, Segment};

/// Adds lines to a segment, and returns once they are on disk. Overwrites what an interrupted
/// change left there.
pub fn append(path: &Path, addition: &Addition) -> io::Result<()> {
    let mut file = files::open_or_create(path)?;
    file.set_len(addition.offset)?;
    file.seek(SeekFrom::Start(addition.offset))?;
    let mut writer = BufWriter::new(&file);
    for line in &addition.lines {
        writer.write_all(line)?;
    }
    writer.flush()?;
    drop(writer);
    files::sync(&file)
}

/// Reads the waiting events of segments, in their order.
#[derive(Debug)]
pub struct QueueReader {
    /// Held, so that no collector changes the files meanwhile.
    _lock: Option<File>,
    folder: PathBuf,
    segments: std::vec::IntoIter<Segment>,
    current: Option<SegmentReader>,
    unreadable: Vec<u64>,
    error: Option<StoreError>,
}

impl QueueReader {
    /// Reads these segments, whose files are in `folder`.
    pub fn new(lock: Option<File>, folder: PathBuf, segments: Vec<Segment>) -> Self {
        let segments = segments.into_iter();
        Self { _lock: lock, folder, segments, current: None, unreadable: Vec::new(), error: None }
    }

    /// Ends the reading. Returns the numbers of the events that cannot be read, because a file was
    /// damaged or removed. Fails if a file could not be read.
    pub fn finish(self) -> Result<Vec<u64>, StoreError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.unreadable),
        }
    }

    /// The next waiting event. Its content is `None` if it is damaged.
    fn next_line(&mut self) -> Result<Option<(u64, Option<QueuedEvent>)>, StoreError> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(line) = current.next_line().map_err(failed("read", &self.folder))?
            {
                return Ok(Some(line));
            }
            let Some(segment) = self.segments.find(|segment| segment.waiting() > 0) else {
                return Ok(None);
            };
            let path = self.folder.join(segment.file_name());
            self.current =
                Some(SegmentReader::open(&path, segment).map_err(failed("read", &path))?);
        }
    }
}

impl Iterator for QueueReader {
    type Item = QueuedEvent;

    fn next(&mut self) -> Option<QueuedEvent> {
        while self.error.is_none() {
            match self.next_line() {
                Ok(Some((_, Some(event)))) => return Some(event),
                Ok(Some((number, None))) => self.unreadable.push(number),
                Ok(None) => return None,
                Err(error) => self.error = Some(error),
            }
        }
        None
    }
}

/// Reads the waiting events of one segment.
#[derive(Debug)]
struct SegmentReader {
    /// `None` if the file was removed.
    lines: Option<io::Take<BufReader<File>>>,
    line: Vec<u8>,
    numbers: Range<u64>,
    segment: Segment,
}

impl SegmentReader {
    fn open(path: &Path, segment: Segment) -> io::Result<Self> {
        let lines = match files::open_to_read(path) {
            Ok(file) => Some(BufReader::new(file).take(segment.bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { lines, line: Vec::new(), numbers: segment.numbers(), segment })
    }

    /// The next waiting event. Its content is `None` if it is damaged.
    fn next_line(&mut self) -> io::Result<Option<(u64, Option<QueuedEvent>)>> {
        for number in self.numbers.by_ref() {
            self.line.clear();
            if let Some(lines) = &mut self.lines {
                lines.read_until(b'\n', &mut self.line)?;
            }
            if !self.segment.settled.contains(number) {
                let line = self.line.strip_suffix(b"\n");
                return Ok(Some((number, line.and_then(|line| decode(number, line)))));
            }
        }
        Ok(None)
    }
}

fn decode(number: u64, line: &[u8]) -> Option<QueuedEvent> {
    let Line { kind, queued_at, event } = Line::decode(line)?;
    Some(QueuedEvent::new(number, kind, queued_at, event.to_owned()))
}

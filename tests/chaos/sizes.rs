//! The sizes of the long-lived sidecar, by quarter of the campaign. Pure.

use std::time::{Duration, Instant};

/// A quarter with fewer samples shows nothing: the lowest of a few is not the lowest there was.
const MIN_SAMPLES: usize = 20;
const QUARTERS: u32 = 4;

/// Resident memory in KiB, threads and open files of a process.
pub type Size = [u64; 3];

/// The smallest size of a quarter. A leak raises it from quarter to quarter. Resources that an
/// outage needs are released again, or needed only once.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quarter {
    samples: usize,
    pub minimum: Size,
}

#[derive(Debug)]
pub struct Sizes {
    quarter: Duration,
    quarter_ends: Instant,
    /// The past quarters.
    pub quarters: Vec<Quarter>,
    current: Quarter,
    pub maximum: Size,
}

impl Sizes {
    /// Divides the time until `ends` into quarters.
    pub fn until(ends: Instant, now: Instant) -> Self {
        let quarter = ends.saturating_duration_since(now) / QUARTERS;
        Self {
            quarter,
            quarter_ends: now + quarter,
            quarters: Vec::new(),
            current: Quarter::default(),
            maximum: Size::default(),
        }
    }

    /// Adds a sample. Ignores those after the last quarter.
    pub fn record(&mut self, size: Size, now: Instant) {
        while now >= self.quarter_ends && !self.is_complete() {
            self.quarters.push(std::mem::take(&mut self.current));
            self.quarter_ends += self.quarter;
        }
        if self.is_complete() {
            return;
        }
        if self.current.samples == 0 {
            self.current.minimum = size;
        }
        self.current.samples += 1;
        for (at, size) in size.into_iter().enumerate() {
            self.current.minimum[at] = self.current.minimum[at].min(size);
            self.maximum[at] = self.maximum[at].max(size);
        }
    }

    fn is_complete(&self) -> bool {
        self.quarters.len() == QUARTERS as usize
    }

    /// The smallest number of samples of a quarter.
    pub fn fewest_samples(&self) -> usize {
        self.quarters.iter().map(|quarter| quarter.samples).min().unwrap_or(0)
    }

    /// Reports what grew from the first quarter to the last.
    pub fn growth(&self) -> Vec<String> {
        let [first, .., last] = &self.quarters[..] else {
            return vec!["leak check: fewer than two quarters to compare".to_owned()];
        };
        let fewest = self.fewest_samples();
        if fewest < MIN_SAMPLES {
            return vec![format!("leak check: only {fewest} samples in a quarter")];
        }
        let ([memory, threads, files], [memory_after, threads_after, files_after]) =
            (first.minimum, last.minimum);
        let mut grown = Vec::new();
        // The heap may keep what an outage needed.
        if memory_after > (memory + memory / 2).max(32 * 1024) {
            grown.push(format!("leak: resident memory grew from {memory} to {memory_after} KiB"));
        }
        // A watch that is being restarted needs a few more.
        if threads_after > threads + 6 {
            grown.push(format!("leak: threads grew from {threads} to {threads_after}"));
        }
        if files_after > files + 6 {
            grown.push(format!("leak: open files grew from {files} to {files_after}"));
        }
        grown
    }
}

//! The sizes of the long-lived sidecar, by quarter of the campaign.

/// Resident memory in KiB, threads and open files of the long-lived sidecar, after each round.
#[derive(Default)]
pub struct Sizes {
    /// The minimum of each past quarter of the campaign. A leak raises it. Resources that an outage
    /// needs are released again, or needed only once.
    pub minimum: Vec<[u64; 3]>,
    /// The minimum of the current quarter.
    current: Option<[u64; 3]>,
    pub maximum: [u64; 3],
}

impl Sizes {
    pub fn record(&mut self, size: [u64; 3]) {
        let minimum = self.current.get_or_insert(size);
        for (at, size) in size.into_iter().enumerate() {
            minimum[at] = minimum[at].min(size);
            self.maximum[at] = self.maximum[at].max(size);
        }
    }

    pub fn end_quarter(&mut self) {
        self.minimum.extend(self.current.take());
    }

    /// Reports what grew from the first quarter to the last.
    pub fn growth(&self) -> Vec<String> {
        let [[memory, threads, open_files], .., [memory_after, threads_after, open_files_after]] =
            self.minimum[..]
        else {
            return vec!["leak check: fewer than two quarters to compare".to_owned()];
        };
        let mut grown = Vec::new();
        // The heap may keep what an outage needed.
        if memory_after > (memory + memory / 2).max(32 * 1024) {
            grown.push(format!("leak: resident memory grew from {memory} to {memory_after} KiB"));
        }
        // A watch that is being restarted needs a few more.
        if threads_after > threads + 6 {
            grown.push(format!("leak: threads grew from {threads} to {threads_after}"));
        }
        if open_files_after > open_files + 6 {
            grown.push(format!("leak: open files grew from {open_files} to {open_files_after}"));
        }
        grown
    }
}

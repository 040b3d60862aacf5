//! The events that each sidecar has delivered, and those that are missing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;

use crate::run::{INTERVALS, Options, REBUILD};

/// The delivered events of one sidecar.
#[derive(Default)]
pub struct Delivered {
    /// The times of the `session` events.
    pub sessions: Vec<SystemTime>,
    /// The times of the other events.
    pub statuses: Vec<SystemTime>,
    pub builds: Vec<SystemTime>,
    /// The sum of the sample rates, by resource.
    pub reports: BTreeMap<String, u64>,
    /// How often each update of the rebuilt resource, and each build of its image, arrived.
    rebuilds: BTreeMap<String, usize>,
}

impl Delivered {
    pub fn add(&mut self, event: &Value) {
        let time = event["time"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
        let time = time.expect("a time");
        let data = &event["data"];
        let name = data["name"].as_str().unwrap_or_default().to_owned();
        match data["kind"].as_str() {
            Some("session") => self.sessions.push(time),
            Some("uiresource") => {
                self.statuses.push(time);
                *self.reports.entry(name).or_default() += event["samplerate"].as_u64().unwrap_or(1);
            }
            _ => self.builds.push(time),
        }
        if data["update_id"] == REBUILD || data["kind"] == "dockerimage" {
            let kind = data["kind"].as_str().unwrap_or_default();
            *self.rebuilds.entry(kind.to_owned()).or_default() += 1;
        }
    }

    /// Every report must be represented once, and every build must have arrived once.
    pub fn problems(&mut self, options: &Options) -> impl Iterator<Item = String> {
        self.sessions.sort_unstable();
        let mut problems = Vec::new();
        // The rebuilt resource has two more reports: the start and the end of its update.
        let sessions = self.sessions.len() as u64;
        for (name, reports) in &self.reports {
            let expected = if name == "resource-0" { sessions + 2 } else { sessions };
            if *reports != expected {
                problems.push(format!("{name} has {reports} reports of {expected}"));
            }
        }
        if self.reports.len() != options.resources + 2 {
            problems.push(format!("{} resources were reported", self.reports.len()));
        }
        if sessions < u64::from(INTERVALS) + 1 {
            problems.push(format!("only {sessions} reports"));
        }
        for pair in self.sessions.windows(2) {
            let gap = pair[1].duration_since(pair[0]).unwrap_or_default();
            if gap > options.interval * 3 / 2 {
                problems.push(format!("no report for {gap:.1?}"));
            }
        }
        // The first report shows an older build of the image.
        let expected = [("dockerimage", 2), ("rollout", 1), ("update", 1)];
        let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
        if self.rebuilds != BTreeMap::from(expected) {
            problems.push(format!("the rebuild arrived as {:?}", self.rebuilds));
        }
        problems.into_iter()
    }
}

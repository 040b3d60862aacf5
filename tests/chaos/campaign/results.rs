//! The results of a campaign: its problems, and the table of its figures.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Campaign, Options, Outcome, lock};
use crate::server::ledger::Repeats;
use crate::sizes::Sizes;

/// A shorter campaign skips the leak check, since buffers still grow in its first quarter.
const MIN_SECONDS_FOR_LEAK_CHECK: u64 = 120;
/// In fewer rounds, a fault may have met no request, process or free state.
const MIN_ROUNDS_TO_OCCUR: u64 = 8;

impl Campaign {
    pub(super) fn sum_up(self, options: Options, took: Duration) -> Outcome {
        let mut totals = self.totals();
        let mut problems = lock(&self.problems).clone();
        totals.lost.sort();
        problems.extend(totals.lost.iter().take(20).map(|key| format!("lost: {key}")));
        problems.extend(self.server_problems(&totals.repeats));
        problems.extend(self.progress_problems(options.seconds, totals.builds));
        if options.seconds >= MIN_SECONDS_FOR_LEAK_CHECK {
            problems.extend(self.sizes.growth());
        }
        if !problems.is_empty() {
            problems.extend(self.history.iter().cloned());
        }
        let mut table = Table(String::new());
        table.row("seed", options.seed);
        let seconds = format!("{}, {}", options.seconds, took.as_secs());
        table.row("seconds requested, and taken", seconds);
        self.add_faults(&mut table);
        self.add_deliveries(&mut table, &totals);
        self.add_durations(&mut table);
        add_sizes(&mut table, &self.sizes);
        Outcome { table: table.0, problems }
    }

    fn totals(&self) -> Totals {
        let world = lock(&self.world);
        let builds = world.completed();
        let lost =
            builds.iter().filter(|key| !self.server.ledger().is_settled(key)).cloned().collect();
        let rejected = builds.iter().filter(|key| self.server.ledger().was_rejected(key)).count();
        Totals { builds: builds.len(), rejected, lost, repeats: self.server.ledger().repeats() }
    }

    fn server_problems(&self, repeats: &Repeats) -> Vec<String> {
        let unexplained = repeats.unexplained.iter().take(20);
        let mut problems: Vec<_> = unexplained.map(|key| format!("sent twice: {key}")).collect();
        problems.extend(self.server.ledger().leaks.clone().into_iter().take(5));
        let redirected = self.server.redirected_requests();
        if redirected > 0 {
            problems.push(format!("{redirected} requests followed a redirect"));
        }
        problems
    }

    /// Reports a campaign in which too little happened to prove anything.
    fn progress_problems(&self, seconds: u64, builds: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let failures = &self.unexplained_failures;
        if failures.len() as u64 * 100 > self.once_reports {
            problems.push(format!("{} --once reports failed without a fault", failures.len()));
            problems.extend(failures.iter().take(20).cloned());
        }
        if (builds as u64) < seconds {
            problems.push(format!("only {builds} builds in {seconds} s"));
        }
        let injected = self.injected();
        let drawn = self.drawn.iter().filter(|(_, rounds)| **rounds >= MIN_ROUNDS_TO_OCCUR);
        for (fault, rounds) in drawn.filter(|(fault, _)| !injected.contains_key(*fault)) {
            problems.push(format!("never occurred in {rounds} rounds: {fault}"));
        }
        problems
    }

    /// How often each fault has occurred.
    fn injected(&self) -> BTreeMap<&'static str, u64> {
        let mut injected = self.injected.clone();
        injected.extend(self.server.ledger().injected.clone());
        injected
    }

    fn add_faults(&self, table: &mut Table) {
        let injected = self.injected();
        let mut totals = BTreeMap::<_, u64>::new();
        for (name, count) in &injected {
            table.row(name, count);
            *totals.entry(name.split(':').next().unwrap_or_default()).or_default() += count;
        }
        for (target, count) in totals {
            table.row(&format!("all faults: {target}"), count);
        }
        table.row("state faults postponed because a build could get lost", self.postponed);
    }

    fn add_deliveries(&self, table: &mut Table, totals: &Totals) {
        let Totals { builds, rejected, lost, repeats } = totals;
        table.row("--once reports", self.once_reports);
        table.row("--once reports that failed without a fault", self.unexplained_failures.len());
        table.row("requests", self.server.ledger().requests);
        table.row("builds completed (updates, images, stages)", builds);
        table.row("builds delivered", builds - lost.len() - rejected);
        table.row("builds permanently rejected by the server", rejected);
        table.row("builds lost", lost.len());
        for (cause, count) in &repeats.explained {
            table.row(&format!("sent again: {cause}"), count);
        }
        table.row("sent again without a cause", repeats.unexplained.len());
    }

    fn add_durations(&self, table: &mut Table) {
        let paused = format!("{:.0} s", self.machine_paused.as_secs_f64());
        table.row("pauses of this machine", paused);
        let collectors = ["with --once reports", "by sidecars only"];
        for (collectors, longest) in collectors.iter().zip(self.longest_drain) {
            if let Some(longest) = longest {
                let longest = format!("{:.1} s", longest.as_secs_f64());
                table.row(&format!("longest delivery after the faults, {collectors}"), longest);
            }
        }
        let shutdown = format!("{} ms", self.shutdown_took.as_millis());
        table.row("time from SIGTERM to the last exit", shutdown);
    }
}

/// The results of a campaign.
struct Totals {
    builds: usize,
    rejected: usize,
    lost: Vec<String>,
    repeats: Repeats,
}

/// The results as text, one a line.
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: impl fmt::Display) {
        let value = value.to_string();
        let _ = writeln!(self.0, "{name:<62}{value:>24}");
    }
}

fn add_sizes(table: &mut Table, sizes: &Sizes) {
    for (at, what) in ["resident KiB", "threads", "open files"].iter().enumerate() {
        let minima: Vec<_> =
            sizes.quarters.iter().map(|quarter| quarter.minimum[at].to_string()).collect();
        table.row(&format!("long-lived sidecar: {what}, minimum by quarter"), minima.join(" -> "));
        table.row(&format!("long-lived sidecar: {what}, maximum"), sizes.maximum[at]);
    }
    table.row("long-lived sidecar: fewest samples of a quarter", sizes.fewest_samples());
}

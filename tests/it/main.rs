//! Tests of the built program, grouped by what it promises. Each test runs it in a sandbox: with its
//! own environment and folders, a fake `tilt` that replays recorded output, and a fake Honeycomb on
//! loopback. `tests/fakes` holds the fakes.

#![expect(clippy::disallowed_methods, reason = "tests have deadlines and poll until they pass")]
#![expect(unreachable_pub, reason = "the support modules are public to the tests only")]

mod support;

/// Options and the commands that end by themselves.
mod cli {
    mod board;
    mod check;
    mod check_endpoint;
    mod completions;
    mod flush;
    // Runs a shell script.
    #[cfg(unix)]
    pub mod install;
    mod key_file;
    // Runs a shell script.
    #[cfg(unix)]
    mod launch;
    mod once;
    mod options;
    // Sends signals to programs that wait for pipes.
    #[cfg(unix)]
    mod stopping;
    mod summary;
}

/// The long-running mode beside `tilt up`.
mod sidecar {
    mod folding;
    mod kubernetes;
    mod polling;
    mod shutdown;
    mod storms;
    mod watching;
}

/// Builds reported from `tilt ci`.
mod ci {
    mod job_summary;
    #[cfg(target_os = "linux")]
    mod large_snapshots;
    mod old_snapshots;
    mod runs;
    mod snapshots;
    #[cfg(target_os = "linux")]
    mod supervision;
    mod tilt_ci;
}

/// The fields of each event.
mod events {
    // Checks a document of the repository.
    #[cfg(unix)]
    mod cost;
    mod failures;
    mod folding;
    mod git_fields;
    mod kubernetes;
    mod payloads;
    mod properties;
    mod rollouts;
    mod startups;
    mod successive_polls;
}

/// Every build arrives in Honeycomb exactly once.
mod delivery {
    mod exactly_once;
    mod held_state;
    mod later;
    mod proxies;
    pub mod responses;
    #[cfg(target_os = "linux")]
    mod writes;
}

/// Delivery holds when disks, networks, processes or clocks fail.
mod chaos {
    #[cfg(target_os = "linux")]
    mod clock_changes;
    #[cfg(target_os = "linux")]
    mod crash_points;
    pub mod faults;
    #[cfg(target_os = "linux")]
    mod limits;
    pub mod network_faults;
}

/// Secrets do not leave the machine.
mod privacy {
    mod kubernetes;
    mod pods;
    mod secrets;
    mod untrusted_text;
}

/// Tilt's versions and its failures.
mod tilt {
    mod errors;
    mod fake_tilt;
    mod old_versions;
    mod real_tilt;
}

/// Rules for the files of this repository, which are the same on every system.
#[cfg(unix)]
mod repository {
    mod alerts;
    pub mod documents;
    mod imports;
    mod release;
    mod size;
    mod tidy;
}

//! Faults of Tilt: the files that make the fake Tilt misbehave.

use std::fs;
use std::path::PathBuf;
use std::thread;

use super::{Campaign, TICK};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TiltFault {
    NotRunning,
    Stale,
    NotInstalled,
    Hanging,
    Stubborn,
    LeavingAProcess,
    DyingMidObject,
    Flooding,
    InvalidUtf8,
    Slow,
    WatchesEnd,
}

impl TiltFault {
    pub(super) const ALL: [Self; 11] = [
        Self::NotRunning,
        Self::Stale,
        Self::NotInstalled,
        Self::Hanging,
        Self::Stubborn,
        Self::LeavingAProcess,
        Self::DyingMidObject,
        Self::Flooding,
        Self::InvalidUtf8,
        Self::Slow,
        Self::WatchesEnd,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "tilt: not running",
            Self::Stale => "tilt: killed, its config entry remains",
            Self::NotInstalled => "tilt: not installed",
            Self::Hanging => "tilt: hangs",
            Self::Stubborn => "tilt: hangs, ignores SIGTERM, leaves a child",
            Self::LeavingAProcess => "tilt: leaves a child that holds its output open",
            Self::DyingMidObject => "tilt: exits in the middle of an object",
            Self::Flooding => "tilt: prints 100 MB",
            Self::InvalidUtf8 => "tilt: prints invalid UTF-8",
            Self::Slow => "tilt: takes 700 ms",
            Self::WatchesEnd => "tilt: ends its watches",
        }
    }

    /// The files that make the fake Tilt behave this way.
    pub(super) fn files(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Self::NotRunning => &[("no-tilt", b"")],
            Self::Stale => &[("stale", b"")],
            Self::NotInstalled | Self::WatchesEnd => &[],
            Self::Hanging => &[("hang", b"")],
            Self::Stubborn => &[("hang", b""), ("ignore-signals", b""), ("leave-process", b"")],
            Self::LeavingAProcess => &[("leave-process", b"")],
            Self::DyingMidObject => &[
                ("stdout", b"{\"kind\": \"List\", \"items\": [{\"kind\": \"UIRes"),
                ("exit", b"0"),
            ],
            Self::Flooding => &[("noise", b"100")],
            Self::InvalidUtf8 => &[("stdout", b"{\"kind\": \"List\", \"items\": [\"\xff\xfe\"]}")],
            Self::Slow => &[("sleep", b"700")],
        }
    }
}

impl Campaign {
    pub(super) fn install_tilt(&self) {
        let link = self.scratch.path().join("fake-tilt");
        std::os::unix::fs::symlink(self.programs.join("fake-tilt"), link).expect("a link");
    }

    pub(super) fn tilt_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join("tilt").join(name)
    }

    pub(super) fn inject_tilt_fault(&mut self, fault: TiltFault) {
        self.count(fault.name());
        if fault == TiltFault::NotInstalled {
            fs::remove_file(self.scratch.path().join("fake-tilt")).expect("a link");
        }
        for (name, contents) in fault.files() {
            // Renamed, so that the fake Tilt never reads half a file.
            fs::write(self.tilt_file("fresh"), contents).expect("a file");
            fs::rename(self.tilt_file("fresh"), self.tilt_file(name)).expect("a rename");
        }
        // Ends the watches, so that restarted ones meet the fault.
        if fault == TiltFault::WatchesEnd || self.random.is_one_in(2) {
            fs::write(self.tilt_file("end"), "").expect("a file");
            thread::sleep(TICK);
            fs::remove_file(self.tilt_file("end")).expect("a file");
        }
    }
}

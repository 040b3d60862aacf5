//! How to run the `tilt` program.

use std::ffi::OsString;

/// How to run `tilt`.
#[derive(Debug, Clone, PartialEq)]
pub struct TiltCommand {
    /// A bare name is looked up on PATH.
    pub program: OsString,
    /// Given to `tilt` as an option; without it `TILT_PORT` passes through as it is.
    pub port: Option<u16>,
}

/// Which command runs Tilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TiltMode {
    Up,
    Ci,
}

impl TiltMode {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "up" => Some(Self::Up),
            "ci" => Some(Self::Ci),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ci => "ci",
        }
    }
}

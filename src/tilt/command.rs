//! How to run the `tilt` program.

use std::ffi::OsString;

/// The `tilt` program and the options that every call of it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct TiltCommand {
    /// A path, or a bare name that is looked up on `PATH`.
    pub program: OsString,
    /// The port of the Tilt to report on, passed as `--port`. With `None`, `tilt` uses `TILT_PORT`
    /// from the environment, or its default.
    pub port: Option<u16>,
}

impl TiltCommand {
    /// Returns the arguments as owned texts, followed by `--port` if a port is set.
    pub(super) fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let mut arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        if let Some(port) = self.port {
            arguments.extend(["--port".to_owned(), port.to_string()]);
        }
        arguments
    }
}

/// The command that started the Tilt to report on: `tilt up` or `tilt ci`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TiltMode {
    Up,
    Ci,
}

impl TiltMode {
    /// Reads `up` or `ci`. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "up" => Some(Self::Up),
            "ci" => Some(Self::Ci),
            _ => None,
        }
    }

    /// `up` or `ci`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Ci => "ci",
        }
    }
}

//! Why a poll of Tilt failed.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::base::text::one_line;
use crate::tilt::list_reader::ParseError;

/// The longest text from `tilt` that a message quotes, in characters.
const QUOTE_LIMIT: usize = 300;
/// How much of stdout is searched for an error message, in bytes.
const STDOUT_LIMIT: usize = 1024;

/// Why a poll of Tilt failed. The message is one line. It says what to do if a person can fix it.
#[derive(Debug)]
pub enum TiltError {
    /// The program does not exist or cannot be executed.
    NotInstalled {
        program: OsString,
        why: &'static str,
    },
    /// No Tilt runs on the port, or it does not respond yet or any more.
    NotRunning {
        /// The error that `tilt` printed.
        message: String,
    },
    /// This Tilt is too old to have `uiresources`.
    NoResources,
    /// This Tilt does not have one of the kinds of objects.
    UnknownKind,
    /// The call did not finish in time and was killed.
    TimedOut {
        after: Duration,
    },
    /// The call printed more than the limit.
    TooMuchOutput {
        limit_bytes: usize,
    },
    /// `tilt` exited with an error of any other kind.
    Failed {
        /// The error that `tilt` printed, or its exit status.
        message: String,
    },
    /// `tilt` succeeded, but its output is not a list of objects.
    Unreadable(ParseError),
    Io(io::Error),
    /// A shutdown was requested during the call.
    Stopped,
}

impl fmt::Display for TiltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { program, why } => write!(
                f,
                "cannot run {}: {why}; install Tilt or give --tilt",
                program.to_string_lossy()
            ),
            Self::NotRunning { message } => {
                write!(f, "cannot reach Tilt: {message}; start Tilt, or give its port with --port")
            }
            Self::NoResources => {
                f.write_str("this Tilt has no uiresources; update Tilt to 0.20.2 or later")
            }
            Self::UnknownKind => f.write_str("tilt get: unknown kind of object"),
            Self::TimedOut { after } => write!(
                f,
                "tilt get: no response after {}; killed it",
                humantime::format_duration(*after)
            ),
            Self::TooMuchOutput { limit_bytes } => {
                write!(f, "tilt get: more than {} MB of output", limit_bytes / (1024 * 1024))
            }
            Self::Failed { message } => write!(f, "tilt get: {message}"),
            Self::Unreadable(error) => write!(f, "tilt get: {error}"),
            Self::Io(error) => write!(f, "tilt get: {error}"),
            Self::Stopped => f.write_str("tilt get: stopped"),
        }
    }
}

impl std::error::Error for TiltError {}

impl From<io::Error> for TiltError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Part of the error if Tilt does not have a kind. It comes from the code of `kubectl get` in `tilt`.
const UNKNOWN_KIND: &str = "the server doesn't have a resource type";
/// Phrases in the errors of a `tilt` that cannot reach its server.
const NOT_RUNNING: [&str; 5] = [
    "No tilt apiserver found",
    "was refused",
    "connection refused",
    "connection reset",
    "Unable to connect to the server",
];

/// Classifies a failed call by what `tilt` printed, because every failure of `tilt get` exits with 1.
///
/// `tilt` prints some errors on stdout, and it may print many lines about caches before the error.
/// `status` is the message if it printed nothing.
pub(super) fn diagnosis(stdout: &[u8], stderr: &[u8], status: &str) -> TiltError {
    let stderr = String::from_utf8_lossy(stderr);
    let stdout = String::from_utf8_lossy(&stdout[..stdout.len().min(STDOUT_LIMIT)]);
    let lines = || stderr.lines().chain(stdout.lines()).map(str::trim).filter(|l| !l.is_empty());
    let find = |phrase: &str| lines().find(|line| line.contains(phrase));

    if find(UNKNOWN_KIND).is_some() {
        return TiltError::UnknownKind;
    }
    if let Some(line) = NOT_RUNNING.iter().find_map(|phrase| find(phrase)) {
        return TiltError::NotRunning { message: quote(line) };
    }
    let error = lines().find(|line| line.to_lowercase().starts_with("error"));
    let message = error.or_else(|| lines().next()).map_or_else(|| status.to_owned(), quote);
    TiltError::Failed { message }
}

/// Makes a line that `tilt` printed fit for a message: short, printable and without `Error:`.
pub(super) fn quote(line: &str) -> String {
    let line = line.strip_prefix("Error: ").or(line.strip_prefix("error: ")).unwrap_or(line);
    one_line(line, QUOTE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_is_classified_by_what_tilt_printed() {
        let message = |stdout: &str, stderr: &str| {
            diagnosis(stdout.as_bytes(), stderr.as_bytes(), "exit status: 1").to_string()
        };
        // Recorded from Tilt 0.37.6.
        for stderr in [
            "Error: No tilt apiserver found: tilt-10351\n",
            "The connection to the server 127.0.0.1:43931 was refused - did you specify the right host or port?",
            "E1122 16:00:00 memcache.go:265 ...\nThe connection to the server 127.0.0.1:1 was refused",
        ] {
            let error = diagnosis(br#"{"kind":"List","items":[]}"#, stderr.as_bytes(), "");
            assert!(matches!(error, TiltError::NotRunning { .. }), "{stderr}: {error:?}");
        }
        let unknown = "error: the server doesn't have a resource type \"cmdimages\"";
        assert!(matches!(diagnosis(b"", unknown.as_bytes(), ""), TiltError::UnknownKind));

        assert_eq!(
            message("", "Error: open /x/config.lock: denied\nusage"),
            "tilt get: open /x/config.lock: denied"
        );
        assert_eq!(
            message("parsing env TILT_PORT: bad\n", ""),
            "tilt get: parsing env TILT_PORT: bad"
        );
        assert_eq!(message("", ""), "tilt get: exit status: 1");
        assert_eq!(message("", &"x".repeat(900)).len(), "tilt get: ".len() + 300);
    }
}

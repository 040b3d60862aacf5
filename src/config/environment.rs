//! Variables, files and facts about the machine that the configuration reads in addition to options.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ci_env::CiProvider;

use crate::base::nearest::nearest;
use crate::events::trace::RemoteParent;
use crate::tilt::command::TiltMode;

/// The most bytes of a text file. A key has less than 100.
const TEXT_FILE_LIMIT: u64 = 64 * 1024;

/// The Tiltfile has the same list.
const OPT_OUT_VARIABLES: [&str; 2] = ["TILT_HONEYCOMB_OPT_OUT", "DO_NOT_TRACK"];

/// The environment of a process. Tests pass their own functions.
pub struct Environment<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The names of all variables.
    pub names: &'a dyn Fn() -> Vec<String>,
    /// Reads a text file of at most 64 KiB.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Like `read_file`, but fails if other users can read the file.
    pub read_private_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The CI provider whose machine this is, if it is one.
    pub ci_provider: Option<CiProvider>,
    /// The number of logical processors.
    pub cpu_count: usize,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl Environment<'_> {
    /// The environment of this process.
    pub fn of_process() -> Environment<'static> {
        Environment {
            variable: &variable,
            names: &names,
            read_file: &read_file,
            read_private_file: &read_private_file,
            ci_provider: ci_provider(),
            cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// A variable's text. An empty or blank one counts as unset.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?.to_string_lossy().into_owned();
        (!value.trim().is_empty()).then_some(value)
    }

    /// A variable's path, of any bytes. An empty one counts as unset.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// Names a variable whose name is nearly `expected`, for the end of a message that misses that one.
    /// Empty if there is none. The message never contains a value.
    pub fn mistyped(&self, expected: &str) -> String {
        let names = (self.names)();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        nearest(expected, &names)
            .map_or_else(String::new, |name| format!("; {name} is set (did you mean {expected}?)"))
    }

    /// The variable that asks the program to read and send nothing, if one does: its own one, or the
    /// one that all programs share (<https://consoledonottrack.com>).
    pub fn opt_out(&self) -> Option<&'static str> {
        OPT_OUT_VARIABLES.into_iter().find(|name| {
            self.text(name).is_some_and(|value| !matches!(value.trim(), "0" | "false"))
        })
    }

    /// The command that runs Tilt, if the Tiltfile set `TILT_HONEYCOMB_MODE`.
    pub fn tilt_mode(&self) -> Option<TiltMode> {
        TiltMode::parse((self.variable)("TILT_HONEYCOMB_MODE")?.to_str()?)
    }

    /// The span that the CI pipeline passed on. W3C's `TRACEPARENT` wins over buildevents'
    /// `HONEYCOMB_TRACE`.
    pub fn remote_parent(&self) -> Option<RemoteParent> {
        let traceparent = self.text("TRACEPARENT");
        traceparent
            .and_then(|text| RemoteParent::from_traceparent(&text))
            .or_else(|| RemoteParent::from_honeycomb_trace(&self.text("HONEYCOMB_TRACE")?))
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    read_text(&File::open(path)?)
}

fn read_private_file(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    // On Windows, only its owner can read a file in the folder of the user's settings.
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        return Err(io::Error::other("other users can read it; run chmod 600 on it"));
    }
    read_text(&file)
}

/// Fails for a longer file, so that a wrong path such as `/dev/zero` takes no memory.
fn read_text(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(TEXT_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_FILE_LIMIT {
        let why = format!("longer than {} KiB; give the file of the key", TEXT_FILE_LIMIT / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a UTF-8 text"))
}

/// Decodes UTF-8 with or without a byte order mark, and UTF-16 with one. Editors on Windows write the
/// former, and the `>` of its PowerShell the latter.
fn decode(bytes: &[u8]) -> Option<String> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks();
        let units: Vec<_> = pairs.iter().copied().map(unit).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty())
    };
    match bytes {
        [0xff, 0xfe, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf16(text, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] | text => String::from_utf8(text.to_vec()).ok(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn names() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// `None` also if any variable is not Unicode, because `ci_env` panics on those.
fn ci_provider() -> Option<CiProvider> {
    let is_text =
        |(name, value): (OsString, OsString)| name.to_str().is_some() && value.to_str().is_some();
    let provider = std::env::vars_os().all(is_text).then(ci_env::detect_provider)?;
    (provider != CiProvider::Unknown).then_some(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_may_have_a_byte_order_mark_or_be_utf_16() {
        let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            [mark, &"kéy\r\n".encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat()
        };
        for file in [
            "kéy\r\n".as_bytes().to_vec(),
            "\u{feff}kéy\r\n".as_bytes().to_vec(),
            utf16(&[0xff, 0xfe], u16::to_le_bytes),
            utf16(&[0xfe, 0xff], u16::to_be_bytes),
        ] {
            assert_eq!(decode(&file).as_deref(), Some("kéy\r\n"), "{file:?}");
        }
        for damaged in [&b"k\xe9y"[..], b"\xff\xfek", b"\xff\xfe\x00\xd8"] {
            assert_eq!(decode(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn an_opt_out_counts_unless_it_says_no() {
        let values = [
            ("1", true),
            ("true", true),
            ("no", true),
            ("", false),
            ("0", false),
            ("false", false),
        ];
        for opt_out in OPT_OUT_VARIABLES {
            for (value, expected) in values {
                let variable = |name: &str| (name == opt_out).then(|| OsString::from(value));
                let environment = Environment {
                    variable: &variable,
                    names: &Vec::new,
                    read_file: &|_| Ok(String::new()),
                    read_private_file: &|_| Ok(String::new()),
                    ci_provider: None,
                    cpu_count: 1,
                };
                let expected = expected.then_some(opt_out);
                assert_eq!(environment.opt_out(), expected, "{opt_out}={value:?}");
            }
        }
    }
}

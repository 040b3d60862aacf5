//! Finds the API key: in the file of `--api-key-file`, else in `HONEYCOMB_API_KEY`, else in the user's
//! own key file. Pure: files and variables come from the [`Environment`]. No message contains the key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::child::KEY_VARIABLE;
use crate::config::environment::Environment;
use crate::config::error::ConfigError;
use crate::honeycomb::api_key::ApiKey;

/// An API key and where it was found.
#[derive(Debug)]
pub struct FoundKey {
    pub key: ApiKey,
    /// The variable or the path that held it.
    pub source: String,
}

/// Why no key was found.
#[derive(Debug)]
pub enum NoKey {
    /// No source was given.
    Missing(ConfigError),
    /// A source was given, but holds no usable key.
    Unusable(ConfigError),
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(error) | Self::Unusable(error)) = self;
        error.fmt(f)
    }
}

impl From<NoKey> for ConfigError {
    fn from(no_key: NoKey) -> Self {
        let (NoKey::Missing(error) | NoKey::Unusable(error)) = no_key;
        error
    }
}

/// The first key that is there. A source that is given but holds no usable key is an error, and the
/// next one is not tried.
pub fn find(file: Option<&Path>, environment: &Environment) -> Result<FoundKey, NoKey> {
    if let Some(path) = file {
        return match (environment.read_file)(path) {
            Ok(text) => parse(path.display().to_string(), &text),
            Err(error) => Err(unreadable("--api-key-file ", path, &error)),
        };
    }
    if let Some(text) = environment.text(KEY_VARIABLE) {
        return parse(KEY_VARIABLE.to_owned(), &text);
    }
    let own = own_file(environment);
    let text = own.as_deref().map(|path| (environment.read_private_file)(path));
    match (own, text) {
        (Some(path), Some(Ok(text))) => parse(path.display().to_string(), &text),
        (Some(path), Some(Err(error))) if error.kind() == io::ErrorKind::NotFound => {
            let own_file = format!(", write the key to {},", path.display());
            Err(no_key(&own_file, environment))
        }
        (Some(path), Some(Err(error))) => Err(unreadable("the key file ", &path, &error)),
        _ => Err(no_key("", environment)),
    }
}

/// The user's own key file. The Tiltfile looks for the same one.
fn own_file(environment: &Environment) -> Option<PathBuf> {
    // The XDG specification says to ignore a relative path.
    let xdg = environment.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let folder = xdg.or_else(|| {
        if cfg!(windows) {
            environment.path("APPDATA")
        } else {
            environment.path("HOME").map(|home| home.join(".config"))
        }
    });
    folder.map(|folder| folder.join("tilt-honeycomb").join("key"))
}

fn parse(source: String, text: &str) -> Result<FoundKey, NoKey> {
    match ApiKey::parse(text) {
        Ok(key) => Ok(FoundKey { key, source }),
        Err(why) if source == KEY_VARIABLE => Err(unusable(format!("{source} {why}"))),
        Err(why) => Err(unusable(format!("the key in {source} {why}"))),
    }
}

fn unreadable(what: &str, path: &Path, error: &io::Error) -> NoKey {
    unusable(format!("{what}{}: {error}", path.display()))
}

fn unusable(message: String) -> NoKey {
    NoKey::Unusable(ConfigError::new(message))
}

fn no_key(own_file: &str, environment: &Environment) -> NoKey {
    let hint = environment.mistyped(KEY_VARIABLE);
    NoKey::Missing(ConfigError::new(format!(
        "no API key: set HONEYCOMB_API_KEY{own_file} or give --api-key-file{hint}"
    )))
}

//! An invalid configuration.

use std::fmt;

/// An invalid option or variable. Its text is one line that names it and says what to do; it never
/// holds the API key.
#[derive(Debug, PartialEq)]
pub struct ConfigError(String);

impl ConfigError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

//! Says what kind of failure an error text tells of, without sending the text.
//!
//! Tilt's error texts hold whole command lines, build arguments and home folders, and Tilt does not
//! scrub them. So a failure is reported as a class from [`classes::TABLE`], the exit code that the
//! text names, and a hash that is equal for equal failures. The text itself is kept only for users
//! who ask for it. Pure.
//!
//! The steps, one file each: [`origin`] finds out what Tilt was doing, `quoting` and `words`
//! take out everything the user wrote, `phrases` compares the rest with the table, `exit_code` and
//! `hash` do what their names say. [`pod_status`] does the same for Kubernetes pods, which
//! have a status word instead of a text.

pub mod classes;
mod exit_code;
mod hash;
pub mod origin;
mod phrases;
pub mod pod_status;
mod quoting;
#[cfg(test)]
mod tests;
mod words;

pub use hash::HASH_RULE;
pub use origin::{Place, Target};

use crate::base::text::cut;
use classes::{COMMAND_FAILED, OTHER};
use origin::Origin;

/// The longest error text that is ever sent, in bytes.
pub const TEXT_LIMIT: usize = 1024;

/// The parts of a failure that may be reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The `error.type`: the name of a class in [`classes::TABLE`].
    pub class: &'static str,
    /// The exit code that the text names last, which is that of the outermost program.
    pub exit_code: Option<i64>,
    /// The `error.hash`: 16 hex digits, by [`HASH_RULE`].
    pub hash: String,
    /// The text, cut to at most [`TEXT_LIMIT`] bytes.
    pub text: String,
}

impl Failure {
    /// Classifies the error text that Tilt shows at `place`.
    pub fn classify(text: &str, place: Place) -> Self {
        let origin = Origin::of(text, place);
        let words = words::of(text);
        let words: Vec<&str> = words.split(' ').collect();
        let exit_code = exit_code::last(&words);
        let class = phrases::class_of(&words, origin)
            .unwrap_or_else(|| class_without_phrase(origin, exit_code));
        Self {
            class,
            exit_code,
            hash: hash::of(class, exit_code, text),
            text: cut(text, TEXT_LIMIT).to_owned(),
        }
    }
}

/// The class of a text that holds no phrase of the table.
fn class_without_phrase(origin: Origin, exit_code: Option<i64>) -> &'static str {
    match origin {
        Origin::Tiltfile => "tiltfile",
        Origin::Cluster => "cluster_unavailable",
        Origin::Docker => "docker_unavailable",
        _ if exit_code.is_some_and(|code| code != 0) => COMMAND_FAILED,
        // The answers of the API server have no fixed wording: every admission rule brings its own.
        Origin::Apply => "kubernetes",
        _ => OTHER,
    }
}

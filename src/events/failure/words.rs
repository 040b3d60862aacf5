//! Turns an error text into the words that may name a cause: in lower case, one space between them,
//! `:` as a word of its own where a part ends, and a placeholder for each name that the user chose.

use super::quoting::{DOCKER_SOCKET, QUOTED, without_quotes};

/// Stands where a file, an image, a host, a URL or another name stood.
const NAME: &str = "<name>";
/// Ends a part of the text: a colon, or the end of a line.
const END: &str = ":";

/// A word with one of these inside is a name. So `session-timeout` is not a timeout.
const NAME_CHARACTERS: [char; 12] = ['/', '.', '-', '\\', '_', '=', ':', '@', '%', '<', '#', '*'];

/// Words of programs that look like names.
const NO_NAMES: &[&str] =
    &["i/o", "non-zero", "insufficient_scope", "name_unknown", "manifest_unknown", "fork/exec"];

/// Parts of the sockets and pipes of Docker and podman, in lower case.
const SOCKETS: &[&str] =
    &["docker.sock", "docker.raw.sock", "docker_engine", "dockerdesktop", "podman.sock"];

/// After a system call, everything up to the next colon is a path.
const SYSTEM_CALLS: &[&str] = &[
    "open",
    "stat",
    "lstat",
    "chdir",
    "mkdir",
    "unlinkat",
    "rename",
    "readlink",
    "readdirent",
    "openat",
    "fork/exec",
];
/// A path has at most this many words. A text without a colon is not searched again and again.
const PATH_WORDS: usize = 16;

/// The word after one of these is a name, even if it looks like a cause.
const BEFORE_NAMES: &[&str] = &[
    "container",
    "executable",
    "image",
    "namespace",
    "network",
    "pod",
    "repository",
    "secret",
    "service",
    "stage",
    "user",
    "volume",
];
/// But not one of these.
const NO_NAMES_AFTER: &[&str] = &[
    "and",
    "could",
    "did",
    "does",
    "exited",
    "file",
    "has",
    "in",
    "is",
    "known",
    "not",
    "unavailable",
    "was",
];

/// Returns the words of `text`. They begin and end with `:`, so that a phrase of [`super::classes`]
/// can ask for a whole part.
pub(super) fn of(text: &str) -> String {
    let text = without_quotes(text);
    let mut words = Words { kept: String::with_capacity(text.len() + 8) };
    words.push(END);
    for line in text.split('\n') {
        words.push_line(line);
        words.push(END);
    }
    words.kept
}

struct Words {
    kept: String,
}

impl Words {
    fn push(&mut self, word: &str) {
        if word == END && (self.kept.ends_with(" :") || self.kept == END) {
            return;
        }
        if !self.kept.is_empty() {
            self.kept.push(' ');
        }
        self.kept.push_str(word);
    }

    fn push_line(&mut self, line: &str) {
        let line = line.to_ascii_lowercase();
        let mut rest = line.split([' ', '\t', '\r', '(']).filter(|word| !word.is_empty());
        let (mut before, mut previous) = ("", "");
        while let Some(word) = rest.next() {
            let (body, ends_part) = body(word);
            let is_named = BEFORE_NAMES.contains(&previous) && !NO_NAMES_AFTER.contains(&body)
                || previous == "for" && matches!(before, "denied" | "error:");
            self.push_body(body, is_named);
            if ends_part {
                self.push(END);
            } else if SYSTEM_CALLS.contains(&body) {
                self.push_path(&mut rest);
            }
            (before, previous) = (previous, word);
        }
    }

    fn push_body(&mut self, body: &str, is_named: bool) {
        if body.is_empty() {
        } else if let Some(code) = exit_code_in(body) {
            self.push("exit code");
            self.push(code);
        } else if is_named && body != QUOTED {
            self.push(name_of(body));
        } else {
            self.push(word_or_name(body));
        }
    }

    /// Skips the path after a system call.
    fn push_path<'a>(&mut self, rest: &mut (impl Iterator<Item = &'a str> + Clone)) {
        let end = rest.clone().take(PATH_WORDS).position(|word| word.ends_with(':'));
        // Without a colon, the path is one word, and what follows belongs to the sentence.
        let length = end.map_or(1, |end| end + 1);
        let mut name = None;
        for word in rest.by_ref().take(length) {
            name = if name == Some(DOCKER_SOCKET) { name } else { Some(name_of(word)) };
        }
        self.push(name.unwrap_or(NAME));
        if end.is_some() {
            self.push(END);
        }
    }
}

/// A word without the punctuation around it, and whether a colon ends a part there.
fn body(word: &str) -> (&str, bool) {
    let body = word.trim_start_matches(['(', '{', ',', '"', '\'']);
    let trimmed = body.trim_end_matches([',', ';', '.', ':', '!', '?', ')', '}', '"', '\'']);
    (trimmed, body[trimmed.len()..].contains(':'))
}

fn word_or_name(body: &str) -> &str {
    let pod_status = body.strip_prefix("init:").unwrap_or(body);
    if matches!(body, QUOTED | DOCKER_SOCKET)
        || NO_NAMES.contains(&body)
        || is_number(body)
        || body == "="
    {
        body
    } else if !pod_status.contains(NAME_CHARACTERS) {
        pod_status
    } else {
        name_of(body)
    }
}

fn is_number(body: &str) -> bool {
    let digits = body.strip_prefix('-').unwrap_or(body);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn name_of(body: &str) -> &'static str {
    if SOCKETS.iter().any(|socket| body.contains(socket)) { DOCKER_SOCKET } else { NAME }
}

/// The number in `exitcode=7` and its like.
fn exit_code_in(body: &str) -> Option<&str> {
    let (name, code) = body.split_once(['=', ':'])?;
    matches!(name, "exitcode" | "exit_code" | "exit-code").then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_placeholders_and_causes_stay() {
        for (text, expected) in [
            ("", ":"),
            ("node:20: Not Found", ": <name> : not found :"),
            ("\"/a\" not found: not found", ": <quoted> not found : not found :"),
            ("dial tcp 10.0.0.1:80: i/o timeout", ": dial tcp <name> : i/o timeout :"),
            ("rm: --connect-timeout (Unauthorized).", ": rm : <name> unauthorized :"),
            ("open my timeout file: no such file", ": open <name> : no such file :"),
            ("Cannot start service timeout: a", ": cannot start service <name> : a :"),
            ("ERROR: for timeout  a", ": error : for <name> a :"),
            ("container not found", ": container not found :"),
            ("open //./pipe/docker_engine: a", ": open <docker> : a :"),
            ("main: Init:CrashLoopBackOff", ": main : crashloopbackoff :"),
            ("a\n\nb: ", ": a : b :"),
            ("exit status -1, exitCode=7", ": exit status -1 exit code 7 :"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }
}

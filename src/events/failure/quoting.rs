//! Removes everything that an error text quotes: commands, file names, image names, URLs, and the
//! output of programs. Those are the user's words, and say nothing about the cause.
//!
//! Tilt, BuildKit and Go quote with escapes. The legacy builder, old BuildKits, podman and buildah
//! put a command between quotes as it is, so its end is where the wrapper's next words begin. The
//! time is linear in the text: each search that fails is not repeated.

use std::collections::HashMap;

/// Stands where something quoted stood.
pub(super) const QUOTED: &str = "<quoted>";

/// Stands where the socket or the pipe of Docker or podman stood.
pub(super) const DOCKER_SOCKET: &str = "<docker>";
/// How the URL of a request to a socket or a pipe begins.
const SOCKET_URL: &str = "http://%2F";

/// How often a quote may hold another error (`caused "exec: \"x\": permission denied"`).
const DEPTH_LIMIT: usize = 4;

/// The words before a command whose quotes escape nothing, and the words that may follow its end.
/// The command ends at the last of these, because it may hold the same words itself.
const UNESCAPED: &[(&str, &[&str])] = &[
    // BuildKit before 0.9.
    ("failed running [", &["]: exit code", "]: exit status", "]: runc did not", "]: context "]),
    // buildah.
    ("container for [", &["]: exit status", "]: : exit status"]),
    // The legacy builder.
    ("command '", &["' returned a non-zero code"]),
    ("command [", &["] returned a non-zero code"]),
    // podman.
    ("STEP \"", &["\": error while running", "\": while running", "\": "]),
    // BuildKit today. It does escape, but tools that relay the text undo that.
    ("process \"", &["\" did not complete successfully"]),
];

/// The words before a command that Tilt quoted as Go does.
const TILT_COMMANDS: &[&str] = &["ommand \"", "uild \""];
const END_OF_TILT_COMMAND: &str = "\" failed";

/// The words before a quote that holds an error, not the user's words.
const ERRORS: &[&str] = &["caused ", "caused: ", "desc = ", "msg=", "err=", "error="];

/// A program, a Tiltfile or an admission rule wrote the text that follows one of these.
const FOREIGN: [&str; 5] =
    ["stdout:", "stderr:", "Error in fail:", "denied the request:", "denied request:"];

/// Returns the text with [`QUOTED`] for each part that is quoted, up to what was not written by Tilt,
/// Docker or Kubernetes.
pub(super) fn without_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    remove(text, DEPTH_LIMIT, &mut kept);
    kept
}

fn remove(text: &str, depth: usize, kept: &mut String) {
    let mut quotes = Quotes::new(text);
    let has_foreign = FOREIGN.iter().any(|word| text.contains(word));
    let keep = |part: &str, kept: &mut String| {
        if has_foreign {
            return keep_until_foreign(part, kept);
        }
        kept.push_str(part);
        false
    };
    let mut at = 0;
    while let Some(found) = text[at..].find(['"', '\'', '`', '[']) {
        let open = at + found;
        if keep(&text[at..open], kept) {
            return;
        }
        let Some(close) = quotes.end(open) else {
            // An apostrophe belongs to its word.
            kept.push(if text.as_bytes()[open] == b'\'' { '\'' } else { ' ' });
            at = open + 1;
            continue;
        };
        let holds_error = text.as_bytes()[open] == b'"'
            && quotes.is_introduced(open)
            && ERRORS.iter().any(|introduction| text[..open].ends_with(introduction));
        let inside = &text[open + 1..close];
        if holds_error && depth > 0 {
            kept.push(' ');
            remove(&unescaped(inside), depth - 1, kept);
        } else if inside.starts_with(SOCKET_URL) {
            kept.push_str(DOCKER_SOCKET);
        } else {
            kept.push_str(QUOTED);
        }
        at = close + 1;
    }
    keep(&text[at..], kept);
}

/// Returns true if the rest of the text is foreign.
fn keep_until_foreign(part: &str, kept: &mut String) -> bool {
    let end = |word: &&str| start_of_word(part, word).map(|start| start + word.len());
    let foreign = FOREIGN.iter().filter_map(end).min();
    // Docker unpacks layers in a process of its own, whose output is Docker's.
    let foreign = foreign.filter(|_| !part.contains("ApplyLayer exit status"));
    kept.push_str(&part[..foreign.unwrap_or(part.len())]);
    foreign.is_some()
}

fn start_of_word(text: &str, word: &str) -> Option<usize> {
    let is_start = |at: &usize| text[..*at].chars().next_back().is_none_or(char::is_whitespace);
    text.match_indices(word).map(|(at, _)| at).find(is_start)
}

/// Removes one level of backslashes.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

/// Finds where quotes end.
struct Quotes<'a> {
    text: &'a str,
    /// False after a quote without an end: then all later ones are escaped, and pair up as they are.
    escapes: bool,
    /// Up to here, no single quote ends one.
    no_single_until: usize,
    /// The partner of each bracket that has one, by position; built when the first is met.
    brackets: Option<Vec<(usize, usize)>>,
    /// The last place of each ending in [`UNESCAPED`]; searched for when first needed.
    endings: HashMap<&'static str, Option<usize>>,
    /// The end of the line that was looked at last.
    line_end: usize,
}

impl<'a> Quotes<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            escapes: true,
            no_single_until: 0,
            brackets: None,
            endings: HashMap::new(),
            line_end: 0,
        }
    }

    /// The position of the character that ends the quote which begins at `open`.
    fn end(&mut self, open: usize) -> Option<usize> {
        if self.is_introduced(open)
            && let Some(end) = self.end_of_unescaped_command(open)
        {
            return Some(end);
        }
        match self.text.as_bytes()[open] {
            b'"' => self.end_of_double(open),
            b'\'' => self.end_of_single(open),
            b'`' => {
                let line = self.line_from(open + 1);
                line.find('`').map(|length| open + 1 + length)
            }
            _ => self.end_of_bracket(open),
        }
    }

    /// False for most quotes, which saves comparing what stands before them.
    fn is_introduced(&self, open: usize) -> bool {
        self.text[..open].ends_with([' ', '='])
    }

    /// The last place of `ending` after `open`.
    fn last(&mut self, ending: &'static str, open: usize) -> Option<usize> {
        let text = self.text;
        let last = self.endings.entry(ending).or_insert_with(|| text.rfind(ending));
        last.filter(|end| *end > open)
    }

    fn end_of_unescaped_command(&mut self, open: usize) -> Option<usize> {
        let text = self.text;
        if text[open..].starts_with("[\"") {
            // A list of quoted words, as docker_compose() prints it. Its quotes are escaped.
            return None;
        }
        let (_, endings) = UNESCAPED.iter().find(|(start, _)| text[..=open].ends_with(start))?;
        endings.iter().find_map(|ending| self.last(ending, open))
    }

    fn end_of_double(&mut self, open: usize) -> Option<usize> {
        if !self.escapes {
            return self.text[open + 1..].find('"').map(|length| open + 1 + length);
        }
        let end = self.end_of_escaped(open);
        self.escapes = end.is_some();
        let is_command = self.is_introduced(open)
            && TILT_COMMANDS.iter().any(|start| self.text[..=open].ends_with(start));
        if !is_command {
            return end;
        }
        // A command that was not escaped after all ends further on.
        let first = end.filter(|end| !self.text[end + 1..].starts_with(" failed"));
        match first {
            Some(first) if self.last(END_OF_TILT_COMMAND, first).is_some() => {
                self.text[first..].find(END_OF_TILT_COMMAND).map(|length| first + length)
            }
            _ => end,
        }
    }

    fn end_of_escaped(&self, open: usize) -> Option<usize> {
        let mut is_escaped = false;
        for (at, byte) in self.text.bytes().enumerate().skip(open + 1) {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => return Some(at),
                _ => {}
            }
        }
        None
    }

    /// An apostrophe is not a quote: a quote begins a word and ends one, on the same line.
    fn end_of_single(&mut self, open: usize) -> Option<usize> {
        let before = self.text[..open].chars().next_back();
        if before.is_some_and(char::is_alphanumeric) || open < self.no_single_until {
            return None;
        }
        let line = self.line_from(open + 1);
        let ends = |at: &usize| !line[at + 1..].starts_with(char::is_alphanumeric);
        let end = line.match_indices('\'').map(|(at, _)| at).find(ends);
        if end.is_none() {
            self.no_single_until = open + 1 + line.len();
        }
        end.map(|length| open + 1 + length)
    }

    fn end_of_bracket(&mut self, open: usize) -> Option<usize> {
        if let Some(end) = self.end_of_list(open) {
            return Some(end);
        }
        let text = self.text;
        let pairs = self.brackets.get_or_insert_with(|| pairs_of_brackets(text));
        let found = pairs.binary_search_by_key(&open, |(open, _)| *open).ok()?;
        Some(pairs[found].1)
    }

    /// A list as Go prints it: `["docker-compose" "-f" "a]b" "up"]`.
    fn end_of_list(&self, open: usize) -> Option<usize> {
        let mut at = open + 1;
        while self.text[at..].starts_with('"') {
            at = self.end_of_escaped(at)? + 1;
            let rest = &self.text[at..];
            match rest.as_bytes().first()? {
                b']' => return Some(at),
                b' ' => at += 1,
                _ => return None,
            }
        }
        None
    }

    fn line_from(&mut self, at: usize) -> &'a str {
        if self.line_end < at {
            let length = self.text[at..].find('\n');
            self.line_end = length.map_or(self.text.len(), |length| at + length);
        }
        &self.text[at..self.line_end]
    }
}

/// Sorted by the first bracket.
fn pairs_of_brackets(text: &str) -> Vec<(usize, usize)> {
    let (mut pairs, mut open) = (Vec::new(), Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => open.push(at),
            b']' => pairs.extend(open.pop().map(|open| (open, at))),
            _ => {}
        }
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_parts_are_removed_in_every_quoting() {
        for (text, expected) in [
            (r#"Command "echo \"a\" [b" failed: x"#, "Command <quoted> failed: x"),
            (r#"Command "echo "a" b" failed: x"#, "Command <quoted> failed: x"),
            ("command [\"docker-compose\" \"a]b\" \"up\"] failed.", "command <quoted> failed."),
            (
                "command [\"a\" \"[b] returned a non-zero code: 3\"] failed.",
                "command <quoted> failed.",
            ),
            (
                "failed running [/bin/sh -c [ -f a ] || case x in [a]) b]: exit code: 1",
                "failed running <quoted>: exit code: 1",
            ),
            ("failed running [/bin/sh -c [ -f a ]]", "failed running <quoted>"),
            (
                "The command '/bin/sh -c echo 'a' && b' returned a non-zero code: 7",
                "The command <quoted> returned a non-zero code: 7",
            ),
            (
                "at STEP \"RUN echo \"a\": b\": while running runtime: exit status 5",
                "at STEP <quoted>: while running runtime: exit status 5",
            ),
            ("couldn't remove '/it's/a' and `b`", "couldn't remove <quoted> and <quoted>"),
            ("failed with [a [b] c] d", "failed with <quoted> d"),
            ("exit status 3\nstdout: \"a\"\nstderr: b", "exit status 3\nstdout:"),
            ("the mystdout: is kept", "the mystdout: is kept"),
            ("an unclosed \"quote", "an unclosed  quote"),
            ("an unclosed [bracket", "an unclosed  bracket"),
        ] {
            assert_eq!(without_quotes(text), expected, "{text}");
        }
    }

    #[test]
    fn an_error_inside_quotes_is_kept_without_what_it_quotes() {
        assert_eq!(
            without_quotes(r#"process caused "exec: \"./start.sh\": permission denied": unknown"#),
            "process caused  exec: <quoted>: permission denied: unknown"
        );
    }
}

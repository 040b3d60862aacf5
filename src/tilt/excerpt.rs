//! Copies the parts of an exit snapshot that are needed, as a stream. The rest, which is mostly logs,
//! is never held in memory. Pure.

use std::io::{self, BufRead, Read};
use std::ops::Range;

/// The most bytes of a string that are read at once.
const PIECE: u64 = 64 * 1024;

/// The members that are copied: those of the snapshot, then those of its `view`.
const NEEDED: [&[&[u8]]; 2] =
    [&[b"view", b"createdAt"], &[b"uiSession", b"uiResources", b"clusters"]];

/// The most bytes that are copied. Ten thousand resources are about 27 MB.
pub(super) const TEXT_LIMIT: usize = 32 * 1024 * 1024;

/// The copied part.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Excerpt {
    /// The first JSON value of the source. Members that are not needed are `null`. Newlines stay, so
    /// that lines keep their numbers. If the source is incomplete or not JSON, so is this text. A text
    /// that is longer than [`TEXT_LIMIT`] is incomplete.
    pub(super) text: Vec<u8>,
    /// How many bytes were read.
    pub(super) length: u64,
}

/// Copies the first JSON value of `source`. Reads nothing after it.
pub(super) fn excerpt(source: impl BufRead) -> io::Result<Excerpt> {
    let mut copy = Copy {
        source,
        excerpt: Excerpt::default(),
        piece: Vec::new(),
        place: Nesting::default(),
        key: 0..0,
    };
    if copy.begins_with_an_object()? {
        while copy.structure()? && copy.string()? {}
    }
    Ok(copy.excerpt)
}

/// A position outside of strings.
#[derive(Debug, Clone, Copy, Default)]
struct Nesting {
    /// The number of open brackets.
    depth: usize,
    /// The depth of the member whose value is left out.
    skips_at: Option<usize>,
}

impl Nesting {
    /// Moves past one byte. Before a colon, `key` is the name of a member.
    fn step(&mut self, byte: u8, key: &[u8]) {
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        match self.skips_at {
            Some(depth) if self.depth < depth => self.skips_at = None,
            Some(depth) if self.depth == depth && byte == b',' => self.skips_at = None,
            None if byte == b':' && self.is_unneeded(key) => self.skips_at = Some(self.depth),
            _ => {}
        }
    }

    fn is_unneeded(self, key: &[u8]) -> bool {
        let needed = self.depth.checked_sub(1).and_then(|level| NEEDED.get(level));
        needed.is_some_and(|needed| !needed.contains(&key))
    }
}

struct Copy<R> {
    source: R,
    excerpt: Excerpt,
    /// The part of a string that was read last.
    piece: Vec<u8>,
    place: Nesting,
    /// The place of the last copied string in the excerpt.
    key: Range<usize>,
}

impl<R: BufRead> Copy<R> {
    /// Copies white space. Returns true if an object follows. Otherwise also copies what a parser needs
    /// to reject the source.
    fn begins_with_an_object(&mut self) -> io::Result<bool> {
        loop {
            let chunk = self.source.fill_buf()?;
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = chunk.get(blank).copied();
            let is_empty = chunk.is_empty();
            let copied = if matches!(next, None | Some(b'{')) { blank } else { chunk.len() };
            self.excerpt.text.extend_from_slice(&chunk[..copied]);
            self.excerpt.length += copied as u64;
            self.source.consume(copied);
            if next.is_some() || is_empty {
                return Ok(next == Some(b'{'));
            }
        }
    }

    /// Copies up to and including the next quote. Returns false if the value or the source ends first.
    fn structure(&mut self) -> io::Result<bool> {
        loop {
            let chunk = self.source.fill_buf()?;
            let Excerpt { text, length } = &mut self.excerpt;
            let (mut used, mut has_quote) = (0, false);
            for byte in chunk {
                let key = if *byte == b':' { &text[self.key.clone()] } else { &[] };
                let before = self.place;
                self.place.step(*byte, key);
                if before.skips_at.is_none() || self.place.skips_at.is_none() || *byte == b'\n' {
                    text.push(*byte);
                }
                if before.skips_at.is_none() && self.place.skips_at.is_some() {
                    text.extend_from_slice(b"null");
                }
                used += 1;
                has_quote = *byte == b'"';
                if has_quote || self.place.depth == 0 {
                    break;
                }
            }
            *length += used as u64;
            self.source.consume(used);
            if used == 0 || has_quote || self.place.depth == 0 || text.len() > TEXT_LIMIT {
                return Ok(has_quote && text.len() <= TEXT_LIMIT);
            }
        }
    }

    /// Copies the rest of a string, with its closing quote. Returns false if the source ends first.
    fn string(&mut self) -> io::Result<bool> {
        let begin = self.excerpt.text.len();
        let mut is_escaped = false;
        loop {
            self.piece.clear();
            let read = self.source.by_ref().take(PIECE).read_until(b'"', &mut self.piece)?;
            self.excerpt.length += read as u64;
            if self.place.skips_at.is_none() {
                self.excerpt.text.extend_from_slice(&self.piece);
            }
            if self.excerpt.text.len() > TEXT_LIMIT {
                return Ok(false);
            }
            let (content, quote) = match self.piece.split_last() {
                Some((b'"', content)) => (content, true),
                Some(_) => (&self.piece[..], false),
                None => return Ok(false),
            };
            let slashes = content.iter().rev().take_while(|byte| **byte == b'\\').count();
            let is_continued = slashes == content.len() && is_escaped;
            is_escaped = (slashes % 2 == 1) != is_continued;
            if quote && !is_escaped {
                let end = self.excerpt.text.len().saturating_sub(1).max(begin);
                self.key = begin..end;
                return Ok(true);
            }
            is_escaped = is_escaped && !quote;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    /// The excerpt of a text that arrives in pieces of this size.
    fn copied(text: &str, size: usize) -> (String, u64) {
        let source = BufReader::with_capacity(size, text.as_bytes());
        let Excerpt { text, length } = excerpt(source).expect("no error of a slice");
        (String::from_utf8(text).expect("UTF-8"), length)
    }

    #[test]
    fn only_the_needed_members_are_copied() {
        for (text, expected) in [
            (r#"{"view":{"uiSession":{"a":[1]}}}"#, r#"{"view":{"uiSession":{"a":[1]}}}"#),
            (
                r#"{"a":{"view":1},"view":{"logList":{"x":["}\"]"]},"clusters":[]},"createdAt":"t"}"#,
                r#"{"a":null,"view":{"logList":null,"clusters":[]},"createdAt":"t"}"#,
            ),
            ("{\"a\": [\n1,\n2],\n\"view\": {}}", "{\"a\":null\n\n,\n\"view\": {}}"),
            (
                r#"{"view":{"uiResources":[{"logList":"kept: yes"}]}}"#,
                r#"{"view":{"uiResources":[{"logList":"kept: yes"}]}}"#,
            ),
            (r#"{"a":"x\\","view":"y\\\"z"}"#, r#"{"a":null,"view":"y\\\"z"}"#),
            (r#"{"a":1}rest"#, r#"{"a":null}"#),
            (" \n{} {}", " \n{}"),
            (r#"{"view":{"x":"#, r#"{"view":{"x":null"#),
            (r#"{"view":{"x":"unfinished"#, r#"{"view":{"x":null"#),
            ("", ""),
            (" \n", " \n"),
        ] {
            for size in [1, 2, 3, 1000] {
                assert_eq!(copied(text, size).0, expected, "{text} {size}");
            }
        }
    }

    #[test]
    fn other_text_is_copied_for_the_parser() {
        for text in ["null", "<html>", "[1]", "\"x\"", "17"] {
            assert_eq!(copied(text, 1000), (text.to_owned(), text.len() as u64));
        }
    }

    #[test]
    fn a_long_string_is_never_held() {
        let text = format!(r#"{{"view":{{"logList":"{}"}}}}"#, "x".repeat(10 * 1024 * 1024));
        let mut copy = Copy {
            source: BufReader::new(text.as_bytes()),
            excerpt: Excerpt::default(),
            piece: Vec::new(),
            place: Nesting::default(),
            key: 0..0,
        };
        assert!(copy.begins_with_an_object().expect("a slice"));
        while copy.structure().expect("a slice") && copy.string().expect("a slice") {}
        assert_eq!(copy.excerpt.length, text.len() as u64);
        assert!(copy.piece.capacity() < 200_000 && copy.excerpt.text.capacity() < 1000);
    }

    proptest! {
        #[test]
        fn an_excerpt_parses_like_the_whole(
            log in "[a-z\\\\\"{}\\[\\],:\n]{0,20}",
            name in "[a-z\\\\\"{}\\[\\],:]{0,20}",
            size in 1_usize..40,
        ) {
            let whole = serde_json::json!({
                "createdAt": name,
                "view": {"uiSession": {"name": name, "logList": log}, "logList": [log, {log.clone(): log}]},
                log.clone(): {"view": name},
            });
            let mut expected = whole.clone();
            expected["view"]["logList"] = serde_json::Value::Null;
            for (key, value) in expected.as_object_mut().expect("an object") {
                if !["view", "createdAt"].contains(&key.as_str()) {
                    *value = serde_json::Value::Null;
                }
            }
            for text in [whole.to_string(), format!("{whole:#}")] {
                let (copied, length) = copied(&text, size);
                prop_assert_eq!(length, text.len() as u64);
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&copied).expect("JSON"), &expected);
            }
        }

        #[test]
        fn any_text_ends(text in "[{}\\[\\]\",:\\\\ a\n]{0,60}", size in 1_usize..9) {
            let text = format!("{{{text}");
            prop_assert_eq!(copied(&text, size), copied(&text, 1000));
        }
    }
}

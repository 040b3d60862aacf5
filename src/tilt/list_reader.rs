//! Reads the output of `tilt get ... -o json` into a snapshot, piece by piece. The output is a
//! `List` or a single object.
//!
//! Each item is parsed as soon as it is complete, and its text is dropped. So the reader holds the
//! text of one item at a time. It knows only at the end whether the list is valid and complete. Pure.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};

use crate::tilt::json::Object;
use crate::tilt::model::Snapshot;

/// The longest item that is waited for, in bytes. Items can be long: Tilt shows the whole text of an
/// error, and the error of a Tiltfile's `local` quotes all that the command printed. Whether a
/// longer item is read depends on how the output is split.
pub const ITEM_LIMIT: usize = 8 * 1024 * 1024;

/// The longest text around the items, in bytes. It is enough for 60,000 items, and for a single object.
const FRAME_LIMIT: usize = 1024 * 1024;

/// Replaces each item in the frame. A mistake around an item is a mistake around this value too.
const PLACEHOLDER: &[u8] = b"null";

/// A reader that has seen the start of a list.
#[derive(Debug, Default)]
pub struct ListReader {
    cursor: Cursor,
    /// The text around the items, with a [`PLACEHOLDER`] for each item.
    frame: Vec<u8>,
    /// The text from the first byte of an item that is incomplete or invalid.
    pending: Vec<u8>,
    /// The length of `pending` at which it is parsed again: twice the last length, so that many
    /// small pieces cost little more than a few large ones.
    retry_at: usize,
    snapshot: Snapshot,
    items: usize,
    items_read: usize,
    /// Set once no further bytes can make the output readable.
    error: Option<ParseError>,
}

/// The content of a complete list.
#[derive(Debug, Default, PartialEq)]
pub struct ParsedList {
    /// The objects in the order of the list.
    pub snapshot: Snapshot,
    /// The number of items that were skipped because they have an unexpected shape.
    pub skipped: usize,
}

/// Why the output as a whole is unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    Empty,
    NotUtf8,
    /// The output is not a list of objects, or it is incomplete.
    NotAList {
        items_read: usize,
    },
    /// An item, or the text around the items, is longer than its limit.
    TooLong {
        items_read: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The messages quote nothing of the output, because it may contain secrets.
        match self {
            Self::Empty => f.write_str("tilt printed nothing"),
            Self::NotUtf8 => f.write_str("tilt printed text that is not UTF-8"),
            Self::NotAList { items_read } => {
                write!(f, "tilt did not print a complete list of objects ({items_read} read)")
            }
            Self::TooLong { items_read } => {
                write!(f, "tilt printed an object that is too long ({items_read} read)")
            }
        }
    }
}

impl std::error::Error for ParseError {}

impl ListReader {
    /// Reads the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        if self.pending.is_empty() {
            return self.read(bytes);
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= self.retry_at {
            self.read_pending();
        }
    }

    fn read_pending(&mut self) {
        let text = std::mem::take(&mut self.pending);
        self.read(&text);
    }

    fn read(&mut self, mut text: &[u8]) {
        while let Some(start) = self.cursor.find_item(text) {
            let (around, item) = text.split_at(start);
            self.frame.extend_from_slice(around);
            match first_object(item) {
                Ok((object, length)) => {
                    self.frame.extend_from_slice(PLACEHOLDER);
                    self.items += 1;
                    self.add(object);
                    text = &item[length..];
                }
                // Not only `is_eof` errors: a number that is cut short is a syntax error in serde_json.
                Err(_) if item.len() <= ITEM_LIMIT => {
                    self.pending.extend_from_slice(item);
                    self.retry_at = 2 * item.len();
                    return;
                }
                Err(_) => return self.fail(self.too_long()),
            }
        }
        self.frame.extend_from_slice(text);
        if self.frame.len() > FRAME_LIMIT {
            self.fail(self.too_long());
        }
    }

    fn add(&mut self, object: Option<Object>) {
        self.items_read +=
            usize::from(object.is_some_and(|object| self.snapshot.add_object(object)));
    }

    /// Keeps only the error, so that an endless output needs no memory.
    fn fail(&mut self, error: ParseError) {
        *self = Self { error: Some(error), ..Self::default() };
    }

    fn not_a_list(&self) -> ParseError {
        ParseError::NotAList { items_read: self.items_read }
    }

    fn too_long(&self) -> ParseError {
        ParseError::TooLong { items_read: self.items_read }
    }

    /// Returns the content after the last bytes, or why the output is unreadable.
    pub fn end(mut self) -> Result<ParsedList, ParseError> {
        self.read_pending();
        if let Some(error) = self.error {
            return Err(error);
        }
        let frame = std::str::from_utf8(&self.frame).map_err(|_| ParseError::NotUtf8)?;
        if frame.trim().is_empty() {
            return Err(ParseError::Empty);
        }
        let Frame { kind, items } = match serde_json::from_str(frame) {
            // serde reads a struct from an array too, which Tilt never prints.
            Ok(frame) if self.cursor.outer[0] == b'{' => frame,
            _ => return Err(self.not_a_list()),
        };
        let objects = match (items, kind) {
            (Some(items), _) => items.len(),
            (None, Some(kind)) if kind.ends_with("List") => 0,
            (None, Some(_)) if self.items == 0 => {
                self.add(serde_json::from_slice(frame.as_bytes()).ok());
                1
            }
            (None, _) => return Err(self.not_a_list()),
        };
        if self.items > objects {
            // Some items were in another array than `items`.
            return Err(self.not_a_list());
        }
        Ok(ParsedList { snapshot: self.snapshot, skipped: objects - self.items_read })
    }
}

#[derive(Deserialize)]
struct Frame {
    kind: Option<String>,
    items: Option<Vec<IgnoredAny>>,
}

/// Returns the object at the start of `text` and its length. The object is `None` if it has an
/// unexpected shape. Fails if the value is incomplete or is not JSON.
fn first_object(text: &[u8]) -> serde_json::Result<(Option<Object>, usize)> {
    match first(text) {
        Ok((object, length)) => Ok((Some(object), length)),
        Err(_) => first::<IgnoredAny>(text).map(|(_, length)| (None, length)),
    }
}

fn first<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    let first = values.next().unwrap_or_else(|| Err(serde_json::Error::custom("nothing")))?;
    Ok((first, values.byte_offset()))
}

/// The position of the last byte in the structure of the output.
#[derive(Debug, Default)]
struct Cursor {
    /// The number of open brackets.
    depth: usize,
    /// The two outermost open brackets. An object inside `{[` is an item.
    outer: [u8; 2],
    in_string: bool,
    is_escaped: bool,
}

impl Cursor {
    /// Moves to the start of the next item and returns its offset. Moves to the end of `text` and
    /// returns `None` if no item starts in it.
    fn find_item(&mut self, text: &[u8]) -> Option<usize> {
        for (offset, byte) in text.iter().enumerate() {
            if self.in_string {
                self.in_string = *byte != b'"' || self.is_escaped;
                self.is_escaped = *byte == b'\\' && !self.is_escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' if self.depth == 2 && self.outer == *b"{[" => return Some(offset),
                b'{' | b'[' => {
                    if let Some(outer) = self.outer.get_mut(self.depth) {
                        *outer = *byte;
                    }
                    self.depth += 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(parts: &[&[u8]]) -> Result<ParsedList, ParseError> {
        let mut list = ListReader::default();
        for part in parts {
            list.feed(part);
        }
        list.end()
    }

    fn resource(name: &str) -> String {
        format!(r#"{{"kind":"UIResource","metadata":{{"name":"{name}"}},"status":{{}}}}"#)
    }

    fn names(parsed: &ParsedList) -> Vec<&str> {
        parsed.snapshot.resources.iter().map(|resource| resource.name.as_str()).collect()
    }

    #[test]
    fn a_single_object_is_read_like_a_list_of_one() {
        let object = resource("web");
        let list = format!(r#"{{"kind":"List","items":[{object}]}}"#);
        let parsed = read(&[list.as_bytes()]).expect("a list");
        assert_eq!(names(&parsed), ["web"]);
        assert_eq!(read(&[object.as_bytes()]), Ok(parsed));
    }

    #[test]
    fn an_object_with_an_unexpected_shape_is_skipped() {
        let text = format!(
            r#"{{"kind":"List","items":[
                {},
                {{"kind":"UIResource","metadata":{{"name":"odd"}},"status":{{"conditions":"none"}}}},
                {{"kind":"UIResource","metadata":{{}},"status":{{}}}},
                {{"kind":"UIResource","metadata":{{"name":"\ud800"}}}},
                {{"kind":"UIResource","metadata":{{"name":"~"}}}},
                17, null, [{{}}],
                {{"kind":"Cluster","metadata":{{"name":"docker"}}}},
                {}]}}"#,
            resource("b"),
            resource("a"),
        );
        let not_utf8 = |byte| if byte == b'~' { 0xff } else { byte };
        let text: Vec<_> = text.bytes().map(not_utf8).collect();
        for size in [1, 10, 100, usize::MAX] {
            let parts: Vec<_> = text.chunks(size).collect();
            let parsed = read(&parts).expect("a list");
            assert_eq!(names(&parsed), ["b", "a"]);
            assert_eq!(parsed.skipped, 7);
        }
    }

    #[test]
    fn a_single_object_with_another_array_is_an_error() {
        let text = r#"{"kind":"UIResource","metadata":{"name":"web"},"more":[{"kind":"X"}]}"#;
        let result = read(&[text.as_bytes()]);
        assert!(matches!(result, Err(ParseError::NotAList { .. })), "{result:?}");
    }

    #[test]
    fn an_item_is_read_wherever_the_output_is_split() {
        let text = r#"{"items":[{"a":[-1.5e-3,-0,true,null,"\u00e9\\","é"],"metadata":{}}]}"#;
        for cut in 0..text.len() {
            let (before, after) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[before, after]), read(&[text.as_bytes()]), "{cut}");
            assert!(read(&[before]).is_err(), "{cut}");
        }
    }

    #[test]
    fn brackets_inside_a_string_are_text() {
        for name in ["}", "]}", "{[", r#"\"}"#, r"\\", r#"\\\"{"#, r"\u007b"] {
            let list = format!(r#"{{"items":[{},{}]}}"#, resource(name), resource("last"));
            let parsed = read(&[list.as_bytes()]).expect(name);
            assert_eq!(parsed.snapshot.resources.len(), 2, "{name}");
        }
    }

    #[test]
    fn other_output_is_an_error_that_quotes_nothing() {
        let object = resource("s3cr3t");
        let cut = format!(r#"{{"items":[{object},{object}"#);
        let one_too_many = format!(r#"{{"items":[{object} {object}]}}"#);
        let two = format!(r#"{{"items":[{object}]}} {{"items":[]}}"#);
        let endless = "s3cr3t".repeat(FRAME_LIMIT);
        for (output, expected) in [
            (&b""[..], "nothing"),
            (b" \n", "nothing"),
            (b"\xff\xfe", "UTF-8"),
            (b"{\"items\": [", "complete list of objects (0 read)"),
            (cut.as_bytes(), "complete list of objects (2 read)"),
            (one_too_many.as_bytes(), "complete list of objects"),
            (two.as_bytes(), "complete list of objects"),
            (b"token=s3cr3t", "complete list of objects"),
            (endless.as_bytes(), "too long"),
            (b"{}", "complete list of objects"),
            (b"[]", "complete list of objects"),
            (b"[[{\"kind\":\"UIResource\"}]]", "complete list of objects"),
            (b"[\"List\",[17]]", "complete list of objects"),
            (b"{\"kind\":\"List\",\"items\":[],\"others\":[{}]}", "complete list of objects"),
        ] {
            let error = read(&[output]).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_list() {
        let mut list = ListReader::default();
        let item = format!("{},\n", resource("web"));
        list.feed(br#"{"items":["#);
        for piece in item.repeat(20_000).as_bytes().chunks(1000) {
            list.feed(piece);
            assert!(list.pending.len() <= 2000, "{}", list.pending.len());
        }
        assert_eq!(list.items_read, 20_000);
        assert!(list.frame.len() < 20_000 * 7, "{}", list.frame.len());
    }

    #[test]
    fn endless_output_is_an_error_in_bounded_memory() {
        for beginning in [r#"{"items":[{"kind":""#, r#"{"kind":""#, "", "{"] {
            let mut list = ListReader::default();
            list.feed(beginning.as_bytes());
            for _ in 0..20 * ITEM_LIMIT / FRAME_LIMIT {
                list.feed(&vec![b' '; FRAME_LIMIT]);
                assert!(list.pending.len() <= 2 * ITEM_LIMIT + FRAME_LIMIT);
                assert!(list.frame.len() <= FRAME_LIMIT);
            }
            assert_eq!(list.end(), Err(ParseError::TooLong { items_read: 0 }), "{beginning}");
        }
    }

    /// Lists that are valid or have one mistake.
    fn text() -> impl Strategy<Value = String> {
        let items = [
            r#"{"kind":"UIResource","metadata":{"name":"web"},"x":-1}"#,
            r#"{"kind":"UIResource","metadata":{"name":"é"},"x":[1.5e-3,{"y":"]}\"{["}]}"#,
            r#"{"kind":"UIResource","metadata":[]}"#,
            "{}",
            "17",
            "null",
            "[{}]",
        ];
        let item = proptest::sample::select(items.to_vec());
        let list = proptest::collection::vec(item, 0..5).prop_map(|items| {
            format!("{{\n    \"items\": [{}],\n    \"kind\": \"List\"\n}}\n", items.join(","))
        });
        let pieces = ["", "", "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "-", "1", "null"];
        let piece = proptest::sample::select(pieces.to_vec());
        (list, any::<proptest::sample::Index>(), piece, any::<bool>()).prop_map(
            |(list, at, piece, replaces)| {
                let mut text: Vec<_> = list.chars().map(String::from).collect();
                let at = at.index(text.len());
                text[at] = if replaces && !piece.is_empty() {
                    piece.to_owned()
                } else {
                    format!("{}{piece}", text[at])
                };
                text.concat()
            },
        )
    }

    /// The same list, parsed by serde in one piece.
    #[derive(Deserialize)]
    struct Reference<'a> {
        kind: Option<String>,
        #[serde(borrow)]
        items: Option<Vec<&'a serde_json::value::RawValue>>,
    }

    proptest! {
        #[test]
        fn the_size_of_the_pieces_does_not_matter(text in text(), size in 1_usize..9) {
            let parts: Vec<_> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(read(&parts), read(&[text.as_bytes()]));
        }

        #[test]
        fn pieces_give_the_same_result_as_the_whole(text in text()) {
            let reference = serde_json::from_str::<Reference>(&text).ok();
            if let Some(Reference { items: Some(items), .. }) = &reference {
                let mut snapshot = Snapshot::default();
                let skipped = items.iter().filter(|item| !snapshot.add(item.get())).count();
                prop_assert_eq!(read(&[text.as_bytes()]), Ok(ParsedList { snapshot, skipped }));
            } else if reference.is_none_or(|list| list.kind.is_none()) {
                prop_assert!(read(&[text.as_bytes()]).is_err());
            }
        }
    }
}

//! Reads what `tilt get ... -o json` prints into a snapshot while it comes: a List, or a single
//! object.
//!
//! Each item is read once it is there, and its text let go: no more text is held than one item
//! has. Whether it was a list, and whole, is known at its end only. Pure.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};

use crate::tilt::json::Object;
use crate::tilt::model::Snapshot;

/// Tilt shows the whole text of an error, and that of a Tiltfile's `local` quotes all that the command
/// printed. Where the text is longer, how it came decides.
pub const ITEM_LIMIT: usize = 8 * 1024 * 1024;

/// Above a single object, and what stands around 60,000 items.
const FRAME_LIMIT: usize = 1024 * 1024;

/// Stands in the frame for an item: whatever is wrong around an item is as wrong around this.
const ITEM: &[u8] = b"null";

/// A list as far as it has come.
#[derive(Debug, Default)]
pub struct ListReader {
    cursor: Cursor,
    /// What stands around the items.
    frame: Vec<u8>,
    /// From the first byte of an item that was not whole, or never will be.
    waiting: Vec<u8>,
    /// How much of that it takes to try again: twice as much as before, so that many small pieces
    /// cost no more than a few large ones.
    try_at: usize,
    snapshot: Snapshot,
    items: usize,
    items_read: usize,
    /// Whatever comes, it cannot be read any more.
    broken: Option<ParseError>,
}

/// What a whole list showed, in its order.
#[derive(Debug, Default, PartialEq)]
pub struct ParsedList {
    pub snapshot: Snapshot,
    /// How many objects had to be left out because their shape made no sense.
    pub skipped: usize,
}

/// Why Tilt's output could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    Empty,
    NotUtf8,
    NotAList { items_read: usize },
    TooLong { items_read: usize },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it was stays unsaid: it may hold secrets.
        match self {
            Self::Empty => f.write_str("tilt printed nothing"),
            Self::NotUtf8 => f.write_str("tilt printed what is not UTF-8"),
            Self::NotAList { items_read } => write!(
                f,
                "tilt printed what is not a list of objects, or not all of it ({items_read} read)"
            ),
            Self::TooLong { items_read } => {
                write!(f, "tilt printed what is too long for an object ({items_read} read)")
            }
        }
    }
}

impl std::error::Error for ParseError {}

impl ListReader {
    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.waiting.is_empty() {
            return self.read(bytes);
        }
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= self.try_at {
            self.try_again();
        }
    }

    fn try_again(&mut self) {
        let text = std::mem::take(&mut self.waiting);
        self.read(&text);
    }

    fn read(&mut self, mut text: &[u8]) {
        while let Some(start) = self.cursor.pass(text) {
            let (around, item) = text.split_at(start);
            self.frame.extend_from_slice(around);
            match first_object(item) {
                Ok((object, length)) => {
                    self.frame.extend_from_slice(ITEM);
                    self.items += 1;
                    self.take(object);
                    text = &item[length..];
                }
                // Of what is cut within a number, serde_json says that it is broken.
                Err(_) if item.len() <= ITEM_LIMIT => {
                    self.waiting.extend_from_slice(item);
                    self.try_at = 2 * item.len();
                    return;
                }
                Err(_) => return self.give_up(self.too_long()),
            }
        }
        self.frame.extend_from_slice(text);
        if self.frame.len() > FRAME_LIMIT {
            self.give_up(self.too_long());
        }
    }

    fn take(&mut self, object: Option<Object>) {
        self.items_read +=
            usize::from(object.is_some_and(|object| self.snapshot.add_object(object)));
    }

    fn give_up(&mut self, why: ParseError) {
        *self = Self { broken: Some(why), ..Self::default() };
    }

    fn not_a_list(&self) -> ParseError {
        ParseError::NotAList { items_read: self.items_read }
    }

    fn too_long(&self) -> ParseError {
        ParseError::TooLong { items_read: self.items_read }
    }

    /// After the last bytes.
    pub fn end(mut self) -> Result<ParsedList, ParseError> {
        self.try_again();
        if let Some(why) = self.broken {
            return Err(why);
        }
        let frame = std::str::from_utf8(&self.frame).map_err(|_| ParseError::NotUtf8)?;
        if frame.trim().is_empty() {
            return Err(ParseError::Empty);
        }
        let Frame { kind, items } = match serde_json::from_str(frame) {
            // A struct may also come as an array.
            Ok(frame) if self.cursor.outer[0] == b'{' => frame,
            _ => return Err(self.not_a_list()),
        };
        let objects = match (items, kind) {
            (Some(items), _) => items.len(),
            (None, Some(kind)) if kind.ends_with("List") => 0,
            (None, Some(_)) if self.items == 0 => {
                self.take(serde_json::from_slice(frame.as_bytes()).ok());
                1
            }
            (None, _) => return Err(self.not_a_list()),
        };
        if self.items > objects {
            // They stood in another array.
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

/// The object that `text` begins with, unless its shape makes no sense, and its length.
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

/// Where in the frame the last byte was.
#[derive(Debug, Default)]
struct Cursor {
    /// How many brackets are open.
    depth: usize,
    /// The first two of them: what is an object in `{[` is an item.
    outer: [u8; 2],
    in_string: bool,
    is_escaped: bool,
}

impl Cursor {
    /// Passes over what stands before the next item, and says how much it was; or over all.
    fn pass(&mut self, text: &[u8]) -> Option<usize> {
        for (at, byte) in text.iter().enumerate() {
            if self.in_string {
                self.in_string = *byte != b'"' || self.is_escaped;
                self.is_escaped = *byte == b'\\' && !self.is_escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' if self.depth == 2 && self.outer == *b"{[" => return Some(at),
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
        let mut listing = ListReader::default();
        for part in parts {
            listing.feed(part);
        }
        listing.end()
    }

    fn resource(name: &str) -> String {
        format!(r#"{{"kind":"UIResource","metadata":{{"name":"{name}"}},"status":{{}}}}"#)
    }

    fn names(listed: &ParsedList) -> Vec<&str> {
        listed.snapshot.resources.iter().map(|resource| resource.name.as_str()).collect()
    }

    #[test]
    fn a_single_object_and_a_list_read_alike() {
        let object = resource("web");
        let list = format!(r#"{{"kind":"List","items":[{object}]}}"#);
        let listed = read(&[list.as_bytes()]).expect("a list");
        assert_eq!(names(&listed), ["web"]);
        assert_eq!(read(&[object.as_bytes()]), Ok(listed));
    }

    #[test]
    fn an_object_of_an_odd_shape_costs_that_object_alone() {
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
            let listed = read(&parts).expect("a list");
            assert_eq!(names(&listed), ["b", "a"]);
            assert_eq!(listed.skipped, 7);
        }
    }

    #[test]
    fn a_single_object_with_objects_beside_it_is_refused() {
        let text = r#"{"kind":"UIResource","metadata":{"name":"web"},"more":[{"kind":"X"}]}"#;
        let refused = read(&[text.as_bytes()]);
        assert!(matches!(refused, Err(ParseError::NotAList { .. })), "{refused:?}");
    }

    #[test]
    fn an_item_may_be_cut_anywhere() {
        let text = r#"{"items":[{"a":[-1.5e-3,-0,true,null,"\u00e9\\","é"],"metadata":{}}]}"#;
        for cut in 0..text.len() {
            let (before, after) = text.as_bytes().split_at(cut);
            assert_eq!(read(&[before, after]), read(&[text.as_bytes()]), "{cut}");
            assert!(read(&[before]).is_err(), "{cut}");
        }
    }

    #[test]
    fn brackets_in_texts_are_text() {
        for name in ["}", "]}", "{[", r#"\"}"#, r"\\", r#"\\\"{"#, r"\u007b"] {
            let list = format!(r#"{{"items":[{},{}]}}"#, resource(name), resource("last"));
            let listed = read(&[list.as_bytes()]).expect(name);
            assert_eq!(listed.snapshot.resources.len(), 2, "{name}");
        }
    }

    #[test]
    fn what_is_no_list_is_an_error_that_quotes_nothing() {
        let object = resource("s3cr3t");
        let cut = format!(r#"{{"items":[{object},{object}"#);
        let one_too_many = format!(r#"{{"items":[{object} {object}]}}"#);
        let two = format!(r#"{{"items":[{object}]}} {{"items":[]}}"#);
        let endless = "s3cr3t".repeat(FRAME_LIMIT);
        for (output, said) in [
            (&b""[..], "nothing"),
            (b" \n", "nothing"),
            (b"\xff\xfe", "UTF-8"),
            (b"{\"items\": [", "not all of it (0 read)"),
            (cut.as_bytes(), "not all of it (2 read)"),
            (one_too_many.as_bytes(), "not a list"),
            (two.as_bytes(), "not a list"),
            (b"token=s3cr3t", "not a list"),
            (endless.as_bytes(), "too long"),
            (b"{}", "not a list"),
            (b"[]", "not a list"),
            (b"[[{\"kind\":\"UIResource\"}]]", "not a list"),
            (b"[\"List\",[17]]", "not a list"),
            (b"{\"kind\":\"List\",\"items\":[],\"others\":[{}]}", "not a list"),
        ] {
            let error = read(&[output]).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn what_is_held_does_not_grow_with_the_list() {
        let mut listing = ListReader::default();
        let item = format!("{},\n", resource("web"));
        listing.feed(br#"{"items":["#);
        for piece in item.repeat(20_000).as_bytes().chunks(1000) {
            listing.feed(piece);
            assert!(listing.waiting.len() <= 2000, "{}", listing.waiting.len());
        }
        assert_eq!(listing.items_read, 20_000);
        assert!(listing.frame.len() < 20_000 * 7, "{}", listing.frame.len());
    }

    #[test]
    fn what_never_ends_is_given_up_and_not_held() {
        for beginning in [r#"{"items":[{"kind":""#, r#"{"kind":""#, "", "{"] {
            let mut listing = ListReader::default();
            listing.feed(beginning.as_bytes());
            for _ in 0..20 * ITEM_LIMIT / FRAME_LIMIT {
                listing.feed(&vec![b' '; FRAME_LIMIT]);
                assert!(listing.waiting.len() <= 2 * ITEM_LIMIT + FRAME_LIMIT);
                assert!(listing.frame.len() <= FRAME_LIMIT);
            }
            assert_eq!(listing.end(), Err(ParseError::TooLong { items_read: 0 }), "{beginning}");
        }
    }

    /// Lists, whole or with one mistake.
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

    /// As if all of it were held, and read by serde alone.
    #[derive(Deserialize)]
    struct Reference<'a> {
        kind: Option<String>,
        #[serde(borrow)]
        items: Option<Vec<&'a serde_json::value::RawValue>>,
    }

    proptest! {
        #[test]
        fn how_the_bytes_come_changes_nothing(text in text(), size in 1_usize..9) {
            let parts: Vec<_> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(read(&parts), read(&[text.as_bytes()]));
        }

        #[test]
        fn a_list_is_read_as_if_it_were_held_whole(text in text()) {
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

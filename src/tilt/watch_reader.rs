//! Splits the output of `tilt get --watch -o json` into objects.
//!
//! Tilt prints one indented JSON object after another. Only the first and the last line of an object
//! start in the first column, so the reader finds the next object after a truncated one or after
//! other text. It skips an object that is longer than [`ITEM_LIMIT`]. Pure.

use crate::tilt::list_reader::ITEM_LIMIT;

/// A reader that has seen the start of the output.
#[derive(Debug, Default)]
pub struct WatchReader {
    /// The start of the current line.
    line: Vec<u8>,
    /// The complete lines of the current object.
    object: Vec<u8>,
    is_too_long: bool,
}

impl WatchReader {
    /// Reads the next bytes and calls `on_object` with the text of each object that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut on_object: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.object.len() + part.len() > ITEM_LIMIT {
                self.is_too_long = true;
                self.line.clear();
                self.object.clear();
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line(&mut on_object);
            }
        }
    }

    fn end_line(&mut self, on_object: &mut impl FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        let was_too_long = std::mem::take(&mut self.is_too_long);
        let first_column = line.first();
        if first_column == Some(&b'{') {
            // A new object starts, so an incomplete one before it was truncated.
            self.object.clear();
            if !was_too_long && line.trim_ascii_end().len() > 1 {
                return pass_on(&line, on_object);
            }
        } else if self.object.is_empty() || was_too_long {
            self.object.clear();
            return;
        }
        self.object.extend_from_slice(&line);
        if first_column == Some(&b'}') {
            pass_on(&std::mem::take(&mut self.object), on_object);
        }
    }
}

fn pass_on(object: &[u8], on_object: &mut impl FnMut(&str)) {
    if let Ok(text) = std::str::from_utf8(object) {
        on_object(text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objects(parts: &[&[u8]]) -> Vec<String> {
        let mut reader = WatchReader::default();
        let mut complete = Vec::new();
        for part in parts {
            reader.feed(part, |object| complete.push(object.to_owned()));
        }
        complete
    }

    const A: &str = "{\n    \"a\": {\n        \"b\": 1\n    }\n}";

    #[test]
    fn objects_are_complete_however_the_output_is_split() {
        let printed = format!("{A}\n{{\"c\":2}}\n{A}\n");
        let whole = objects(&[printed.as_bytes()]);
        assert_eq!(whole, [A, "{\"c\":2}", A]);
        let bytes: Vec<_> = printed.as_bytes().chunks(1).collect();
        assert_eq!(objects(&bytes), whole);
    }

    #[test]
    fn invalid_text_is_skipped_and_the_next_object_is_read() {
        for broken in ["{\n    \"cut\":", "}\n", "garbage", "    \"indented\"", "\u{0}", "[1]"] {
            let printed = format!("{A}\n{broken}\n{A}\n");
            assert_eq!(objects(&[printed.as_bytes()]), [A, A], "{broken:?}");
        }
        let not_utf8 = [A.as_bytes(), b"\n{\n\xff\n}\n", A.as_bytes(), b"\n"].concat();
        assert_eq!(objects(&[&not_utf8]), [A, A]);
        assert_eq!(
            objects(&[A.as_bytes()]),
            Vec::<String>::new(),
            "truncated before the end of its last line"
        );
    }

    #[test]
    fn an_endless_object_is_skipped_in_bounded_memory() {
        let mut reader = WatchReader::default();
        let mut complete = 0;
        let chunk = vec![b'x'; 1024 * 1024];
        reader.feed(b"{\n", |_| complete += 1);
        for _ in 0..20 {
            reader.feed(&chunk, |_| complete += 1);
            assert!(reader.line.len() + reader.object.len() <= ITEM_LIMIT);
        }
        reader.feed(format!("\n}}\n{A}\n").as_bytes(), |_| complete += 1);
        assert_eq!(complete, 1);
    }

    proptest! {
        #[test]
        fn no_input_panics(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
            objects(&parts);
        }
    }
}

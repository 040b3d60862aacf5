//! Cuts what a watch prints into objects.
//!
//! Tilt prints JSON objects one after another, each over many lines of which only the first and
//! the last begin at the margin. So an object that was cut short, or anything between two
//! objects, costs nothing beyond itself. What is too long for an object is passed over. Pure.

use crate::tilt::list_reader::ITEM_LIMIT;

#[derive(Debug, Default)]
pub struct WatchReader {
    line: Vec<u8>,
    /// The lines of the object under way.
    object: Vec<u8>,
    is_too_long: bool,
}

impl WatchReader {
    /// Takes the next bytes, and hands on each object that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut complete: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + self.object.len() + part.len() > ITEM_LIMIT {
                self.is_too_long = true;
                self.line.clear();
                self.object.clear();
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_line(&mut complete);
            }
        }
    }

    fn end_line(&mut self, complete: &mut impl FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        let was_too_long = std::mem::take(&mut self.is_too_long);
        let at_margin = line.first();
        if at_margin == Some(&b'{') {
            // Also where an object was under way: then that one was cut short.
            self.object.clear();
            if !was_too_long && line.trim_ascii_end().len() > 1 {
                return hand_on(&line, complete);
            }
        } else if self.object.is_empty() || was_too_long {
            self.object.clear();
            return;
        }
        self.object.extend_from_slice(&line);
        if at_margin == Some(&b'}') {
            hand_on(&std::mem::take(&mut self.object), complete);
        }
    }
}

fn hand_on(object: &[u8], complete: &mut impl FnMut(&str)) {
    if let Ok(text) = std::str::from_utf8(object) {
        complete(text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objects(parts: &[&[u8]]) -> Vec<String> {
        let mut stream = WatchReader::default();
        let mut complete = Vec::new();
        for part in parts {
            stream.feed(part, |object| complete.push(object.to_owned()));
        }
        complete
    }

    const A: &str = "{\n    \"a\": {\n        \"b\": 1\n    }\n}";

    #[test]
    fn objects_come_whole_however_the_bytes_come() {
        let printed = format!("{A}\n{{\"c\":2}}\n{A}\n");
        let whole = objects(&[printed.as_bytes()]);
        assert_eq!(whole, [A, "{\"c\":2}", A]);
        let bytes: Vec<_> = printed.as_bytes().chunks(1).collect();
        assert_eq!(objects(&bytes), whole);
    }

    #[test]
    fn what_is_broken_costs_itself_alone() {
        for broken in ["{\n    \"cut\":", "}\n", "garbage", "    \"indented\"", "\u{0}", "[1]"] {
            let printed = format!("{A}\n{broken}\n{A}\n");
            assert_eq!(objects(&[printed.as_bytes()]), [A, A], "{broken:?}");
        }
        let not_utf8 = [A.as_bytes(), b"\n{\n\xff\n}\n", A.as_bytes(), b"\n"].concat();
        assert_eq!(objects(&[&not_utf8]), [A, A]);
        assert_eq!(
            objects(&[A.as_bytes()]),
            Vec::<String>::new(),
            "cut before its last line's end"
        );
    }

    #[test]
    fn an_endless_object_is_passed_over_in_bounded_memory() {
        let mut stream = WatchReader::default();
        let mut complete = 0;
        let chunk = vec![b'x'; 1024 * 1024];
        stream.feed(b"{\n", |_| complete += 1);
        for _ in 0..20 {
            stream.feed(&chunk, |_| complete += 1);
            assert!(stream.line.len() + stream.object.len() <= ITEM_LIMIT);
        }
        stream.feed(format!("\n}}\n{A}\n").as_bytes(), |_| complete += 1);
        assert_eq!(complete, 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
            objects(&parts);
        }
    }
}

//! The API key: its type, its shape and its redaction. Pure. No message shows a key.
//!
//! The shapes are those of Honeycomb's documentation and libraries. A Classic key has 32 hex digits,
//! and a configuration key of an environment has 22 letters and digits. Ingest keys start with
//! `hc?ik_` or `hc?ic_` and have 64 characters: an id of 32, then a secret of 32. Management keys
//! start with `hc?mk_`. The `?` stands for a letter. Only Honeycomb can decide whether a key is valid.

use std::fmt;

/// An API key. It has no `Display`, and its `Debug` output hides it.
#[derive(Clone, PartialEq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Trims the text and checks that an HTTP header can carry it. The error completes a line that
    /// names the source.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty");
        }
        // For example, a key that was pasted over two lines.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("contains white space or characters that no key has; copy it again");
        }
        Ok(Self::new(text))
    }

    /// A key from a text that an HTTP header can carry.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text of the key, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces the key by `<key>` in a text from a server, which may quote it. JSON may escape any
    /// of its characters, `a` as `\u0061`.
    pub fn redact(&self, text: String) -> String {
        if self.0.len() < SHORTEST_REDACTED {
            return text;
        }
        let mut redacted = String::new();
        let (mut rest, mut next) = (text.as_str(), 0);
        while let Some(letter) = rest[next..].chars().next() {
            if let Some(length) = self.length_in(&rest[next..]) {
                redacted.push_str(&rest[..next]);
                redacted.push_str("<key>");
                (rest, next) = (&rest[next + length..], 0);
            } else {
                next += letter.len_utf8();
            }
        }
        if redacted.is_empty() { text } else { redacted + rest }
    }

    /// The number of bytes that the key takes at the start of `text`; `None` if it is not there.
    fn length_in(&self, text: &str) -> Option<usize> {
        let mut rest = text;
        for letter in self.0.chars() {
            rest = rest.strip_prefix(letter).or_else(|| after_escaped(rest, letter))?;
        }
        Some(text.len() - rest.len())
    }
}

/// The rest of `text` after this letter in a JSON escape: `\/` or `\u002f`.
fn after_escaped(text: &str, letter: char) -> Option<&str> {
    let escape = text.strip_prefix('\\')?;
    if let Some((digits, rest)) = escape.strip_prefix('u').and_then(|hex| hex.split_at_checked(4)) {
        let code = u32::from_str_radix(digits, 16).ok()?;
        return (code == u32::from(letter)).then_some(rest);
    }
    escape.strip_prefix(letter).filter(|_| "\"\\/".contains(letter))
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// The kind of a key, as far as its text shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A configuration key of Honeycomb Classic, which has no environments.
    Classic,
    Configuration,
    Ingest,
    ClassicIngest,
    /// The public first half of an ingest key, without the secret.
    IngestId,
    /// A text as long as the secret half of an ingest key. It may be something else.
    IngestSecret,
    /// A key that manages keys and environments and cannot send events.
    Management,
    /// The public id of a configuration key.
    ConfigurationId,
    /// Any other text. A Refinery may accept it.
    Unknown,
}

/// The length of a whole ingest key, in characters.
const INGEST_KEY_LENGTH: usize = 64;
/// The length of a Classic key, and of each half of an ingest key, in characters.
const HALF_LENGTH: usize = 32;
/// The length of a configuration key, in characters.
const CONFIGURATION_KEY_LENGTH: usize = 22;
/// The shortest key that is redacted, in characters. A shorter text may be part of ordinary words.
const SHORTEST_REDACTED: usize = 8;

impl Shape {
    /// Recognizes the kind by prefix and length.
    pub fn of(key: &ApiKey) -> Self {
        let key = key.expose();
        let is_hex = key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let is_alphanumeric = key.bytes().all(|b| b.is_ascii_alphanumeric());
        match (prefix(key), key.len()) {
            (Some("ik"), INGEST_KEY_LENGTH) => Self::Ingest,
            (Some("ic"), INGEST_KEY_LENGTH) => Self::ClassicIngest,
            (Some("ik" | "ic"), length) if length < INGEST_KEY_LENGTH => Self::IngestId,
            (Some("mk"), _) => Self::Management,
            (Some("lk"), _) => Self::ConfigurationId,
            (None, HALF_LENGTH) if is_hex => Self::Classic,
            (None, HALF_LENGTH) if is_alphanumeric => Self::IngestSecret,
            (None, CONFIGURATION_KEY_LENGTH) if is_alphanumeric => Self::Configuration,
            _ => Self::Unknown,
        }
    }

    /// The kind in words, which complete "the API key is ...".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "a configuration key of Honeycomb Classic",
            Self::Configuration => "a configuration key",
            Self::Ingest => "an ingest key",
            Self::ClassicIngest => "an ingest key of Honeycomb Classic",
            Self::IngestId => "only the first half of an ingest key, its id",
            Self::IngestSecret => "as long as the second half of an ingest key, its secret",
            Self::Management => "a management key",
            Self::ConfigurationId => "the id of a configuration key",
            Self::Unknown => "not in a format of Honeycomb's keys",
        }
    }

    /// Advice for a key that cannot work; `None` if it may work.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::IngestId => Some(
                "an ingest key consists of its id and its secret, 64 characters; copy the whole \
                 key when you create it, because it is shown only once",
            ),
            Self::Management => {
                Some("it cannot send events; create an ingest key in the environment's settings")
            }
            Self::ConfigurationId => Some("this is its id; copy the key itself"),
            _ => None,
        }
    }

    /// A hint if the key is probably wrong.
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Self::IngestSecret => {
                Some("a complete ingest key starts with hc and has 64 characters")
            }
            Self::Unknown => Some("a Refinery may accept it"),
            _ => None,
        }
    }

    /// True for ingest keys: they can send events and nothing else.
    pub fn only_sends(self) -> bool {
        matches!(self, Self::Ingest | Self::ClassicIngest)
    }
}

/// The letters `xx` of a prefix `hc?xx_`.
fn prefix(key: &str) -> Option<&str> {
    let (prefix, _) = key.split_once('_')?;
    let region = prefix.strip_prefix("hc")?;
    let (letter, kind) = region.split_at_checked(1)?;
    (letter.bytes().all(|b| b.is_ascii_lowercase()) && kind.len() == 2).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_text_is_redacted_even_if_it_is_escaped() {
        let key = ApiKey::new("abc/12345\"x");
        for (text, expected) in [
            ("no key", "no key"),
            ("the key abc/12345\"x is unknown", "the key <key> is unknown"),
            (r#"{"error": "abc\/12345\"x"}"#, r#"{"error": "<key>"}"#),
            (r"\u0061\u0062c\u002F12345\u0022x, abc\/12345\u0022x", "<key>, <key>"),
            (r"ab\u0063/1234", r"ab\u0063/1234"),
            (r"\u00é abc\", r"\u00é abc\"),
        ] {
            assert_eq!(key.redact(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_classified_by_its_shape() {
        let id = "01j1824es7n4evcmv81cn392jb";
        let secret = "k9e1q8z1x4c7v0b3n6m9a2s5d8f1g4h7";
        for (key, shape) in [
            ("0123456789abcdef0123456789abcdef".to_owned(), Shape::Classic),
            ("qwErTy1234567890asDfGh".to_owned(), Shape::Configuration),
            (format!("hcxik_{id}{secret}"), Shape::Ingest),
            (format!("hcaik_{id}{secret}"), Shape::Ingest),
            (format!("hcaic_{id}{secret}"), Shape::ClassicIngest),
            (format!("hcaik_{id}"), Shape::IngestId),
            (format!("hcaik_{id}{}", &secret[1..]), Shape::IngestId),
            (secret.to_owned(), Shape::IngestSecret),
            (format!("hcamk_{id}"), Shape::Management),
            (format!("hcamk_{id}:{secret}"), Shape::Management),
            (format!("hcalk_{id}"), Shape::ConfigurationId),
            (format!("hcaik_{id}{secret}x"), Shape::Unknown),
            ("0123456789ABCDEF0123456789ABCDEF".to_owned(), Shape::IngestSecret),
            ("dummy".to_owned(), Shape::Unknown),
            ("hc_".to_owned(), Shape::Unknown),
            ("hcéik_".to_owned(), Shape::Unknown),
        ] {
            assert_eq!(Shape::of(&ApiKey::new(&key)), shape, "{key}");
        }
    }

    #[test]
    fn a_key_is_redacted_unless_it_is_too_short() {
        let text = || "no key secret12 here, secret12".to_owned();
        assert_eq!(ApiKey::new("secret12").redact(text()), "no key <key> here, <key>");
        assert_eq!(ApiKey::new("unknown1").redact(text()), text());
        assert_eq!(ApiKey::new("secret1").redact(text()), text());
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", ApiKey::new("secret12")), "ApiKey(hidden)");
    }
}

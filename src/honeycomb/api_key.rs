//! What kind of API key it is, as far as its shape tells; Honeycomb decides. Pure, and says
//! nothing of the key itself.
//!
//! The shapes are those of Honeycomb's documentation and libraries: 32 hex digits for Classic, 22
//! letters and digits for an environment's configuration key, `hc?ik_` and `hc?ic_` for ingest keys
//! of 64 characters (an id of 32, then a secret of 32), `hc?mk_` for management keys, where `?`
//! stands for a letter.

use std::fmt;

/// The key. Shown by nothing: it has no `Display`, and its `Debug` says nothing.
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
        // A key that was pasted over two lines shows up here.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("contains white space or characters that no key has; copy it again");
        }
        Ok(Self::new(text))
    }

    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// For the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Of Honeycomb Classic, which knows no environments.
    Classic,
    Configuration,
    Ingest,
    ClassicIngest,
    /// The public half of an ingest key, without its secret.
    IngestId,
    /// Perhaps the secret half of an ingest key; perhaps something else of that length.
    IngestSecret,
    /// It manages keys and environments, and can send nothing.
    Management,
    /// The public name of a configuration key.
    ConfigurationId,
    /// Behind a Refinery it may be right.
    Unknown,
}

const WHOLE: usize = 64;
const HALF: usize = 32;

impl Shape {
    pub fn of(key: &ApiKey) -> Self {
        let key = key.expose();
        let is_hex = key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric());
        match (prefix(key), key.len()) {
            (Some("ik"), WHOLE) => Self::Ingest,
            (Some("ic"), WHOLE) => Self::ClassicIngest,
            (Some("ik" | "ic"), length) if length < WHOLE => Self::IngestId,
            (Some("mk"), _) => Self::Management,
            (Some("lk"), _) => Self::ConfigurationId,
            (None, HALF) if is_hex => Self::Classic,
            (None, HALF) if is_plain => Self::IngestSecret,
            (None, 22) if is_plain => Self::Configuration,
            _ => Self::Unknown,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "a configuration key of Honeycomb Classic",
            Self::Configuration => "a configuration key",
            Self::Ingest => "an ingest key",
            Self::ClassicIngest => "an ingest key of Honeycomb Classic",
            Self::IngestId => "only the first half of an ingest key, its id",
            Self::IngestSecret => "of the length of the second half of an ingest key, its secret",
            Self::Management => "a management key",
            Self::ConfigurationId => "the id of a configuration key",
            Self::Unknown => "of a shape that Honeycomb's own keys do not have",
        }
    }

    /// What to do about a key that cannot work.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::IngestId => Some(
                "an ingest key is its id and its secret joined, 64 characters; copy it whole when \
                 you make it, it is shown only then",
            ),
            Self::Management => {
                Some("it can send no events; make an ingest key in the environment's settings")
            }
            Self::ConfigurationId => Some("that is its name, not the key; copy the key itself"),
            _ => None,
        }
    }

    /// What may be wrong with it, and may not.
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Self::IngestSecret => Some("the whole key begins with hc and has 64 characters"),
            Self::Unknown => Some("behind a Refinery that may be right"),
            _ => None,
        }
    }

    /// Whether it can send events and nothing else.
    pub fn only_sends(self) -> bool {
        matches!(self, Self::Ingest | Self::ClassicIngest)
    }
}

/// The two letters of `hc?xx_`.
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
    fn a_kind_of_key_is_known_by_its_shape() {
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
}

//! Names as parts of a URL. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986 calls these characters unreserved: they need no encoding in any part of a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one path segment or one value of a query string.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// The slug of a dataset: the form of its name in paths of the API and the UI. Honeycomb's Terraform
/// provider builds it in the same way.
pub fn slug(dataset: &str) -> String {
    let keeps = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_~.-".contains(*c);
    dataset.to_lowercase().chars().map(|c| if keeps(&c) { c } else { '-' }).collect()
}

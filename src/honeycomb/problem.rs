//! The server's description of an error, as one line for a message. Pure.
//!
//! Honeycomb sends `error`, and in newer parts of its API the members of RFC 7807: `title`, `detail`
//! and, for a 422, `type_detail` with one entry for each cause. Gateways send plain text or HTML.

use serde_json::{Deserializer, Value};

use crate::base::text::one_line;

/// The longest text from a server that a message quotes, in characters.
pub const TEXT_LIMIT: usize = 200;

/// The text of an error body; empty if it has none. Refinery may append a second document, which is
/// ignored.
pub fn text(body: &[u8]) -> String {
    let document = Deserializer::from_slice(body).into_iter::<Value>().next();
    // A plain text may start with a number: `404 page not found`.
    if let Some(Ok(document @ (Value::Object(_) | Value::Array(_) | Value::String(_)))) = document {
        return text_of(&document);
    }
    // Refinery puts quotes into a JSON text without escaping them, so this may be half of an object.
    if is_html(body) { String::new() } else { one_line(&String::from_utf8_lossy(body), TEXT_LIMIT) }
}

/// The text of an error object, or of the first one in a list, which a Collector sends. Members of an
/// unexpected type are ignored.
pub fn text_of(document: &Value) -> String {
    let object = document.get(0).unwrap_or(document);
    // A Collector sends the error of `GET /1/auth` as a JSON text.
    if let Some(text) = object.as_str() {
        return one_line(text, TEXT_LIMIT);
    }
    let member = |name| object[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let causes = causes(&object["type_detail"]);
    let mut parts: Vec<&str> = Vec::new();
    for part in [member("error"), member("detail"), (!causes.is_empty()).then_some(causes.as_str())]
    {
        // Honeycomb often repeats the `detail` in `error`.
        parts.extend(part.filter(|part| !parts.iter().any(|known| known.contains(part))));
    }
    if parts.is_empty() {
        parts.extend(member("title"));
    }
    one_line(&joined(&parts), TEXT_LIMIT)
}

/// The entries of `type_detail`: `field: description`.
fn causes(entries: &Value) -> String {
    let cause = |entry: &Value| {
        let description = entry["description"].as_str()?;
        Some(match entry["field"].as_str() {
            Some(field) if !field.is_empty() => format!("{field}: {description}"),
            _ => description.to_owned(),
        })
    };
    let causes: Vec<_> = entries.as_array().into_iter().flatten().filter_map(cause).collect();
    causes.join("; ")
}

/// Joins sentences by a space, and other parts by a semicolon.
fn joined(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(if text.ends_with('.') { " " } else { "; " });
        }
        text.push_str(part);
    }
    text
}

/// True for a web page. Honeycomb never answers a request to its API with one.
pub fn is_html(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_text_is_found_in_every_kind_of_body() {
        for (body, expected) in [
            (r#"{"error":"unknown API key"}"#, "unknown API key"),
            (
                r#"{"status":429,"title":"slow down","detail":"rate limit exceeded"}"#,
                "rate limit exceeded",
            ),
            (r#"{"status":429,"title":"slow down"}"#, "slow down"),
            (r#"{"source":"refinery","error":"first"}{"error":"second"}"#, "first"),
            (
                r#"[{"error":"failed to decode events: x","status":400}]"#,
                "failed to decode events: x",
            ),
            ("plain\n text", "plain text"),
            ("<html><body>502", ""),
            ("\n <!DOCTYPE html>", ""),
            (r#"{"error":17}"#, ""),
            ("404 page not found\n", "404 page not found"),
            (r#""received 401 - check your API key""#, "received 401 - check your API key"),
            ("[]", ""),
            ("", ""),
            (
                r#"{"error":"down: Get "http://x": refused"}"#,
                r#"{"error":"down: Get "http://x": refused"}"#,
            ),
        ] {
            assert_eq!(text(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(text(&[0xff; 4]).chars().count(), 4);
        assert_eq!(text("x".repeat(900).as_bytes()).len(), 200);
    }

    #[test]
    fn error_detail_and_causes_are_shown_together() {
        for (body, expected) in [
            (
                r#"{"error":"Rate limited.","detail":"Try again after 15:23."}"#,
                "Rate limited. Try again after 15:23.",
            ),
            (r#"{"error":"same","detail":"same"}"#, "same"),
            (
                r#"{"error":"The body is invalid: no name","detail":"no name"}"#,
                "The body is invalid: no name",
            ),
            (r#"{"error":{"code":7},"detail":"try later"}"#, "try later"),
            (r#"{"error":["x"],"title":"slow down"}"#, "slow down"),
            (r#"{"detail":17,"error":"busy"}"#, "busy"),
            (
                r#"{"title":"The provided input is invalid.","error":"invalid input","type_detail":[
                    {"field":"name","code":"missing","description":"is required"},
                    {"code":"invalid","description":"too many panels"},{"field":"x"},17]}"#,
                "invalid input; name: is required; too many panels",
            ),
            (r#"{"error":"no","type_detail":"none"}"#, "no"),
        ] {
            assert_eq!(text(body.as_bytes()), expected, "{body}");
        }
    }
}

//! Makes text short, safe to print and free of credentials. Pure.

/// The longest start of `text` with at most `max_bytes` bytes. It ends on a character boundary.
pub fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// `text` on one line: each line break or tab becomes a space, characters that show nothing are removed,
/// and at most `max_chars` characters stay. So text from elsewhere cannot control the terminal or change
/// the order of what a person reads.
pub fn printable(text: &str, max_chars: usize) -> String {
    // U+2028 and U+2029 separate lines but are not control characters.
    let is_break =
        |c: char| c.is_whitespace() && (c.is_control() || "\u{2028}\u{2029}".contains(c));
    let visible = text.chars().filter(|c| c.is_whitespace() || !is_invisible(*c));
    visible.map(|c| if is_break(c) { ' ' } else { c }).take(max_chars).collect()
}

/// Like [`printable`], but each run of white space becomes one space.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let visible = printable(text, usize::MAX);
    let words: Vec<_> = visible.split_whitespace().collect();
    words.join(" ").chars().take(max_chars).collect()
}

/// True for the control characters and the format characters of Unicode 17 (categories Cc and Cf).
/// Format characters have no width, join letters, or reverse the direction of the text
/// (<https://www.unicode.org/Public/17.0.0/ucd/extracted/DerivedGeneralCategory.txt>).
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{2064}'
                | '\u{2066}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0001}'
                | '\u{e0020}'..='\u{e007f}'
        )
}

/// `1 resource`, `2 resources`
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// A URL or an image reference without `user:password@` before its host.
///
/// `name@sha256:...` has no host, so the part before its `@` is a name and stays.
pub fn without_credentials(address: &str) -> String {
    let (scheme, rest) = match address.find("://") {
        Some(at) => address.split_at(at + "://".len()),
        None => ("", address),
    };
    // A password may contain `?` or `#`. They end the host only if no path does.
    let end = match rest.find('/') {
        Some(at) => at,
        None if scheme.is_empty() => return address.to_owned(),
        None => rest.find(['?', '#']).unwrap_or(rest.len()),
    };
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_splits_a_character() {
        for (max_bytes, expected) in [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (9, "aéb")] {
            assert_eq!(cut("aéb", max_bytes), expected);
        }
    }

    #[test]
    fn one_line_has_single_spaces_and_no_control_characters() {
        for (text, expected) in [
            ("", ""),
            ("  two \r\n\t words ", "two words"),
            ("\u{1b}[31mred\u{7}", "[31mred"),
            ("ééééé", "éééé"),
            ("abc def", "abc "),
        ] {
            let max_chars = if text.starts_with(['é', 'a']) { 4 } else { 40 };
            assert_eq!(one_line(text, max_chars), expected, "{text:?}");
        }
    }

    #[test]
    fn printable_text_keeps_its_spaces() {
        for (text, expected) in [
            ("cannot read a  b", "cannot read a  b"),
            ("two\nlines\tand\u{2028}more", "two lines and more"),
            ("\u{1b}]0;title\u{7}\u{202e}x\r", "]0;titlex "),
        ] {
            assert_eq!(printable(text, 40), expected, "{text:?}");
        }
        assert_eq!(printable("abc\u{202e}def", 4), "abcd");
    }

    #[test]
    fn one_line_has_no_format_characters() {
        for (text, expected) in [
            ("a\u{202e}gnp\u{202c}.exe", "agnp.exe"),
            ("\u{2066}isolated\u{2069}", "isolated"),
            ("zero\u{200b}width\u{feff}", "zerowidth"),
            ("soft\u{ad}hyphen \u{200f} x", "softhyphen x"),
            ("tag\u{e0041}", "tag"),
            ("größe 大小", "größe 大小"),
        ] {
            assert_eq!(one_line(text, 40), expected, "{text:?}");
        }
    }

    #[test]
    fn a_url_loses_its_credentials() {
        for (url, expected) in [
            ("https://u:p@host/x", "https://host/x"),
            ("https://t0ken@host", "https://host"),
            ("https://u:p@ss@host/x@y", "https://host/x@y"),
            ("https://u:p#s?s@host/x", "https://host/x"),
            ("https://host?x@y", "https://host?x@y"),
            ("https://host/x", "https://host/x"),
            ("no url", "no url"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }

    #[test]
    fn an_image_reference_loses_its_credentials() {
        for (reference, expected) in [
            ("web", "web"),
            ("localhost:5005/team/web", "localhost:5005/team/web"),
            ("robot:s3cr3t@registry.example/team/web", "registry.example/team/web"),
            ("robot:s3@cr3t@registry.example/web", "registry.example/web"),
            ("https://robot:s3cr3t@registry.example/web", "https://registry.example/web"),
            ("registry.example/web@sha256:abc", "registry.example/web@sha256:abc"),
            ("web@sha256:abc", "web@sha256:abc"),
            ("@/", "/"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(reference), expected, "{reference}");
        }
    }
}

//! Durations and names as a person reads them. Pure.

use std::time::Duration;

use crate::base::text::one_line;

/// Characters of a name. A longer one would push the columns off the page.
const MAX_NAME: usize = 100;

/// A duration with the precision that matters at its size: `0.4s`, `1m 5s`, `2h 3m`, `6d 6h`.
pub fn duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    let seconds = (duration.as_millis() + 500) / 1000;
    let minutes = seconds / 60;
    if tenths < 600 {
        format!("{}.{}s", tenths / 10, tenths % 10)
    } else if minutes < 60 {
        format!("{minutes}m {}s", seconds % 60)
    } else if minutes < 24 * 60 {
        format!("{}h {}m", minutes / 60, minutes % 60)
    } else {
        format!("{}d {}h", minutes / (24 * 60), minutes / 60 % 24)
    }
}

/// A name from elsewhere as one short line without control characters.
pub fn name(name: &str) -> String {
    one_line(name, MAX_NAME)
}

/// A text of at most `length` characters. A cut one ends with `…`.
pub fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

/// At most `limit` names, and how many more there are: `a, b and 3 more`.
pub fn names<S: AsRef<str>>(names: &[S], limit: usize) -> String {
    let shown: Vec<_> = names.iter().take(limit).map(|name| self::name(name.as_ref())).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_precision_of_its_size() {
        for (millis, expected) in [
            (0, "0.0s"),
            (49, "0.0s"),
            (50, "0.1s"),
            (59_949, "59.9s"),
            (59_950, "1m 0s"),
            (65_400, "1m 5s"),
            (3_599_400, "59m 59s"),
            (3_599_500, "1h 0m"),
            (7_380_000, "2h 3m"),
            (541_980_000, "6d 6h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn a_cut_text_says_so() {
        for (length, expected) in [(3, "abc"), (2, "a…"), (1, "…"), (0, "…")] {
            assert_eq!(cut("abc", length), expected);
        }
    }

    #[test]
    fn a_list_of_names_ends_with_the_number_of_the_rest() {
        assert_eq!(names(&["a", "b"], 2), "a, b");
        assert_eq!(names(&["a", "b\u{1b}[31m", "c", "d"], 2), "a, b[31m and 2 more");
        assert_eq!(names::<&str>(&[], 2), "");
    }
}

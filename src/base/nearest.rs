//! Finds what a mistyped word was meant to be. Pure.

/// The most letters that a typing error adds, removes or replaces. Swapped letters count as two.
const MOST_EDITS: usize = 2;
/// The fewest characters of a word that counts as the beginning of another.
const SHORTEST_BEGINNING: usize = 4;

/// Returns the candidate that differs from `word` in the fewest letters, in two at most. Otherwise
/// returns the only candidate that begins with `word`. Skips candidates that equal `word`.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let others = || candidates.iter().copied().filter(|candidate| *candidate != word);
    let similar = others().map(|candidate| (edits(word, candidate), candidate));
    let similar = similar.filter(|(edits, _)| *edits <= MOST_EDITS);
    if let Some((_, candidate)) = similar.min_by_key(|(edits, _)| *edits) {
        return Some(candidate);
    }
    let mut begun = others().filter(|candidate| candidate.starts_with(word));
    let only = begun.next().filter(|_| word.chars().count() >= SHORTEST_BEGINNING);
    only.filter(|_| begun.next().is_none())
}

/// The Levenshtein distance of two texts, in characters.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_added_removed_and_replaced_letters() {
        for (from, to, expected) in [
            ("check", "check", 0),
            ("chek", "check", 1),
            ("chekc", "check", 2),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("schlüssel", "schlussel", 1),
        ] {
            assert_eq!(edits(from, to), expected, "{from} {to}");
            assert_eq!(edits(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_candidate_has_at_most_two_edits() {
        let candidates = ["--once", "--port", "--state-dir", "--send-error-text", "check"];
        for (word, expected) in [
            ("--onec", Some("--once")),
            ("chekc", Some("check")),
            ("--statedir", Some("--state-dir")),
            ("--once", None),
            ("--nosuch", None),
            ("-p", None),
        ] {
            assert_eq!(nearest(word, &candidates), expected, "{word}");
        }
    }

    #[test]
    fn a_beginning_counts_if_only_one_candidate_has_it() {
        let candidates = ["--send-error-text", "--send-stage-text", "--state-dir"];
        assert_eq!(nearest("--send-err", &candidates), Some("--send-error-text"));
        assert_eq!(nearest("--send", &candidates), None, "two begin with it");
        assert_eq!(nearest("--s", &candidates), None, "too short");
    }
}

//! Compares the words of an error text with the phrases of the table.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::classes::TABLE;
use super::origin::Origin;

/// Stands in a phrase for any HTTP status from 500 to 599.
const SERVER_ERROR: &str = "5xx";

struct Phrase {
    words: Vec<String>,
    /// The position of its class in the table.
    class: usize,
    origins: &'static [Origin],
}

/// All phrases by their first word.
static PHRASES: LazyLock<HashMap<String, Vec<Phrase>>> = LazyLock::new(|| {
    let mut phrases = HashMap::<_, Vec<_>>::new();
    let mut add = |phrase: &str, class, origins| {
        let words: Vec<_> = phrase.split(' ').map(str::to_owned).collect();
        phrases.entry(words[0].clone()).or_default().push(Phrase { words, class, origins });
    };
    for (class, entry) in TABLE.iter().enumerate() {
        for cause in entry.causes {
            cause.phrases.iter().for_each(|phrase| add(phrase, class, cause.origins));
        }
        // Tilt ends the error of a session with the status of the pod that it waited for.
        for status in entry.pod_statuses {
            add(&format!(": {} :", status.to_ascii_lowercase()), class, &[Origin::Session]);
        }
    }
    phrases
});

/// The first class of the table with a phrase among `words` that counts for `origin`.
pub(super) fn class_of(words: &[&str], origin: Origin) -> Option<&'static str> {
    let classes = (0..words.len()).flat_map(|at| {
        let phrases = PHRASES.get(generalised(words[at])).map_or(&[][..], Vec::as_slice);
        let is_here = move |phrase: &&Phrase| {
            phrase.origins.contains(&origin) && starts_with(&words[at..], &phrase.words)
        };
        phrases.iter().filter(is_here).map(|phrase| phrase.class)
    });
    classes.min().map(|class| TABLE[class].name)
}

fn starts_with(words: &[&str], phrase: &[String]) -> bool {
    words.len() >= phrase.len()
        && words.iter().zip(phrase).all(|(word, expected)| generalised(word) == expected)
}

fn generalised(word: &str) -> &str {
    let is_server_error =
        word.len() == 3 && word.starts_with('5') && word.bytes().all(|byte| byte.is_ascii_digit());
    if is_server_error { SERVER_ERROR } else { word }
}

//! Reads the exit code that an error text names, in every wording: `exit status 7`,
//! `exited with code: 7`, `returned a non-zero code: 7`, `exited (7)`, `0xc0000005`.

/// After one of these, an exit code may follow.
const STARTS: &[&str] = &["exit", "exits", "exited", "exitcode", "returned"];
/// They stand between the start and the number.
const BETWEEN: &[&str] = &[
    "a", "an", "with", "status", "code", "non-zero", "nonzero", "value", "of", "is", "was", ":",
    "=",
];
/// After `returned`, one of these has to stand in between: a function may return any number.
const SAY_CODE: &[&str] = &["status", "code"];

/// Docker and podman unpack layers in a process of their own (`Error processing tar file(exit status
/// 1)`, `ApplyLayer exit status 1`). Its exit code is not that of a command.
const UNPACKING: &[&str] = &["file", "applylayer"];

/// Returns the last exit code in `words`, which is that of the outermost program. A signal has none.
pub(super) fn last(words: &[&str]) -> Option<i64> {
    (0..words.len()).rev().find_map(|start| code_after(words, start))
}

fn code_after(words: &[&str], start: usize) -> Option<i64> {
    let starts_with = words.get(start).filter(|word| STARTS.contains(word))?;
    let before = start.checked_sub(1).map(|before| words[before]);
    if before.is_some_and(|before| UNPACKING.contains(&before)) {
        return None;
    }
    let rest = &words[start + 1..];
    let number = rest.iter().position(|word| !BETWEEN.contains(word))?;
    if *starts_with == "returned" && !rest[..number].iter().any(|word| SAY_CODE.contains(word)) {
        return None;
    }
    number_of(rest[number])
}

/// Go writes a large exit code in hexadecimal digits: on Windows it is a status of the system.
fn number_of(word: &str) -> Option<i64> {
    let code = match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    code.ok().filter(|code| *code >= 0)
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    #[test]
    fn an_exit_code_is_read_in_every_wording() {
        for (text, code) in [
            ("exit status 7", Some(7)),
            ("exit code: 7", Some(7)),
            ("exit code 7", Some(7)),
            ("exited with code: 7", Some(7)),
            ("exited with status code: 7", Some(7)),
            ("exited with 7", Some(7)),
            ("exited (7)", Some(7)),
            ("exited with non-zero status 7", Some(7)),
            ("terminated with exit code 7", Some(7)),
            ("failed with exit code 7.", Some(7)),
            ("returned a non-zero code: 7", Some(7)),
            ("returned non-zero exit status 7.", Some(7)),
            ("ExitCode:7", Some(7)),
            ("exit status 0xC0000005", Some(0xc000_0005)),
            ("exit status 3221225477", Some(0xc000_0005)),
            ("exit status 1: exit status 7", Some(7)),
            ("exit status 0", Some(0)),
            ("exit status -1", None),
            ("exit status 99999999999999999999", None),
            ("ApplyLayer exit status 1", None),
            ("exited", None),
            ("returned 7 rows", None),
            ("status code: 404", None),
        ] {
            let words = words::of(text);
            assert_eq!(last(&words.split(' ').collect::<Vec<_>>()), code, "{text}");
        }
    }
}

//! Computes `error.hash`. It is equal for the same failure on every machine and at any time.

use crate::base::ids;

/// The rule, for people; the generated page of classes shows it.
pub const HASH_RULE: &str = "\
`error.hash` is made of the class, the exit code and the text, after these parts of the text were \
made equal:

- absolute paths in a home folder (`/home/…`, `/Users/…`, `/root`, `C:\\Users\\…`) or in a folder for \
temporary files keep only their last part; other paths stay as they are
- container ids, digests, UUIDs, BuildKit's references and other ids in hexadecimal digits
- the suffixes that Kubernetes gives to pods and replica sets
- all numbers, so ports, IP addresses, process ids, line numbers, times and the numbers in temporary \
names; but an HTTP status stays
- white space

So two failures have the same hash if they differ only in these. They have different hashes if the \
command, the file, the image or the cause differs.";

/// A path that starts so is specific to a user, a machine or a moment.
const FOLDERS: &[&str] = &[
    "/home/",
    "/Users/",
    "/root/",
    "/tmp/",
    "/var/tmp/",
    "/var/folders/",
    "/private/tmp/",
    "/private/var/",
    "/var/lib/docker/tmp/",
    "/mnt/c/Users/",
    "/c/Users/",
];

/// Kubernetes takes the random parts of names from these characters: no vowels, so that no words
/// come out. <https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go>
const POD_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Replaces an id or a number.
const SAME: &str = "0";

pub(super) fn of(class: &str, exit_code: Option<i64>, text: &str) -> String {
    let exit_code = exit_code.map(|code| code.to_string()).unwrap_or_default();
    ids::id(&["error", class, &exit_code, &normalised(text)], 16)
}

fn normalised(text: &str) -> String {
    let text = without_folders(text);
    let mut kept = String::with_capacity(text.len());
    let mut previous = "";
    for word in text.split_whitespace() {
        if !kept.is_empty() {
            kept.push(' ');
        }
        if is_http_status(word, previous) {
            kept.push_str(word);
        } else {
            push_without_ids(word, previous, &mut kept);
        }
        previous = word;
    }
    kept
}

/// A path in one of [`FOLDERS`] becomes its last part.
fn without_folders(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['/', '\\']) {
        if let Some(begin) = folder_at(rest, start) {
            let path = &rest[begin..];
            let length = length_of_path(path);
            kept.push_str(&rest[..begin]);
            kept.push('~');
            kept.push_str(last_part(&path[..length]));
            rest = &path[length..];
        } else {
            kept.push_str(&rest[..=start]);
            rest = &rest[start + 1..];
        }
    }
    kept.push_str(rest);
    kept
}

/// The start of the path whose first separator is at `start`, if one of [`FOLDERS`] holds it.
fn folder_at(text: &str, start: usize) -> Option<usize> {
    if is_windows_home(text, start) {
        return Some(start - 2);
    }
    let is_inside =
        text[..start].ends_with(|before: char| before.is_alphanumeric() || before == '.');
    let is_folder = FOLDERS.iter().any(|folder| text[start..].starts_with(folder));
    (is_folder && !is_inside).then_some(start)
}

/// `C:\Users\`, `C:\\Users\\` as Go quotes it, or `C:/Users/`.
fn is_windows_home(text: &str, start: usize) -> bool {
    let drive = &text.as_bytes()[..start];
    let is_drive = matches!(drive, [.., letter, b':'] if letter.is_ascii_alphabetic())
        && !matches!(drive, [.., before, _, b':'] if before.is_ascii_alphanumeric());
    let folder = &text[start + 1..];
    let folder = folder.strip_prefix(['\\', '/']).unwrap_or(folder);
    is_drive
        && folder.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("users"))
        && folder[5..].starts_with(['\\', '/'])
}

/// A path ends at white space, unless a separator follows before the next colon or quote: then the
/// name of a folder holds a space (`C:\Users\Ann Lee\src`, `/Users/ann/Application Support/x`).
fn length_of_path(path: &str) -> usize {
    let drive = if path.starts_with('/') { 0 } else { 2 };
    let ends = |character: char| {
        matches!(
            character,
            ' ' | '\t' | '\n' | ':' | '"' | '\'' | '`' | ',' | ';' | ')' | ']' | '}' | '>'
        )
    };
    let mut end = drive + path[drive..].find(ends).unwrap_or(path.len() - drive);
    while let Some(next) = path[end..].strip_prefix(' ') {
        let word = &next[..next.find(|c: char| c == ' ' || ends(c)).unwrap_or(next.len())];
        let goes_on = word.find(['\\', '/']).is_some_and(|at| at > 0);
        if !goes_on {
            break;
        }
        end += 1 + word.len();
    }
    end
}

/// The last part of a path; nothing if that is the user's name.
fn last_part(path: &str) -> &str {
    let parts = || path.split(['/', '\\']).filter(|part| !part.is_empty() && !part.ends_with(':'));
    match (parts().count(), parts().next_back()) {
        (0..=2, _) if !path.starts_with("/tmp") && !path.starts_with("/root") => "",
        // A name that a program made up for a temporary file.
        (_, Some(last)) if last.starts_with("tmp") => "tmp",
        (_, last) => last.unwrap_or_default(),
    }
}

/// `503` alone in a text; a port is attached to its host, or says that it is one.
fn is_http_status(word: &str, previous: &str) -> bool {
    let word = word.trim_end_matches([':', ',', '.']);
    word.len() == 3
        && word.starts_with(['4', '5'])
        && word.bytes().all(|byte| byte.is_ascii_digit())
        && !previous.eq_ignore_ascii_case("port")
}

fn push_without_ids(word: &str, previous: &str, kept: &mut String) {
    let after_container =
        previous.trim_end_matches(':').eq_ignore_ascii_case("container") || word.starts_with('(');
    let after_pod = previous.eq_ignore_ascii_case("pod");
    let mut rest = word;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
        let name = &rest[..length];
        if after_container && name.len() > 2 && is_hex(name) {
            kept.push_str(SAME);
        } else {
            let name = if is_uuid(name) { name } else { without_pod_suffix(name, after_pod) };
            push_name(name, kept);
        }
        let between = rest[length..].find(is_of_name).map_or(rest.len(), |next| length + next);
        kept.push_str(&rest[length..between]);
        rest = &rest[between..];
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-'
}

/// Removes `-7bcc7d5c5d-hfwkg` of a deployment's pod, `-fdmp9` of a Job's or a daemon set's, and
/// `-7bcc7d5c5d` of a replica set.
fn without_pod_suffix(name: &str, is_pod: bool) -> &str {
    let Some((start, last)) = name.rsplit_once('-') else { return name };
    if last.len() == 5 && is_random(last) {
        return match start.rsplit_once('-') {
            Some((start, hash)) if is_replica_set(hash) => start,
            _ if is_pod || has_digit(last) => start,
            _ => name,
        };
    }
    if is_replica_set(last) && has_digit(last) { start } else { name }
}

fn is_replica_set(part: &str) -> bool {
    (6..=10).contains(&part.len()) && is_random(part)
}

fn is_random(part: &str) -> bool {
    part.bytes().all(|byte| POD_CHARACTERS.contains(&byte)) || is_hex(part)
}

fn push_name(name: &str, kept: &mut String) {
    if is_uuid(name) {
        return kept.push_str(SAME);
    }
    for (index, part) in name.split('-').enumerate() {
        if index > 0 {
            kept.push('-');
        }
        if is_id(part) { kept.push_str(SAME) } else { push_without_numbers(part, kept) }
    }
}

fn is_uuid(name: &str) -> bool {
    let lengths = name.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && name.split('-').all(is_hex)
}

/// Hexadecimal ids of seven digits and more, and BuildKit's of 25 letters and digits.
fn is_id(part: &str) -> bool {
    let is_buildkit = part.len() >= 20
        && (part.len() >= 25 || has_digit(part))
        && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_hexadecimal = is_hex(part) && (part.len() >= 12 || part.len() >= 7 && has_digit(part));
    is_buildkit || is_hexadecimal
}

fn is_hex(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn has_digit(part: &str) -> bool {
    part.bytes().any(|byte| byte.is_ascii_digit())
}

fn push_without_numbers(part: &str, kept: &mut String) {
    let mut is_in_number = false;
    for character in part.chars() {
        match (character.is_ascii_digit(), is_in_number) {
            (true, false) => kept.push_str(SAME),
            (true, true) => {}
            (false, _) => kept.push(character),
        }
        is_in_number = character.is_ascii_digit();
    }
}

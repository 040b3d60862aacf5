//! What may be said of a failed build without its text.
//!
//! Tilt's error texts hold whole command lines, substituted build arguments and home paths, and
//! Tilt does not scrub them. So a failure is a class from a short list, the exit code where the
//! text gives one, and a hash of the normalised text that groups equal failures. The text itself
//! is kept only for those who ask for it. Pure.

use crate::base::{ids, text};

/// The longest error text that is ever sent, in bytes.
pub const TEXT_LIMIT: usize = 1024;

/// A failed build, as far as it may be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// One of a few classes (`error.type`); `_OTHER` as OpenTelemetry has it where none fits.
    pub class: &'static str,
    pub exit_code: Option<i64>,
    /// 16 hex digits, equal for texts that differ only in numbers, ids and folders.
    pub hash: String,
    /// At most [`TEXT_LIMIT`] bytes, cut on a character boundary.
    pub text: String,
}

/// The first class with a phrase in the text wins, so the more telling ones come first. The
/// phrases are Docker's, `BuildKit`'s, Kubernetes' and Tilt's own, in lower case.
const CLASSES: &[(&str, &[&str])] = &[
    ("disk_full", &["no space left on device"]),
    ("out_of_memory", &["out of memory", "oomkilled", "cannot allocate memory"]),
    ("missing_program", &["executable file not found in"]),
    // A plain `killed`, without `signal:`, is Tilt's word for a command that it stopped itself.
    ("cancelled", &["context canceled", "context cancelled", "build canceled", "failed: killed"]),
    ("timeout", &["deadline exceeded", "timed out", "timeout"]),
    // `signal: segmentation fault`; Go gives -1 in place of an exit code that there is not.
    ("killed", &["signal: ", "exit status -1", "exited with status -1"]),
    (
        "docker_unavailable",
        &[
            "cannot connect to the docker daemon",
            "docker daemon running",
            "failed to connect to the docker api",
        ],
    ),
    (
        "registry_denied",
        &[
            "pull access denied",
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
        ],
    ),
    ("image_not_found", &["manifest unknown", "manifest for", "failed to resolve source metadata"]),
    (
        "network",
        &[
            "no such host",
            "connection refused",
            "connection reset",
            "tls handshake",
            "network is unreachable",
        ],
    ),
    (
        "dockerfile",
        &[
            "dockerfile parse error",
            "failed to create llb definition",
            "failed to read dockerfile",
            "unknown instruction",
        ],
    ),
    (
        "missing_file",
        &[
            "failed to compute cache key",
            "failed to calculate checksum",
            "no such file or directory",
        ],
    ),
    ("port_in_use", &["port is already allocated", "address already in use"]),
    (
        "kubernetes",
        &["error from server", "unable to recognize", "is invalid:", "no matches for kind"],
    ),
];

/// What a failed load of a Tiltfile may be but for `tiltfile`: what the machine lacks or a person
/// stopped, in phrases that are no words of a Tiltfile. Other phrases are (`undefined: timeout`), or
/// tell of a mistake in it (`open k8s.yaml: no such file or directory`).
const NO_FAULT_OF_A_TILTFILE: &[&str] = &[
    "disk_full",
    "out_of_memory",
    "missing_program",
    "cancelled",
    "killed",
    "docker_unavailable",
    "network",
];

const EXIT_CODE_PHRASES: &[&str] = &[
    "exit status ",
    "exit code: ",
    "exit code ",
    "exited with code: ",
    "exited with code ",
    "exited with status code: ",
    "exited with status ",
    "exited with ",
];

impl Failure {
    pub fn of(text: &str) -> Self {
        let around_commands = around_commands(text);
        let exit_code = exit_code(&around_commands);
        let without_phrase = if exit_code.is_some() { "command_failed" } else { "_OTHER" };
        let class = class(&around_commands, |_| true).unwrap_or(without_phrase);
        Self::new(class, exit_code, text)
    }

    /// Of a load of a Tiltfile, which the text does not tell.
    pub fn of_tiltfile(text: &str) -> Self {
        let around_commands = around_commands(text);
        let class = class(&around_commands, |class| NO_FAULT_OF_A_TILTFILE.contains(&class));
        Self::new(class.unwrap_or("tiltfile"), exit_code(&around_commands), text)
    }

    fn new(class: &'static str, exit_code: Option<i64>, text: &str) -> Self {
        Self {
            class,
            exit_code,
            hash: ids::id(&["error", &normalised(text)], 16),
            text: text::cut(text, TEXT_LIMIT).to_owned(),
        }
    }
}

/// The first of the classes in question with a phrase in the text, which is in lower case.
fn class(text: &str, is_possible: impl Fn(&str) -> bool) -> Option<&'static str> {
    CLASSES
        .iter()
        .filter(|(class, _)| is_possible(class))
        .find(|(_, phrases)| phrases.iter().any(|phrase| text.contains(phrase)))
        .map(|(class, _)| *class)
}

/// The text in lower case, without what it quotes in `"..."` or `[...]`: there the person's own command
/// stands, whose words say nothing about how it failed.
fn around_commands(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find(['"', '[']) {
        let quoted = &rest[start + 1..];
        let length = if rest[start..].starts_with('"') {
            end_of_quote(quoted, '"')
        } else if rest[..start].ends_with("executor failed running ") {
            // Nothing in there is escaped, and a shell's tests are brackets too.
            quoted.rfind("]: exit code")
        } else {
            end_of_quote(quoted, ']')
        };
        let Some(length) = length else { break };
        kept.push_str(&rest[..start]);
        rest = &rest[start + 1 + length + 1..];
    }
    kept.push_str(rest);
    kept.to_lowercase()
}

/// Where `close` stands, other than behind a backslash.
fn end_of_quote(text: &str, close: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == close => return Some(at),
            _ => {}
        }
    }
    None
}

/// The last exit code that the text names: the outermost program's. Go writes a large one, which on
/// Windows is a status of the system's (`0xc0000005`), in hexadecimal digits.
fn exit_code(text: &str) -> Option<i64> {
    EXIT_CODE_PHRASES
        .iter()
        .flat_map(|phrase| text.match_indices(phrase).map(|(at, _)| at + phrase.len()))
        .filter_map(|at| {
            let number = text[at..].split(|c: char| !c.is_ascii_alphanumeric()).next()?;
            let code = match number.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().map(|code| (at, code))
        })
        .max_by_key(|(at, _)| *at)
        .map(|(_, code)| code)
}

/// Makes texts equal that tell of the same failure: numbers, long hex ids and the folders of
/// absolute paths go, white space is folded.
fn normalised(text: &str) -> String {
    let words = text.split_whitespace().map(|word| match word.rfind('/') {
        Some(last) if word.matches('/').count() > 1 => {
            let first = word.find('/').unwrap_or(last);
            without_numbers(&format!("{}/{}", &word[..first], &word[last + 1..]))
        }
        _ => without_numbers(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_numbers(word: &str) -> String {
    let mut kept = String::with_capacity(word.len());
    for run in word.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let body = run.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = body.len() >= 8 && body.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id {
            kept.push('0');
        } else {
            let mut in_number = false;
            for character in body.chars() {
                if !(character.is_ascii_digit() && in_number) {
                    kept.push(if character.is_ascii_digit() { '0' } else { character });
                }
                in_number = character.is_ascii_digit();
            }
        }
        kept.push_str(&run[body.len()..]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_and_exit_code_come_from_the_words_around_the_command() {
        for (text, class, exit_code) in [
            // Recorded from Tilt 0.37.6.
            (r#"Command "echo boom >&2; exit 3" failed: exit status 3"#, "command_failed", Some(3)),
            (
                "ImageBuild: executor failed running [/bin/sh -c exit 9]: exit code: 9",
                "command_failed",
                Some(9),
            ),
            // Tilt stopped it: someone disabled the resource, pressed Shutdown Build.
            (r#"Command "sleep 8" failed: killed"#, "cancelled", None),
            ("build canceled", "cancelled", None),
            // Someone else did.
            (r#"Command "kill -9 $$" failed: signal: killed"#, "killed", None),
            (r#"Command "kill -TERM $$" failed: signal: terminated"#, "killed", None),
            (r#"Command "./crash" failed: signal: segmentation fault"#, "killed", None),
            (r#"Command "./crash" failed: signal: aborted (core dumped)"#, "killed", None),
            // A shell's 137 and 127 may be its command's own.
            (
                r#"Command "sh -c ./crash; exit $?" failed: exit status 137"#,
                "command_failed",
                Some(137),
            ),
            (r#"Command "no-such-program" failed: exit status 127"#, "command_failed", Some(127)),
            (
                r#"Command "x" failed: failed to start: exec: "x": executable file not found in $PATH"#,
                "missing_program",
                None,
            ),
            (
                r#"Command "app.exe" failed: exit status 0xc0000005"#,
                "command_failed",
                Some(0xc000_0005),
            ),
            // Nor is this sure: Tilt says it of a folder to run in that is not there, too.
            (
                r#"Command "true" failed: failed to start: fork/exec /usr/bin/sh: no such file or directory"#,
                "missing_file",
                None,
            ),
            // The person's own words are no evidence.
            (
                r#"Command "echo timed out; exit code: 7" failed: exit status 1"#,
                "command_failed",
                Some(1),
            ),
            (r#"Command "echo \"no such host\"" failed: exit status 2"#, "command_failed", Some(2)),
            (
                "ImageBuild: executor failed running [/bin/sh -c [ -f app ] || { echo timeout; \
                 exit 4; }]: exit code: 4",
                "command_failed",
                Some(4),
            ),
            (
                "executor failed running [/bin/sh -c if [ \"$X\" ]; then curl --timeout 5 x; fi]: \
                 exit code: 28",
                "command_failed",
                Some(28),
            ),
            ("executor failed running [cut short: timeout", "timeout", None),
            // Tilt's, Docker's and Kubernetes' ways to say it.
            (r#"Custom build "make image" failed: exit status 2"#, "command_failed", Some(2)),
            (r#"Custom build "make image" failed: killed"#, "cancelled", None),
            ("ImageBuild: Canceled: context canceled", "cancelled", None),
            (
                "apply command timed out after 30s - see https://docs.tilt.dev/api.html",
                "timeout",
                None,
            ),
            ("apply command exited with status -1", "killed", None),
            ("apply command exited with status 4\nstdout:", "command_failed", Some(4)),
            ("Container 12ab exited with 137", "command_failed", Some(137)),
            (
                "ImageBuild: dockerfile parse error on line 3: unknown instruction: RNU",
                "dockerfile",
                None,
            ),
            ("failed to compute cache key: \"/x\" not found", "missing_file", None),
            ("write /var/lib/x: no space left on device", "disk_full", None),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock",
                "docker_unavailable",
                None,
            ),
            ("pull access denied for team/web", "registry_denied", None),
            ("context deadline exceeded", "timeout", None),
            ("dial tcp: lookup registry: no such host", "network", None),
            ("something new", "_OTHER", None),
            ("", "_OTHER", None),
            ("exit status 99999999999999999999", "_OTHER", None),
            ("an unclosed \"quote: exit status 5", "command_failed", Some(5)),
        ] {
            let failure = Failure::of(text);
            assert_eq!((failure.class, failure.exit_code), (class, exit_code), "{text}");
        }
    }

    #[test]
    fn a_failed_load_is_the_tiltfiles_fault_but_for_what_the_machine_lacks() {
        // Recorded from Tilt 0.37.6, where the folders were others.
        let at = "Traceback (most recent call last):\n  /home/dev/timeout/Tiltfile:1:6: in \
                  <toplevel>\nError in";
        for (text, class, exit_code) in [
            ("/home/dev/shop/Tiltfile:1:7: undefined: timeout", "tiltfile", None),
            (
                "/home/dev/shop/Tiltfile:2:1: got end of file, want primary expression",
                "tiltfile",
                None,
            ),
            (&format!("{at} read_file: open /nope: no such file or directory"), "tiltfile", None),
            (
                &format!("{at} local: command \"exit 3\" failed.\nerror: exit status 3"),
                "tiltfile",
                Some(3),
            ),
            (
                &format!("{at} local: command \"kill -9 $$\" failed.\nerror: exit status -1"),
                "killed",
                None,
            ),
            (
                &format!(
                    "{at} docker_compose: command [\"docker-compose\" \"config\"] failed.\nerror: \
                     exec: \"docker-compose\": executable file not found in $PATH\nstdout: \"\""
                ),
                "missing_program",
                None,
            ),
            ("build canceled", "cancelled", None),
            (
                "Failed to connect to Docker: failed to connect to the docker API at \
                 unix:///var/run/docker.sock; check if the path is correct and if the daemon is \
                 running: dial unix /var/run/docker.sock: connect: no such file or directory",
                "docker_unavailable",
                None,
            ),
        ] {
            let failure = Failure::of_tiltfile(text);
            assert_eq!((failure.class, failure.exit_code), (class, exit_code), "{text}");
        }
    }

    #[test]
    fn the_hash_groups_what_differs_only_in_numbers_ids_and_folders() {
        let of = |text: &str| Failure::of(text).hash;
        assert_eq!(of("/home/ann/shop/app.go:12: bad"), of("/home/bob/src/app.go:345:  bad"));
        assert_eq!(of("Container 0123abcdef exited"), of("Container fedcba98 exited"));
        assert_ne!(of("Command \"make a\" failed"), of("Command \"make b\" failed"));
        assert_eq!(of("x").len(), 16);
    }

    #[test]
    fn the_text_is_cut_on_a_character_boundary() {
        let text = format!("{}é", "x".repeat(TEXT_LIMIT - 1));
        assert_eq!(Failure::of(&text).text, "x".repeat(TEXT_LIMIT - 1));
        assert_eq!(Failure::of("short").text, "short");
    }
}

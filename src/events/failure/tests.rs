//! Texts that were recorded from Tilt, and what must hold for the table.

use std::collections::BTreeSet;

use super::classes::TABLE;
use super::*;

const ANYWHERE: Place = Place::Update(Target::Unknown);

#[test]
fn every_example_has_the_class_that_it_stands_beside() {
    for class in TABLE {
        for example in class.examples {
            let failure = Failure::classify(example.text, example.place);
            let found = (failure.class, failure.exit_code);
            assert_eq!(found, (class.name, example.exit_code), "{}", example.text);
        }
    }
}

#[test]
fn the_table_has_each_class_and_pod_status_once() {
    let mut seen = BTreeSet::new();
    for class in TABLE {
        assert!(seen.insert(class.name), "{}", class.name);
        assert!(!class.meaning.is_empty(), "{}", class.name);
        for status in class.pod_statuses {
            assert!(seen.insert(status), "{status}");
        }
    }
}

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
        // Tilt stopped it: someone disabled the resource, pressed Stop Build.
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
        // Tilt says the same if the folder to run in does not exist.
        (
            r#"Command "true" failed: failed to start: fork/exec /usr/bin/sh: no such file or directory"#,
            "missing_file",
            None,
        ),
        // The user's own words do not decide.
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
        ("apply command timed out after 30s - see https://docs.tilt.dev/api.html", "timeout", None),
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
        let failure = Failure::classify(text, ANYWHERE);
        assert_eq!((failure.class, failure.exit_code), (class, exit_code), "{text}");
    }
}

#[test]
fn a_tiltfile_is_blamed_unless_the_machine_lacks_something() {
    // Recorded from Tilt 0.37.6, where the folders were others.
    let at = "Traceback (most recent call last):\n  /home/dev/timeout/Tiltfile:1:6: in \
              <toplevel>\nError in";
    for (text, class, exit_code) in [
        ("/home/dev/shop/Tiltfile:1:7: undefined: timeout", "tiltfile", None),
        ("/home/dev/shop/Tiltfile:2:1: got end of file, want primary expression", "tiltfile", None),
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
        let failure = Failure::classify(text, Place::Tiltfile);
        assert_eq!((failure.class, failure.exit_code), (class, exit_code), "{text}");
    }
}

#[test]
fn the_hash_groups_what_differs_only_in_numbers_ids_and_folders() {
    let of = |text: &str| Failure::classify(text, ANYWHERE).hash;
    assert_eq!(of("/home/ann/shop/app.go:12: bad"), of("/home/bob/src/app.go:345:  bad"));
    assert_eq!(of("Container 0123abcdef exited"), of("Container fedcba98 exited"));
    assert_ne!(of("Command \"make a\" failed"), of("Command \"make b\" failed"));
    assert_eq!(of("x").len(), 16);
}

#[test]
fn the_text_is_cut_on_a_character_boundary() {
    let text = format!("{}é", "x".repeat(TEXT_LIMIT - 1));
    assert_eq!(Failure::classify(&text, ANYWHERE).text, "x".repeat(TEXT_LIMIT - 1));
    assert_eq!(Failure::classify("short", ANYWHERE).text, "short");
}

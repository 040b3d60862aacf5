//! Tests of the command line as typed.

use super::*;

fn parsed(line: &str) -> Result<Cli, EarlyExit> {
    parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn a_value_follows_a_space_or_an_equals_sign() {
    for line in ["--interval 5s --field a=b", "--interval=5s --field=a=b"] {
        let cli = parsed(line).expect(line);
        assert_eq!(cli.interval.as_deref(), Some("5s"), "{line}");
        assert_eq!(cli.field, ["a=b"], "{line}");
    }
}

#[test]
fn a_command_may_stand_anywhere_among_the_options() {
    for line in ["check --port 1 --json", "--port 1 check --json", "--json --port=1 check"] {
        let cli = parsed(line).expect(line);
        assert_eq!((cli.command, cli.json), (Some(Command::Check), true), "{line}");
    }
    assert_eq!(parsed("board --dry-run").expect("a board").command, Some(Command::Board));
}

#[test]
fn version_and_help_are_printed_without_error() {
    assert_eq!(parsed("--version"), Err(EarlyExit::Print(version())));
    assert_eq!(parsed("-V --once"), Err(EarlyExit::Print(version())));
    for line in ["--help", "-h"] {
        let Err(EarlyExit::Print(help)) = parsed(line) else { panic!("{line} printed nothing") };
        assert!(help.contains("--dry-run") && help.contains("HONEYCOMB_API_KEY"), "{help}");
    }
}

#[test]
fn help_fits_eighty_columns() {
    let Err(EarlyExit::Print(help)) = parsed("--help") else { panic!("no help") };
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_usage_error_is_one_line_that_names_the_argument() {
    for (line, named) in [
        ("--nosuch", "--nosuch"),
        ("--interval", "--interval"),
        ("stray", "stray"),
        ("--once=yes", "yes"),
        ("--port 1 --port 2", "--port"),
        ("check board", "board"),
        ("check --once", "--once cannot be combined with check"),
        ("check --dry-run", "--dry-run cannot be combined with check"),
        ("board --snapshot x", "--snapshot cannot be combined with board"),
        ("board --json", "--json cannot be combined with board"),
        ("--json --once", "--json needs check"),
        ("--links", "--links needs check"),
        ("--require-tilt --once", "--require-tilt needs check"),
        ("board --links", "--links cannot be combined with board"),
        ("--html x", "--html needs summary"),
        ("check --all", "--all needs summary"),
        ("summary --dry-run", "--dry-run cannot be combined with summary"),
        ("summary --json", "--json cannot be combined with summary"),
        ("--once --outcome 0", "--outcome needs --snapshot"),
        ("--flush --snapshot x", "leave out --flush"),
        ("--flush --dry-run", "--flush cannot be combined with --dry-run"),
        ("--snapshot x --outcome", "--outcome"),
    ] {
        let Err(EarlyExit::Usage(message)) = parsed(line) else { panic!("{line} was accepted") };
        assert!(message.contains(named), "{line}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_may_hold_any_bytes_and_nothing_else_may() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let path = PathBuf::from(bytes(b"/s\xff/d"));
    for arguments in
        [vec![bytes(b"--state-dir"), bytes(b"/s\xff/d")], vec![bytes(b"--state-dir=/s\xff/d")]]
    {
        assert_eq!(parse(&arguments).expect("a path").state_dir.as_ref(), Some(&path));
    }
    for argument in [&b"--dataset=d\xff"[..], b"--\xff", b"\xff", b"--field=a=\xff"] {
        let Err(EarlyExit::Usage(message)) = parse(&[bytes(argument)]) else {
            panic!("{argument:?} was accepted")
        };
        assert!(!message.contains(PLACEHOLDER), "{message:?}");
    }
}

#[test]
fn a_mistyped_option_or_command_names_the_nearest() {
    for (line, message) in [
        ("--intervall 5s", "unknown option --intervall (did you mean --interval?)"),
        ("--snapshto x", "unknown option --snapshto (did you mean --snapshot?)"),
        ("--api-key x", "unknown option --api-key (did you mean --api-key-file?)"),
        ("-once", "unknown option -once (did you mean --once?)"),
        ("--hlep", "unknown option --hlep (did you mean --help?)"),
        ("--check", "unknown option --check (did you mean check?)"),
        ("chekc", "unknown command chekc (did you mean check?)"),
        ("once", "unknown command once (did you mean --once?)"),
        ("check jsno", "unexpected argument jsno"),
        ("check board", "unexpected argument board"),
        ("report", "unknown command report"),
        ("--nosuch", "unknown option --nosuch"),
        ("it's", "unknown command it"),
    ] {
        let expected = format!("{message}; see tilt-honeycomb --help");
        assert_eq!(parsed(line), Err(EarlyExit::Usage(expected)), "{line}");
    }
}

#[test]
fn a_command_has_its_own_help() {
    let help = |line: &str| match parsed(line) {
        Err(EarlyExit::Print(help)) => help,
        other => panic!("{line}: {other:?}"),
    };
    for command in COMMANDS.map(Command::as_str) {
        let own = help(&format!("{command} --help"));
        assert!(own.starts_with(&format!("Usage: tilt-honeycomb {command} [options]")), "{own}");
        for line in [format!("--help {command}"), format!("--port 1 {command} -h")] {
            assert_eq!(help(&line), own, "{line}");
        }
        // The help of a command lists only options that it takes.
        for word in own.split_whitespace().filter(|word| ["--json", "--dry-run"].contains(word)) {
            parsed(&format!("{command} {word}")).expect(word);
        }
    }
    assert!(help("--user check --help").starts_with("Usage: tilt-honeycomb [check|board|summary]"));
}

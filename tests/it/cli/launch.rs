//! `scripts/extension/run`, which the Tiltfile starts, finds the program or idles. It never fails.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::install::{ARCHIVE, Machine, ROOT, VERSION, release_of};
use crate::support::eventually;

/// A program that answers `--version`, and else prints its arguments.
fn program(version: &str) -> String {
    format!("[ \"$1\" = --version ] && echo tilt-honeycomb {version} || echo ran {version} \"$@\"")
}

/// A machine whose server has a release of the checkout's version, or none.
fn machine(has_release: bool) -> Machine {
    let (archive, list) = release_of(&format!("#!/bin/sh\n{}\n", program(VERSION)));
    let files = [(ARCHIVE, archive), ("SHA256SUMS", list)];
    Machine::with_release(if has_release { &files } else { &[] })
}

fn run(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.command(&format!("{ROOT}/scripts/extension/run"), arguments);
    // No cargo that really builds.
    machine.program("cargo", "exit 1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn output(mut command: Command) -> (String, String) {
    let output = command.output().expect("sh runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn the_release_of_the_checkout_is_downloaded_once() {
    let machine = machine(true);
    let (stdout, stderr) = output(run(&machine, &["--interval", "5 s"]));
    assert_eq!(stdout, format!("ran {VERSION} --interval 5 s\n"));
    assert!(stderr.starts_with(&format!("tilt-honeycomb: downloaded version {VERSION} to ")));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let requests = machine.server.requests().len();

    let (stdout, stderr) = output(run(&machine, &["again"]));
    assert_eq!((stdout, stderr), (format!("ran {VERSION} again\n"), String::new()));
    assert_eq!(machine.server.requests().len(), requests, "nothing is downloaded again");
}

#[test]
fn a_program_on_path_needs_the_version_of_the_checkout() {
    let machine = machine(true);
    machine.program("tilt-honeycomb", &program("0.0.1"));
    let (stdout, _) = output(run(&machine, &[]));
    assert_eq!(stdout, format!("ran {VERSION}\n"));
    let requests = machine.server.requests().len();
    assert!(requests > 0, "another version on PATH does not replace the release");

    machine.program("tilt-honeycomb", &program(VERSION));
    fs::remove_dir_all(machine.folder.path().join("home/.cache")).expect("a cache");
    output(run(&machine, &[]));
    assert_eq!(machine.server.requests().len(), requests);
}

#[test]
fn another_version_is_used_if_nothing_can_be_downloaded() {
    let machine = machine(false);
    machine.program("tilt-honeycomb", &program("0.0.1"));
    let (stdout, stderr) = output(run(&machine, &["--verbose"]));
    assert_eq!(stdout, "ran 0.0.1 --verbose\n");
    assert!(stderr.contains("install: cannot download "), "{stderr}");
    let says = format!("using tilt-honeycomb 0.0.1 instead of version {VERSION}");
    assert!(stderr.contains(&says), "{stderr}");
}

#[test]
fn cargo_builds_without_a_release_or_on_request() {
    let checkout = tempfile::tempdir().expect("a folder");
    let built = checkout.path().join("target/release/tilt-honeycomb");
    let script = program(VERSION).replace("echo ran", "echo built");
    for (has_release, variable, expected) in [
        (false, "UNUSED", "built"),
        (true, "UNUSED", "ran"),
        (true, "TILT_HONEYCOMB_BUILD", "built"),
    ] {
        let machine = machine(has_release);
        let mut command = run(&machine, &[]);
        machine.program(
            "cargo",
            &format!(
                "mkdir -p '{0}' && printf '%s\\n' '#!/bin/sh' '{script}' >'{1}' && chmod +x '{1}'",
                built.parent().expect("a folder").display(),
                built.display()
            ),
        );
        command.env("TILT_HONEYCOMB_SOURCE", checkout.path()).env(variable, "1");
        assert_eq!(output(command).0, format!("{expected} {VERSION}\n"), "{variable}");
    }
}

#[test]
fn preparing_succeeds_even_if_nothing_can_be_had() {
    let (stdout, stderr) = output(run(&machine(false), &["--prepare"]));
    assert_eq!(stdout, "");
    assert!(stderr.contains(&format!("cannot download or build version {VERSION}")), "{stderr}");
}

/// Waits for a line on stderr of a running script, then ends its process group as Tilt does.
fn idles_and_stops(machine: &Machine, mut command: Command, says: &str) {
    use std::os::unix::process::CommandExt;
    let log = machine.folder.path().join("log");
    command.stderr(fs::File::create(&log).expect("a file")).process_group(0);
    let mut child: Child = command.spawn().expect("sh runs");
    eventually(says, || fs::read_to_string(&log).is_ok_and(|text| text.contains(says)));
    assert!(child.try_wait().expect("a status").is_none(), "it must not exit");
    kill_process_group(Pid::from_child(&child), Signal::TERM).expect("a process group");
    child.wait().expect("an exit status");
}

#[test]
fn without_a_program_it_says_so_and_idles() {
    let machine = machine(false);
    let command = run(&machine, &[]);
    idles_and_stops(&machine, command, "nothing is reported; trying again in 10 minutes");

    let mut command = run(&machine, &[]);
    command.env("TILT_HONEYCOMB_BIN", "/nowhere/program");
    idles_and_stops(&machine, command, "cannot run /nowhere/program");
}

//! `scripts/install` installs a release whose checksum is correct, or changes nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use fakes::honeycomb::{Answer, Reply, Server};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

const ARCHIVE: &str = "tilt-honeycomb-x86_64-unknown-linux-musl.tar.gz";

/// A fake Linux machine on x86-64, and a server with releases.
struct Machine {
    folder: TempDir,
    server: Server,
}

impl Machine {
    /// The server has release 1.2.3 with these files. It is also the latest release.
    fn with_release(files: &[(&str, Vec<u8>)]) -> Self {
        let mut assets = HashMap::new();
        for (name, content) in files {
            for place in ["latest/download", "download/v1.2.3"] {
                assets.insert(format!("/{place}/{name}"), content.clone());
            }
        }
        let server = Server::start();
        server.usually(Answer::By(Arc::new(move |request| match assets.get(&request.path) {
            Some(content) => Reply::new(200, content.clone()).into(),
            None => Reply::new(404, "Not Found").into(),
        })));
        let machine = Self { folder: tempfile::tempdir().expect("a folder"), server };
        machine.program("uname", "[ \"$1\" = -s ] && echo Linux || echo x86_64");
        machine
    }

    /// Adds a program that comes first on PATH.
    fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file mode");
    }

    fn installed(&self) -> PathBuf {
        self.folder.path().join("home/.local/bin/tilt-honeycomb")
    }

    fn install(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").expect("a PATH");
        Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install"))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("HOME", self.folder.path().join("home"))
            .env("TMPDIR", self.folder.path())
            .env("TILT_HONEYCOMB_RELEASES", self.server.url())
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .expect("sh runs")
    }

    /// Asserts that the script fails with one line, keeps the installed program and leaves no file.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], why: &str) {
        let kept = self.folder.path().join("home/.local/bin");
        fs::create_dir_all(&kept).expect("a folder");
        fs::write(self.installed(), "installed before").expect("a file");
        let output = self.install(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("install: ") && said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(output.stdout, b"");
        assert_eq!(fs::read(self.installed()).expect("a file"), b"installed before");
        assert_eq!(fs::read_dir(kept).expect("a folder").count(), 1);
        let left = fs::read_dir(self.folder.path()).expect("a folder");
        let left = left.filter(|e| e.as_ref().is_ok_and(|e| e.file_name().len() > 8));
        assert_eq!(left.count(), 0, "no temporary file is left");
    }
}

/// An archive with this program, and a `SHA256SUMS` that lists it.
fn release_of(script: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("tilt-honeycomb");
    fs::write(&program, script).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file mode");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder.path()).args(["-czf", "-", "tilt-honeycomb"]);
    let archive = tar.output().expect("tar runs").stdout;
    let sum = tilt_honeycomb::base::ids::hex(digest(&SHA256, &archive).as_ref(), 64);
    let other = "0".repeat(64);
    let list = format!("{other}  tilt-honeycomb-aarch64-apple-darwin.tar.gz\n{sum}  {ARCHIVE}\n");
    (archive, list.into_bytes())
}

fn release() -> (Vec<u8>, Vec<u8>) {
    release_of("#!/bin/sh\necho tilt-honeycomb 1.2.3\n")
}

#[test]
fn install_takes_a_version_and_a_folder() {
    let (archive, list) = release();
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    let elsewhere = machine.folder.path().join("else");
    for (arguments, program) in [
        (vec![], machine.installed()),
        (vec!["--version", "1.2.3"], machine.installed()),
        (
            vec!["--to", elsewhere.to_str().expect("text"), "--version", "v1.2.3"],
            elsewhere.join("tilt-honeycomb"),
        ),
    ] {
        let output = machine.install(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let place = program.parent().expect("a folder").display();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("installed tilt-honeycomb 1.2.3 in {place}\n{place} is not on PATH\n")
        );
        let said = Command::new(&program).output().expect("the program runs").stdout;
        assert_eq!(said, b"tilt-honeycomb 1.2.3\n");
        fs::remove_file(&program).expect("an installed program");
    }
}

#[test]
fn an_archive_with_a_wrong_checksum_is_refused() {
    let (mut archive, list) = release();
    let middle = archive.len() / 2;
    archive[middle] ^= 1;
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    machine.refuses(&[], "differs from SHA256SUMS");
}

#[test]
fn a_truncated_archive_is_refused() {
    let (archive, list) = release();
    let half = archive[..archive.len() / 2].to_vec();
    let machine = Machine::with_release(&[(ARCHIVE, half), ("SHA256SUMS", list)]);
    machine.refuses(&[], "differs from SHA256SUMS");
}

#[test]
fn a_file_missing_from_the_release_is_reported() {
    let (archive, list) = release();
    let lists_others = b"00  tilt-honeycomb-aarch64-apple-darwin.tar.gz\n".to_vec();
    for (files, why) in [
        (vec![("SHA256SUMS", list)], format!("latest/download/{ARCHIVE}")),
        (vec![(ARCHIVE, archive.clone())], "latest/download/SHA256SUMS".to_owned()),
        (
            vec![(ARCHIVE, archive), ("SHA256SUMS", lists_others)],
            format!("does not list {ARCHIVE}"),
        ),
    ] {
        Machine::with_release(&files).refuses(&[], &why);
    }
}

#[test]
fn an_unknown_version_or_option_is_refused() {
    let (archive, list) = release();
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    machine.refuses(&["--version", "9.9.9"], "download/v9.9.9/SHA256SUMS");
    machine.refuses(&["--help"], "unknown option --help; the options are --version");
    machine.refuses(&["--force", "x"], "unknown option --force");
}

#[test]
fn an_unsupported_platform_gets_build_instructions() {
    let machine = Machine::with_release(&[]);
    machine.program("uname", "[ \"$1\" = -s ] && echo FreeBSD || echo riscv64");
    machine.refuses(&[], "no release for FreeBSD on riscv64; build it with: cargo install");
}

#[test]
fn a_program_that_does_not_run_is_not_installed() {
    let (archive, list) = release_of("#!/bin/sh\nexit 1\n");
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    machine.refuses(&[], "does not run on this machine");
}

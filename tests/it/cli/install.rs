//! `scripts/install` installs a release whose checksum is correct, or changes nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use fakes::honeycomb::{Answer, Reply, Server};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

pub const ARCHIVE: &str = "tilt-honeycomb-x86_64-unknown-linux-musl.tar.gz";
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A host that only a proxy knows.
const BEHIND_PROXY: &str = "http://releases.example";

/// A fake Linux machine on x86-64, and a server with releases.
pub struct Machine {
    pub folder: TempDir,
    pub server: Server,
}

impl Machine {
    /// The server has the release of this version, and 1.2.3 as the latest, with these files. It is
    /// also a proxy for [`BEHIND_PROXY`].
    pub fn with_release(files: &[(&str, Vec<u8>)]) -> Self {
        let mut assets = HashMap::new();
        for (name, content) in files {
            for place in ["latest/download", "download/v1.2.3", &format!("download/v{VERSION}")] {
                assets.insert(format!("/{place}/{name}"), content.clone());
            }
        }
        let server = Server::start();
        server.usually(Answer::By(Arc::new(move |request| {
            let path = request.path.strip_prefix(BEHIND_PROXY).unwrap_or(&request.path);
            match assets.get(path) {
                Some(content) => Reply::new(200, content.clone()).into(),
                None => Reply::new(404, "Not Found").into(),
            }
        })));
        let machine = Self { folder: tempfile::tempdir().expect("a folder"), server };
        machine.program("uname", "[ \"$1\" = -s ] && echo Linux || echo x86_64");
        machine
    }

    /// Adds a program that comes first on PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file mode");
    }

    fn installed(&self) -> PathBuf {
        self.folder.path().join("home/.local/bin/tilt-honeycomb")
    }

    fn install(&self, arguments: &[&str]) -> Output {
        self.command(&format!("{ROOT}/scripts/install"), arguments).output().expect("sh runs")
    }

    pub fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new("sh");
        command
            .arg(script)
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("HOME", self.folder.path().join("home"))
            .env("TMPDIR", self.folder.path())
            .env("TILT_HONEYCOMB_RELEASES", self.server.url());
        command
    }

    /// Runs a copy of the script that has this file with checksums beside it.
    fn install_pinned(&self, sums: &[u8], arguments: &[&str]) -> Output {
        let checkout = self.folder.path().join("extra");
        fs::create_dir_all(&checkout).expect("a folder");
        fs::write(checkout.join("SHA256SUMS"), sums).expect("a file");
        let script = checkout.join("install");
        fs::copy(format!("{ROOT}/scripts/extension/install"), &script).expect("a copy");
        self.command(script.to_str().expect("text"), arguments).output().expect("sh runs")
    }

    /// The PATH of a machine with the usual programs, except those that download, and with these.
    fn path_with(&self, downloaders: &[&str]) -> PathBuf {
        let folder = self.folder.path().join("programs");
        fs::create_dir_all(&folder).expect("a folder");
        let usual = "sh mktemp rm tail awk sha256sum cut tar gzip mkdir cp chmod mv dirname cat";
        for name in usual.split(' ').chain(downloaders.iter().copied()) {
            let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
            let found = String::from_utf8(found.expect("sh runs").stdout).expect("a path");
            std::os::unix::fs::symlink(found.trim(), folder.join(name)).expect(name);
        }
        fs::copy(self.folder.path().join("uname"), folder.join("uname")).expect("a copy");
        folder
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
pub fn release_of(script: &str) -> (Vec<u8>, Vec<u8>) {
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
        (vec!["--version", "latest"], machine.installed()),
        (vec!["--version=1.2.3"], machine.installed()),
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
        (vec![("SHA256SUMS", list)], format!("download/v{VERSION}/{ARCHIVE}")),
        (vec![(ARCHIVE, archive.clone())], format!("download/v{VERSION}/SHA256SUMS")),
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
    machine.refuses(&["--force", "x"], "unknown option --force; see install --help");
    machine.refuses(&["--version"], "--version needs a value");
    machine.refuses(&["--to="], "--to needs a value");
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

#[test]
fn the_help_names_options_variables_and_the_trust() {
    let machine = Machine::with_release(&[]);
    for option in ["--help", "-h"] {
        let output = machine.install(&[option]);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).expect("text");
        for part in ["--version VERSION", "--to FOLDER", "TILT_HONEYCOMB_RELEASES", "SHA256SUMS"] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }
    assert_eq!(machine.server.requests().len(), 0);
}

#[test]
fn the_checksum_in_the_checkout_wins_over_that_of_the_release() {
    let (archive, list) = release();
    let (other_archive, other_list) = release_of("#!/bin/sh\necho tilt-honeycomb 6.6.6\n");
    // An attacker who changes the archive of a release changes its SHA256SUMS too.
    let machine = Machine::with_release(&[(ARCHIVE, other_archive), ("SHA256SUMS", other_list)]);
    let output = machine.install_pinned(&list, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("differs from SHA256SUMS"));
    assert!(!machine.installed().exists());

    let machine = Machine::with_release(&[(ARCHIVE, archive)]);
    assert!(machine.install_pinned(&list, &[]).status.success());
    assert!(machine.installed().exists());
}

#[test]
fn the_checksums_in_the_checkout_are_for_its_own_version() {
    let (archive, list) = release();
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    let output = machine.install_pinned(b"of another version", &["--version", "1.2.3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn curl_or_wget_downloads_directly_or_by_a_proxy() {
    let (archive, list) = release();
    for downloader in ["curl", "wget"] {
        for proxy in [None, Some("HTTP_PROXY"), Some("ALL_PROXY"), Some("http_proxy")] {
            let files = [(ARCHIVE, archive.clone()), ("SHA256SUMS", list.clone())];
            let machine = Machine::with_release(&files);
            let mut command = machine.command(&format!("{ROOT}/scripts/install"), &[]);
            command.env("PATH", machine.path_with(&[downloader]));
            if let Some(proxy) = proxy {
                command.env(proxy, machine.server.url());
                command.env("TILT_HONEYCOMB_RELEASES", BEHIND_PROXY);
            }
            let output = command.output().expect("sh runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{downloader} {proxy:?}: {said}");
            assert!(machine.installed().exists(), "{downloader} {proxy:?}");
        }
    }
}

#[test]
fn a_machine_without_curl_and_wget_is_told_so() {
    let (archive, list) = release();
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    let mut command = machine.command(&format!("{ROOT}/scripts/install"), &[]);
    let output = command.env("PATH", machine.path_with(&[])).output().expect("sh runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("curl or wget is required"));
}

#[test]
fn several_installations_at_once_leave_one_program() {
    let (archive, list) = release();
    let machine = Machine::with_release(&[(ARCHIVE, archive), ("SHA256SUMS", list)]);
    let script = format!("{ROOT}/scripts/install");
    let start = |_| machine.command(&script, &[]).stdout(Stdio::null()).spawn().expect("sh runs");
    let running: Vec<_> = (0..4).map(start).collect();
    for mut installation in running {
        assert!(installation.wait().expect("an exit status").success());
    }
    let folder = machine.installed();
    let left = fs::read_dir(folder.parent().expect("a folder")).expect("a folder");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["tilt-honeycomb"]);
}

//! `--vcs`: events say what is checked out where the Tiltfile is, and git is asked no more often
//! than that can have changed.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::sandbox::{Outcome, RECORDED, Sandbox, eventually, in_some_tries};
use fakes::honeycomb::Server;

/// A machine whose Tiltfile is in a checkout of its own, and whose `git` notes how it is called.
struct Developer {
    sandbox: Sandbox,
}

impl Developer {
    fn new() -> Self {
        let developer = Self { sandbox: Sandbox::new() };
        developer.install_git(&format!(
            "echo \"$*\" >>'{}'; exec git \"$@\"",
            developer.sandbox.path("asked").display()
        ));
        let tiltfile = developer.sandbox.path("work/Tiltfile");
        developer.sandbox.tilt().change("uisession", |sessions| {
            sessions[0]["status"]["tiltfileKey"] = tiltfile.to_str().into();
        });
        developer
    }

    fn with_a_checkout() -> Self {
        let developer = Self::new();
        developer.git(&["init", "-q"]);
        developer.git(&["remote", "add", "origin", "https://ann:t0ken@host.example/acme/shop.git"]);
        developer.git(&["checkout", "-q", "-b", "fix-cart"]);
        developer.commit();
        developer
    }

    /// A program of this name in front of the real one.
    fn install_git(&self, script: &str) {
        let path = std::env::var("PATH").expect("a PATH");
        self.sandbox.install("git", &format!("PATH='{path}'\n{script}"));
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@host.example"])
            .args(arguments)
            .current_dir(self.folder())
            .env("HOME", self.sandbox.path("home"))
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn commit(&self) {
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
    }

    fn folder(&self) -> PathBuf {
        self.sandbox.path("work")
    }

    fn revision(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.sandbox.path("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }
}

/// `None` where git took longer to answer than it may.
fn unless_late<T>(outcome: T, stderr: &str) -> Option<T> {
    (!stderr.contains("no answer after 1s")).then_some(outcome)
}

/// A single look, to which git has answered in time.
fn look(developer: &Developer, variables: &[(&str, &str)]) -> Outcome {
    in_some_tries("an answer of git's", || {
        let mut run = developer.sandbox.run("--once --dry-run --vcs --verbose");
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let outcome = run.finish().exits_with(0);
        let stderr = outcome.stderr.clone();
        unless_late(outcome, &stderr)
    })
}

fn vcs(event: &Value) -> Vec<(String, String)> {
    let fields = event["data"].as_object().expect("fields").iter();
    let fields = fields.filter(|(name, _)| name.starts_with("vcs."));
    fields.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect()
}

fn fields(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn on_request_every_event_says_which_repository_branch_and_commit_is_checked_out() {
    let developer = Developer::with_a_checkout();
    let outcome = look(&developer, &[]);
    let expected = fields(&[
        ("vcs.ref.head.name", "fix-cart"),
        ("vcs.ref.head.revision", &developer.revision()),
        ("vcs.repository.name", "shop"),
    ]);
    assert_eq!(outcome.events().len(), RECORDED);
    for event in outcome.events() {
        assert_eq!(vcs(&event), expected);
    }
    assert!(!outcome.stdout.contains("t0ken"), "{}", outcome.stdout);
}

#[test]
fn unasked_nothing_is_said_of_the_checkout_and_git_is_not_run() {
    let developer = Developer::with_a_checkout();
    let outcome = developer.sandbox.run("--once --dry-run").finish().exits_with(0);
    assert_eq!(outcome.events().len(), RECORDED);
    assert!(outcome.events().iter().all(|event| vcs(event).is_empty()));
    assert_eq!(developer.asked(), Vec::<String>::new());
}

#[test]
fn git_is_asked_when_tilt_starts_and_when_something_else_is_checked_out_or_committed() {
    in_some_tries("answers of git's", git_is_asked);
}

fn git_is_asked() -> Option<()> {
    let developer = Developer::with_a_checkout();
    let server = Server::start();
    let sidecar = developer.sandbox.sidecar_to(&server).args(&["--vcs", "--verbose"]).start();
    let said = |expected: &[(&str, &str)]| {
        let expected = fields(expected);
        eventually(&format!("{expected:?}"), || {
            server.accepted().last().is_some_and(|event| vcs(event) == expected)
        });
    };
    let first = developer.revision();
    said(&[
        ("vcs.ref.head.name", "fix-cart"),
        ("vcs.ref.head.revision", &first),
        ("vcs.repository.name", "shop"),
    ]);
    let reports = |count| eventually("reports", || server.requests().len() >= count);
    reports(3);
    unless_late((), &sidecar.stderr())?;
    assert_eq!(developer.asked().len(), 2, "{:?}", developer.asked());

    developer.commit();
    let second = developer.revision();
    assert_ne!(first, second);
    said(&[
        ("vcs.ref.head.name", "fix-cart"),
        ("vcs.ref.head.revision", &second),
        ("vcs.repository.name", "shop"),
    ]);
    developer.git(&["checkout", "-q", "--detach", &first]);
    said(&[("vcs.ref.head.revision", &first), ("vcs.repository.name", "shop")]);
    reports(server.requests().len() + 2);
    unless_late((), &sidecar.stderr())?;
    assert_eq!(developer.asked().len(), 4, "{:?}", developer.asked());
    assert!(sidecar.is_running());
    Some(())
}

/// As `git init --ref-format=reftable` has it: neither `HEAD` nor a log of it changes.
#[test]
fn a_commit_is_noticed_where_git_keeps_its_refs_as_tables() {
    let developer = Developer::with_a_checkout();
    developer.install_git("git \"$@\" | sed 's,/HEAD$,/no-such-file,'");
    let tables = developer.folder().join(".git/reftable");
    std::fs::create_dir(&tables).expect("a folder");
    std::fs::write(tables.join("tables.list"), "first").expect("a file");
    let server = Server::start();
    let _sidecar = developer.sandbox.sidecar_to(&server).args(&["--vcs"]).start();
    let says = |revision: &str| {
        eventually("the commit", || {
            let last = server.accepted().pop();
            last.is_some_and(|event| event["data"]["vcs.ref.head.revision"] == revision)
        });
    };
    says(&developer.revision());
    developer.commit();
    std::fs::write(tables.join("tables.list"), "second").expect("a file");
    says(&developer.revision());
}

#[test]
fn without_git_a_repository_or_a_first_commit_the_report_is_the_same() {
    let bare = Developer::new();
    let empty = Developer::new();
    empty.git(&["init", "-q"]);
    let without_git = Developer::with_a_checkout();
    std::fs::remove_file(without_git.sandbox.path("bin/git")).expect("it was there");
    for developer in [bare, empty, without_git] {
        let run = developer.sandbox.run("--once --dry-run --vcs").finish().exits_with(0);
        assert_eq!(run.events().len(), RECORDED);
        assert!(run.events().iter().all(|event| vcs(event).is_empty()));
    }
}

#[test]
fn a_git_that_hangs_does_not_hold_up_the_report() {
    let developer = Developer::with_a_checkout();
    developer.install_git("exec sleep 600");
    let server = Server::start();
    let run = developer.sandbox.report_to(&server).args(&["--vcs"]).finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}

#[test]
fn of_a_git_that_hangs_nothing_that_it_started_lives_on() {
    let developer = Developer::with_a_checkout();
    let beats = developer.sandbox.path("beats");
    let beat = format!("while :; do echo >>'{}'; sleep 0.05; done", beats.display());
    developer.install_git(&format!("({beat}) & wait"));
    let server = Server::start();
    developer.sandbox.report_to(&server).args(&["--vcs"]).finish().exits_with(0);
    let count = || std::fs::read(&beats).expect("it ran").len();
    let so_far = count();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(count(), so_far);
}

#[test]
fn a_git_that_was_late_once_is_asked_for_the_repository_again() {
    let developer = Developer::with_a_checkout();
    let slow = developer.sandbox.path("was-slow");
    developer.install_git(&format!(
        "[ -e '{0}' ] || {{ : >'{0}'; sleep 3; }}; exec git \"$@\"",
        slow.display()
    ));
    let server = Server::start();
    let _sidecar = developer.sandbox.sidecar_to(&server).args(&["--vcs"]).start();
    eventually("a report", || !server.requests().is_empty());
    developer.commit();
    let revision = developer.revision();
    let expected = fields(&[
        ("vcs.ref.head.name", "fix-cart"),
        ("vcs.ref.head.revision", &revision),
        ("vcs.repository.name", "shop"),
    ]);
    eventually("all of it", || {
        server.accepted().last().is_some_and(|event| vcs(event) == expected)
    });
}

#[test]
fn a_commit_while_git_answers_is_not_overlooked() {
    let developer = Developer::with_a_checkout();
    let (folder, flag) = (developer.folder(), developer.sandbox.path("commit-once"));
    developer.install_git(&format!(
        "git \"$@\"; status=$?; if [ \"$1\" = rev-parse ] && [ -e '{0}' ]; then rm '{0}'; cd '{1}'; \
         git -c user.name=Ann -c user.email=a@b.c commit -q --allow-empty -m second; fi; exit $status",
        flag.display(),
        folder.display()
    ));
    let server = Server::start();
    let _sidecar = developer.sandbox.sidecar_to(&server).args(&["--vcs"]).start();
    eventually("reports", || server.requests().len() >= 2);
    std::fs::write(&flag, "").expect("a file");
    developer.commit();
    eventually("the second commit", || !flag.exists());
    eventually("it is told", || {
        let last = server.accepted().pop().expect("an event");
        last["data"]["vcs.ref.head.revision"] == developer.revision().as_str()
    });
}

#[test]
fn a_git_that_hangs_after_a_commit_is_not_asked_at_every_report() {
    in_some_tries("answers of git's", git_hangs_after_a_commit);
}

fn git_hangs_after_a_commit() -> Option<()> {
    let developer = Developer::with_a_checkout();
    let server = Server::start();
    let sidecar = developer.sandbox.sidecar_to(&server).args(&["--vcs", "--verbose"]).start();
    eventually("reports", || server.requests().len() >= 2);
    unless_late((), &sidecar.stderr())?;
    let asked = developer.sandbox.path("asked");
    developer.install_git(&format!("echo \"$*\" >>'{}'; exec sleep 600", asked.display()));
    let before = developer.asked().len();
    developer.commit();
    let requests = server.requests().len();
    eventually("reports go on", || server.requests().len() >= requests + 6);
    let since = developer.asked().split_off(before);
    assert!((1..=2).contains(&since.len()), "{since:?}");
    let last = server.accepted().pop().expect("an event");
    assert_eq!(last["data"]["vcs.repository.name"], "shop", "what it last told stays");
    Some(())
}

#[test]
fn on_a_ci_machine_its_provider_has_the_last_word() {
    let developer = Developer::with_a_checkout();
    let variables =
        [("CI", "true"), ("GITHUB_ACTIONS", "true"), ("GITHUB_HEAD_REF", "their-branch")];
    for event in look(&developer, &variables).events() {
        assert_eq!(event["data"]["vcs.ref.head.name"], "their-branch");
        assert_eq!(event["data"]["vcs.repository.name"], "shop");
    }
}

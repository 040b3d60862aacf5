//! `--vcs` adds the checkout of the Tiltfile to events. Git runs only when the checkout may have
//! changed.

use std::path::PathBuf;
use std::process::Command;

use fakes::honeycomb::Server;
use serde_json::Value;

use crate::support::{Outcome, RECORDED_EVENTS, Sandbox, eventually, retry};

/// A machine whose Tiltfile is in a git checkout. Its `git` records each call.
struct Developer {
    sandbox: Sandbox,
}

impl Developer {
    fn new() -> Self {
        let developer = Self { sandbox: Sandbox::new() };
        developer.install_git(&format!(
            "echo \"$*\" >>'{}'; exec git \"$@\"",
            developer.sandbox.path("git-calls").display()
        ));
        let tiltfile = developer.sandbox.path("work/Tiltfile");
        developer.sandbox.tilt().change("uisession", |sessions| {
            sessions[0]["status"]["tiltfileKey"] = tiltfile.to_str().into();
        });
        developer
    }

    fn with_checkout() -> Self {
        let developer = Self::new();
        developer.git(&["init", "-q"]);
        developer.git(&["remote", "add", "origin", "https://ann:t0ken@host.example/acme/shop.git"]);
        developer.git(&["checkout", "-q", "-b", "fix-cart"]);
        developer.commit();
        developer
    }

    /// Installs a script as `git` on PATH. The script can run the real git.
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

    fn git_calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.sandbox.path("git-calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

/// Returns `None` if git exceeded its timeout.
fn unless_git_was_slow<T>(outcome: T, stderr: &str) -> Option<T> {
    (!stderr.contains("no response after 1s")).then_some(outcome)
}

/// Runs a single report in which git answered in time.
fn report_with_git(developer: &Developer, variables: &[(&str, &str)]) -> Outcome {
    retry("git answers in time", || {
        let mut run = developer.sandbox.run("--once --dry-run --vcs --verbose");
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let outcome = run.finish().exits_with(0);
        let stderr = outcome.stderr.clone();
        unless_git_was_slow(outcome, &stderr)
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

/// The fields at this commit of the branch.
fn on_branch(revision: &str) -> [(&str, &str); 3] {
    [
        ("vcs.ref.head.name", "fix-cart"),
        ("vcs.ref.head.revision", revision),
        ("vcs.repository.name", "shop"),
    ]
}

#[test]
#[cfg_attr(windows, ignore = "the stand-in for git is a shell script")]
fn vcs_adds_repository_branch_and_commit_to_every_event() {
    let developer = Developer::with_checkout();
    let outcome = report_with_git(&developer, &[]);
    let expected = fields(&on_branch(&developer.revision()));
    assert_eq!(outcome.events().len(), RECORDED_EVENTS);
    for event in outcome.events() {
        assert_eq!(vcs(&event), expected);
    }
    assert!(!outcome.stdout.contains("t0ken"), "{}", outcome.stdout);
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn git_variables_of_the_caller_do_not_change_the_fields() {
    let developer = Developer::with_checkout();
    let outcome = report_with_git(&developer, &[("GIT_DIR", "/missing"), ("GIT_TRACE", "2")]);
    let expected = fields(&on_branch(&developer.revision()));
    assert!(outcome.events().iter().all(|event| vcs(event) == expected));
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn without_vcs_git_does_not_run() {
    let developer = Developer::with_checkout();
    let outcome = developer.sandbox.run("--once --dry-run").finish().exits_with(0);
    assert_eq!(outcome.events().len(), RECORDED_EVENTS);
    assert!(outcome.events().iter().all(|event| vcs(event).is_empty()));
    assert_eq!(developer.git_calls(), Vec::<String>::new());
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn git_runs_at_start_and_after_a_checkout_or_commit_only() {
    retry("git answers in time", git_calls);
}

fn git_calls() -> Option<()> {
    let developer = Developer::with_checkout();
    let server = Server::start();
    let sidecar =
        developer.sandbox.polling_sidecar_to(&server).args(&["--vcs", "--verbose"]).start();
    let wait_for = |expected: &[(&str, &str)]| {
        let expected = fields(expected);
        eventually(&format!("{expected:?}"), || {
            server.accepted().last().is_some_and(|event| vcs(event) == expected)
        });
    };
    let first = developer.revision();
    wait_for(&on_branch(&first));
    let reports = |count| eventually("reports", || server.requests().len() >= count);
    reports(3);
    unless_git_was_slow((), &sidecar.stderr())?;
    assert_eq!(developer.git_calls().len(), 2, "{:?}", developer.git_calls());

    developer.commit();
    let second = developer.revision();
    assert_ne!(first, second);
    wait_for(&on_branch(&second));
    developer.git(&["checkout", "-q", "--detach", &first]);
    wait_for(&[("vcs.ref.head.revision", &first), ("vcs.repository.name", "shop")]);
    reports(server.requests().len() + 2);
    unless_git_was_slow((), &sidecar.stderr())?;
    assert_eq!(developer.git_calls().len(), 4, "{:?}", developer.git_calls());
    assert!(sidecar.is_running());
    Some(())
}

/// With `git init --ref-format=reftable`, a commit changes neither `HEAD` nor its log.
#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn a_commit_in_a_reftable_repository_is_noticed() {
    let developer = Developer::with_checkout();
    developer.install_git("git \"$@\" | sed 's,/HEAD$,/no-such-file,'");
    let tables = developer.folder().join(".git/reftable");
    std::fs::create_dir(&tables).expect("a folder");
    std::fs::write(tables.join("tables.list"), "first").expect("a file");
    let server = Server::start();
    let _sidecar = developer.sandbox.polling_sidecar_to(&server).args(&["--vcs"]).start();
    let wait_for = |revision: &str| {
        eventually("the commit", || {
            let last = server.accepted().pop();
            last.is_some_and(|event| event["data"]["vcs.ref.head.revision"] == revision)
        });
    };
    wait_for(&developer.revision());
    developer.commit();
    std::fs::write(tables.join("tables.list"), "second").expect("a file");
    wait_for(&developer.revision());
}

#[test]
#[cfg_attr(windows, ignore = "the stand-in for git is a shell script")]
fn a_report_works_without_git_a_repository_or_a_commit() {
    let bare = Developer::new();
    let empty = Developer::new();
    empty.git(&["init", "-q"]);
    let without_git = Developer::with_checkout();
    std::fs::remove_file(without_git.sandbox.path("bin/git")).expect("an installed git");
    for developer in [bare, empty, without_git] {
        let run = developer.sandbox.run("--once --dry-run --vcs").finish().exits_with(0);
        assert_eq!(run.events().len(), RECORDED_EVENTS);
        assert!(run.events().iter().all(|event| vcs(event).is_empty()));
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn a_hung_git_does_not_delay_the_report() {
    let developer = Developer::with_checkout();
    developer.install_git("exec sleep 600");
    let server = Server::start();
    let run = developer.sandbox.report_to(&server).args(&["--vcs"]).finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn a_hung_git_is_killed_with_its_children() {
    let developer = Developer::with_checkout();
    let beats = developer.sandbox.path("beats");
    let beat = format!("while :; do echo >>'{}'; sleep 0.05; done", beats.display());
    developer.install_git(&format!("({beat}) & wait"));
    let server = Server::start();
    developer.sandbox.report_to(&server).args(&["--vcs"]).finish().exits_with(0);
    let count = || std::fs::read(&beats).expect("git ran").len();
    let so_far = count();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(count(), so_far);
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn the_repository_is_asked_for_again_after_a_timeout() {
    let developer = Developer::with_checkout();
    let slow = developer.sandbox.path("was-slow");
    developer.install_git(&format!(
        "[ -e '{0}' ] || {{ : >'{0}'; sleep 3; }}; exec git \"$@\"",
        slow.display()
    ));
    let server = Server::start();
    let _sidecar = developer.sandbox.polling_sidecar_to(&server).args(&["--vcs"]).start();
    eventually("a report", || !server.requests().is_empty());
    developer.commit();
    let revision = developer.revision();
    let expected = fields(&on_branch(&revision));
    eventually("all fields", || {
        server.accepted().last().is_some_and(|event| vcs(event) == expected)
    });
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn a_commit_while_git_runs_is_noticed() {
    let developer = Developer::with_checkout();
    let (folder, flag) = (developer.folder(), developer.sandbox.path("commit-once"));
    developer.install_git(&format!(
        "git \"$@\"; status=$?; if [ \"$1\" = rev-parse ] && [ -e '{0}' ]; then rm '{0}'; cd '{1}'; \
         git -c user.name=Ann -c user.email=a@b.c commit -q --allow-empty -m second; fi; exit $status",
        flag.display(),
        folder.display()
    ));
    let server = Server::start();
    let _sidecar = developer.sandbox.polling_sidecar_to(&server).args(&["--vcs"]).start();
    eventually("reports", || server.requests().len() >= 2);
    std::fs::write(&flag, "").expect("a file");
    developer.commit();
    eventually("the second commit", || !flag.exists());
    eventually("the new revision", || {
        let last = server.accepted().pop().expect("an event");
        last["data"]["vcs.ref.head.revision"] == developer.revision().as_str()
    });
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn a_git_that_hangs_after_a_commit_does_not_run_every_report() {
    retry("git answers in time", git_hangs_after_a_commit);
}

fn git_hangs_after_a_commit() -> Option<()> {
    let developer = Developer::with_checkout();
    let server = Server::start();
    let sidecar =
        developer.sandbox.polling_sidecar_to(&server).args(&["--vcs", "--verbose"]).start();
    eventually("reports", || server.requests().len() >= 2);
    unless_git_was_slow((), &sidecar.stderr())?;
    let calls = developer.sandbox.path("git-calls");
    developer.install_git(&format!("echo \"$*\" >>'{}'; exec sleep 600", calls.display()));
    let before = developer.git_calls().len();
    developer.commit();
    let requests = server.requests().len();
    eventually("reports go on", || server.requests().len() >= requests + 6);
    let since = developer.git_calls().split_off(before);
    assert!((1..=2).contains(&since.len()), "{since:?}");
    let last = server.accepted().pop().expect("an event");
    assert_eq!(last["data"]["vcs.repository.name"], "shop", "the last known fields stay");
    Some(())
}

#[test]
#[cfg_attr(windows, ignore = "needs a shell script")]
fn the_ci_providers_fields_override_those_of_git() {
    let developer = Developer::with_checkout();
    let variables =
        [("CI", "true"), ("GITHUB_ACTIONS", "true"), ("GITHUB_HEAD_REF", "their-branch")];
    for event in report_with_git(&developer, &variables).events() {
        assert_eq!(event["data"]["vcs.ref.head.name"], "their-branch");
        assert_eq!(event["data"]["vcs.repository.name"], "shop");
    }
}

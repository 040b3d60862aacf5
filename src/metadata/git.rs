//! Describes the git checkout that the Tiltfile is in, with the field names of OpenTelemetry's
//! conventions. No other file runs `git`.
//!
//! `git` runs when Tilt starts, and again after a checkout or a commit. The modification times of a
//! few files show that one may have happened. A value that `git` does not know is absent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::base::child::{self, ProcessGroup};
use crate::base::process_tree::ProcessTree;
use crate::base::time;
use crate::events::common_fields::Context;
use crate::metadata::ci;
use crate::tilt::model::Session;

/// The longest time for one call. `git` needs some milliseconds, but a slow file system must not delay
/// a report.
const GIT_TIMEOUT: Duration = Duration::from_secs(1);
/// When to run `git` again after it failed. It may have been busy, or there may be no commit yet.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// The files that `git` writes at each checkout and each commit. A repository that stores its refs as
/// tables has only the last one.
const CHANGED_FILES: [&str; 3] = ["HEAD", "logs/HEAD", "reftable/tables.list"];

/// The checkout in a folder, as `git` last described it.
#[derive(Debug)]
pub struct Checkout {
    folder: PathBuf,
    repository: Option<String>,
    branch: Option<String>,
    revision: Option<String>,
    /// The paths of [`CHANGED_FILES`].
    files: Vec<PathBuf>,
    /// The modification times of `files` before `git` ran.
    modified: Vec<Option<SystemTime>>,
    /// True if the last call described the checkout.
    is_known: bool,
    /// True once `git` has given the URL of the remote, or said that there is none.
    is_repository_known: bool,
    refreshed_at: Instant,
}

/// A call of `git` took too long and was killed.
struct TimedOut;

impl Checkout {
    fn of(folder: &Path) -> Self {
        let mut checkout = Self {
            folder: folder.to_owned(),
            repository: None,
            branch: None,
            revision: None,
            files: Vec::new(),
            modified: Vec::new(),
            is_known: false,
            is_repository_known: false,
            refreshed_at: time::now(),
        };
        checkout.refresh();
        checkout
    }

    /// Runs `git`. If it times out, the last values stay.
    fn refresh(&mut self) {
        self.refreshed_at = time::now();
        // Taken before `git` runs, so that a checkout during the call counts as a change afterwards.
        let modified = modified(&self.files);
        if !(self.is_repository_known && self.is_known) {
            self.refresh_repository();
        }
        let mut arguments = vec!["rev-parse"];
        arguments.extend(CHANGED_FILES.iter().flat_map(|file| ["--git-path", file]));
        arguments.extend(["HEAD", "--abbrev-ref", "HEAD"]);
        if let Ok(output) = git(&self.folder, &arguments) {
            self.is_known = output.is_some();
            self.read(&output.unwrap_or_default(), modified);
        } else {
            self.is_known = false;
            self.modified = modified;
        }
    }

    fn refresh_repository(&mut self) {
        if let Ok(url) = git(&self.folder, &["config", "--get", "remote.origin.url"]) {
            self.repository = url.and_then(|url| ci::repository(url.trim()));
            self.is_repository_known = true;
        }
    }

    /// Reads the output of `git rev-parse`: the paths, the revision and the branch, one a line.
    fn read(&mut self, output: &str, modified_before: Vec<Option<SystemTime>>) {
        let mut lines = output.lines();
        let files: Vec<_> =
            lines.by_ref().take(CHANGED_FILES.len()).map(|path| self.folder.join(path)).collect();
        if files.is_empty() || files == self.files {
            self.modified = modified_before;
        } else {
            self.files = files;
            self.modified = modified(&self.files);
        }
        self.revision = lines.next().map(str::to_owned);
        // `git` prints `HEAD` as the name of a branch that does not exist.
        self.branch = lines.next().filter(|name| *name != "HEAD").map(str::to_owned);
    }

    fn is_current(&self) -> bool {
        let needs_no_retry = self.is_known || self.refreshed_at.elapsed() < RETRY_AFTER;
        needs_no_retry && modified(&self.files) == self.modified
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let fields = [
            ("vcs.repository.name", &self.repository),
            ("vcs.ref.head.name", &self.branch),
            ("vcs.ref.head.revision", &self.revision),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// Updates `context.checkout` to the checkout in the Tiltfile's folder, if `--vcs` is set.
///
/// `known` is the result of the last call. `git` runs only if that is missing, of another folder or
/// outdated.
pub fn update_checkout(
    context: &mut Context,
    session: Option<&Session>,
    known: &mut Option<Checkout>,
) {
    if !context.vcs {
        return;
    }
    let tiltfile = session.and_then(|session| session.tiltfile.as_deref()).map(Path::new);
    let folder = tiltfile.filter(|path| path.is_absolute()).and_then(Path::parent);
    match (folder, &mut *known) {
        (None, _) => *known = None,
        (Some(folder), Some(checkout)) if checkout.folder == folder => {
            if checkout.is_current() {
                return;
            }
            checkout.refresh();
        }
        (Some(folder), _) => *known = Some(Checkout::of(folder)),
    }
    context.checkout = known.as_ref().map(Checkout::fields).unwrap_or_default();
}

/// Returns `context` with the checkout in the Tiltfile's folder, for a command that reports once.
pub fn with_checkout(context: &Context, session: Option<&Session>) -> Context {
    let mut context = context.clone();
    update_checkout(&mut context, session, &mut None);
    context
}

/// Returns what `git` prints, or `None` if it fails or is not installed.
fn git(folder: &Path, arguments: &[&str]) -> Result<Option<String>, TimedOut> {
    let mut expression = child::command("git", arguments, ProcessGroup::Own)
        .dir(folder)
        .stdout_capture()
        .stderr_null();
    // In a git hook, `GIT_DIR` and others point to the repository of the hook.
    for name in child::variables_with_prefix("GIT_") {
        expression = expression.env_remove(name);
    }
    let Ok(handle) = expression.start() else { return Ok(None) };
    let trees: Vec<_> = handle.pids().into_iter().map(ProcessTree::of).collect();
    let output = handle.wait_timeout(GIT_TIMEOUT).ok().flatten();
    let Some(output) = output else {
        log::debug!("git {}: no response after {GIT_TIMEOUT:?}; killed it", arguments[0]);
        // `git` may be a script, and the real one that it started hangs.
        trees.iter().for_each(ProcessTree::kill);
        let _ = handle.kill();
        return Err(TimedOut);
    };
    let text = String::from_utf8(output.stdout.clone()).ok();
    Ok(text.filter(|_| output.status.success()))
}

fn modified(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| file.metadata().and_then(|metadata| metadata.modified()).ok()).collect()
}

//! The only file that runs `git`: which repository, branch and revision a folder has checked out,
//! as fields under the names of OpenTelemetry's conventions.
//!
//! The dates of a few files tell whether that may have changed, so git runs when Tilt starts and
//! when something else is checked out or committed. What git does not say, no event says.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::base::child::{self, ProcessGroup};
use crate::base::time;
use crate::events::common_fields::Context;
use crate::metadata::ci;
use crate::tilt::model::Session;

/// What it is asked takes git some milliseconds; a folder that hangs must not hold up a report.
const PATIENCE: Duration = Duration::from_secs(1);
/// A git that had nothing to say is asked again after this: it was busy, or the first commit comes.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// What git writes to at each checkout and each commit; where it keeps refs as tables, only the last.
const TOUCHED: [&str; 3] = ["HEAD", "logs/HEAD", "reftable/tables.list"];

/// A folder's checkout, as git last told of it.
#[derive(Debug)]
pub struct Checkout {
    folder: PathBuf,
    repository: Option<String>,
    branch: Option<String>,
    revision: Option<String>,
    /// [`TOUCHED`], where git has them.
    touched: Vec<PathBuf>,
    /// When it last did.
    dates: Vec<Option<SystemTime>>,
    has_answered: bool,
    /// It said what its remote is, or that it has none.
    knows_repository: bool,
    asked_at: Instant,
}

/// It took too long.
struct Late;

impl Checkout {
    fn of(folder: &Path) -> Self {
        let mut checkout = Self {
            folder: folder.to_owned(),
            repository: None,
            branch: None,
            revision: None,
            touched: Vec::new(),
            dates: Vec::new(),
            has_answered: false,
            knows_repository: false,
            asked_at: time::now(),
        };
        checkout.observation();
        checkout
    }

    /// Where git is late, what it last told stays.
    fn observation(&mut self) {
        self.asked_at = time::now();
        // Before git answers: what is checked out meanwhile is a change that is yet to be told.
        let dates_before = dates(&self.touched);
        if !(self.knows_repository && self.has_answered)
            && let Ok(address) = git(&self.folder, &["config", "--get", "remote.origin.url"])
        {
            self.repository = address.and_then(|url| ci::repository(url.trim()));
            self.knows_repository = true;
        }
        let mut asked = vec!["rev-parse"];
        asked.extend(TOUCHED.iter().flat_map(|file| ["--git-path", file]));
        asked.extend(["HEAD", "--abbrev-ref", "HEAD"]);
        let Ok(said) = git(&self.folder, &asked) else {
            self.has_answered = false;
            self.dates = dates_before;
            return;
        };
        self.has_answered = said.is_some();
        let said = said.unwrap_or_default();
        let mut lines = said.lines();
        let paths: Vec<_> =
            lines.by_ref().take(TOUCHED.len()).map(|path| self.folder.join(path)).collect();
        if paths.is_empty() || paths == self.touched {
            self.dates = dates_before;
        } else {
            self.touched = paths;
            self.dates = dates(&self.touched);
        }
        self.revision = lines.next().map(str::to_owned);
        // Of what is checked out without a branch, git says `HEAD`.
        self.branch = lines.next().filter(|name| *name != "HEAD").map(str::to_owned);
    }

    fn is_current(&self) -> bool {
        let is_settled = self.has_answered || self.asked_at.elapsed() < AGAIN_AFTER;
        is_settled && dates(&self.touched) == self.dates
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

/// Tells the context, if the person asked for it, what is checked out where the Tiltfile is.
/// `known` is what it was the last time.
pub fn locate(context: &mut Context, session: Option<&Session>, known: &mut Option<Checkout>) {
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
            checkout.observation();
        }
        (Some(folder), _) => *known = Some(Checkout::of(folder)),
    }
    context.checkout = known.as_ref().map(Checkout::fields).unwrap_or_default();
}

/// The same for a report that is the only one.
pub fn located(context: &Context, session: Option<&Session>) -> Context {
    let mut context = context.clone();
    locate(&mut context, session, &mut None);
    context
}

/// What git prints; nothing where it fails or is not installed.
fn git(folder: &Path, arguments: &[&str]) -> Result<Option<String>, Late> {
    let expression = child::command("git", arguments, ProcessGroup::Own)
        .dir(folder)
        .stdout_capture()
        .stderr_null();
    let Ok(handle) = expression.start() else { return Ok(None) };
    let output = handle.wait_timeout(PATIENCE).ok().flatten();
    let Some(output) = output else {
        log::debug!("git {}: no answer after {PATIENCE:?}", arguments[0]);
        // It may be a script, and what hangs the git that it runs.
        handle.pids().into_iter().for_each(child::kill_group);
        let _ = handle.kill();
        return Err(Late);
    };
    let said = String::from_utf8(output.stdout.clone()).ok();
    Ok(said.filter(|_| output.status.success()))
}

fn dates(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| file.metadata().and_then(|metadata| metadata.modified()).ok()).collect()
}

//! Keeps the watches that a sidecar needs: of resources always, of a kind of image while there
//! are objects of that kind, since each watch is a `tilt` process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::config::TiltCommand;
use crate::honeycomb::sender::jitter;
use crate::sidecar::live_view::LiveView;
use crate::tilt::client::{Watch, WatchEvent, WatchTarget};
use crate::tilt::model::ImageKind;

/// A watch that lived for less does not work, however often it is started.
const WORKS_FOR: Duration = Duration::from_secs(10);
/// A watch begins with what there is: one that shows nothing for so long hangs.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// Tilt's end ends all its watches within moments.
const SAME_END: Duration = Duration::from_millis(400);
const ALL: [WatchTarget; 3] = [
    WatchTarget::Resources,
    WatchTarget::Images(ImageKind::Docker),
    WatchTarget::Images(ImageKind::Cmd),
];
const IMAGES: [ImageKind; 2] = [ImageKind::Docker, ImageKind::Cmd];

type Tell = Arc<dyn Fn(WatchTarget, WatchEvent) -> bool + Send + Sync>;

#[expect(missing_debug_implementations, reason = "a closure shows nothing")]
pub struct WatchSet {
    command: TiltCommand,
    tell: Tell,
    resources: Option<ActiveWatch>,
    images: [Option<ActiveWatch>; 2],
    ended_at: Instant,
    failures: u32,
    not_before: Instant,
    /// Why the last watch ended.
    why: String,
    /// The watch that was said to be missing.
    said: Option<WatchTarget>,
}

struct ActiveWatch {
    _watch: Watch,
    since: Instant,
    has_shown: bool,
    is_followed: Arc<AtomicBool>,
}

impl Drop for ActiveWatch {
    fn drop(&mut self) {
        // What its thread has to say after this is not of the watch that follows it.
        self.is_followed.store(false, Ordering::Relaxed);
    }
}

impl WatchSet {
    pub fn new(command: TiltCommand, tell: Tell, now: Instant) -> Self {
        Self {
            command,
            tell,
            resources: None,
            images: [None, None],
            ended_at: now,
            failures: 0,
            not_before: now,
            why: String::new(),
            said: None,
        }
    }

    /// Whether a watch shows what becomes of resources.
    pub fn is_on(&self) -> bool {
        self.resources.is_some()
    }

    /// Whether watches show all that changes: no look would tell more.
    pub fn shows_all(&self, view: &LiveView) -> bool {
        self.missing(view).is_none()
    }

    fn missing(&self, view: &LiveView) -> Option<WatchTarget> {
        let is_missing =
            |kind: &ImageKind| view.has_images(*kind) && self.images[*kind as usize].is_none();
        match self.resources {
            None => Some(WatchTarget::Resources),
            Some(_) => IMAGES.into_iter().find(is_missing).map(WatchTarget::Images),
        }
    }

    /// Starts what is missing and ends what has nothing to show, after a look at everything. When to
    /// look again, if something stays missing.
    pub fn keep_up(&mut self, view: &LiveView, now: Instant) -> Option<Instant> {
        if now >= self.not_before {
            self.start_what_is_missing(view, now);
        } else if let Some(missing) = self.missing(view) {
            self.say(missing);
        }
        (!self.shows_all(view)).then_some(self.not_before)
    }

    fn say(&mut self, missing: WatchTarget) {
        if self.said == Some(missing) {
            return;
        }
        self.said = Some(missing);
        let what = match missing {
            WatchTarget::Resources => "tilt",
            WatchTarget::Images(_) => "tilt's images",
        };
        log::warn!("cannot watch {what} ({}): only looking at every interval", self.why);
    }

    fn start_what_is_missing(&mut self, view: &LiveView, now: Instant) {
        if self.resources.is_none() {
            self.resources = self.start(WatchTarget::Resources, now);
        }
        for kind in IMAGES {
            if !view.has_images(kind) {
                self.images[kind as usize] = None;
            } else if self.images[kind as usize].is_none() && self.is_on() {
                self.images[kind as usize] = self.start(WatchTarget::Images(kind), now);
            }
        }
    }

    fn start(&mut self, watched: WatchTarget, now: Instant) -> Option<ActiveWatch> {
        let tell = Arc::clone(&self.tell);
        let is_followed = Arc::new(AtomicBool::new(true));
        let is_mine = Arc::clone(&is_followed);
        let tell = move |sight| is_mine.load(Ordering::Relaxed) && tell(watched, sight);
        match Watch::start(&self.command, watched, tell) {
            Ok(watch) => {
                Some(ActiveWatch { _watch: watch, since: now, has_shown: false, is_followed })
            }
            Err(error) => {
                self.why = error.to_string();
                self.not_before = now + backoff::until_next_watch(2, jitter());
                None
            }
        }
    }

    /// A watch has shown something: it works.
    pub fn shown(&mut self, watched: WatchTarget) {
        if let Some(followed) = self.slot(watched) {
            followed.has_shown = true;
        }
        if self.said == Some(watched) {
            self.said = None;
            log::info!("watching tilt again");
        }
    }

    /// Ends the watches that hang; whether there were any.
    pub fn end_hanging(&mut self, now: Instant) -> bool {
        let mut has_ended = false;
        for watched in ALL {
            if self.hangs(watched, now) {
                self.ended(watched, "it shows nothing".to_owned(), now);
                has_ended = true;
            }
        }
        has_ended
    }

    fn hangs(&mut self, watched: WatchTarget, now: Instant) -> bool {
        let is_late = |f: &ActiveWatch| now.saturating_duration_since(f.since) >= BEGINS_WITHIN;
        self.slot(watched).as_ref().is_some_and(|followed| !followed.has_shown && is_late(followed))
    }

    fn slot(&mut self, watched: WatchTarget) -> &mut Option<ActiveWatch> {
        match watched {
            WatchTarget::Resources => &mut self.resources,
            WatchTarget::Images(kind) => &mut self.images[kind as usize],
        }
    }

    /// A watch has ended. The first time it is simply started again; a watch that keeps ending at
    /// once is tried more and more rarely.
    pub fn ended(&mut self, watched: WatchTarget, why: String, now: Instant) {
        log::debug!("a watch of {watched:?} ended: {why}");
        if watched == WatchTarget::Resources {
            self.images = [None, None];
        }
        let Some(ended) = self.slot(watched).take() else {
            // It was ended here, and its end says nothing.
            return;
        };
        self.why = why;
        if now.saturating_duration_since(self.ended_at) < SAME_END {
            return;
        }
        self.ended_at = now;
        let lived = now.saturating_duration_since(ended.since);
        let has_worked = ended.has_shown && lived >= WORKS_FOR;
        self.failures = if has_worked { 0 } else { self.failures + 1 };
        self.not_before = now + backoff::until_next_watch(self.failures, jitter());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_late_of_a_watch_that_was_given_up_is_not_of_its_successor() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("tilt");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").expect("a script");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
        let command = TiltCommand { program: program.into(), port: None };
        let (view, began) = (LiveView::default(), crate::base::time::now());
        let (sender, heard) = std::sync::mpsc::channel();
        let tell = Arc::new(move |_, sight| sender.send(sight).is_ok());
        let mut watching = WatchSet::new(command, tell, began);
        watching.keep_up(&view, began);
        assert!(watching.is_on());
        assert!(watching.end_hanging(began + BEGINS_WITHIN), "killed, it ends");
        drop(watching);
        // Its thread has ended by then, as the last that could tell.
        assert_eq!(heard.iter().count(), 0);
    }

    #[test]
    fn a_watch_that_shows_nothing_at_first_is_given_up_and_one_that_did_may_be_quiet() {
        let command = TiltCommand { program: "true".into(), port: None };
        let (view, began) = (LiveView::default(), crate::base::time::now());
        let mut watching = WatchSet::new(command, Arc::new(|_, _| true), began);
        watching.keep_up(&view, began);
        assert!(!watching.end_hanging(began + BEGINS_WITHIN / 2) && watching.is_on());
        let late = began + BEGINS_WITHIN;
        assert!(watching.end_hanging(late) && !watching.is_on());

        watching.keep_up(&view, late);
        assert!(watching.is_on(), "the first time it is simply started again");
        watching.shown(WatchTarget::Resources);
        let much_later = late + Duration::from_hours(1);
        assert!(!watching.end_hanging(much_later) && watching.is_on());
    }
}

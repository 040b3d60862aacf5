//! Keeps the watches that a sidecar needs: of resources always, of a kind of image while there
//! are objects of that kind, since each watch is a `tilt` process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::sidecar::live_view::LiveView;
use crate::tilt::command::TiltCommand;
use crate::tilt::model::ImageKind;
use crate::tilt::watch::{Watch, WatchEvent, WatchTarget};

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
    on_event: Tell,
    resources: Option<ActiveWatch>,
    images: [Option<ActiveWatch>; 2],
    ended_at: Instant,
    failures: u32,
    not_before: Instant,
    /// Why the last watch ended.
    last_error: String,
    /// The watch that was said to be missing.
    reported_missing: Option<WatchTarget>,
}

struct ActiveWatch {
    _watch: Watch,
    since: Instant,
    has_shown: bool,
    is_current: Arc<AtomicBool>,
}

impl Drop for ActiveWatch {
    fn drop(&mut self) {
        // What its thread has to say after this is not of the watch that follows it.
        self.is_current.store(false, Ordering::Relaxed);
    }
}

impl WatchSet {
    pub fn new(command: TiltCommand, on_event: Tell, now: Instant) -> Self {
        Self {
            command,
            on_event,
            resources: None,
            images: [None, None],
            ended_at: now,
            failures: 0,
            not_before: now,
            last_error: String::new(),
            reported_missing: None,
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
    pub fn reconcile(&mut self, view: &LiveView, now: Instant) -> Option<Instant> {
        if now >= self.not_before {
            self.start_missing(view, now);
        } else if let Some(missing) = self.missing(view) {
            self.report_missing(missing);
        }
        (!self.shows_all(view)).then_some(self.not_before)
    }

    fn report_missing(&mut self, missing: WatchTarget) {
        if self.reported_missing == Some(missing) {
            return;
        }
        self.reported_missing = Some(missing);
        let what = match missing {
            WatchTarget::Resources => "tilt",
            WatchTarget::Images(_) => "tilt's images",
        };
        log::warn!("cannot watch {what} ({}): only looking at every interval", self.last_error);
    }

    fn start_missing(&mut self, view: &LiveView, now: Instant) {
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

    fn start(&mut self, target: WatchTarget, now: Instant) -> Option<ActiveWatch> {
        let on_event = Arc::clone(&self.on_event);
        let is_current = Arc::new(AtomicBool::new(true));
        let is_mine = Arc::clone(&is_current);
        let on_event = move |event| is_mine.load(Ordering::Relaxed) && on_event(target, event);
        match Watch::start(&self.command, target, on_event) {
            Ok(watch) => {
                Some(ActiveWatch { _watch: watch, since: now, has_shown: false, is_current })
            }
            Err(error) => {
                self.last_error = error.to_string();
                self.not_before = now + backoff::until_next_watch(2, backoff::jitter());
                None
            }
        }
    }

    /// A watch has shown something: it works.
    pub fn on_object(&mut self, target: WatchTarget) {
        if let Some(watch) = self.slot(target) {
            watch.has_shown = true;
        }
        if self.reported_missing == Some(target) {
            self.reported_missing = None;
            log::info!("watching tilt again");
        }
    }

    /// Ends the watches that hang; whether there were any.
    pub fn end_hanging(&mut self, now: Instant) -> bool {
        let mut has_ended = false;
        for target in ALL {
            if self.hangs(target, now) {
                self.on_end(target, "it shows nothing".to_owned(), now);
                has_ended = true;
            }
        }
        has_ended
    }

    fn hangs(&mut self, target: WatchTarget, now: Instant) -> bool {
        let is_late = |f: &ActiveWatch| now.saturating_duration_since(f.since) >= BEGINS_WITHIN;
        self.slot(target).as_ref().is_some_and(|watch| !watch.has_shown && is_late(watch))
    }

    fn slot(&mut self, target: WatchTarget) -> &mut Option<ActiveWatch> {
        match target {
            WatchTarget::Resources => &mut self.resources,
            WatchTarget::Images(kind) => &mut self.images[kind as usize],
        }
    }

    /// A watch has ended. The first time it is simply started again; a watch that keeps ending at
    /// once is tried more and more rarely.
    pub fn on_end(&mut self, target: WatchTarget, last_error: String, now: Instant) {
        log::debug!("a watch of {target:?} ended: {last_error}");
        if target == WatchTarget::Resources {
            self.images = [None, None];
        }
        let Some(on_end) = self.slot(target).take() else {
            // It was ended here, and its end says nothing.
            return;
        };
        self.last_error = last_error;
        if now.saturating_duration_since(self.ended_at) < SAME_END {
            return;
        }
        self.ended_at = now;
        let lived = now.saturating_duration_since(on_end.since);
        let has_worked = on_end.has_shown && lived >= WORKS_FOR;
        self.failures = if has_worked { 0 } else { self.failures + 1 };
        self.not_before = now + backoff::until_next_watch(self.failures, backoff::jitter());
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
        let on_event = Arc::new(move |_, event| sender.send(event).is_ok());
        let mut watching = WatchSet::new(command, on_event, began);
        watching.reconcile(&view, began);
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
        watching.reconcile(&view, began);
        assert!(!watching.end_hanging(began + BEGINS_WITHIN / 2) && watching.is_on());
        let late = began + BEGINS_WITHIN;
        assert!(watching.end_hanging(late) && !watching.is_on());

        watching.reconcile(&view, late);
        assert!(watching.is_on(), "the first time it is simply started again");
        watching.on_object(WatchTarget::Resources);
        let much_later = late + Duration::from_hours(1);
        assert!(!watching.end_hanging(much_later) && watching.is_on());
    }
}

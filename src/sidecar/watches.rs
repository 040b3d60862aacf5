//! Keeps the watches that a sidecar needs: always one of resources, one of each kind of image that
//! Tilt has, and one of the cluster if Tilt deploys to Kubernetes. Each watch is a
//! `tilt get --watch` process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::backoff;
use crate::sidecar::live_view::LiveView;
use crate::tilt::command::TiltCommand;
use crate::tilt::watch::{Watch, WatchEvent, WatchTarget};

/// A watch that ends sooner counts as failed.
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// A watch first shows all existing objects. One that shows none for this long hangs.
const FIRST_OBJECT_TIMEOUT: Duration = Duration::from_secs(10);
/// When Tilt exits, all its watches end within this time. They count as one failure.
const SAME_FAILURE_WINDOW: Duration = Duration::from_millis(400);

/// Takes an event of a watch. Returns false if no more events are wanted.
type EventHandler = Arc<dyn Fn(WatchTarget, WatchEvent) -> bool + Send + Sync>;

/// The running watches, at most one per target.
pub(super) struct WatchSet {
    command: TiltCommand,
    on_event: EventHandler,
    /// By the index of the target.
    active: [Option<ActiveWatch>; WatchTarget::ALL.len()],
    /// When a watch last ended by itself.
    ended_at: Instant,
    /// Failed watches in a row.
    failures: u32,
    /// The earliest time to start a missing watch.
    retry_at: Instant,
    /// Why the last watch ended.
    last_error: String,
    /// The missing watch that was logged.
    logged_missing: Option<WatchTarget>,
}

struct ActiveWatch {
    _watch: Watch,
    started: Instant,
    has_shown_objects: bool,
    is_current: Arc<AtomicBool>,
}

impl Drop for ActiveWatch {
    fn drop(&mut self) {
        // Later events from its thread must not be taken for events of the next watch.
        self.is_current.store(false, Ordering::Relaxed);
    }
}

impl WatchSet {
    /// No watch runs until [`WatchSet::reconcile`]. `on_event` is called on threads of the watches.
    pub(super) fn new(command: TiltCommand, on_event: EventHandler, now: Instant) -> Self {
        Self {
            command,
            on_event,
            active: Default::default(),
            ended_at: now,
            failures: 0,
            retry_at: now,
            last_error: String::new(),
            logged_missing: None,
        }
    }

    pub(super) fn has_resource_watch(&self) -> bool {
        self.active[WatchTarget::Resources.index()].is_some()
    }

    /// True if no watch is missing. A poll would then show nothing new.
    pub(super) fn cover(&self, view: &LiveView) -> bool {
        self.first_missing(view).is_none()
    }

    fn first_missing(&self, view: &LiveView) -> Option<WatchTarget> {
        let is_missing = |target: &WatchTarget| {
            is_wanted(*target, view) && self.active[target.index()].is_none()
        };
        WatchTarget::ALL.into_iter().find(is_missing)
    }

    /// Starts missing watches and ends those without objects. Must be called after a poll. Returns
    /// when to poll again if a watch is still missing.
    pub(super) fn reconcile(&mut self, view: &LiveView, now: Instant) -> Option<Instant> {
        if now >= self.retry_at {
            self.start_missing(view, now);
        } else if let Some(missing) = self.first_missing(view) {
            self.log_missing(missing);
        }
        (!self.cover(view)).then_some(self.retry_at)
    }

    fn log_missing(&mut self, missing: WatchTarget) {
        if self.logged_missing == Some(missing) {
            return;
        }
        self.logged_missing = Some(missing);
        let objects = match missing {
            WatchTarget::Resources => "tilt",
            WatchTarget::Images(_) => "tilt's images",
            WatchTarget::Cluster => "tilt's cluster",
        };
        log::warn!("cannot watch {objects} ({}); polling every interval instead", self.last_error);
    }

    fn start_missing(&mut self, view: &LiveView, now: Instant) {
        for target in WatchTarget::ALL {
            if !is_wanted(target, view) {
                self.active[target.index()] = None;
            } else if self.active[target.index()].is_none()
                && (target == WatchTarget::Resources || self.has_resource_watch())
            {
                self.active[target.index()] = self.start(target, now);
            }
        }
    }

    fn start(&mut self, target: WatchTarget, now: Instant) -> Option<ActiveWatch> {
        let on_event = Arc::clone(&self.on_event);
        let is_current = Arc::new(AtomicBool::new(true));
        let accepts_events = Arc::clone(&is_current);
        let on_event =
            move |event| accepts_events.load(Ordering::Relaxed) && on_event(target, event);
        match Watch::start(&self.command, target, on_event) {
            Ok(watch) => Some(ActiveWatch {
                _watch: watch,
                started: now,
                has_shown_objects: false,
                is_current,
            }),
            Err(error) => {
                self.last_error = error.to_string();
                self.retry_at = now + backoff::until_next_watch(2, backoff::jitter());
                None
            }
        }
    }

    /// Notes that a watch works: it showed an object.
    pub(super) fn on_object(&mut self, target: WatchTarget) {
        if let Some(watch) = self.slot(target) {
            watch.has_shown_objects = true;
        }
        if self.logged_missing == Some(target) {
            self.logged_missing = None;
            log::info!("watching tilt again");
        }
    }

    /// Ends the watches that hang. Returns true if there were any.
    pub(super) fn end_hanging(&mut self, now: Instant) -> bool {
        let mut has_ended = false;
        for target in WatchTarget::ALL {
            if self.hangs(target, now) {
                let reason = format!("no objects for {}s", FIRST_OBJECT_TIMEOUT.as_secs());
                self.on_end(target, reason, now);
                has_ended = true;
            }
        }
        has_ended
    }

    fn hangs(&mut self, target: WatchTarget, now: Instant) -> bool {
        self.slot(target).as_ref().is_some_and(|watch| {
            let age = now.saturating_duration_since(watch.started);
            !watch.has_shown_objects && age >= FIRST_OBJECT_TIMEOUT
        })
    }

    fn slot(&mut self, target: WatchTarget) -> &mut Option<ActiveWatch> {
        &mut self.active[target.index()]
    }

    /// Notes why a watch ended. After the first failure, the next poll starts it again. After
    /// further failures in a row, the pauses grow.
    pub(super) fn on_end(&mut self, target: WatchTarget, last_error: String, now: Instant) {
        log::debug!("watch of {target:?} ended: {last_error}");
        let ended = self.slot(target).take();
        if target == WatchTarget::Resources {
            self.active = Default::default();
        }
        let Some(watch) = ended else {
            // This process ended the watch itself.
            return;
        };
        self.last_error = last_error;
        if now.saturating_duration_since(self.ended_at) < SAME_FAILURE_WINDOW {
            return;
        }
        self.ended_at = now;
        let lifetime = now.saturating_duration_since(watch.started);
        let has_worked = watch.has_shown_objects && lifetime >= MIN_LIFETIME;
        self.failures = if has_worked { 0 } else { self.failures + 1 };
        self.retry_at = now + backoff::until_next_watch(self.failures, backoff::jitter());
    }
}

/// True if Tilt has objects that this watch would show.
fn is_wanted(target: WatchTarget, view: &LiveView) -> bool {
    match target {
        WatchTarget::Resources => true,
        WatchTarget::Images(kind) => view.has_images(kind),
        WatchTarget::Cluster => view.cluster().is_some(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn late_events_of_an_ended_watch_are_dropped() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("tilt");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").expect("a script");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
        let command = TiltCommand { program: program.into(), port: None };
        let (view, started) = (LiveView::default(), crate::base::time::now());
        let (sender, events) = std::sync::mpsc::channel();
        let on_event = Arc::new(move |_, event| sender.send(event).is_ok());
        let mut watches = WatchSet::new(command, on_event, started);
        watches.reconcile(&view, started);
        assert!(watches.has_resource_watch());
        assert!(watches.end_hanging(started + FIRST_OBJECT_TIMEOUT), "it is killed");
        drop(watches);
        // The channel closes when the watch's thread ends.
        assert_eq!(events.iter().count(), 0);
    }

    #[test]
    fn only_a_watch_without_any_object_hangs() {
        let command = TiltCommand { program: "true".into(), port: None };
        let (view, started) = (LiveView::default(), crate::base::time::now());
        let mut watches = WatchSet::new(command, Arc::new(|_, _| true), started);
        watches.reconcile(&view, started);
        let early = started + FIRST_OBJECT_TIMEOUT / 2;
        assert!(!watches.end_hanging(early) && watches.has_resource_watch());
        let late = started + FIRST_OBJECT_TIMEOUT;
        assert!(watches.end_hanging(late) && !watches.has_resource_watch());

        watches.reconcile(&view, late);
        assert!(watches.has_resource_watch(), "restarted at once after the first failure");
        watches.on_object(WatchTarget::Resources);
        let much_later = late + Duration::from_hours(1);
        assert!(!watches.end_hanging(much_later) && watches.has_resource_watch());
    }
}

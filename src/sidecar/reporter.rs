//! Collects what polls and watches show and writes it to disk as events. The running sidecar and
//! its shutdown share this.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::config::SidecarConfig;
use crate::events::common_fields::Context;
use crate::events::observation::{Heartbeats, Observation, Phase};
use crate::honeycomb::delivery::Delivery;
use crate::messages;
use crate::metadata::git::{self, Checkout};
use crate::sidecar::live_view::LiveView;
use crate::sidecar::outage_notice::OutageNotice;
use crate::sidecar::problems::Problems;
use crate::sidecar::schedule::STORE_RETRY;
use crate::sidecar::send_summary::SendSummary;
use crate::sidecar::watches::WatchSet;
use crate::spool::error::StoreError;
use crate::spool::installation;
use crate::spool::reconcile::reconcile;
use crate::spool::state::Recorded;
use crate::spool::store::Store;
use crate::tilt::model::Snapshot;
use crate::tilt::notice::Notice;
use crate::tilt::watch::WatchTarget;

/// The observed environment, and where its events go.
///
/// `report`, `record_changes` and `record_end` write to disk. They return the time after which to
/// record again even if nothing changes, or `None`.
pub(super) struct Reporter<'a> {
    state_dir: &'a Path,
    store: Store,
    context: Context,
    checkout: Option<Checkout>,
    pub(super) watches: WatchSet,
    pub(super) view: LiveView,
    pub(super) problems: Problems,
    summary: SendSummary,
    notice: OutageNotice,
    heartbeat_fold: u32,
    /// True once this collector has recorded a full report. Until then, nothing is folded.
    has_reported: bool,
    /// When Tilt last showed the current state.
    seen_at: SystemTime,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        config: &'a SidecarConfig,
        context: Context,
        store: Store,
        watches: WatchSet,
        shutdown: Shutdown,
    ) -> Self {
        let notice = Notice {
            command: config.tilt.clone(),
            resource: context.collector.clone(),
            file: config.send.state_dir.join(format!("notice-{}.json", std::process::id())),
        };
        let may_be_shown = Self::left_outage(&store);
        Self {
            state_dir: &config.send.state_dir,
            store,
            context,
            checkout: None,
            watches,
            view: LiveView::default(),
            problems: Problems::default(),
            summary: SendSummary::new(time::wall()),
            notice: OutageNotice::new(notice, may_be_shown, shutdown),
            heartbeat_fold: config.heartbeat_fold,
            has_reported: false,
            seen_at: time::wall(),
        }
    }

    /// The number of queued events.
    pub(super) fn queue_length(&self) -> Result<usize, StoreError> {
        self.store.queue_length()
    }

    /// Takes in a poll.
    pub(super) fn replace(&mut self, snapshot: Snapshot) {
        self.view.replace(snapshot);
        self.seen_at = time::wall();
    }

    /// Takes in an object that a watch showed.
    pub(super) fn apply(&mut self, target: WatchTarget, fragment: Snapshot) {
        self.watches.on_object(target);
        self.view.apply(fragment);
        self.seen_at = time::wall();
    }

    /// Records the status of every resource, and every build since the last record.
    pub(super) fn report(&mut self, phase: Phase) -> Option<Duration> {
        // The state is current even without a poll: the watches would have ended with Tilt.
        self.seen_at = time::wall();
        self.summary.request_line();
        self.record(Heartbeats::All, None, phase)
    }

    /// Records the resources whose status changed, and every build since the last record.
    pub(super) fn record_changes(&mut self, phase: Phase) -> Option<Duration> {
        let changes = self.view.changes();
        self.record(Heartbeats::Changed(&changes), None, phase)
    }

    /// Like [`Reporter::record_changes`], for a Tilt that is gone: the events carry the time at
    /// which it last showed something.
    pub(super) fn record_end(&mut self, phase: Phase) -> Option<Duration> {
        let changes = self.view.changes();
        self.record(Heartbeats::Changed(&changes), Some(self.seen_at), phase)
    }

    fn record(
        &mut self,
        heartbeats: Heartbeats,
        seen_at: Option<SystemTime>,
        phase: Phase,
    ) -> Option<Duration> {
        self.ensure_installation_id();
        let observation = Observation {
            heartbeat_fold: if self.has_reported { self.heartbeat_fold } else { 1 },
            is_watched: phase == Phase::Running && self.watches.has_resource_watch(),
            send_error: self.problems.delivery(),
            phase,
            seen_at,
            ..self.view.observation(heartbeats)
        };
        git::update_checkout(&mut self.context, observation.session, &mut self.checkout);
        // A write of its own for each delivery would cost a sync.
        let delivery = self.problems.delivery_record();
        let recorded = self.store.update(time::wall, |state, now| {
            state.note_delivery(delivery);
            reconcile(state, &observation, &self.context, now)
        });
        match recorded {
            Ok(recorded) => {
                self.has_reported |= matches!(heartbeats, Heartbeats::All);
                self.on_recorded(recorded);
                recorded.poll_again_after
            }
            // The view keeps the builds until they can be written.
            Err(error) => {
                self.problems.on_store_error(&error);
                Some(STORE_RETRY)
            }
        }
    }

    /// Creates the installation id if that failed at the start, for example on a full disk.
    fn ensure_installation_id(&mut self) {
        if self.context.installation_id.is_none() {
            self.context.installation_id = installation::load_or_create(self.state_dir).ok();
        }
    }

    fn on_recorded(&mut self, recorded: Recorded) {
        if recorded.new_builds > 0 || self.view.has_changes() {
            self.summary.add_news();
        }
        self.view.mark_reported();
        self.problems.on_store_success();
        if let Some(dropped) = messages::dropped(recorded.dropped) {
            log::warn!("{dropped}");
        }
    }

    /// Logs what a delivery changed. `retry_in` is the time until the next one, if there will be
    /// one.
    pub(super) fn on_delivery(&mut self, delivery: &Delivery, retry_in: Option<Duration>) {
        let now = time::wall();
        let has_ended = self.problems.on_delivery(delivery, retry_in, now);
        if self.problems.deliveries_work() {
            self.notice.remove();
        }
        if has_ended {
            self.summary.add_news();
            self.summary.request_line();
        }
        if let Some(line) = self.summary.add(delivery, now) {
            log::info!("{line}");
        } else if !delivery.sent.is_empty() {
            log::debug!("{}", messages::delivered(&delivery.sent, delivery.took, delivery.waiting));
        }
    }

    /// Warns if deliveries fail for long, in the log and in Tilt's UI.
    pub(super) fn warn_about_long_outage(&mut self) {
        if let Some(warning) = self.problems.long_outage(time::wall()) {
            log::warn!("{warning}");
            self.notice.show();
        }
    }

    /// True if an earlier collector ended while its deliveries failed.
    fn left_outage(store: &Store) -> bool {
        store.read(|state| state.delivery().problem_since.is_some()).unwrap_or_default()
    }
}

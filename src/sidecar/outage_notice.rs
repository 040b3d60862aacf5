//! Shows in Tilt's UI that deliveries fail for long.

use std::thread;

use crate::base::shutdown::Shutdown;
use crate::tilt::error::TiltError;
use crate::tilt::notice::Notice;

/// What Tilt's UI shows.
const TEXT: &str = "No delivery to Honeycomb for over 10 minutes; see the log";

/// The notice, and whether Tilt may show it.
#[derive(Debug)]
pub(super) struct OutageNotice {
    notice: Notice,
    may_be_shown: bool,
    shutdown: Shutdown,
}

impl OutageNotice {
    /// `may_be_shown` is true if an earlier collector may have left the notice.
    pub(super) fn new(notice: Notice, may_be_shown: bool, shutdown: Shutdown) -> Self {
        Self { notice, may_be_shown, shutdown }
    }

    pub(super) fn show(&mut self) {
        self.may_be_shown = true;
        self.in_background(|notice, shutdown| notice.show(TEXT, shutdown));
    }

    pub(super) fn remove(&mut self) {
        if std::mem::take(&mut self.may_be_shown) {
            self.in_background(Notice::remove);
        }
    }

    /// Calls Tilt in a thread, because the event loop does not wait for it. Two calls are ten minutes
    /// apart, so they need no order.
    fn in_background(
        &self,
        call: impl FnOnce(&Notice, &Shutdown) -> Result<(), TiltError> + Send + 'static,
    ) {
        let (notice, shutdown) = (self.notice.clone(), self.shutdown.clone());
        let started = thread::Builder::new().name("notice".into()).spawn(move || {
            if let Err(error) = call(&notice, &shutdown) {
                log::debug!("cannot change the notice in Tilt's UI: {error}");
            }
        });
        if let Err(error) = started {
            log::debug!("cannot start a thread for the notice in Tilt's UI: {error}");
        }
    }
}

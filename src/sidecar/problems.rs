//! Logs each problem once: when it starts, when it changes and, if useful, when it is over.

use std::time::Duration;

use crate::honeycomb::delivery::{Delivery, DeliveryEnd};
use crate::messages;
use crate::spool::error::StoreError;
use crate::tilt::error::TiltError;

/// The current problem with Tilt, with the state on disk and with deliveries.
#[derive(Debug, Default)]
pub(super) struct Problems {
    tilt: Option<String>,
    store: Option<String>,
    delivery: Option<&'static str>,
}

impl Problems {
    pub(super) fn on_tilt_error(&mut self, error: &TiltError) {
        let message = error.to_string();
        if changes_to(&mut self.tilt, message.clone()) {
            log::warn!("{message}");
        }
    }

    /// Logs that the last state of Tilt is unknown, even if the same problem was logged before.
    pub(super) fn on_final_poll_error(&mut self, error: &TiltError) {
        let message = format!("the final poll failed, so the last changes may be missing: {error}");
        if changes_to(&mut self.tilt, message.clone()) {
            log::warn!("{message}");
        }
    }

    pub(super) fn on_tilt_answer(&mut self) {
        if self.tilt.take().is_some() {
            log::info!("tilt answers again");
        }
    }

    pub(super) fn on_store_error(&mut self, error: &StoreError) {
        let message = error.to_string();
        if changes_to(&mut self.store, message.clone()) {
            log::warn!("{message}");
        }
    }

    pub(super) fn on_store_success(&mut self) {
        if self.store.take().is_some() {
            log::info!("the state is usable again");
        }
    }

    /// True if the last access to the state failed.
    pub(super) fn store_fails(&self) -> bool {
        self.store.is_some()
    }

    /// Notes how a delivery ended. `retry_in` is the time until the next one, if there will be
    /// one. Returns true if this delivery ended a problem.
    pub(super) fn on_delivery(&mut self, delivery: &Delivery, retry_in: Option<Duration>) -> bool {
        let (problem, reason) = match &delivery.end {
            DeliveryEnd::Kept(failure) => ("kept", &failure.reason),
            DeliveryEnd::Refused { advice } => ("refused", advice),
            // Without a response, the state of Honeycomb is unknown.
            DeliveryEnd::Busy | DeliveryEnd::OutOfTime if delivery.is_without_result() => {
                return false;
            }
            DeliveryEnd::Empty
            | DeliveryEnd::Stopped
            | DeliveryEnd::Busy
            | DeliveryEnd::OutOfTime => return self.delivery.take().is_some(),
        };
        if changes_to(&mut self.delivery, problem) {
            let retry = retry_in.map_or_else(String::new, retrying_in);
            log::warn!("{reason}; {}{retry}", messages::kept(delivery.waiting));
        }
        false
    }

    /// The current delivery problem, as the events' `send_error` names it.
    pub(super) fn delivery(&self) -> Option<&'static str> {
        self.delivery
    }
}

/// Sets the current problem. Returns true if it is not the one that was known already.
fn changes_to<T: PartialEq>(current: &mut Option<T>, problem: T) -> bool {
    let is_new = current.as_ref() != Some(&problem);
    *current = Some(problem);
    is_new
}

/// `; retrying in 5s`, rounded up to whole seconds.
fn retrying_in(pause: Duration) -> String {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    format!("; retrying in {}", humantime::format_duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::honeycomb::batch::Counts;
    use crate::honeycomb::response::RequestFailure;

    fn delivery(end: DeliveryEnd) -> Delivery {
        Delivery { sent: Counts::new(), rejected: 0, waiting: 3, took: Duration::ZERO, end }
    }

    #[test]
    fn a_problem_is_new_only_when_it_changes() {
        let mut current = None;
        let is_new: Vec<_> =
            ["a", "a", "b", "a"].map(|problem| changes_to(&mut current, problem)).into();
        assert_eq!(is_new, [true, false, true, true]);
    }

    #[test]
    fn a_delivery_problem_lasts_until_honeycomb_responds() {
        let mut problems = Problems::default();
        let kept = DeliveryEnd::Kept(RequestFailure::of_events(503));
        assert!(!problems.on_delivery(&delivery(kept), None));
        assert_eq!(problems.delivery(), Some("kept"));
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::OutOfTime), None));
        assert_eq!(problems.delivery(), Some("kept"), "no response");
        assert!(problems.on_delivery(&delivery(DeliveryEnd::Empty), None));
        assert_eq!(problems.delivery(), None);
        assert!(!problems.on_delivery(&delivery(DeliveryEnd::Empty), None));
    }

    #[test]
    fn retry_times_are_whole_seconds() {
        assert_eq!(retrying_in(Duration::from_millis(3_200)), "; retrying in 4s");
        assert_eq!(retrying_in(Duration::from_mins(5)), "; retrying in 5m");
    }
}

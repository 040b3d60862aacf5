//! Follows the Tilt session that was there when the sidecar started. Pure.

use std::time::{Duration, Instant};

use crate::sidecar::schedule::{POLL_RETRY, SETTLE_TIME};
use crate::tilt::model::Session;

/// Polls of a Tilt without a session object before its builds are reported without one. A freshly
/// started Tilt has no such object yet.
const SESSION_POLLS: u8 = 10;

/// Whether the first session still runs, and how long Tilt has not answered.
#[derive(Debug)]
pub(super) struct FollowedSession {
    /// True if Tilt started this process. A newer Tilt then starts a collector of its own.
    started_by_tilt: bool,
    first_uid: Option<String>,
    polls_left: u8,
    /// The first failed poll since Tilt last answered.
    gone_since: Option<Instant>,
}

impl FollowedSession {
    pub(super) fn new(started_by_tilt: bool) -> Self {
        Self { started_by_tilt, first_uid: None, polls_left: SESSION_POLLS, gone_since: None }
    }

    /// Notes that Tilt answered. `known` is the session observed before. Returns a pause if the
    /// snapshot must not be used, because it lacks the session that its builds belong to.
    pub(super) fn on_answer(
        &mut self,
        shown: Option<&Session>,
        known: Option<&Session>,
    ) -> Option<Duration> {
        self.gone_since = None;
        let Some(session) = shown else {
            if self.polls_left > 0 {
                self.polls_left -= 1;
                return Some(SETTLE_TIME);
            }
            return known.map(|_| POLL_RETRY);
        };
        self.polls_left = SESSION_POLLS;
        if self.first_uid.is_none() {
            self.first_uid.clone_from(&session.uid);
        }
        None
    }

    /// Notes a failed poll. Returns how long Tilt has not answered.
    pub(super) fn on_failure(&mut self, now: Instant) -> Duration {
        now - *self.gone_since.get_or_insert(now)
    }

    /// True if Tilt has not answered for at least `limit`. One failed poll proves nothing: a
    /// running Tilt can lose its entry in Tilt's configuration for a while.
    pub(super) fn is_gone_for(&self, limit: Duration, now: Instant) -> bool {
        self.gone_since.is_some_and(|since| now - since >= limit)
    }

    /// True if the Tilt that started this process was replaced by another one.
    pub(super) fn replaced_by_newer_session(&self, current: Option<&Session>) -> bool {
        let current = current.and_then(|session| session.uid.as_ref());
        self.started_by_tilt
            && matches!((&self.first_uid, current), (Some(first), Some(now)) if first != now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(uid: &str) -> Session {
        Session { uid: Some(uid.into()), ..Session::default() }
    }

    #[test]
    fn a_new_tilt_is_polled_until_it_shows_its_session() {
        let mut followed = FollowedSession::new(false);
        for _ in 0..SESSION_POLLS {
            assert_eq!(followed.on_answer(None, None), Some(SETTLE_TIME));
        }
        assert_eq!(followed.on_answer(None, None), None, "reported without a session");
        assert_eq!(followed.on_answer(None, Some(&session("a"))), Some(POLL_RETRY));
        assert_eq!(followed.on_answer(Some(&session("a")), None), None);
        assert_eq!(followed.on_answer(None, Some(&session("a"))), Some(SETTLE_TIME));
    }

    #[test]
    fn only_a_sidecar_that_tilt_started_can_be_replaced() {
        for started_by_tilt in [true, false] {
            let mut followed = FollowedSession::new(started_by_tilt);
            assert!(!followed.replaced_by_newer_session(Some(&session("a"))));
            followed.on_answer(Some(&session("a")), None);
            followed.on_answer(Some(&session("b")), Some(&session("a")));
            assert!(!followed.replaced_by_newer_session(Some(&session("a"))));
            assert!(!followed.replaced_by_newer_session(None));
            let replaced = followed.replaced_by_newer_session(Some(&session("b")));
            assert_eq!(replaced, started_by_tilt);
        }
    }

    #[test]
    fn an_answer_ends_the_time_that_tilt_is_gone() {
        let (mut followed, now) = (FollowedSession::new(true), crate::base::time::now());
        let minute = Duration::from_mins(1);
        assert_eq!(followed.on_failure(now), Duration::ZERO);
        assert_eq!(followed.on_failure(now + minute), minute);
        assert!(followed.is_gone_for(minute, now + minute));
        followed.on_answer(None, None);
        assert!(!followed.is_gone_for(minute, now + minute));
    }
}

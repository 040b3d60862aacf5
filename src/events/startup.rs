//! How long it takes until an environment works: from Tilt's start until every resource that
//! starts automatically has become ready for the first time, has failed, or cannot begin because
//! another one failed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::time::unix_micros;
use crate::events::derivation::Derivation;
use crate::events::derived::{Build, ProvisionalEvent};
use crate::events::event::{Event, EventKind, Fields};
use crate::events::observation::Observation;
use crate::events::outcome::outcome;
use crate::events::tracker::{FirstOutcome, SessionTracker, Startup, update_starts};
use crate::tilt::model::{Outcome, Resource, ResourceType, Timestamp};

/// Ends a startup that is still in progress. A startup that is older when it is first observed is
/// not reported.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Tilt shows a Tiltfile as loaded a moment before it shows the resources that it defines.
const TILTFILE_DELAY: Duration = Duration::from_secs(2);

/// The first outcome of each resource, by name.
type FirstOutcomes = BTreeMap<String, FirstOutcome>;

/// Why a startup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Each resource is ready, has failed, or is blocked by one that failed.
    FirstOutcomes,
    /// Some were still in progress after [`TIMEOUT`].
    TimedOut,
    /// Tilt ended first.
    WithSession,
}

impl Ended {
    /// The field `ended_by`.
    fn as_str(self) -> &'static str {
        match self {
            Self::FirstOutcomes => "settled",
            Self::TimedOut => "timeout",
            Self::WithSession => "session_end",
        }
    }
}

/// The result of one observation of the startup.
#[derive(Debug, Clone, PartialEq)]
enum Progress {
    /// It was reported before, or cannot be measured.
    None,
    /// It is in progress. These fields describe it in case Tilt ends now.
    Provisional(Fields),
    Final(Fields),
}

impl Derivation<'_> {
    /// Derives the event of the startup.
    pub fn follow_startup(&mut self) {
        let progress = follow(self.observation, self.tracker, self.now);
        let key = "startup".to_owned();
        match progress {
            Progress::None => {}
            Progress::Provisional(fields) => {
                let event = self.startup_event(&fields);
                let provisional =
                    event.map(|event| ProvisionalEvent { key, resource: None, event });
                self.derived.provisional.extend(provisional);
            }
            Progress::Final(fields) => {
                let event = self.startup_event(&fields);
                let build = event.map(|event| Build { key, events: vec![event] });
                self.derived.builds.extend(build);
            }
        }
        self.derived.poll_again_after =
            poll_again_after(self.tracker).filter(|_| self.observation.is_watched);
    }

    fn startup_event(&self, own_fields: &Fields) -> Option<Event> {
        let started_at = self.observation.tilt_started_at()?;
        let mut fields = self.common.leading.clone();
        fields.set("kind", EventKind::Startup.as_str());
        fields.set("name", self.common.startup_name);
        fields.extend(own_fields);
        let outcome = outcome(self.observation, self.tracker, &self.context.collector);
        if let (true, Some(outcome)) = (self.observation.is_over(), outcome) {
            fields.set("outcome", outcome.as_str());
            if let (Some(error_type), None) = (outcome.error_type(), fields.get("error")) {
                fields.set("error", true);
                fields.set("error.type", error_type);
            }
        }
        self.common.startup.describe(&mut fields);
        fields.extend(&self.common.trailing);
        Some(Event { kind: EventKind::Startup, time: started_at.at, fields })
    }
}

/// Follows the startup of a session, in `tracker`.
fn follow(observation: &Observation, tracker: &mut SessionTracker, now: SystemTime) -> Progress {
    let Some(started_at) = observation.tilt_started_at() else { return Progress::None };
    let poll = StartupPoll {
        resources: observation.resources,
        started_at,
        is_over: observation.is_over(),
        succeeded: observation.is_over() && tracker.outcome == Some(Outcome::Success),
        was_polled_before: tracker.startup != Startup::NotObserved,
        now,
    };
    if !poll.was_polled_before {
        tracker.startup = poll.begin();
    }
    if let Startup::InProgress { .. } = tracker.startup {
        poll.counted().for_each(|resource| tracker.await_first_ready(resource));
    }
    let Startup::InProgress { first_outcomes } = &mut tracker.startup else {
        return Progress::None;
    };
    poll.add_first_outcomes(first_outcomes);
    let blocked = poll.blocked(first_outcomes);
    let ended = poll.ended(first_outcomes, &blocked);
    let fields = poll.fields(first_outcomes, blocked.len(), ended);
    if ended == Ended::WithSession && !poll.is_over {
        return Progress::Provisional(fields);
    }
    // If the clock was set back, the updates that were reported as part of the startup remain so.
    let newest_start = observation.resources.iter().flat_map(update_starts);
    let newest_start = newest_start.map(|start| unix_micros(start.at)).max().unwrap_or_default();
    tracker.startup = Startup::Finished {
        at: unix_micros(now).max(newest_start),
        timed_out: ended == Ended::TimedOut,
    };
    Progress::Final(fields)
}

/// One observation of a startup.
struct StartupPoll<'a> {
    resources: &'a [Resource],
    started_at: &'a Timestamp,
    is_over: bool,
    /// Tilt reported a success, so everything is ready even if it did not come to show that.
    succeeded: bool,
    was_polled_before: bool,
    now: SystemTime,
}

impl<'a> StartupPoll<'a> {
    /// The resources that belong to the startup.
    fn counted(&self) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(|resource| resource.starts_automatically())
    }

    fn age(&self) -> Duration {
        self.now.duration_since(self.started_at.at).unwrap_or_default()
    }

    /// The startup as the first poll finds it.
    fn begin(&self) -> Startup {
        let was_missed = self.age() > TIMEOUT
            || self.resources.iter().any(was_rebuilt)
            || was_reloaded(self.resources);
        // At its end, a session shows everything.
        if was_missed && !self.is_over {
            Startup::Missed
        } else {
            Startup::InProgress { first_outcomes: BTreeMap::new() }
        }
    }

    fn add_first_outcomes(&self, first_outcomes: &mut FirstOutcomes) {
        for resource in self.counted() {
            if let Some(outcome) = self.first_outcome(resource) {
                let known = first_outcomes.entry(resource.name.clone()).or_insert(outcome);
                if known.failed && is_tiltfile(resource) {
                    // The resources of a Tiltfile are unknown until it loads. Only the load counts.
                    *known = outcome;
                }
            } else if self.succeeded {
                let outcome = FirstOutcome { at: unix_micros(self.now), failed: false };
                first_outcomes.entry(resource.name.clone()).or_insert(outcome);
            }
        }
    }

    /// The outcome of a resource, if it has one. It is the first one if no earlier poll saw
    /// another.
    fn first_outcome(&self, resource: &Resource) -> Option<FirstOutcome> {
        let ready = resource.ready.as_ref()?;
        let since = ready.since.as_ref().map_or(self.now, |since| since.at);
        let updated_at = resource.updates.first().map(|update| update.finished_at.at);
        let (at, failed) = if ready.holds {
            (since, false)
        } else if is_error(resource.update_status.as_ref()) {
            (updated_at.unwrap_or(self.now), true)
        } else if is_error(resource.runtime_status.as_ref()) {
            // Tilt does not tell when a resource failed at run time. If it was never ready, its
            // condition dates from its creation, so it failed no earlier than its update ended.
            let earliest = updated_at.map_or(since, |at| at.max(since));
            (if self.was_polled_before { self.now } else { earliest }, true)
        } else {
            return None;
        };
        Some(FirstOutcome { at: unix_micros(at), failed })
    }

    /// The resources without an outcome that wait, directly or indirectly, for one that stays
    /// failed. They may never begin.
    fn blocked(&self, first_outcomes: &FirstOutcomes) -> BTreeSet<&'a str> {
        let waiting = |resource: &'a Resource| {
            let waiting = resource.waiting.as_ref()?;
            let waits_for_others = waiting.reason.as_deref() == Some("waiting-for-dep");
            let has_outcome = first_outcomes.contains_key(&resource.name);
            (waits_for_others && !has_outcome).then_some((resource.name.as_str(), &waiting.on))
        };
        let waiting: Vec<_> = self.counted().filter_map(waiting).collect();
        let has_failed = |name: &String| {
            let mut failed = self.resources.iter().filter(|resource| stays_failed(resource));
            first_outcomes.get(name).is_some_and(|outcome| outcome.failed)
                && failed.any(|resource| resource.name == *name)
        };
        let mut blocked = BTreeSet::new();
        loop {
            let is_blocked = |on: &Vec<String>| {
                on.iter().any(|name| has_failed(name) || blocked.contains(name.as_str()))
            };
            let found: BTreeSet<_> =
                waiting.iter().filter(|(_, on)| is_blocked(on)).map(|(name, _)| *name).collect();
            if found.len() == blocked.len() {
                return blocked;
            }
            blocked = found;
        }
    }

    fn ended(&self, first_outcomes: &FirstOutcomes, blocked: &BTreeSet<&str>) -> Ended {
        let deadline = unix_micros(self.started_at.at + TIMEOUT);
        // The end of a session reports its startup, however long that took.
        let in_time = self.is_over || first_outcomes.values().all(|first| first.at <= deadline);
        let has_ended = |resource: &Resource| {
            first_outcomes.contains_key(&resource.name) || blocked.contains(resource.name.as_str())
        };
        if in_time && self.tiltfiles_are_loaded(first_outcomes) && self.counted().all(has_ended) {
            Ended::FirstOutcomes
        } else if self.age() > TIMEOUT && !self.is_over {
            Ended::TimedOut
        } else {
            Ended::WithSession
        }
    }

    /// True if Tilt shows all resources that its Tiltfiles define.
    fn tiltfiles_are_loaded(&self, first_outcomes: &FirstOutcomes) -> bool {
        let delay = u64::try_from(TILTFILE_DELAY.as_micros()).unwrap_or(u64::MAX);
        let is_loaded = |tiltfile: &Resource| {
            first_outcomes.get(&tiltfile.name).is_some_and(|load| {
                let is_shown = unix_micros(self.now).saturating_sub(load.at) >= delay;
                // A failed extension does not keep the main Tiltfile from loading.
                let has_loaded = !load.failed || tiltfile.name != "(Tiltfile)";
                self.is_over || has_loaded && is_shown
            })
        };
        let mut tiltfiles = self.resources.iter().filter(|r| is_tiltfile(r)).peekable();
        tiltfiles.peek().is_some() && tiltfiles.all(is_loaded)
    }

    /// The fields that describe the startup.
    fn fields(&self, first_outcomes: &FirstOutcomes, blocked: usize, ended: Ended) -> Fields {
        let mut fields = Fields::default();
        let since_start = |outcome: &FirstOutcome| {
            let at = UNIX_EPOCH + Duration::from_micros(outcome.at);
            at.duration_since(self.started_at.at).unwrap_or_default()
        };
        let last = first_outcomes.values().map(since_start).max();
        // If a resource has no outcome, the duration is the time that it had.
        let last = last.filter(|_| ended == Ended::FirstOutcomes);
        fields.set_ms("duration_ms", Some(last.unwrap_or(self.age())));
        let ready = first_outcomes.iter().filter(|(_, outcome)| !outcome.failed);
        if let Some((name, outcome)) = ready.max_by_key(|(_, outcome)| outcome.at) {
            fields.set_ms("time_to_ready_ms", Some(since_start(outcome)));
            fields.set("slowest_resource", name.clone());
        }
        let failed = first_outcomes.values().filter(|outcome| outcome.failed).count();
        fields.set("resources_ready", first_outcomes.len() - failed);
        fields.set("resources_failed", failed);
        fields.set("resources_blocked", blocked);
        fields.set("ended_by", ended.as_str());
        if failed > 0 {
            fields.set("error", true);
            fields.set("error.type", "resource_failed");
        }
        fields
    }
}

/// True if a resource was updated again before the first poll. Its condition has flipped since, so
/// the time when it was first ready is unknown.
fn was_rebuilt(resource: &Resource) -> bool {
    let updates = update_starts(resource).count();
    resource.starts_automatically() && !is_tiltfile(resource) && updates > 1
}

/// Same check for Tiltfiles. Tilt keeps only the last load but numbers them all, so a number above
/// 1 means a reload. A reload after a failed first load does not count: nothing had started.
fn was_reloaded(resources: &[Resource]) -> bool {
    let (tiltfiles, others): (Vec<_>, Vec<_>) = resources.iter().partition(|r| is_tiltfile(r));
    let loads = tiltfiles.iter().flat_map(|r| {
        let finished = r.updates.iter().map(|load| (&load.span_id, &load.started_at));
        finished.chain(r.current_update.iter().map(|load| (&load.span_id, &load.started_at)))
    });
    let mut reloads = loads.filter(|(span_id, _)| !span_id.ends_with(":1"));
    reloads.any(|(_, started_at)| {
        let mut updates = others.iter().flat_map(|r| &r.updates);
        updates.any(|update| update.finished_at.at < started_at.at)
    })
}

fn is_tiltfile(resource: &Resource) -> bool {
    resource.resource_type == Some(ResourceType::Tiltfile)
}

fn is_error(status: Option<&String>) -> bool {
    status.is_some_and(|status| status == "error")
}

/// True if someone has to fix the failure: not while an update runs, and not for a crashed pod,
/// which Kubernetes restarts.
fn stays_failed(resource: &Resource) -> bool {
    let restarts = resource.resource_type == Some(ResourceType::K8s);
    is_error(resource.update_status.as_ref())
        || is_error(resource.runtime_status.as_ref()) && !restarts
}

/// The time from Tilt's start until the resource became ready. `None` for a resource that a person
/// starts, because that time would depend on the person.
pub fn time_to_ready(resource: &Resource, tilt_started_at: Option<&Timestamp>) -> Option<Duration> {
    if !resource.starts_automatically() {
        return None;
    }
    let ready = resource.ready.as_ref().filter(|ready| ready.holds)?;
    ready.since.as_ref()?.since(tilt_started_at?)
}

/// How soon the resources that a watch has shown may count as all there are, even if nothing
/// changes.
fn poll_again_after(tracker: &SessionTracker) -> Option<Duration> {
    matches!(tracker.startup, Startup::InProgress { .. }).then_some(TILTFILE_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::observation::Phase;
    use crate::tilt::model::{Condition, Session, Snapshot, Update, Waiting};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(&format!("2026-11-22T15:{text}Z")).expect(text)
    }

    fn resource(name: &str, ready: bool, since: &str, update_status: &str) -> Resource {
        Resource {
            name: name.into(),
            resource_type: Some(if name == "(Tiltfile)" {
                ResourceType::Tiltfile
            } else {
                ResourceType::Local
            }),
            ready: Some(Condition { holds: ready, reason: None, since: Some(at(since)) }),
            update_status: Some(update_status.into()),
            ..Resource::default()
        }
    }

    fn snapshot(resources: &[Resource]) -> Snapshot {
        let session = Session { tilt_started_at: Some(at("00:00")), ..Session::default() };
        Snapshot { session: Some(session), resources: resources.to_vec(), ..Snapshot::default() }
    }

    fn poll(
        tracker: &mut SessionTracker,
        resources: &[Resource],
        now: &str,
    ) -> (&'static str, String) {
        match follow(&Observation::at(&snapshot(resources)), tracker, at(now).at) {
            Progress::None => ("none", String::new()),
            Progress::Provisional(fields) => ("provisional", json(&fields)),
            Progress::Final(fields) => ("final", json(&fields)),
        }
    }

    /// The startup at the end of a session with this outcome.
    fn last_poll(resources: &[Resource], outcome: Option<Outcome>, now: &str) -> String {
        let mut tracker = SessionTracker::default();
        tracker.outcome = outcome;
        let snapshot = snapshot(resources);
        let observation = Observation { phase: Phase::Over(outcome), ..Observation::at(&snapshot) };
        match follow(&observation, &mut tracker, at(now).at) {
            Progress::Final(fields) => json(&fields),
            progress => panic!("{progress:?}"),
        }
    }

    fn json(fields: &Fields) -> String {
        serde_json::to_string(fields).expect("JSON")
    }

    #[test]
    fn a_startup_ends_when_every_resource_is_ready_or_failed() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let mut manual = resource("manual", false, "00:01", "none");
        manual.trigger_mode = Some(2);
        let mut disabled = resource("off", false, "00:01", "none");
        disabled.disabled = Some(true);
        let building = resource("web", false, "00:01", "in_progress");
        let web = resource("web", true, "00:20.5", "ok");
        let broken = resource("codegen", false, "00:01", "error");

        let tracker = &mut SessionTracker::default();
        assert_eq!(poll(tracker, std::slice::from_ref(&tiltfile), "00:02").0, "provisional");
        let all = [tiltfile.clone(), manual.clone(), disabled.clone(), building];
        assert_eq!(poll(tracker, &all, "00:10").0, "provisional");
        let all = [tiltfile, manual, disabled, web, broken];
        let (progress, event) = poll(tracker, &all, "00:21");
        assert_eq!(progress, "final");
        assert_eq!(
            event,
            r#"{"duration_ms":21000.0,"time_to_ready_ms":20500.0,"slowest_resource":"web","resources_ready":2,"resources_failed":1,"resources_blocked":0,"ended_by":"settled","error":true,"error.type":"resource_failed"}"#
        );
        assert_eq!(poll(tracker, &all, "00:22").0, "none", "once per session");
    }

    #[test]
    fn the_first_outcome_of_a_resource_stays() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let tracker = &mut SessionTracker::default();
        poll(tracker, &[tiltfile.clone(), resource("a", true, "00:02", "ok")], "00:02");
        let broken_since = resource("a", false, "00:30", "error");
        let (progress, event) = poll(tracker, &[tiltfile, broken_since], "00:31");
        assert_eq!(progress, "final");
        assert!(event.contains(r#""resources_failed":0"#), "{event}");
    }

    #[test]
    fn a_startup_times_out_after_ten_minutes() {
        let stuck = [
            resource("(Tiltfile)", true, "00:01", "ok"),
            resource("a", false, "00:02", "in_progress"),
        ];
        let tracker = &mut SessionTracker::default();
        assert_eq!(poll(tracker, &stuck, "09:59").0, "provisional");
        let (progress, event) = poll(tracker, &stuck, "10:01");
        assert_eq!(progress, "final");
        assert!(event.contains(r#""ended_by":"timeout""#), "{event}");
        assert!(event.contains(r#""duration_ms":601000.0,"time_to_ready_ms":1000.0"#), "{event}");
    }

    #[test]
    fn a_late_poll_does_not_turn_a_startup_into_a_timeout() {
        let (tiltfile, a) = (resource("(Tiltfile)", true, "00:01", "ok"), "00:30");
        let tracker = &mut SessionTracker::default();
        let building = resource("a", false, "00:02", "in_progress");
        assert_eq!(poll(tracker, &[tiltfile.clone(), building], "00:10").0, "provisional");
        let (_, event) = poll(tracker, &[tiltfile, resource("a", true, a, "ok")], "12:00");
        assert!(event.starts_with(r#"{"duration_ms":30000.0"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    fn waiting_for(name: &str, dependency: &str) -> Resource {
        let reason = Some("waiting-for-dep".into());
        let waiting = Some(Waiting { reason, on: vec![dependency.into()] });
        Resource { waiting, ..resource(name, false, "00:02", "pending") }
    }

    #[test]
    fn resources_blocked_by_a_failure_do_not_delay_the_end() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let mut lint = resource("lint", false, "00:02", "in_progress");
        let (after, last) = (waiting_for("after", "lint"), waiting_for("last", "after"));
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), after.clone(), last.clone(), lint.clone()];
        assert_eq!(poll(tracker, &all, "00:10").0, "provisional", "lint runs");
        lint.update_status = Some("error".into());
        let (progress, event) = poll(tracker, &[tiltfile, after, last, lint], "00:11");
        assert_eq!(progress, "final");
        assert!(event.contains(r#""resources_failed":1,"resources_blocked":2"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    #[test]
    fn a_failure_that_is_being_fixed_blocks_nothing() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let broken = resource("lint", false, "00:02", "error");
        let slow = resource("slow", false, "00:02", "in_progress");
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), waiting_for("after", "lint"), slow, broken.clone()];
        assert_eq!(poll(tracker, &all, "00:10").0, "provisional");
        let fixed = Resource { update_status: Some("in_progress".into()), ..broken };
        let slow = resource("slow", true, "00:20", "ok");
        let all = [tiltfile.clone(), waiting_for("after", "lint"), slow, fixed];
        assert_eq!(poll(tracker, &all, "00:21").0, "provisional", "the fix is running");

        let crashed = Resource {
            resource_type: Some(ResourceType::K8s),
            runtime_status: Some("error".into()),
            ..resource("db", false, "00:02", "ok")
        };
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), waiting_for("api", "db"), crashed];
        assert_eq!(poll(tracker, &all, "00:12").0, "provisional", "Kubernetes restarts it");
        let up = [resource("db", true, "00:20", "ok"), resource("api", true, "00:30", "ok")];
        let (progress, event) = poll(tracker, &[&[tiltfile][..], &up].concat(), "00:31");
        assert_eq!(progress, "final");
        assert!(event.contains(r#""time_to_ready_ms":30000.0"#), "{event}");
    }

    #[test]
    fn a_failed_tiltfile_delays_the_end_until_it_loads() {
        let failed = resource("(Tiltfile)", false, "00:01", "error");
        let tracker = &mut SessionTracker::default();
        assert_eq!(poll(tracker, std::slice::from_ref(&failed), "00:10").0, "provisional");
        let fixed =
            [resource("(Tiltfile)", true, "00:30", "ok"), resource("a", true, "00:40", "ok")];
        let (progress, event) = poll(tracker, &fixed, "00:41");
        assert_eq!(progress, "final");
        assert!(event.starts_with(r#"{"duration_ms":40000.0"#), "{event}");
        assert!(event.contains(r#""resources_failed":0"#), "{event}");

        let event = last_poll(&[failed], None, "00:02");
        assert!(event.contains(r#""resources_failed":1"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    #[test]
    fn a_success_makes_every_resource_ready() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let serving = resource("srv", false, "00:02", "pending");
        let event = last_poll(&[tiltfile, serving], Some(Outcome::Success), "00:05");
        assert!(event.starts_with(r#"{"duration_ms":5000.0"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    #[test]
    fn a_startup_is_missed_if_a_resource_was_rebuilt() {
        let update = |number| Update {
            span_id: format!("build:{number}"),
            started_at: at("00:03"),
            finished_at: at("00:04"),
            error: None,
            warnings: 0,
        };
        let once = Resource { updates: vec![update(1)], ..resource("a", true, "00:04", "ok") };
        let twice =
            Resource { updates: vec![update(2), update(1)], ..resource("a", true, "05:00", "ok") };
        for (shown, expected) in [(once, "final"), (twice, "none")] {
            let up = [resource("(Tiltfile)", true, "00:01", "ok"), shown];
            let tracker = &mut SessionTracker::default();
            assert_eq!(poll(tracker, &up, "05:10").0, expected);
            assert_eq!(tracker.awaits_first_ready(&up[1]), expected == "final");
        }
    }

    #[test]
    fn a_startup_is_missed_after_a_reload_of_the_tiltfile() {
        let update = |span_id: &str, from, to| Update {
            span_id: span_id.into(),
            started_at: at(from),
            finished_at: at(to),
            error: None,
            warnings: 0,
        };
        for (load, from, to, expected) in [
            ("tiltfile:(Tiltfile):1", "00:01", "00:02", "final"),
            ("tiltfile:(Tiltfile):2", "00:01", "00:02", "final"),
            ("tiltfile:(Tiltfile):2", "04:01", "04:02", "none"),
        ] {
            let tiltfile = Resource {
                updates: vec![update(load, from, to)],
                ..resource("(Tiltfile)", true, to, "ok")
            };
            let updates = vec![update("build:1", "00:03", "00:04")];
            let up = [tiltfile, Resource { updates, ..resource("a", true, "00:05", "ok") }];
            assert_eq!(
                poll(&mut SessionTracker::default(), &up, "05:10").0,
                expected,
                "{load} {from}"
            );
        }
    }

    #[test]
    fn the_end_of_a_session_is_never_a_timeout() {
        let up = [resource("(Tiltfile)", true, "00:01", "ok"), resource("a", true, "15:00", "ok")];
        let event = last_poll(&up, None, "15:02");
        assert!(event.starts_with(r#"{"duration_ms":900000.0"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    #[test]
    fn a_runtime_failure_dates_from_the_end_of_the_update() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let mut crashing = resource("a", false, "00:02", "ok");
        crashing.runtime_status = Some("error".into());
        crashing.updates = vec![Update {
            span_id: "build:1".into(),
            started_at: at("00:03"),
            finished_at: at("05:00"),
            error: None,
            warnings: 0,
        }];
        let crashed = &[tiltfile.clone(), crashing.clone()];
        let (progress, event) = poll(&mut SessionTracker::default(), crashed, "05:10");
        assert_eq!(progress, "final");
        assert!(event.starts_with(r#"{"duration_ms":300000.0"#), "{event}");

        let tracker = &mut SessionTracker::default();
        crashing.runtime_status = Some("pending".into());
        assert_eq!(poll(tracker, &[tiltfile, crashing], "08:00").0, "provisional");
        let (_, event) = poll(tracker, crashed, "08:20");
        assert!(event.starts_with(r#"{"duration_ms":500000.0"#), "seen when it failed: {event}");
    }

    #[test]
    fn a_resource_added_after_the_startup_has_no_time_to_ready() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let (failed, late) = (resource("a", false, "00:02", "error"), "03:00");
        let tracker = &mut SessionTracker::default();
        assert!(!tracker.awaits_first_ready(&failed), "before the first poll");
        let mut off = resource("off", false, "00:02", "pending");
        poll(tracker, &[tiltfile.clone(), off.clone()], "00:05");
        off.disabled = Some(true);
        tracker.observe(&off);
        assert_eq!(poll(tracker, &[tiltfile, failed, off], "00:10").0, "final");
        assert!(tracker.awaits_first_ready(&resource("a", true, late, "ok")), "fixed and ready");
        assert!(!tracker.awaits_first_ready(&resource("off", true, late, "ok")));
        assert!(!tracker.awaits_first_ready(&resource("new", true, late, "ok")));
    }

    #[test]
    fn a_manual_resource_has_no_time_to_ready() {
        let mut resource = resource("a", true, "00:20", "ok");
        assert!(time_to_ready(&resource, Some(&at("00:00"))).is_some());
        resource.trigger_mode = Some(2);
        assert_eq!(time_to_ready(&resource, Some(&at("00:00"))), None);
    }

    #[test]
    fn a_startup_that_was_missed_is_not_reported() {
        let up = [resource("(Tiltfile)", true, "00:01", "ok")];
        let tracker = &mut SessionTracker::default();
        assert_eq!(poll(tracker, &up, "10:01").0, "none");
        assert!(!tracker.awaits_first_ready(&resource("web", true, "00:10.000000", "ok")));
    }
}

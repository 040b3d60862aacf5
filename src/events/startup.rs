//! How long it takes until an environment works: from Tilt's start until every resource that
//! starts by itself has first become ready or failed, or cannot begin because another failed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::time::unix_micros;
use crate::events::event::{Event, EventKind, Fields};
use crate::events::tracker::{FirstOutcome, SessionTracker, Startup};
use crate::tilt::model::{Resource, ResourceType, Timestamp};

/// After this long what comes up is no start-up any more; nor is one told that nobody saw.
const LONGEST: Duration = Duration::from_mins(10);
/// Tilt shows its Tiltfile as loaded a moment before it shows what the Tiltfile defines.
const TILTFILE_PAUSE: Duration = Duration::from_secs(2);

/// Why a start-up is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything has become ready or failed, or is blocked by what failed.
    FirstOutcome,
    /// Something had not after ten minutes.
    TimedOut,
    /// Tilt ended first.
    WithSession,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::FirstOutcome => "settled",
            Self::TimedOut => "timeout",
            Self::WithSession => "session_end",
        }
    }
}

/// What a look means for the start-up.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// It was told of before, or cannot be.
    None,
    /// Still under way: what to tell if Tilt should end now.
    Provisional(Event),
    Final(Event),
}

/// Whether more of a session is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    Running,
    /// It will show no more.
    Over,
    /// Likewise; in Tilt's own word all was well, whatever it has not come to show.
    Succeeded,
}

/// Follows the start-up of a session that began at `tilt_started_at`. `frame` adds what every
/// event carries.
pub fn follow(
    tracker: &mut SessionTracker,
    resources: &[Resource],
    tilt_started_at: Option<&Timestamp>,
    course: Course,
    frame: impl Fn(Fields) -> Fields,
    now: SystemTime,
) -> Progress {
    let is_over = course != Course::Running;
    let Some(started_at) = tilt_started_at else { return Progress::None };
    let age = now.duration_since(started_at.at).unwrap_or_default();
    let looked_before = tracker.startup != Startup::NotObserved;
    if tracker.startup == Startup::NotObserved {
        // What a session shows at its end, it shows whole.
        let was_missed =
            age > LONGEST || resources.iter().any(was_rebuilt) || was_reloaded(resources);
        tracker.startup = if was_missed && !is_over {
            Startup::Missed
        } else {
            Startup::InProgress { settled: BTreeMap::new() }
        };
    }
    if let Startup::InProgress { .. } = tracker.startup {
        resources
            .iter()
            .filter(|r| r.starts_automatically())
            .for_each(|resource| tracker.await_ready(resource));
    }
    let Startup::InProgress { settled } = &mut tracker.startup else { return Progress::None };
    for resource in resources.iter().filter(|r| r.starts_automatically()) {
        if let Some(rest) = came_to_rest(resource, looked_before, now) {
            let known = settled.entry(resource.name.clone()).or_insert(rest);
            if known.failed && is_tiltfile(resource) {
                // Until it loads nobody knows what is to come up.
                *known = rest;
            }
        } else if course == Course::Succeeded {
            let rest = FirstOutcome { at: unix_micros(now), failed: false };
            settled.entry(resource.name.clone()).or_insert(rest);
        }
    }
    let blocked = blocked(settled, resources);
    let in_time = |rest: &FirstOutcome| rest.at <= unix_micros(started_at.at + LONGEST);
    // Of a session that is over the end of its start-up can be told, however late it was.
    let is_told_of = is_over || settled.values().all(in_time);
    let ended = if is_told_of
        && tiltfiles_are_loaded(settled, resources, is_over, now)
        && resources
            .iter()
            .filter(|r| r.starts_automatically())
            .all(|r| settled.contains_key(&r.name) || blocked.contains(r.name.as_str()))
    {
        Ended::FirstOutcome
    } else if age > LONGEST && !is_over {
        Ended::TimedOut
    } else {
        Ended::WithSession
    };
    let fields = frame(description(settled, blocked.len(), started_at, ended, age));
    let event = Event { kind: EventKind::Startup, time: started_at.at, fields };
    if ended == Ended::WithSession && !is_over {
        return Progress::Provisional(event);
    }
    // What was told as part of it stays so, also where the clock was set back meanwhile.
    tracker.startup = Startup::Finished { at: unix_micros(now).max(newest_start(resources)) };
    Progress::Final(event)
}

/// When the newest update of all began, in Unix microseconds.
fn newest_start(resources: &[Resource]) -> u64 {
    let finished = resources.iter().flat_map(|r| &r.updates).map(|update| &update.started_at);
    let under_way = resources.iter().filter_map(|r| r.current_update.as_ref());
    let began = finished.chain(under_way.map(|update| &update.started_at));
    began.map(|began| unix_micros(began.at)).max().unwrap_or_default()
}

/// When a resource came to rest: whoever looked before did not see it so.
fn came_to_rest(resource: &Resource, looked_before: bool, now: SystemTime) -> Option<FirstOutcome> {
    let ready = resource.ready.as_ref()?;
    let flipped_at = ready.since.as_ref().map_or(now, |since| since.at);
    let is = |status: &Option<String>| status.as_deref() == Some("error");
    if ready.holds {
        Some(FirstOutcome { at: unix_micros(flipped_at), failed: false })
    } else if is(&resource.update_status) {
        let failed_at = resource.updates.first().map_or(now, |update| update.finished_at.at);
        Some(FirstOutcome { at: unix_micros(failed_at), failed: true })
    } else if is(&resource.runtime_status) {
        // Tilt does not say when. It may never have been ready: then it flipped when it was made.
        let updated_at = resource.updates.first().map(|update| update.finished_at.at);
        let at_least = updated_at.map_or(flipped_at, |at| at.max(flipped_at));
        let failed_at = if looked_before { now } else { at_least };
        Some(FirstOutcome { at: unix_micros(failed_at), failed: true })
    } else {
        None
    }
}

/// Who looks for the first time cannot tell when such a resource was first ready: it has flipped since.
fn was_rebuilt(resource: &Resource) -> bool {
    let updates = resource.updates.len() + usize::from(resource.current_update.is_some());
    resource.starts_automatically() && !is_tiltfile(resource) && updates > 1
}

/// The same of a Tiltfile, of which Tilt keeps one load and numbers all. One that is loaded again since
/// it failed has nothing come up before.
fn was_reloaded(resources: &[Resource]) -> bool {
    let (tiltfiles, others): (Vec<_>, Vec<_>) = resources.iter().partition(|r| is_tiltfile(r));
    let loads = tiltfiles.iter().flat_map(|r| {
        let finished = r.updates.iter().map(|load| (&load.span_id, &load.started_at));
        finished.chain(r.current_update.iter().map(|load| (&load.span_id, &load.started_at)))
    });
    let mut reloads = loads.filter(|(span_id, _)| !span_id.ends_with(":1"));
    reloads.any(|(_, began)| {
        let mut updates = others.iter().flat_map(|r| &r.updates);
        updates.any(|update| update.finished_at.at < began.at)
    })
}

fn is_tiltfile(resource: &Resource) -> bool {
    resource.resource_type == Some(ResourceType::Tiltfile)
}

/// Whether it takes a person to have it work: one is at it where it is being updated, and Kubernetes
/// starts by itself what crashed.
fn stays_failed(resource: &Resource) -> bool {
    let is = |status: &Option<String>| status.as_deref() == Some("error");
    let restarts = resource.resource_type == Some(ResourceType::K8s);
    is(&resource.update_status) || is(&resource.runtime_status) && !restarts
}

/// What waits, directly or not, for something that has failed and stays so, and has not come to rest itself: it may
/// never begin.
fn blocked<'a>(
    settled: &BTreeMap<String, FirstOutcome>,
    resources: &'a [Resource],
) -> BTreeSet<&'a str> {
    let waiting = |resource: &'a Resource| {
        let waiting = resource.waiting.as_ref()?;
        let waits_for_others = waiting.reason.as_deref() == Some("waiting-for-dep");
        let is_meant = resource.starts_automatically() && !settled.contains_key(&resource.name);
        (waits_for_others && is_meant).then_some((resource.name.as_str(), &waiting.on))
    };
    let waiting: Vec<_> = resources.iter().filter_map(waiting).collect();
    let has_failed = |name: &String| {
        let stays_failed = |r: &Resource| r.name == *name && stays_failed(r);
        settled.get(name).is_some_and(|rest| rest.failed) && resources.iter().any(stays_failed)
    };
    let mut blocked = BTreeSet::new();
    loop {
        let is_blocked = |on: &Vec<String>| {
            on.iter().any(|name| has_failed(name) || blocked.contains(name.as_str()))
        };
        let so_far: BTreeSet<_> =
            waiting.iter().filter(|(_, on)| is_blocked(on)).map(|(name, _)| *name).collect();
        if so_far.len() == blocked.len() {
            return blocked;
        }
        blocked = so_far;
    }
}

/// Whether it is known what is to come up.
fn tiltfiles_are_loaded(
    settled: &BTreeMap<String, FirstOutcome>,
    resources: &[Resource],
    is_over: bool,
    now: SystemTime,
) -> bool {
    let pause = u64::try_from(TILTFILE_PAUSE.as_micros()).unwrap_or(u64::MAX);
    let is_loaded = |tiltfile: &Resource| {
        settled.get(&tiltfile.name).is_some_and(|loaded| {
            let has_passed = unix_micros(now).saturating_sub(loaded.at) >= pause;
            // What else an extension's own would define is not for it alone to say.
            let has_loaded = !loaded.failed || tiltfile.name != "(Tiltfile)";
            is_over || has_loaded && has_passed
        })
    };
    let mut tiltfiles = resources.iter().filter(|resource| is_tiltfile(resource)).peekable();
    tiltfiles.peek().is_some() && tiltfiles.all(is_loaded)
}

fn description(
    settled: &BTreeMap<String, FirstOutcome>,
    blocked: usize,
    started_at: &Timestamp,
    ended: Ended,
    age: Duration,
) -> Fields {
    let mut fields = Fields::default();
    let since_start = |rest: &FirstOutcome| {
        let at = UNIX_EPOCH + Duration::from_micros(rest.at);
        at.duration_since(started_at.at).unwrap_or_default()
    };
    // Where something never came to rest, this is how long it had for that.
    let last = settled.values().map(since_start).max().filter(|_| ended == Ended::FirstOutcome);
    fields.set_ms("duration_ms", Some(last.unwrap_or(age)));
    let slowest = settled.iter().filter(|(_, rest)| !rest.failed).max_by_key(|(_, rest)| rest.at);
    if let Some((name, rest)) = slowest {
        fields.set_ms("time_to_ready_ms", Some(since_start(rest)));
        fields.set("slowest_resource", name.clone());
    }
    let failed = settled.values().filter(|rest| rest.failed).count();
    fields.set("resources_ready", settled.len() - failed);
    fields.set("resources_failed", failed);
    fields.set("resources_blocked", blocked);
    fields.set("ended_by", ended.as_str());
    if failed > 0 {
        fields.set("error", true);
        fields.set("error.type", "resource_failed");
    }
    fields
}

/// How long after Tilt's start the resource became ready; of one that waits for a person it would
/// say how long that took.
pub fn time_to_ready(resource: &Resource, tilt_started_at: Option<&Timestamp>) -> Option<Duration> {
    if !resource.starts_automatically() {
        return None;
    }
    let ready = resource.ready.as_ref().filter(|ready| ready.holds)?;
    ready.since.as_ref()?.since(tilt_started_at?)
}

/// How soon what a watch has shown may count as all that comes up, though nothing more changes.
pub fn poll_again_after(tracker: &SessionTracker) -> Option<Duration> {
    matches!(tracker.startup, Startup::InProgress { .. }).then_some(TILTFILE_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tilt::model::{Condition, Update, Waiting};

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

    fn observation(
        tracker: &mut SessionTracker,
        resources: &[Resource],
        now: &str,
    ) -> (&'static str, String) {
        let start = at("00:00");
        match follow(tracker, resources, Some(&start), Course::Running, |fields| fields, at(now).at)
        {
            Progress::None => ("nothing", String::new()),
            Progress::Provisional(event) => ("so far", json(&event)),
            Progress::Final(event) => ("over", json(&event)),
        }
    }

    fn json(event: &Event) -> String {
        serde_json::to_string(&event.fields).expect("JSON")
    }

    #[test]
    fn it_ends_when_everything_that_starts_by_itself_is_ready_or_failed() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let mut manual = resource("manual", false, "00:01", "none");
        manual.trigger_mode = Some(2);
        let mut disabled = resource("off", false, "00:01", "none");
        disabled.disabled = Some(true);
        let building = resource("web", false, "00:01", "in_progress");
        let web = resource("web", true, "00:20.5", "ok");
        let broken = resource("codegen", false, "00:01", "error");

        let tracker = &mut SessionTracker::default();
        assert_eq!(observation(tracker, std::slice::from_ref(&tiltfile), "00:02").0, "so far");
        let all = [tiltfile.clone(), manual.clone(), disabled.clone(), building];
        assert_eq!(observation(tracker, &all, "00:10").0, "so far");
        let all = [tiltfile, manual, disabled, web, broken];
        let (told, event) = observation(tracker, &all, "00:21");
        assert_eq!(told, "over");
        assert_eq!(
            event,
            r#"{"duration_ms":21000.0,"time_to_ready_ms":20500.0,"slowest_resource":"web","resources_ready":2,"resources_failed":1,"resources_blocked":0,"ended_by":"settled","error":true,"error.type":"resource_failed"}"#
        );
        assert_eq!(observation(tracker, &all, "00:22").0, "nothing", "once per session");
    }

    #[test]
    fn how_a_resource_first_came_to_rest_stays() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let tracker = &mut SessionTracker::default();
        observation(tracker, &[tiltfile.clone(), resource("a", true, "00:02", "ok")], "00:02");
        let broken_since = resource("a", false, "00:30", "error");
        let (told, event) = observation(tracker, &[tiltfile, broken_since], "00:31");
        assert_eq!(told, "over");
        assert!(event.contains(r#""resources_failed":0"#), "{event}");
    }

    #[test]
    fn after_ten_minutes_it_says_that_something_never_came_up() {
        let stuck = [
            resource("(Tiltfile)", true, "00:01", "ok"),
            resource("a", false, "00:02", "in_progress"),
        ];
        let tracker = &mut SessionTracker::default();
        assert_eq!(observation(tracker, &stuck, "09:59").0, "so far");
        let (told, event) = observation(tracker, &stuck, "10:01");
        assert_eq!(told, "over");
        assert!(event.contains(r#""ended_by":"timeout""#), "{event}");
        assert!(event.contains(r#""duration_ms":601000.0,"time_to_ready_ms":1000.0"#), "{event}");
    }

    #[test]
    fn what_had_settled_in_time_is_no_timeout_though_nobody_looked() {
        let (tiltfile, a) = (resource("(Tiltfile)", true, "00:01", "ok"), "00:30");
        let tracker = &mut SessionTracker::default();
        let building = resource("a", false, "00:02", "in_progress");
        assert_eq!(observation(tracker, &[tiltfile.clone(), building], "00:10").0, "so far");
        let (_, event) = observation(tracker, &[tiltfile, resource("a", true, a, "ok")], "12:00");
        assert!(event.starts_with(r#"{"duration_ms":30000.0"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    fn waiting_for(name: &str, dependency: &str) -> Resource {
        let reason = Some("waiting-for-dep".into());
        let waiting = Some(Waiting { reason, on: vec![dependency.into()] });
        Resource { waiting, ..resource(name, false, "00:02", "pending") }
    }

    #[test]
    fn what_waits_for_something_that_failed_is_not_waited_for() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let mut lint = resource("lint", false, "00:02", "in_progress");
        let (after, last) = (waiting_for("after", "lint"), waiting_for("last", "after"));
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), after.clone(), last.clone(), lint.clone()];
        assert_eq!(observation(tracker, &all, "00:10").0, "so far", "lint runs");
        lint.update_status = Some("error".into());
        let (told, event) = observation(tracker, &[tiltfile, after, last, lint], "00:11");
        assert_eq!(told, "over");
        assert!(event.contains(r#""resources_failed":1,"resources_blocked":2"#), "{event}");
        assert!(event.contains(r#""ended_by":"settled""#), "{event}");
    }

    #[test]
    fn what_waits_for_something_that_is_mended_or_restarts_is_waited_for() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let broken = resource("lint", false, "00:02", "error");
        let slow = resource("slow", false, "00:02", "in_progress");
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), waiting_for("after", "lint"), slow, broken.clone()];
        assert_eq!(observation(tracker, &all, "00:10").0, "so far");
        let mended = Resource { update_status: Some("in_progress".into()), ..broken };
        let slow = resource("slow", true, "00:20", "ok");
        let all = [tiltfile.clone(), waiting_for("after", "lint"), slow, mended];
        assert_eq!(observation(tracker, &all, "00:21").0, "so far", "a person is at it");

        let crashed = Resource {
            resource_type: Some(ResourceType::K8s),
            runtime_status: Some("error".into()),
            ..resource("db", false, "00:02", "ok")
        };
        let tracker = &mut SessionTracker::default();
        let all = [tiltfile.clone(), waiting_for("api", "db"), crashed];
        assert_eq!(observation(tracker, &all, "00:12").0, "so far", "Kubernetes starts it again");
        let up = [resource("db", true, "00:20", "ok"), resource("api", true, "00:30", "ok")];
        let (told, event) = observation(tracker, &[&[tiltfile][..], &up].concat(), "00:31");
        assert_eq!(told, "over");
        assert!(event.contains(r#""time_to_ready_ms":30000.0"#), "{event}");
    }

    #[test]
    fn a_tiltfile_that_failed_is_waited_for_until_it_loads() {
        let failed = resource("(Tiltfile)", false, "00:01", "error");
        let tracker = &mut SessionTracker::default();
        assert_eq!(observation(tracker, std::slice::from_ref(&failed), "00:10").0, "so far");
        let mended =
            [resource("(Tiltfile)", true, "00:30", "ok"), resource("a", true, "00:40", "ok")];
        let (told, event) = observation(tracker, &mended, "00:41");
        assert_eq!(told, "over");
        assert!(event.starts_with(r#"{"duration_ms":40000.0"#), "{event}");
        assert!(event.contains(r#""resources_failed":0"#), "{event}");

        let (tracker, frame, start) =
            (&mut SessionTracker::default(), |fields| fields, at("00:00"));
        let told = follow(tracker, &[failed], Some(&start), Course::Over, frame, at("00:02").at);
        let Progress::Final(event) = told else { panic!("{told:?}") };
        assert!(json(&event).contains(r#""resources_failed":1"#), "{event:?}");
        assert!(json(&event).contains(r#""ended_by":"settled""#), "{event:?}");
    }

    #[test]
    fn what_tilt_did_not_come_to_show_is_ready_if_it_says_that_all_is_well() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let serving = resource("srv", false, "00:02", "pending");
        let (tracker, frame, start) =
            (&mut SessionTracker::default(), |fields| fields, at("00:00"));
        let shown = [tiltfile, serving];
        let told = follow(tracker, &shown, Some(&start), Course::Succeeded, frame, at("00:05").at);
        let Progress::Final(event) = told else { panic!("{told:?}") };
        assert!(json(&event).starts_with(r#"{"duration_ms":5000.0"#), "{event:?}");
        assert!(json(&event).contains(r#""ended_by":"settled""#), "{event:?}");
    }

    #[test]
    fn who_comes_when_something_was_rebuilt_cannot_tell_how_long_the_start_took() {
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
        for (shown, expected) in [(once, "over"), (twice, "nothing")] {
            let up = [resource("(Tiltfile)", true, "00:01", "ok"), shown];
            let tracker = &mut SessionTracker::default();
            assert_eq!(observation(tracker, &up, "05:10").0, expected);
            assert_eq!(tracker.awaits(&up[1]), expected == "over");
        }
    }

    #[test]
    fn of_a_tiltfile_that_was_loaded_again_nobody_can_tell_when_all_was_up_unless_it_failed_at_first()
     {
        let update = |span_id: &str, from, to| Update {
            span_id: span_id.into(),
            started_at: at(from),
            finished_at: at(to),
            error: None,
            warnings: 0,
        };
        for (load, from, to, expected) in [
            ("tiltfile:(Tiltfile):1", "00:01", "00:02", "over"),
            ("tiltfile:(Tiltfile):2", "00:01", "00:02", "over"),
            ("tiltfile:(Tiltfile):2", "04:01", "04:02", "nothing"),
        ] {
            let tiltfile = Resource {
                updates: vec![update(load, from, to)],
                ..resource("(Tiltfile)", true, to, "ok")
            };
            let updates = vec![update("build:1", "00:03", "00:04")];
            let up = [tiltfile, Resource { updates, ..resource("a", true, "00:05", "ok") }];
            assert_eq!(
                observation(&mut SessionTracker::default(), &up, "05:10").0,
                expected,
                "{load} {from}"
            );
        }
    }

    #[test]
    fn a_session_that_is_over_had_settled_however_long_that_took() {
        let up = [resource("(Tiltfile)", true, "00:01", "ok"), resource("a", true, "15:00", "ok")];
        let frame = |fields| fields;
        let start = at("00:00");
        let (tracker, ended) = (&mut SessionTracker::default(), at("15:02").at);
        let told = follow(tracker, &up, Some(&start), Course::Over, frame, ended);
        let Progress::Final(event) = told else { panic!("{told:?}") };
        assert!(json(&event).starts_with(r#"{"duration_ms":900000.0"#), "{event:?}");
        assert!(json(&event).contains(r#""ended_by":"settled""#), "{event:?}");
    }

    #[test]
    fn what_fails_at_run_time_came_to_rest_after_its_update() {
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
        let (told, event) = observation(&mut SessionTracker::default(), crashed, "05:10");
        assert_eq!(told, "over");
        assert!(event.starts_with(r#"{"duration_ms":300000.0"#), "{event}");

        let tracker = &mut SessionTracker::default();
        crashing.runtime_status = Some("pending".into());
        assert_eq!(observation(tracker, &[tiltfile, crashing], "08:00").0, "so far");
        let (_, event) = observation(tracker, crashed, "08:20");
        assert!(event.starts_with(r#"{"duration_ms":500000.0"#), "seen when it failed: {event}");
    }

    #[test]
    fn a_resource_that_came_after_the_start_up_has_no_time_to_ready() {
        let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
        let (failed, late) = (resource("a", false, "00:02", "error"), "03:00");
        let tracker = &mut SessionTracker::default();
        assert!(!tracker.awaits(&failed), "nobody has looked yet");
        let mut off = resource("off", false, "00:02", "pending");
        observation(tracker, &[tiltfile.clone(), off.clone()], "00:05");
        off.disabled = Some(true);
        tracker.observe(&off);
        assert_eq!(observation(tracker, &[tiltfile, failed, off], "00:10").0, "over");
        assert!(tracker.awaits(&resource("a", true, late, "ok")), "mended, and up at last");
        assert!(!tracker.awaits(&resource("off", true, late, "ok")));
        assert!(!tracker.awaits(&resource("new", true, late, "ok")));
    }

    #[test]
    fn a_resource_that_a_person_starts_has_no_time_to_ready() {
        let mut resource = resource("a", true, "00:20", "ok");
        assert!(time_to_ready(&resource, Some(&at("00:00"))).is_some());
        resource.trigger_mode = Some(2);
        assert_eq!(time_to_ready(&resource, Some(&at("00:00"))), None);
    }

    #[test]
    fn a_start_up_that_nobody_saw_is_not_told() {
        let up = [resource("(Tiltfile)", true, "00:01", "ok")];
        let tracker = &mut SessionTracker::default();
        assert_eq!(observation(tracker, &up, "10:01").0, "nothing");
        assert!(!tracker.awaits(&resource("web", true, "00:10.000000", "ok")));
    }
}

//! How a startup ends, and what its event says.

use super::*;
use crate::events::observation::Phase;
use crate::tilt::model::{Condition, ResourceType, Session, Snapshot, Update, Waiting};

const COLLECTOR: &str = "honeycomb-collector";

pub(super) fn at(text: &str) -> Timestamp {
    Timestamp::parse(&format!("2026-11-22T15:{text}Z")).expect(text)
}

pub(super) fn resource(name: &str, ready: bool, since: &str, update_status: &str) -> Resource {
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

pub(super) fn poll(
    tracker: &mut SessionTracker,
    resources: &[Resource],
    now: &str,
) -> (&'static str, String) {
    match follow(&Observation::at(&snapshot(resources)), tracker, COLLECTOR, at(now).at) {
        Progress::None => ("none", String::new()),
        Progress::Provisional(fields) => ("provisional", json(&fields)),
        Progress::Final(fields) => ("final", json(&fields)),
    }
}

/// The startup at the end of a session with this outcome.
pub(super) fn last_poll(resources: &[Resource], outcome: Option<Outcome>, now: &str) -> String {
    let mut tracker = SessionTracker::default();
    tracker.outcome = outcome;
    let snapshot = snapshot(resources);
    let observation = Observation { phase: Phase::Over(outcome), ..Observation::at(&snapshot) };
    match follow(&observation, &mut tracker, COLLECTOR, at(now).at) {
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
        r#"{"duration_ms":21000.0,"time_to_ready_ms":20500.0,"slowest_resource":"web","resources":3,"resources_ready":2,"resources_failed":1,"resources_blocked":0,"resources_unready":0,"resources_recovered":0,"ended_by":"settled","error":true,"error.type":"resource_failed"}"#
    );
    assert_eq!(poll(tracker, &all, "00:22").0, "none", "once per session");
}

#[test]
fn the_last_outcome_of_a_resource_counts() {
    let tiltfile = resource("(Tiltfile)", true, "00:01", "ok");
    let tracker = &mut SessionTracker::default();
    poll(tracker, &[tiltfile.clone(), resource("a", true, "00:02", "ok")], "00:02");
    let broken_since = resource("a", false, "00:30", "error");
    let (progress, event) = poll(tracker, &[tiltfile, broken_since], "00:31");
    assert_eq!(progress, "final");
    assert!(event.contains(r#""resources_failed":1"#), "{event}");
}

#[test]
fn a_startup_times_out_after_ten_minutes() {
    let stuck =
        [resource("(Tiltfile)", true, "00:01", "ok"), resource("a", false, "00:02", "in_progress")];
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

pub(super) fn waiting_for(name: &str, dependency: &str) -> Resource {
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
    let fixed = [resource("(Tiltfile)", true, "00:30", "ok"), resource("a", true, "00:40", "ok")];
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
        assert_eq!(poll(&mut SessionTracker::default(), &up, "05:10").0, expected, "{load} {from}");
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

pub(super) fn number(event: &str, field: &str) -> u64 {
    value(event, field).as_u64().unwrap_or_else(|| panic!("{field} in {event}"))
}

pub(super) fn value(event: &str, field: &str) -> serde_json::Value {
    let fields: serde_json::Value = serde_json::from_str(event).expect(event);
    fields[field].clone()
}

/// The numbers of resources that are ready, failed, blocked and unready.
pub(super) fn counts(event: &str) -> [u64; 4] {
    let fields = ["resources_ready", "resources_failed", "resources_blocked", "resources_unready"];
    let counts = fields.map(|field| number(event, field));
    assert_eq!(counts.iter().sum::<u64>(), number(event, "resources"));
    counts
}

pub(super) fn loaded() -> Resource {
    resource("(Tiltfile)", true, "00:01", "ok")
}

#[test]
fn dependents_of_a_resource_that_nobody_starts_are_blocked() {
    let manual = Resource { trigger_mode: Some(3), ..resource("manual", false, "00:01", "none") };
    let slow = resource("slow", false, "00:01", "in_progress");
    let (after, last) = (waiting_for("after", "manual"), waiting_for("last", "after"));
    let tracker = &mut SessionTracker::default();
    let all = [loaded(), manual.clone(), after.clone(), last.clone(), slow];
    assert_eq!(poll(tracker, &all, "00:03").0, "provisional");
    // Tilt shows one of several reasons to wait.
    let reason = Some("waiting-for-local".into());
    let waiting = Some(Waiting { reason, on: vec!["slow".into()] });
    let after = Resource { waiting, ..after };
    let slow = resource("slow", true, "00:09", "ok");
    let (progress, event) = poll(tracker, &[loaded(), manual, after, last, slow], "00:10");
    assert_eq!((progress, counts(&event)), ("final", [2, 0, 2, 0]));
    assert_eq!(value(&event, "unready"), "after,last");
    assert_eq!(value(&event, "ended_by"), "settled");
    assert_eq!(value(&event, "error"), serde_json::Value::Null);
}

#[test]
fn a_dependency_that_a_person_started_blocks_nothing() {
    let started = resource("manual", false, "00:01", "in_progress");
    let started = Resource { trigger_mode: Some(2), ..started };
    let all = [loaded(), started.clone(), waiting_for("after", "manual")];
    let tracker = &mut SessionTracker::default();
    assert_eq!(poll(tracker, &all, "00:10").0, "provisional");
    let failed = Resource { update_status: Some("error".into()), ..started };
    let all = [loaded(), failed, waiting_for("after", "manual")];
    let (progress, event) = poll(tracker, &all, "00:11");
    assert_eq!((progress, counts(&event)), ("final", [1, 0, 1, 0]));
}

#[test]
fn dependents_of_a_resource_disabled_during_the_run_are_blocked() {
    let building = resource("slow", false, "00:01", "in_progress");
    let tracker = &mut SessionTracker::default();
    let all = [loaded(), building.clone(), waiting_for("after", "slow")];
    assert_eq!(poll(tracker, &all, "00:03").0, "provisional");
    let disabled = Resource { disabled: Some(true), ..resource("slow", false, "00:01", "none") };
    let all = [loaded(), disabled, waiting_for("after", "slow")];
    let (progress, event) = poll(tracker, &all, "00:04");
    assert_eq!((progress, counts(&event)), ("final", [1, 0, 1, 0]));
}

#[test]
fn the_error_type_names_the_reason_of_a_failed_run() {
    let hang = resource("hang", false, "00:02", "in_progress");
    let broken = resource("codegen", false, "00:02", "error");
    for (shown, outcome, expected) in [
        (&hang, Some(Outcome::Timeout), Some("timeout")),
        (&broken, Some(Outcome::Timeout), Some("timeout")),
        (&hang, Some(Outcome::Failure), Some("_OTHER")),
        (&broken, Some(Outcome::Failure), Some("resource_failed")),
        (&broken, None, Some("resource_failed")),
        (&hang, None, None),
        (&hang, Some(Outcome::Success), None),
    ] {
        let event = last_poll(&[loaded(), shown.clone()], outcome, "00:10");
        let error_type = value(&event, "error.type");
        assert_eq!(error_type.as_str(), expected, "{} {outcome:?}", shown.name);
        assert_eq!(value(&event, "error").as_bool().is_some(), expected.is_some());
    }
}

#[test]
fn a_tiltfile_that_failed_and_was_fixed_is_named() {
    let failed = resource("(Tiltfile)", false, "00:01", "error");
    let tracker = &mut SessionTracker::default();
    poll(tracker, std::slice::from_ref(&failed), "00:02");
    let fixed = [resource("(Tiltfile)", true, "00:10", "ok"), resource("a", true, "00:12", "ok")];
    let (progress, event) = poll(tracker, &fixed, "00:13");
    assert_eq!((progress, counts(&event)), ("final", [2, 0, 0, 0]));
    assert_eq!(value(&event, "tiltfile_failed"), true);
    assert_eq!(number(&event, "resources_recovered"), 1);

    // A collector that the Tiltfile starts sees only the second load.
    let load = |number: u32| Update {
        span_id: format!("tiltfile:(Tiltfile):{number}"),
        started_at: at("00:09"),
        finished_at: at("00:10"),
        error: None,
        warnings: 0,
    };
    for (number, expected) in [(2, Some(true)), (1, None)] {
        let [tiltfile, a] = fixed.clone();
        let tiltfile = Resource { updates: vec![load(number)], ..tiltfile };
        let tracker = &mut SessionTracker::default();
        let (_, event) = poll(tracker, &[tiltfile, a], "00:13");
        assert_eq!(value(&event, "tiltfile_failed").as_bool(), expected);
    }
    let event = last_poll(&[failed], None, "00:02");
    assert_eq!(value(&event, "tiltfile_failed"), serde_json::Value::Null, "it was not fixed");
}

#[test]
fn a_resource_without_a_status_is_unready() {
    let bare = Resource { name: "web".into(), ..Resource::default() };
    let tracker = &mut SessionTracker::default();
    let (progress, event) = poll(tracker, &[loaded(), bare.clone()], "00:30");
    assert_eq!((progress, counts(&event)), ("provisional", [1, 0, 0, 1]));
    assert_eq!(counts(&last_poll(&[loaded(), bare], None, "00:30")), [1, 0, 0, 1]);
    let manual = Resource { trigger_mode: Some(2), ..resource("web", false, "00:31", "none") };
    let (progress, event) = poll(tracker, &[loaded(), manual], "00:33");
    assert_eq!((progress, counts(&event)), ("final", [1, 0, 0, 0]));
}

#[test]
fn the_build_of_the_collector_does_not_count() {
    let collector = resource(COLLECTOR, true, "00:16", "ok");
    let all = [loaded(), resource("web", true, "00:05", "ok"), collector];
    let (progress, event) = poll(&mut SessionTracker::default(), &all, "00:17");
    assert_eq!((progress, counts(&event)), ("final", [2, 0, 0, 0]));
    assert_eq!(value(&event, "slowest_resource"), "web");
    assert_eq!(value(&event, "duration_ms"), 5000.0);
    let building = resource(COLLECTOR, false, "00:01", "in_progress");
    let all = [loaded(), resource("web", true, "00:05", "ok"), building];
    assert_eq!(poll(&mut SessionTracker::default(), &all, "00:17").0, "final");
}

#[test]
fn unready_names_at_most_20_resources() {
    let all: Vec<_> =
        (10..40).map(|n| resource(&format!("r{n}"), false, "00:02", "pending")).collect();
    let event = last_poll(&[&[loaded()][..], &all].concat(), None, "00:05");
    assert_eq!(counts(&event), [1, 0, 0, 30]);
    let names = value(&event, "unready");
    let names: Vec<_> = names.as_str().expect("names").split(',').collect();
    assert_eq!((names.len(), names[0], names[19]), (20, "r10", "r29"));
}

#[test]
fn a_manual_resource_in_error_is_not_a_failed_one() {
    let manual = Resource { trigger_mode: Some(2), ..resource("e2e", false, "00:02", "error") };
    let event = last_poll(&[loaded(), manual], None, "00:05");
    assert_eq!(counts(&event), [1, 0, 0, 0]);
    assert_eq!(value(&event, "error.type"), "_OTHER");
}

#[test]
fn a_tilt_without_conditions_does_not_time_out() {
    let old = |name: &str| Resource { ready: None, ..resource(name, false, "00:02", "ok") };
    let all = [old("(Tiltfile)"), old("web")];
    let tracker = &mut SessionTracker::default();
    assert_eq!(poll(tracker, &all, "00:10").0, "provisional");
    assert_eq!(poll(tracker, &all, "10:01").0, "none");
    assert_eq!(tracker.startup, Startup::Missed);
}

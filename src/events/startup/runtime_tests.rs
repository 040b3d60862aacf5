//! What counts as ready or failed after the update of a resource.

use super::tests::{at, counts, last_poll, loaded, number, poll, resource, value, waiting_for};
use super::*;
use crate::tilt::model::{ResourceType, Update, Waiting};

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

fn failed_runtime(name: &str, since: &str) -> Resource {
    Resource { runtime_status: Some("error".into()), ..resource(name, false, since, "ok") }
}

/// A Kubernetes resource whose pod is in trouble.
fn crash_loop(name: &str) -> Resource {
    Resource {
        resource_type: Some(ResourceType::K8s),
        runtime_status: Some("pending".into()),
        pod_status: Some("CrashLoopBackOff".into()),
        ..resource(name, false, "00:02", "ok")
    }
}

#[test]
fn a_server_that_crashed_after_it_was_ready_counts_as_failed() {
    let tracker = &mut SessionTracker::default();
    let slow = resource("slow", false, "00:01", "in_progress");
    poll(tracker, &[loaded(), resource("a", true, "00:02", "ok"), slow.clone()], "00:03");
    let crashed = failed_runtime("a", "00:06");
    let mut after = resource("after-a", false, "00:01", "pending");
    after.waiting =
        Some(Waiting { reason: Some("waiting-for-local".into()), on: vec!["slow".into()] });
    let all = [loaded(), crashed.clone(), slow, after];
    assert_eq!(poll(tracker, &all, "00:07").0, "provisional");
    // Tilt starts `after-a` although `a` has died: it was ready once.
    let up = [resource("slow", true, "00:15", "ok"), resource("after-a", true, "00:16", "ok")];
    let (progress, event) = poll(tracker, &[&[loaded(), crashed][..], &up].concat(), "00:17");
    assert_eq!((progress, counts(&event)), ("final", [3, 1, 0, 0]));
    assert_eq!(value(&event, "slowest_resource"), "after-a");
    assert_eq!(value(&event, "error.type"), "resource_failed");
    assert_eq!(value(&event, "duration_ms"), 16000.0);
}

#[test]
fn a_resource_that_failed_and_came_up_counts_as_recovered() {
    let tracker = &mut SessionTracker::default();
    let slow = resource("slow", false, "00:01", "in_progress");
    let broken = resource("a", false, "00:02", "error");
    assert_eq!(poll(tracker, &[loaded(), broken, slow], "00:03").0, "provisional");
    let up = [resource("a", true, "00:09", "ok"), resource("slow", true, "00:08", "ok")];
    let (progress, event) = poll(tracker, &[&[loaded()][..], &up].concat(), "00:10");
    assert_eq!((progress, counts(&event)), ("final", [3, 0, 0, 0]));
    assert_eq!(number(&event, "resources_recovered"), 1);
    assert_eq!(value(&event, "error"), serde_json::Value::Null);
    assert_eq!(value(&event, "time_to_ready_ms"), 9000.0);
}

#[test]
fn a_crash_is_dated_by_the_change_of_the_condition() {
    let tracker = &mut SessionTracker::default();
    let slow = resource("slow", false, "00:01", "in_progress");
    poll(tracker, &[loaded(), resource("a", true, "00:02", "ok"), slow], "00:03");
    let all = [loaded(), failed_runtime("a", "00:20"), resource("slow", true, "00:10", "ok")];
    let (progress, event) = poll(tracker, &all, "01:00");
    assert_eq!(progress, "final");
    assert_eq!(value(&event, "duration_ms"), 20000.0);
}

#[test]
fn a_pod_fails_after_30_s_in_trouble_without_the_attempts() {
    let trying = Resource { pod_status: Some("Init:0/1".into()), ..crash_loop("db") };
    let tracker = &mut SessionTracker::default();
    for (now, db) in [
        ("00:10", crash_loop("db")),
        ("00:39", crash_loop("db")),
        ("00:39.5", trying.clone()),
        ("00:50", trying.clone()),
        ("00:51", crash_loop("db")),
        ("00:51.4", crash_loop("db")),
    ] {
        assert_eq!(poll(tracker, &[loaded(), db], now).0, "provisional", "{now}");
    }
    let failed = &mut tracker.clone();
    let (progress, event) = poll(failed, &[loaded(), crash_loop("db")], "00:51.5");
    assert_eq!((progress, counts(&event)), ("final", [1, 1, 0, 0]));
    let (progress, event) = poll(tracker, &[loaded(), trying], "00:52");
    assert_eq!((progress, counts(&event)), ("final", [1, 1, 0, 0]), "another attempt");
}

#[test]
fn an_update_of_a_pod_in_trouble_gives_it_another_30_s() {
    let tracker = &mut SessionTracker::default();
    let update = Resource { update_status: Some("in_progress".into()), ..crash_loop("db") };
    for (now, db) in [
        ("00:10", crash_loop("db")),
        ("00:39", update),
        ("00:41", crash_loop("db")),
        ("01:10", crash_loop("db")),
    ] {
        assert_eq!(poll(tracker, &[loaded(), db], now).0, "provisional", "{now}");
    }
    let (progress, event) = poll(tracker, &[loaded(), crash_loop("db")], "01:11");
    assert_eq!((progress, counts(&event)), ("final", [1, 1, 0, 0]));
}

#[test]
fn a_pod_that_recovers_within_30_s_never_failed() {
    let tracker = &mut SessionTracker::default();
    poll(tracker, &[loaded(), crash_loop("db")], "00:10");
    let up = [loaded(), resource("db", true, "00:20", "ok")];
    let (progress, event) = poll(tracker, &up, "00:21");
    assert_eq!((progress, counts(&event)), ("final", [2, 0, 0, 0]));
    assert_eq!(number(&event, "resources_recovered"), 0);
}

#[test]
fn a_failed_job_and_a_failed_deploy_count_at_once() {
    let job = Resource {
        is_job: true,
        runtime_status: Some("error".into()),
        pod_status: Some("Error".into()),
        ..crash_loop("migrate")
    };
    let deploy = Resource { update_status: Some("error".into()), ..crash_loop("api") };
    for failed in [job, deploy] {
        let tracker = &mut SessionTracker::default();
        let (progress, event) = poll(tracker, &[loaded(), failed], "00:10");
        assert_eq!((progress, counts(&event)), ("final", [1, 1, 0, 0]));
    }
}

#[test]
fn at_the_end_of_a_session_a_pod_in_trouble_has_failed() {
    let event = last_poll(&[loaded(), crash_loop("db")], None, "00:05");
    assert_eq!(counts(&event), [1, 1, 0, 0]);
    assert_eq!(value(&event, "error.type"), "resource_failed");
}

#[test]
fn a_probe_that_never_succeeds_times_out_after_ten_minutes() {
    let never = Resource {
        runtime_status: Some("pending".into()),
        ..resource("never", false, "00:02", "not_applicable")
    };
    let all = [loaded(), never, waiting_for("after-never", "never")];
    let tracker = &mut SessionTracker::default();
    assert_eq!(poll(tracker, &all, "00:10").0, "provisional");
    assert_eq!(poll(tracker, &all, "10:00").0, "provisional");
    let (progress, event) = poll(tracker, &all, "10:01");
    assert_eq!((progress, counts(&event)), ("final", [1, 0, 0, 2]));
    assert_eq!(value(&event, "unready"), "after-never,never");
    assert_eq!(value(&event, "ended_by"), "timeout");
    assert_eq!(value(&event, "error"), true);
    assert_eq!(value(&event, "error.type"), "timeout");
    assert!(matches!(tracker.startup, Startup::Finished { timed_out: true, .. }));
}

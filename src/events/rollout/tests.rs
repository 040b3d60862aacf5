use super::*;
use crate::tilt::model::Condition;

fn at(second: f64) -> Timestamp {
    let start = humantime::parse_rfc3339("2026-11-28T17:00:00Z").expect("a time");
    let time = start + Duration::from_secs_f64(second);
    Timestamp::parse(&humantime::format_rfc3339_micros(time).to_string()).expect("a time")
}

fn update() -> Update {
    Update {
        span_id: "build:1".into(),
        started_at: at(10.5),
        finished_at: at(12.0),
        error: None,
        warnings: 0,
    }
}

/// A resource whose pod was created at `pod`.
fn web(ready: Option<f64>, pod: f64, status: &str, runtime_status: &str) -> Resource {
    let since = Some(at(ready.unwrap_or(1.0)));
    Resource {
        name: "web".into(),
        resource_type: Some(ResourceType::K8s),
        runtime_status: Some(runtime_status.into()),
        ready: Some(Condition { holds: ready.is_some(), reason: None, since }),
        pod_status: Some(status.into()),
        pod_created_at: Some(at(pod)),
        updates: vec![update()],
        ..Resource::default()
    }
}

fn polled(second: f64) -> RolloutMoment {
    RolloutMoment { now: at(second).at, is_over: false, succeeded: false, is_watched: false }
}

/// The outcome, and the seconds since the end of the update.
fn outcome(
    resource: &Resource,
    next: Option<f64>,
    trouble_since: f64,
    moment: RolloutMoment,
) -> Option<(&'static str, f64)> {
    let (update, next) = (update(), next.map(at));
    let rollout = Rollout::new(&update, next.as_ref());
    let failure = RuntimeFailure::of(resource, None);
    let since = at(trouble_since).at;
    let failure = failure.map(|failure| (failure, Trouble::begin(since, since)));
    match progress(resource, &rollout, failure, true, moment) {
        RolloutProgress::Over { at, outcome } => {
            let time = at.duration_since(rollout.updated_at.at).expect("not before the update");
            Some((outcome.as_str(), time.as_secs_f64()))
        }
        _ => None,
    }
}

#[test]
fn a_rollout_ends_when_ready_changes() {
    let ready = web(Some(22.4), 12.0, "Running", "ok");
    assert_eq!(outcome(&ready, None, 0.0, polled(80.0)), Some(("ready", 10.4)));
}

#[test]
fn ready_of_the_old_pod_does_not_count_for_two_seconds() {
    let stale = web(Some(3.0), 2.0, "Running", "ok");
    assert_eq!(outcome(&stale, None, 0.0, polled(13.9)), None);
    assert_eq!(outcome(&stale, None, 0.0, polled(14.0)), Some(("ready", 0.0)), "no new pod");
}

#[test]
fn a_pod_of_the_same_second_as_the_update_is_its_own() {
    let early = web(Some(11.8), 10.0, "Running", "ok");
    assert_eq!(outcome(&early, None, 0.0, polled(12.1)), Some(("ready", 0.0)));
}

#[test]
fn a_pod_in_trouble_fails_after_thirty_seconds() {
    let crashing = web(None, 12.0, "CrashLoopBackOff", "pending");
    assert_eq!(outcome(&crashing, None, 20.0, polled(49.9)), None);
    assert_eq!(outcome(&crashing, None, 20.0, polled(50.0)), Some(("failed", 8.0)));
    let over = RolloutMoment { is_over: true, ..polled(21.0) };
    assert_eq!(outcome(&crashing, None, 20.0, over), Some(("failed", 8.0)));
}

#[test]
fn a_failed_job_fails_its_rollout_at_once() {
    let job = Resource { is_job: true, ..web(None, 12.0, "Error", "error") };
    assert_eq!(outcome(&job, None, 15.0, polled(15.0)), Some(("failed", 3.0)));
}

#[test]
fn the_next_update_supersedes_a_rollout() {
    let starting = web(None, 12.0, "Pending", "pending");
    assert_eq!(outcome(&starting, Some(13.0), 0.0, polled(14.0)), Some(("superseded", 1.0)));
    let was_ready = web(Some(12.5), 12.0, "Running", "ok");
    assert_eq!(outcome(&was_ready, Some(13.0), 0.0, polled(14.0)), Some(("ready", 0.5)));
}

#[test]
fn a_rollout_that_never_ends_has_the_outcome_session_end() {
    let starting = web(None, 12.0, "Running", "pending");
    assert_eq!(outcome(&starting, None, 0.0, polled(5000.0)), None);
    let over = RolloutMoment { is_over: true, ..polled(60.0) };
    assert_eq!(outcome(&starting, None, 0.0, over), Some(("session_end", 48.0)));
}

#[test]
fn the_end_waits_for_the_pod_of_a_watched_resource() {
    let ready = web(Some(22.0), 12.0, "Running", "ok");
    let watched = |second| RolloutMoment { is_watched: true, ..polled(second) };
    assert_eq!(outcome(&ready, None, 0.0, watched(22.1)), None);
    assert_eq!(outcome(&ready, None, 0.0, watched(25.0)), Some(("ready", 10.0)));
}

#[test]
fn a_pod_that_was_replaced_later_tells_nothing() {
    let (replaced, update) = (web(Some(110.0), 100.0, "Running", "ok"), update());
    let rollout = Rollout::new(&update, None);
    let progress = progress(&replaced, &rollout, None, false, polled(120.0));
    assert_eq!(progress, RolloutProgress::Unknown);
}

#[test]
fn a_green_tilt_ci_makes_every_rollout_ready() {
    let job = Resource { is_job: true, ..web(None, 12.0, "Running", "pending") };
    let green = RolloutMoment { is_over: true, succeeded: true, ..polled(15.0) };
    assert_eq!(outcome(&job, None, 0.0, green), Some(("ready", 3.0)), "the status came too late");
    let crashing = web(None, 12.0, "CrashLoopBackOff", "pending");
    assert_eq!(outcome(&crashing, None, 14.0, green), Some(("failed", 2.0)));
}

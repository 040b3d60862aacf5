//! Events that the server wants later, or rejects, do not hold up the others.

use std::sync::Arc;

use fakes::honeycomb::{Answer, Reply, Request, Server};
use serde_json::Value;

use crate::support::{
    Outcome, Sandbox, Signal, builds, eventually, of_kind, recorded_builds, retry,
};

fn is_span(event: &Value) -> bool {
    event["data"].get("trace.trace_id").is_some()
}

/// Makes the server answer like an OpenTelemetry Collector with a pipeline for traces and none for
/// logs: 503 for each event that is not a span.
fn accept_only_spans(server: &Server) {
    let status = |event: &Value| if is_span(event) { 202 } else { 503 };
    server.usually(Answer::By(Arc::new(move |request| {
        Answer::Statuses(request.events.iter().map(status).collect())
    })));
}

/// Reports until the queue starts with heartbeats and holds nothing else. Returns their number.
fn queue_heartbeats(sandbox: &Sandbox, server: &Server) -> usize {
    accept_only_spans(server);
    retry("all builds are accepted", || {
        let outcome = sandbox.report_within("2s", server).finish();
        let has_builds = builds(&server.accepted()) == recorded_builds();
        (has_builds && outcome.code == Some(4)).then(|| sandbox.queued())
    })
}

/// The requests of one report with a new build of the image `web`, as soon as one of them holds it.
fn report_new_build(sandbox: &Sandbox, server: &Server, minute: u8) -> (Outcome, Vec<Request>) {
    let start = format!("2026-11-22T17:{minute:02}:00.000000Z");
    sandbox.tilt().build_web(&start, &start.replace(":00.", ":01."));
    retry("a request with the new build", || {
        let before = server.requests().len();
        let outcome = sandbox.report_within("2s", server).finish();
        let requests = server.requests().split_off(before);
        let has_it =
            requests.iter().any(|r| builds(&r.events).iter().any(|(_, time)| *time == start));
        has_it.then_some((outcome, requests))
    })
}

#[test]
fn heartbeats_that_wait_do_not_hold_up_builds() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(1188);
    let waiting = queue_heartbeats(&sandbox, &server);
    assert!(waiting >= 1198, "{waiting}");
    for minute in 0..3 {
        let accepted = builds(&server.accepted()).len();
        let (outcome, requests) = report_new_build(&sandbox, &server, minute);
        outcome.exits_with(4).says("HTTP 503 for some events: scripted 503").says_one_line();
        assert_eq!(builds(&requests[0].events).len(), 1, "the build comes first");
        assert_eq!(requests[0].events.len(), 500, "heartbeats fill the request");
        assert_eq!(builds(&server.accepted()).len(), accepted + 1, "minute {minute}");
    }
    assert!(sandbox.queued() > waiting, "every heartbeat is kept");
}

#[test]
#[cfg_attr(windows, ignore = "Windows cannot ask a process to stop")]
fn a_sidecar_sends_each_build_while_heartbeats_wait() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(590);
    accept_only_spans(&server);
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "3s"]).start();
    let mut expected = recorded_builds();
    for minute in 0..3 {
        eventually("the builds so far", || builds(&server.accepted()) == expected);
        let start = format!("2026-11-22T17:0{minute}:00.000000Z");
        sandbox.tilt().build_web(&start, &start.replace(":00.", ":01."));
        expected.push(("web".to_owned(), start));
        expected.sort();
    }
    eventually("all builds", || builds(&server.accepted()) == expected);
    let outcome = sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(outcome.stderr.matches("HTTP 503 for some events").count(), 1, "logged once");
}

#[test]
fn events_for_later_are_sent_after_the_rest_of_the_queue() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(1188);
    let mut statuses = vec![202; 500];
    statuses[..3].fill(429);
    server.then([Answer::Statuses(statuses)]);
    sandbox.report_to(&server).finish().exits_with(0).says_nothing();
    let requests = server.requests();
    let sizes: Vec<_> = requests.iter().map(|request| request.events.len()).collect();
    assert_eq!(sizes, [500, 500, 233, 3]);
    assert_eq!(requests[3].events, requests[0].events[..3]);
    assert_eq!((server.accepted().len(), sandbox.queued()), (1233, 0));
}

#[test]
fn a_rejected_kind_of_event_does_not_block_other_kinds() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = queue_heartbeats(&sandbox, &server);
    let has_heartbeat = |request: &Request| {
        !of_kind(&request.events, "uiresource").is_empty()
            || !of_kind(&request.events, "session").is_empty()
    };
    server.usually(Answer::By(Arc::new(move |request| {
        let body = r#"{"error":"Dataset has too many columns."}"#;
        if has_heartbeat(request) { Reply::new(400, body).into() } else { Answer::Accept }
    })));
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let outcome = sandbox.report_to(&server).finish().exits_with(5);
    let outcome = outcome
        .says("dropped 1 event that Honeycomb rejects: HTTP 400: Dataset has too many columns.");
    assert_eq!(builds(&server.accepted()).len(), 4);
    assert_eq!(sandbox.queued(), 0);
    assert!(outcome.stderr.matches("dropped 1 event").count() > waiting);
}

//! Every response that Honeycomb, a proxy or a broken server may give to a batch.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server};
use serde_json::{Value, json};

use crate::support::{
    KEY, Outcome, RECORDED_EVENTS, Sandbox, UNREACHABLE, builds, of_kind, recorded_builds, retry,
    takes_less_than,
};

fn report(sandbox: &Sandbox, server: &Server) -> Outcome {
    sandbox.report_to(server).finish()
}

/// Runs a report with a short timeout, until one run sends this many requests.
fn report_with_short_timeout(sandbox: &Sandbox, server: &Server, answers: usize) -> Outcome {
    retry("enough requests before the timeout", || {
        let before = server.requests().len();
        let outcome = sandbox.report_within("1500ms", server).finish();
        (server.requests().len() >= before + answers).then_some(outcome)
    })
}

/// True for a build of the image `web` and for its stages.
pub fn is_of_web(event: &Value) -> bool {
    event["data"]["image_name"] == "web" || event["data"]["image"] == "web"
}

/// Makes the server answer every batch that contains the image `web` with this reply.
pub fn refuse_batches_with_web(server: &Server, reply: Reply) {
    server.usually(Answer::By(Arc::new(move |request| {
        if request.events.iter().any(is_of_web) { reply.clone().into() } else { Answer::Accept }
    })));
}

#[test]
fn a_batch_is_a_gzipped_post_with_the_key_in_one_header() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    report(&sandbox, &server).exits_with(0);
    let request = server.request(0);
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/1/batch/dev-environments")
    );
    for (header, value) in [
        ("x-honeycomb-team", KEY),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ] {
        assert_eq!(request.header(header), Some(value));
    }
    let agent = request.header("user-agent").expect("a user agent");
    assert!(agent.starts_with(&format!("tilt-honeycomb/{}", env!("CARGO_PKG_VERSION"))), "{agent}");
    for event in &request.events {
        assert_eq!(event.as_object().expect("an object").len(), 2);
        let time = event["time"].as_str().expect("a time");
        assert_eq!((time.len(), time.ends_with('Z')), (27, true), "microseconds in UTC: {time}");
    }
}

#[test]
fn the_dataset_name_is_percent_encoded_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).args(&["--dataset", "größe & co.~1"]).finish().exits_with(0);
    assert_eq!(server.request(0).path, "/1/batch/gr%C3%B6%C3%9Fe%20%26%20co.~1");
}

#[test]
fn events_are_sent_in_order_in_batches_of_500() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(1188);
    report(&sandbox, &server).exits_with(0);
    let requests = server.requests();
    let sizes: Vec<_> = requests.iter().map(|request| request.events.len()).collect();
    assert_eq!(sizes, [500, 500, 233]);
    assert_eq!(server.connections(), 1, "one connection for all of them");
}

#[test]
#[cfg_attr(windows, ignore = "Windows limits a command line to 32 KiB")]
fn a_batch_stays_under_one_megabyte_before_compression() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().change("uiresources", |resources| {
        for resource in resources {
            resource["metadata"]["labels"] = serde_json::json!({ "x".repeat(60_000): "" });
        }
    });
    let field = format!("padding={}", "y".repeat(60_000));
    let padded = sandbox.report_to(&server).args(&["--field", &field]);
    padded.finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    for request in server.requests() {
        let body = serde_json::to_vec(&request.events).expect("JSON");
        assert!(body.len() <= 1_000_000, "{}", body.len());
    }
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn each_event_is_handled_by_its_own_status() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut statuses = vec![202; RECORDED_EVENTS];
    statuses[1] = 400;
    statuses[3] = 429;
    statuses[5] = 500;
    statuses[6] = 400;
    server.then([Answer::Statuses(statuses)]);
    report(&sandbox, &server)
        .exits_with(5)
        .says("dropped 2 events that Honeycomb rejects: scripted 400")
        .says_one_line();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].events, [requests[0].events[3].clone(), requests[0].events[5].clone()]);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS - 2);
    assert_eq!(sandbox.queued(), 0);

    report(&sandbox, &server).exits_with(0);
    let session = of_kind(&server.accepted(), "session").pop().expect("a second report");
    assert_eq!(session["data"]["dropped"], 2, "events that Honeycomb rejected");
}

#[test]
fn events_with_status_429_stay_queued_at_the_deadline() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server
        .usually(Answer::By(Arc::new(|request| Answer::Statuses(vec![429; request.events.len()]))));
    let outcome = report_with_short_timeout(&sandbox, &server, 2).exits_with(4);
    let waiting = sandbox.queued();
    outcome.says(&format!("{waiting} events stay queued")).says_one_line();
    assert!(waiting >= RECORDED_EVENTS, "{waiting}");
}

#[test]
fn events_without_a_status_are_sent_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.then([Answer::Statuses(vec![202; 4])]);
    report(&sandbox, &server).exits_with(0);
    let requests = server.requests();
    assert_eq!(requests[1].events[..4], requests[0].events[4..8]);
    assert_eq!(server.accepted(), requests[0].events);
}

#[test]
fn long_error_texts_in_a_response_are_read_completely() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let refusal = json!({"status": 400, "error": "no ".repeat(5_000)});
    server.usually(Reply::new(200, json!(vec![refusal; RECORDED_EVENTS]).to_string()));
    let outcome = report(&sandbox, &server).exits_with(5);
    outcome.says("dropped 45 events that Honeycomb rejects: no no no");
    assert_eq!((server.requests().len(), sandbox.queued()), (1, 0));
}

#[test]
fn extra_statuses_in_a_response_are_ignored() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.then([Answer::Statuses(vec![202; 500])]);
    report(&sandbox, &server).exits_with(0);
    assert_eq!((server.requests().len(), sandbox.queued()), (1, 0));
}

#[test]
fn a_200_without_honeycombs_body_keeps_all_events() {
    for body in ["", "OK", "<html>please log in</html>", "[]", "{}", "[{\"status\":202}", "[202]"] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        // The long `Retry-After` ends the delivery after this response.
        server.usually(Reply::new(200, body).header("retry-after", 60));
        sandbox
            .report_to(&server)
            .finish()
            .exits_with(4)
            .says("and not of a proxy or a login page")
            .says_one_line();
        assert_eq!(sandbox.queued(), RECORDED_EVENTS, "{body}");
        server.usually(Answer::Accept);
        report(&sandbox, &server).exits_with(0);
        assert_eq!(builds(&server.accepted()), recorded_builds());
    }
}

#[test]
fn status_429_and_5xx_are_retried_until_accepted() {
    for status in [429, 500, 502, 503, 504] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.then([Reply::new(status, "{\"error\":\"busy\"}").into()]);
        report(&sandbox, &server).exits_with(0).says_nothing();
        assert_eq!(server.requests().len(), 2, "{status}");
        assert_eq!(server.accepted().len(), RECORDED_EVENTS, "{status}");
    }
}

#[test]
fn events_stay_queued_if_status_503_continues() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(503, "<html>come back later</html>"));
    takes_less_than(Duration::from_millis(2500), || {
        let outcome = report_with_short_timeout(&sandbox, &server, 2).exits_with(4);
        let waiting = sandbox.queued();
        assert!(waiting >= RECORDED_EVENTS, "{waiting}");
        outcome.says(&format!("{waiting} events stay queued")).says_one_line().took
    });
}

#[test]
fn retry_after_is_respected() {
    for asked in [|| "1".to_owned(), || date_in(2)] {
        takes_less_than(Duration::from_secs(3), || {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            // The date is computed when the server responds.
            let busy = move |_: &_| Reply::new(429, "").header("retry-after", asked()).into();
            server.then([Answer::By(Arc::new(busy))]);
            sandbox.report_to(&server).finish().exits_with(0);
            let requests = server.requests();
            let pause = requests[1].came - requests[0].came;
            assert!(pause > Duration::from_millis(900), "{pause:?}");
            pause
        });
    }
}

#[test]
fn a_retry_after_beyond_the_deadline_ends_the_delivery() {
    for asked in ["60".to_owned(), date_in(600)] {
        takes_less_than(Duration::from_secs(5), || {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.usually(Reply::new(429, "").header("retry-after", &asked));
            let outcome = sandbox.report_to(&server).finish().exits_with(4).says("HTTP 429");
            assert_eq!(server.requests().len(), 1);
            outcome.took
        });
    }
}

fn date_in(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

#[test]
#[cfg_attr(windows, ignore = "Wine responds too slowly for its timeouts")]
fn a_sidecar_waits_for_retry_after() {
    takes_less_than(Duration::from_secs(10), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.then([Reply::new(429, "").header("retry-after", 8).into()]);
        let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "500ms"]).start();
        sidecar.says("retrying in ");
        let (first, second) = (server.request(0), server.request(1));
        let pause = second.came - first.came;
        assert!(pause > Duration::from_millis(7900), "{pause:?}");
        pause
    });
}

#[test]
fn a_stalled_server_times_out_at_the_deadline() {
    for after in [Part::Nothing, Part::StatusLine, Part::Headers, Part::HalfTheBody] {
        takes_less_than(Duration::from_millis(2500), || {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.usually(Answer::Broken { after, then: Mishap::Stall });
            let outcome =
                report_with_short_timeout(&sandbox, &server, 1).exits_with(4).says("timed out");
            assert!(outcome.took > Duration::from_millis(1500), "{after:?}: {:?}", outcome.took);
            assert!(sandbox.queued() >= RECORDED_EVENTS, "{after:?}");
            outcome.took
        });
    }
}

#[test]
fn a_broken_connection_is_retried() {
    for then in [Mishap::Close, Mishap::Reset] {
        for after in [Part::Nothing, Part::StatusLine, Part::Headers, Part::HalfTheBody] {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            server.then([Answer::Broken { after, then }]);
            report(&sandbox, &server).exits_with(0).says_nothing();
            assert_eq!(server.requests().len(), 2, "{after:?} {then:?}");
            assert_eq!(server.accepted().len(), RECORDED_EVENTS, "{after:?} {then:?}");
        }
    }
}

#[test]
fn events_stay_queued_if_the_connection_is_refused() {
    takes_less_than(Duration::from_secs(2), || {
        let sandbox = Sandbox::new();
        let run = sandbox.run("--once --timeout 600ms").with_key();
        let outcome = run.env("HONEYCOMB_API_ENDPOINT", UNREACHABLE).finish().exits_with(4);
        assert_eq!(sandbox.queued(), RECORDED_EVENTS);
        if outcome.stderr.contains("stopped after") {
            // The deadline passed before the first request.
            return Duration::MAX;
        }
        outcome.says("no response from 127.0.0.1:").says_one_line().took
    });
}

#[test]
fn status_401_403_and_404_are_explained_and_not_retried() {
    for (status, fix) in [
        (
            401,
            "check HONEYCOMB_API_KEY or the key file, and that HONEYCOMB_API_ENDPOINT is the key's \
             region",
        ),
        (403, "give it the permission \"send events\""),
        (403, "or Honeycomb throttles this team"),
        (404, "check HONEYCOMB_DATASET"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(status, r#"{"error":"their own words"}"#));
        report(&sandbox, &server)
            .exits_with(5)
            .says(fix)
            .says("their own words")
            .says("45 events stay queued")
            .says_one_line();
        assert_eq!((server.requests().len(), sandbox.queued()), (1, RECORDED_EVENTS), "{status}");
    }
}

#[test]
fn a_web_page_with_status_403_or_404_names_the_proxy() {
    for status in [403, 404] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(status, "<!DOCTYPE html><h1>Blocked by policy</h1>"));
        let outcome = report(&sandbox, &server).exits_with(5);
        let outcome =
            outcome.says("a proxy or a gateway answers with a web page").says("HTTPS_PROXY");
        let outcome = outcome.says(&format!("HTTP {status}")).says_one_line();
        assert!(!outcome.stderr.contains("permission"), "{}", outcome.stderr);
        assert_eq!((server.requests().len(), sandbox.queued()), (1, RECORDED_EVENTS), "{status}");
    }
}

#[test]
fn the_detail_of_status_422_and_429_is_shown() {
    let invalid = json!({"status": 422, "title": "The provided input is invalid.",
        "error": "The provided input is invalid.", "type_detail": [
            {"field": "[0].time", "code": "invalid", "description": "must be\u{1b} RFC 3339"}]});
    let limited = json!({"status": 429, "error": "You have exceeded your rate limit.",
        "detail": "Please try again after 2026-12-01T15:23:12Z."});
    for (status, body, code, says) in [
        (422, &invalid, 5, "HTTP 422: The provided input is invalid. [0].time: must be RFC 3339"),
        (
            429,
            &limited,
            4,
            "HTTP 429: You have exceeded your rate limit. Please try again after 2026-12-01T15:23:12Z.",
        ),
        (429, &json!({"error": {"code": 7}, "detail": "later"}), 4, "HTTP 429: later"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(status, body.to_string()).header("retry-after", 600));
        report(&sandbox, &server).exits_with(code).says(says).says_one_line();
        assert_eq!(sandbox.queued(), RECORDED_EVENTS, "{status}");
    }
}

#[test]
fn one_status_for_all_events_accepts_all_of_them() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().add_resources(1188);
    server.usually(Reply::new(200, r#"[{"status":202}]"#));
    report(&sandbox, &server)
        .exits_with(0)
        .says("the server sends one status for 500 events, like an OpenTelemetry Collector")
        .says_one_line();
    let sizes: Vec<_> = server.requests().iter().map(|request| request.events.len()).collect();
    assert_eq!((sizes, sandbox.queued()), (vec![500, 500, 233], 0));
}

#[test]
fn one_other_status_for_all_events_settles_only_the_first() {
    for status in [r#"{"status":202,"error":"only one"}"#, r#"{"status":400,"error":"no"}"#] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.then([Reply::new(200, format!("[{status}]")).into()]);
        report(&sandbox, &server);
        let requests = server.requests();
        assert_eq!(requests[1].events[0], requests[0].events[1], "{status}");
        assert_eq!((server.accepted().len(), sandbox.queued()), (RECORDED_EVENTS - 1, 0));
    }
}

#[test]
fn a_dropped_event_is_reported_with_the_servers_reason() {
    let long = format!("no\u{1b}[31m \u{202e}{}", "x".repeat(500));
    for (problem, reason) in [
        (json!({"error": long}), format!("no[31m {}\n", "x".repeat(193))),
        (json!({"error": {"code": 7}, "detail": "bad time"}), "bad time\n".to_owned()),
        (json!({"error": "bad", "detail": "time\nin 1970"}), "bad; time in 1970\n".to_owned()),
        (json!({}), "no reason given\n".to_owned()),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        let mut statuses = vec![json!({"status": 202}); RECORDED_EVENTS];
        statuses[7] = problem;
        statuses[7]["status"] = json!(400);
        server.then([Reply::new(200, json!(statuses).to_string()).into()]);
        let outcome = report(&sandbox, &server).exits_with(5).says_one_line();
        outcome.says(&format!("dropped 1 event that Honeycomb rejects: {reason}"));
    }
}

#[test]
fn a_gateway_that_refuses_is_named() {
    let refinery = r#"{"source":"refinery","error":"api key not in the list"}"#;
    for (status, body, says) in [
        (401, refinery, "Refinery does not accept this API key; add it to the AccessKeys"),
        (404, "404 page not found\n", "that traces_url_paths has \"/1/batch/\" with a slash"),
    ] {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.usually(Reply::new(status, body));
        report(&sandbox, &server).exits_with(5).says(says).says_one_line();
        assert_eq!((server.requests().len(), sandbox.queued()), (1, RECORDED_EVENTS), "{status}");
    }
}

#[test]
fn a_redirect_is_refused_and_gets_no_key() {
    for status in [301, 302, 303, 307, 308] {
        let (sandbox, server, elsewhere) = (Sandbox::new(), Server::start(), Server::start());
        let target = format!("{}/login?next=s3cr3t", elsewhere.url());
        server.usually(Reply::new(status, "").header("location", target));
        let outcome = report(&sandbox, &server).exits_with(5).says("the endpoint redirects to ");
        assert!(!outcome.stderr.contains("s3cr3t"), "{}", outcome.stderr);
        assert_eq!(elsewhere.connections(), 0, "{status}");
        assert_eq!((server.requests().len(), sandbox.queued()), (1, RECORDED_EVENTS), "{status}");
    }
}

#[test]
fn a_batch_with_status_413_is_halved_until_accepted() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Answer::By(Arc::new(|request| match request.events.len() {
        0..=3 => Answer::Accept,
        _ => Reply::new(413, "").into(),
    })));
    // A slow disk needs time: every request writes the state.
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    let sizes: Vec<_> = server.requests().iter().map(|request| request.events.len()).collect();
    assert_eq!(sizes[..5], [45, 22, 11, 5, 2]);
    assert!(sizes[4..].iter().all(|size| *size <= 2), "{sizes:?}");
}

#[test]
#[cfg_attr(windows, ignore = "Wine responds too slowly for its timeouts")]
fn one_event_with_status_413_does_not_block_the_rest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    refuse_batches_with_web(&server, Reply::new(413, ""));
    let patient = sandbox.report_to(&server);
    patient.finish().exits_with(5).says("dropped 1 event that Honeycomb rejects");
    assert_eq!((server.accepted().len(), sandbox.queued()), (RECORDED_EVENTS - 10, 0));
}

#[test]
fn plain_http_to_another_host_needs_an_option() {
    let (sandbox, proxy) = (Sandbox::new(), Server::start());
    let run = |options: &str| sandbox.run(options).with_key().env("HTTP_PROXY", proxy.url());
    run("--once --api-endpoint http://honeycomb.invalid")
        .finish()
        .exits_with(2)
        .says("--allow-insecure-http")
        .says_one_line();
    assert_eq!((sandbox.tilt().calls().len(), proxy.connections()), (0, 0));

    // With the option, the request goes through the proxy of the environment.
    let allowed = "--once --api-endpoint http://honeycomb.invalid --allow-insecure-http";
    run(allowed).finish().exits_with(0);
    let requests = proxy.requests();
    assert_eq!(requests[0].method, "CONNECT");
    assert!(requests[0].path.starts_with("honeycomb.invalid:80"), "{}", requests[0].path);
    assert_eq!(requests[0].header("x-honeycomb-team"), None, "the proxy needs no key");
    assert_eq!(builds(&proxy.accepted()), recorded_builds());
}

#[test]
fn loopback_requests_bypass_the_proxy() {
    let (sandbox, server, proxy) = (Sandbox::new(), Server::start(), Server::start());
    let mut report = sandbox.report_to(&server);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
        report = report.env(name, proxy.url());
    }
    report.finish().exits_with(0);
    assert_eq!((proxy.connections(), server.accepted().len()), (0, RECORDED_EVENTS));
}

#[test]
fn a_failed_tls_handshake_sends_nothing() {
    // The server does not speak TLS. It must not receive anything in plain text.
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let endpoint = server.url().replace("http://", "https://");
    sandbox
        .run("--once --timeout 500ms")
        .with_key()
        .env("HONEYCOMB_API_ENDPOINT", endpoint)
        .finish()
        .exits_with(4);
    assert_eq!(server.requests().len(), 0);
    assert_eq!(sandbox.queued(), RECORDED_EVENTS);
}

#[test]
fn a_refinery_without_a_key_lookup_gets_one_request() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let body = r#"{"source":"refinery","error":"failed to parse event"}[{"status":202}]"#;
    server.usually(Reply::new(400, body));
    let outcome = sandbox.report_to(&server).finish().exits_with(5);
    outcome.says("Refinery cannot look up the API key").says_one_line();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(sandbox.queued(), RECORDED_EVENTS);
}

//! What `check` finds out about the key, the endpoint and the dataset.

use std::io::{self, Write};
use std::net::TcpListener;
use std::thread;

use fakes::honeycomb::{Answer, Mishap, Part, Reply};
use fakes::tls;
use serde_json::json;

use super::check::{check, check_at, ready};
use crate::chaos::network_faults::tls_server;
use crate::support::api::{
    CLASSIC_KEY, CONFIGURATION_KEY, INGEST_KEY, auth_of, configuration_auth, json_reply, problem,
};
use crate::support::{Outcome, Sandbox, UNREACHABLE};

/// `check` with a fake gateway that answers `GET /1/auth` and a batch without events like this.
fn check_gateway(auth: Reply, empty_batch: Reply) -> Outcome {
    let (sandbox, server, api) = ready();
    api.answers_auth(auth);
    api.world().empty_batch = Some(empty_batch);
    let outcome = check(&sandbox, &server, INGEST_KEY).finish();
    let mut requests = server.requests();
    requests.retain(|request| request.method == "POST");
    assert_eq!(requests.len(), 1, "one batch");
    let batch = &requests[0];
    assert_eq!((batch.path.as_str(), &batch.body[..]), ("/1/batch/dev-environments", &b"[]"[..]));
    assert_eq!(batch.header("content-type"), Some("application/json"));
    assert_eq!(batch.header("x-honeycomb-team"), Some(INGEST_KEY));
    outcome
}

fn unknown_key() -> Reply {
    Reply::new(401, r#"{"error":"unknown API key - check your credentials"}"#)
}

#[test]
fn a_gateway_that_takes_events_is_ok_whatever_auth_says() {
    for (auth, team) in [
        (unknown_key(), "the endpoint takes events, but the API key is not known here"),
        (Reply::new(503, ""), "HTTP 503"),
        (json_reply(200, &auth_of("configuration", &json!({"events": false}))), "may not send"),
        // The answer of a Collector if Honeycomb does not know the key.
        (Reply::new(400, r#""\"error\": \"received 401 response\"""#), "received 401 response"),
        (Reply::new(404, "404 page not found"), "does not support GET /1/auth"),
    ] {
        for taken in ["[]", r#"[{"status":202}]"#] {
            let outcome = check_gateway(auth.clone(), Reply::new(200, taken)).exits_with(0);
            let outcome = outcome
                .finds_exactly("events", "ok", "the endpoint takes events with this key")
                .finds("team", "note", team);
            assert!(outcome.stdout.contains("\nconnected"), "{}", outcome.stdout);
        }
    }
}

#[test]
fn a_gateway_that_refuses_the_key_is_bad_whatever_auth_says() {
    let good = || json_reply(200, &auth_of("ingest", &json!({"createDatasets": true})));
    let refinery =
        |status, error| json_reply(status, &json!({"source": "refinery", "error": error}));
    for (empty_batch, code, says) in [
        (refinery(401, "not in the list"), 5, "add it to the AccessKeys of Refinery"),
        (refinery(400, "failed to parse event"), 5, "Refinery cannot look up the API key"),
        (Reply::new(401, ""), 5, "the API key is not known here"),
        (Reply::new(404, "404 page not found\n"), 5, "traces_url_paths has \"/1/batch/\""),
        (Reply::new(403, "<html>blocked"), 5, "a proxy or a gateway answers with a web page"),
        (Reply::new(200, "<html>log in"), 4, "not of a proxy or a login page"),
        (refinery(503, "upstream target unavailable"), 4, "unavailable; try again later"),
    ] {
        let outcome = check_gateway(good(), empty_batch).exits_with(code);
        let outcome = outcome.finds("team", "ok", "Acme").finds("events", "bad", says);
        assert!(!outcome.stdout.contains("\nconnected"), "{}", outcome.stdout);
    }
}

#[test]
fn honeycombs_own_answer_to_an_empty_batch_leaves_auth_decisive() {
    let empty = || Reply::new(400, r#"{"error":"request body should not be empty"}"#);
    let good = json_reply(200, &auth_of("ingest", &json!({"createDatasets": true})));
    check_gateway(good, empty()).exits_with(0).finds("events", "ok", "the endpoint knows this key");
    let denied = json_reply(200, &auth_of("configuration", &json!({"events": false})));
    check_gateway(denied, empty()).exits_with(5).finds("team", "bad", "may not send events");
    check_gateway(unknown_key(), unknown_key()).exits_with(5).finds("events", "bad", "not known");

    // Honeycomb's own address gets no batch.
    let (sandbox, server, _api) = ready();
    check_at(&sandbox, &server, "http://api.honeycomb.io").finish().exits_with(0);
    assert!(server.requests().iter().all(|request| request.method != "POST"));
}

#[test]
fn an_endpoint_that_ends_in_an_api_path_is_reported() {
    let (sandbox, server, _api) = ready();
    let run = check(&sandbox, &server, INGEST_KEY);
    let outcome = run.env("HONEYCOMB_API_ENDPOINT", server.url() + "/1/events/").finish();
    outcome.exits_with(2).finds("endpoint", "bad", "must not end in /1/events, which is a path");
    assert_eq!(server.connections(), 0);
}

#[test]
fn the_kind_of_key_is_recognized_by_its_format() {
    let (sandbox, server, _api) = ready();
    for (key, verdict, says) in [
        (INGEST_KEY, "ok", "an ingest key"),
        (CONFIGURATION_KEY, "ok", "a configuration key"),
        (CLASSIC_KEY, "ok", "a configuration key of Honeycomb Classic"),
        ("something-else", "note", "a Refinery may accept it"),
        (&INGEST_KEY[32..], "note", "the second half of an ingest key"),
    ] {
        check(&sandbox, &server, key).finish().exits_with(0).finds("key", verdict, says);
    }
    let asked = server.requests().len();
    for (key, says) in [
        (&INGEST_KEY[..32], "only the first half of an ingest key"),
        ("hcamk_01j1824es7n4evcmv81cn392jb", "a management key: it cannot send events"),
        ("hcalk_01j1824es7n4evcmv81cn392jb", "the id of a configuration key"),
    ] {
        check(&sandbox, &server, key)
            .finish()
            .exits_with(2)
            .finds("key", "bad", says)
            .finds("endpoint", "ok", "responded in")
            .finds("team", "skipped", "the API key cannot work");
    }
    for request in &server.requests()[asked..] {
        assert_eq!(request.header("x-honeycomb-team"), None, "the key is not sent");
    }
    check(&sandbox, &server, "two words").finish().exits_with(2).finds(
        "key",
        "bad",
        "HONEYCOMB_API_KEY contains white space",
    );
}

/// The `https://` address of a plain HTTP server, which answers a TLS handshake with 400.
fn speaks_no_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a port number");
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("a sent response");
        io::copy(&mut connection, &mut io::sink()).ok();
    });
    format!("https://{address}")
}

#[test]
fn an_unreachable_endpoint_is_reported_with_the_reason() {
    let (sandbox, server, _api) = ready();
    let run_within = |timeout: &str, endpoint: &str| {
        let run = check(&sandbox, &server, INGEST_KEY).args(&["--timeout", timeout]);
        run.env("HONEYCOMB_API_ENDPOINT", endpoint).finish()
    };
    let run = |endpoint: &str| run_within("500ms", endpoint);
    let run_for_a_minute = |endpoint: &str| run_within("1m", endpoint);
    run_for_a_minute(UNREACHABLE).exits_with(4).finds("endpoint", "bad", "refused");
    run("https://no-such-host.invalid").exits_with(4).finds(
        "endpoint",
        "bad",
        "no response from no",
    );
    run(&server.url().replace("http", "https")).exits_with(4).finds("endpoint", "bad", "timed out");
    run_for_a_minute(&speaks_no_tls()).exits_with(4).finds(
        "endpoint",
        "bad",
        "check that this address speaks TLS",
    );
    run("ftp://x").exits_with(2).finds("endpoint", "bad", "ftp:// is not supported").finds(
        "team",
        "skipped",
        "invalid endpoint",
    );
    for then in [Mishap::Stall, Mishap::Close] {
        server.usually(Answer::Broken { after: Part::Nothing, then });
        run(&server.url()).exits_with(4).finds("endpoint", "bad", "no response from 127.0.0.1");
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows trusts no certificate from a variable")]
fn a_bad_certificate_is_reported_and_gets_no_key() {
    let sandbox = Sandbox::new();
    let run = |shown: &str, code: i32| {
        let (port, heard) = tls_server(shown);
        let outcome = sandbox
            .run("check")
            .with_key()
            .env("HONEYCOMB_API_KEY", INGEST_KEY)
            .env("HONEYCOMB_API_ENDPOINT", format!("https://localhost:{port}"))
            .env("SSL_CERT_FILE", tls::certificate("authority.pem"))
            .finish()
            .exits_with(code);
        let heard = heard.lock().expect("no one panicked").clone();
        (outcome, heard)
    };
    for (shown, says) in [
        ("of-a-stranger.pem", "make this machine trust its certificate or set SSL_CERT_FILE"),
        ("expired.pem", "xpired"),
        ("wrong-name.pem", "name"),
    ] {
        let (outcome, heard) = run(shown, 4);
        outcome.finds("endpoint", "bad", says).finds(
            "team",
            "skipped",
            "no response from the endpoint",
        );
        assert_eq!(heard, [""; 0], "the key was not sent");
    }
    let (outcome, heard) = run("good.pem", 0);
    outcome.finds("endpoint", "ok", "TLS verified; no proxy").finds(
        "team",
        "note",
        "the response is not about a key",
    );
    assert_eq!(heard, [INGEST_KEY; 2]);
}

#[test]
fn the_proxy_is_shown_without_its_password() {
    let (sandbox, server, _api) = ready();
    let proxy = server.url().replace("http://", "http://ann:pa55word@");
    let run = |proxy: &str| {
        check_at(&sandbox, &server, "http://api.honeycomb.io").env("HTTP_PROXY", proxy).finish()
    };
    let outcome = run(&proxy).exits_with(0);
    let outcome = outcome.finds("endpoint", "ok", "via the proxy 127.0.0.1:");
    assert!(!outcome.stdout.contains("pa55word") && !outcome.stderr.contains("pa55word"));
    run(UNREACHABLE).exits_with(4).finds("endpoint", "bad", "via the proxy 127.0.0.1:1");
    check_at(&sandbox, &server, "http://no-such-host.invalid")
        .env("NO_PROXY", "no-such-host.invalid")
        .finish()
        .exits_with(4)
        .finds("endpoint", "bad", "(no proxy)");
}

#[test]
fn check_shows_the_keys_team_and_permissions() {
    let (sandbox, server, api) = ready();
    let run = |key: &str| check(&sandbox, &server, key).finish();
    for access in [json!({"createDatasets": true}), json!({"create_datasets": true})] {
        api.set_key_details(&auth_of("ingest", &access));
        run(INGEST_KEY).exits_with(0).finds("team", "ok", "may send events, create datasets");
    }
    api.set_key_details(&configuration_auth());
    let all = "the key may send events, create datasets, manage queries, manage boards";
    run(CONFIGURATION_KEY).exits_with(0).finds("team", "ok", all);
    let mut classic = configuration_auth();
    classic["environment"] = json!({"name": "", "slug": ""});
    api.set_key_details(&classic);
    run(CLASSIC_KEY).exits_with(0).finds("team", "ok", "Acme, Honeycomb Classic without env");
    let mut odd = configuration_auth();
    odd["team"]["name"] = json!("Acme\u{1b}[2J\nok team");
    api.set_key_details(&odd);
    run(CONFIGURATION_KEY).exits_with(0).finds("team", "ok", "Acme[2J ok team, environment Dev");
    api.set_key_details(&auth_of("configuration", &json!({"events": false, "boards": true})));
    run(CONFIGURATION_KEY).exits_with(5).finds("team", "bad", "give it the permission \"send");
}

#[test]
fn a_rejected_key_is_reported_with_honeycombs_message() {
    let (sandbox, server, api) = ready();
    for (reply, code, verdict, says) in [
        (
            Reply::new(401, r#"{"error":"unknown API key - check your credentials"}"#),
            5,
            "bad",
            "is the key's region (HTTP 401: unknown API key - check your credentials)",
        ),
        (Reply::new(403, "nope"), 5, "bad", "HTTP 403: nope"),
        (problem(429, "Please try again"), 4, "bad", "HTTP 429: Please try again; try again later"),
        (Reply::new(503, "<html>"), 4, "bad", "HTTP 503; try again later"),
        (Reply::new(404, "404 page not found"), 0, "note", "does not support GET /1/auth"),
        (
            Reply::new(200, "<html>log in</html>"),
            4,
            "bad",
            "a proxy or a login page answers instead",
        ),
        (
            Reply::new(302, "").header("location", "https://login.example/?t=s3cr3t"),
            5,
            "bad",
            "the endpoint redirects to https://login.example/, and the key is not sent there",
        ),
    ] {
        api.answers_auth(reply);
        let outcome = check(&sandbox, &server, INGEST_KEY).finish().exits_with(code);
        let outcome = outcome.finds("team", verdict, says).finds("endpoint", "ok", "responded in");
        assert!(!outcome.stdout.contains("s3cr3t") && !outcome.stdout.contains("https://ui"));
    }
}

#[test]
fn check_tells_if_the_dataset_exists_or_can_be_created() {
    let (sandbox, server, api) = ready();
    let run = |key: &str| check(&sandbox, &server, key).finish();
    let mut auth = configuration_auth();
    api.set_key_details(&auth).has_columns(["kind"]);
    run(CONFIGURATION_KEY).exits_with(0).finds_exactly("dataset", "ok", "dev-environments exists");
    api.world().columns = None;
    run(CONFIGURATION_KEY).exits_with(0).finds(
        "dataset",
        "ok",
        "does not exist yet; the first event",
    );
    auth["api_key_access"]["createDatasets"] = json!(false);
    api.set_key_details(&auth);
    run(CONFIGURATION_KEY).exits_with(5).finds("dataset", "bad", "the key may not create it");
    api.set_key_details(&auth_of("ingest", &json!({"createDatasets": false})));
    run(INGEST_KEY).exits_with(0).finds("dataset", "note", "must exist");
    check(&sandbox, &server, INGEST_KEY).args(&["--dataset", "a/b"]).finish().exits_with(2).finds(
        "dataset",
        "bad",
        "must not contain a slash",
    );
}

//! One fault at a time: of the server, of a proxy and of TLS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server, batch_reply, read_body, read_head};
use fakes::tls::{self, certificate};

use crate::delivery::responses::{is_of_web, refuse_batches_with_web};
use crate::support::{
    Invocation, KEY, Sandbox, UNREACHABLE, builds, eventually, recorded_builds, retry,
    takes_less_than,
};

#[test]
fn one_event_with_status_400_does_not_block_the_rest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    refuse_batches_with_web(&server, Reply::new(400, "{\"error\":\"malformed\"}"));
    let waiting = {
        let dry = sandbox.run("--once --dry-run").finish().exits_with(0).events();
        dry.len() - dry.iter().filter(|event| is_of_web(event)).count()
    };
    let report = sandbox.report_to(&server).finish();
    assert!([Some(4), Some(5)].contains(&report.code), "{report:?}");
    // One delivery may not be enough for all of them.
    eventually("the other events", || {
        sandbox.tilt().set("no-tilt", "");
        sandbox.report_to(&server).finish();
        server.accepted().len() >= waiting
    });
    assert_eq!(sandbox.queued(), 0, "the rejected events are dropped");
    assert!(report.stderr.contains("that Honeycomb rejects"), "{report:?}");
}

#[test]
fn a_server_that_rejects_every_batch_gets_few_requests() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(400, "{\"error\":\"malformed\"}"));
    let report = sandbox.report_to(&server).finish().exits_with(5);
    report.says("the server rejects the request (HTTP 400: malformed)").says_one_line();
    let waiting = sandbox.queued();
    assert!(waiting >= 12, "{waiting}");
    assert!(server.requests().len() <= 10, "{}", server.requests().len());
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
}

#[test]
fn ten_thousand_queued_events_are_sent_within_seconds() {
    takes_less_than(Duration::from_secs(20), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.tilt().add_resources(9_900);
        let waiting = sandbox.queue_report(&server);
        assert!(waiting >= 9_900, "{waiting}");
        sandbox.tilt().set("no-tilt", "");
        let before = server.requests().len();
        let outcome = sandbox.report_to(&server).finish().exits_with(3);
        assert_eq!((server.accepted().len(), sandbox.queued()), (waiting, 0));
        let requests = server.requests().len() - before;
        assert!(requests <= 1 + waiting.div_ceil(500), "few large batches: {requests}");
        outcome.took
    });
}

#[test]
fn the_backlog_is_sent_once_the_key_is_accepted_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.then([Reply::new(401, "{\"error\":\"unknown API key\"}").into()]);
    let sidecar = sandbox.polling_sidecar_to(&server).start();
    sidecar.says("retrying in ").says("sent ");
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    assert_eq!(sidecar.stderr().matches("401").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn the_backlog_is_sent_soon_after_an_outage() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Close });
    let sidecar = sandbox.polling_sidecar_to(&server).args(&["--timeout", "2s"]).start();
    sidecar.says("retrying in ");
    let failed = server.requests().len();
    eventually("some more failed attempts", || server.requests().len() >= failed + 2);
    server.usually(Answer::Accept);
    let recovered = Instant::now();
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    // The longest backoff is 15 s. The rest allows for a busy machine.
    assert!(recovered.elapsed() < Duration::from_secs(40), "{:?}", recovered.elapsed());
}

#[test]
fn the_last_failure_is_printed_at_the_deadline() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let timeout = Duration::from_secs(1);
    server.usually(Reply::new(503, ""));
    let outcome = retry("a request", || {
        let tried = server.requests().len();
        let report = sandbox.report_within("1s", &server).start();
        let has_tried = || server.requests().len() > tried;
        eventually("an attempt", || has_tried() || !report.is_running());
        let held = sandbox.lock_state();
        thread::sleep(timeout);
        drop(held);
        let outcome = report.finish();
        has_tried().then_some(outcome)
    });
    outcome.exits_with(4).says("HTTP 503");
}

/// Runs a report through a proxy, to a host name that does not resolve.
fn report_through(sandbox: &Sandbox, proxy: &str, timeout: &str) -> Invocation {
    let options = "--once --api-endpoint http://honeycomb.invalid --allow-insecure-http --timeout";
    sandbox.run(options).args(&[timeout]).with_key().env("HTTP_PROXY", proxy)
}

#[test]
fn events_stay_queued_if_the_proxy_fails_or_wants_a_password() {
    let sandbox = Sandbox::new();
    report_through(&sandbox, UNREACHABLE, "1s").finish().exits_with(4).says_one_line();
    let waiting = sandbox.queued();
    assert!(waiting >= 12, "{waiting}");

    let heard = Arc::<Mutex<String>>::default();
    let record = Arc::clone(&heard);
    let port = serve(move |mut stream| {
        let request = read_head(&mut stream).expect("a request").expect("a complete head");
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                       proxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(refusal.as_bytes()).expect("a sent response");
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        let mut record = record.lock().expect("no one panicked");
        *record += &[format!("{request:?}"), rest].concat();
    });
    let url = format!("http://127.0.0.1:{port}");
    let outcome = retry("a request", || {
        report_through(&sandbox, &url, "1s").finish().exits_with(4).unless_proxy_was_slow()
    });
    let outcome = outcome.says("proxy").says_one_line();
    assert!(!outcome.stderr.contains(KEY), "{}", outcome.stderr);
    let heard = || heard.lock().expect("no one panicked").clone();
    eventually("the proxy recorded the request", || heard().contains("CONNECT"));
    assert!(!heard().contains(KEY), "{}", heard());

    let proxy = Server::start();
    sandbox.tilt().set("no-tilt", "");
    report_through(&sandbox, &proxy.url(), "1m").finish().exits_with(3);
    assert!(proxy.accepted().len() >= waiting);
    assert_eq!(sandbox.queued(), 0);
}

/// A SOCKS version 5 proxy (RFC 1928) that connects every client to this server. Returns its port and
/// the host names that clients asked for.
fn socks_proxy(to: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&asked);
    let port = serve(move |mut client| {
        let mut greeting = [0; 2];
        client.read_exact(&mut greeting).expect("a version and how many methods");
        client.read_exact(&mut vec![0; greeting[1].into()]).expect("the methods");
        client.write_all(&[5, 0]).expect("a sent method");
        let mut request = [0; 5];
        client.read_exact(&mut request).expect("a request for a name");
        let mut name = vec![0; usize::from(request[4]) + 2];
        client.read_exact(&mut name).expect("the name and a port");
        name.truncate(request[4].into());
        seen.lock().expect("no one panicked").push(String::from_utf8(name).expect("a name"));
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("a sent response");
        let mut server = TcpStream::connect(&to).expect("a server");
        let (mut from_server, mut to_client) =
            (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
        thread::spawn(move || drop(std::io::copy(&mut from_server, &mut to_client)));
        let _ = std::io::copy(&mut client, &mut server);
    });
    (port, asked)
}

#[test]
fn a_socks_proxy_resolves_the_host_name() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (port, asked) = socks_proxy(server.url().replace("http://", ""));
    let options = "--once --api-endpoint http://honeycomb.invalid --allow-insecure-http";
    let report =
        sandbox.run(options).with_key().env("ALL_PROXY", format!("socks5h://127.0.0.1:{port}"));
    report.finish().exits_with(0);
    assert_eq!(*asked.lock().expect("no one panicked"), ["honeycomb.invalid"]);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

/// A server with this certificate. Returns its port and the keys that it received.
pub fn tls_server(name: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let (config, heard) = (tls::showing(name), Arc::<Mutex<Vec<String>>>::default());
    let record = Arc::clone(&heard);
    let port = serve(move |stream| {
        let key = serve_tls(stream, Arc::clone(&config));
        record.lock().expect("no one panicked").extend(key);
    });
    (port, heard)
}

/// Serves connections until the process ends. Returns the port.
fn serve(mut server: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port number").port();
    thread::spawn(move || listener.incoming().flatten().for_each(&mut server));
    port
}

/// Accepts one batch and returns its key, or `None` if the client closed the connection.
fn serve_tls(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Option<String> {
    let connection = rustls::ServerConnection::new(config).expect("a connection");
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut request = read_head(&mut stream).ok()??;
    read_body(&mut stream, &mut request).ok()?;
    stream.write_all(&batch_reply(&vec![202; request.events.len()]).whole()).ok()?;
    stream.flush().ok()?;
    request.header("x-honeycomb-team").map(str::to_owned)
}

fn report_over_tls(sandbox: &Sandbox, port: u16, timeout: &str) -> Invocation {
    sandbox
        .run("--once --timeout")
        .args(&[timeout])
        .with_key()
        .env("HONEYCOMB_API_ENDPOINT", format!("https://localhost:{port}"))
        .env("SSL_CERT_FILE", certificate("authority.pem"))
}

#[test]
#[cfg_attr(windows, ignore = "Windows trusts no certificate from a variable")]
fn an_invalid_certificate_ends_the_request_before_the_key() {
    for (shown, said) in [
        ("of-a-stranger.pem", "UnknownIssuer"),
        ("expired.pem", "xpired"),
        ("wrong-name.pem", "name"),
    ] {
        let sandbox = Sandbox::new();
        let (port, heard) = tls_server(shown);
        let outcome = retry("a handshake before the timeout", || {
            let outcome = report_over_tls(&sandbox, port, "2s").finish().exits_with(4);
            Some(outcome).filter(|outcome| outcome.stderr.contains("certificate"))
        });
        let outcome = outcome.says(said).says_one_line();
        assert!(!outcome.stderr.contains(KEY), "{}", outcome.stderr);
        assert_eq!(heard.lock().expect("no one panicked")[..], [""; 0], "{shown}");
        assert!(sandbox.queued() >= 12, "{shown}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "Windows trusts no certificate from a variable")]
fn a_certificate_of_a_trusted_authority_is_accepted() {
    let sandbox = Sandbox::new();
    let (port, heard) = tls_server("good.pem");
    report_over_tls(&sandbox, port, "1m").finish().exits_with(0);
    assert_eq!(heard.lock().expect("no one panicked")[..], [KEY]);
    assert_eq!(sandbox.queued(), 0);
}

//! The faults of a bad day, one at a time: of the disk, of the process, of the way to Honeycomb.
//! The campaign of `torture.rs` mixes them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::sandbox::{
    Invocation, KEY, NOBODY, PROGRAM, Sandbox, builds, change_places, eventually, in_some_tries,
    of_kind, recorded_builds, takes_less_than,
};
use fakes::honeycomb::{Answer, Mishap, Part, Reply, Server, judged, read_body, read_head};
use fakes::tls::{self, certificate};

type Held = Arc<Mutex<Option<File>>>;

/// Takes the lock, which the note of an answer needs, while the answer is on its way.
fn hold_state_from_the_answer_on(sandbox: &Sandbox, server: &Server) -> Held {
    let lock = sandbox.state_file().with_extension("lock");
    let held = Held::default();
    let holder = Arc::clone(&held);
    server.usually(Answer::By(Arc::new(move |_| {
        let lock = File::open(&lock).expect("a lock");
        lock.lock().expect("nobody holds it while a request is under way");
        *holder.lock().expect("no one panicked") = Some(lock);
        Answer::Accept
    })));
    held
}

fn let_go(held: &Held) {
    *held.lock().expect("no one panicked") = None;
}

#[test]
fn killed_before_the_first_write_it_tells_everything_the_next_time() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_in_vain(&server);
    sandbox.report_to(&server).finish().exits_with(0);
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let lock = sandbox.hold_state();
    let report = sandbox.report_to(&server).start();
    eventually("it has looked", || sandbox.tilt().calls().len() == 3);
    report.signal(Signal::KILL);
    report.finish();
    drop(lock);
    sandbox.report_to(&server).finish().exits_with(0);
    assert_eq!(builds(&server.accepted()).len(), recorded_builds().len() + 1);
}

#[test]
fn killed_between_the_answer_and_its_note_it_repeats_what_was_answered_and_no_more() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.report_in_vain(&server);
    sandbox.tilt().set("no-tilt", "");
    let locked = hold_state_from_the_answer_on(&sandbox, &server);
    let before = server.requests().len();
    let report = sandbox.report_to(&server).start();
    eventually("it was answered", || server.accepted().len() == waiting);
    report.signal(Signal::KILL);
    report.finish();
    let_go(&locked);
    assert_eq!(sandbox.waiting(), waiting);

    server.usually(Answer::Accept);
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!(server.requests().len(), before + 2);
    assert_eq!((server.accepted().len(), sandbox.waiting()), (2 * waiting, 0));
}

#[test]
fn an_answer_is_noted_as_long_as_there_is_time() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.report_in_vain(&server);
    sandbox.tilt().set("no-tilt", "");
    let held = hold_state_from_the_answer_on(&sandbox, &server);
    let report = sandbox.report_to(&server).start();
    eventually("it was answered", || server.accepted().len() == waiting);
    // As patient with the lock as the first one's first attempt, which began before.
    let other = sandbox.run("--once --timeout 100ms").sending_to(&server);
    other.finish().exits_with(3).says("another collector has held");
    let_go(&held);
    report.finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.waiting()), (waiting, 0));
}

#[test]
fn while_a_sidecar_has_yet_to_note_an_answer_nobody_repeats_what_was_answered() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    // Enough for any answer, and less than the note of it waits for the lock.
    let sidecar = sandbox.run("--timeout 4s").sending_to(&server).start();
    sidecar.says("sent ");
    sandbox.is_watched();
    let before = server.accepted().len();
    let held = hold_state_from_the_answer_on(&sandbox, &server);
    sandbox.tilt().break_lint();
    sidecar.says("another collector has held");
    assert_eq!(server.accepted().len(), before + 1);
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    let_go(&held);
    sandbox.report_to(&server).finish().exits_with(3);
    eventually("it is noted", || sandbox.waiting() == 0);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(server.accepted().len(), before + 1);
}

#[test]
fn killed_between_write_and_rename_it_leaves_nothing_that_hinders() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let waiting = sandbox.report_in_vain(&server);
    fs::write(sandbox.state_file().with_extension("json.new"), "{\"version\":1,\"que")
        .expect("half");
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.waiting()), (waiting, 0));
}

#[test]
fn killed_at_any_moment_a_sidecar_loses_no_build() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let mut delay = 0x9e37_u64;
    for _ in 0..25 {
        let sidecar = sandbox.sidecar_to(&server).start();
        delay = delay.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let until = Instant::now() + Duration::from_micros((delay >> 33) % 60_000);
        while Instant::now() < until {
            thread::yield_now();
        }
        sidecar.signal(Signal::KILL);
        sidecar.finish();
    }
    sandbox.report_to(&server).finish().exits_with(0);
    let mut sent = builds(&server.accepted());
    sent.dedup();
    assert_eq!(sent, recorded_builds());
}

#[test]
fn a_full_disk_sends_nothing_twice_and_loses_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.tilt().crowd(300);
    let waiting = sandbox.report_in_vain(&server);
    let before = server.requests().len();
    // 16 KiB, or 32: in any case less than the state.
    let full = r#"trap "" XFSZ; ulimit -f 32; exec "$0" --once"#;
    for _ in 0..3 {
        let report = sandbox.command(&["/bin/sh", "-c", full, PROGRAM]).sending_to(&server);
        report.finish().exits_with(1).says("cannot write");
    }
    assert_eq!(server.requests().len(), before, "what cannot be noted as sent is not sent");
    assert_eq!(sandbox.waiting(), waiting);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.waiting()), (waiting, 0));
}

#[test]
fn a_state_folder_replaced_by_a_file_and_back_costs_nothing() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent ");
    let (folder, aside) = (sandbox.state_dir(), sandbox.path("work/aside"));
    fs::write(&aside, "a file").expect("a file");
    change_places(&folder, &aside);
    sidecar.says("state/tilt-honeycomb");
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let looks = sandbox.tilt().calls().len();
    eventually("two more reports", || sandbox.tilt().calls().len() >= looks + 2);
    change_places(&folder, &aside);
    sidecar.says("the state is usable again");
    eventually("the build arrives", || builds(&server.accepted()).len() > recorded_builds().len());
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
    assert_eq!(builds(&server.accepted()).len(), recorded_builds().len() + 1);
}

#[test]
fn a_state_folder_that_is_removed_is_made_anew() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("sent ");
    fs::remove_dir_all(sandbox.state_dir()).expect("a folder");
    sandbox.tilt().build_web("2026-11-22T17:00:00Z", "2026-11-22T17:00:01Z");
    let is_there = || {
        let sent = builds(&server.accepted());
        sent.iter().any(|(_, start)| start.starts_with("2026-11-22T17:00:00"))
    };
    eventually("the build arrives", is_there);
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn a_lock_that_was_removed_keeps_nobody_waiting() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_in_vain(&server);
    let held = sandbox.hold_state();
    let report = sandbox.report_to(&server).start();
    fs::remove_file(sandbox.state_file().with_extension("lock")).expect("a lock");
    report.finish().exits_with(0);
    drop(held);
    assert_eq!(sandbox.waiting(), 0);
}

#[test]
fn a_pipe_a_folder_or_a_device_in_the_states_place_is_named_and_not_waited_for() {
    for extension in ["json", "lock", "sending"] {
        for is_pipe in [true, false] {
            let (sandbox, server) = (Sandbox::new(), Server::start());
            sandbox.report_in_vain(&server);
            let path = sandbox.state_file().with_extension(extension);
            fs::remove_file(&path).expect("a file");
            if is_pipe {
                let made = Command::new("mkfifo").arg(&path).status();
                assert!(made.expect("there is a mkfifo").success());
            } else {
                fs::create_dir(&path).expect("a folder");
            }
            takes_less_than(Duration::from_secs(8), || {
                let outcome = sandbox.report_to(&server).finish().exits_with(1);
                assert!(outcome.stderr.contains(extension), "{}", outcome.stderr);
                outcome.took
            });
        }
    }
}

#[test]
fn one_flipped_bit_moves_the_state_aside() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_in_vain(&server);
    let whole = fs::read(sandbox.state_file()).expect("a state");
    let text = String::from_utf8(whole.clone()).expect("text");
    // In a version, which would come from a newer program; in an event, which would be another.
    let version = text.find("\"version\":2").expect("a version") + "\"version\":".len();
    let event = text.find("dockerimage").expect("an event") + 1;
    for at in [version, event] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(sandbox.state_file(), flipped).expect("a damaged state");
        let report = sandbox.report_to(&server).finish().exits_with(0);
        report.says("was damaged; moved it to");
        assert_eq!(builds(&server.requests().last().expect("one").events), recorded_builds());
    }
}

#[test]
fn one_event_with_which_no_request_is_taken_does_not_block_the_rest() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Answer::By(Arc::new(|request| {
        let is_there = request.events.iter().any(|event| event["data"]["image_name"] == "web");
        if is_there { Reply::new(400, "{\"error\":\"malformed\"}").into() } else { Answer::Accept }
    })));
    let waiting = {
        let dry = sandbox.run("--once --dry-run").finish().exits_with(0).events();
        let is_webs = |event: &&serde_json::Value| event["data"]["image_name"] == "web";
        dry.len() - dry.iter().filter(is_webs).count()
    };
    let report = sandbox.report_to(&server).finish();
    assert!([Some(4), Some(5)].contains(&report.code), "{report:?}");
    // As many as it takes: not all of them need fit into one delivery.
    eventually("the rest arrives", || {
        sandbox.tilt().set("no-tilt", "");
        sandbox.report_to(&server).finish();
        server.accepted().len() >= waiting
    });
    assert_eq!(sandbox.waiting(), 0, "what no request is taken with is gone");
    assert!(report.stderr.contains("with which honeycomb takes no request"), "{report:?}");
}

#[test]
fn a_server_that_calls_every_request_malformed_costs_nothing_and_is_not_pestered() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Reply::new(400, "{\"error\":\"malformed\"}"));
    let report = sandbox.report_to(&server).finish().exits_with(5);
    report.says("the request was refused (HTTP 400: malformed)").says_one_line();
    let waiting = sandbox.waiting();
    assert!(waiting >= 12, "{waiting}");
    assert!(server.requests().len() <= 10, "{}", server.requests().len());
    server.usually(Answer::Accept);
    sandbox.tilt().set("no-tilt", "");
    sandbox.report_to(&server).finish().exits_with(3);
    assert_eq!((server.accepted().len(), sandbox.waiting()), (waiting, 0));
}

#[test]
fn ten_thousand_waiting_events_are_delivered_in_seconds_and_in_order() {
    takes_less_than(Duration::from_secs(20), || {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        sandbox.tilt().crowd(9_900);
        let waiting = sandbox.report_in_vain(&server);
        assert!(waiting >= 9_900, "{waiting}");
        sandbox.tilt().set("no-tilt", "");
        let before = server.requests().len();
        let outcome = sandbox.report_to(&server).finish().exits_with(3);
        assert_eq!((server.accepted().len(), sandbox.waiting()), (waiting, 0));
        let requests = server.requests().len() - before;
        assert!(requests <= 1 + waiting.div_ceil(500), "large batches: {requests}");
        outcome.took
    });
}

#[test]
fn a_key_that_works_again_has_the_backlog_delivered() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.then([Reply::new(401, "{\"error\":\"unknown API key\"}").into()]);
    let sidecar = sandbox.sidecar_to(&server).start();
    sidecar.says("asking again rarely").says("sent ");
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    assert_eq!(sidecar.stderr().matches("401").count(), 1, "{}", sidecar.stderr());
}

#[test]
fn a_sidecar_is_back_soon_after_an_outage() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.usually(Answer::Broken { after: Part::Nothing, then: Mishap::Close });
    let sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "2s"]).start();
    sidecar.says("trying again");
    let met = server.requests().len();
    eventually("it has been away for some tries", || server.requests().len() >= met + 2);
    server.usually(Answer::Accept);
    let back = Instant::now();
    eventually("the backlog", || builds(&server.accepted()) == recorded_builds());
    // It never pauses for longer than 15, whatever the machine adds to that.
    assert!(back.elapsed() < Duration::from_secs(40), "{:?}", back.elapsed());
}

#[test]
fn when_the_time_is_up_the_last_failure_is_said() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let timeout = Duration::from_secs(1);
    server.usually(Reply::new(503, ""));
    let outcome = in_some_tries("a request", || {
        let tried = server.requests().len();
        let report = sandbox.report_within("1s", &server).start();
        let has_tried = || server.requests().len() > tried;
        eventually("a try", || has_tried() || !report.is_running());
        let held = sandbox.hold_state();
        thread::sleep(timeout);
        drop(held);
        let outcome = report.finish();
        has_tried().then_some(outcome)
    });
    outcome.exits_with(4).says("HTTP 503");
}

/// One report through a proxy, to a host that only the proxy could know.
fn report_through(sandbox: &Sandbox, proxy: &str, timeout: &str) -> Invocation {
    let options = "--once --api-endpoint http://honeycomb.invalid --allow-insecure-http --timeout";
    sandbox.run(options).args(&[timeout]).with_key().env("HTTP_PROXY", proxy)
}

#[test]
fn a_proxy_that_is_down_or_wants_credentials_leaves_everything_for_next_time() {
    let sandbox = Sandbox::new();
    report_through(&sandbox, NOBODY, "1s").finish().exits_with(4).says_one_line();
    let waiting = sandbox.waiting();
    assert!(waiting >= 12, "{waiting}");

    let heard = Arc::<Mutex<String>>::default();
    let told = Arc::clone(&heard);
    let wants = serve(move |mut stream| {
        let asked = read_head(&mut stream).expect("a request").expect("one");
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                       proxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(refusal.as_bytes()).expect("an answer");
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        let mut told = told.lock().expect("no one panicked");
        *told += &[format!("{asked:?}"), rest].concat();
    });
    let wants = format!("http://127.0.0.1:{wants}");
    let outcome = in_some_tries("a request", || {
        let outcome = report_through(&sandbox, &wants, "1s").finish().exits_with(4);
        let was_late = ["timed out", "the time was up"].map(|why| outcome.stderr.contains(why));
        (was_late == [false; 2]).then_some(outcome)
    });
    let outcome = outcome.says("proxy").says_one_line();
    assert!(!outcome.stderr.contains(KEY), "{}", outcome.stderr);
    let heard = || heard.lock().expect("no one panicked").clone();
    eventually("the proxy has noted it", || heard().contains("CONNECT"));
    assert!(!heard().contains(KEY), "{}", heard());

    let proxy = Server::start();
    sandbox.tilt().set("no-tilt", "");
    report_through(&sandbox, &proxy.url(), "1m").finish().exits_with(3);
    assert!(proxy.accepted().len() >= waiting);
    assert_eq!(sandbox.waiting(), 0);
}

/// Takes any connection to where the client wants to go, as SOCKS version 5 (RFC 1928) has it, to
/// this server instead; the names that it was asked for.
fn socks_proxy(to: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&asked);
    let port = serve(move |mut client| {
        let mut greeting = [0; 2];
        client.read_exact(&mut greeting).expect("a version and how many methods");
        client.read_exact(&mut vec![0; greeting[1].into()]).expect("the methods");
        client.write_all(&[5, 0]).expect("no credentials wanted");
        let mut request = [0; 5];
        client.read_exact(&mut request).expect("a request for a name");
        let mut name = vec![0; usize::from(request[4]) + 2];
        client.read_exact(&mut name).expect("the name and a port");
        name.truncate(request[4].into());
        seen.lock().expect("no one panicked").push(String::from_utf8(name).expect("a name"));
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).expect("connected");
        let mut server = TcpStream::connect(&to).expect("a server");
        let (mut from_server, mut to_client) =
            (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
        thread::spawn(move || drop(std::io::copy(&mut from_server, &mut to_client)));
        let _ = std::io::copy(&mut client, &mut server);
    });
    (port, asked)
}

#[test]
fn a_socks_proxy_is_gone_through_and_finds_the_host_by_itself() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (port, asked) = socks_proxy(server.url().replace("http://", ""));
    let options = "--once --api-endpoint http://honeycomb.invalid --allow-insecure-http";
    let report =
        sandbox.run(options).with_key().env("ALL_PROXY", format!("socks5h://127.0.0.1:{port}"));
    report.finish().exits_with(0);
    assert_eq!(*asked.lock().expect("no one panicked"), ["honeycomb.invalid"]);
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

/// A server behind this certificate: its port, and the keys that it was told.
pub fn tls_server(name: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let (config, heard) = (tls::showing(name), Arc::<Mutex<Vec<String>>>::default());
    let told = Arc::clone(&heard);
    let port = serve(move |stream| {
        let key = serve_tls(stream, Arc::clone(&config));
        told.lock().expect("no one panicked").extend(key);
    });
    (port, heard)
}

/// Has each connection served, for as long as the process lives; the port.
fn serve(mut server: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    thread::spawn(move || listener.incoming().flatten().for_each(&mut server));
    port
}

/// Accepts one batch; `None` if the client did not go through with it.
fn serve_tls(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Option<String> {
    let connection = rustls::ServerConnection::new(config).expect("a connection");
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut request = read_head(&mut stream).ok()??;
    read_body(&mut stream, &mut request).ok()?;
    stream.write_all(&judged(&vec![202; request.events.len()]).whole()).ok()?;
    stream.flush().ok()?;
    request.header("x-honeycomb-team").map(str::to_owned)
}

fn report_by_tls(sandbox: &Sandbox, port: u16, timeout: &str) -> Invocation {
    sandbox
        .run("--once --timeout")
        .args(&[timeout])
        .with_key()
        .env("HONEYCOMB_API_ENDPOINT", format!("https://localhost:{port}"))
        .env("SSL_CERT_FILE", certificate("authority.pem"))
}

#[test]
fn a_certificate_of_an_unknown_authority_expired_or_for_another_name_is_not_spoken_to() {
    for (shown, said) in [
        ("of-a-stranger.pem", "UnknownIssuer"),
        ("expired.pem", "xpired"),
        ("wrong-name.pem", "name"),
    ] {
        let sandbox = Sandbox::new();
        let (port, heard) = tls_server(shown);
        let outcome = in_some_tries("a look at the certificate", || {
            let outcome = report_by_tls(&sandbox, port, "2s").finish().exits_with(4);
            Some(outcome).filter(|outcome| outcome.stderr.contains("certificate"))
        });
        let outcome = outcome.says(said).says_one_line();
        assert!(!outcome.stderr.contains(KEY), "{}", outcome.stderr);
        assert_eq!(heard.lock().expect("no one panicked")[..], [""; 0], "{shown}");
        assert!(sandbox.waiting() >= 12, "{shown}");
    }
}

#[test]
fn a_certificate_of_an_authority_that_the_person_trusts_is_enough() {
    let sandbox = Sandbox::new();
    let (port, heard) = tls_server("good.pem");
    report_by_tls(&sandbox, port, "1m").finish().exits_with(0);
    assert_eq!(heard.lock().expect("no one panicked")[..], [KEY]);
    assert_eq!(sandbox.waiting(), 0);
}

#[test]
fn a_watch_that_ends_is_started_again_also_where_a_process_it_left_holds_its_output() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let watches = || {
        let calls = sandbox.tilt().called_with();
        calls.iter().filter(|call| call.contains("uiresources --watch")).count()
    };
    sandbox.tilt().set("leave-process", "");
    let sidecar = sandbox.live_to(&server).start();
    eventually("it watches", || watches() == 1);
    sidecar.says("sent ");
    sandbox.tilt().unset("leave-process").set("end", "");
    eventually("it starts to watch again", || watches() > 1);
    sandbox.tilt().unset("end");
    // Each watch that is there reads two pipes.
    eventually("nothing is left of those that ended", || {
        let threads = sidecar.threads();
        let named = |name: &str| threads.iter().filter(|thread| *thread == name).count();
        named("tilt output") == named("tilt watch")
    });
    sidecar.ends_after(Signal::TERM).0.exits_with(0);
}

#[test]
fn both_kinds_of_build_of_one_report_are_among_what_is_kept() {
    // What the tests above count on.
    let sandbox = Sandbox::new();
    let events = sandbox.run("--once --dry-run").finish().exits_with(0).events();
    assert_eq!((of_kind(&events, "dockerimage").len(), of_kind(&events, "cmdimage").len()), (2, 1));
}

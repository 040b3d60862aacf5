//! `--flush` sends the queue.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fakes::honeycomb::{Answer, Reply, Server};

use crate::support::Sandbox;

/// Accepts a few events of each request, after this time.
fn slow(server: &Server, time: Duration) {
    server.usually(Answer::By(Arc::new(move |_| {
        thread::sleep(time);
        Answer::Statuses(vec![202; 9])
    })));
}

#[test]
fn flush_continues_while_batches_succeed() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let queued = sandbox.queue_report(&server);
    slow(&server, Duration::from_millis(800));
    let flush = sandbox.run("--flush --timeout 3s").sending_to(&server);
    let outcome = flush.finish().exits_with(0);
    assert!(outcome.took > Duration::from_secs(3), "{:?}", outcome.took);
    assert_eq!((server.accepted().len(), sandbox.queued()), (queued, 0));
    assert_eq!(outcome.stderr, "", "no progress in a log");
}

#[test]
fn flush_ends_when_nothing_succeeds_for_the_timeout() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let queued = sandbox.queue_report(&server);
    server.then([Answer::Statuses(vec![202; 9])]);
    server.usually(Reply::new(503, ""));
    let flush = sandbox.run("--flush --timeout 1s").sending_to(&server);
    flush.finish().exits_with(4).says("HTTP 503").says_one_line();
    assert_eq!((server.accepted().len(), sandbox.queued()), (9, queued - 9));
}

#[test]
#[cfg(target_os = "linux")]
fn flush_shows_its_progress_on_a_terminal() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let queued = sandbox.queue_report(&server);
    slow(&server, Duration::ZERO);
    let shown = sandbox.on_terminal("--flush").sending_to(&server).finish().exits_with(0).stdout;
    let progress = format!("\rsent 9 of {queued} events\rsent 18 of {queued} events\r");
    assert!(shown.starts_with(&progress), "{shown:?}");
    // The line is removed before the last message.
    let blank = " ".repeat(format!("sent {queued} of {queued} events").len());
    let (_, last) = shown.rsplit_once(&format!("\r{blank}\r")).expect("a removed line");
    assert!(last.starts_with(&format!("sent {queued} events (")), "{shown:?}");

    let queued = sandbox.queue_report(&server);
    slow(&server, Duration::ZERO);
    let quiet = sandbox.on_terminal("--flush --quiet").sending_to(&server).finish().exits_with(0);
    assert_eq!((quiet.stdout.as_str(), sandbox.queued()), ("", 0), "{queued}");
}

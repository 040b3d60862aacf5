//! A fake Honeycomb behind TLS and a proxy that fails in the ways real networks and servers fail. It
//! also keeps the campaign's ledger: which events it accepted, how often, and why an event may
//! legitimately arrive again.
//!
//! An event may arrive again only if the collector could not record its last acceptance: the process
//! ended first, the response broke, the disk was full, or the state was destroyed. Each such cause
//! permits one repetition of one event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fakes::honeycomb::{Part, Reply, Request, batch_reply, read_body, read_head};
use fakes::tls;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::random::Random;
use crate::world::{CANARIES, key};

pub const KEY: &str = "hcaik_01canary7key9never4shown2anywhere";
pub const URL: &str = "https://honeycomb.test";
const POLL: Duration = Duration::from_millis(2);
/// How long after a collector's exit its last request may still arrive.
pub const LATE_ARRIVAL: Duration = Duration::from_secs(2);
/// The longest time between a collector's read of its state and the request with those events.
const SEND_DELAY: Duration = Duration::from_millis(300);

/// How the server and the proxy in front of it behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerMode {
    Healthy,
    Slow,
    RefusingConnections,
    Unreachable,
    RequiringCredentials,
    UnknownAuthority,
    Expired,
    WrongHostName,
    ResettingBeforeRead,
    StallingBeforeBody,
    BreakingResponse,
    TooFewStatuses,
    InvalidBody,
    RequestTooLarge,
    RateLimited,
    ServerError,
    MixedStatuses,
    Redirecting,
    Unauthorized,
    BadRequest,
}

impl ServerMode {
    pub const FAULTS: [Self; 19] = [
        Self::Slow,
        Self::RefusingConnections,
        Self::Unreachable,
        Self::RequiringCredentials,
        Self::UnknownAuthority,
        Self::Expired,
        Self::WrongHostName,
        Self::ResettingBeforeRead,
        Self::StallingBeforeBody,
        Self::BreakingResponse,
        Self::TooFewStatuses,
        Self::InvalidBody,
        Self::RequestTooLarge,
        Self::RateLimited,
        Self::ServerError,
        Self::MixedStatuses,
        Self::Redirecting,
        Self::Unauthorized,
        Self::BadRequest,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Healthy => "server: healthy",
            Self::Slow => "server: slow",
            Self::RefusingConnections => "proxy: refuses connections",
            Self::Unreachable => "proxy: cannot reach the server",
            Self::RequiringCredentials => "proxy: requires credentials",
            Self::UnknownAuthority => "server: certificate of an unknown authority",
            Self::Expired => "server: expired certificate",
            Self::WrongHostName => "server: certificate for another host name",
            Self::ResettingBeforeRead => "proxy: resets before reading",
            Self::StallingBeforeBody => "server: stalls before reading the body",
            Self::BreakingResponse => "server: stalls or closes during its response",
            Self::TooFewStatuses => "server: 200 with fewer statuses than events",
            Self::InvalidBody => "server: 200 with HTML, garbage or a truncated list",
            Self::RequestTooLarge => "server: 413 for more than a few events",
            Self::RateLimited => "server: 429, Retry-After absent, valid or invalid",
            Self::ServerError => "server: 500 to 504, body empty, HTML or two documents",
            Self::MixedStatuses => "server: 202, 429, 500 and 400 for single events",
            Self::Redirecting => "server: redirects, 301 to 308",
            Self::Unauthorized => "server: 401",
            Self::BadRequest => "server: 400 for the whole request",
        }
    }

    fn certificate(self) -> Certificate {
        match self {
            Self::UnknownAuthority => Certificate::UnknownAuthority,
            Self::Expired => Certificate::Expired,
            Self::WrongHostName => Certificate::WrongHostName,
            _ => Certificate::Good,
        }
    }
}

/// The certificate that the server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificate {
    Good,
    UnknownAuthority,
    Expired,
    WrongHostName,
}

impl Certificate {
    const FILES: [&str; 4] = ["good.pem", "of-a-stranger.pem", "expired.pem", "wrong-name.pem"];
}

/// A TLS connection through the proxy.
type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// Why an accepted event may arrive again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepeatCause {
    ProcessEnded,
    ProcessSuspended,
    ResponseBroken,
    ClientTimedOut,
    StateDestroyed,
    DiskFull,
}

impl fmt::Display for RepeatCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessEnded => "the process ended before it recorded the response",
            Self::ProcessSuspended => "the process was suspended until its timeout",
            Self::ResponseBroken => "the response broke",
            Self::ClientTimedOut => "the client timed out before the response",
            Self::StateDestroyed => "the state was damaged or removed",
            Self::DiskFull => "the state could not be written after the response",
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Acceptance {
    at: Instant,
    /// The client's port.
    port: u16,
}

#[derive(Debug, Default)]
struct Ledger {
    /// By event: every time that the server accepted it.
    accepted: HashMap<String, Vec<Acceptance>>,
    /// By event and number of its acceptance, from 1: why the event may arrive once more after it.
    allowed_repeats: HashMap<(String, u32), RepeatCause>,
    /// Events rejected permanently: with a 400 in the statuses, or for a request of a single event.
    rejected: HashSet<String>,
    /// By request id: the client's port and the events, until the server has decided on them.
    in_flight: HashMap<u64, (u16, Vec<String>)>,
    last_exit: Option<Instant>,
    /// When the machine last resumed after a pause of all processes.
    resumed_at: Option<Instant>,
    /// By client port of a suspended process: an acceptance before this time may never be recorded,
    /// since the process cannot read the response.
    suspended: HashMap<u16, (Instant, RepeatCause)>,
    /// When a state was destroyed, and its events. A collector may have read them before and still
    /// send them.
    destroyed: Option<(Instant, HashSet<String>)>,
    leaks: Vec<String>,
    injected: BTreeMap<&'static str, u64>,
    requests: u64,
}

impl Ledger {
    /// How often the server has accepted this event.
    fn acceptances(&self, key: &str) -> u32 {
        self.accepted
            .get(key)
            .map_or(0, |acceptances| u32::try_from(acceptances.len()).expect("few acceptances"))
    }

    /// True if one of these events may have been read from the state just before its destruction.
    fn was_from_destroyed_state(&self, keys: &[String]) -> bool {
        self.destroyed.as_ref().is_some_and(|(at, queued)| {
            at.elapsed() < SEND_DELAY && keys.iter().any(|key| queued.contains(key))
        })
    }

    /// Why an event that this request delivers may arrive again. `None` if the client will learn of
    /// its acceptance.
    fn repeat_cause(&self, request: &HandledRequest, response: &Response) -> Option<RepeatCause> {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LATE_ARRIVAL);
        let suspended = self.suspended.get(&request.port);
        let suspended = suspended.filter(|(until, _)| Instant::now() < *until);
        if request.was_from_destroyed_state {
            Some(RepeatCause::StateDestroyed)
        } else if response.hides_statuses {
            Some(RepeatCause::ResponseBroken)
        } else if is_recent(self.resumed_at) {
            Some(RepeatCause::ProcessSuspended)
        } else if let Some((_, cause)) = suspended {
            Some(*cause)
        } else if request.has_closed {
            let has_exited = is_recent(self.last_exit);
            Some(if has_exited { RepeatCause::ProcessEnded } else { RepeatCause::ClientTimedOut })
        } else {
            None
        }
    }

    /// Lets the event arrive once more after this number of acceptances.
    fn allow_repeat(&mut self, key: &str, acceptances: u32, cause: RepeatCause) {
        self.allowed_repeats.entry((key.to_owned(), acceptances)).or_insert(cause);
    }

    fn accept(&mut self, key: &str, port: u16) {
        let accepted = Acceptance { at: Instant::now(), port };
        self.accepted.entry(key.to_owned()).or_default().push(accepted);
    }

    /// Lets events arrive again whose acceptance is not recorded: those still on disk and those in
    /// flight. `ports` limits this to events sent from these client ports.
    fn allow_unrecorded(
        &mut self,
        on_disk: &HashSet<String>,
        cause: RepeatCause,
        ports: Option<&HashSet<u16>>,
    ) {
        let is_meant = |port: &u16| ports.is_none_or(|ports| ports.contains(port));
        for key in on_disk {
            let last = self.accepted.get(key).and_then(|acceptances| acceptances.last());
            if last.is_some_and(|accepted| is_meant(&accepted.port)) {
                self.allow_repeat(key, self.acceptances(key), cause);
            }
        }
        let in_flight = self.in_flight.values().filter(|(port, _)| is_meant(port));
        for key in in_flight.flat_map(|(_, keys)| keys).cloned().collect::<Vec<_>>() {
            self.allow_repeat(&key, self.acceptances(&key) + 1, cause);
        }
    }
}

/// The events that arrived more than once.
#[derive(Debug, Default)]
pub struct Repeats {
    pub explained: BTreeMap<RepeatCause, usize>,
    pub unexplained: Vec<String>,
}

pub struct FaultyServer {
    pub began: Instant,
    port: u16,
    mode: Mutex<(ServerMode, u64)>,
    ledger: Mutex<Ledger>,
    random: Mutex<Random>,
    next: AtomicU64,
    redirect_target: u16,
    redirected_requests: AtomicUsize,
    /// Indexed by [`Certificate`].
    tls: [Arc<ServerConfig>; 4],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultyServer {
    pub fn start(seed: u64) -> io::Result<Arc<Self>> {
        let listener = bind_reserved_port()?;
        let redirect_target = TcpListener::bind("127.0.0.1:0")?;
        let server = Arc::new(Self {
            began: Instant::now(),
            port: listener.local_addr()?.port(),
            mode: Mutex::new((ServerMode::Healthy, 0)),
            ledger: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            next: AtomicU64::new(0),
            redirect_target: redirect_target.local_addr()?.port(),
            redirected_requests: AtomicUsize::new(0),
            tls: Certificate::FILES.map(tls::showing),
        });
        let shared = Arc::clone(&server);
        thread::spawn(move || shared.listen(Some(listener)));
        let shared = Arc::clone(&server);
        thread::spawn(move || {
            for _ in redirect_target.incoming() {
                shared.redirected_requests.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(server)
    }

    /// The URL of the proxy. Only the proxy resolves the server's host name.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes the mode. Connections that the old mode stalls then continue or end.
    pub fn set(&self, mode: ServerMode) {
        let mut current = lock(&self.mode);
        *current = (mode, current.1 + 1);
    }

    fn mode(&self) -> (ServerMode, u64) {
        *lock(&self.mode)
    }

    /// The number of connections that followed a redirect.
    pub fn redirected_requests(&self) -> usize {
        self.redirected_requests.load(Ordering::SeqCst)
    }

    /// True while a request is in flight.
    pub fn is_busy(&self) -> bool {
        !lock(&self.ledger).in_flight.is_empty()
    }

    pub fn requests(&self) -> u64 {
        lock(&self.ledger).requests
    }

    /// Records that a collector has exited, and what its state holds.
    pub fn record_exit(&self, on_disk: &HashSet<String>) {
        let mut ledger = lock(&self.ledger);
        ledger.last_exit = Some(Instant::now());
        ledger.allow_unrecorded(on_disk, RepeatCause::ProcessEnded, None);
    }

    /// Records that a collector is suspended for `limit`, possibly longer than its timeout, or is
    /// about to be killed. `on_disk` is what its state holds, `ports` are those it sends from.
    pub fn record_suspension(
        &self,
        on_disk: &HashSet<String>,
        ports: HashSet<u16>,
        limit: Duration,
        cause: RepeatCause,
    ) {
        let mut ledger = lock(&self.ledger);
        ledger.allow_unrecorded(on_disk, cause, Some(&ports));
        let until = Instant::now() + limit;
        ledger.suspended.extend(ports.into_iter().map(|port| (port, (until, cause))));
    }

    /// Records that the whole machine was paused until now.
    pub fn record_machine_pause(&self, on_disk: &HashSet<String>) {
        let mut ledger = lock(&self.ledger);
        ledger.resumed_at = Some(Instant::now());
        ledger.allow_unrecorded(on_disk, RepeatCause::ProcessSuspended, None);
    }

    /// Calls `destroy`, which destroys a state that holds `queued` while Tilt shows `visible`. The
    /// lock keeps the server from accepting events meanwhile: a collector that finds the state
    /// missing sends everything again, possibly before `destroy` returns.
    pub fn record_state_loss(
        &self,
        queued: HashSet<String>,
        visible: &HashSet<String>,
        destroy: impl FnOnce(),
    ) {
        let mut ledger = lock(&self.ledger);
        destroy();
        ledger.allow_unrecorded(visible, RepeatCause::StateDestroyed, None);
        ledger.allow_unrecorded(&queued, RepeatCause::StateDestroyed, None);
        ledger.destroyed = Some((Instant::now(), queued));
    }

    /// Records that the disk was full: acceptances up to `until` could not be recorded.
    pub fn record_full_disk(&self, on_disk: &HashSet<String>, until: Instant) {
        let mut ledger = lock(&self.ledger);
        for key in on_disk {
            let last = ledger.accepted.get(key).and_then(|acceptances| acceptances.last());
            if last.is_some_and(|accepted| accepted.at <= until) {
                let acceptances = ledger.acceptances(key);
                ledger.allow_repeat(key, acceptances, RepeatCause::DiskFull);
            }
        }
    }

    /// True if the event was accepted or permanently rejected.
    pub fn is_settled(&self, key: &str) -> bool {
        let ledger = lock(&self.ledger);
        ledger.accepted.contains_key(key) || ledger.rejected.contains(key)
    }

    /// True if the event was permanently rejected and never accepted.
    pub fn was_rejected(&self, key: &str) -> bool {
        let ledger = lock(&self.ledger);
        !ledger.accepted.contains_key(key) && ledger.rejected.contains(key)
    }

    pub fn leaks(&self) -> Vec<String> {
        lock(&self.ledger).leaks.clone()
    }

    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.ledger).injected.clone()
    }

    /// Counts one occurrence of a fault.
    pub fn count(&self, mode: ServerMode) {
        *lock(&self.ledger).injected.entry(mode.name()).or_default() += 1;
    }

    pub fn repeats(&self) -> Repeats {
        let ledger = lock(&self.ledger);
        let mut repeats = Repeats::default();
        for (key, acceptances) in &ledger.accepted {
            for (number, pair) in (1..).zip(acceptances.windows(2)) {
                if let Some(cause) = ledger.allowed_repeats.get(&(key.clone(), number)) {
                    *repeats.explained.entry(*cause).or_default() += 1;
                } else {
                    let [first, second] = [0, 1].map(|which| {
                        let Acceptance { at, port } = pair[which];
                        let at = at.duration_since(self.began).as_secs_f64();
                        format!("at {at:.3} s from port {port}")
                    });
                    repeats.unexplained.push(format!("{key}, {first} and {second}"));
                }
            }
        }
        repeats.unexplained.sort();
        repeats
    }

    fn listen(self: Arc<Self>, mut listener: Option<TcpListener>) {
        loop {
            if self.mode().0 == ServerMode::RefusingConnections {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            }
            let Some(listener) = &listener else {
                thread::sleep(POLL);
                continue;
            };
            listener.set_nonblocking(true).expect("a listening socket");
            match listener.accept() {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self);
                    thread::spawn(move || drop(shared.serve(stream)));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Serves one connection until it ends or breaks.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let port = stream.peer_addr()?.port();
        let Some((mut stream, certificate)) = self.connect(stream)? else { return Ok(()) };
        while let Some(request) = read_head(&mut stream)? {
            if certificate != Certificate::Good {
                let leak = format!("a request to a server with a certificate {certificate:?}");
                lock(&self.ledger).leaks.push(leak);
                return Ok(());
            }
            let (mode, epoch) = self.mode();
            if self.drops(mode, epoch) {
                return Ok(());
            }
            match self.answer(&mut stream, port, request, (mode, epoch))? {
                AfterResponse::KeepOpen => {}
                AfterResponse::Stall => {
                    self.stall(&stream.sock, epoch);
                    return stream.sock.shutdown(Shutdown::Both);
                }
                AfterResponse::Close => return stream.sock.shutdown(Shutdown::Both),
            }
        }
        Ok(())
    }

    /// True if the connection must end before the server reads the request's body.
    fn drops(&self, mode: ServerMode, epoch: u64) -> bool {
        match mode {
            // The connection is older than the mode. New connections fail in `connect` or earlier.
            ServerMode::RefusingConnections
            | ServerMode::Unreachable
            | ServerMode::RequiringCredentials
            | ServerMode::ResettingBeforeRead => true,
            ServerMode::StallingBeforeBody => {
                self.count(mode);
                // Unread input hides whether the client has closed, so only the mode ends this.
                while self.mode().1 == epoch {
                    thread::sleep(POLL);
                }
                true
            }
            _ => mode.certificate() != Certificate::Good,
        }
    }

    /// Reads a request's body, answers it and records what the client can know of the result.
    fn answer(
        &self,
        stream: &mut TlsStream,
        port: u16,
        mut request: Request,
        (mode, epoch): (ServerMode, u64),
    ) -> io::Result<AfterResponse> {
        read_body(stream, &mut request)?;
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let keys: Vec<_> = request.events.iter().map(key).collect();
        let was_from_destroyed_state;
        {
            let mut ledger = lock(&self.ledger);
            was_from_destroyed_state = ledger.was_from_destroyed_state(&keys);
            ledger.requests += 1;
            ledger.leaks.extend(leaks(&request));
            ledger.in_flight.insert(id, (port, keys.clone()));
        }
        if mode == ServerMode::Slow {
            let wait = 20 + lock(&self.random).below(400);
            self.wait_for_client(&stream.sock, epoch, Duration::from_millis(wait));
        }
        let response = self.respond(mode, &keys);
        if mode != ServerMode::Healthy {
            self.count(mode);
        }
        let has_closed = has_closed(&stream.sock);
        let request =
            HandledRequest { id, port, keys: &keys, was_from_destroyed_state, has_closed };
        self.record(&request, &response);
        stream.write_all(&response.bytes)?;
        stream.flush()?;
        Ok(response.after)
    }

    /// Acts as the proxy: accepts a CONNECT and starts TLS with the certificate of the current mode.
    fn connect(&self, mut stream: TcpStream) -> io::Result<Option<(TlsStream, Certificate)>> {
        // Closing a socket with unread data resets the connection.
        stream.peek(&mut [0])?;
        let (mode, _) = self.mode();
        if mode == ServerMode::ResettingBeforeRead {
            self.count(mode);
            return Ok(None);
        }
        let Some(request) = read_head(&mut stream)? else { return Ok(None) };
        lock(&self.ledger).leaks.extend(leaks(&request));
        let error = match mode {
            ServerMode::Unreachable => Some(Reply::new(502, "no route")),
            ServerMode::RequiringCredentials => {
                Some(Reply::new(407, "").header("proxy-authenticate", "Basic realm=\"x\""))
            }
            _ => None,
        };
        if let Some(reply) = error {
            self.count(mode);
            stream.write_all(&reply.whole())?;
            return Ok(None);
        }
        let certificate = mode.certificate();
        if certificate != Certificate::Good {
            self.count(mode);
        }
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let config = Arc::clone(&self.tls[certificate as usize]);
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Some((StreamOwned::new(connection, stream), certificate)))
    }

    /// Waits until the mode changes or the client closes the connection.
    fn stall(&self, stream: &TcpStream, epoch: u64) {
        self.wait_for_client(stream, epoch, Duration::from_mins(10));
    }

    fn wait_for_client(&self, stream: &TcpStream, epoch: u64, limit: Duration) {
        let until = Instant::now() + limit;
        while self.mode().1 == epoch && Instant::now() < until && !has_closed(stream) {
            thread::sleep(POLL);
        }
    }

    /// Enters the result of a request into the ledger.
    fn record(&self, request: &HandledRequest, response: &Response) {
        let mut ledger = lock(&self.ledger);
        ledger.in_flight.remove(&request.id);
        let cause = ledger.repeat_cause(request, response);
        for (key, status) in request.keys.iter().zip(&response.statuses) {
            match status {
                202 => {
                    ledger.accept(key, request.port);
                    if let Some(cause) = cause {
                        let acceptances = ledger.acceptances(key);
                        ledger.allow_repeat(key, acceptances, cause);
                    }
                }
                400 => drop(ledger.rejected.insert(key.clone())),
                _ => {}
            }
        }
    }

    fn respond(&self, mode: ServerMode, keys: &[String]) -> Response {
        let mut random = lock(&self.random);
        let all_accepted = vec![202; keys.len()];
        match mode {
            ServerMode::BreakingResponse => broken_response(all_accepted, &mut random),
            ServerMode::TooFewStatuses => {
                Response::with_statuses(vec![202; random.index(keys.len().max(1))])
            }
            ServerMode::InvalidBody => invalid_body(all_accepted, &mut random),
            ServerMode::RequestTooLarge => {
                let limit = 1 + random.index(4);
                if keys.len() <= limit {
                    return Response::with_statuses(all_accepted);
                }
                Response::rejection(&Reply::new(413, ""))
            }
            ServerMode::RateLimited => Response::rejection(&rate_limited(&mut random)),
            ServerMode::ServerError => {
                let status = 500 + u16::try_from(random.below(5)).expect("less than 5");
                let two = r#"{"source":"refinery","error":"first"}{"error":"second"}"#;
                let body = random.pick(&["", "<html>", two, "busy"]);
                Response::rejection(&Reply::new(status, body))
            }
            ServerMode::MixedStatuses => {
                let status = |_| random.pick(&[202, 202, 202, 202, 429, 500, 400]);
                Response::with_statuses(keys.iter().map(status).collect())
            }
            ServerMode::Redirecting => {
                let status = random.pick(&[301, 302, 303, 307, 308]);
                let to = format!("http://127.0.0.1:{}/login?next={KEY}", self.redirect_target);
                Response::rejection(&Reply::new(status, "moved").header("location", to))
            }
            ServerMode::Unauthorized => {
                Response::rejection(&Reply::new(401, "{\"error\":\"unknown API key\"}"))
            }
            ServerMode::BadRequest => {
                let mut response =
                    Response::rejection(&Reply::new(400, "{\"error\":\"malformed\"}"));
                if keys.len() == 1 {
                    response.statuses = vec![400];
                }
                response
            }
            _ => Response::with_statuses(all_accepted),
        }
    }
}

/// A response that ends early. The server accepts all events or none.
fn broken_response(all_accepted: Vec<u16>, random: &mut Random) -> Response {
    let is_accepted = random.is_one_in(2);
    let parts = [Part::Nothing, Part::StatusLine, Part::Headers, Part::HalfTheBody];
    let bytes = batch_reply(&all_accepted).bytes(random.pick(&parts));
    let after = random.pick(&[AfterResponse::Stall, AfterResponse::Close]);
    let statuses = if is_accepted { all_accepted } else { Vec::new() };
    Response { statuses, bytes, after, hides_statuses: true }
}

/// A 200 without a list of statuses. The server accepts all events or none.
fn invalid_body(all_accepted: Vec<u16>, random: &mut Random) -> Response {
    let statuses = if random.is_one_in(2) { all_accepted } else { Vec::new() };
    let bodies = ["", "OK", "<html>log in</html>", "{}", "[]", "[{\"status\":202}", "\u{0}\u{1}"];
    let bytes = Reply::new(200, random.pick(&bodies)).whole();
    Response { statuses, bytes, after: AfterResponse::KeepOpen, hides_statuses: true }
}

/// A 429, usually without a usable `Retry-After`.
fn rate_limited(random: &mut Random) -> Reply {
    let date = |seconds| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
    let reply = Reply::new(429, r#"{"error":"rate limited"}"#).header("date", date(0));
    match random.below(8) {
        0 => reply.header("retry-after", 1),
        1 => reply.header("retry-after", date(2)),
        2 => reply.header("retry-after", "99999999999999999999"),
        3 => reply.header("retry-after", "-5"),
        4 => reply.header("retry-after", "soon"),
        5 => reply.header("retry-after", 0),
        _ => reply,
    }
}

/// Binds a port below the range for outgoing connections. The server closes and reopens it, so no
/// other program may get the port in between.
fn bind_reserved_port() -> io::Result<TcpListener> {
    const FIRST: u16 = 10_000;
    let given = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given = given.split_whitespace().next().and_then(|first| first.parse().ok());
    let ports = given.unwrap_or(32_768_u16).saturating_sub(FIRST).max(1);
    let start = std::process::id().wrapping_mul(7_919);
    let mut tries = (0..200).map(|n| {
        let port = u16::try_from(start.wrapping_add(n) % u32::from(ports)).expect("below");
        TcpListener::bind(("127.0.0.1", FIRST + port))
    });
    tries.find_map(Result::ok).map_or_else(|| TcpListener::bind("127.0.0.1:0"), Ok)
}

/// A request that the server has read completely.
struct HandledRequest<'a> {
    id: u64,
    /// The client's port.
    port: u16,
    keys: &'a [String],
    /// True if its events may come from a state that has just been destroyed.
    was_from_destroyed_state: bool,
    /// True if the client has closed the connection.
    has_closed: bool,
}

/// How the server handles a request.
struct Response {
    /// The statuses of the events. Empty if the server rejects the whole request.
    statuses: Vec<u16>,
    bytes: Vec<u8>,
    after: AfterResponse,
    /// True if the client cannot read the statuses from the response.
    hides_statuses: bool,
}

/// How the connection continues after the response.
#[derive(Debug, Clone, Copy)]
enum AfterResponse {
    KeepOpen,
    Stall,
    Close,
}

impl Response {
    /// 200 with these statuses.
    fn with_statuses(statuses: Vec<u16>) -> Self {
        let bytes = batch_reply(&statuses).whole();
        Self { statuses, bytes, after: AfterResponse::KeepOpen, hides_statuses: false }
    }

    fn rejection(reply: &Reply) -> Self {
        Self {
            statuses: Vec::new(),
            bytes: reply.whole(),
            after: AfterResponse::KeepOpen,
            hides_statuses: false,
        }
    }
}

/// True if the client has closed the connection. A client that waits for a response sends nothing,
/// so readable input means that it has closed.
fn has_closed(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let peeked = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    peeked.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true)
}

/// Finds secrets where they must not be. The API key belongs in one header only.
fn leaks(request: &Request) -> Vec<String> {
    let body = Value::from(request.events.clone()).to_string();
    let mut leaks = Vec::new();
    let mut search = |place: &str, text: &str, canaries: &[&str]| {
        for canary in canaries.iter().filter(|canary| text.contains(**canary)) {
            leaks.push(format!("{canary} in {place}: {text:.300}"));
        }
    };
    let all = [&CANARIES[..], &[KEY]].concat();
    search("the body", &body, &all);
    search("the path", &request.path, &all);
    for (name, value) in &request.headers {
        let is_its_own = name == "x-honeycomb-team";
        search("a header", value, if is_its_own { &CANARIES } else { &all });
    }
    leaks
}

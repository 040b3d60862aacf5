//! A fake Honeycomb behind TLS and a proxy that fails in the ways real networks and servers fail. It
//! also keeps the campaign's ledger.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fakes::honeycomb::{Reply, Request, read_body, read_head};
use fakes::tls;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use self::ledger::Ledger;
use self::mode::{Certificate, ServerMode};
use self::response::{AfterResponse, respond};
use crate::random::Random;
use crate::world::{CANARIES, key};

pub mod ledger;
pub mod mode;
mod response;

pub const KEY: &str = "hcaik_01canary7key9never4shown2anywhere";
pub const URL: &str = "https://honeycomb.test";
const POLL: Duration = Duration::from_millis(2);

/// A TLS connection through the proxy.
type TlsStream = StreamOwned<ServerConnection, TcpStream>;

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
        let began = Instant::now();
        let server = Arc::new(Self {
            began,
            port: listener.local_addr()?.port(),
            mode: Mutex::new((ServerMode::Healthy, 0)),
            ledger: Mutex::new(Ledger::new(began)),
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

    /// The URL of the proxy. Only the proxy resolves the server's host name. `machine.c` resolves the
    /// name of the proxy.
    pub fn proxy(&self) -> String {
        format!("http://proxy.test:{}", self.port)
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
        !self.ledger().in_flight.is_empty()
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
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
                self.ledger().leaks.push(leak);
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
                self.ledger().count(mode);
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
            let mut ledger = self.ledger();
            was_from_destroyed_state = ledger.was_from_destroyed_state(&keys);
            ledger.requests += 1;
            ledger.leaks.extend(leaks(&request));
            ledger.in_flight.insert(id, (port, keys.clone()));
        }
        if mode == ServerMode::Slow {
            let wait = 20 + lock(&self.random).below(400);
            self.wait_for_client(&stream.sock, epoch, Duration::from_millis(wait));
        }
        let response = respond(mode, &keys, &mut lock(&self.random), self.redirect_target);
        if mode != ServerMode::Healthy {
            self.ledger().count(mode);
        }
        let has_closed = has_closed(&stream.sock);
        let request =
            HandledRequest { id, port, keys: &keys, was_from_destroyed_state, has_closed };
        self.ledger().record(&request, &response);
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
            self.ledger().count(mode);
            return Ok(None);
        }
        let Some(request) = read_head(&mut stream)? else { return Ok(None) };
        self.ledger().leaks.extend(leaks(&request));
        let error = match mode {
            ServerMode::Unreachable => Some(Reply::new(502, "no route")),
            ServerMode::RequiringCredentials => {
                Some(Reply::new(407, "").header("proxy-authenticate", "Basic realm=\"x\""))
            }
            _ => None,
        };
        if let Some(reply) = error {
            self.ledger().count(mode);
            stream.write_all(&reply.whole())?;
            return Ok(None);
        }
        let certificate = mode.certificate();
        if certificate != Certificate::Good {
            self.ledger().count(mode);
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

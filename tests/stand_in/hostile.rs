//! A server in Honeycomb's place, behind TLS and a proxy, that does what networks and servers do on
//! bad days, and keeps the campaign's ledger: which events it took, how often, and why one may come
//! again.
//!
//! An event may come again only if what was known of its last acceptance was lost: the process
//! ended before it could note it, the answer broke on its way, the disk took no note, or the state
//! was destroyed. Each excuse holds for one acceptance of one event, and for no other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::honeycomb::{Part, Reply, Request, batch_reply, read_body, read_head};
use crate::random::Random;
use crate::tls;
use crate::world::{CANARIES, key};

pub const KEY: &str = "hcaik_01canary7key9never4shown2anywhere";
pub const URL: &str = "https://honeycomb.test";
const POLL: Duration = Duration::from_millis(2);
/// How long after a death its last request may still be read from the network.
pub const ECHO: Duration = Duration::from_secs(2);
/// How long after a state was read its events are sent at the latest.
const ON_THE_WAY: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mood {
    Fine,
    Slow,
    Refusing,
    Unreachable,
    WantingCredentials,
    OfAStranger,
    Expired,
    UnderAnotherName,
    ResettingAtOnce,
    StallingBeforeTheBody,
    Breaking,
    FewerStatuses,
    Nonsense,
    TooLarge,
    TooMany,
    Trouble,
    Mixed,
    Redirecting,
    KeyUnknown,
    BadRequest,
}

impl Mood {
    pub const BAD: [Self; 19] = [
        Self::Slow,
        Self::Refusing,
        Self::Unreachable,
        Self::WantingCredentials,
        Self::OfAStranger,
        Self::Expired,
        Self::UnderAnotherName,
        Self::ResettingAtOnce,
        Self::StallingBeforeTheBody,
        Self::Breaking,
        Self::FewerStatuses,
        Self::Nonsense,
        Self::TooLarge,
        Self::TooMany,
        Self::Trouble,
        Self::Mixed,
        Self::Redirecting,
        Self::KeyUnknown,
        Self::BadRequest,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Fine => "server: fine",
            Self::Slow => "server: slow",
            Self::Refusing => "proxy: refuses connections",
            Self::Unreachable => "proxy: does not reach the server",
            Self::WantingCredentials => "proxy: wants credentials",
            Self::OfAStranger => "server: a certificate of an unknown authority",
            Self::Expired => "server: a certificate that has expired",
            Self::UnderAnotherName => "server: a certificate for another name",
            Self::ResettingAtOnce => "proxy: resets before it reads",
            Self::StallingBeforeTheBody => "server: stalls before it reads the body",
            Self::Breaking => "server: stalls, closes or resets within its answer",
            Self::FewerStatuses => "server: 200 with fewer statuses than events",
            Self::Nonsense => "server: 200 with HTML, garbage or half a list",
            Self::TooLarge => "server: 413 for more than a few events",
            Self::TooMany => "server: 429, Retry-After absent, seconds, date, absurd",
            Self::Trouble => "server: 500 to 504, empty, HTML, two documents",
            Self::Mixed => "server: 202, 429, 500 and 400 by event",
            Self::Redirecting => "server: redirects, of every kind",
            Self::KeyUnknown => "server: 401",
            Self::BadRequest => "server: 400 for the whole request",
        }
    }

    fn certificate(self) -> Certificate {
        match self {
            Self::OfAStranger => Certificate::OfAStranger,
            Self::Expired => Certificate::Expired,
            Self::UnderAnotherName => Certificate::ForAnotherName,
            _ => Certificate::Good,
        }
    }
}

/// What the server shows to whoever connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certificate {
    Good,
    OfAStranger,
    Expired,
    ForAnotherName,
}

impl Certificate {
    const FILES: [&str; 4] = ["good.pem", "of-a-stranger.pem", "expired.pem", "wrong-name.pem"];
}

/// A connection through the proxy.
type Line = StreamOwned<ServerConnection, TcpStream>;

/// Why an event may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Excuse {
    ProcessEnded,
    ProcessStopped,
    AnswerBroke,
    ClientGaveUp,
    StateDestroyed,
    DiskFull,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessEnded => "the process ended before it noted the answer",
            Self::ProcessStopped => "the process was stopped until its time was up",
            Self::AnswerBroke => "the answer broke on its way",
            Self::ClientGaveUp => "the client's time was up before the answer came",
            Self::StateDestroyed => "the state was damaged or removed",
            Self::DiskFull => "the state could not be written when the answer came",
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    at: Instant,
    /// Of the client.
    port: u16,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Each time that an event was taken.
    taken: HashMap<String, Vec<Taken>>,
    /// The event, and which of its acceptances.
    excused: HashMap<(String, u32), Excuse>,
    /// Refused for good by a status of its own, or by 400 for it alone.
    refused: HashSet<String>,
    /// By request: the client's port, and what was read and not yet batch_reply.
    in_flight: HashMap<u64, (u16, Vec<String>)>,
    last_death: Option<Instant>,
    /// When the machine went on after it had stood still.
    paused_at: Option<Instant>,
    /// The ports of processes that were held: what was sent and is not yet read may never be noted,
    /// if it is taken before this.
    held: HashMap<u16, (Instant, Excuse)>,
    /// What waited in a state that was destroyed then: read before, it may still be sent.
    destroyed: Option<(Instant, HashSet<String>)>,
    leaks: Vec<String>,
    injected: BTreeMap<&'static str, u64>,
    requests: u64,
}

impl Ledger {
    fn times(&self, key: &str) -> u32 {
        self.taken.get(key).map_or(0, |times| u32::try_from(times.len()).expect("a few"))
    }

    /// Whether it was read from a state that was destroyed a moment ago.
    fn was_on_its_way(&self, keys: &[String]) -> bool {
        self.destroyed.as_ref().is_some_and(|(at, waiting)| {
            at.elapsed() < ON_THE_WAY && keys.iter().any(|key| waiting.contains(key))
        })
    }

    fn excuse(&mut self, key: &str, times: u32, excuse: Excuse) {
        self.excused.entry((key.to_owned(), times)).or_insert(excuse);
    }

    fn take(&mut self, key: &str, port: u16) {
        let taken = Taken { at: Instant::now(), port };
        self.taken.entry(key.to_owned()).or_default().push(taken);
    }

    /// What came from these ports, or whatever came, and is not yet noted as taken, on disk or in
    /// flight, may come again.
    fn excuse_unnoted(
        &mut self,
        on_disk: &HashSet<String>,
        excuse: Excuse,
        ports: Option<&HashSet<u16>>,
    ) {
        let is_meant = |port: &u16| ports.is_none_or(|ports| ports.contains(port));
        for key in on_disk {
            let last = self.taken.get(key).and_then(|times| times.last());
            if last.is_some_and(|taken| is_meant(&taken.port)) {
                self.excuse(key, self.times(key), excuse);
            }
        }
        let in_flight = self.in_flight.values().filter(|(port, _)| is_meant(port));
        for key in in_flight.flat_map(|(_, keys)| keys).cloned().collect::<Vec<_>>() {
            self.excuse(&key, self.times(&key) + 1, excuse);
        }
    }
}

/// What became of an event that came more than once.
#[derive(Debug, Default)]
pub struct Repeats {
    pub explained: BTreeMap<Excuse, usize>,
    pub unexplained: Vec<String>,
}

pub struct Hostile {
    pub began: Instant,
    port: u16,
    mood: Mutex<(Mood, u64)>,
    ledger: Mutex<Ledger>,
    random: Mutex<Random>,
    next: AtomicU64,
    elsewhere: u16,
    strangers: AtomicUsize,
    /// By [`Certificate`].
    tls: [Arc<ServerConfig>; 4],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hostile {
    pub fn start(seed: u64) -> io::Result<Arc<Self>> {
        let listener = on_a_port_of_its_own()?;
        let elsewhere = TcpListener::bind("127.0.0.1:0")?;
        let server = Arc::new(Self {
            began: Instant::now(),
            port: listener.local_addr()?.port(),
            mood: Mutex::new((Mood::Fine, 0)),
            ledger: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            next: AtomicU64::new(0),
            elsewhere: elsewhere.local_addr()?.port(),
            strangers: AtomicUsize::new(0),
            tls: Certificate::FILES.map(tls::showing),
        });
        let host = Arc::clone(&server);
        thread::spawn(move || host.listen(Some(listener)));
        let host = Arc::clone(&server);
        thread::spawn(move || {
            for _ in elsewhere.incoming() {
                host.strangers.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(server)
    }

    /// The way to the server, which only it knows.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new mood ends what the old one held up.
    pub fn set(&self, mood: Mood) {
        let mut current = lock(&self.mood);
        *current = (mood, current.1 + 1);
    }

    fn mood(&self) -> (Mood, u64) {
        *lock(&self.mood)
    }

    /// How many were led astray by a redirect.
    pub fn strangers(&self) -> usize {
        self.strangers.load(Ordering::SeqCst)
    }

    pub fn is_busy(&self) -> bool {
        !lock(&self.ledger).in_flight.is_empty()
    }

    pub fn requests(&self) -> u64 {
        lock(&self.ledger).requests
    }

    /// A process has ended; this is what its state holds.
    pub fn note_death(&self, on_disk: &HashSet<String>) {
        let mut ledger = lock(&self.ledger);
        ledger.last_death = Some(Instant::now());
        ledger.excuse_unnoted(on_disk, Excuse::ProcessEnded, None);
    }

    /// A process is held for so long, perhaps for longer than it waits for an answer, or is about to
    /// be killed; this is what its state holds, and the ports from which it sends.
    pub fn note_held(
        &self,
        on_disk: &HashSet<String>,
        ports: HashSet<u16>,
        limit: Duration,
        excuse: Excuse,
    ) {
        let mut ledger = lock(&self.ledger);
        ledger.excuse_unnoted(on_disk, excuse, Some(&ports));
        let until = Instant::now() + limit;
        ledger.held.extend(ports.into_iter().map(|port| (port, (until, excuse))));
    }

    /// The whole machine stood still until now.
    pub fn note_pause(&self, on_disk: &HashSet<String>) {
        let mut ledger = lock(&self.ledger);
        ledger.paused_at = Some(Instant::now());
        ledger.excuse_unnoted(on_disk, Excuse::ProcessStopped, None);
    }

    /// Destroys the state in which these wait while Tilt shows those. Nothing is taken meanwhile: who
    /// finds the state gone may send all of it before its folder has been removed.
    pub fn note_destroyed(
        &self,
        waiting: HashSet<String>,
        displayed: &HashSet<String>,
        destroy: impl FnOnce(),
    ) {
        let mut ledger = lock(&self.ledger);
        destroy();
        ledger.excuse_unnoted(displayed, Excuse::StateDestroyed, None);
        ledger.excuse_unnoted(&waiting, Excuse::StateDestroyed, None);
        ledger.destroyed = Some((Instant::now(), waiting));
    }

    /// Since then the disk took no notes; what was taken by `until` could not be noted.
    pub fn note_full(&self, on_disk: &HashSet<String>, until: Instant) {
        let mut ledger = lock(&self.ledger);
        for key in on_disk {
            let last = ledger.taken.get(key).and_then(|times| times.last());
            if last.is_some_and(|taken| taken.at <= until) {
                let times = ledger.times(key);
                ledger.excuse(key, times, Excuse::DiskFull);
            }
        }
    }

    pub fn has_answered_for(&self, key: &str) -> bool {
        let ledger = lock(&self.ledger);
        ledger.taken.contains_key(key) || ledger.refused.contains(key)
    }

    pub fn was_refused(&self, key: &str) -> bool {
        let ledger = lock(&self.ledger);
        !ledger.taken.contains_key(key) && ledger.refused.contains(key)
    }

    pub fn leaks(&self) -> Vec<String> {
        lock(&self.ledger).leaks.clone()
    }

    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.ledger).injected.clone()
    }

    /// How often a fault was met that no request tells of.
    pub fn count(&self, mood: Mood) {
        *lock(&self.ledger).injected.entry(mood.name()).or_default() += 1;
    }

    pub fn repeats(&self) -> Repeats {
        let ledger = lock(&self.ledger);
        let mut repeats = Repeats::default();
        for (key, times) in &ledger.taken {
            for (number, two) in (1..).zip(times.windows(2)) {
                if let Some(excuse) = ledger.excused.get(&(key.clone(), number)) {
                    *repeats.explained.entry(*excuse).or_default() += 1;
                } else {
                    let [first, second] = [0, 1].map(|which| {
                        let Taken { at, port } = two[which];
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
            if self.mood().0 == Mood::Refusing {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(("127.0.0.1", self.port)).ok();
            }
            let Some(open) = &listener else {
                thread::sleep(POLL);
                continue;
            };
            open.set_nonblocking(true).expect("a listener of ours");
            match open.accept() {
                Ok((stream, _)) => {
                    let host = Arc::clone(&self);
                    thread::spawn(move || drop(host.serve(stream)));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// Serves one connection until it ends or breaks.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let port = stream.peer_addr()?.port();
        let Some((mut line, certificate)) = self.connect(stream)? else { return Ok(()) };
        while let Some(mut request) = read_head(&mut line)? {
            let (mood, epoch) = self.mood();
            if certificate != Certificate::Good {
                let leak = format!("a request to a server with a certificate {certificate:?}");
                lock(&self.ledger).leaks.push(leak);
                return Ok(());
            }
            match mood {
                // A connection from before; it breaks like the others.
                Mood::Refusing
                | Mood::Unreachable
                | Mood::WantingCredentials
                | Mood::ResettingAtOnce => return Ok(()),
                _ if mood.certificate() != Certificate::Good => return Ok(()),
                Mood::StallingBeforeTheBody => {
                    self.count(mood);
                    // What is not read hides whether the client has gone.
                    while self.mood().1 == epoch {
                        thread::sleep(POLL);
                    }
                    return Ok(());
                }
                _ => {}
            }
            read_body(&mut line, &mut request)?;
            let id = self.next.fetch_add(1, Ordering::SeqCst);
            let keys: Vec<_> = request.events.iter().map(key).collect();
            let was_on_its_way;
            {
                let mut ledger = lock(&self.ledger);
                was_on_its_way = ledger.was_on_its_way(&keys);
                ledger.requests += 1;
                ledger.leaks.extend(leaks(&request));
                ledger.in_flight.insert(id, (port, keys.clone()));
            }
            if mood == Mood::Slow {
                let wait = 20 + lock(&self.random).below(400);
                self.hold_for(&line.sock, epoch, Duration::from_millis(wait));
            }
            let reaction = self.react(mood, &keys);
            if mood != Mood::Fine {
                self.count(mood);
            }
            let is_gone = is_gone(&line.sock);
            let request = Judged { id, port, keys: &keys, was_on_its_way, is_gone };
            self.note(&request, &reaction);
            line.write_all(&reaction.bytes)?;
            line.flush()?;
            match reaction.then {
                Then::GoOn => {}
                Then::Stall => {
                    self.hold(&line.sock, epoch);
                    return line.sock.shutdown(Shutdown::Both);
                }
                Then::Close => return line.sock.shutdown(Shutdown::Both),
            }
        }
        Ok(())
    }

    /// As a proxy: connects whoever asks to the server, which shows a certificate.
    fn connect(&self, mut stream: TcpStream) -> io::Result<Option<(Line, Certificate)>> {
        // What is closed before it was read is reset.
        stream.peek(&mut [0])?;
        let (mood, _) = self.mood();
        if mood == Mood::ResettingAtOnce {
            self.count(mood);
            return Ok(None);
        }
        let Some(asked) = read_head(&mut stream)? else { return Ok(None) };
        lock(&self.ledger).leaks.extend(leaks(&asked));
        let refusal = match mood {
            Mood::Unreachable => Some(Reply::new(502, "no route")),
            Mood::WantingCredentials => {
                Some(Reply::new(407, "").header("proxy-authenticate", "Basic realm=\"x\""))
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.count(mood);
            stream.write_all(&refusal.whole())?;
            return Ok(None);
        }
        let certificate = mood.certificate();
        if certificate != Certificate::Good {
            self.count(mood);
        }
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let config = Arc::clone(&self.tls[certificate as usize]);
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Some((StreamOwned::new(connection, stream), certificate)))
    }

    /// Until the mood changes or the client gives up.
    fn hold(&self, stream: &TcpStream, epoch: u64) {
        self.hold_for(stream, epoch, Duration::from_mins(10));
    }

    fn hold_for(&self, stream: &TcpStream, epoch: u64, limit: Duration) {
        let until = Instant::now() + limit;
        while self.mood().1 == epoch && Instant::now() < until && !is_gone(stream) {
            thread::sleep(POLL);
        }
    }

    fn note(&self, request: &Judged, reaction: &Reaction) {
        let &Judged { id, port, keys, was_on_its_way, is_gone } = request;
        let mut ledger = lock(&self.ledger);
        let held = ledger.held.get(&port).filter(|(until, _)| Instant::now() < *until).copied();
        ledger.in_flight.remove(&id);
        let was_paused = ledger.paused_at.is_some_and(|at| at.elapsed() < ECHO);
        let died = ledger.last_death.is_some_and(|at| at.elapsed() < ECHO);
        for (key, status) in keys.iter().zip(&reaction.statuses) {
            match status {
                202 => {
                    ledger.take(key, port);
                    let times = ledger.times(key);
                    if was_on_its_way {
                        ledger.excuse(key, times, Excuse::StateDestroyed);
                    }
                    if reaction.is_broken {
                        ledger.excuse(key, times, Excuse::AnswerBroke);
                    } else if was_paused {
                        ledger.excuse(key, times, Excuse::ProcessStopped);
                    } else if let Some((_, excuse)) = held {
                        ledger.excuse(key, times, excuse);
                    } else if is_gone {
                        let excuse = if died { Excuse::ProcessEnded } else { Excuse::ClientGaveUp };
                        ledger.excuse(key, times, excuse);
                    }
                }
                400 => drop(ledger.refused.insert(key.clone())),
                _ => {}
            }
        }
    }

    fn react(&self, mood: Mood, keys: &[String]) -> Reaction {
        let mut random = lock(&self.random);
        let all = vec![202; keys.len()];
        let reply = |status: u16, body: &str| Reply::new(status, body);
        match mood {
            Mood::Breaking => {
                let took = if random.is_one_in(2) { all.clone() } else { Vec::new() };
                let parts = [Part::Nothing, Part::StatusLine, Part::Headers, Part::HalfTheBody];
                let bytes = batch_reply(&all).bytes(random.pick(&parts));
                let then = random.pick(&[Then::Stall, Then::Close]);
                Reaction { statuses: took, bytes, then, is_broken: true }
            }
            Mood::FewerStatuses => {
                let statuses = vec![202; random.index(keys.len().max(1))];
                let bytes = batch_reply(&statuses).whole();
                Reaction { statuses, bytes, then: Then::GoOn, is_broken: false }
            }
            Mood::Nonsense => {
                let took = if random.is_one_in(2) { all } else { Vec::new() };
                let bodies = [
                    "",
                    "OK",
                    "<html>log in</html>",
                    "{}",
                    "[]",
                    "[{\"status\":202}",
                    "\u{0}\u{1}",
                ];
                let bytes = reply(200, random.pick(&bodies)).whole();
                Reaction { statuses: took, bytes, then: Then::GoOn, is_broken: true }
            }
            Mood::TooLarge => {
                let most = 1 + random.index(4);
                if keys.len() <= most {
                    return Reaction::of(all);
                }
                Reaction::refusal(&reply(413, ""))
            }
            Mood::TooMany => {
                let date = |seconds| {
                    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
                };
                let reply = reply(429, r#"{"error":"rate limited"}"#).header("date", date(0));
                Reaction::refusal(&match random.below(8) {
                    0 => reply.header("retry-after", 1),
                    1 => reply.header("retry-after", date(2)),
                    2 => reply.header("retry-after", "99999999999999999999"),
                    3 => reply.header("retry-after", "-5"),
                    4 => reply.header("retry-after", "soon"),
                    5 => reply.header("retry-after", 0),
                    _ => reply,
                })
            }
            Mood::Trouble => {
                let status = 500 + u16::try_from(random.below(5)).expect("small");
                let two = r#"{"source":"refinery","error":"first"}{"error":"second"}"#;
                Reaction::refusal(&reply(status, random.pick(&["", "<html>", two, "busy"])))
            }
            Mood::Mixed => {
                let one = |_| random.pick(&[202, 202, 202, 202, 429, 500, 400]);
                Reaction::of(keys.iter().map(one).collect())
            }
            Mood::Redirecting => {
                let status = random.pick(&[301, 302, 303, 307, 308]);
                let to = format!("http://127.0.0.1:{}/login?next={KEY}", self.elsewhere);
                Reaction::refusal(&reply(status, "moved").header("location", to))
            }
            Mood::KeyUnknown => Reaction::refusal(&reply(401, "{\"error\":\"unknown API key\"}")),
            Mood::BadRequest => {
                let mut reaction = Reaction::refusal(&reply(400, "{\"error\":\"malformed\"}"));
                if keys.len() == 1 {
                    reaction.statuses = vec![400];
                }
                reaction
            }
            _ => Reaction::of(all),
        }
    }
}

/// On a port that the system gives to nobody: this one is left at times, and has to be free again.
fn on_a_port_of_its_own() -> io::Result<TcpListener> {
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

/// A request on which the server has decided.
struct Judged<'a> {
    id: u64,
    /// The client's.
    port: u16,
    keys: &'a [String],
    was_on_its_way: bool,
    /// The client has closed the connection.
    is_gone: bool,
}

/// What the server does with a request.
struct Reaction {
    /// What becomes of the events; none where the request as a whole was not taken.
    statuses: Vec<u16>,
    bytes: Vec<u8>,
    then: Then,
    /// What the client reads does not say what became of the events.
    is_broken: bool,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    GoOn,
    Stall,
    Close,
}

impl Reaction {
    fn of(statuses: Vec<u16>) -> Self {
        let bytes = batch_reply(&statuses).whole();
        Self { statuses, bytes, then: Then::GoOn, is_broken: false }
    }

    fn refusal(reply: &Reply) -> Self {
        Self { statuses: Vec::new(), bytes: reply.whole(), then: Then::GoOn, is_broken: false }
    }
}

/// Whether the client, which waits for an answer, has closed the connection: all that it could have to
/// say is that it does.
fn is_gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let peeked = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    peeked.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true)
}

/// The key is in its one header; no canary is anywhere.
fn leaks(request: &Request) -> Vec<String> {
    let body = Value::from(request.events.clone()).to_string();
    let mut leaks = Vec::new();
    let mut search = |place: &str, text: &str, canaries: &[&str]| {
        for canary in canaries.iter().filter(|canary| text.contains(**canary)) {
            leaks.push(format!("{canary} in {place}: {text:.300}"));
        }
    };
    let all = [&CANARIES[..], &[KEY]].concat();
    search("a body", &body, &all);
    search("a path", &request.path, &all);
    for (name, value) in &request.headers {
        let is_its_own = name == "x-honeycomb-team";
        search("a header", value, if is_its_own { &CANARIES } else { &all });
    }
    leaks
}

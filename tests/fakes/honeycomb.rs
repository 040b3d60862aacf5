//! A stand-in for Honeycomb's API: a small blocking HTTP server on loopback that records every
//! request and answers by a script. Without a script it accepts every event.
//!
//! As a proxy it answers CONNECT itself, and is then the host that was asked for.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// However busy the machine is, a client that asks at all has asked by then.
const REQUEST_PATIENCE: Duration = Duration::from_mins(2);

/// How a request is answered.
#[derive(Clone)]
pub enum Answer {
    /// 200, and 202 for each event.
    Accept,
    /// 200, and these statuses for the first events.
    Statuses(Vec<u16>),
    Reply(Reply),
    /// An acceptance that does not arrive whole.
    Broken {
        after: Part,
        then: Mishap,
    },
    /// As the request has it.
    By(Arc<dyn Fn(&Request) -> Answer + Send + Sync>),
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How much of an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    Nothing,
    StatusLine,
    Headers,
    HalfTheBody,
}

/// What ends an answer early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mishap {
    /// Nothing more comes until the client gives up.
    Stall,
    Close,
    /// The connection is reset, and the request's body never read.
    Reset,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body's events, unpacked; empty where it is no batch.
    pub events: Vec<Value>,
    pub came: Instant,
    /// The status given to each event, once the answer has gone out.
    pub statuses: Vec<u16>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn bytes(&self, part: Part) -> Vec<u8> {
        let mut bytes = Vec::new();
        if part == Part::Nothing {
            return bytes;
        }
        bytes.extend(format!("HTTP/1.1 {} Scripted\r\n", self.status).into_bytes());
        if part == Part::StatusLine {
            return bytes;
        }
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).into_bytes());
        if part == Part::HalfTheBody {
            bytes.extend(&self.body[..self.body.len() / 2]);
        }
        bytes
    }

    pub fn whole(&self) -> Vec<u8> {
        let mut bytes = self.bytes(Part::Headers);
        bytes.extend(&self.body);
        bytes
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

struct Seen {
    connections: usize,
    requests: Vec<Request>,
    script: VecDeque<Answer>,
    /// Once the script is used up.
    usual: Answer,
}

impl Server {
    /// Starts on a port of the system's choice.
    pub fn start() -> Self {
        Self::start_on(0).expect("a free port on loopback")
    }

    pub fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let seen = Seen {
            connections: 0,
            requests: Vec::new(),
            script: VecDeque::new(),
            usual: Answer::Accept,
        };
        let shared = Arc::new(Shared { seen: Mutex::new(seen), changed: Condvar::new() });
        let server = Self { address, shared: Arc::clone(&shared) };
        // Ends with the process; whoever asks a server that was dropped gets an answer still.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.seen().connections += 1;
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next requests so, one each.
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) -> &Self {
        self.shared.seen().script.extend(answers);
        self
    }

    /// Answers so whenever no script is left.
    pub fn usually(&self, answer: impl Into<Answer>) -> &Self {
        self.shared.seen().usual = answer.into();
        self
    }

    pub fn connections(&self) -> usize {
        self.shared.seen().connections
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen().requests.clone()
    }

    /// Waits for request number `index`, from 0.
    #[track_caller]
    pub fn request(&self, index: usize) -> Request {
        self.request_within(REQUEST_PATIENCE, index).expect("a request that comes in time")
    }

    pub fn request_within(&self, patience: Duration, index: usize) -> Option<Request> {
        let seen = self.shared.seen();
        let is_missing = |seen: &mut Seen| seen.requests.len() <= index;
        let waited = self.shared.changed.wait_timeout_while(seen, patience, is_missing);
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        seen.requests.get(index).cloned()
    }

    /// The events that a client has been told are accepted, in order.
    pub fn accepted(&self) -> Vec<Value> {
        let requests = self.requests();
        let events = requests.iter().flat_map(|request| {
            let answered = request.events.iter().zip(&request.statuses);
            answered.filter(|(_, status)| **status == 202).map(|(event, _)| event.clone())
        });
        events.collect()
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A record is right whatever a thread that held it did.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_answer(&self) -> Answer {
        let mut seen = self.seen();
        seen.script.pop_front().unwrap_or_else(|| seen.usual.clone())
    }

    /// Records a request; its place.
    fn record(&self, request: Request) -> usize {
        let mut seen = self.seen();
        seen.requests.push(request);
        self.changed.notify_all();
        seen.requests.len() - 1
    }
}

/// Serves one connection for as long as both sides keep it.
fn serve(shared: &Shared, mut stream: TcpStream) {
    while let Ok(Some(mut request)) = read_head(&mut stream) {
        if request.method == "CONNECT" {
            shared.record(request);
            if stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").is_err() {
                return;
            }
            continue;
        }
        let mut answer = shared.next_answer();
        if let Answer::Broken { then: Mishap::Reset, .. } = answer {
            // Closing what was not read to the end is what resets a connection.
            let _ = stream.peek(&mut [0]);
            shared.record(request);
            return;
        }
        if read_body(&mut stream, &mut request).is_err() {
            return;
        }
        let place = shared.record(request.clone());
        while let Answer::By(rule) = answer {
            answer = rule(&request);
        }
        if give(&mut stream, shared, place, &request, answer).is_err() {
            return;
        }
    }
}

/// Answers a request; an error ends the connection.
fn give(
    stream: &mut TcpStream,
    shared: &Shared,
    place: usize,
    request: &Request,
    answer: Answer,
) -> io::Result<()> {
    match answer {
        Answer::Reply(reply) => stream.write_all(&reply.whole()),
        Answer::Broken { after, then } => {
            stream.write_all(&judged(&vec![202; request.events.len()]).bytes(after))?;
            if then == Mishap::Stall {
                // Ends when the client does.
                let _ = stream.read(&mut [0]);
            }
            stream.shutdown(Shutdown::Both)?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        answer => {
            let statuses = match answer {
                Answer::Statuses(statuses) => statuses,
                _ => vec![202; request.events.len()],
            };
            // Before the last byte goes out, so that no one who has it finds less here.
            shared.seen().requests[place].statuses.clone_from(&statuses);
            stream.write_all(&judged(&statuses).whole())
        }
    }
}

/// As Honeycomb answers a batch.
pub fn judged(statuses: &[u16]) -> Reply {
    let fates = statuses.iter().map(|status| match status {
        202 => json!({"status": 202}),
        status => json!({"status": status, "error": format!("scripted {status}")}),
    });
    Reply::new(200, fates.collect::<Value>().to_string()).header("content-type", "application/json")
}

/// `None` when the client has closed.
pub fn read_head(stream: &mut impl Read) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Ok(Some(Request {
        method: first.next().unwrap_or_default(),
        path: first.next().unwrap_or_default(),
        headers: headers.collect(),
        body: Vec::new(),
        events: Vec::new(),
        came: now(),
        statuses: Vec::new(),
    }))
}

pub fn read_body(stream: &mut impl Read, request: &mut Request) -> io::Result<()> {
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut request.body)?;
    let mut json = Vec::new();
    if request.header("content-encoding") == Some("gzip") {
        flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut json)?;
    } else {
        json.clone_from(&request.body);
    }
    request.events = serde_json::from_slice(&json).unwrap_or_default();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a request comes at a time")]
fn now() -> Instant {
    Instant::now()
}

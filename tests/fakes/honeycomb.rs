//! A fake Honeycomb API: a small blocking HTTP server on loopback. It records every request and
//! sends scripted answers. Without a script it accepts every event.
//!
//! It also works as an HTTP proxy: it accepts CONNECT and then plays the requested host itself.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Generous, so that a test on a busy machine does not fail for lack of time.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// How the server answers a request.
#[derive(Clone)]
pub enum Answer {
    /// 200 for the request and 202 for each event.
    Accept,
    /// 200 for the request and these statuses for its first events.
    Statuses(Vec<u16>),
    Reply(Reply),
    /// Accepts every event, but sends only part of the answer.
    Broken {
        after: Part,
        then: Mishap,
    },
    /// Computes the answer from the request.
    By(Arc<dyn Fn(&Request) -> Answer + Send + Sync>),
}

#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// How much of an answer the server sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    Nothing,
    StatusLine,
    Headers,
    HalfTheBody,
}

/// How the server ends an incomplete answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mishap {
    /// Sends nothing more and waits until the client gives up.
    Stall,
    Close,
    /// Resets the connection without reading the request's body.
    Reset,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The events of the decompressed body. Empty if the body is not a batch.
    pub events: Vec<Value>,
    /// When the server had read the request's head.
    pub came: Instant,
    /// The status of each event. Empty until the server has answered.
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

    /// The bytes of the HTTP response up to and including `part`.
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

    /// The bytes of the complete HTTP response.
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
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    connections: usize,
    requests: Vec<Request>,
    script: VecDeque<Answer>,
    /// Used when the script is empty.
    default_answer: Answer,
}

impl Server {
    /// Starts on a free port.
    pub fn start() -> Self {
        Self::start_on(0).expect("a free port on loopback")
    }

    pub fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let address = listener.local_addr()?;
        let state = State {
            connections: 0,
            requests: Vec::new(),
            script: VecDeque::new(),
            default_answer: Answer::Accept,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Self { address, shared: Arc::clone(&shared) };
        // The thread runs until the process ends, so a dropped server still answers.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.state().connections += 1;
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&shared, stream));
            }
        });
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Queues answers for the next requests, one for each.
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) -> &Self {
        self.shared.state().script.extend(answers);
        self
    }

    /// Sets the answer for requests that arrive while no scripted answer is queued.
    pub fn usually(&self, answer: impl Into<Answer>) -> &Self {
        self.shared.state().default_answer = answer.into();
        self
    }

    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.state().requests.clear();
    }

    /// Waits for request number `index`, counted from 0, and panics after two minutes.
    #[track_caller]
    pub fn request(&self, index: usize) -> Request {
        self.request_within(REQUEST_TIMEOUT, index).expect("a request within two minutes")
    }

    /// Waits up to `timeout` for request number `index`, counted from 0.
    pub fn request_within(&self, timeout: Duration, index: usize) -> Option<Request> {
        let state = self.shared.state();
        let is_missing = |state: &mut State| state.requests.len() <= index;
        let waited = self.shared.changed.wait_timeout_while(state, timeout, is_missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.requests.get(index).cloned()
    }

    /// The events that the server has accepted with 202, in order.
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
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single push or assignment, so a panicked holder leaves valid data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_answer(&self) -> Answer {
        let mut state = self.state();
        state.script.pop_front().unwrap_or_else(|| state.default_answer.clone())
    }

    /// Records a request and returns its index.
    fn record(&self, request: Request) -> usize {
        let mut state = self.state();
        state.requests.push(request);
        self.changed.notify_all();
        state.requests.len() - 1
    }
}

/// Serves one connection until either side closes it.
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
            // Closing a socket with unread data resets the connection.
            let _ = stream.peek(&mut [0]);
            shared.record(request);
            return;
        }
        if read_body(&mut stream, &mut request).is_err() {
            return;
        }
        let index = shared.record(request.clone());
        while let Answer::By(rule) = answer {
            answer = rule(&request);
        }
        if send_answer(&mut stream, shared, index, &request, answer).is_err() {
            return;
        }
    }
}

/// Answers a request. An error means that the connection must end.
fn send_answer(
    stream: &mut TcpStream,
    shared: &Shared,
    index: usize,
    request: &Request,
    answer: Answer,
) -> io::Result<()> {
    match answer {
        Answer::Reply(reply) => stream.write_all(&reply.whole()),
        Answer::Broken { after, then } => {
            stream.write_all(&batch_reply(&vec![202; request.events.len()]).bytes(after))?;
            if then == Mishap::Stall {
                // Returns when the client closes the connection.
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
            // Recorded first: a test that has received the answer must also find the statuses.
            shared.state().requests[index].statuses.clone_from(&statuses);
            stream.write_all(&batch_reply(&statuses).whole())
        }
    }
}

/// Honeycomb's reply to a batch with these event statuses.
pub fn batch_reply(statuses: &[u16]) -> Reply {
    let statuses = statuses.iter().map(|status| match status {
        202 => json!({"status": 202}),
        status => json!({"status": status, "error": format!("scripted {status}")}),
    });
    Reply::new(200, statuses.collect::<Value>().to_string())
        .header("content-type", "application/json")
}

/// Reads a request line and headers. `None` if the client has closed the connection.
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

/// Reads the body and decodes its events.
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

#[expect(clippy::disallowed_methods, reason = "records when a request arrives")]
fn now() -> Instant {
    Instant::now()
}

//! The only file that speaks HTTP: one POST, or one GET, and whatever was answered.
//!
//! The key goes into one header of one request to one host: redirects are not followed, TLS is
//! verified against the system's roots, and no error that leaves here can hold it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use ureq::tls::{RootCerts, TlsConfig};

use crate::answer::Answer;
use crate::config::Destination;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A status per event is about 16 bytes, so 500 of them are 8 KB; an error page may be longer.
const ANSWER_LIMIT: u64 = 256 * 1024;

#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    auth_url: String,
    host: String,
    key: crate::config::ApiKey,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

/// No answer came: one line that names the host and the cause.
#[derive(Debug, PartialEq)]
pub struct NoAnswer(pub String);

impl Client {
    pub fn new(destination: &Destination) -> Self {
        let endpoint = &destination.endpoint;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::PlatformVerifier);
        let mut config = Agent::config_builder()
            .user_agent(user_agent())
            .http_status_as_error(false)
            // ureq would carry the key's header along to the new host.
            .max_redirects(0)
            .https_only(endpoint.is_https)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(tls.build());
        if endpoint.is_loopback {
            // A proxy has another idea of what this machine is.
            config = config.proxy(None);
        }
        Self {
            agent: config.build().new_agent(),
            url: destination.batch_url(),
            auth_url: format!("{}/1/auth", endpoint.url),
            host: endpoint.authority.clone(),
            key: destination.key.clone(),
        }
    }

    /// Sends one batch, a gzipped JSON array; `limit` bounds everything from the name's look-up
    /// to the answer's last byte.
    pub fn post(&self, body: &[u8], limit: Duration) -> Result<Answer, NoAnswer> {
        let request = self
            .agent
            .post(&self.url)
            .config()
            .timeout_global(Some(limit))
            .build()
            .header("X-Honeycomb-Team", self.key.expose())
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip");
        let mut response = request.send(body).map_err(|error| self.no_answer(&error))?;
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (retry_after, location) = (header(RETRY_AFTER), header(LOCATION));
        let location = location.map(|text| self.without_key(text));
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec();
        let body = match body {
            Ok(body) => body,
            // An error's status says enough without its text; a 200 without its list says nothing.
            Err(_) if !(200..300).contains(&status) => Vec::new(),
            Err(error) => return Err(self.no_answer(&error)),
        };
        let body = self.without_key(String::from_utf8_lossy(&body).into_owned()).into_bytes();
        Ok(Answer { status, retry_after, location, body })
    }

    /// Whose key it is: the answer to `GET /1/auth`. Nothing depends on it, so no failure is told.
    pub fn auth(&self, limit: Duration) -> Option<Vec<u8>> {
        let request = self.agent.get(&self.auth_url).config().timeout_global(Some(limit)).build();
        let mut response = request.header("X-Honeycomb-Team", self.key.expose()).call().ok()?;
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_vec().ok()?;
        (response.status().as_u16() == 200).then_some(body)
    }

    /// A server may quote the key in its answer, of which a part is shown to the person.
    fn without_key(&self, text: String) -> String {
        let key = self.key.expose();
        // What is too short to be a key could be any part of an answer.
        if key.len() < 8 || !text.contains(key) { text } else { text.replace(key, "<key>") }
    }

    /// Ends a request under way, from another thread, and all later ones.
    pub fn interrupter(&self) -> impl FnOnce() + Send + 'static {
        let agent = self.agent.clone();
        move || agent.shutdown()
    }

    fn no_answer(&self, error: &ureq::Error) -> NoAnswer {
        let cause = match error {
            ureq::Error::Timeout(step) => format!("timed out ({step})"),
            ureq::Error::HostNotFound => "no such host".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::ConnectProxyFailed(why) => format!("the proxy did not connect: {why}"),
            error => error.to_string(),
        };
        let hint = if cause.contains("No CA certificates") {
            "; install ca-certificates or set SSL_CERT_FILE"
        } else {
            ""
        };
        NoAnswer(format!("no answer from {}: {cause}{hint}", self.host))
    }
}

fn user_agent() -> String {
    format!(
        "tilt-honeycomb/{} ({} {})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

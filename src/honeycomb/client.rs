//! The HTTP client, and the only file that uses HTTP: batches of events, and other calls of the API.
//! It returns each response without judging it.
//!
//! The key goes into one header of each request to one host. Redirects are not followed, TLS is
//! verified against the system's roots, and the key is redacted in everything that this file returns.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::config::Config;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use ureq::http::{self, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, ProxyProtocol, RequestBuilder, Timeout};

use crate::base::text::one_line;
use crate::honeycomb::api_key::ApiKey;
use crate::honeycomb::endpoint::{Destination, Endpoint, default_port};
use crate::honeycomb::lookup::{LookupError, Lookups};
use crate::honeycomb::proxy::{Proxy, ProxyScheme};
use crate::honeycomb::response::Response;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a response to a batch. A status takes about 16 bytes, but its reason may have
/// kilobytes. A list that is cut off cannot be parsed, and its events would be sent again forever.
const RESPONSE_LIMIT: u64 = 4 * 1024 * 1024;
/// The most bytes of a list: 2,000 columns, or all boards of a team with their panels.
const LIST_LIMIT: u64 = 32 * 1024 * 1024;

/// The most characters of the address in a redirect, which only appears in messages.
const LOCATION_LIMIT: usize = 200;
/// The most characters of the reason why there was no response. It may quote a certificate.
const CAUSE_LIMIT: usize = 300;

/// Sends batches to one dataset.
#[derive(Debug, Clone)]
pub struct Client {
    api: Api,
    batch_url: String,
}

/// Honeycomb's API, or a server that behaves like it.
#[derive(Clone)]
pub struct Api {
    agent: Agent,
    lookups: Lookups,
    url: String,
    /// The host and port, for messages.
    authority: String,
    proxy: Option<Proxy>,
    key: Option<ApiKey>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("url", &self.url).finish_non_exhaustive()
    }
}

/// There was no response: one line that names the host and the cause.
#[derive(Debug, PartialEq)]
pub struct NoResponse(pub String);

impl Client {
    pub fn new(destination: &Destination) -> Self {
        Self {
            api: Api::new(&destination.endpoint, Some(destination.key.clone())),
            batch_url: destination.batch_url(),
        }
    }

    /// The API that the batches go to, for other requests.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Sends one batch, a gzipped JSON array. `limit` bounds everything from the DNS lookup to the
    /// last byte of the response.
    pub fn post(&self, body: &[u8], limit: Duration) -> Result<Response, NoResponse> {
        let request = self
            .api
            .prepare(self.api.agent.post(&self.batch_url), limit)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip");
        self.api.read(request.send(body), RESPONSE_LIMIT)
    }
}

impl Api {
    /// The API at this endpoint. Without a key, requests have no key header.
    pub fn new(endpoint: &Endpoint, key: Option<ApiKey>) -> Self {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::PlatformVerifier);
        let lookups = Lookups::default();
        let config = Agent::config_builder()
            .user_agent(user_agent())
            .http_status_as_error(false)
            // ureq would send the key's header to the new host.
            .max_redirects(0)
            .https_only(endpoint.is_https)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(tls.build())
            // Otherwise ureq would read the variables itself and ignore malformed ones.
            .proxy(endpoint.proxy.as_ref().map(ureq_proxy));
        Self {
            agent: Agent::with_parts(
                config.build(),
                DefaultConnector::default(),
                HostResolver(lookups.clone()),
            ),
            lookups,
            url: endpoint.url.clone(),
            authority: endpoint.authority.clone(),
            proxy: endpoint.proxy.clone(),
            key,
        }
    }

    /// Sends a GET request. `path` starts with a slash and is already encoded. `limit` bounds the
    /// whole request, as in all methods of this type.
    pub fn get(&self, path: &str, limit: Duration) -> Result<Response, NoResponse> {
        self.read(self.prepare(self.agent.get(self.url_of(path)), limit).call(), LIST_LIMIT)
    }

    /// Sends a POST request with a JSON body.
    pub fn post(&self, path: &str, body: &Value, limit: Duration) -> Result<Response, NoResponse> {
        self.send(self.agent.post(self.url_of(path)), body, limit)
    }

    /// Sends a PUT request with a JSON body.
    pub fn put(&self, path: &str, body: &Value, limit: Duration) -> Result<Response, NoResponse> {
        self.send(self.agent.put(self.url_of(path)), body, limit)
    }

    /// A function that aborts the current request and all later ones, from another thread.
    pub fn interrupter(&self) -> impl Fn() + Send + Sync + use<> {
        let (agent, lookups) = (self.agent.clone(), self.lookups.clone());
        move || {
            lookups.interrupt();
            agent.clone().shutdown();
        }
    }

    fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn send(
        &self,
        request: RequestBuilder<ureq::typestate::WithBody>,
        body: &Value,
        limit: Duration,
    ) -> Result<Response, NoResponse> {
        let request = self.prepare(request, limit).header(CONTENT_TYPE, "application/json");
        self.read(request.send(body.to_string()), RESPONSE_LIMIT)
    }

    fn prepare<B>(&self, request: RequestBuilder<B>, limit: Duration) -> RequestBuilder<B> {
        let request = request.config().timeout_global(Some(limit)).build();
        match &self.key {
            Some(key) => request.header("X-Honeycomb-Team", key.expose()),
            None => request,
        }
    }

    fn read(
        &self,
        response: Result<http::Response<Body>, ureq::Error>,
        max_bytes: u64,
    ) -> Result<Response, NoResponse> {
        let mut response = response.map_err(|error| self.no_response(&error))?;
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (retry_after, date, location) = (header(RETRY_AFTER), header(DATE), header(LOCATION));
        let location = location.map(|text| one_line(&self.redact(text), LOCATION_LIMIT));
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(max_bytes).read_to_vec();
        let body = match body {
            Ok(body) => body,
            // The status of an error is enough without its text. A 200 needs its list.
            Err(_) if !(200..300).contains(&status) => Vec::new(),
            Err(error) => return Err(self.no_response(&error)),
        };
        let body = self.redact(String::from_utf8_lossy(&body).into_owned()).into_bytes();
        Ok(Response { status, retry_after, date, location, body })
    }

    /// Redacts the key in a text from the server.
    fn redact(&self, text: String) -> String {
        match &self.key {
            Some(key) => key.redact(text),
            None => text,
        }
    }

    fn no_response(&self, error: &ureq::Error) -> NoResponse {
        let cause = one_line(&cause(error, self.proxy.as_ref()), CAUSE_LIMIT);
        let via = self.proxy.as_ref().map_or_else(String::new, |proxy| {
            format!(" via the proxy {proxy} ({})", proxy.variable)
        });
        NoResponse(format!(
            "no response from {}{via}: {cause}{}",
            self.authority,
            hint(&cause, self.proxy.is_some())
        ))
    }
}

/// Advice for a cause that does not go away by itself; empty for the others.
fn hint(cause: &str, has_proxy: bool) -> &'static str {
    let cause = cause.to_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| cause.contains(phrase));
    // Windows says it in the language of the user, so its number counts: WSAHOST_NOT_FOUND.
    let is_unknown_name =
        says(&["lookup address", "no such host", "name resolution", "os error 11001"]);
    // Windows and macOS verify certificates themselves, without such a file.
    let reads_file = !cfg!(any(windows, target_vendor = "apple"));
    if says(&["no ca certificates"]) {
        "; install ca-certificates or set SSL_CERT_FILE"
    } else if says(&["unknownissuer", "unknown issuer"]) {
        if reads_file {
            "; if a company proxy decrypts TLS, make this machine trust its certificate or set \
             SSL_CERT_FILE"
        } else {
            "; if a company proxy decrypts TLS, make this machine trust its certificate"
        }
    } else if says(&["invalidcontenttype"]) {
        "; check that this address speaks TLS"
    } else if is_unknown_name && has_proxy {
        "; check the names of the host and of the proxy"
    } else if is_unknown_name {
        "; check the name, and whether this machine needs HTTPS_PROXY"
    } else {
        ""
    }
}

/// Replaces the resolver of ureq, which cannot be interrupted and panics if no thread can start.
#[derive(Debug)]
struct HostResolver(Lookups);

impl Resolver for HostResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or_else(|| default_port(is_https));
        let found = self.0.addresses(&format!("{host}:{port}"), *timeout.after);
        let found = found.map_err(|error| match error {
            LookupError::TimedOut => ureq::Error::Timeout(Timeout::Resolve),
            LookupError::Interrupted => ureq::Error::Io(io::ErrorKind::Interrupted.into()),
            LookupError::Failed(error) => ureq::Error::Io(error),
        })?;
        if found.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let mut addresses = self.empty();
        // The list has a fixed capacity. ureq tries one address after the other.
        found.into_iter().all(|address| addresses.try_push(address).is_ok());
        Ok(addresses)
    }
}

/// The proxy in the form of ureq, with everything spelled out, so that ureq has nothing to judge.
fn ureq_proxy(proxy: &Proxy) -> ureq::Proxy {
    let protocol = match proxy.scheme {
        ProxyScheme::Http => ProxyProtocol::Http,
        ProxyScheme::Https => ProxyProtocol::Https,
        ProxyScheme::Socks4 => ProxyProtocol::Socks4,
        ProxyScheme::Socks4a => ProxyProtocol::Socks4A,
        ProxyScheme::Socks5 => ProxyProtocol::Socks5,
        ProxyScheme::Socks5h => ProxyProtocol::Socks5h,
    };
    let mut builder = ureq::Proxy::builder(protocol).host(&proxy.host).port(proxy.port);
    if let Some((user, password)) = &proxy.credentials {
        builder = builder.username(user).password(password);
    }
    // A property test covers this. Without the proxy, requests could leave by a way that is not wanted.
    builder.build().expect("a parsed proxy has a valid host and port")
}

fn cause(error: &ureq::Error, proxy: Option<&Proxy>) -> String {
    match error {
        ureq::Error::Timeout(Timeout::Connect) => "timed out while connecting".to_owned(),
        ureq::Error::Timeout(Timeout::Resolve) => "timed out while looking up the host".to_owned(),
        // The request as a whole has the only other limit.
        ureq::Error::Timeout(_) => "timed out".to_owned(),
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectProxyFailed(why) => refusal(why, proxy),
        error => error.to_string(),
    }
}

/// Says how an HTTP proxy refused the connection, and what to do. ureq's text ends with the
/// status, such as `proxy server responded 407/407`.
fn refusal(why: &str, proxy: Option<&Proxy>) -> String {
    let has_credentials = proxy.is_some_and(|proxy| proxy.credentials.is_some());
    match why.rsplit(['/', ' ']).next() {
        Some("407") if has_credentials => {
            "it rejects the user name or the password (HTTP 407); correct them".to_owned()
        }
        Some("407") => "it wants a user name and a password (HTTP 407); add them".to_owned(),
        Some("403") => "it does not allow this connection (HTTP 403); ask who runs it, or exempt \
                        the host with NO_PROXY"
            .to_owned(),
        Some(status) if status.parse::<u16>().is_ok() => {
            format!("it did not connect (HTTP {status})")
        }
        _ => why.to_owned(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::honeycomb::proxy::RequestTarget;

    proptest! {
        #[test]
        fn ureq_accepts_every_parsed_proxy(
            scheme in "(https?|socks(4a?|5h?)?)",
            credentials in "([a-z%é:]{1,9}@)?",
            address in "([a-z0-9._-]{0,9}|\\[[0-9a-f:]{0,9}\\])(:[0-9]{1,5})?",
        ) {
            let target = RequestTarget { is_https: true, host: "h", port: 443, is_loopback: false };
            let text = format!("{scheme}://{credentials}{address}");
            let variable = |name: &str| (name == "HTTPS_PROXY").then(|| text.clone());
            if let Ok(Some(proxy)) = Proxy::for_target(target, &variable) {
                let ureq = ureq_proxy(&proxy);
                prop_assert_eq!(format!("{}:{}", ureq.host(), ureq.port()), proxy.to_string());
                if let Some((user, password)) = &proxy.credentials {
                    prop_assert_eq!(ureq.username(), Some(user.as_str()));
                    prop_assert_eq!(ureq.password().unwrap_or_default(), password.as_str());
                }
            }
        }
    }

    #[test]
    fn a_timeout_names_its_phase() {
        for (step, expected) in [
            (Timeout::Global, "timed out"),
            (Timeout::Connect, "timed out while connecting"),
            (Timeout::Resolve, "timed out while looking up the host"),
        ] {
            assert_eq!(cause(&ureq::Error::Timeout(step), None), expected);
        }
    }
}

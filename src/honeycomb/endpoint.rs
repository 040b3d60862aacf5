//! The destination of events: the address of an API, and one dataset behind it. Pure.

use http::Uri;

use crate::base::ids;
use crate::honeycomb::api_key::ApiKey;
use crate::honeycomb::proxy::{self, Proxy, RequestTarget};
use crate::honeycomb::urls;

/// One dataset behind one endpoint. Events for one destination are never sent to another.
#[derive(Debug, Clone)]
pub struct Destination {
    pub endpoint: Endpoint,
    pub dataset: String,
    pub key: ApiKey,
    /// The address of Honeycomb's UI, if it is known.
    pub ui: Option<String>,
}

impl Destination {
    /// The address of the batch endpoint.
    pub fn batch_url(&self) -> String {
        format!("{}{}", self.endpoint.url, batch_path(&self.dataset))
    }
}

/// The path of the batch endpoint for a dataset.
pub fn batch_path(dataset: &str) -> String {
    format!("/1/batch/{}", urls::encoded(dataset))
}

/// The address of Honeycomb's API, or of a server in front of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The address with its scheme and host in lower case, without the default port and without a
    /// slash at its end. So most spellings of one address are equal.
    pub url: String,
    /// The host in lower case.
    pub host: String,
    /// The host, and the port unless it is the default.
    pub authority: String,
    pub is_https: bool,
    pub is_loopback: bool,
    /// The proxy for requests; `None` if they go to the host directly.
    pub proxy: Option<Proxy>,
}

impl Endpoint {
    /// Parses an address, with `https://` if no scheme is given. The error completes a line that
    /// names the option. It does not repeat the text, which may hold credentials. The endpoint has no
    /// proxy.
    pub fn parse(text: &str, allow_insecure_http: bool) -> Result<Self, String> {
        const NOT_A_URL: &str = "must be a URL like https://api.honeycomb.io";
        let url = with_scheme(text);
        let uri: Uri = url.parse().map_err(|_| NOT_A_URL)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NOT_A_URL.to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("must not contain a user name or password".to_owned());
        }
        // `https:/host` parses as the host `https` with an empty port.
        let port = &authority.as_str()[authority.host().len()..];
        if authority.host().is_empty() || !port.is_empty() && authority.port_u16().is_none() {
            return Err(NOT_A_URL.to_owned());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err("must not contain a query or a fragment".to_owned());
        }
        if let Some(path) = api_path(uri.path()) {
            return Err(format!(
                "must not end in {path}, which is a path of the API; leave out {path} and what follows"
            ));
        }
        let scheme = scheme.to_ascii_lowercase();
        let host = authority.host().to_ascii_lowercase();
        let is_loopback = is_loopback(&host);
        let is_https = match scheme.as_str() {
            "https" => true,
            "http" if is_loopback || allow_insecure_http => false,
            "http" => {
                return Err(format!(
                    "http:// to {host} would send the key in the clear; use https:// or give \
                     --allow-insecure-http"
                ));
            }
            _ => return Err(format!("{scheme}:// is not supported; use https://")),
        };
        let is_default = |port: &u16| *port == default_port(is_https);
        let authority = match authority.port_u16().filter(|port| !is_default(port)) {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let url = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
        Ok(Self { url, host, authority, is_https, is_loopback, proxy: None })
    }

    /// The server for which a proxy is looked up.
    pub fn target(&self) -> RequestTarget<'_> {
        let port = self.authority[self.host.len()..].strip_prefix(':');
        RequestTarget {
            is_https: self.is_https,
            host: &self.host,
            port: port.and_then(|port| port.parse().ok()).unwrap_or(default_port(self.is_https)),
            is_loopback: self.is_loopback,
        }
    }

    /// A readable and unique file name for the state of one dataset at this endpoint. Honeycomb
    /// ignores case in dataset names. A dot at the end of a host keeps resolvers from adding a domain,
    /// and does not name another server.
    pub fn file_stem(&self, dataset: &str) -> String {
        let dataset = dataset.to_lowercase();
        let (host, rest) = (self.host.trim_end_matches('.'), &self.authority[self.host.len()..]);
        let scheme = if self.is_https { "https" } else { "http" };
        let path = &self.url[scheme.len() + "://".len() + self.authority.len()..];
        let url = format!("{scheme}://{host}{rest}{path}");
        let readable: String = format!("{host}-{dataset}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(60)
            .collect();
        format!("{readable}-{}", ids::id(&[&url, &dataset], 8))
    }
}

/// The path of the API that an address ends in by mistake, with or without a dataset behind it.
/// Documents of other tools call such an address an endpoint, but this program adds the path itself.
fn api_path(path: &str) -> Option<&'static str> {
    const WITH_DATASET: [&str; 2] = ["/1/events", "/1/batch"];
    const WITHOUT: [&str; 5] = ["/1/auth", "/1/markers", "/v1/traces", "/v1/logs", "/v1/metrics"];
    let path = path.to_ascii_lowercase();
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments == ["1"] {
        return Some("/1");
    }
    let ends_in = |known: &&&str, behind: usize| {
        let known: Vec<_> = known.split('/').skip(1).collect();
        let end = segments.len().saturating_sub(behind);
        segments[..end].ends_with(&known)
    };
    let found = WITH_DATASET.iter().find(|known| ends_in(known, 0) || ends_in(known, 1));
    found.or_else(|| WITHOUT.iter().find(|known| ends_in(known, 0))).copied()
}

/// Adds `https://` if no scheme is given, and removes slashes at the end.
pub fn with_scheme(text: &str) -> String {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    url.trim_end_matches('/').to_owned()
}

/// The port of an address that names none.
pub(super) fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || proxy::address(host).is_some_and(|address| address.is_loopback())
}

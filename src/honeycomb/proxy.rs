//! The proxy between this program and the endpoint: the variable that names it, and whether `NO_PROXY`
//! exempts the endpoint. Pure. No message repeats the value of a variable, which may hold a password.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::percent_decode_str;

/// The variables that may name the proxy for `https://`. The first one that is set wins.
const FOR_HTTPS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
/// The same for `http://`.
const FOR_HTTP: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"];
/// The variables that may exempt hosts. The first one that is set wins.
const EXEMPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

const NOT_A_URL: &str = "must be a URL like http://proxy.example:3128";

/// How a client speaks to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    Http,
    Https,
    /// Version 4. This program looks up the endpoint's address.
    Socks4,
    /// Version 4a. The proxy looks up the endpoint's address.
    Socks4a,
    /// Version 5. This program looks up the endpoint's address.
    Socks5,
    /// Version 5. The proxy looks up the endpoint's address.
    Socks5h,
}

/// A proxy, as a variable names it. Its text is the host and the port.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    /// The variable that names it.
    pub variable: &'static str,
    pub scheme: ProxyScheme,
    /// The host, an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    /// The user name and the password, decoded.
    pub credentials: Option<(String, String)>,
}

/// The server that requests are for.
#[derive(Debug, Clone, Copy)]
pub struct RequestTarget<'a> {
    pub is_https: bool,
    /// The host, an IPv6 address in brackets.
    pub host: &'a str,
    pub port: u16,
    pub is_loopback: bool,
}

impl Proxy {
    /// The proxy for requests to `target`; `None` if they go there directly. A proxy may run on
    /// another machine, so it is never used for loopback. Fails if the variable is malformed or names
    /// a proxy that this program cannot use. The error is one line that names the variable.
    pub fn for_target(
        target: RequestTarget,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let names = if target.is_https { FOR_HTTPS } else { FOR_HTTP };
        let set = names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let Some((name, text)) = set else { return Ok(None) };
        let proxy = Self::parse(name, &text).map_err(|why| format!("{name}: {why}"))?;
        let exempt = EXEMPTIONS.into_iter().find_map(variable).unwrap_or_default();
        let is_direct = target.is_loopback || is_exempt(&exempt, target.host, target.port);
        Ok((!is_direct).then_some(proxy))
    }

    fn parse(variable: &'static str, text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let scheme = ProxyScheme::parse(scheme)
            .ok_or("the scheme must be http, https, socks4, socks4a, socks5 or socks5h")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err(format!(
                "{NOT_A_URL}, without a path; percent-encode special characters in a password"
            ));
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address).ok_or(NOT_A_URL)?;
        if !is_host(host) {
            return Err(NOT_A_URL.to_owned());
        }
        let credentials = user.map(parse_credentials).transpose()?;
        scheme.check_credentials(credentials.as_ref())?;
        let port = port.unwrap_or(scheme.default_port());
        Ok(Self { variable, scheme, host: host.to_owned(), port, credentials })
    }
}

impl ProxyScheme {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "https" => Self::Https,
            "socks4" => Self::Socks4,
            "socks4a" => Self::Socks4a,
            "socks" | "socks5" => Self::Socks5,
            "socks5h" => Self::Socks5h,
            _ => return None,
        })
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks4 | Self::Socks4a | Self::Socks5 | Self::Socks5h => 1080,
        }
    }

    /// Fails if the protocol cannot transmit these credentials.
    fn check_credentials(self, credentials: Option<&(String, String)>) -> Result<(), &'static str> {
        let Some((user, password)) = credentials else { return Ok(()) };
        // RFC 1929, section 2.
        let fits_socks5 = [user, password].iter().all(|text| (1..=255).contains(&text.len()));
        match self {
            Self::Http | Self::Https => Ok(()),
            Self::Socks4 | Self::Socks4a => {
                Err("a SOCKS 4 proxy takes no user name or password here; use socks5://")
            }
            Self::Socks5 | Self::Socks5h if fits_socks5 => Ok(()),
            Self::Socks5 | Self::Socks5h => {
                Err("SOCKS 5 needs a user name and a password of 1 to 255 bytes each, or neither")
            }
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The credentials must not reach a log.
        write!(f, "Proxy({self} from {})", self.variable)
    }
}

/// `user` or `user:password`, percent-encoded.
fn parse_credentials(text: &str) -> Result<(String, String), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(std::borrow::Cow::into_owned).map_err(|_| "the user name or password is not UTF-8")
    };
    Ok((decoded(user)?, decoded(password)?))
}

/// Splits `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. `None` if the port is not a port.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let host_end = if address.starts_with('[') { address.find(']')? + 1 } else { 0 };
    let Some(colon) = address[host_end..].find(':') else {
        return (host_end == 0 || host_end == address.len()).then_some((address, None));
    };
    let (host, port) = address.split_at(host_end + colon);
    let port = &port[1..];
    if host_end > 0 && colon > 0 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|port| *port > 0).map(|port| (host, Some(port)))
}

fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Whether a list such as `localhost, .example.com 10.0.0.0/8` exempts this host and port.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let mut entries = list.split(|c: char| c == ',' || c.is_whitespace());
    entries.any(|entry| exempts(entry, host, port))
}

fn exempts(entry: &str, host: &str, port: u16) -> bool {
    // Without brackets, an IPv6 address has no port.
    let is_bare_address = entry.split('/').next().is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    let split = if is_bare_address { Some((entry, None)) } else { split_port(entry) };
    let Some((name, only_port)) = split else { return false };
    if only_port.is_some_and(|only| only != port) {
        return false;
    }
    if name == "*" {
        return true;
    }
    match address(host) {
        Some(host) => is_in_network(name, host),
        None => is_in_domain(name, host),
    }
}

/// The address that a host is, in brackets or not. `None` for a name.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether `name` is this address or a network such as `10.0.0.0/8` that contains it.
fn is_in_network(name: &str, host: IpAddr) -> bool {
    let (network, bits) = match name.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (name, Some(u32::MAX)),
    };
    match (address(network), host, bits) {
        (Some(IpAddr::V4(network)), IpAddr::V4(host), Some(bits)) => {
            let different = network.to_bits() ^ host.to_bits();
            different.leading_zeros() >= bits.min(32)
        }
        (Some(IpAddr::V6(network)), IpAddr::V6(host), Some(bits)) => {
            let different = network.to_bits() ^ host.to_bits();
            different.leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

/// Whether `host` is the domain `name` or below it. `example.com`, `.example.com` and
/// `*.example.com` mean the same.
fn is_in_domain(name: &str, host: &str) -> bool {
    let name = name.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !name.is_empty()
        && host.strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const API: RequestTarget =
        RequestTarget { is_https: true, host: "api.honeycomb.io", port: 443, is_loopback: false };

    fn proxy_for(
        target: RequestTarget,
        variables: &[(&'static str, &str)],
    ) -> Result<Option<Proxy>, String> {
        let variable = |name: &str| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        Proxy::for_target(target, &variable)
    }

    fn parsed(text: &str) -> Result<Proxy, String> {
        proxy_for(API, &[("HTTPS_PROXY", text)]).map(|proxy| proxy.expect("a proxy"))
    }

    #[test]
    fn a_proxy_has_a_scheme_a_host_and_a_port() {
        for (text, scheme, address) in [
            ("proxy.example:3128", ProxyScheme::Http, "proxy.example:3128"),
            (" http://proxy.example:3128/ ", ProxyScheme::Http, "proxy.example:3128"),
            ("HTTP://10.0.0.1", ProxyScheme::Http, "10.0.0.1:80"),
            ("https://proxy_1", ProxyScheme::Https, "proxy_1:443"),
            ("http://[::1]:8080", ProxyScheme::Http, "[::1]:8080"),
            ("http://[fe80::1]", ProxyScheme::Http, "[fe80::1]:80"),
            ("socks://s", ProxyScheme::Socks5, "s:1080"),
            ("socks4://s:1", ProxyScheme::Socks4, "s:1"),
            ("socks4a://s", ProxyScheme::Socks4a, "s:1080"),
            ("socks5h://s:9050", ProxyScheme::Socks5h, "s:9050"),
        ] {
            let proxy = parsed(text).expect(text);
            assert_eq!((proxy.scheme, proxy.to_string()), (scheme, address.to_owned()), "{text}");
            assert_eq!(proxy.credentials, None, "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_printed() {
        for (text, user, password) in [
            ("http://ann:s3cr3t@p:1", "ann", "s3cr3t"),
            ("ann:s3cr3t@p:1", "ann", "s3cr3t"),
            ("http://ann:s3cr3t%40%2F%25@p:1", "ann", "s3cr3t@/%"),
            ("http://ann:s3cr3t@@p:1", "ann", "s3cr3t@"),
            ("http://s3cr3t@p:1", "s3cr3t", ""),
            ("http://:s3cr3t@p:1", "", "s3cr3t"),
            ("socks5://ann:s3cr3t@p:1", "ann", "s3cr3t"),
        ] {
            let proxy = parsed(text).expect(text);
            assert_eq!(proxy.credentials, Some((user.to_owned(), password.to_owned())), "{text}");
            let printed = format!("{proxy} {proxy:?}");
            assert!(!printed.contains("s3cr3t") && printed.contains("p:1"), "{printed}");
        }
    }

    #[test]
    fn an_error_names_the_variable_and_not_its_value() {
        for text in [
            "http://",
            "http://ann:s3cr3t@",
            "http://s3cr3t:port",
            "http://s3cr3t:",
            "http://s3cr3t:0",
            "http://s3cr3t:65536",
            "http://s3cr3t:+80",
            "http://s3cr3t::80",
            "http://::1:80",
            "http://[s3cr3t]:80",
            "http://[::1:80",
            "http://[::1]80",
            "http://[::1]x:80",
            "http:/s3cr3t",
            "http://s3cr3t.example/proxy.pac",
            "http://ann:s3/cr3t@p:1",
            "http://ann:s3#cr3t@p:1",
            "http://ann:s3cr3t%ff@p:1",
            "http://s3cr3t host:1",
            "http://s3cr3t\u{e9}:1",
            "ftp://ann:s3cr3t@p",
            "s3cr3t://p",
            "://s3cr3t",
            "socks4://ann:s3cr3t@p",
            "socks5://s3cr3t@p",
            "socks5://:s3cr3t@p",
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.starts_with("HTTPS_PROXY: "), "{text}: {error}");
            assert!(!error.contains("s3") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn the_variable_of_the_endpoints_scheme_wins() {
        let of = |is_https, names: &[&'static str]| {
            let variables: Vec<_> = names.iter().map(|name| (*name, "p:1")).collect();
            let proxy = proxy_for(RequestTarget { is_https, ..API }, &variables);
            proxy.expect("a valid proxy").map(|proxy| proxy.variable)
        };
        for (is_https, order) in [(true, FOR_HTTPS), (false, FOR_HTTP)] {
            for first in 0..order.len() {
                assert_eq!(of(is_https, &order[first..]), Some(order[first]));
            }
        }
        assert_eq!(of(true, &[]), None);
    }

    #[test]
    fn loopback_needs_no_proxy_but_a_valid_variable() {
        let target = RequestTarget { is_loopback: true, host: "localhost", ..API };
        assert_eq!(proxy_for(target, &[("HTTPS_PROXY", "p:1")]), Ok(None));
        assert!(proxy_for(target, &[("HTTPS_PROXY", "p:x")]).is_err());
    }

    #[test]
    fn no_proxy_exempts_domains_addresses_and_ports() {
        for (list, host, is_direct) in [
            ("", "api.honeycomb.io", false),
            ("*", "api.honeycomb.io", true),
            ("api.honeycomb.io", "api.honeycomb.io", true),
            ("API.Honeycomb.IO.", "api.honeycomb.io", true),
            ("api.honeycomb.io", "API.HONEYCOMB.IO.", true),
            ("honeycomb.io", "api.honeycomb.io", true),
            (".honeycomb.io", "api.honeycomb.io", true),
            ("*.honeycomb.io", "api.honeycomb.io", true),
            (".honeycomb.io", "honeycomb.io", true),
            ("comb.io", "api.honeycomb.io", false),
            ("api.honeycomb.io.evil", "api.honeycomb.io", false),
            ("eu1.api.honeycomb.io", "api.honeycomb.io", false),
            ("localhost,honeycomb.io", "api.honeycomb.io", true),
            ("localhost, .local  honeycomb.io", "api.honeycomb.io", true),
            ("localhost\thoneycomb.io\n", "api.honeycomb.io", true),
            (",, ,.,*.,:,[", "api.honeycomb.io", false),
            ("honeycomb.io:443", "api.honeycomb.io", true),
            ("honeycomb.io:8443", "api.honeycomb.io", false),
            ("honeycomb.io:port", "api.honeycomb.io", false),
            ("*:443", "api.honeycomb.io", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3:443", "10.1.2.3", true),
            ("10.1.2.3:80", "10.1.2.3", false),
            ("1.2.3", "10.1.2.3", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/33", "10.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/x", "10.0.0.0", false),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]", "[fd00:0::1]", true),
            ("[fd00::1]:443", "[fd00::1]", true),
            ("[fd00::1]:80", "[fd00::1]", false),
            ("fd00::/8", "[fd00::1]", true),
            ("fd00::/8", "[fe00::1]", false),
        ] {
            for variable in EXEMPTIONS {
                let target = RequestTarget { host, ..API };
                let proxy = proxy_for(target, &[("https_proxy", "p:1"), (variable, list)]);
                let proxy = proxy.expect("a valid proxy");
                assert_eq!(proxy.is_none(), is_direct, "{variable}={list:?} {host}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_value_is_a_proxy_or_an_error(
            text in "(http|socks5)?(://)?[a-z:@/%\\[\\]#?. é0-9]{0,20}",
            list in "[a-z:/*\\[\\]., 0-9]{0,20}",
            host in "[a-z0-9.:\\[\\]]{0,12}",
        ) {
            let _ = proxy_for(RequestTarget { host: &host, ..API }, &[("ALL_PROXY", &text)]);
            let _ = is_exempt(&list, &host, 443);
        }
    }
}

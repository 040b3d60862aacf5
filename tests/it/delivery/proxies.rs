//! Proxies: which one a request uses, what is reported about it, and that its password is not.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use fakes::honeycomb::{Server, read_head};

use crate::support::api::INGEST_KEY;
use crate::support::{Invocation, Outcome, Sandbox, UNREACHABLE, not_unicode, retry};

const PASSWORD: &str = "pa55word";
/// A host that only a proxy can reach.
const HIDDEN_HOST: &str = "honeycomb.invalid";

/// One report to a host that only a proxy can reach.
fn report(sandbox: &Sandbox) -> Invocation {
    let options = "--once --verbose --timeout 1s --allow-insecure-http --api-endpoint";
    sandbox.run(options).args(&[&format!("http://{HIDDEN_HOST}")]).with_key()
}

fn check(sandbox: &Sandbox, endpoint: &str) -> Invocation {
    sandbox
        .run("check --allow-insecure-http --api-endpoint")
        .args(&[endpoint])
        .with_key()
        .env("HONEYCOMB_API_KEY", INGEST_KEY)
}

#[track_caller]
fn hides_the_password(outcome: Outcome) -> Outcome {
    for text in [&outcome.stdout, &outcome.stderr] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    outcome
}

/// A proxy that answers every CONNECT with this status. Returns its address.
fn refusing_proxy(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = read_head(&mut stream);
            let body = "<html>No.</html>";
            let reply = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    address
}

#[test]
#[cfg_attr(windows, ignore = "variables of Windows have no case")]
fn a_malformed_proxy_is_an_error_that_hides_its_value() {
    let sandbox = Sandbox::new();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        for value in [
            format!("http://ann:{PASSWORD}@proxy:port"),
            format!("http://ann:{PASSWORD}@"),
            format!("http://ann:{PASSWORD}@pro xy:3128"),
            format!("http://ann:{PASSWORD}/@proxy:3128"),
        ] {
            let outcome = report(&sandbox).env(variable, &value).finish().exits_with(2);
            let outcome = hides_the_password(outcome.says(variable).says_one_line());
            assert!(!outcome.stderr.contains("ann"), "{}", outcome.stderr);
        }
    }
    let outcome = check(&sandbox, "http://honeycomb.invalid")
        .env("HTTP_PROXY", format!("ann:{PASSWORD}@:80"))
        .finish();
    hides_the_password(outcome.exits_with(2).finds("endpoint", "bad", "HTTP_PROXY: must be a URL"));
}

#[test]
fn a_proxy_that_is_not_utf8_is_an_error() {
    let sandbox = Sandbox::new();
    let outcome = report(&sandbox).env("HTTP_PROXY", not_unicode()).finish().exits_with(2);
    outcome.says("HTTP_PROXY: must be a URL").says_one_line();
}

#[test]
fn a_proxy_that_cannot_be_used_is_reported() {
    let sandbox = Sandbox::new();
    for (value, says) in [
        ("ftp://proxy", "HTTP_PROXY: the scheme must be http, https, socks4"),
        ("quic://ann:pa55word@proxy", "HTTP_PROXY: the scheme must be http, https, socks4"),
        ("http://wpad/proxy.pac", "without a path"),
        ("socks4://ann:pa55word@proxy", "use socks5://"),
        ("socks5://ann@proxy", "SOCKS 5 needs a user name and a password"),
    ] {
        let outcome = report(&sandbox).env("HTTP_PROXY", value).finish().exits_with(2);
        hides_the_password(outcome.says(says).says_one_line());
    }
}

#[test]
fn an_empty_proxy_variable_counts_as_unset() {
    let (sandbox, proxy) = (Sandbox::new(), Server::start());
    let options = "--once --allow-insecure-http --timeout 1m --api-endpoint";
    sandbox
        .run(options)
        .args(&[&format!("http://{HIDDEN_HOST}")])
        .with_key()
        .env("HTTP_PROXY", " ")
        .env("ALL_PROXY", "")
        .env("https_proxy", proxy.url())
        .finish()
        .exits_with(0);
    assert!(!proxy.accepted().is_empty());
}

#[test]
#[cfg_attr(windows, ignore = "variables of Windows have no case")]
fn the_proxy_of_the_endpoints_scheme_is_used() {
    let sandbox = Sandbox::new();
    let used = |endpoint: &str, variables: &[&str]| {
        let mut check = check(&sandbox, endpoint);
        for (port, variable) in (1..).zip(variables) {
            check = check.env(variable, format!("127.0.0.1:{port}"));
        }
        check.finish().exits_with(4).found("endpoint").1.to_owned()
    };
    for (endpoint, variables) in [
        ("https://honeycomb.invalid", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"]),
        ("https://honeycomb.invalid", ["https_proxy", "ALL_PROXY", "all_proxy", "http_proxy"]),
        ("http://honeycomb.invalid", ["HTTP_PROXY", "http_proxy", "all_proxy", "HTTPS_PROXY"]),
        ("http://honeycomb.invalid", ["all_proxy", "HTTPS_PROXY", "https_proxy", "https_proxy"]),
    ] {
        let says = used(endpoint, &variables);
        let expected = format!("via the proxy 127.0.0.1:1 ({}): Connection refused", variables[0]);
        assert!(says.contains(&expected), "{says}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "variables of Windows have no case")]
fn a_refusal_by_the_proxy_names_the_proxy() {
    for (status, user, says) in [
        ("407 Proxy Authentication Required", "", "it wants a user name and a password (HTTP 407)"),
        (
            "407 Proxy Authentication Required",
            "ann:pa55word@",
            "it rejects the user name or the password (HTTP 407)",
        ),
        ("403 Forbidden", "", "it does not allow this connection (HTTP 403)"),
        ("502 Bad Gateway", "ann:pa55word@", "it did not connect (HTTP 502)"),
    ] {
        let sandbox = Sandbox::new();
        let address = refusing_proxy(status);
        let outcome = retry("an answer before the timeout", || {
            let proxy = format!("http://{user}{address}/");
            let outcome = report(&sandbox).env("http_proxy", proxy).finish().exits_with(4);
            outcome.unless_proxy_was_slow()
        });
        let outcome = outcome.says(&format!("via the proxy {address} (http_proxy): {says}"));
        hides_the_password(outcome);
        assert!(sandbox.queued() > 0);
    }
}

#[test]
fn an_unreachable_proxy_is_named() {
    let sandbox = Sandbox::new();
    for scheme in ["http", "https", "socks4", "socks5", "socks5h", "socks4a"] {
        // An address, because socks4 and socks5 look up the host here.
        let outcome = check(&sandbox, "http://192.0.2.1")
            .env("ALL_PROXY", UNREACHABLE.replace("http", scheme))
            .finish()
            .exits_with(4);
        outcome.finds("endpoint", "bad", "via the proxy 127.0.0.1:1 (ALL_PROXY): Connection ref");
    }
    let outcome = check(&sandbox, "http://honeycomb.invalid")
        .env("ALL_PROXY", format!("http://ann:{PASSWORD}@no-such-proxy.invalid:3128"))
        .finish()
        .exits_with(4);
    let outcome = outcome.finds("endpoint", "bad", "via the proxy no-such-proxy.invalid:3128");
    hides_the_password(outcome.finds("endpoint", "bad", "check the names"));
}

#[test]
fn no_proxy_exempts_hosts_in_both_spellings() {
    let sandbox = Sandbox::new();
    for (list, is_direct) in [
        ("honeycomb.invalid", true),
        ("localhost, honeycomb.invalid", true),
        ("localhost honeycomb.invalid", true),
        (".invalid,localhost", true),
        ("*.invalid", true),
        ("invalid", true),
        ("*", true),
        ("HONEYCOMB.INVALID:80", true),
        ("honeycomb.invalid:443", false),
        ("comb.invalid", false),
        ("", false),
    ] {
        for variable in ["NO_PROXY", "no_proxy"] {
            let outcome = check(&sandbox, "http://honeycomb.invalid")
                .env("HTTP_PROXY", UNREACHABLE)
                .env(variable, list)
                .finish();
            let route = if is_direct { "(no proxy)" } else { "via the proxy 127.0.0.1:1" };
            outcome.exits_with(4).finds("endpoint", "bad", route);
        }
    }
}

//! Where in Honeycomb's UI a trace is to be seen. Pure; `GET /1/auth` says whose key it is.

use std::time::{Duration, SystemTime};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::memory::unix_micros;

/// What Honeycomb's own tools leave room for at the end.
const AFTER: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
struct Auth {
    team: Named,
    environment: Option<Named>,
}

#[derive(Deserialize, Default)]
struct Named {
    slug: Option<String>,
}

/// The host of the UI that belongs to Honeycomb's API; another server's is not known.
pub fn ui_host(api_host: &str) -> Option<String> {
    let region = api_host.strip_prefix("api.")?;
    let is_honeycombs = region == "honeycomb.io" || region.ends_with(".honeycomb.io");
    is_honeycombs.then(|| format!("ui.{region}"))
}

/// The address of a trace, from the answer of `GET /1/auth`.
pub fn to_trace(
    ui_host: &str,
    auth: &[u8],
    dataset: &str,
    trace_id: &str,
    (from, to): (SystemTime, SystemTime),
) -> Option<String> {
    let Auth { team, environment } = serde_json::from_slice(auth).ok()?;
    let segment =
        |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string().replace("%2D", "-");
    let team = segment(&team.slug.filter(|slug| !slug.is_empty())?);
    // A Classic key's environment has no name.
    let environment = environment.and_then(|environment| environment.slug);
    let environment = match environment.filter(|slug| !slug.is_empty()) {
        Some(slug) => format!("/environments/{}", segment(&slug)),
        None => String::new(),
    };
    let seconds = |time| unix_micros(time) / 1_000_000;
    Some(format!(
        "https://{ui_host}/{team}{environment}/datasets/{}/trace?trace_id={}&trace_start_ts={}&trace_end_ts={}",
        slug(dataset),
        segment(trace_id),
        seconds(from),
        seconds(to + AFTER),
    ))
}

/// As Honeycomb's own tools make it of a dataset's name.
fn slug(dataset: &str) -> String {
    let keeps = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_~.-".contains(*c);
    dataset.to_lowercase().chars().map(|c| if keeps(&c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(auth: &str) -> Option<String> {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        to_trace("ui.honeycomb.io", auth.as_bytes(), "Dev Envs!", "abc", (at(1000), at(1060)))
    }

    #[test]
    fn a_trace_is_found_in_the_keys_team_and_environment() {
        let auth = r#"{"team":{"name":"Acme","slug":"acme"},"environment":{"slug":"ci-runs"}}"#;
        assert_eq!(
            link(auth).as_deref(),
            Some(
                "https://ui.honeycomb.io/acme/environments/ci-runs/datasets/dev-envs-/trace?trace_id=abc&trace_start_ts=1000&trace_end_ts=1660"
            )
        );
        let classic = r#"{"team":{"slug":"acme"},"environment":{"name":"","slug":""}}"#;
        let link_of_classic = link(classic).expect("a link");
        assert!(link_of_classic.starts_with("https://ui.honeycomb.io/acme/datasets/dev-envs-/"));
    }

    #[test]
    fn without_a_team_there_is_no_link() {
        for auth in ["", "[]", "{}", r#"{"team":{}}"#, r#"{"team":{"slug":""}}"#, "<html>"] {
            assert_eq!(link(auth), None, "{auth}");
        }
    }

    #[test]
    fn only_honeycombs_own_hosts_have_a_ui() {
        for (api, ui) in [
            ("api.honeycomb.io", Some("ui.honeycomb.io")),
            ("api.eu1.honeycomb.io", Some("ui.eu1.honeycomb.io")),
            ("api.nothoneycomb.io", None),
            ("refinery.example", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(ui_host(api).as_deref(), ui, "{api}");
        }
    }
}

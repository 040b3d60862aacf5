//! Where in Honeycomb's UI things are to be seen. Pure; `GET /1/auth` says whose key it is.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::time::unix_micros;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::client::Api;
use crate::honeycomb::endpoint::Destination;
use crate::honeycomb::queries::Query;

/// What Honeycomb's own tools leave room for at the end.
const AFTER: Duration = Duration::from_mins(10);

/// What needs no encoding in any part of an address.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address of the UI that belongs to Honeycomb's API; another server's is not known.
pub fn ui_of(api_host: &str) -> Option<String> {
    let region = api_host.strip_prefix("api.")?;
    let is_honeycombs = region == "honeycomb.io" || region.ends_with(".honeycomb.io");
    is_honeycombs.then(|| format!("https://ui.{region}"))
}

/// A dataset's place in the UI.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetUrl {
    dataset: String,
}

impl DatasetUrl {
    /// In the key's team and environment; Classic has no environments.
    pub fn of(ui: &str, auth: &Auth, dataset: &str) -> Option<Self> {
        let team = encoded(auth.team_slug()?);
        let environment = auth
            .environment_slug()
            .map_or_else(String::new, |slug| format!("/environments/{}", encoded(slug)));
        Some(Self { dataset: format!("{ui}/{team}{environment}/datasets/{}", slug(dataset)) })
    }

    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// A query that needs no set-up: it is in the address, whole.
    pub fn query(&self, query: &Query) -> String {
        format!("{}?query={}", self.dataset, encoded(&query.specification().to_string()))
    }

    pub fn trace(&self, trace_id: &str, (from, to): (SystemTime, SystemTime)) -> String {
        let seconds = |time| unix_micros(time) / 1_000_000;
        format!(
            "{}/trace?trace_id={}&trace_start_ts={}&trace_end_ts={}",
            self.dataset,
            encoded(trace_id),
            seconds(from),
            seconds(to + AFTER),
        )
    }
}

/// One segment of an address, or one value of its query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// As Honeycomb's own tools make it of a dataset's name.
pub fn slug(dataset: &str) -> String {
    let keeps = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_~.-".contains(*c);
    dataset.to_lowercase().chars().map(|c| if keeps(&c) { c } else { '-' }).collect()
}

/// In the background there is no hurry.
const PATIENCE: Duration = Duration::from_secs(10);

/// `None` also where the UI's address is not known: then nobody is asked.
pub fn find(api: &Api, destination: &Destination, limit: Duration) -> Option<DatasetUrl> {
    let ui = destination.ui.as_deref()?;
    let response = api.get(auth::PATH, limit).ok().filter(|response| response.status == 200)?;
    DatasetUrl::of(ui, &Auth::read(&response.body)?, &destination.dataset)
}

/// Says it when it is known, and holds up nothing until then.
pub fn say_when_known(api: &Api, destination: &Destination) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    let (api, destination) = (api.clone(), destination.clone());
    let asking = std::thread::Builder::new().name("link".into()).spawn(move || {
        if let Some(place) = find(&api, &destination, PATIENCE) {
            log::info!("to be seen at {}", place.dataset());
        }
    });
    if let Err(error) = asking {
        log::debug!("no thread to ask for a link: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::honeycomb::queries::QUERIES;

    const AUTH: &str = r#"{"team":{"name":"Acme","slug":"acme"},"environment":{"slug":"ci-runs"}}"#;
    const CLASSIC: &str = r#"{"team":{"slug":"acme"},"environment":{"name":"","slug":""}}"#;

    fn place(ui: &str, auth: &str) -> DatasetUrl {
        let auth = Auth::read(auth.as_bytes()).expect("whose key it is");
        DatasetUrl::of(ui, &auth, "Dev Envs!").expect("a place")
    }

    #[test]
    fn a_trace_is_found_in_the_keys_team_and_environment() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            place("https://ui.honeycomb.io", AUTH).trace("abc", (at(1000), at(1060))),
            "https://ui.honeycomb.io/acme/environments/ci-runs/datasets/dev-envs-/trace?trace_id=abc&trace_start_ts=1000&trace_end_ts=1660"
        );
    }

    #[test]
    fn a_dataset_is_where_its_region_and_its_key_have_it() {
        for (ui, auth, link) in [
            (
                "https://ui.honeycomb.io",
                AUTH,
                "https://ui.honeycomb.io/acme/environments/ci-runs/datasets/dev-envs-",
            ),
            (
                "https://ui.eu1.honeycomb.io",
                AUTH,
                "https://ui.eu1.honeycomb.io/acme/environments/ci-runs/datasets/dev-envs-",
            ),
            ("https://ui.honeycomb.io", CLASSIC, "https://ui.honeycomb.io/acme/datasets/dev-envs-"),
            ("http://gateway:80/ui", CLASSIC, "http://gateway:80/ui/acme/datasets/dev-envs-"),
        ] {
            assert_eq!(place(ui, auth).dataset(), link);
        }
    }

    #[test]
    fn a_query_stands_in_its_address_whole() {
        for query in QUERIES {
            let link = place("https://ui.honeycomb.io", AUTH).query(query);
            let (dataset, encoded) = link.split_once("?query=").expect("a query");
            assert_eq!(dataset, place("https://ui.honeycomb.io", AUTH).dataset());
            assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"%-._~".contains(&b)));
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8();
            assert_eq!(decoded.expect("text"), query.specification().to_string());
            // Browsers and chat programs take this much.
            assert!(link.len() < 2000, "{}", link.len());
        }
    }

    #[test]
    fn without_a_team_there_is_no_place() {
        let auth = Auth::read(br#"{"type":"ingest"}"#).expect("an answer");
        assert_eq!(DatasetUrl::of("https://ui.honeycomb.io", &auth, "dev"), None);
    }

    #[test]
    fn only_honeycombs_own_hosts_have_a_ui() {
        for (api, ui) in [
            ("api.honeycomb.io", Some("https://ui.honeycomb.io")),
            ("api.eu1.honeycomb.io", Some("https://ui.eu1.honeycomb.io")),
            ("api.nothoneycomb.io", None),
            ("refinery.example", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(ui_of(api).as_deref(), ui, "{api}");
        }
    }
}

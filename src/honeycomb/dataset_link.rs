//! Links into Honeycomb's UI: to a dataset, a query and a trace.
//!
//! `GET /1/auth` tells the team and the environment of the key. No feature depends on a link, so a
//! failed request is not reported.

use std::time::{Duration, SystemTime};

use crate::base::time::unix_seconds;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::client::Api;
use crate::honeycomb::endpoint::Destination;
use crate::honeycomb::queries::Query;
use crate::honeycomb::urls::{encoded, slug};

/// The time after the end of a trace that its link includes, as in links of Honeycomb's own tools.
const AFTER_END: Duration = Duration::from_mins(10);
/// The longest time for the request in the background.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The address of the UI for an API host of Honeycomb; `None` for any other host.
pub fn ui_of(api_host: &str) -> Option<String> {
    let region = api_host.trim_end_matches('.').strip_prefix("api.")?;
    let is_honeycomb = region == "honeycomb.io" || region.ends_with(".honeycomb.io");
    is_honeycomb.then(|| format!("https://ui.{region}"))
}

/// The address of a dataset in the UI.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetUrl {
    dataset: String,
}

impl DatasetUrl {
    /// Builds the address from the team and environment of the key. Honeycomb Classic has no
    /// environments. `None` if the team is unknown.
    pub fn of(ui: &str, auth: &Auth, dataset: &str) -> Option<Self> {
        let team = encoded(auth.team_slug()?);
        let environment = auth
            .environment_slug()
            .map_or_else(String::new, |slug| format!("/environments/{}", encoded(slug)));
        Some(Self { dataset: format!("{ui}/{team}{environment}/datasets/{}", slug(dataset)) })
    }

    /// The dataset's page.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// A link that runs a query. It contains the whole query, so the query need not be saved.
    pub fn query(&self, query: &Query) -> String {
        format!("{}?query={}", self.dataset, encoded(&query.specification().to_string()))
    }

    /// A link to a trace that began and ended at these times.
    pub fn trace(&self, trace_id: &str, (from, to): (SystemTime, SystemTime)) -> String {
        format!(
            "{}/trace?trace_id={}&trace_start_ts={}&trace_end_ts={}",
            self.dataset,
            encoded(trace_id),
            unix_seconds(from),
            unix_seconds(to + AFTER_END),
        )
    }
}

/// Asks Honeycomb for the address of the dataset. `None` if the request fails, or if the address
/// of the UI is unknown; then no request is sent.
pub fn find(api: &Api, destination: &Destination, limit: Duration) -> Option<DatasetUrl> {
    let ui = destination.ui.as_deref()?;
    let response = api.get(auth::PATH, limit).ok().filter(|response| response.status == 200)?;
    DatasetUrl::of(ui, &Auth::read(&response.body)?, &destination.dataset)
}

/// Logs the address when it is known. Runs in the background.
pub fn log_when_known(api: &Api, destination: &Destination) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    let (api, destination) = (api.clone(), destination.clone());
    let thread = std::thread::Builder::new().name("link".into()).spawn(move || {
        if let Some(url) = find(&api, &destination, TIMEOUT) {
            log::info!("view in Honeycomb: {}", url.dataset());
        }
    });
    if let Err(error) = thread {
        log::debug!("cannot start a thread to look up the link: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::honeycomb::queries::QUERIES;

    const AUTH: &str = r#"{"team":{"name":"Acme","slug":"acme"},"environment":{"slug":"ci-runs"}}"#;
    const CLASSIC: &str = r#"{"team":{"slug":"acme"},"environment":{"name":"","slug":""}}"#;

    fn url(ui: &str, auth: &str) -> DatasetUrl {
        let auth = Auth::read(auth.as_bytes()).expect("the permissions of a key");
        DatasetUrl::of(ui, &auth, "Dev Envs!").expect("a URL")
    }

    #[test]
    fn a_trace_is_in_the_team_and_environment_of_the_key() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            url("https://ui.honeycomb.io", AUTH).trace("abc", (at(1000), at(1060))),
            "https://ui.honeycomb.io/acme/environments/ci-runs/datasets/dev-envs-/trace?trace_id=abc&trace_start_ts=1000&trace_end_ts=1660"
        );
    }

    #[test]
    fn a_dataset_url_follows_the_region_and_the_key() {
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
            assert_eq!(url(ui, auth).dataset(), link);
        }
    }

    #[test]
    fn a_query_url_holds_the_whole_query() {
        for query in QUERIES {
            let link = url("https://ui.honeycomb.io", AUTH).query(query);
            let (dataset, encoded) = link.split_once("?query=").expect("a query");
            assert_eq!(dataset, url("https://ui.honeycomb.io", AUTH).dataset());
            assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"%-._~".contains(&b)));
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8();
            assert_eq!(decoded.expect("text"), query.specification().to_string());
            // Browsers and chat programs accept URLs of this length.
            assert!(link.len() < 2000, "{}", link.len());
        }
    }

    #[test]
    fn a_key_without_a_team_has_no_dataset_url() {
        let auth = Auth::read(br#"{"type":"ingest"}"#).expect("permissions");
        assert_eq!(DatasetUrl::of("https://ui.honeycomb.io", &auth, "dev"), None);
    }

    #[test]
    fn only_hosts_of_honeycomb_have_a_known_ui() {
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

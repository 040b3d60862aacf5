//! Where events go: the address of an API, and one dataset behind it.

use crate::base::ids;
use crate::honeycomb::api_key::ApiKey;
use crate::honeycomb::dataset_link;

/// One dataset behind one endpoint. What waits for one is never sent to another.
#[derive(Debug, Clone)]
pub struct Destination {
    pub endpoint: Endpoint,
    pub dataset: String,
    pub key: ApiKey,
    /// The address of Honeycomb's UI, where it is known.
    pub ui: Option<String>,
}

impl Destination {
    pub fn batch_url(&self) -> String {
        format!("{}/1/batch/{}", self.endpoint.url, dataset_link::encoded(&self.dataset))
    }
}

/// Honeycomb's address, without a slash at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub url: String,
    pub host: String,
    /// The host with its port, where one is given.
    pub authority: String,
    pub is_https: bool,
    pub is_loopback: bool,
}

impl Endpoint {
    /// A file name for the state of one dataset here: readable, and unlike any other's.
    /// Honeycomb compares dataset names without regard to case.
    pub fn file_stem(&self, dataset: &str) -> String {
        let dataset = dataset.to_lowercase();
        let readable: String = format!("{}-{dataset}", self.host)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(60)
            .collect();
        format!("{readable}-{}", ids::id(&[&self.url, &dataset], 8))
    }
}

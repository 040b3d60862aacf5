//! Everything that knows Honeycomb: its API, its responses, its queries and boards.

pub mod api_key;
pub mod auth;
pub mod batch;
pub mod board;
pub mod client;
pub mod dataset_link;
pub mod delivery;
pub mod endpoint;
pub mod later;
pub mod lookup;
pub mod poison;
pub mod problem;
pub mod proxy;
pub mod queries;
pub mod reserved;
pub mod response;
pub mod selection;
pub mod sender;
pub mod status;
pub mod urls;

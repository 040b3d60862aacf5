//! Asks Honeycomb where its UI shows the dataset. Nothing depends on it, so no failure is told.

use std::time::Duration;

use crate::config::Destination;
use crate::honeycomb::auth::{self, Auth};
use crate::honeycomb::client::Api;
use crate::honeycomb::dataset_link::DatasetUrl;

/// In the background there is no hurry.
const PATIENCE: Duration = Duration::from_secs(10);

/// `None` also where the UI's address is not known: then nobody is asked.
pub fn find(api: &Api, destination: &Destination, limit: Duration) -> Option<DatasetUrl> {
    let ui = destination.ui.as_deref()?;
    let answer = api.get(auth::PATH, limit).ok().filter(|answer| answer.status == 200)?;
    DatasetUrl::of(ui, &Auth::read(&answer.body)?, &destination.dataset)
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

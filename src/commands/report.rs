//! `--once`: polls Tilt once, records what it shows, sends the queue, and reports the result by
//! its exit code.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::stop;
use crate::commands::trace_link::{LINK_TIMEOUT, StartTrace};
use crate::config::ReportConfig;
use crate::events::common_fields::Context;
use crate::events::observation::Observation;
use crate::events::session_id::session_id;
use crate::exit_code::Exit;
use crate::honeycomb::dataset_link;
use crate::honeycomb::delivery::{Delivery, DeliveryEnd};
use crate::honeycomb::endpoint::Destination;
use crate::honeycomb::sender::Sender;
use crate::messages;
use crate::metadata::git;
use crate::spool::error::StoreError;
use crate::spool::installation;
use crate::spool::reconcile::reconcile;
use crate::spool::state::Recorded;
use crate::spool::store::Store;
use crate::tilt::client::Tilt;
use crate::tilt::model::Snapshot;

/// Reports once. Events from earlier runs are sent even if no Tilt is running. `stuck` is the exit code
/// of a run that a signal cannot end.
pub fn run(config: &ReportConfig, stuck: Exit) -> Exit {
    let mut sender = config.send.sender();
    let Some(context) = with_installation_id(&config.context, &config.send.state_dir) else {
        return Exit::Unexpected;
    };
    let shutdown = stop::on_signals(sender.client().api().interrupter(), stuck);

    let mut tilt = Tilt::new(config.tilt.clone(), context.tilt_mode);
    let polled = record(&mut tilt, &context, config.heartbeat_fold, sender.store(), &shutdown);
    let delivered = match sender.deliver(config.send.timeout, &shutdown) {
        Ok(delivery) => {
            if polled.is_ok() || !delivery.sent.is_empty() {
                log_delivered(&delivery);
            }
            exit_of(&delivery, config.send.timeout)
        }
        Err(error) => unusable_state(&error),
    };
    match polled {
        Ok(trace) => {
            if delivered == Exit::Done && is_watched_by_a_person() {
                log_link(trace.as_ref(), &sender, &config.send.destination);
            }
            delivered
        }
        // A failed poll matters more than how the older events were sent.
        Err(exit) => exit,
    }
}

/// Logs the address of the trace, or of the dataset if no event is in the trace of the start. Logs nothing
/// if Honeycomb does not tell the address.
fn log_link(trace: Option<&StartTrace>, sender: &Sender, destination: &Destination) {
    let dataset = dataset_link::find(sender.client().api(), destination, LINK_TIMEOUT);
    if let Some(dataset) = dataset {
        let link = trace.map_or(dataset.dataset().to_owned(), |trace| trace.link(&dataset));
        log::info!("view in Honeycomb: {link}");
    }
}

/// cron and CI get no link, and Honeycomb gets no request for one.
fn is_watched_by_a_person() -> bool {
    io::stderr().is_terminal() && log::log_enabled!(log::Level::Info)
}

/// Polls Tilt. Logs why if that fails.
pub fn poll(tilt: &mut Tilt, shutdown: &Shutdown) -> Result<Snapshot, Exit> {
    tilt.poll(Duration::MAX, shutdown).map_err(|error| {
        log::error!("{error}");
        Exit::of_failed_poll(&error)
    })
}

/// Records what Tilt shows. Returns the trace of its start, if it has events.
fn record(
    tilt: &mut Tilt,
    context: &Context,
    heartbeat_fold: u32,
    store: &Store,
    shutdown: &Shutdown,
) -> Result<Option<StartTrace>, Exit> {
    let snapshot = poll(tilt, shutdown)?;
    let context = git::with_checkout(context, snapshot.session.as_ref());
    let observation = Observation { heartbeat_fold, ..Observation::at(&snapshot) };
    let updated = store.update(time::wall, |state, now| {
        let recorded = reconcile(state, &observation, &context, now);
        let tracker = state.tracker(&session_id(&observation));
        (recorded, StartTrace::of(&observation, &tracker, now))
    });
    let (recorded, trace) = updated.map_err(|error| unusable_state(&error))?;
    log_dropped(recorded);
    Ok(trace)
}

/// The context with this machine's id, which is created if needed. Logs why if that fails.
pub fn with_installation_id(context: &Context, state_dir: &Path) -> Option<Context> {
    match installation::load_or_create(state_dir) {
        Ok(id) => Some(Context { installation_id: Some(id), ..context.clone() }),
        Err(error) => {
            log::error!("{error}");
            None
        }
    }
}

pub fn log_delivered(delivery: &Delivery) {
    let Delivery { sent, took, waiting, .. } = delivery;
    log::info!("{}", messages::delivered(sent, *took, *waiting));
}

pub fn log_dropped(recorded: Recorded) {
    if let Some(dropped) = messages::dropped(recorded.dropped) {
        log::warn!("{dropped}");
    }
}

pub fn unusable_state(error: &StoreError) -> Exit {
    log::error!("{error}");
    Exit::Unexpected
}

/// The exit code of a delivery. Logs why events stay queued, if any do.
pub fn exit_of(delivery: &Delivery, timeout: Duration) -> Exit {
    let kept = messages::kept(delivery.waiting);
    match &delivery.end {
        DeliveryEnd::Empty if delivery.rejected > 0 => return Exit::Rejected,
        DeliveryEnd::Empty => return Exit::Done,
        DeliveryEnd::Refused { advice } => {
            log::error!("{advice}; {kept}");
            return Exit::Rejected;
        }
        DeliveryEnd::Kept(failure) => log::error!("{}; {kept}", failure.reason),
        DeliveryEnd::OutOfTime => {
            log::error!("{}", messages::out_of_time(timeout, &delivery.sent, delivery.waiting));
        }
        DeliveryEnd::Busy => log::error!("another collector is sending; {kept}"),
        DeliveryEnd::Stopped => log::error!("stopped by a signal; {kept}"),
    }
    Exit::NotDelivered
}

//! `--once`: look, remember, send, and say by the exit code how it went.

use std::thread;
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::events::common_fields::Context;
use crate::events::observation::Observation;
use crate::exit_code::Exit;
use crate::honeycomb::sender::{Delivery, DeliveryEnd, Sender};
use crate::messages;
use crate::metadata::git;
use crate::spool::error::StoreError;
use crate::spool::reconcile::reconcile;
use crate::spool::state::Recorded;
use crate::spool::store::Store;
use crate::tilt::client::Tilt;

/// How long the answer to a request under way may still take when a report is asked to end: events
/// whose answer is not heard go out again.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Reports once. What waited from before is sent even where no Tilt runs.
pub fn report(
    tilt: &mut Tilt,
    context: &Context,
    store: &Store,
    sender: &mut Sender,
    timeout: Duration,
    shutdown: &Shutdown,
) -> Exit {
    let looked = observation(tilt, context, store, shutdown);
    let delivered = match sender.deliver(timeout, shutdown) {
        Ok(delivery) => {
            if looked.is_ok() || !delivery.sent.is_empty() {
                say_delivered(&delivery);
            }
            outcome(&delivery)
        }
        Err(error) => unusable_state(&error),
    };
    // That there was nothing to look at matters more than how the rest was sent.
    looked.err().unwrap_or(delivered)
}

fn observation(
    tilt: &mut Tilt,
    context: &Context,
    store: &Store,
    shutdown: &Shutdown,
) -> Result<(), Exit> {
    let snapshot = tilt.poll(Duration::MAX, shutdown).map_err(|error| {
        log::error!("{error}");
        Exit::no_snapshot(&error)
    })?;
    let context = git::located(context, snapshot.session.as_ref());
    let recorded = store
        .update(|state| reconcile(state, &Observation::at(&snapshot), &context, time::wall()))
        .map_err(|error| unusable_state(&error))?;
    say_dropped(recorded);
    Ok(())
}

/// Has `interrupt` end a request whose answer does not come soon.
#[expect(clippy::disallowed_methods, reason = "the report waits for the answer, not for this")]
pub fn interrupt_soon(interrupt: impl FnOnce() + Send + 'static) {
    log::debug!("asked to end");
    let waiting = thread::Builder::new().name("last answer".into()).spawn(|| {
        thread::sleep(LAST_ANSWER);
        interrupt();
    });
    // Without a thread the request has its own limit, and a second signal ends the program.
    drop(waiting);
}

pub fn say_delivered(delivery: &Delivery) {
    let Delivery { sent, took, waiting, .. } = delivery;
    log::info!("{}", messages::delivered(sent, *took, *waiting));
}

pub fn say_dropped(recorded: Recorded) {
    if let Some(dropped) = messages::dropped(recorded.dropped) {
        log::warn!("{dropped}");
    }
}

pub fn unusable_state(error: &StoreError) -> Exit {
    log::error!("{error}");
    Exit::Unexpected
}

pub fn outcome(delivery: &Delivery) -> Exit {
    match &delivery.end {
        DeliveryEnd::Empty if delivery.rejected > 0 => Exit::Refused,
        DeliveryEnd::Empty => Exit::Done,
        DeliveryEnd::Refused { advice } => {
            log::error!("{advice}; {}", messages::kept(delivery.waiting));
            Exit::Refused
        }
        DeliveryEnd::Kept { why, .. } => {
            log::error!("{why}; {}", messages::kept(delivery.waiting));
            Exit::NotDelivered
        }
        DeliveryEnd::OutOfTime => {
            log::error!("the time was up; {}", messages::kept(delivery.waiting));
            Exit::NotDelivered
        }
        DeliveryEnd::Busy => {
            log::error!("another collector is sending; {}", messages::kept(delivery.waiting));
            Exit::NotDelivered
        }
        DeliveryEnd::Stopped => {
            log::error!("stopped; {}", messages::kept(delivery.waiting));
            Exit::NotDelivered
        }
    }
}

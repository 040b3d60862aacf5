//! `--flush`: sends the queue without polling Tilt.

use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::progress_line::ProgressLine;
use crate::commands::report::{exit_of, log_delivered, unusable_state};
use crate::commands::stop;
use crate::config::SendConfig;
use crate::exit_code::Exit;
use crate::honeycomb::delivery::Delivery;
use crate::honeycomb::sender::Sender;
use crate::spool::error::StoreError;
use crate::spool::state::State;

/// Sends the queue for as long as batches succeed. `stuck` is the exit code of a run that a signal cannot
/// end.
pub fn run(config: &SendConfig, stuck: Exit) -> Exit {
    let mut sender = config.sender();
    let shutdown = stop::on_signals(sender.client().api().interrupter(), stuck);
    let delivered = end_left_sessions(&sender).and_then(|queued| {
        let line = ProgressLine::new(queued);
        let delivered = sender.deliver_all(config.timeout, &shutdown, &|sent| line.show(sent));
        line.clear();
        delivered
    });
    report(delivered, config.timeout)
}

/// Sends the queue for at most `limit`, including the provisional events of sessions whose collector has
/// ended.
pub fn flush(sender: &mut Sender, limit: Duration, shutdown: &Shutdown) -> Exit {
    let delivered = end_left_sessions(sender).and_then(|_| sender.deliver(limit, shutdown));
    report(delivered, limit)
}

/// Queues the provisional events of sessions whose collector has ended. Returns the length of the queue.
fn end_left_sessions(sender: &Sender) -> Result<usize, StoreError> {
    sender.store().update(time::wall, State::end_left_sessions)?;
    sender.store().queue_length()
}

fn report(delivered: Result<Delivery, StoreError>, limit: Duration) -> Exit {
    match delivered {
        Ok(delivery) => {
            let exit = exit_of(&delivery, limit);
            log_delivered(&delivery);
            exit
        }
        Err(error) => unusable_state(&error),
    }
}

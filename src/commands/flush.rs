//! `--flush`: sends the queue without polling Tilt.

use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::commands::report::{exit_of, log_delivered, unusable_state};
use crate::commands::stop;
use crate::config::SendConfig;
use crate::exit_code::Exit;
use crate::honeycomb::sender::Sender;

/// Sends the queue. `stuck` is the exit code of a run that a signal cannot end.
pub fn run(config: &SendConfig, stuck: Exit) -> Exit {
    let mut sender = config.sender();
    let shutdown = stop::on_signals(sender.client().api().interrupter(), stuck);
    flush(&mut sender, config.timeout, &shutdown)
}

/// Sends the queue, including the provisional events of sessions whose collector has ended.
pub fn flush(sender: &mut Sender, limit: Duration, shutdown: &Shutdown) -> Exit {
    let now = time::wall();
    let delivered = sender
        .store()
        .update(now, |state| state.end_left_sessions(now))
        .and_then(|()| sender.deliver(limit, shutdown));
    match delivered {
        Ok(delivery) => {
            let exit = exit_of(&delivery, limit);
            log_delivered(&delivery);
            exit
        }
        Err(error) => unusable_state(&error),
    }
}

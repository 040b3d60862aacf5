//! `--flush`: sends the queue without polling Tilt.

use std::io;
use std::time::Duration;

use crate::base::shutdown::{self, Shutdown};
use crate::base::time;
use crate::commands::report::{exit_of, interrupt_soon, log_delivered, unusable_state};
use crate::config::SendConfig;
use crate::exit_code::Exit;
use crate::honeycomb::sender::Sender;

pub fn run(config: &SendConfig) -> io::Result<Exit> {
    let mut sender = config.sender();
    let shutdown = Shutdown::default();
    shutdown::on_signals(&shutdown, interrupt_soon(sender.client().api().interrupter()))?;
    Ok(flush(&mut sender, config.timeout, &shutdown))
}

/// Sends the queue, including the provisional events of sessions whose collector has ended.
pub fn flush(sender: &mut Sender, limit: Duration, shutdown: &Shutdown) -> Exit {
    let delivered = sender
        .store()
        .update(|state| state.end_left_sessions(time::wall()))
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

//! Threads that poll Tilt and send to Honeycomb, and the messages that reach the event loop.
//!
//! Polling and sending can take seconds. In threads of their own, they hold up neither each other
//! nor the event loop.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use crate::base::shutdown::Shutdown;
use crate::base::time;
use crate::honeycomb::delivery::Delivery;
use crate::spool::error::StoreError;
use crate::tilt::error::TiltError;
use crate::tilt::model::Snapshot;
use crate::tilt::watch::{WatchEvent, WatchTarget};

/// A message to the event loop.
#[derive(Debug)]
pub(super) enum Message {
    /// A signal asks the process to exit.
    Shutdown,
    Watched(WatchTarget, WatchEvent),
    Polled(Box<Result<Snapshot, TiltError>>),
    Delivered(Result<Delivery, StoreError>),
}

/// One piece of work for a [`Worker`].
struct Task {
    /// Wait before the work starts. A shutdown request ends the wait.
    delay: Duration,
    time_limit: Duration,
    shutdown: Shutdown,
}

/// A thread that does one kind of work, one task at a time. Each task ends with one message.
pub(super) struct Worker {
    tasks: mpsc::Sender<Task>,
    busy: bool,
}

impl Worker {
    /// Starts the thread `name`. It calls `work` with the time limit of each task and sends the
    /// result to `messages`. Fails if the system allows no more threads.
    pub(super) fn start(
        name: &str,
        messages: SyncSender<Message>,
        mut work: impl FnMut(Duration, &Shutdown) -> Message + Send + 'static,
    ) -> io::Result<Self> {
        let (tasks, queue) = mpsc::channel::<Task>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for Task { delay, time_limit, shutdown } in queue {
                shutdown.wait_until(time::now() + delay);
                if messages.send(work(time_limit, &shutdown)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { tasks, busy: false })
    }

    /// Starts a task that takes at most `time_limit`, or queues it behind the current one.
    pub(super) fn start_work(&mut self, time_limit: Duration, shutdown: &Shutdown) {
        self.start_work_after(Duration::ZERO, time_limit, shutdown);
    }

    /// Like [`Worker::start_work`], but the task starts after `delay`.
    pub(super) fn start_work_after(
        &mut self,
        delay: Duration,
        time_limit: Duration,
        shutdown: &Shutdown,
    ) {
        self.busy = true;
        // The thread lives as long as the process, so it always receives the task.
        let _ = self.tasks.send(Task { delay, time_limit, shutdown: shutdown.clone() });
    }

    /// True while a task runs, or until its message was handled.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Must be called when the event loop handles the message of a task.
    pub(super) fn finish(&mut self) {
        self.busy = false;
    }
}

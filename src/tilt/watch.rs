//! A running `tilt get --watch`, which reports each object as it changes.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::base::child::ProcessGroup;
use crate::tilt::command::TiltCommand;
use crate::tilt::error::{TiltError, quote};
use crate::tilt::kinds::ObjectKind;
use crate::tilt::model::{ImageKind, Snapshot};
use crate::tilt::process::{self, OutputPipe, StartedTilt, TiltProcess, in_background, read_head};
use crate::tilt::watch_reader::WatchReader;

/// How long the last text on stderr may take to arrive after a watch has ended.
const STDERR_TIMEOUT: Duration = Duration::from_millis(500);

/// The kind of objects that one watch follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchTarget {
    Resources,
    Images(ImageKind),
    /// The cluster that Tilt deploys to.
    Cluster,
}

impl WatchTarget {
    /// Every target. The watch of the resources comes first.
    pub const ALL: [Self; 4] = [
        Self::Resources,
        Self::Images(ImageKind::Docker),
        Self::Images(ImageKind::Cmd),
        Self::Cluster,
    ];

    /// The position in [`WatchTarget::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Resources => 0,
            Self::Images(ImageKind::Docker) => 1,
            Self::Images(ImageKind::Cmd) => 2,
            Self::Cluster => 3,
        }
    }

    fn kind(self) -> ObjectKind {
        match self {
            Self::Resources => ObjectKind::UiResources,
            Self::Images(ImageKind::Docker) => ObjectKind::DockerImages,
            Self::Images(ImageKind::Cmd) => ObjectKind::CmdImages,
            Self::Cluster => ObjectKind::Clusters,
        }
    }
}

/// A change that a watch reports.
#[derive(Debug)]
pub enum WatchEvent {
    /// A snapshot of one object that changed, or that existed when the watch began.
    Shown(Box<Snapshot>),
    /// The watch ended, for the reason in this text. It is the last event.
    Ended(String),
}

/// A watch. It runs until it is dropped or Tilt ends it.
#[derive(Debug)]
pub struct Watch {
    process: TiltProcess,
}

impl Watch {
    /// Starts to watch one kind of objects.
    ///
    /// A thread of the watch calls `on_event` for each event. If `on_event` returns false, the
    /// watch ends. Fails if `tilt` cannot be started.
    pub fn start(
        command: &TiltCommand,
        target: WatchTarget,
        on_event: impl FnMut(WatchEvent) -> bool + Send + 'static,
    ) -> Result<Self, TiltError> {
        let arguments = command.arguments(&["get", target.kind().name(), "--watch", "-o", "json"]);
        let StartedTilt { stdout, stderr, process } =
            process::spawn(command, arguments, ProcessGroup::Shared)?;
        let watched = process.clone();
        let threads = in_background(move || read_head(stderr)).and_then(|stderr| {
            let follow = move || follow(stdout, &stderr, &watched, on_event);
            std::thread::Builder::new().name("tilt watch".into()).spawn(follow)
        });
        threads.inspect_err(|_| process.end())?;
        Ok(Self { process })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread sees the pipe close and waits for the process.
        self.process.kill();
    }
}

fn follow(
    mut stdout: OutputPipe,
    stderr: &Receiver<io::Result<Vec<u8>>>,
    process: &TiltProcess,
    mut on_event: impl FnMut(WatchEvent) -> bool,
) {
    let mut objects = WatchReader::default();
    // An error of the pipe ends the watch like any other end.
    let _ = stdout.each_chunk(|bytes| {
        let mut wants_more = true;
        objects.feed(bytes, |object| {
            let mut changed = Snapshot::default();
            if changed.add(object) {
                wants_more = wants_more && on_event(WatchEvent::Shown(Box::new(changed)));
            } else {
                log::debug!("skipped a watched object of an unknown shape");
            }
        });
        wants_more
    });
    process.kill();
    let status = process.wait_after_kill();
    let status = status.map_or("it hangs".to_owned(), |status| status.to_string());
    let stderr = stderr.recv_timeout(STDERR_TIMEOUT).ok().and_then(Result::ok).unwrap_or_default();
    let error = String::from_utf8_lossy(&stderr).lines().next().map(quote);
    on_event(WatchEvent::Ended(error.unwrap_or(status)));
}

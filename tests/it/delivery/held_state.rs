//! A response that cannot be recorded at once is recorded later, so that no event is sent twice.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fakes::honeycomb::{Answer, Server};

use crate::support::{RECORDED_EVENTS, Sandbox, builds, eventually, recorded_builds};

/// Longer than any single rename is tried again.
const HELD_FOR: Duration = Duration::from_secs(3);

#[cfg(unix)]
mod hold {
    use std::fs;
    use std::path::PathBuf;

    use crate::support::{Sandbox, swap_paths};

    /// Keeps everyone from changing the state until it is dropped: a file replaces its folder, so not
    /// even root can write there.
    pub struct HeldState(PathBuf, PathBuf);

    impl HeldState {
        pub fn of(sandbox: &Sandbox) -> Self {
            let held = Self(sandbox.state_dir(), sandbox.path("aside"));
            fs::write(&held.1, "").expect("a file");
            swap_paths(&held.0, &held.1);
            held
        }
    }

    impl Drop for HeldState {
        fn drop(&mut self) {
            swap_paths(&self.0, &self.1);
        }
    }
}

#[cfg(windows)]
mod hold {
    use std::fs::{File, OpenOptions};
    use std::os::windows::fs::OpenOptionsExt;
    use std::path::Path;

    use crate::support::Sandbox;

    /// `FILE_SHARE_READ | FILE_SHARE_WRITE`: what virus scanners and the C library's `fopen` share.
    const READ_AND_WRITE: u32 = 3;

    /// Keeps everyone from renaming or removing the files of the state until it is dropped.
    pub struct HeldState(#[expect(dead_code, reason = "it only has to be open")] Vec<File>);

    impl HeldState {
        pub fn of(sandbox: &Sandbox) -> Self {
            let open =
                |path| OpenOptions::new().read(true).share_mode(READ_AND_WRITE).open(path).ok();
            let files = [vec![sandbox.state_file()], sandbox.queue_files()].concat();
            Self(files.into_iter().filter_map(open).collect())
        }
    }

    /// Keeps everyone from opening a file until the result is dropped.
    pub fn unshared(path: &Path) -> File {
        OpenOptions::new().read(true).share_mode(0).open(path).expect("a free file")
    }
}

/// Makes the server hold the state while it answers the first batch, and for a while after that.
fn hold_at_first_batch(sandbox: &Arc<Sandbox>, server: &Server) {
    let sandbox = Arc::clone(sandbox);
    server.then([Answer::By(Arc::new(move |_| {
        let held = hold::HeldState::of(&sandbox);
        thread::spawn(move || {
            thread::sleep(HELD_FOR);
            drop(held);
        });
        Answer::Accept
    }))]);
}

#[test]
fn a_report_records_the_response_once_the_state_is_free() {
    let (sandbox, server) = (Arc::new(Sandbox::new()), Server::start());
    sandbox.queue_report(&server);
    hold_at_first_batch(&sandbox, &server);
    sandbox.run("--flush --timeout 1m").sending_to(&server).finish().exits_with(0);
    assert_eq!(server.accepted().len(), RECORDED_EVENTS);
    assert_eq!(sandbox.queued(), 0);
}

#[test]
fn a_sidecar_records_the_response_once_the_state_is_free() {
    let (sandbox, server) = (Arc::new(Sandbox::new()), Server::start());
    sandbox.queue_report(&server);
    hold_at_first_batch(&sandbox, &server);
    let sidecar = sandbox.sidecar_to(&server).args(&["--timeout", "1m"]).start();
    sidecar.says("sent ");
    assert_eq!(builds(&server.accepted()), recorded_builds());
    eventually("an empty queue", || sandbox.queued() == 0);
}

#[test]
#[cfg(windows)]
fn a_file_that_is_not_shared_for_a_second_delays_a_report() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let named = ["lock", "sending", "state.ndjson"].map(|name| sandbox.destination().join(name));
    let id = sandbox.state_dir().join("installation-id");
    for file in [&named[..], &sandbox.queue_files(), &[id]].concat() {
        let held = hold::unshared(&file);
        let report = sandbox.report_to(&server).start();
        thread::sleep(Duration::from_secs(1));
        drop(held);
        report.finish().exits_with(0).says_nothing();
    }
    assert_eq!(builds(&server.accepted()), recorded_builds());
}

#[test]
#[cfg(windows)]
fn an_installation_id_that_cannot_be_read_is_not_replaced() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    sandbox.report_to(&server).finish().exits_with(0);
    let path = sandbox.state_dir().join("installation-id");
    let id = std::fs::read_to_string(&path).expect("an id");
    let held = hold::unshared(&path);
    sandbox.report_to(&server).finish().exits_with(1).says("cannot read");
    drop(held);
    assert_eq!(std::fs::read_to_string(&path).expect("an id"), id);
}

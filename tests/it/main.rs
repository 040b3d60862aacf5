//! What the README promises, checked on the built program: in an environment of its own, with a
//! stand-in `tilt` on its PATH that answers what a real one was recorded to say, and a stand-in
//! for Honeycomb on loopback.

#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "tests have deadlines, and look until they pass")]
#![expect(unreachable_pub, reason = "modules that are shared with the stand-ins")]

mod api;
#[path = "../stand_in/honeycomb.rs"]
mod honeycomb;
#[cfg(target_os = "linux")]
#[path = "../stand_in/machine.rs"]
mod machine;
mod sandbox;
mod schema;
#[path = "../stand_in/storm.rs"]
mod storm;
#[path = "../stand_in/tls.rs"]
mod tls;

mod board;
mod check;
mod checkout;
mod ci;
mod cli;
#[cfg(target_os = "linux")]
mod clock;
mod delivery;
mod durability;
mod events;
mod failures;
mod faults;
mod histories;
mod install;
mod live;
mod older;
mod once;
mod properties;
mod real_tilt;
mod secrets;
mod sidecar;
mod signals;
mod stand_in;
#[cfg(target_os = "linux")]
mod steps;
mod tidy;
mod tilt;
#[cfg(target_os = "linux")]
mod torture;

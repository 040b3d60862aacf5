//! Everything that survives a restart: what was reported of each session, and the events that wait
//! for delivery.
//!
//! [`reconcile`] takes an observation into the [`state`], and [`store`] keeps the state on disk.

pub mod codec;
pub mod error;
pub mod files;
pub mod installation;
pub mod queue;
pub mod reconcile;
pub mod session;
pub mod state;
pub mod store;

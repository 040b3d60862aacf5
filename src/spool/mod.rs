//! Everything that survives a restart: what was reported of each session, and the events that wait
//! for delivery.
//!
//! [`reconcile`] takes an observation into the [`state`], and [`store`] keeps the state on disk.

pub mod checksum;
pub mod clock;
pub mod codec;
pub mod delivery_record;
pub mod error;
pub mod files;
pub mod installation;
pub mod journal;
pub mod positions;
pub mod queue;
pub mod reconcile;
pub mod segment;
pub mod segment_file;
pub mod session;
pub mod state;
pub mod store;

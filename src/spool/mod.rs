//! Everything that survives a restart: the state and the queue.

pub mod reconcile;
pub mod state;
pub mod store;

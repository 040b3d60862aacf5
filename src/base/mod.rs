//! Time, processes, signals, ids and text. Nothing here knows Tilt or Honeycomb.

pub mod backoff;
pub mod child;
pub mod ids;
pub mod limits;
pub mod nearest;
pub mod parent_process;
pub mod process_tree;
pub mod retry_start;
pub mod shutdown;
pub mod terminal;
pub mod text;
pub mod time;

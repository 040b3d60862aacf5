//! Finds the events that make a server reject every request that contains them. Pure.
//!
//! A server may answer 400 or 413 to a whole batch because of one event. The sender halves the
//! batch until that event is alone, and sets it aside here. It is dropped only after the server
//! accepted another event: a server that rejects everything proves nothing about one event.

use crate::honeycomb::response::EventResult;
use crate::spool::queue::QueuedEvent;

/// Events that the server rejects (400 or 413) even when they are sent alone.
#[derive(Debug, Default)]
pub struct PoisonSuspects {
    /// They are at the front of the queue.
    seqs: Vec<u64>,
    /// The server has accepted other events since, so the suspects are at fault.
    is_confirmed: bool,
}

impl PoisonSuspects {
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    pub fn seqs(&self) -> &[u64] {
        &self.seqs
    }

    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// The events to send next: all others. Until the suspects are confirmed, only the newest
    /// event, which has the least in common with them.
    pub fn remaining<'a>(&self, queue: &'a [QueuedEvent]) -> &'a [QueuedEvent] {
        let is_suspect = |event: &&QueuedEvent| self.seqs.contains(&event.seq);
        let others = &queue[queue.iter().take_while(is_suspect).count()..];
        if self.seqs.is_empty() || self.is_confirmed {
            others
        } else {
            &others[others.len().saturating_sub(1)..]
        }
    }

    /// Adds a suspect. False if the server seems to reject everything.
    pub fn add(&mut self, seq: u64) -> bool {
        self.seqs.push(seq);
        self.is_confirmed || self.seqs.len() == 1
    }

    /// Confirms the suspects if the server accepted another event. True the first time.
    pub fn confirm(&mut self, results: &[EventResult]) -> bool {
        let accepted = !self.seqs.is_empty() && results.contains(&EventResult::Accepted);
        accepted && !std::mem::replace(&mut self.is_confirmed, true)
    }
}

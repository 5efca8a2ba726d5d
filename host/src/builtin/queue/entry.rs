//! One event in one queue.

use crate::broker::driver::{Incoming, Token};
use crate::broker::{Event, Qos, Topic};
use crate::builtin::storage::Stored;
use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

/// One event in one queue.
#[derive(Clone)]
pub(in crate::builtin) struct Entry {
    /// Its number in the sequence of the broker.
    pub(in crate::builtin) number: u64,
    pub(in crate::builtin) event: Arc<Event>,
    pub(in crate::builtin) topic: Topic,
    /// The quality of service that the queue has it with.
    pub(in crate::builtin) qos: Qos,
    pub(in crate::builtin) attempt: u32,
    /// In bytes.
    pub(in crate::builtin) size: usize,
    /// Whether it counts against the bounds of its queue.
    pub(in crate::builtin) is_counted: bool,
    /// The attempt that the storage has as open; 0: none.
    pub(in crate::builtin) kept: Cell<u32>,
}

impl Entry {
    pub(in crate::builtin) fn new(
        number: u64,
        topic: Topic,
        event: Arc<Event>,
        size: usize,
        qos: Qos,
    ) -> Self {
        Self { number, event, topic, qos, attempt: 1, size, is_counted: false, kept: Cell::new(0) }
    }

    pub(in crate::builtin) fn stored(stored: Stored, qos: Qos) -> Self {
        let size = stored.event.size();
        Self::new(stored.number, stored.topic, stored.event, size, stored.qos.min(qos))
    }

    /// How a member gets it that asked for no more than `qos`.
    pub(in crate::builtin) fn incoming(&self, token: Token, qos: Qos) -> Incoming {
        Incoming {
            token,
            event: self.event.clone(),
            topic: self.topic.clone(),
            qos: self.qos.min(qos),
            attempt: Some(self.attempt),
            number: Some(self.number),
        }
    }
}

/// An entry that is held back; the greatest is due first.
pub(in crate::builtin) struct Delayed {
    pub(in crate::builtin) due: Instant,
    pub(in crate::builtin) entry: Entry,
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.entry.number).cmp(&(self.due, self.entry.number))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

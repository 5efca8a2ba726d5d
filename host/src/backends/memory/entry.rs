//! One event in one queue.

use crate::broker::driver::{Incoming, Token};
use crate::broker::{Event, Qos, Topic};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

/// One event in one queue.
pub(super) struct Entry {
    /// The order of publishing, over all topics.
    pub(super) number: u64,
    pub(super) event: Arc<Event>,
    pub(super) topic: Topic,
    pub(super) qos: Qos,
    pub(super) attempt: u32,
    /// In bytes.
    pub(super) size: usize,
}

impl Entry {
    pub(super) fn new(
        number: u64,
        topic: &Topic,
        event: Arc<Event>,
        size: usize,
        qos: Qos,
    ) -> Self {
        Self { number, event, topic: topic.clone(), qos, attempt: 1, size }
    }

    /// How a member gets it that asked for no more than `qos`.
    pub(super) fn incoming(&self, token: Token, qos: Qos) -> Incoming {
        Incoming {
            token,
            event: self.event.clone(),
            topic: self.topic.clone(),
            qos: self.qos.min(qos),
            attempt: Some(self.attempt),
        }
    }
}

/// An entry that is held back; the greatest is due first.
pub(super) struct Delayed {
    pub(super) due: Instant,
    pub(super) entry: Entry,
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

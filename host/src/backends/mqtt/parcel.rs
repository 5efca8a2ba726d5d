//! A packet that has arrived, read, and what tells it from others.

use crate::broker::{Event, Qos, Topic};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A packet that has arrived, read.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// The packet identifier; 0 at qos 0.
    pub(super) id: u16,
    pub(super) qos: Qos,
    /// The broker says that it has sent this before.
    pub(super) dup: bool,
    pub(super) topic: Topic,
    pub(super) event: Event,
    /// The event's `source` and `id` are its publisher's; otherwise they were
    /// made up here, and differ each time.
    pub(super) identified: bool,
}

/// What to do with a packet that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is a new delivery: `Inbox::push` it.
    New,
    /// It is one already, or is not wanted: nothing is to be done.
    Known,
    /// There is no room for it: it has to wait.
    Full,
    /// There is no room for it, and it is to be dropped.
    Shed,
}

impl Parcel {
    /// What it counts against a limit of bytes.
    pub(super) fn bytes(&self) -> usize {
        self.event.size() + self.topic.as_str().len()
    }
}

/// Tells an event by what its publisher called it.
pub(super) fn identity(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.identity().hash(&mut hasher);
    hasher.finish()
}

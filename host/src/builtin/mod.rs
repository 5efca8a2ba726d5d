//! The built-in broker: topics, subscriptions and subscribers, over a storage.
//!
//! `pubsub.memory` and `pubsub.disk` are this broker with different storages.

pub mod storage;

use crate::broker::{Event, Qos, Topic};
use std::sync::Arc;

/// An event on its way into a storage, with the subscriptions that want it.
pub struct Publication {
    /// The topic.
    pub topic: Topic,
    /// The event.
    pub event: Arc<Event>,
    /// Its size in bytes, as [`Event::size`] counts them.
    pub size: usize,
    /// The quality of service.
    pub qos: Qos,
    /// Who publishes it.
    pub from: Option<Arc<str>>,
    /// When. A storage makes it no earlier than that of the number before.
    pub time: std::time::SystemTime,
    /// What it is known by where it must not be published a second time, and
    /// until when: to be kept beside it.
    pub once: Option<(u128, std::time::SystemTime)>,
    /// Whether somebody wants it to be kept: a subscription where the storage
    /// holds the backlog, retention or a snapshot. It is delivered in any case.
    pub is_kept: bool,
    /// Whether it may have the room that is reserved for dead letters.
    pub is_dead_letter: bool,
}

impl Publication {
    /// Delivers it to the subscriptions that want it. To be called once, by the
    /// storage, when it is kept; in the order of the numbers where the storage
    /// holds the backlog.
    pub fn deliver(self, _number: u64) -> Notices {
        Notices(())
    }
}

/// Who has to be told that there is something to take.
#[must_use = "subscribers wait for it"]
pub struct Notices(());

impl Notices {
    /// Tells them. To be called without any lock.
    pub fn send(self) {}
}

//! An event on its way into a storage and to its subscriptions.

use super::once::Claim;
use super::queue::{Entry, Queue, Told, tell};
use crate::broker::driver::RecordChange;
use crate::broker::{Event, Qos, Topic};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::SystemTime;

/// An event on its way into a storage, with the subscriptions that want it.
///
/// Dropped without having been [delivered](Self::deliver), it gives back the room
/// that it has in them.
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
    pub time: SystemTime,
    /// What it is known by where it must not be published a second time, and
    /// until when: to be kept beside it.
    pub once: Option<(u128, SystemTime)>,
    /// What is to be changed with it in the records of the storage.
    pub records: Vec<RecordChange>,
    /// Whether somebody wants it to be kept: a subscription where the storage
    /// holds the backlog, retention or a snapshot. It is delivered in any case.
    pub is_kept: bool,
    /// Whether it may have the room that is reserved for dead letters.
    pub is_dead_letter: bool,
    pub(super) routes: Routed,
    pub(super) claim: Option<Claim>,
}

/// What is offered to a queue.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) size: usize,
    pub(super) qos: Qos,
    pub(super) from: Option<&'a str>,
    pub(super) is_dead_letter: bool,
}

/// What one queue answers to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Room is reserved: the event must be put in, or the room given back.
    Reserved,
    /// Put it in; it is dropped if there is no room.
    Unreserved,
    /// The queue does not want it.
    Unwanted,
    /// There is no room. The number changes when some was made.
    Full(u64),
}

/// The queues that take an event. There is mostly one.
pub(super) type Routed = SmallVec<[(Arc<Queue>, Admission); 1]>;

impl Publication {
    /// One that no subscription wants and that is to be kept: for who fills or
    /// tries a storage.
    #[must_use]
    pub fn unrouted(topic: Topic, event: Arc<Event>, qos: Qos, time: SystemTime) -> Self {
        Self {
            size: event.size(),
            topic,
            event,
            qos,
            from: None,
            time,
            once: None,
            records: Vec::new(),
            is_kept: true,
            is_dead_letter: false,
            routes: Routed::new(),
            claim: None,
        }
    }

    /// Delivers it to the subscriptions that want it. To be called once, by the
    /// storage, when it is kept; in the order of the numbers where the storage
    /// holds the backlog and the quality of service is not 0.
    pub fn deliver(mut self, number: u64) -> Notices {
        let mut told = Told::new();
        for (queue, admission) in std::mem::take(&mut self.routes) {
            let (topic, event) = (self.topic.clone(), self.event.clone());
            let entry = Entry::new(number, topic, event, self.size, self.qos);
            queue.put(entry, admission, &mut told);
        }
        if let Some(claim) = self.claim.take() {
            claim.keep();
        }
        Notices(told)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        for (queue, admission) in std::mem::take(&mut self.routes) {
            if admission == Admission::Reserved {
                queue.release(self.size);
            }
        }
    }
}

/// Who has to be told that there is something to take.
#[must_use = "subscribers wait for it"]
#[derive(Default)]
pub struct Notices(Told);

impl Notices {
    /// Tells them. To be called without any lock.
    pub fn send(self) {
        tell(&self.0);
    }
}

//! Who takes events from a queue.

use crate::broker::driver::{Ready, SubscribeRequest};
use crate::broker::{Qos, Share};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One open source of a queue.
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) label: String,
    pub(super) qos: Qos,
    pub(super) ordered: bool,
    pub(super) max_in_flight: usize,
    pub(super) max_in_flight_bytes: usize,
    pub(super) not_from: Option<String>,
    pub(super) ready: Ready,
    pub(super) share: Arc<Share>,
    pub(super) dropped: AtomicU64,
    // What follows changes with the lock of the queue only.
    pub(super) unsettled_events: AtomicUsize,
    pub(super) unsettled_bytes: AtomicUsize,
    /// Whether an event was held back because of what is unsettled.
    pub(super) limited: AtomicBool,
    pub(super) stopped: AtomicBool,
}

/// Those to be told of something, once the lock is released.
pub(super) type Told = Vec<Arc<Member>>;

/// Tells them that there may be something to take.
pub(super) fn tell(members: &[Arc<Member>]) {
    for member in members {
        member.ready.notify();
    }
}

impl Member {
    pub(super) fn new(number: u64, request: SubscribeRequest) -> Self {
        request.share.on_room(request.ready.clone());
        Self {
            number,
            label: request.label,
            qos: request.qos,
            ordered: request.order != crate::broker::Order::None,
            max_in_flight: request.max_in_flight.max(1),
            max_in_flight_bytes: request.max_in_flight_bytes,
            not_from: request.not_from,
            ready: request.ready,
            share: request.share,
            dropped: AtomicU64::new(0),
            unsettled_events: AtomicUsize::new(0),
            unsettled_bytes: AtomicUsize::new(0),
            limited: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether one more may be unsettled.
    pub(super) fn has_room(&self, size: usize) -> bool {
        let events = self.unsettled_events.load(Ordering::Relaxed);
        let bytes = self.unsettled_bytes.load(Ordering::Relaxed);
        events == 0
            || events < self.max_in_flight && bytes.saturating_add(size) <= self.max_in_flight_bytes
    }

    pub(super) fn count(&self, change: impl Fn(usize, usize) -> usize, size: usize) {
        for (counter, by) in [(&self.unsettled_events, 1), (&self.unsettled_bytes, size)] {
            counter.store(change(counter.load(Ordering::Relaxed), by), Ordering::Relaxed);
        }
    }
}

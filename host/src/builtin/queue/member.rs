//! Who takes events from a queue.

use crate::broker::driver::{Ready, SubscribeRequest};
use crate::broker::{BacklogBound, Order, Qos, Share};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// One open source of a queue.
pub(in crate::builtin) struct Member {
    pub(in crate::builtin) number: u64,
    pub(in crate::builtin) label: String,
    pub(in crate::builtin) qos: Qos,
    pub(in crate::builtin) order: Order,
    pub(in crate::builtin) max_in_flight: usize,
    pub(in crate::builtin) max_in_flight_bytes: usize,
    /// Of the whole group.
    pub(in crate::builtin) group_max_in_flight: Option<usize>,
    pub(in crate::builtin) backlog_bound: Option<Arc<BacklogBound>>,
    pub(in crate::builtin) not_from: Option<String>,
    /// Whether nothing outlives it that is its own.
    pub(in crate::builtin) is_temporary: bool,
    pub(in crate::builtin) ready: Ready,
    pub(in crate::builtin) share: Arc<Share>,
    pub(in crate::builtin) dropped: AtomicU64,
    // What follows changes with the lock of the queue only.
    pub(in crate::builtin) unsettled_events: AtomicUsize,
    pub(in crate::builtin) unsettled_bytes: AtomicUsize,
    /// Whether an event was held back because of what is unsettled.
    pub(in crate::builtin) limited: AtomicBool,
    pub(in crate::builtin) stopped: AtomicBool,
}

/// Those to be told of something, once the lock is released.
pub(in crate::builtin) type Told = Vec<Arc<Member>>;

/// Tells them that there may be something to take.
pub(in crate::builtin) fn tell(members: &[Arc<Member>]) {
    for member in members {
        member.ready.notify();
    }
}

impl Member {
    pub(in crate::builtin) fn new(number: u64, request: SubscribeRequest) -> Self {
        request.share.on_room(request.ready.clone());
        Self {
            number,
            label: request.label,
            qos: request.qos,
            order: request.order,
            max_in_flight: request.max_in_flight.max(1),
            max_in_flight_bytes: request.max_in_flight_bytes,
            group_max_in_flight: request.group_max_in_flight,
            backlog_bound: request.backlog_bound,
            not_from: request.not_from,
            is_temporary: request.is_temporary,
            ready: request.ready,
            share: request.share,
            dropped: AtomicU64::new(0),
            unsettled_events: AtomicUsize::new(0),
            unsettled_bytes: AtomicUsize::new(0),
            limited: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub(in crate::builtin) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether one more may be unsettled.
    pub(in crate::builtin) fn has_room(&self, size: usize) -> bool {
        let events = self.unsettled_events.load(Ordering::Relaxed);
        let bytes = self.unsettled_bytes.load(Ordering::Relaxed);
        events == 0
            || events < self.max_in_flight && bytes.saturating_add(size) <= self.max_in_flight_bytes
    }

    pub(in crate::builtin) fn count(&self, change: impl Fn(usize, usize) -> usize, size: usize) {
        for (counter, by) in [(&self.unsettled_events, 1), (&self.unsettled_bytes, size)] {
            counter.store(change(counter.load(Ordering::Relaxed), by), Ordering::Relaxed);
        }
    }
}

//! What may wait for one subscriber that nobody waits for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Told how many events were discarded just now. As a driver's `Ready`: cheap, never
/// blocks, called from any thread and without any lock.
pub type OnDiscard = Box<dyn Fn(u64) + Send + Sync>;

/// How much may wait for a subscriber, over all subscriptions that share the bound.
///
/// Beyond it, the oldest events of the subscription that another one comes to are
/// discarded, and publishers do not wait: for subscribers that must not hold up
/// others. What was handed out and is not acknowledged counts, and stays.
pub struct BacklogBound {
    events_max: usize,
    bytes_max: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
    discarded: AtomicU64,
    on_discard: OnDiscard,
}

impl BacklogBound {
    /// With the most events, and their most bytes; one event may be above these.
    #[must_use]
    pub fn new(events_max: usize, bytes_max: usize, on_discard: OnDiscard) -> Arc<Self> {
        let (events, bytes, discarded) = Default::default();
        Arc::new(Self { events_max, bytes_max, events, bytes, discarded, on_discard })
    }

    /// How many events wait, and how many bytes they have. A broker with a store may
    /// not know the size of those that were there before it was opened.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.events.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// How many events were discarded.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Relaxed)
    }

    /// Whether more waits than may.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_above(self.events_max, self.bytes_max)
    }

    /// Whether there is less room than one eighth, or none.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        let most = |max: usize| max - max / 8;
        self.is_above(most(self.events_max), most(self.bytes_max))
    }

    fn is_above(&self, events_max: usize, bytes_max: usize) -> bool {
        let (events, bytes) = self.load();
        events > events_max || bytes > bytes_max && events > 1
    }

    /// Counts what one subscription has now, in events and bytes, in place of what it
    /// had before. Called by drivers.
    pub fn exchange(&self, before: (usize, usize), now: (usize, usize)) {
        let counters = [(&self.events, before.0, now.0), (&self.bytes, before.1, now.1)];
        for (counter, before, now) in counters {
            if now > before {
                counter.fetch_add(now - before, Relaxed);
            } else if now < before {
                counter.fetch_sub(before - now, Relaxed);
            }
        }
    }

    /// Notes that events were discarded, and tells. Called by drivers, without any
    /// lock.
    pub fn discard(&self, events: u64) {
        self.discarded.fetch_add(events, Relaxed);
        (self.on_discard)(events);
    }
}

impl fmt::Debug for BacklogBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.load();
        f.debug_struct("BacklogBound")
            .field("events_max", &self.events_max)
            .field("bytes_max", &self.bytes_max)
            .field("load", &load)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(events: usize, bytes: usize) -> Arc<BacklogBound> {
        BacklogBound::new(events, bytes, Box::new(|_| {}))
    }

    #[test]
    fn several_subscriptions_share_it() {
        let bound = bound(8, 1000);
        bound.exchange((0, 0), (7, 70));
        assert!(!bound.is_over() && !bound.is_nearly_full());
        bound.exchange((0, 0), (1, 10));
        assert!(!bound.is_over() && bound.is_nearly_full());
        bound.exchange((7, 70), (8, 80));
        assert!(bound.is_over());
        bound.exchange((8, 80), (0, 0));
        assert_eq!((bound.load(), bound.is_over()), ((1, 10), false));
    }

    #[test]
    fn one_event_may_be_larger_than_all_that_may_wait() {
        let bound = bound(8, 1000);
        bound.exchange((0, 0), (1, 5000));
        assert!(!bound.is_over());
        bound.exchange((1, 5000), (2, 5001));
        assert!(bound.is_over());
    }
}

//! A queue that discards where others make publishers wait.

use super::Queue;
use super::state::State;
use crate::broker::BacklogBound;
use std::sync::Arc;

/// The bound of a queue, and what of it is this queue's.
pub(super) struct Bounded {
    bound: Arc<BacklogBound>,
    /// In events and bytes.
    counted: (usize, usize),
}

/// What is to be told once the lock is released.
pub(super) struct Discarded {
    bound: Arc<BacklogBound>,
    events: u64,
}

impl Bounded {
    fn new(bound: Arc<BacklogBound>) -> Self {
        Self { bound, counted: (0, 0) }
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        self.bound.exchange(self.counted, (0, 0));
    }
}

impl State {
    /// Takes over the bound of a new member. A queue that is shared keeps to one only
    /// if nobody without one has shared it.
    pub(super) fn set_bound(&mut self, bound: Option<&Arc<BacklogBound>>, is_first: bool) {
        match bound {
            Some(bound) if is_first || !self.is_shared => {
                self.bounded = Some(Bounded::new(bound.clone()));
                self.report();
            }
            Some(_) => {}
            None => self.bounded = None,
        }
    }

    /// Whether something that is only in the storage is of use here.
    pub(super) fn is_fetching_useful(&self) -> bool {
        !self.members.is_empty() || self.backlog.is_draining
    }

    /// How much is not acknowledged, in events and bytes, as far as that is known.
    fn waiting_load(&self) -> (usize, usize) {
        if !self.backlog.is_held() {
            return (self.stored.events, self.stored.bytes);
        }
        let stored = self.queued().saturating_sub(self.buffered.events);
        (stored + self.unsettled.len(), self.backlog.bytes())
    }

    /// Says how much there is.
    pub(super) fn report(&mut self) {
        if self.bounded.is_none() {
            return;
        }
        let now = self.waiting_load();
        if let Some(bounded) = &mut self.bounded {
            bounded.bound.exchange(bounded.counted, now);
            bounded.counted = now;
        }
    }

    /// Discards the oldest of what nobody has in hand, while more waits than may. What
    /// has to be fetched for that is discarded when it comes, and then some more at
    /// once.
    pub(super) fn discard(&mut self) -> Option<Discarded> {
        let bounded = self.bounded.as_ref()?;
        if !self.backlog.is_draining && !bounded.bound.is_over() {
            return None;
        }
        let (bound, is_held) = (bounded.bound.clone(), self.backlog.is_held());
        let is_too_much = || if is_held { bound.is_nearly_full() } else { bound.is_over() };
        let mut events = 0;
        while is_too_much()
            && let Some(entry) = self.backlog.discard_first()
        {
            self.finish(&entry);
            events += 1;
        }
        self.backlog.is_draining = is_too_much() && self.backlog.fetches_from().is_some();
        (events > 0).then_some(Discarded { bound, events })
    }
}

impl Queue {
    /// Tells of what was discarded, and has the storage know. Without the lock.
    pub(super) fn discarded(self: &Arc<Self>, discarded: Option<Discarded>) {
        let Some(Discarded { bound, events }) = discarded else { return };
        bound.discard(events);
        self.note_progress();
    }
}

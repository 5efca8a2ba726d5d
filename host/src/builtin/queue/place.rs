//! How far a queue is, for the storage to keep, and going elsewhere.

use super::member::{Told, tell};
use super::{Entry, Queue};
use crate::broker::{BrokerError, Qos, TopicFilter};
use crate::builtin::storage::{Delta, Position, Progress};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How far the storage may be behind a queue that only passes events over.
const LAG_MAX: u64 = 4096;

impl Queue {
    /// Whether it outlives its subscribers.
    pub(in crate::builtin) fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::Relaxed)
    }

    /// Begins at a position, while what was published up to `end` is on its way
    /// into the storage or there. Returns what was here.
    pub(in crate::builtin) fn begin(
        &self,
        position: Position,
        end: u64,
        live_from: u64,
    ) -> Vec<Entry> {
        let mut state = self.state.lock();
        (state.live_from, state.live_to) = (live_from, 0);
        state.kept_next = position.next;
        state.begin(position, end)
    }

    /// Hands nothing out and keeps no progress until [`resume`](Self::resume).
    pub(in crate::builtin) fn pause(&self) {
        self.state.lock().is_paused = true;
    }

    pub(in crate::builtin) fn resume(self: &Arc<Self>) {
        let told = {
            let mut state = self.state.lock();
            state.is_paused = false;
            state.all()
        };
        self.note_progress();
        self.fetch();
        tell(&told);
        self.room.notify_waiters();
    }

    /// Takes events in that come from elsewhere than a publisher.
    pub(in crate::builtin) fn restore(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut state = self.state.lock();
        for entry in entries {
            state.restore(entry);
        }
    }

    /// How far it is. `durable`: all events up to this number were delivered
    /// before.
    pub(in crate::builtin) fn position(&self, durable: u64) -> Position {
        self.state.lock().position(durable)
    }

    /// Whether an event is still to be handed out, or was and is not acknowledged.
    pub(in crate::builtin) fn awaits(&self, number: u64, durable: u64) -> bool {
        let position = self.position(durable);
        number >= position.next || position.open.iter().any(|(open, _)| *open == number)
    }

    /// Whether an event of another queue is one that this one wants, as far as can be
    /// seen: not who published it.
    pub(in crate::builtin) fn wants(&self, entry: &Entry) -> bool {
        let filter = self.event_filter();
        self.filter.matches(&entry.topic)
            && filter.as_ref().is_none_or(|filter| filter.matches(&entry.event))
    }

    /// What it would deliver that the storage does not have.
    pub(in crate::builtin) fn unkept(&self) -> Vec<Entry> {
        let state = self.state.lock();
        if state.backlog.is_held() {
            return Vec::new();
        }
        let stored = |entry: &&Entry| entry.qos > Qos::AtMostOnce;
        state.open().chain(state.backlog.entries().filter(stored)).cloned().collect()
    }

    /// What the storage must not forget because of it. `durable` as for
    /// [`position`](Self::position).
    pub(in crate::builtin) fn needs(&self, durable: u64) -> Option<Position> {
        let state = self.state.lock();
        if state.backlog.is_held() && state.qos > Qos::AtMostOnce {
            return Some(state.position(durable));
        }
        let open = state.backlog.unfetched().collect();
        state.backlog.fetches_from().map(|next| Position { next, open })
    }

    /// Lets the storage know how far it is, if that is far from what it knows.
    pub(in crate::builtin) fn note_idle_progress(self: &Arc<Self>, durable: u64) {
        let lags = {
            let state = self.state.lock();
            state.next(durable).saturating_sub(state.kept_next) > LAG_MAX
        };
        if lags {
            self.note_progress();
        }
    }

    /// Lets the storage know that there is progress.
    pub(in crate::builtin) fn note_progress(self: &Arc<Self>) {
        if self.is_durable() && !std::mem::replace(&mut self.state.lock().is_noted, true) {
            self.progressed(false);
        }
    }

    /// Forgets the events of topics that nobody has in hand. Returns whom to tell:
    /// what was behind them may be next.
    pub(in crate::builtin) fn purge(self: &Arc<Self>, filter: &TopicFilter) -> Told {
        let told = {
            let mut state = self.state.lock();
            let _dropped = state.purge(filter);
            state.all()
        };
        self.note_progress();
        self.room.notify_waiters();
        told
    }

    /// Says how many events are only in the storage.
    pub(in crate::builtin) fn count_behind(&self, events: u64) {
        let mut state = self.state.lock();
        state.backlog.count_behind(events);
        state.report();
    }

    /// Waits until everything that was acknowledged is kept.
    pub(in crate::builtin) async fn acknowledged(self: &Arc<Self>) -> Result<(), BrokerError> {
        if !self.is_durable() {
            return Ok(());
        }
        let wanted = self.state.lock().settled;
        loop {
            let mut kept = std::pin::pin!(self.kept.notified());
            kept.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.kept >= wanted {
                    return Ok(());
                }
                if state.closed {
                    return Err(BrokerError::Closed("the broker was closed".into()));
                }
                state.is_noted = true;
            }
            self.progressed(true);
            kept.await;
        }
    }

    pub(in crate::builtin) fn progressed(self: &Arc<Self>, soon: bool) {
        let this: Arc<dyn Progress> = self.clone();
        self.storage.progressed(&this, soon);
    }
}

impl Progress for Queue {
    fn id(&self) -> u64 {
        self.number
    }

    fn collect(&self) -> Option<Delta> {
        let durable = self.storage.durable_number();
        let mut state = self.state.lock();
        if state.is_paused {
            state.is_noted = false;
            return None;
        }
        Some(state.collect(durable))
    }

    fn kept(&self, delta: Delta, durable: bool) {
        self.state.lock().kept(delta, durable);
        self.kept.notify_waiters();
    }
}

//! What the state machine asks its shell to do.

use super::SlotKey;
use crate::broker::driver::{Settlement, Token};
use crate::broker::{Event, Qos, Topic};
use std::sync::Arc;

/// Told `true` when the broker was told that the event is done with, `false` when
/// it is to be delivered again; dropped when neither happened.
pub(in crate::broker) type Watcher = tokio::sync::oneshot::Sender<bool>;

/// What is to be done after the lock is released, in this order.
#[derive(Debug, Default)]
pub(in crate::broker) struct Actions {
    /// The first settlement; there is mostly one, and it costs no allocation.
    pub(super) settlement: Option<(Token, Settlement)>,
    /// Settlements after the first.
    pub(super) settlements: Vec<(Token, Settlement)>,
    /// Who waits for the settlements above.
    pub(super) watchers: Vec<(Watcher, bool)>,
    /// Dead letters to publish.
    pub(super) dead_letters: Vec<DeadLetter>,
    /// Events that were given up, for the log.
    pub(super) given_up: Vec<GivenUp>,
    /// The size of what is not held any more, in bytes.
    pub(super) freed: usize,
    /// Whether takers may find something.
    pub(super) wake: bool,
    /// Whether the timer must look at its deadline again.
    pub(super) rearm: bool,
}

/// A dead letter to publish; the outcome goes to `dead_letter_done`.
#[derive(Debug)]
pub(in crate::broker) struct DeadLetter {
    pub(in crate::broker) key: SlotKey,
    pub(in crate::broker) event: Arc<Event>,
    pub(in crate::broker) qos: Qos,
}

/// An event that was given up.
#[derive(Debug)]
pub(in crate::broker) struct GivenUp {
    pub(in crate::broker) event: Arc<Event>,
    pub(in crate::broker) topic: Topic,
    pub(in crate::broker) attempts: u32,
    pub(in crate::broker) reason: String,
}

impl Actions {
    pub(super) fn settle(&mut self, token: Token, settlement: Settlement) {
        if self.settlement.is_none() {
            self.settlement = Some((token, settlement));
        } else {
            self.settlements.push((token, settlement));
        }
    }

    pub(super) fn tell(&mut self, watcher: Option<Watcher>, acknowledged: bool) {
        self.watchers.extend(watcher.map(|watcher| (watcher, acknowledged)));
    }

    /// Whether the broker is to be told something.
    pub(in crate::broker) fn settles(&self) -> bool {
        self.settlement.is_some()
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.settlement.is_none()
            && self.freed == 0
            && !self.wake
            && !self.rearm
            && self.watchers.is_empty()
            && self.dead_letters.is_empty()
            && self.given_up.is_empty()
    }

    pub(in crate::broker) fn take_settlements(
        &mut self,
    ) -> impl Iterator<Item = (Token, Settlement)> + use<> {
        self.settlement.take().into_iter().chain(std::mem::take(&mut self.settlements))
    }

    pub(in crate::broker) fn take_watchers(&mut self) -> Vec<(Watcher, bool)> {
        std::mem::take(&mut self.watchers)
    }

    pub(in crate::broker) fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.dead_letters)
    }

    pub(in crate::broker) fn take_given_up(&mut self) -> Vec<GivenUp> {
        std::mem::take(&mut self.given_up)
    }

    /// What is to be given back to the budget, in bytes.
    pub(in crate::broker) fn freed(&self) -> usize {
        self.freed
    }

    pub(in crate::broker) fn wakes(&self) -> bool {
        self.wake
    }

    pub(in crate::broker) fn rearms(&self) -> bool {
        self.rearm
    }
}

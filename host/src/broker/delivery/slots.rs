//! The deliveries that a subscription holds, each in a slot that is used again.

use super::letter::Letter;
use crate::broker::driver::Token;
use crate::broker::order::Lane;
use crate::broker::{Event, Qos, Topic};
use std::sync::Arc;
use std::time::Instant;

/// Names one delivery within its subscription. A key of a delivery that is over
/// names nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) struct SlotKey {
    index: u32,
    generation: u32,
}

#[cfg(test)]
impl SlotKey {
    pub(in crate::broker) fn for_test(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

/// One delivery that is not over.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) event: Arc<Event>,
    pub(super) topic: Topic,
    pub(super) qos: Qos,
    pub(super) attempt: u32,
    pub(super) isolated: bool,
    /// What it counts against the bound, in bytes.
    pub(super) size: usize,
    /// The order of arrival.
    pub(super) arrival: u64,
    /// What it is known as in the deduplication window, while it is the one
    /// delivery of its event that is being handled.
    pub(super) identity: Option<u128>,
    /// Which deliveries it is handled in a row with, where there is an order.
    pub(super) lane: Option<Lane>,
    pub(super) state: State,
}

/// Where a delivery is.
#[derive(Debug)]
pub(super) enum State {
    /// In the hands of a taker, until the deadline if there is one.
    Leased { deadline: Option<Instant> },
    /// To be handed out.
    Ready,
    /// To be handed out later.
    Waiting,
    /// Held back until the verdict on another delivery of the same event.
    Parked,
    /// Held back until the one before it in its lane is over.
    Behind,
    /// Not to be handed out any more: its dead letter is to be stored.
    Dead(Box<Letter>),
}

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    held: Option<Held>,
}

impl Slots {
    /// How many deliveries are held.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, held: Held) -> SlotKey {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.held = Some(held);
            return SlotKey { index, generation: slot.generation };
        }
        // Bounded by `max_in_flight`, far below the range of the index.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, held: Some(held) });
        SlotKey { index, generation: 0 }
    }

    pub(super) fn get(&self, key: SlotKey) -> Option<&Held> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.held.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: SlotKey) -> Option<&mut Held> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.held.as_mut() } else { None }
    }

    /// Gives a delivery a new key, so that a lease that is over cannot be taken
    /// for the next lease on the same delivery.
    pub(super) fn renew(&mut self, key: SlotKey) -> SlotKey {
        match self.slots.get_mut(key.index as usize) {
            Some(slot) if slot.generation == key.generation => {
                slot.generation = slot.generation.wrapping_add(1);
                SlotKey { generation: slot.generation, ..key }
            }
            _ => key,
        }
    }

    pub(super) fn remove(&mut self, key: SlotKey) -> Option<Held> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let held = slot.held.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(held)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotKey, &Held)> {
        self.slots.iter().zip(0..).filter_map(|(slot, index)| {
            let key = SlotKey { index, generation: slot.generation };
            slot.held.as_ref().map(|held| (key, held))
        })
    }
}

//! Events that were handed out and not settled, each under a token.

use super::entry::Entry;
use crate::broker::driver::Token;

/// Unsettled events. A token of a delivery that is settled names nothing.
#[derive(Default)]
pub(super) struct Unsettled {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    held: Option<(u64, Entry)>,
}

impl Unsettled {
    /// Keeps an event that a member was given.
    pub(super) fn insert(&mut self, member: u64, entry: Entry) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // The bound of the queue is far below the range of the index.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        slot.held = Some((member, entry));
        Token(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// Takes out an event that this member was given.
    pub(super) fn remove(&mut self, member: u64, token: Token) -> Option<Entry> {
        let index = token.0 as u32;
        let slot = self.slots.get_mut(index as usize)?;
        let known = u64::from(slot.generation) == token.0 >> 32
            && slot.held.as_ref().is_some_and(|(owner, _)| *owner == member);
        if !known {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        slot.held.take().map(|(_, entry)| entry)
    }

    /// Takes out all events that a member was given.
    pub(super) fn remove_all(&mut self, member: u64) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (slot, index) in self.slots.iter_mut().zip(0..) {
            if let Some((_, entry)) = slot.held.take_if(|(owner, _)| *owner == member) {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
                entries.push(entry);
            }
        }
        entries
    }

    /// All that was handed out.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.held.as_ref().map(|(_, entry)| entry))
    }

    /// How many were handed out.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes out all, each with its member. Their tokens name nothing any more.
    pub(super) fn clear(&mut self) -> Vec<(u64, Entry)> {
        let mut all = Vec::new();
        for (slot, index) in self.slots.iter_mut().zip(0..) {
            if let Some(held) = slot.held.take() {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
                all.push(held);
            }
        }
        all
    }
}

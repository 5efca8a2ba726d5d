//! Keys that are with one subscriber at a time, whoever of a group it is.

use super::entry::Entry;
use crate::broker::Order;
use crate::broker::hashed::{Hashed, KeyedHash};
use std::collections::{BTreeMap, HashMap};

/// How many events may wait for others of their keys. At the bound the events
/// behind them wait too, whatever their keys.
pub(super) const WAITING_EVENTS_MAX: usize = 10_000;

/// Who is in the way of whom.
#[derive(Default)]
pub(super) struct Lanes {
    hash: KeyedHash,
    lanes: HashMap<u128, Lane, Hashed>,
    waiting: usize,
}

/// The events of one key.
struct Lane {
    /// The one whose turn it is: handed out, or to be handed out again.
    holder: u64,
    waiting: BTreeMap<u64, Entry>,
}

impl Lanes {
    /// The lane of an event.
    pub(super) fn lane(&self, order: &Order, entry: &Entry) -> Option<u128> {
        order.key(&entry.event, &entry.topic).map(|key| self.hash.of(key))
    }

    /// Whether an event may be handed out as far as its lane goes.
    pub(super) fn may_enter(&self, lane: u128, number: u64) -> bool {
        self.lanes.get(&lane).is_none_or(|found| found.holder == number)
    }

    /// Its lane is its own from now on, unless it is another's.
    pub(super) fn enter(&mut self, lane: u128, number: u64) {
        let empty = || Lane { holder: number, waiting: BTreeMap::new() };
        self.lanes.entry(lane).or_insert_with(empty);
    }

    /// Lets an event wait for those of its lane.
    pub(super) fn wait(&mut self, lane: u128, entry: Entry) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.waiting.insert(entry.number, entry);
            self.waiting += 1;
        }
    }

    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= WAITING_EVENTS_MAX
    }

    /// An event of a lane is over; returns the one whose turn it is now.
    pub(super) fn leave(&mut self, lane: u128, number: u64) -> Option<Entry> {
        let found = self.lanes.get_mut(&lane).filter(|found| found.holder == number)?;
        match found.waiting.pop_first() {
            Some((next, entry)) => {
                found.holder = next;
                self.waiting -= 1;
                Some(entry)
            }
            None => {
                self.lanes.remove(&lane);
                None
            }
        }
    }

    /// The events that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.lanes.values().flat_map(|lane| lane.waiting.values())
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Takes out those that wait and are meant.
    pub(super) fn purge(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let lanes = self.lanes.values_mut();
        let out = lanes.flat_map(|lane| lane.waiting.extract_if(.., |_, entry| is_meant(entry)));
        let out: Vec<_> = out.map(|(_, entry)| entry).collect();
        self.waiting -= out.len();
        out
    }

    /// Forgets all lanes; returns the events that waited.
    pub(super) fn clear(&mut self) -> Vec<Entry> {
        self.waiting = 0;
        self.lanes.drain().flat_map(|(_, lane)| lane.waiting.into_values()).collect()
    }
}

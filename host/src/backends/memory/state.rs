//! What a queue holds, and who may put more in.

use super::Settings;
use super::entry::{Delayed, Entry};
use super::member::{Member, Told};
use super::slab::Unsettled;
use crate::broker::{Event, Qos, Topic};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a queue holds. Changes with the lock of the queue.
#[derive(Default)]
pub(super) struct State {
    /// Never handed out before, or returned as a failed attempt without a delay.
    pub(super) fresh: VecDeque<Entry>,
    /// Given back or due again, by number; goes before the fresh ones.
    pub(super) returned: BTreeMap<u64, Entry>,
    pub(super) delayed: BinaryHeap<Delayed>,
    pub(super) unsettled: Unsettled,
    /// All that is stored at qos 1 and 2, and not acknowledged.
    pub(super) stored: Load,
    /// All that waits at qos 0.
    pub(super) buffered: Load,
    pub(super) members: Vec<Arc<Member>>,
    /// The highest qos that a member asked for, which outlives it.
    pub(super) qos: Qos,
    /// Whether a member asked for order, which outlives it.
    pub(super) ordered: bool,
    /// The publisher that no member wants events of.
    pub(super) not_from: Option<String>,
    /// Whether a member found too little: all are told of the next event.
    pub(super) hungry: bool,
    /// How many publishers wait for room.
    pub(super) waiting: usize,
    /// Counts the times that room was made.
    pub(super) freed: u64,
    /// When the timer will look at the delayed events.
    pub(super) armed: Option<Instant>,
    pub(super) closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    events: usize,
    bytes: usize,
}

/// What one queue answers to a publisher.
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

/// What a publisher brings.
#[derive(Clone, Copy)]
pub(super) struct Publication<'a> {
    pub(super) topic: &'a Topic,
    pub(super) event: &'a Arc<Event>,
    pub(super) size: usize,
    pub(super) qos: Qos,
    pub(super) from: Option<&'a str>,
    /// Whether it may have the room that is reserved for dead letters.
    pub(super) is_dead_letter: bool,
}

impl State {
    pub(super) fn admit(
        &mut self,
        publication: &Publication<'_>,
        settings: &Settings,
    ) -> Admission {
        if self.closed || publication.from.is_some() && publication.from == self.not_from.as_deref()
        {
            return Admission::Unwanted;
        }
        if publication.qos.min(self.qos) == Qos::AtMostOnce {
            return Admission::Unreserved;
        }
        let (mut events_max, mut bytes_max) = (settings.queue_events_max, settings.queue_bytes_max);
        if publication.is_dead_letter {
            events_max = events_max.saturating_add(settings.dead_letter_events_reserved);
            bytes_max = bytes_max.saturating_add(settings.dead_letter_bytes_reserved);
        }
        if !self.stored.fits(publication.size, events_max, bytes_max) {
            return Admission::Full(self.freed);
        }
        self.stored.add(publication.size);
        Admission::Reserved
    }

    pub(super) fn put(&mut self, publication: &Publication<'_>, number: u64) {
        let qos = publication.qos.min(self.qos.max(Qos::AtLeastOnce));
        self.fresh.push_back(entry(publication, number, qos));
    }

    pub(super) fn buffer(
        &mut self,
        publication: &Publication<'_>,
        number: u64,
        settings: &Settings,
    ) {
        let size = publication.size;
        if self.buffered.fits(size, settings.qos0_events_max, settings.qos0_bytes_max) {
            self.buffered.add(size);
            self.fresh.push_back(entry(publication, number, Qos::AtMostOnce));
        } else if let Some(member) = self.members.first() {
            member.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when the timer must look, if sooner than it will.
    pub(super) fn put_back(
        &mut self,
        mut entry: Entry,
        delay: Duration,
        charged: bool,
        now: impl Fn() -> Instant,
    ) -> Option<Instant> {
        entry.attempt = entry.attempt.saturating_add(u32::from(charged));
        if delay.is_zero() || self.ordered {
            if charged && !self.ordered {
                // At the end: who fails at once, again and again, holds up no other.
                self.fresh.push_back(entry);
            } else {
                self.returned.insert(entry.number, entry);
            }
            return None;
        }
        let due = now() + delay;
        self.delayed.push(Delayed { due, entry });
        let sooner = self.armed.is_none_or(|armed| due < armed);
        sooner.then(|| *self.armed.insert(due))
    }

    pub(super) fn promote_due(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|delayed| delayed.due <= now)
            && let Some(Delayed { entry, .. }) = self.delayed.pop()
        {
            self.returned.insert(entry.number, entry);
        }
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.returned.values().next().or_else(|| self.fresh.front())
    }

    pub(super) fn pop_first(&mut self) -> Option<Entry> {
        match self.returned.pop_first() {
            Some((_, entry)) => Some(entry),
            None => self.fresh.pop_front(),
        }
    }

    /// Makes room; says whether a publisher waits for it.
    pub(super) fn free(&mut self, size: usize) -> bool {
        self.stored.remove(size);
        self.freed += 1;
        self.waiting > 0
    }

    pub(super) fn members_changed(&mut self) {
        let first = self.members.first().and_then(|member| member.not_from.clone());
        let same = self.members.iter().all(|member| member.not_from == first);
        self.not_from = if same { first } else { None };
    }

    pub(super) fn hungry_ones(&mut self) -> Told {
        if std::mem::take(&mut self.hungry) { self.members.clone() } else { Told::new() }
    }

    pub(super) fn all(&mut self) -> Told {
        self.hungry = false;
        self.members.clone()
    }
}

fn entry(publication: &Publication<'_>, number: u64, qos: Qos) -> Entry {
    Entry::new(number, publication.topic, publication.event.clone(), publication.size, qos)
}

impl Load {
    pub(super) fn fits(self, size: usize, events_max: usize, bytes_max: usize) -> bool {
        self.events == 0 || self.events < events_max && self.bytes.saturating_add(size) <= bytes_max
    }

    pub(super) fn add(&mut self, size: usize) {
        self.events += 1;
        self.bytes += size;
    }

    pub(super) fn remove(&mut self, size: usize) {
        self.events -= 1;
        self.bytes -= size;
    }
}

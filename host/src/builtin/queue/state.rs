//! What a queue holds, and who may put more in.

use super::backlog::Backlog;
use super::bounded::Bounded;
use super::entry::{Delayed, Entry};
use super::lanes::Lanes;
use super::load::Load;
use super::member::{Member, Told};
use super::unsettled::Unsettled;
use crate::broker::driver::{Incoming, Token};
use crate::broker::{Order, Qos, TopicFilter};
use crate::builtin::Settings;
use crate::builtin::publication::{Admission, Offer};
use crate::builtin::storage::{Delta, Position};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a queue holds. Changes with the lock of the queue.
pub(super) struct State {
    /// Never handed out before.
    pub(super) backlog: Backlog,
    /// Given back or due again, by number; goes before what is new.
    pub(super) returned: BTreeMap<u64, Entry>,
    /// Failed and to be tried at once, each with the number of the last event
    /// that goes before it.
    again: VecDeque<(u64, Entry)>,
    pub(super) delayed: BinaryHeap<Delayed>,
    pub(super) unsettled: Unsettled,
    /// All that is stored at qos 1 and 2, and not acknowledged.
    pub(super) stored: Load,
    /// All that waits at qos 0.
    pub(super) buffered: Load,
    /// What may wait where publishers do not.
    pub(super) bounded: Option<Bounded>,
    pub(super) members: Vec<Arc<Member>>,
    /// The highest qos that a member asked for, which outlives it.
    pub(super) qos: Qos,
    /// Whether a group shares it: otherwise its only member sees to the order.
    pub(super) is_shared: bool,
    /// The order that a member of a group asked for, which outlives it.
    order: Order,
    /// Whether a member asked for an order, which outlives it.
    is_ordered: bool,
    lanes: Lanes,
    /// The publisher that no member wants events of.
    pub(super) not_from: Option<String>,
    /// The most that all members may have together, and whether that held one back.
    group_max: usize,
    is_group_full: bool,
    /// Whether a member found too little: all are told of the next event.
    hungry: bool,
    /// How many publishers wait for room.
    pub(super) waiting: usize,
    /// Counts the times that room was made.
    freed: u64,
    /// When the timer will look at the delayed events.
    pub(super) armed: Option<Instant>,
    pub(super) closed: bool,
    /// The numbers that are kept as open and are not any more.
    pub(super) over: Vec<u64>,
    /// Counts acknowledgements; whoever waits for one waits until it is kept.
    pub(super) settled: u64,
    /// As far as acknowledgements are kept.
    pub(super) kept: u64,
    /// Whether the storage knows that there is progress.
    pub(super) is_noted: bool,
    /// Acknowledgements up to this one belong to an earlier position.
    begun: u64,
    /// Whether nothing is handed out for now.
    pub(super) is_paused: bool,
    /// The position that is kept.
    pub(super) kept_next: u64,
    /// From this number on, events of qos 0 come as they are published.
    pub(super) live_from: u64,
    /// Before this number, those of all qos: it had no subscriber of a higher one.
    pub(super) live_to: u64,
}

impl State {
    pub(super) fn new(qos: Qos, not_from: Option<String>, is_held: bool, is_shared: bool) -> Self {
        Self {
            backlog: Backlog::new(is_held),
            returned: BTreeMap::new(),
            again: VecDeque::new(),
            delayed: BinaryHeap::new(),
            unsettled: Unsettled::default(),
            stored: Load::default(),
            buffered: Load::default(),
            bounded: None,
            members: Vec::new(),
            qos,
            is_shared,
            order: Order::None,
            is_ordered: false,
            lanes: Lanes::default(),
            not_from,
            group_max: usize::MAX,
            is_group_full: false,
            hungry: false,
            waiting: 0,
            freed: 0,
            armed: None,
            closed: false,
            over: Vec::new(),
            settled: 0,
            kept: 0,
            is_noted: false,
            begun: 0,
            is_paused: false,
            kept_next: 0,
            live_from: 0,
            live_to: 0,
        }
    }

    /// Lets a member take events.
    pub(super) fn join(&mut self, member: Arc<Member>) {
        self.qos = self.qos.max(member.qos);
        self.is_ordered |= member.order != Order::None;
        if self.is_shared && member.order != Order::None && member.order != self.order {
            for entry in self.lanes.clear() {
                self.returned.insert(entry.number, entry);
            }
            self.order = member.order.clone();
            self.enter_unsettled();
        }
        self.members.push(member);
        self.members_changed();
    }

    /// What is handed out already has its lanes too.
    fn enter_unsettled(&mut self) {
        for entry in self.unsettled.entries() {
            if let Some(lane) = self.lanes.lane(&self.order, entry) {
                self.lanes.enter(lane, entry.number);
            }
        }
    }

    /// Whether the queue wants an event, and has room for it, which is reserved.
    pub(super) fn admit(&mut self, offer: &Offer<'_>, settings: &Settings) -> Admission {
        let own = offer.from.is_some() && offer.from == self.not_from.as_deref();
        if self.closed || own {
            return Admission::Unwanted;
        }
        if offer.qos.min(self.qos) == Qos::AtMostOnce {
            return Admission::Unreserved;
        }
        if self.backlog.is_held() {
            return Admission::Reserved;
        }
        let (mut events_max, mut bytes_max) = (settings.queue_events_max, settings.queue_bytes_max);
        if offer.is_dead_letter {
            events_max = events_max.saturating_add(settings.dead_letter_events_reserved);
            bytes_max = bytes_max.saturating_add(settings.dead_letter_bytes_reserved);
        }
        let may_wait = self.bounded.is_none();
        if may_wait && !self.stored.fits(offer.size, events_max, bytes_max) {
            return Admission::Full(self.freed);
        }
        self.stored.add(offer.size);
        Admission::Reserved
    }

    /// Puts an event in that was admitted.
    pub(super) fn put(&mut self, mut entry: Entry, admission: Admission, settings: &Settings) {
        match admission {
            Admission::Reserved => {
                entry.qos = entry.qos.min(self.qos.max(Qos::AtLeastOnce));
                entry.is_counted = !self.backlog.is_held();
                self.backlog.put(entry, !self.members.is_empty());
            }
            Admission::Unreserved => {
                let (events_max, bytes_max) = (settings.qos0_events_max, settings.qos0_bytes_max);
                if self.buffered.fits(entry.size, events_max, bytes_max) {
                    self.buffered.add(entry.size);
                    entry.qos = Qos::AtMostOnce;
                    entry.is_counted = true;
                    self.backlog.put(entry, !self.members.is_empty());
                } else if let Some(member) = self.members.first() {
                    member.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Admission::Unwanted | Admission::Full(_) => {}
        }
        self.report();
    }

    /// Moves events to `into`, and says whether room was made for publishers.
    pub(super) fn take(&mut self, member: &Member, max: usize, into: &mut Vec<Incoming>) -> bool {
        let mut made_room = false;
        for _ in 0..max {
            let Some(size) = self.find_first(member) else { break };
            if !member.share.try_add(size) {
                self.hungry = true;
                break;
            }
            let Some(entry) = self.pop_first() else { break };
            if let Some(lane) = self.lanes.lane(&self.order, &entry) {
                self.lanes.enter(lane, entry.number);
            }
            let mut incoming = entry.incoming(Token(u64::MAX), member.qos);
            if incoming.qos > Qos::AtMostOnce {
                member.count(usize::saturating_add, entry.size);
                incoming.token = self.unsettled.insert(member.number, entry);
            } else if entry.qos == Qos::AtMostOnce {
                self.uncount(&entry);
                self.leave_lane(&entry);
            } else {
                made_room |= self.finish(&entry);
            }
            into.push(incoming);
        }
        made_room
    }

    /// Finds the first event that may be handed out to a member: its size.
    fn find_first(&mut self, member: &Member) -> Option<usize> {
        loop {
            let Some(first) = self.first() else {
                self.hungry = true;
                return None;
            };
            let settled = first.qos.min(member.qos) == Qos::AtMostOnce;
            if !settled && self.unsettled.len() >= self.group_max {
                self.is_group_full = true;
                self.hungry = true;
                return None;
            }
            if !settled && !member.has_room(first.size) {
                member.limited.store(true, Ordering::Relaxed);
                // Another member may have room.
                self.hungry = true;
                return None;
            }
            let (size, number) = (first.size, first.number);
            let Some(lane) = self.lanes.lane(&self.order, first) else { return Some(size) };
            if self.lanes.may_enter(lane, number) {
                return Some(size);
            }
            if self.lanes.is_full() {
                self.hungry = true;
                return None;
            }
            let entry = self.pop_first()?;
            self.lanes.wait(lane, entry);
        }
    }

    fn first(&self) -> Option<&Entry> {
        if let Some(entry) = self.returned.values().next() {
            return Some(entry);
        }
        match (self.again.front(), self.backlog.first()) {
            (Some((after, _)), Some(first)) if first.number <= *after => Some(first),
            (Some((_, entry)), _) => Some(entry),
            (None, first) => first,
        }
    }

    fn pop_first(&mut self) -> Option<Entry> {
        if let Some((_, entry)) = self.returned.pop_first() {
            return Some(entry);
        }
        match (self.again.front(), self.backlog.first()) {
            (Some((after, _)), Some(first)) if first.number <= *after => self.backlog.pop_first(),
            (Some(_), _) => self.again.pop_front().map(|(_, entry)| entry),
            (None, _) => self.backlog.pop_first(),
        }
    }

    /// An event is acknowledged. Says whether a publisher waits for its room.
    pub(super) fn finish(&mut self, entry: &Entry) -> bool {
        if entry.kept.get() > 0 {
            self.over.push(entry.number);
        }
        self.settled += 1;
        self.leave_lane(entry);
        let is_waited_for = self.uncount(entry);
        self.report();
        is_waited_for
    }

    fn leave_lane(&mut self, entry: &Entry) {
        if let Some(lane) = self.lanes.lane(&self.order, entry)
            && let Some(next) = self.lanes.leave(lane, entry.number)
        {
            self.returned.insert(next.number, next);
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
        if delay.is_zero() || self.is_ordered {
            if charged && !self.is_ordered {
                // At the end: who fails at once, again and again, holds up no other.
                self.again.push_back((self.backlog.last_number(), entry));
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

    /// Gives reserved room back; says whether a publisher waits for it.
    pub(super) fn release(&mut self, size: usize) -> bool {
        if !self.backlog.is_held() {
            self.stored.remove(size);
        }
        self.freed += 1;
        self.waiting > 0
    }

    fn uncount(&mut self, entry: &Entry) -> bool {
        if !entry.is_counted {
            return false;
        }
        if entry.qos == Qos::AtMostOnce {
            self.buffered.remove(entry.size);
            return false;
        }
        self.release(entry.size)
    }

    /// Who is to be told that an event was acknowledged: there is room in the group,
    /// or the next one of its key can go.
    pub(super) fn told_of_an_end(&mut self) -> Told {
        let was_full = std::mem::take(&mut self.is_group_full);
        if was_full || self.has_returned() { self.hungry_ones() } else { Told::new() }
    }

    /// Whether something goes before what is new.
    fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// How many events nobody has taken, or has given back.
    pub(super) fn queued(&self) -> usize {
        self.backlog.len()
            + self.returned.len()
            + self.again.len()
            + self.delayed.len()
            + self.lanes.len()
    }

    /// What was taken or given back, and is not acknowledged.
    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.unsettled.entries().chain(self.returned.values());
        let entries = entries.chain(self.again.iter().map(|(_, entry)| entry));
        let entries = entries.chain(self.delayed.iter().map(|delayed| &delayed.entry));
        let entries = entries.chain(self.lanes.waiting());
        entries.filter(|entry| entry.qos > Qos::AtMostOnce)
    }

    /// How far the queue is. `durable`: all events up to this number were put in
    /// before the lock was taken.
    pub(super) fn position(&self, durable: u64) -> Position {
        let next = self.next(durable);
        let mut open: Vec<_> = self.open().map(|entry| (entry.number, entry.attempt)).collect();
        open.extend(self.backlog.unfetched());
        open.sort_unstable();
        Position { next, open }
    }

    pub(super) fn next(&self, durable: u64) -> u64 {
        self.backlog.next().unwrap_or(durable + 1)
    }

    /// What has changed since it was last kept.
    pub(super) fn collect(&mut self, durable: u64) -> Delta {
        self.is_noted = false;
        let mut opened = Vec::new();
        for entry in self.open().filter(|entry| entry.kept.get() != entry.attempt) {
            opened.push((entry.number, entry.attempt));
            entry.kept.set(entry.attempt);
        }
        let closed = std::mem::take(&mut self.over);
        Delta { next: self.next(durable), opened, closed, ticket: self.settled }
    }

    /// What was collected is kept, or is to be collected again.
    pub(super) fn kept(&mut self, delta: Delta, durable: bool) {
        if delta.ticket <= self.begun && self.begun > 0 {
            return;
        }
        if durable {
            self.kept = self.kept.max(delta.ticket);
            self.kept_next = delta.next;
            return;
        }
        self.over.extend(delta.closed);
        let opened: std::collections::HashSet<u64> =
            delta.opened.into_iter().map(|(number, _)| number).collect();
        for entry in self.open().filter(|entry| opened.contains(&entry.number)) {
            entry.kept.set(0);
        }
    }

    /// Begins at another place. What is in hand is void; what members were given
    /// counts as settled. Returns all that was here.
    pub(super) fn begin(&mut self, position: Position, end: u64) -> Vec<Entry> {
        self.begun = self.settled;
        self.settled += 1;
        let mut before = self.backlog.begin(position.next, end, position.open);
        for (member, entry) in self.unsettled.clear() {
            if let Some(member) = self.members.iter().find(|other| other.number == member) {
                member.count(usize::saturating_sub, entry.size);
            }
            before.push(entry);
        }
        before.extend(std::mem::take(&mut self.returned).into_values());
        before.extend(std::mem::take(&mut self.again).into_iter().map(|(_, entry)| entry));
        before.extend(std::mem::take(&mut self.delayed).into_iter().map(|delayed| delayed.entry));
        before.extend(self.lanes.clear());
        self.over.clear();
        self.stored = Load::default();
        self.buffered = Load::default();
        self.freed += 1;
        self.report();
        before
    }

    /// Takes an event in that comes from elsewhere than a publisher.
    pub(super) fn restore(&mut self, mut entry: Entry) {
        if entry.qos == Qos::AtMostOnce {
            entry.is_counted = true;
            self.buffered.add(entry.size);
            return self.backlog.put(entry, true);
        }
        entry.is_counted = !self.backlog.is_held();
        if entry.is_counted {
            self.stored.add(entry.size);
        }
        self.backlog.put_later(entry);
    }

    /// Takes the events of topics out that nobody has in hand.
    pub(super) fn purge(&mut self, filter: &TopicFilter) -> Vec<Entry> {
        let matches = |entry: &Entry| filter.matches(&entry.topic);
        let mut out = self.backlog.purge(matches);
        out.extend(self.returned.extract_if(.., |_, entry| matches(entry)).map(|(_, e)| e));
        let again = std::mem::take(&mut self.again);
        let (gone, stay): (VecDeque<_>, _) =
            again.into_iter().partition(|(_, entry)| matches(entry));
        self.again = stay;
        out.extend(gone.into_iter().map(|(_, entry)| entry));
        let delayed = std::mem::take(&mut self.delayed).into_vec();
        let (gone, stay): (Vec<_>, Vec<_>) =
            delayed.into_iter().partition(|delayed| matches(&delayed.entry));
        self.delayed = stay.into();
        out.extend(gone.into_iter().map(|delayed| delayed.entry));
        out.extend(self.lanes.purge(matches));
        for entry in &out {
            self.finish(entry);
        }
        out
    }

    pub(super) fn members_changed(&mut self) {
        let limits = self.members.iter().filter_map(|member| member.group_max_in_flight);
        self.group_max = limits.min().unwrap_or(usize::MAX);
        let Some(first) = self.members.first() else { return };
        let first = first.not_from.clone();
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

//! What the broker must do, in plain maps: for each subscription, which events it
//! waits for, and what became of each. The rules are those of the broker's own
//! documents; nothing here is clever.

use crate::scenario::Plan;
use crate::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use wasi_pubsub::broker::driver::{Incoming, Token};
use wasi_pubsub::broker::{Event, Order, Qos, RetentionRule, Topic, TopicFilter};

/// The place of an event in the order in which events were handed to the storage:
/// that of their numbers.
pub(crate) type Place = usize;
/// One publish.
pub(crate) type Publish = usize;
/// One subscriber.
pub(crate) type MemberId = usize;

/// More than any event is tried.
const ATTEMPTS_MAX: u32 = 1000;

/// The bounds that the broker was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_events_max: usize,
    pub(crate) queue_bytes_max: usize,
    pub(crate) dead_letter_events_reserved: usize,
    pub(crate) dead_letter_bytes_reserved: usize,
    pub(crate) qos0_events_max: usize,
    pub(crate) once_window: Duration,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The publisher waits, and nothing is known.
    Waiting,
    /// The storage has it, and the publisher waits for the word.
    Handed,
    /// The storage has said that it is kept.
    Kept,
    /// It was refused: it must not come.
    Refused,
    /// The broker crashed meanwhile: it may be there or not.
    Unknown,
}

/// One publish, and the event that it brings.
pub(crate) struct Fact {
    pub(crate) topic: Topic,
    pub(crate) event: Arc<Event>,
    pub(crate) qos: Qos,
    pub(crate) from: Option<String>,
    pub(crate) is_dead_letter: bool,
    pub(crate) fate: Fate,
    pub(crate) place: Option<Place>,
    pub(crate) number: Option<u64>,
    /// By the broker's clock, when it was handed over.
    pub(crate) time: SystemTime,
    /// Whether the storage was to keep it beyond its delivery.
    pub(crate) is_kept: bool,
    /// Whether it may have been trimmed.
    pub(crate) may_be_gone: bool,
    /// Whether its publisher has got an answer.
    pub(crate) is_answered: bool,
    /// The publish that it repeats, and was confirmed for.
    pub(crate) repeats: Option<Publish>,
}

/// One event of one subscription.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) publish: Publish,
    pub(crate) state: EntryState,
    /// The attempt that is next.
    pub(crate) attempt: u32,
    /// Whether a lower attempt will do: a restart has come between.
    pub(crate) is_loose: bool,
    /// Whether it need not come.
    pub(crate) is_optional: bool,
    pub(crate) qos: Qos,
    /// Whether it has room of its own in the queue.
    pub(crate) is_counted: bool,
    /// Whether it comes in order. What comes at qos 0 may overtake what has to be
    /// kept first, and what is replayed goes its own way.
    pub(crate) is_in_order: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// It was never handed out.
    Fresh,
    /// A member has it.
    Out(MemberId, Token),
    /// It is to be handed out again, not before this.
    Back(Instant),
    /// It is acknowledged. `firmly`: the broker has confirmed that.
    Done { firmly: bool },
}

/// A subscription.
pub(crate) struct Sub {
    pub(crate) plan: Arc<Plan>,
    pub(crate) qos: Qos,
    pub(crate) order: Order,
    pub(crate) is_durable: bool,
    /// A group of which one has gone that was not removed: another one may come.
    pub(crate) stays: bool,
    pub(crate) entries: BTreeMap<Place, Entry>,
    /// What is before this has certainly been looked at.
    pub(crate) unread: Place,
    /// How many events of qos 0 must have been dropped.
    pub(crate) dropped: u64,
}

/// One subscriber.
pub(crate) struct Member {
    pub(crate) sub: String,
    pub(crate) qos: Qos,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) group_max_in_flight: Option<usize>,
    pub(crate) has_stopped: bool,
}

/// A snapshot: what the subscription would have got then.
pub(crate) struct Snap {
    pub(crate) plan: Arc<Plan>,
    pub(crate) open: BTreeSet<Place>,
    /// What it would perhaps have got.
    pub(crate) perhaps: BTreeSet<Place>,
    pub(crate) end: Place,
}

/// See the head of this file.
pub(crate) struct Model {
    pub(crate) is_durable: bool,
    pub(crate) bounds: Bounds,
    pub(crate) facts: Vec<Fact>,
    pub(crate) places: Vec<Publish>,
    pub(crate) subs: BTreeMap<String, Sub>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) snapshots: BTreeMap<String, Snap>,
    pub(crate) retention: Vec<RetentionRule>,
    pub(crate) seen: Seen,
    violation: Option<String>,
    trace: Arc<Trace>,
}

macro_rules! seen {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often something happened, so that no test is about nothing.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Seen {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl std::ops::AddAssign for Seen {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Seen {
            /// All counts, by name.
            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

seen! {
    published,
    refused,
    delivered,
    delivered_again,
    acknowledged,
    confirmed,
    returned,
    late,
    dropped,
    duplicates,
    dead_letters,
    waited,
    ordered,
    seeks,
    snapshots,
    replays,
    purges,
    trims,
    trimmed,
    retained,
    removals,
    partings,
    closes,
    crashes,
    failures,
}

impl Model {
    pub(crate) fn new(is_durable: bool, bounds: Bounds, trace: Arc<Trace>) -> Self {
        Self {
            is_durable,
            bounds,
            facts: Vec::new(),
            places: Vec::new(),
            subs: BTreeMap::new(),
            members: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            retention: Vec::new(),
            seen: Seen::default(),
            violation: None,
            trace,
        }
    }

    /// Something that must not be. The first one counts.
    pub(crate) fn report(&mut self, what: String) {
        self.trace.step(|| format!("WRONG: {what}"));
        self.violation.get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    fn wants(sub: &Sub, fact: &Fact) -> bool {
        let plan = &sub.plan;
        let own = fact.from.is_some() && fact.from == plan.not_from;
        plan.filter.matches(&fact.topic)
            && !own
            && plan.wants.as_ref().is_none_or(|wants| (wants.wants)(&fact.event))
    }

    // What publishers do.

    pub(crate) fn asked(&mut self, fact: Fact) -> Publish {
        self.facts.push(fact);
        self.seen.published += 1;
        self.facts.len() - 1
    }

    /// The broker hands an event to the storage.
    pub(crate) fn handed(&mut self, publish: Publish, is_kept: bool, time: SystemTime) {
        if self.facts[publish].fate != Fate::Waiting {
            return self.report(format!("event {publish} is handed to the storage again"));
        }
        if self.facts[publish].qos == Qos::EffectivelyOnce
            && let Some(first) = self.first_of(publish, time, false)
        {
            return self.report(format!("event {publish} was published before, as {first}"));
        }
        let place = self.places.len();
        self.places.push(publish);
        let fact = &mut self.facts[publish];
        (fact.fate, fact.place, fact.is_kept, fact.time) =
            (Fate::Handed, Some(place), is_kept, time);
        let names: Vec<_> = self.subs.keys().cloned().collect();
        for name in names {
            self.hand_to(&name, publish, place);
        }
    }

    /// The publish before that makes this one a second one.
    /// `early`: or will, when it is kept.
    fn first_of(&self, publish: Publish, time: SystemTime, early: bool) -> Option<Publish> {
        let fact = &self.facts[publish];
        let since = time - self.bounds.once_window;
        let same = |(_, other): &(Publish, &Fact)| {
            other.qos == Qos::EffectivelyOnce
                && other.topic == fact.topic
                && other.event.identity() == fact.event.identity()
                && (other.fate == Fate::Kept || early && other.fate == Fate::Handed)
                && other.time > since
        };
        self.facts[..]
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != publish)
            .find(same)
            .map(|(n, _)| n)
    }

    fn hand_to(&mut self, name: &str, publish: Publish, place: Place) {
        let (bounds, is_durable) = (self.bounds, self.is_durable);
        let Some(sub) = self.subs.get_mut(name) else { return };
        let fact = &self.facts[publish];
        if !Self::wants(sub, fact) {
            return;
        }
        let qos = fact.qos.min(sub.qos);
        let mut entry = Entry {
            publish,
            state: EntryState::Fresh,
            attempt: 1,
            is_loose: false,
            is_optional: false,
            qos,
            is_counted: true,
            is_in_order: qos > Qos::AtMostOnce,
        };
        if qos == Qos::AtMostOnce {
            let waiting = sub.entries.values().filter(|entry| entry.is_buffered()).count();
            if waiting > 0 && waiting >= bounds.qos0_events_max {
                self.seen.dropped += 1;
                if !is_durable {
                    sub.dropped += 1;
                    return;
                }
                // It is put in a moment later.
                entry.is_optional = true;
                // So are those that are on their way.
                for other in sub.entries.values_mut().filter(|other| other.is_buffered()) {
                    other.is_optional |= self.facts[other.publish].fate == Fate::Handed;
                }
            }
        } else if !is_durable {
            let (events, bytes) =
                load(sub.entries.values().filter(|entry| entry.is_stored()), &self.facts);
            let (events_max, bytes_max) = bounds.of(fact);
            let fits = events == 0 || events < events_max && bytes + fact.event.size() <= bytes_max;
            if !fits {
                let text =
                    format!("{name} has {events} events and {bytes} bytes, and gets {publish}");
                self.report(text);
                return;
            }
        }
        sub.entries.insert(place, entry);
    }

    /// The storage has kept it, or has failed to.
    pub(crate) fn stored(&mut self, publish: Publish, number: Option<u64>) {
        let fact = &mut self.facts[publish];
        let Some(place) = fact.place else { return };
        match number {
            Some(number) => {
                (fact.number, fact.fate) = (Some(number), Fate::Kept);
                let before = self.places[..place].iter().rev().map(|before| &self.facts[*before]);
                let before = before.filter(|fact| fact.is_kept).find_map(|fact| fact.number);
                if before.is_some_and(|before| before >= number) {
                    self.report(format!("event {publish} got number {number} after {before:?}"));
                }
            }
            None => {
                fact.fate = Fate::Refused;
                self.seen.refused += 1;
                if self.facts.iter().any(|fact| fact.repeats == Some(publish)) {
                    self.report(format!("event {publish} was refused, and confirmed to another"));
                }
                for sub in self.subs.values_mut() {
                    sub.entries.remove(&place);
                }
            }
        }
    }

    /// A publisher has got its answer.
    pub(crate) fn answered(&mut self, publish: Publish, error: Option<String>) {
        self.facts[publish].is_answered = true;
        let Fact { fate, qos, time, .. } = self.facts[publish];
        match (error, fate) {
            (None, Fate::Kept | Fate::Unknown) => {}
            (None, Fate::Waiting) => {
                let first = self.first_of(publish, time, true);
                if qos == Qos::EffectivelyOnce && first.is_some() {
                    self.facts[publish].repeats = first;
                    self.seen.duplicates += 1;
                } else if self.subs.values().any(|sub| Self::wants(sub, &self.facts[publish])) {
                    self.report(format!("event {publish} was confirmed, and nobody has it"));
                }
                self.facts[publish].fate = Fate::Refused;
            }
            (None, other) => {
                self.report(format!("event {publish} was confirmed, and is {other:?}"))
            }
            (Some(_), Fate::Waiting) => self.facts[publish].fate = Fate::Refused,
            (Some(_), Fate::Refused | Fate::Unknown) => {}
            (Some(error), other) => {
                self.report(format!(
                    "event {publish} is {other:?}, but its publisher heard: {error}"
                ));
            }
        }
    }

    /// Publishers that wait although there is room.
    pub(crate) fn check_publishers(&mut self) {
        if self.is_durable {
            return;
        }
        let waits = |(publish, fact): (Publish, &Fact)| {
            let is_first = fact.qos != Qos::EffectivelyOnce
                || !self.facts[..publish].iter().any(|other| {
                    !other.is_answered && other.event.identity() == fact.event.identity()
                });
            let mut wanting = self
                .subs
                .values()
                .filter(|sub| Self::wants(sub, fact) && fact.qos.min(sub.qos) > Qos::AtMostOnce);
            let has_room = |sub: &Sub| {
                let live = sub.entries.values().filter(|entry| entry.qos > Qos::AtMostOnce);
                let (events, bytes) = load(live, &self.facts);
                let (events_max, bytes_max) = self.bounds.of(fact);
                events == 0 || events < events_max && bytes + fact.event.size() <= bytes_max
            };
            (fact.fate == Fate::Waiting && !fact.is_answered && is_first)
                .then(|| wanting.all(has_room))
        };
        let found: Vec<_> =
            self.facts.iter().enumerate().map(|(n, fact)| (n, waits((n, fact)))).collect();
        for (publish, room) in found {
            self.seen.waited += u64::from(room == Some(false));
            if room == Some(true) {
                self.report(format!("the publisher of event {publish} waits, and there is room"));
            }
        }
    }

    // What subscribers do.

    pub(crate) fn joined(&mut self, id: MemberId, member: Member, plan: &Arc<Plan>) {
        let is_durable = self.is_durable;
        let sub = self.subs.entry(member.sub.clone()).or_insert_with(|| Sub {
            plan: plan.clone(),
            qos: member.qos,
            order: Order::None,
            is_durable: false,
            stays: false,
            entries: BTreeMap::new(),
            unread: self.places.len(),
            dropped: 0,
        });
        sub.stays = false;
        sub.qos = sub.qos.max(member.qos);
        sub.is_durable |= is_durable && member.qos > Qos::AtMostOnce;
        if plan.order != Order::None {
            sub.order = plan.order.clone();
        }
        self.members.insert(id, member);
    }

    /// A subscription begins where `from` says, or goes on there. The broker was
    /// told so when `since` was the next place: with what came later it may have
    /// begun or not.
    pub(crate) fn begin(&mut self, name: &str, from: &From<'_>, since: Place) {
        let Some(sub) = self.subs.get_mut(name) else { return };
        let before = std::mem::take(&mut sub.entries);
        sub.unread = 0;
        for (place, publish) in self.places.iter().enumerate() {
            let fact = &self.facts[*publish];
            if fact.fate == Fate::Refused || !Self::wants(sub, fact) {
                continue;
            }
            let is_under_way = fact.fate == Fate::Handed;
            let qos = fact.qos.min(sub.qos);
            let held = before.get(&place).filter(|entry| entry.waits());
            let held = held.filter(|entry| !self.is_durable && !entry.is_optional);
            // In memory only what is kept has a time.
            let has_time = self.is_durable
                || fact.is_kept && !fact.may_be_gone
                || !matches!(from, From::Time(_));
            let (is_included, is_sure) = match from.includes(place, fact, sub).filter(|_| has_time)
            {
                Some(false) if place >= since => (true, false),
                Some(is_included) => (is_included, true),
                None => (true, false),
            };
            if !is_included && !is_under_way {
                continue;
            }
            let qos = held.map_or(qos, |entry| entry.qos);
            let is_there = is_sure
                && !is_under_way
                && qos > Qos::AtMostOnce
                && (held.is_some() || from.holds(place) || fact.is_kept && !fact.may_be_gone);
            // What was in hand may have been tried.
            let is_loose = !is_sure || from.holds(place) || before.contains_key(&place);
            let entry = Entry {
                publish: *publish,
                state: EntryState::Fresh,
                attempt: if is_loose { ATTEMPTS_MAX } else { 1 },
                is_loose,
                is_optional: !is_there,
                qos,
                is_counted: qos > Qos::AtMostOnce && held.is_some_and(|entry| entry.is_counted),
                is_in_order: qos > Qos::AtMostOnce,
            };
            self.seen.replays += u64::from(before.get(&place).is_some_and(Entry::is_done));
            sub.entries.insert(place, entry);
        }
    }

    /// What a subscriber was given.
    pub(crate) fn taken(&mut self, id: MemberId, incoming: &Incoming) {
        if let Err(what) = self.check_taken(id, incoming) {
            let (data, attempt) = (publish_of(&incoming.event), incoming.attempt);
            let sub = &self.members[&id].sub;
            self.report(format!(
                "member {id} of {sub} got event {data:?}, attempt {attempt:?}: {what}"
            ));
        }
    }

    fn check_taken(&mut self, id: MemberId, incoming: &Incoming) -> Result<(), String> {
        let member = self.members.get(&id).ok_or("there is no such member")?;
        let publish = publish_of(&incoming.event).ok_or("nobody published it")?;
        let fact = self.facts.get(publish).ok_or("nobody published it")?;
        if *incoming.event != *fact.event || incoming.topic != fact.topic {
            return Err(format!(
                "it is not what was published: {:?} to {:?}",
                fact.event, fact.topic
            ));
        }
        if member.has_stopped {
            return Err("the member has stopped".into());
        }
        let place = fact.place.ok_or("it was not kept")?;
        let (events, bytes) = self.in_hand(id);
        let sub = self.subs.get(&member.sub).ok_or("there is no such subscription")?;
        let entry = sub.entries.get(&place).ok_or("it does not wait for it")?;
        let qos = incoming.qos;
        let lowest = if entry.is_loose { entry.qos.min(Qos::AtLeastOnce) } else { entry.qos };
        let (lowest, highest) = (lowest.min(member.qos), fact.qos.min(member.qos));
        // A subscriber with a higher qos may have come in the meantime.
        if qos < lowest || qos > highest {
            return Err(format!("it is at qos {qos}, and should be at {lowest} to {highest}"));
        }
        match entry.state {
            EntryState::Fresh => sub.is_next(place, &self.facts)?,
            EntryState::Back(due) if due > Instant::now() => {
                return Err(format!("it is to be held back {:?} more", due - Instant::now()));
            }
            EntryState::Back(_) => {}
            EntryState::Out(other, _) => return Err(format!("member {other} has it")),
            EntryState::Done { firmly } => {
                return Err(format!("it was acknowledged (confirmed: {firmly})"));
            }
        }
        if entry.qos > Qos::AtMostOnce {
            sub.lane_is_free(place, &self.facts)?;
            sub.keeps_order(place)?;
        }
        let attempt = incoming.attempt.ok_or("it has no attempt")?;
        if attempt > entry.attempt || attempt == 0 || attempt < entry.attempt && !entry.is_loose {
            return Err(format!("it should be attempt {}", entry.attempt));
        }
        let size = fact.event.size();
        let has_room = events == 0
            || events < member.max_in_flight && bytes + size <= member.max_in_flight_bytes;
        if qos > Qos::AtMostOnce && !has_room {
            return Err(format!("it has {events} events and {bytes} bytes in hand"));
        }
        if qos > Qos::AtMostOnce && !self.group_has_room(&member.sub) {
            return Err("its group has no room for more".into());
        }
        let (was_fresh, is_ordered) = (entry.state == EntryState::Fresh, sub.order != Order::None);
        self.seen.delivered += 1;
        self.seen.delivered_again += u64::from(!was_fresh);
        self.seen.ordered += u64::from(is_ordered);
        self.give(id, place, incoming, qos);
        Ok(())
    }

    fn give(&mut self, id: MemberId, place: Place, incoming: &Incoming, qos: Qos) {
        let Some(sub) = self.members.get(&id).and_then(|member| self.subs.get_mut(&member.sub))
        else {
            return;
        };
        if sub.entries[&place].state == EntryState::Fresh {
            // What need not come and was passed does not come any more.
            let is_in_order = sub.entries[&place].is_in_order;
            let passed = sub.entries.range(..place).filter(|(other, entry)| {
                entry.is_optional
                    && is_in_order
                    && entry.is_in_order
                    && entry.state == EntryState::Fresh
                    && sub.lane_is_free(**other, &self.facts).is_ok()
            });
            let passed: Vec<_> = passed.map(|(other, _)| *other).collect();
            for other in passed {
                sub.entries.remove(&other);
            }
        }
        let Some(entry) = sub.entries.get_mut(&place) else { return };
        entry.attempt = incoming.attempt.unwrap_or(entry.attempt);
        entry.is_loose = false;
        entry.is_optional = false;
        entry.state = match qos {
            Qos::AtMostOnce => EntryState::Done { firmly: false },
            _ => EntryState::Out(id, incoming.token),
        };
    }

    /// How much a member has in hand: events and bytes.
    pub(crate) fn in_hand(&self, id: MemberId) -> (usize, usize) {
        let Some(sub) = self.members.get(&id).and_then(|member| self.subs.get(&member.sub)) else {
            return (0, 0);
        };
        let out = sub
            .entries
            .values()
            .filter(|entry| matches!(entry.state, EntryState::Out(by, _) if by == id));
        load(out, &self.facts)
    }

    /// Whether all members of a group together may have one more.
    fn group_has_room(&self, name: &str) -> bool {
        let members =
            self.members.values().filter(|member| member.sub == name && !member.has_stopped);
        let most = members.filter_map(|member| member.group_max_in_flight).min();
        let entries = self.subs.get(name).map(|sub| sub.entries.values());
        let out = entries.into_iter().flatten();
        let out = out.filter(|entry| matches!(entry.state, EntryState::Out(..))).count();
        most.is_none_or(|most| out < most)
    }

    /// The entry that a member was given under a token.
    fn out(&mut self, id: MemberId, token: Token) -> Option<(&mut Entry, Order)> {
        let sub = self.subs.get_mut(&self.members.get(&id)?.sub)?;
        let order = sub.order.clone();
        let found =
            sub.entries.values_mut().find(|entry| entry.state == EntryState::Out(id, token));
        found.map(|entry| (entry, order))
    }

    /// Whether the member still has what it was given under this token.
    pub(crate) fn has(&mut self, id: MemberId, token: Token) -> bool {
        self.out(id, token).is_some()
    }

    pub(crate) fn acknowledged(&mut self, id: MemberId, token: Token) {
        match self.out(id, token) {
            Some((entry, _)) => {
                entry.state = EntryState::Done { firmly: false };
                self.seen.acknowledged += 1;
            }
            None => self.seen.late += 1,
        }
    }

    pub(crate) fn returned(&mut self, id: MemberId, token: Token, delay: Duration, charged: bool) {
        let Some((entry, order)) = self.out(id, token) else {
            self.seen.late += 1;
            return;
        };
        let delay = if order == Order::None { delay } else { Duration::ZERO };
        entry.attempt += u32::from(charged);
        entry.state = EntryState::Back(Instant::now() + delay);
        self.seen.returned += 1;
    }

    /// The broker has confirmed what this subscription has acknowledged so far.
    pub(crate) fn confirmed(&mut self, name: &str, publishes: &[Publish]) {
        let Some(sub) = self.subs.get_mut(name) else { return };
        for entry in sub.entries.values_mut() {
            if publishes.contains(&entry.publish) && entry.is_done() {
                entry.state = EntryState::Done { firmly: true };
                self.seen.confirmed += 1;
            }
        }
    }

    /// What a subscription has acknowledged.
    pub(crate) fn done(&self, name: &str) -> Vec<Publish> {
        let Some(sub) = self.subs.get(name) else { return Vec::new() };
        sub.entries.values().filter(|entry| entry.is_done()).map(|entry| entry.publish).collect()
    }

    pub(crate) fn stopped(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.has_stopped = true;
        }
    }

    /// A member is gone: what it had comes back.
    pub(crate) fn gone(&mut self, id: MemberId) {
        let Some(member) = self.members.remove(&id) else { return };
        let Some(sub) = self.subs.get_mut(&member.sub) else { return };
        for entry in sub.entries.values_mut() {
            if matches!(entry.state, EntryState::Out(by, _) if by == id) {
                entry.state = EntryState::Back(Instant::now());
            }
        }
    }

    /// What a subscription would get now.
    pub(crate) fn snapshot(&self, name: &str) -> Option<Snap> {
        let sub = self.subs.get(name)?;
        let waiting = sub.entries.iter().filter(|(_, entry)| entry.waits());
        let (perhaps, open): (Vec<_>, Vec<_>) = waiting
            .map(|(place, entry)| (*place, entry))
            .partition(|(_, entry)| entry.is_optional || entry.qos == Qos::AtMostOnce);
        let places =
            |entries: Vec<(Place, &Entry)>| entries.into_iter().map(|(at, _)| at).collect();
        let (open, perhaps) = (places(open), places(perhaps));
        Some(Snap { plan: sub.plan.clone(), open, perhaps, end: self.places.len() })
    }

    /// How many members take from a subscription.
    pub(crate) fn members_of(&self, name: &str) -> usize {
        self.members.values().filter(|member| member.sub == name && !member.has_stopped).count()
    }

    /// A member that nobody has told of what it could take.
    pub(crate) fn waits_in_vain(&self, id: MemberId) -> Option<String> {
        let member = self.members.get(&id)?;
        let sub = self.subs.get(&member.sub)?;
        let (events, bytes) = self.in_hand(id);
        let room = |entry: &Entry| {
            events == 0
                || events < member.max_in_flight
                    && bytes + self.facts[entry.publish].event.size() <= member.max_in_flight_bytes
        };
        let waiting = || sub.entries.values().filter(|entry| entry.waits());
        let now = Instant::now();
        let ready: Vec<_> = sub
            .entries
            .iter()
            .filter(|(place, entry)| {
                let due = match entry.state {
                    EntryState::Fresh => true,
                    EntryState::Back(due) => due + Duration::from_millis(2) <= now,
                    _ => false,
                };
                let fact = &self.facts[entry.publish];
                let there = fact.fate == Fate::Kept;
                due && there && !entry.is_optional && sub.lane_is_free(**place, &self.facts).is_ok()
            })
            .collect();
        // What is first may be too large, and the others wait behind it.
        if let Some((place, entry)) = ready.first()
            && waiting().all(room)
            && self.group_has_room(&member.sub)
        {
            let (name, publish) = (&member.sub, entry.publish);
            return Some(format!(
                "member {id} of {name} waits, and event {publish} (place {place}) is there"
            ));
        }
        None
    }

    /// Who has subscribers has looked at everything by now.
    pub(crate) fn looked(&mut self) {
        for (name, sub) in &mut self.subs {
            let used = self.members.values().any(|m| m.sub == *name && !m.has_stopped);
            if used {
                sub.unread = self.places.len();
            }
        }
    }

    // What is kept.

    /// Whether a subscription, a snapshot or a rule keeps it. `upper`: as much as
    /// could be; otherwise, what is sure.
    fn is_needed(&self, place: Place, fact: &Fact, now: SystemTime, upper: bool) -> bool {
        let waits = |sub: &Sub| {
            let entry = sub.entries.get(&place);
            let waits = entry.is_some_and(|entry| {
                entry.waits() && entry.qos > Qos::AtMostOnce && (upper || !entry.is_optional)
            });
            waits || upper && sub.plan.filter.matches(&fact.topic) && place >= sub.next(sub.unread)
        };
        let in_snapshot = |snap: &Snap| {
            let matches = snap.plan.filter.matches(&fact.topic);
            // In memory a snapshot holds what its subscription held.
            let open = self.is_durable && snap.open.contains(&place);
            matches && (upper || open || place >= snap.end)
        };
        (self.is_durable || upper) && self.subs.values().any(waits)
            || self.snapshots.values().any(in_snapshot)
            || self.is_retained(place, fact, now, upper)
    }

    fn is_retained(&self, place: Place, fact: &Fact, now: SystemTime, upper: bool) -> bool {
        let rules = self.retention.iter().filter(|rule| rule.filter.matches(&fact.topic));
        let newer = || {
            let newer = self.places[place..].iter().map(|publish| &self.facts[*publish]);
            newer.filter(|other| {
                other.topic == fact.topic
                    && other.fate != Fate::Refused
                    && (!upper || other.is_kept && other.fate == Fate::Kept && !other.may_be_gone)
            })
        };
        let age = now.duration_since(fact.time).unwrap_or_default();
        let keeps = |rule: &RetentionRule| {
            let most = rule.retention;
            most.age.is_none_or(|oldest| age < oldest || upper && age == oldest)
                && most.events.is_none_or(|most| (newer().count() as u64) <= most)
                && most.bytes.is_none_or(|most| {
                    newer().map(|other| other.event.size() as u64).sum::<u64>() <= most
                })
        };
        match upper {
            // Of several rules the largest bounds may count together.
            true => rules.clone().count() > 1 || rules.clone().any(keeps),
            false => rules.clone().any(keeps),
        }
    }

    /// Notes what may have been trimmed by now.
    pub(crate) fn sweep(&mut self, now: SystemTime) {
        let gone: Vec<_> = self
            .places
            .iter()
            .enumerate()
            .filter(|(place, publish)| {
                let fact = &self.facts[**publish];
                !fact.may_be_gone && !self.is_needed(*place, fact, now, false)
            })
            .map(|(_, publish)| *publish)
            .collect();
        for publish in gone {
            self.facts[publish].may_be_gone = true;
        }
    }

    /// What the storage has confirmed by now.
    pub(crate) fn kept(&self) -> BTreeSet<Publish> {
        // At qos 0 the publisher does not wait for the disk.
        let least = if self.is_durable { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let kept = |fact: &Fact| fact.fate == Fate::Kept && fact.qos >= least;
        let kept = self.facts.iter().enumerate().filter(|(_, fact)| kept(fact));
        kept.map(|(publish, _)| publish).collect()
    }

    /// Compares what is stored with what must be and may be. `kept`: what
    /// was confirmed before it was looked at. `trimmed`: everything
    /// was trimmed, after this time.
    pub(crate) fn check_stored(
        &mut self,
        found: &BTreeMap<u64, Publish>,
        kept: &BTreeSet<Publish>,
        now: SystemTime,
        trimmed: Option<SystemTime>,
    ) {
        self.sweep(now);
        let found: BTreeSet<Publish> = found.values().copied().collect();
        let mut wrong = Vec::new();
        for (place, publish) in self.places.iter().enumerate() {
            let fact = &self.facts[*publish];
            let must = kept.contains(publish) && fact.is_kept && !fact.may_be_gone;
            if must && !found.contains(publish) {
                let waits = |(name, sub): (&String, &Sub)| {
                    let waits = sub.entries.get(&place).is_some_and(Entry::waits);
                    waits.then(|| name.clone())
                };
                let by: Vec<_> = self.subs.iter().filter_map(waits).collect();
                wrong.push(format!("event {publish} is needed (by {by:?}), and it is gone"));
            }
            let is_under_way = fact.fate == Fate::Handed;
            if let Some(trimmed) = trimmed
                && found.contains(publish)
                && !is_under_way
                && !self.is_needed(place, fact, trimmed, true)
            {
                wrong.push(format!("event {publish} is stored, and nobody needs it"));
            }
            self.seen.retained += u64::from(must);
            self.seen.trimmed +=
                u64::from(trimmed.is_some() && fact.is_kept && !found.contains(publish));
        }
        for publish in &found {
            if self.facts[*publish].fate == Fate::Refused {
                wrong.push(format!("event {publish} was refused, and it is stored"));
            }
        }
        for what in wrong {
            self.report(what);
        }
    }

    /// Everything of these topics is deleted.
    /// What came since stays.
    pub(crate) fn purged(&mut self, filter: &TopicFilter, since: Place) {
        let before = |place: Option<Place>| place.is_some_and(|place| place < since);
        for fact in self.facts.iter_mut().filter(|fact| filter.matches(&fact.topic)) {
            fact.may_be_gone |= before(fact.place);
        }
        let (facts, is_durable) = (&self.facts, self.is_durable);
        for sub in self.subs.values_mut() {
            sub.entries.retain(|place, entry| {
                let meant = filter.matches(&facts[entry.publish].topic) && *place < since;
                let in_hand = matches!(entry.state, EntryState::Out(..));
                // At qos 0 nobody knows when it is kept.
                let under_way = facts[entry.publish].fate == Fate::Handed
                    || is_durable && entry.qos == Qos::AtMostOnce;
                entry.is_optional |= meant;
                !meant || in_hand || under_way
            });
        }
        for snap in self.snapshots.values_mut() {
            snap.open.retain(|place| !filter.matches(&facts[self.places[*place]].topic));
        }
    }

    // What a restart does.

    /// The process ended. `crashed`: without a word.
    pub(crate) fn ended(&mut self, crashed: bool) {
        for fact in &mut self.facts {
            if crashed && fact.fate == Fate::Kept && fact.qos == Qos::AtMostOnce {
                fact.fate = Fate::Unknown;
            }
            if fact.fate == Fate::Handed || fact.fate == Fate::Waiting && !fact.is_answered {
                fact.fate = if fact.place.is_some() { Fate::Unknown } else { Fate::Refused };
                fact.is_answered = true;
            }
        }
        self.members.clear();
        self.subs.retain(|_, sub| sub.is_durable);
        for sub in self.subs.values_mut() {
            let facts = &self.facts;
            sub.stays = sub.plan.group.is_some();
            sub.unread = 0;
            sub.entries.retain(|_, entry| entry.qos > Qos::AtMostOnce);
            for entry in sub.entries.values_mut() {
                let was_done = entry.is_done();
                // What was in hand may have been purged.
                entry.is_optional |=
                    facts[entry.publish].fate == Fate::Unknown || facts[entry.publish].may_be_gone;
                match entry.state {
                    EntryState::Done { firmly } if firmly || !crashed => {}
                    EntryState::Fresh => {}
                    _ => {
                        entry.is_loose = true;
                        entry.is_optional |= was_done;
                        entry.state = EntryState::Fresh;
                    }
                }
            }
        }
    }

    /// What is there after a restart.
    pub(crate) fn found_again(&mut self, found: &BTreeMap<u64, Publish>) {
        for (number, publish) in found {
            let fact = &mut self.facts[*publish];
            if fact.fate == Fate::Unknown {
                (fact.fate, fact.number) = (Fate::Kept, Some(*number));
            }
        }
        let mut lost = BTreeSet::new();
        for publish in &self.places {
            let fact = &mut self.facts[*publish];
            if fact.fate == Fate::Unknown {
                // Its number may be given again.
                (fact.fate, fact.number) = (Fate::Refused, None);
                lost.insert(*publish);
            }
        }
        for sub in self.subs.values_mut() {
            sub.entries.retain(|_, entry| !lost.contains(&entry.publish));
        }
    }
}

impl Bounds {
    fn of(&self, fact: &Fact) -> (usize, usize) {
        match fact.is_dead_letter {
            false => (self.queue_events_max, self.queue_bytes_max),
            true => (
                self.queue_events_max + self.dead_letter_events_reserved,
                self.queue_bytes_max + self.dead_letter_bytes_reserved,
            ),
        }
    }
}

impl Entry {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, EntryState::Done { .. })
    }

    /// Whether it is not acknowledged.
    pub(crate) fn waits(&self) -> bool {
        !self.is_done()
    }

    /// Whether it has room in the queue.
    fn is_stored(&self) -> bool {
        self.qos > Qos::AtMostOnce && self.is_counted && self.waits() && !self.is_optional
    }

    /// Whether it has room in the buffer for qos 0.
    fn is_buffered(&self) -> bool {
        self.qos == Qos::AtMostOnce && self.is_counted && self.waits()
    }
}

impl Sub {
    /// The first place that was never handed out.
    fn next(&self, unread: Place) -> Place {
        let fresh = self
            .entries
            .iter()
            .find(|(_, entry)| entry.state == EntryState::Fresh && entry.qos > Qos::AtMostOnce);
        fresh.map_or(unread, |(place, _)| unread.min(*place))
    }

    /// Whether an event is held back for a time.
    pub(crate) fn is_held_back(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.state, EntryState::Back(_)))
    }

    /// Whether a fresh event comes in its turn.
    fn is_next(&self, place: Place, facts: &[Fact]) -> Result<(), String> {
        let own = &self.entries[&place];
        let before = self.entries.range(..place).find(|(other, entry)| {
            entry.state == EntryState::Fresh
                && !entry.is_optional
                && own.is_in_order
                && entry.is_in_order
                && self.lane_is_free(**other, facts).is_ok()
        });
        match before {
            Some((_, entry)) => Err(format!("event {} comes before it", entry.publish)),
            None => Ok(()),
        }
    }

    /// Where there is an order, what was given back comes first.
    fn keeps_order(&self, place: Place) -> Result<(), String> {
        let mut before = self.entries.range(..place).map(|(_, entry)| entry);
        let back =
            before.find(|entry| matches!(entry.state, EntryState::Back(_)) && !entry.is_optional);
        match back {
            Some(entry) if self.order != Order::None && self.plan.group.is_none() => {
                Err(format!("event {} was given back, and comes before it", entry.publish))
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing of its key is in hand, and nothing before it waits.
    fn lane_is_free(&self, place: Place, facts: &[Fact]) -> Result<(), String> {
        let key = |entry: &Entry| {
            let fact = &facts[entry.publish];
            self.order.key(&fact.event, &fact.topic)
        };
        let entry = &self.entries[&place];
        let own = key(entry);
        // Who is alone keeps the order himself.
        if own.is_none() || self.plan.group.is_none() {
            return Ok(());
        }
        let of_lane = self.entries.iter().filter(|(other, entry)| {
            **other != place && entry.qos > Qos::AtMostOnce && key(entry) == own
        });
        for (other, entry) in of_lane {
            match entry.state {
                EntryState::Out(by, _) => {
                    return Err(format!("member {by} has event {} of the same key", entry.publish));
                }
                EntryState::Fresh | EntryState::Back(_) if *other < place && !entry.is_optional => {
                    return Err(format!("event {} of the same key comes before it", entry.publish));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where a subscription begins.
pub(crate) enum From<'a> {
    New,
    Earliest,
    Time(SystemTime),
    Number(u64),
    Snapshot(&'a Snap),
}

impl From<'_> {
    /// Whether an event comes; `None`: perhaps.
    fn includes(&self, place: Place, fact: &Fact, sub: &Sub) -> Option<bool> {
        match self {
            Self::New => Some(false),
            Self::Earliest => Some(true),
            Self::Time(time) => Some(fact.time >= *time),
            Self::Number(number) => fact.number.map(|own| own >= *number),
            Self::Snapshot(snap) => {
                let same = snap.plan.filter == sub.plan.filter
                    && snap.plan.wants.is_none()
                    && snap.plan.not_from.is_none();
                let included = snap.open.contains(&place) || place >= snap.end;
                let at_qos_0 = fact.qos.min(sub.qos) == Qos::AtMostOnce;
                let is_sure = included || same && !at_qos_0 && !snap.perhaps.contains(&place);
                is_sure.then_some(included)
            }
        }
    }

    /// Whether it keeps the event itself.
    fn holds(&self, place: Place) -> bool {
        matches!(self, Self::Snapshot(snap) if snap.open.contains(&place))
    }
}

fn load<'a>(entries: impl Iterator<Item = &'a Entry>, facts: &[Fact]) -> (usize, usize) {
    entries.filter(|entry| entry.waits()).fold((0, 0), |(events, bytes), entry| {
        (events + 1, bytes + facts[entry.publish].event.size())
    })
}

/// The publish that an event belongs to.
pub(crate) fn publish_of(event: &Event) -> Option<Publish> {
    let bytes = event.data.get(..8)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}

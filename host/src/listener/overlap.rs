//! One copy of an event for a client, where several of its subscriptions want it.
//!
//! Each subscription is one of the broker's, and gets every event. Of those that
//! match a topic, the one with the highest qos delivers, or else the oldest, and
//! says the identifiers of all (MQTT 5.0, section 3.3.4). The others are silent.

use super::session::{Session, Subscription};
use crate::broker::Topic;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// With how many others one is compared event by event. With more it is found out for a
/// topic who delivers: what they cost, in time and memory, grows with their number, and
/// not with its square.
const FEW: usize = 16;
/// For how many topics that is remembered.
const TOPICS_MAX: usize = 256;

/// Which subscriptions of a session have topics in common.
#[derive(Default)]
pub(super) struct Overlaps {
    places: HashMap<usize, Place>,
    last: u64,
    by_topic: HashMap<Topic, Matching>,
}

struct Place {
    /// Younger ones have higher numbers.
    number: u64,
    /// Subscriptions with topics in common; `None` where there are many, or were.
    others: Option<Vec<usize>>,
    /// It has not got events with lower numbers: they are older.
    since: u64,
}

impl Place {
    fn add(&mut self, other: usize) {
        if self.others.as_ref().is_some_and(|others| others.len() >= FEW) {
            self.others = None;
        }
        if let Some(others) = &mut self.others {
            others.push(other);
        }
    }
}

/// The subscriptions that match a topic.
struct Matching {
    /// Who goes before others comes first.
    ranked: Vec<Candidate>,
    identifiers: Vec<u32>,
}

/// One of them, with what says which events it has.
struct Candidate {
    key: usize,
    since: u64,
    no_local: bool,
}

impl Candidate {
    /// Whether it has an event that another one has. One without the client's own
    /// events may not.
    fn has(&self, number: Option<u64>, other_is_no_local: bool) -> bool {
        (!self.no_local || other_is_no_local) && number.is_none_or(|number| number >= self.since)
    }
}

impl Overlaps {
    /// Notes a subscription that will have this key.
    pub(super) fn insert(
        &mut self,
        key: usize,
        subscription: &Subscription,
        all: &Slab<Arc<Subscription>>,
    ) {
        if subscription.is_shared {
            return;
        }
        self.by_topic.clear();
        self.last += 1;
        let since = subscription.since;
        let mut place = Place { number: self.last, others: Some(Vec::new()), since };
        for (other_key, other) in all.iter().filter(|(_, other)| !other.is_shared) {
            if !other.topics.overlaps(&subscription.topics) {
                continue;
            }
            place.add(other_key);
            if let Some(other_place) = self.places.get_mut(&other_key) {
                other_place.add(key);
            }
        }
        self.places.insert(key, place);
    }

    /// Forgets a subscription.
    pub(super) fn remove(&mut self, key: usize) {
        self.by_topic.clear();
        let Some(place) = self.places.remove(&key) else { return };
        let Some(others) = place.others else { return };
        for other in others {
            if let Some(others) =
                self.places.get_mut(&other).and_then(|place| place.others.as_mut())
            {
                others.retain(|other| *other != key);
            }
        }
    }

    /// A subscription has other options.
    pub(super) fn changed(&mut self) {
        self.by_topic.clear();
    }

    /// With how many others each event of a subscription is compared.
    pub(super) fn number(&self, key: usize) -> usize {
        let place = self.places.get(&key);
        place.map_or(0, |place| place.others.as_ref().map_or(FEW, Vec::len))
    }

    fn matching(&mut self, topic: &Topic, all: &Slab<Arc<Subscription>>) -> &Matching {
        if self.by_topic.len() >= TOPICS_MAX {
            self.by_topic.clear();
        }
        let places = &self.places;
        self.by_topic.entry(topic.clone()).or_insert_with(|| {
            let matching = all.iter().filter(|(_, s)| !s.is_shared && s.topics.matches(topic));
            let mut matching: Vec<_> = matching.collect();
            // The highest qos, then the oldest.
            matching.sort_by_key(|(key, subscription)| {
                let number = places.get(key).map_or(u64::MAX, |place| place.number);
                (Reverse(subscription.options.qos), number)
            });
            let candidate = |(key, subscription): &(usize, &Arc<Subscription>)| Candidate {
                key: *key,
                since: subscription.since,
                no_local: subscription.options.no_local,
            };
            Matching {
                ranked: matching.iter().map(candidate).collect(),
                identifiers: matching.iter().filter_map(|(_, s)| s.identifier).collect(),
            }
        })
    }
}

impl Session {
    /// Whether a subscription is the one to deliver an event of this topic and number,
    /// and the identifiers to say with it.
    pub(super) fn choose(
        &mut self,
        key: usize,
        (topic, number): (&Topic, Option<u64>),
        identifiers: &mut Vec<u32>,
    ) -> bool {
        let Some(own) = self.subscriptions.get(key) else { return true };
        let Some(place) = self.overlaps.places.get(&key) else {
            identifiers.extend(own.identifier);
            return true;
        };
        if place.others.is_none() {
            let found = self.overlaps.matching(topic, &self.subscriptions);
            let mut ranked = found.ranked.iter();
            let first = ranked.find(|it| it.key == key || it.has(number, own.options.no_local));
            let is_chosen = first.is_none_or(|first| first.key == key);
            if is_chosen {
                identifiers.extend_from_slice(&found.identifiers);
            }
            return is_chosen;
        }
        identifiers.extend(own.identifier);
        let mut is_chosen = true;
        let places = &self.overlaps.places;
        for other_key in place.others.iter().flatten() {
            let Some(other) = self.subscriptions.get(*other_key) else { continue };
            if !other.topics.matches(topic) {
                continue;
            }
            identifiers.extend(other.identifier);
            let Some(other_place) = places.get(other_key) else { continue };
            let goes_before = other.options.qos > own.options.qos
                || other.options.qos == own.options.qos && other_place.number < place.number;
            let (key, no_local) = (*other_key, other.options.no_local);
            let other = Candidate { key, since: other_place.since, no_local };
            is_chosen &= !(goes_before && other.has(number, own.options.no_local));
        }
        is_chosen
    }
}

//! One copy of an event for a client, where several of its subscriptions want it.
//!
//! Each subscription is one of the broker's, and gets every event. Of those that
//! match a topic, the one with the highest qos delivers, or else the oldest, and
//! says the identifiers of all (MQTT 5.0, section 3.3.4). The others are silent.

use super::session::{Session, Subscription};
use crate::broker::Topic;
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;

/// Which subscriptions of a session have topics in common.
#[derive(Default)]
pub(super) struct Overlaps {
    places: HashMap<usize, Place>,
    last: u64,
}

struct Place {
    /// Younger ones have higher numbers.
    number: u64,
    /// Subscriptions with topics in common.
    others: Vec<usize>,
    /// It has not got events with lower numbers: they are older.
    since: u64,
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
        self.last += 1;
        let since = subscription.since;
        let mut place = Place { number: self.last, others: Vec::new(), since };
        for (other_key, other) in all.iter().filter(|(_, other)| !other.is_shared) {
            if !other.topics.overlaps(&subscription.topics) {
                continue;
            }
            place.others.push(other_key);
            if let Some(other_place) = self.places.get_mut(&other_key) {
                other_place.others.push(key);
            }
        }
        self.places.insert(key, place);
    }

    /// How many others a subscription has topics in common with.
    pub(super) fn number(&self, key: usize) -> usize {
        self.places.get(&key).map_or(0, |place| place.others.len())
    }

    /// Forgets a subscription.
    pub(super) fn remove(&mut self, key: usize) {
        let Some(place) = self.places.remove(&key) else { return };
        for other in place.others {
            if let Some(other) = self.places.get_mut(&other) {
                other.others.retain(|other| *other != key);
            }
        }
    }
}

impl Session {
    /// Whether a subscription is the one to deliver an event of this topic and number,
    /// and the identifiers to say with it.
    pub(super) fn choose(
        &self,
        key: usize,
        (topic, number): (&Topic, Option<u64>),
        identifiers: &mut Vec<u32>,
    ) -> bool {
        let Some(own) = self.subscriptions.get(key) else { return true };
        identifiers.extend(own.identifier);
        let places = &self.overlaps.places;
        let Some(place) = places.get(&key) else { return true };
        let mut is_chosen = true;
        for other_key in &place.others {
            let Some(other) = self.subscriptions.get(*other_key) else { continue };
            if !other.topics.matches(topic) {
                continue;
            }
            identifiers.extend(other.identifier);
            let Some(other_place) = places.get(other_key) else { continue };
            let goes_before = other.options.qos > own.options.qos
                || other.options.qos == own.options.qos && other_place.number < place.number;
            // One without the client's own events may not have got this one.
            let has_it = (!other.options.no_local || own.options.no_local)
                && number.is_none_or(|number| number >= other_place.since);
            is_chosen &= !(goes_before && has_it);
        }
        is_chosen
    }
}

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
    /// How many of its next events may be older than a subscription that goes before
    /// it, which has not got them.
    older: usize,
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
        let mut place = Place { number: self.last, others: Vec::new(), older: 0 };
        for (other_key, other) in all.iter().filter(|(_, other)| !other.is_shared) {
            if !other.topics.overlaps(&subscription.topics) {
                continue;
            }
            place.others.push(other_key);
            if let Some(other_place) = self.places.get_mut(&other_key) {
                other_place.others.push(key);
                if subscription.options.qos > other.options.qos {
                    other_place.older = other_place.older.max(other.source.queued());
                }
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
    /// Whether a subscription is the one to deliver its next event, which is of this
    /// topic, and the identifiers to say with it.
    pub(super) fn choose(&mut self, key: usize, topic: &Topic, identifiers: &mut Vec<u32>) -> bool {
        let Some(own) = self.subscriptions.get(key) else { return true };
        identifiers.extend(own.identifier);
        let places = &mut self.overlaps.places;
        let Some(place) = places.get_mut(&key).filter(|place| !place.others.is_empty()) else {
            return true;
        };
        let may_be_older = place.older > 0;
        place.older = place.older.saturating_sub(1);
        let (number, mut is_chosen) = (place.number, true);
        let place = &places[&key];
        for other_key in &place.others {
            let Some(other) = self.subscriptions.get(*other_key) else { continue };
            if !other.topics.matches(topic) {
                continue;
            }
            identifiers.extend(other.identifier);
            let other_number = places.get(other_key).map_or(u64::MAX, |other| other.number);
            let goes_before = other.options.qos > own.options.qos
                || other.options.qos == own.options.qos && other_number < number;
            // One without the client's own events may not have got this one.
            let has_it = !other.options.no_local || own.options.no_local;
            is_chosen &= !(goes_before && has_it) || may_be_older;
        }
        is_chosen
    }
}

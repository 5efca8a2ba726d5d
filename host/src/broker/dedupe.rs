//! The deduplication window of qos 2: whose verdict is recorded, and what is
//! being handled now.

use super::delivery::SlotKey;
use super::hashed::{Hashed, KeyedHash};
use super::{DedupeWindow, Event};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

/// Remembers events by a keyed hash of 128 bits, so that long ids cost no memory
/// and nobody can choose two ids that collide.
pub(super) struct Dedupe {
    window: DedupeWindow,
    hash: KeyedHash,
    recorded: HashSet<u128, Hashed>,
    /// The recorded ones by age.
    ages: VecDeque<(Instant, u128)>,
    /// Those being handled, and the deliveries that wait for their verdict.
    /// Bounded by `max_in_flight`.
    handled: HashMap<u128, Vec<SlotKey>, Hashed>,
}

/// What a delivery finds in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it is the one to be handled, from now on.
    First,
    /// Another delivery of the event is being handled: it was noted as waiting.
    Handled,
    /// The verdict is recorded.
    Recorded,
}

impl Dedupe {
    pub(super) fn new(window: DedupeWindow) -> Self {
        Self {
            window,
            hash: KeyedHash::default(),
            recorded: HashSet::default(),
            ages: VecDeque::new(),
            handled: HashMap::default(),
        }
    }

    /// What an event is known as: see [`Event::identity`].
    pub(super) fn identity(&self, event: &Event) -> u128 {
        self.hash.of(event.identity())
    }

    /// Looks an event up, and notes the delivery as handled or waiting.
    pub(super) fn begin(&mut self, identity: u128, key: SlotKey, now: Instant) -> Found {
        self.forget_old(now);
        if self.recorded.contains(&identity) {
            return Found::Recorded;
        }
        match self.handled.entry(identity) {
            Entry::Vacant(entry) => {
                entry.insert(Vec::new());
                Found::First
            }
            Entry::Occupied(mut entry) => {
                entry.get_mut().push(key);
                Found::Handled
            }
        }
    }

    /// Records the verdict; returns the deliveries that waited for it.
    pub(super) fn record(&mut self, identity: u128, now: Instant) -> Vec<SlotKey> {
        let waited = self.handled.remove(&identity).unwrap_or_default();
        if self.window.events > 0 && self.recorded.insert(identity) {
            self.ages.push_back((now, identity));
            self.forget_old(now);
        }
        waited
    }

    /// There was no verdict; returns the deliveries that waited for it.
    pub(super) fn abandon(&mut self, identity: u128) -> Vec<SlotKey> {
        self.handled.remove(&identity).unwrap_or_default()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(&(recorded, identity)) = self.ages.front()
            && (self.ages.len() > self.window.events
                || now.saturating_duration_since(recorded) >= self.window.age)
        {
            self.recorded.remove(&identity);
            self.ages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn event(source: &str, id: &str) -> Event {
        Event { source: source.into(), id: id.into(), ..Event::default() }
    }

    fn dedupe(events: usize) -> Dedupe {
        Dedupe::new(DedupeWindow { events, age: Duration::from_secs(10) })
    }

    #[test]
    fn source_and_id_together_identify_an_event() {
        let dedupe = dedupe(1);
        let identity = |source, id| dedupe.identity(&event(source, id));
        assert_eq!(identity("ab", "c"), identity("ab", "c"));
        assert_ne!(identity("ab", "c"), identity("a", "bc"));
        assert_ne!(identity("ab", "c"), identity("ab", "d"));
        let letter = |subscription: &str| Event {
            attributes: vec![("deadlettersubscription".into(), subscription.into())],
            ..event("ab", "c")
        };
        let identity = |subscription| dedupe.identity(&letter(subscription));
        assert_eq!(identity("x"), identity("x"));
        assert_ne!(identity("x"), identity("y"), "two letters of one event");
        assert_ne!(identity("x"), dedupe.identity(&event("ab", "c")));
    }

    #[test]
    fn a_verdict_is_remembered_for_its_time() {
        let (mut dedupe, start, key) = (dedupe(10), Instant::now(), SlotKey::default());
        assert_eq!(dedupe.begin(1, key, start), Found::First);
        assert_eq!(dedupe.begin(1, key, start), Found::Handled);
        assert_eq!(dedupe.record(1, start), [key]);
        let nearly = start + Duration::from_millis(9_999);
        assert_eq!(dedupe.begin(1, key, nearly), Found::Recorded);
        assert_eq!(dedupe.begin(1, key, start + Duration::from_secs(10)), Found::First);
    }

    #[test]
    fn no_more_verdicts_than_the_window_holds() {
        let (mut dedupe, now, key) = (dedupe(3), Instant::now(), SlotKey::default());
        for identity in 0..1000 {
            dedupe.begin(identity, key, now);
            dedupe.record(identity, now);
        }
        assert_eq!((dedupe.recorded.len(), dedupe.ages.len(), dedupe.handled.len()), (3, 3, 0));
        assert_eq!(dedupe.begin(997, key, now), Found::Recorded);
        assert_eq!(dedupe.begin(996, key, now), Found::First);
    }

    #[test]
    fn an_abandoned_event_is_handled_anew() {
        let (mut dedupe, now, key) = (dedupe(3), Instant::now(), SlotKey::default());
        dedupe.begin(1, key, now);
        dedupe.begin(1, key, now);
        assert_eq!(dedupe.abandon(1), [key]);
        assert_eq!(dedupe.begin(1, key, now), Found::First);
    }
}

//! Which events of a subscription are handled one after the other.

use super::delivery::SlotKey;
use super::hashed::{Hashed, KeyedHash};
use super::{Event, Topic};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;

/// Which events of a subscription are handled one after the other, in the order
/// of arrival. A retry holds back what comes after its event; everything else
/// goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// None: all are handled as they come, side by side.
    #[default]
    None,
    /// Those that share a key.
    Key(OrderBy),
    /// All of them.
    All,
}

/// Where the key of an event is. An event without it has its topic as its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Its ordering key.
    #[default]
    EventKey,
    /// An attribute, of the envelope or beside it: see [`Event::value`].
    Attribute(String),
    /// A level of its topic, from 1.
    TopicLevel(usize),
}

/// Why a text does not say where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `attributes.NAME` with the name of an attribute, or `topic.N` with a level from 1"
)]
pub struct OrderByError;

impl Order {
    /// What an event shares with those that it is handled after and before; what
    /// is compared is the whole. `None` where there is no order.
    #[must_use]
    pub fn key<'a>(&self, event: &'a Event, topic: &'a Topic) -> Option<(bool, &'a str)> {
        let by = match self {
            Self::None => return None,
            Self::All => return Some((false, "")),
            Self::Key(by) => by,
        };
        let key = match by {
            OrderBy::EventKey => event.ordering_key.as_deref(),
            OrderBy::Attribute(name) => event.value(name),
            OrderBy::TopicLevel(level) => topic.as_str().split('/').nth(level - 1),
        };
        // A topic is no key, even if it reads like one.
        Some((key.is_some(), key.unwrap_or(topic.as_str())))
    }
}

impl FromStr for OrderBy {
    type Err = OrderByError;

    /// Reads `attributes.NAME` or `topic.N`.
    fn from_str(text: &str) -> Result<Self, OrderByError> {
        let (kind, rest) = text.split_once('.').ok_or(OrderByError)?;
        match kind {
            "attributes" if !rest.is_empty() && !rest.contains('"') => {
                Ok(Self::Attribute(rest.to_owned()))
            }
            "topic" if rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                let level = rest.parse().ok().filter(|level| *level > 0);
                level.map(Self::TopicLevel).ok_or(OrderByError)
            }
            _ => Err(OrderByError),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Key(OrderBy::EventKey) => f.write_str("key"),
            Self::Key(OrderBy::Attribute(name)) => write!(f, "key (attributes.{name})"),
            Self::Key(OrderBy::TopicLevel(level)) => write!(f, "key (topic.{level})"),
            Self::All => f.write_str("all"),
        }
    }
}

/// Names the events that are handled one after the other: a keyed hash of their
/// key, so that long keys cost no memory and nobody can choose two that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane(u128);

/// Who is in the way of whom. Bounded by `max_in_flight`.
pub(super) struct Lanes {
    order: Order,
    hash: KeyedHash,
    /// The lanes that are taken, each with the deliveries that wait for it.
    taken: HashMap<u128, VecDeque<SlotKey>, Hashed>,
}

impl Lanes {
    pub(super) fn new(order: Order) -> Self {
        Self { order, hash: KeyedHash::default(), taken: HashMap::default() }
    }

    /// Whether there are any lanes.
    pub(super) fn is_ordered(&self) -> bool {
        self.order != Order::None
    }

    /// The lane of an event, where there is an order.
    pub(super) fn lane(&self, event: &Event, topic: &Topic) -> Option<Lane> {
        self.order.key(event, topic).map(|key| Lane(self.hash.of(key)))
    }

    /// A new delivery comes to its lane: `true` if it is its turn. Otherwise it
    /// is noted as waiting.
    pub(super) fn enter(&mut self, lane: Lane, key: SlotKey) -> bool {
        match self.taken.entry(lane.0) {
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::new());
                true
            }
            Entry::Occupied(mut entry) => {
                entry.get_mut().push_back(key);
                false
            }
        }
    }

    /// The delivery whose turn it was is over. Returns whose turn it is now.
    pub(super) fn leave(&mut self, lane: Lane) -> Option<SlotKey> {
        let Entry::Occupied(mut entry) = self.taken.entry(lane.0) else { return None };
        let next = entry.get_mut().pop_front();
        if next.is_none() {
            entry.remove();
        }
        next
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.taken.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lane(by: OrderBy, event: &Event, topic: &str, lanes: &mut Lanes) -> Lane {
        lanes.order = Order::Key(by);
        lanes.lane(event, &Topic::new(topic).unwrap()).unwrap()
    }

    #[test]
    fn keys_are_where_they_are_said_to_be_and_else_the_topic() {
        let mut lanes = Lanes::new(Order::None);
        let plain = Event::default();
        assert_eq!(lanes.lane(&plain, &Topic::new("a").unwrap()), None);
        let keyed = Event { ordering_key: Some("k".into()), ..Event::default() };
        let of_anna = Event {
            kind: "order".into(),
            attributes: vec![("customer".into(), "anna".into())],
            ..Event::default()
        };
        let mut lane = |by: &OrderBy, event: &Event, topic| {
            super::tests::lane(by.clone(), event, topic, &mut lanes)
        };
        let by = OrderBy::EventKey;
        assert_eq!(lane(&by, &keyed, "a"), lane(&by, &keyed, "b"));
        assert_eq!(lane(&by, &plain, "a"), lane(&by, &of_anna, "a"));
        assert_ne!(lane(&by, &plain, "a"), lane(&by, &plain, "b"));
        assert_ne!(lane(&by, &keyed, "a"), lane(&by, &plain, "k"), "a topic is no key");
        let by = OrderBy::Attribute("customer".into());
        assert_eq!(lane(&by, &of_anna, "a"), lane(&by, &of_anna, "b"));
        assert_ne!(lane(&by, &plain, "a"), lane(&by, &plain, "b"));
        let by = OrderBy::Attribute("type".into());
        assert_eq!(lane(&by, &of_anna, "a"), lane(&by, &of_anna, "b"), "of the envelope");
        let by = OrderBy::TopicLevel(2);
        assert_eq!(lane(&by, &plain, "a/x/1"), lane(&by, &plain, "b/x"));
        assert_ne!(lane(&by, &plain, "a/x"), lane(&by, &plain, "a/y"));
        assert_ne!(lane(&by, &plain, "a"), lane(&by, &plain, "b"), "there is no such level");
    }

    #[test]
    fn a_lane_is_for_one_at_a_time_in_the_order_of_coming() {
        let mut lanes = Lanes::new(Order::All);
        let lane = lanes.lane(&Event::default(), &Topic::new("a").unwrap()).unwrap();
        let keys = [1, 2].map(SlotKey::for_test);
        assert!(lanes.enter(lane, SlotKey::default()));
        assert!(!lanes.enter(lane, keys[0]) && !lanes.enter(lane, keys[1]));
        assert_eq!([0; 3].map(|_| lanes.leave(lane)), [Some(keys[0]), Some(keys[1]), None]);
        assert_eq!(lanes.len(), 0);
        assert!(lanes.enter(lane, keys[0]));
    }

    #[test]
    fn where_a_key_is_can_be_read() {
        let read = |text: &str| text.parse::<OrderBy>();
        assert_eq!(read("attributes.customer"), Ok(OrderBy::Attribute("customer".into())));
        assert_eq!(read("attributes.a.b"), Ok(OrderBy::Attribute("a.b".into())));
        assert_eq!(read("topic.2"), Ok(OrderBy::TopicLevel(2)));
        let huge = format!("topic.1{}", usize::MAX);
        for text in [
            "",
            "key",
            "attributes",
            "attributes.",
            "attributes.\"a\"",
            "attribute.a",
            "topic",
            "topic.",
            "topic.0",
            "topic.-1",
            "topic.+1",
            "topic.x",
            &huge,
        ] {
            assert_eq!(read(text), Err(OrderByError), "{text}");
        }
    }
}

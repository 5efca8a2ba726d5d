//! What is simulated: chosen by the seed.

use crate::model::{Bounds, Publish};
use crate::plain::Manner;
use fastrand::Rng;
use std::time::Duration;
use wasi_pubsub::broker::{
    Event, Order, OrderBy, Qos, Retention, RetentionRule, Topic, TopicFilter,
};

/// The storage under the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// That of `pubsub.memory`.
    Memory,
    /// A durable one without a disk, which commits when the seed says.
    Plain,
    /// That of `pubsub.disk`.
    Disk,
}

/// One simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) steps: usize,
    pub(crate) plans: Vec<Plan>,
    pub(crate) bounds: Bounds,
    pub(crate) manner: Manner,
    /// Of a hundred steps, how many look after what is kept: seek, trim, purge.
    pub(crate) looks: u32,
    /// Of a hundred steps, how many are restarts and failures.
    pub(crate) faults: u32,
    /// Of a hundred events, how many are not simply acknowledged.
    pub(crate) returns: u32,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) label: String,
    pub(crate) filter: TopicFilter,
    pub(crate) group: Option<String>,
    pub(crate) wants: Option<Wants>,
    pub(crate) not_from: Option<String>,
    pub(crate) qos: Qos,
    pub(crate) order: Order,
    /// The most that all members may have in hand.
    pub(crate) group_max_in_flight: Option<usize>,
    /// How many members there are at most.
    pub(crate) members_max: usize,
}

/// A filter on events, and the same in other words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wants {
    pub(crate) text: &'static str,
    pub(crate) wants: fn(&Event) -> bool,
}

const TOPICS: [&str; 5] = ["a", "b", "c/1", "c/2", "c/2/x"];
const FILTERS: [&str; 8] = ["#", "a", "b", "c/+", "+", "c/#", "c/2", "+/2"];

const WANTS: [Wants; 5] = [
    Wants {
        text: "attributes.colour = \"red\"",
        wants: |event| event.attribute("colour") == Some("red"),
    },
    Wants {
        text: "attributes.colour = \"blue\" AND attributes:size",
        wants: |event| {
            event.attribute("colour") == Some("blue") && event.attribute("size").is_some()
        },
    },
    Wants {
        text: "attributes:colour AND NOT hasPrefix(attributes.source, \"de\")",
        wants: |event| event.attribute("colour").is_some() && event.source != "depot",
    },
    Wants {
        text: "attributes.colour != \"red\" OR attributes.partitionkey = \"key-1\"",
        wants: |event| {
            event.attribute("colour") != Some("red")
                || event.ordering_key.as_deref() == Some("key-1")
        },
    },
    Wants { text: "attributes.size = \"2\"", wants: |event| event.attribute("size") == Some("2") },
];

impl Scenario {
    pub(crate) fn new(kind: Kind, rng: &mut Rng) -> Self {
        // A snapshot of one subscription may be sought by another one.
        let not_from = (rng.u8(..6) == 0).then(|| "me".to_owned());
        let count = rng.usize(1..=4);
        let plans = (0..count).map(|number| Plan::new(number, &not_from, rng)).collect();
        let bounds = Bounds {
            queue_events_max: rng.usize(2..30),
            queue_bytes_max: if rng.bool() { rng.usize(100..3000) } else { 1 << 20 },
            dead_letter_events_reserved: rng.usize(0..4),
            dead_letter_bytes_reserved: rng.usize(0..500),
            qos0_events_max: rng.usize(1..8),
            once_window: Duration::from_secs(120),
        };
        let manner = Manner {
            commit_millis: [0, 3, 20, 200][rng.usize(..4)],
            fetch_millis: [0, 1, 30][rng.usize(..3)],
            page_events_max: rng.usize(1..10),
            events_max: if rng.u8(..6) == 0 { rng.usize(5..40) } else { usize::MAX },
        };
        Self {
            kind,
            steps: 150,
            plans,
            bounds,
            manner,
            looks: [0, 5, 15][rng.usize(..3)],
            faults: [0, 2, 6][rng.usize(..3)],
            returns: [0, 10, 40][rng.usize(..3)],
        }
    }
}

impl Plan {
    fn new(number: usize, not_from: &Option<String>, rng: &mut Rng) -> Self {
        let filter = TopicFilter::new(FILTERS[rng.usize(..FILTERS.len())]).unwrap();
        let group = rng.bool().then(|| format!("group-{number}"));
        Self {
            label: format!("sub-{number}"),
            filter,
            members_max: if group.is_some() { rng.usize(1..=3) } else { 1 },
            group_max_in_flight: (group.is_some() && rng.u8(..3) == 0).then(|| rng.usize(1..6)),
            group,
            wants: (rng.u8(..3) == 0).then(|| WANTS[rng.usize(..WANTS.len())]),
            not_from: not_from.clone(),
            qos: qos(rng),
            order: order(rng),
        }
    }

    /// The name by which the broker knows it.
    pub(crate) fn name(&self) -> String {
        self.label.clone()
    }
}

pub(crate) fn qos(rng: &mut Rng) -> Qos {
    match rng.u8(0..8) {
        0 => Qos::AtMostOnce,
        1..5 => Qos::AtLeastOnce,
        _ => Qos::EffectivelyOnce,
    }
}

fn order(rng: &mut Rng) -> Order {
    match rng.u8(0..10) {
        0..2 => Order::Key(OrderBy::EventKey),
        2 => Order::Key(OrderBy::Attribute("colour".into())),
        3 => Order::Key(OrderBy::TopicLevel(2)),
        4 => Order::All,
        _ => Order::None,
    }
}

/// An event of the simulation. Its data begins with the number of its publish.
pub(crate) fn event(publish: Publish, identity: u64, rng: &mut Rng) -> Event {
    let mut data = (publish as u64).to_le_bytes().to_vec();
    let padding = if rng.u8(0..15) == 0 { rng.usize(200..1000) } else { rng.usize(0..40) };
    data.resize(data.len() + padding, 0);
    let mut attributes = Vec::new();
    if rng.bool() {
        attributes.push(("colour".into(), ["red", "blue"][rng.usize(..2)].into()));
    }
    if rng.bool() {
        attributes.push(("size".into(), rng.u8(1..4).to_string()));
    }
    Event {
        id: (identity / 2).to_string(),
        source: ["shop", "depot"][identity as usize % 2].into(),
        kind: "k".into(),
        data: data.into(),
        attributes,
        ordering_key: (rng.u8(0..4) > 0).then(|| format!("key-{}", rng.u8(0..3))),
        ..Event::default()
    }
}

pub(crate) fn topic(rng: &mut Rng) -> Topic {
    Topic::new(TOPICS[rng.usize(..TOPICS.len())]).unwrap()
}

/// One filter of those that there may be.
pub(crate) fn filter(rng: &mut Rng) -> TopicFilter {
    TopicFilter::new(FILTERS[rng.usize(..FILTERS.len())]).unwrap()
}

/// Rules for what topics remember.
pub(crate) fn retention(rng: &mut Rng) -> Vec<RetentionRule> {
    let mut rule = || {
        let retention = Retention {
            age: rng.bool().then(|| Duration::from_millis(rng.u64(0..5000))),
            events: rng.bool().then(|| rng.u64(0..20)),
            bytes: (rng.u8(..4) == 0).then(|| rng.u64(0..1000)),
        };
        RetentionRule { filter: filter(rng), retention }
    };
    let first = rule();
    let second = rule();
    match rng.u8(..4) {
        0 => Vec::new(),
        1 => vec![first, second],
        _ => vec![first],
    }
}

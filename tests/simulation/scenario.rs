//! What is simulated: chosen by the seed.

use crate::belief::{Stamp, Wants};
use crate::takers::Manner;
use fastrand::Rng;
use std::time::Duration;
use wasi_pubsub::broker::{
    DedupeWindow, Event, EventFilter, Exhausted, Order, OrderBy, Qos, RetryPolicy,
    SubscriptionSettings, Topic, TopicFilter,
};

/// The broker that is simulated, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The model. `returns`: it holds failed events back, and counts attempts.
    Model { returns: bool },
    /// The built-in broker itself.
    Memory,
}

/// One simulated world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) backend: Backend,
    pub(crate) hosts: usize,
    pub(crate) steps: usize,
    pub(crate) plans: Vec<Plan>,
    /// What the subscriptions of a host may hold together.
    pub(crate) budget_bytes: usize,
    /// Of a hundred events, how many a guest does not simply acknowledge.
    pub(crate) guest_faults: u32,
    /// Of a hundred steps, how many are faults of the link or of the host.
    pub(crate) faults: u32,
}

/// One subscription of each host.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: SubscriptionSettings,
    pub(crate) takers: Vec<Manner>,
    pub(crate) wants: Option<Wants>,
}

const TOPICS: [&str; 4] = ["a", "b", "c/1", "c/2"];
const FILTERS: [&str; 5] = ["#", "a", "b", "c/+", "+"];

const WANTS: [Wants; 3] = [
    Wants {
        text: "attributes.colour = \"red\"",
        wants: |event| event.attribute("colour") == Some("red"),
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
];

impl Scenario {
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> Self {
        let backend = match seed % 4 {
            0 | 1 => Backend::Model { returns: false },
            2 => Backend::Model { returns: true },
            _ => Backend::Memory,
        };
        let plans = (0..rng.usize(1..=3)).map(|number| Plan::new(number, rng)).collect();
        Self {
            backend,
            hosts: rng.usize(1..=2),
            steps: 200,
            plans,
            budget_bytes: if rng.u8(0..3) == 0 { rng.usize(50..1000) } else { usize::MAX },
            guest_faults: [0, 10, 30, 60][rng.usize(..4)],
            faults: [0, 2, 5, 15][rng.usize(..4)],
        }
    }
}

impl Plan {
    fn new(number: usize, rng: &mut Rng) -> Self {
        let filter = TopicFilter::new(FILTERS[rng.usize(..FILTERS.len())]).unwrap();
        let is_pull = rng.u8(0..3) == 0;
        let wants = (rng.u8(0..5) == 0).then(|| WANTS[rng.usize(..WANTS.len())]);
        let settings = SubscriptionSettings {
            label: number.to_string(),
            group: (rng.u8(0..3) == 0).then(|| format!("group-{number}")),
            qos: qos(rng),
            event_filter: wants.map(|Wants { text, .. }| EventFilter::new(text).unwrap()),
            order: order(rng),
            max_in_flight: rng.usize(1..=8),
            max_in_flight_bytes: if rng.bool() { rng.usize(100..800) } else { 1 << 20 },
            ack_deadline: is_pull.then(|| millis(rng.u64(100..3000))),
            retry: RetryPolicy {
                max_attempts: rng.bool().then(|| rng.u32(1..=4)),
                backoff: millis(rng.u64(0..500)),
                backoff_max: millis(rng.u64(100..3000)),
            },
            exhausted: exhausted(rng),
            dedupe: dedupe(rng),
            ..SubscriptionSettings::new(filter)
        };
        Self { settings, takers: takers(is_pull, rng), wants }
    }
}

pub(crate) fn qos(rng: &mut Rng) -> Qos {
    match rng.u8(0..8) {
        0 => Qos::AtMostOnce,
        1..4 => Qos::AtLeastOnce,
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

/// The dead-letter topic is filled in when its subscription is opened.
fn exhausted(rng: &mut Rng) -> Exhausted {
    match rng.u8(0..10) {
        0..5 => Exhausted::DeadLetter(Topic::new("dead").unwrap()),
        5..7 => Exhausted::Drop,
        _ => Exhausted::Never,
    }
}

fn dedupe(rng: &mut Rng) -> DedupeWindow {
    match rng.u8(0..3) {
        0 => DedupeWindow { events: rng.usize(0..6), age: millis(rng.u64(500..5000)) },
        _ => DedupeWindow::default(),
    }
}

fn takers(is_pull: bool, rng: &mut Rng) -> Vec<Manner> {
    let count = rng.usize(1..=2);
    let mut manner = || match is_pull {
        true => Manner::Pull,
        false if rng.bool() => Manner::Serial,
        false => Manner::Concurrent(1 + usize::from(rng.u8(..)) % 5),
    };
    (0..count).map(|_| manner()).collect()
}

/// An event of the simulation.
pub(crate) fn event(stamp: Stamp, rng: &mut Rng) -> Event {
    let mut data = stamp.bytes().to_vec();
    let padding = if rng.u8(0..15) == 0 { rng.usize(200..1000) } else { rng.usize(0..40) };
    data.resize(data.len() + padding, 0);
    Event {
        // An id says nothing without its source.
        id: (stamp.identity / 2).to_string(),
        source: ["shop", "depot"][stamp.identity as usize % 2].into(),
        kind: "k".into(),
        data: data.into(),
        attributes: (rng.bool())
            .then(|| ("colour".into(), ["red", "blue"][rng.usize(..2)].into()))
            .into_iter()
            .collect(),
        ordering_key: (rng.u8(0..4) > 0).then(|| format!("key-{}", rng.u8(0..3))),
        ..Event::default()
    }
}

pub(crate) fn topic(rng: &mut Rng) -> Topic {
    Topic::new(TOPICS[rng.usize(..TOPICS.len())]).unwrap()
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

//! What the checker believes of a subscription and of each of its deliveries.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;
use wasi_pubsub::broker::driver::{Incoming, Token};
use wasi_pubsub::broker::{
    DedupeWindow, Event, Exhausted, Lease, Order, OrderBy, Qos, SubscriptionSettings, Topic,
};

/// What a subscription was configured as. A planted fault makes the core work
/// with something else.
#[derive(Clone, Debug)]
pub(crate) struct Belief {
    /// What lasts at the broker when the host ends.
    pub(crate) session: String,
    pub(crate) settings: SubscriptionSettings,
    /// The broker takes failed events back.
    pub(crate) returns: bool,
    pub(crate) wants: Option<Wants>,
}

/// An event filter, and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wants {
    pub(crate) text: &'static str,
    pub(crate) wants: fn(&Event) -> bool,
}

impl Belief {
    pub(crate) fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight
    }

    pub(crate) fn max_attempts(&self) -> Option<u32> {
        match self.settings.exhausted {
            Exhausted::Never => None,
            _ => self.settings.retry.max_attempts,
        }
    }

    /// Events of one key are handled in order.
    pub(crate) fn key_of(&self, incoming: &Incoming) -> Option<String> {
        let (event, topic) = (&incoming.event, incoming.topic.as_str());
        let key = match &self.settings.order {
            Order::None => return None,
            Order::All => return Some("all".into()),
            Order::Key(OrderBy::EventKey) => event.ordering_key.as_deref(),
            Order::Key(OrderBy::Attribute(name)) => event.attribute(name),
            Order::Key(OrderBy::TopicLevel(level)) => topic.split('/').nth(level - 1),
        };
        Some(key.map_or_else(|| format!("topic {topic}"), |key| format!("key {key}")))
    }

    /// Whether the event filter lets it through.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.wants.is_none_or(|Wants { wants, .. }| wants(event))
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.settings.order != Order::None
    }

    /// Whether the broker gets it back when it failed: it would hand out later ones
    /// meanwhile, and knows nothing of isolation.
    pub(crate) fn is_returned(&self, delivery: &Delivery) -> bool {
        self.returns && !self.is_ordered() && !delivery.isolated
    }
}

/// What tells an event from others. It is the beginning of its payload, so that
/// nothing that the core does to attributes can change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counts the publishes. An event that was published twice has two.
    pub(crate) copy: u64,
    /// Stands for `source` and `id`.
    pub(crate) identity: u64,
}

impl Stamp {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn of(event: &Event) -> Self {
        let number = |at: usize| {
            let bytes = event.data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            u64::from_le_bytes(bytes.unwrap_or([0; 8]))
        };
        Self { copy: number(0), identity: number(8) }
    }

    pub(crate) fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.copy.to_le_bytes());
        bytes[8..].copy_from_slice(&self.identity.to_le_bytes());
        bytes
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} (publish {})", self.identity, self.copy)
    }
}

/// One delivery, from when the core took it until it is settled or left.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) arrival: u64,
    pub(crate) token: Token,
    pub(crate) stamp: Stamp,
    pub(crate) key: Option<String>,
    pub(crate) qos: Qos,
    pub(crate) size: usize,
    pub(crate) topic: Topic,
    /// What the next lease on it must say.
    pub(crate) attempt: u32,
    pub(crate) isolated: bool,
    pub(crate) not_before: Option<Instant>,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    /// The core has it, to be handed out now or later.
    Held,
    /// A taker has it.
    Leased { number: u64, deadline: Option<Instant> },
    /// It is to be acknowledged.
    Done,
    /// The filter does not want it: it is to be acknowledged.
    Unwanted,
    /// It is to be acknowledged once its dead letter is stored.
    Dead { reason: String, stored: bool },
    /// The broker is to have it back; `None`: after a back-off.
    Returning { delay: Option<Duration>, charged: bool },
}

/// What a taker says of its lease.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Ack,
    Retry { after: Option<Duration>, reason: String },
    Reject { reason: String },
    GiveBack { isolate: bool },
    Extend(Duration),
}

impl Delivery {
    /// Whether it counts against bounds and in the order of its key.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self.state, State::Unwanted)
    }

    /// Whether it may be handed out, and as what.
    pub(crate) fn check_lease(&self, lease: &Lease) -> Result<(), String> {
        let stamp = self.stamp;
        if !matches!(self.state, State::Held) {
            return Err(format!("{stamp} was begun in state {:?}", self.state));
        }
        if let Some(early) = self.not_before.filter(|at| Instant::now() < *at) {
            let early = early.duration_since(Instant::now());
            return Err(format!("{stamp} was begun {early:?} before its delay was over"));
        }
        let found = (lease.attempt(), lease.is_isolated(), lease.qos(), lease.topic());
        let expected = (self.attempt, self.isolated, self.qos, &self.topic);
        if found == expected {
            return Ok(());
        }
        Err(format!("{stamp} was begun as {found:?}, and should be {expected:?}"))
    }

    /// Whether it may have a dead letter, and such a one.
    pub(crate) fn check_letter(&self, letter: &Event, label: &str) -> Result<(), String> {
        let State::Dead { reason, stored: false } = &self.state else {
            return Err(format!("a dead letter of {} in state {:?}", self.stamp, self.state));
        };
        let attempts = self.attempt.to_string();
        let names =
            ["deadletterreason", "deadlettertopic", "deadlettersubscription", "deadletterattempts"];
        let found = names.map(|name| letter.attribute(name));
        let expected = [reason, self.topic.as_str(), label, &attempts].map(Some);
        if found == expected {
            return Ok(());
        }
        Err(format!("{}: the dead letter says {found:?}, not {expected:?}", self.stamp))
    }
}

/// The verdicts that the core has to remember at qos 2.
#[derive(Debug)]
pub(crate) struct Window {
    bounds: DedupeWindow,
    recorded: BTreeSet<u64>,
    ages: VecDeque<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Window {
    pub(crate) fn new(bounds: DedupeWindow) -> Self {
        Self { bounds, recorded: BTreeSet::new(), ages: VecDeque::new(), last: None }
    }

    pub(crate) fn record(&mut self, identity: u64) {
        self.last = Some((Instant::now(), identity));
        if self.bounds.events > 0 && !self.contains(identity) {
            self.recorded.insert(identity);
            self.ages.push_back((Instant::now(), identity));
            self.forget();
        }
    }

    pub(crate) fn contains(&mut self, identity: u64) -> bool {
        self.forget();
        self.recorded.contains(&identity)
    }

    /// As `contains`; besides, what waited for the verdict that was recorded at
    /// last is done with in the same moment, whatever the bounds.
    pub(crate) fn just_recorded(&mut self, identity: u64) -> bool {
        self.last == Some((Instant::now(), identity)) || self.contains(identity)
    }

    fn forget(&mut self) {
        while let Some((at, identity)) = self.ages.front()
            && (self.ages.len() > self.bounds.events || at.elapsed() >= self.bounds.age)
        {
            self.recorded.remove(identity);
            self.ages.pop_front();
        }
    }
}

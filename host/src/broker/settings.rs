//! What a subscription is made of.

use super::{EventFilter, Order, Qos, RetryPolicy, Start, Topic, TopicFilter};
use std::time::Duration;

/// The default of [`SubscriptionSettings::max_in_flight`].
pub const MAX_IN_FLIGHT: usize = 64;
/// The default of [`SubscriptionSettings::max_in_flight_bytes`].
pub const MAX_IN_FLIGHT_BYTES: usize = 16 * 1024 * 1024;
/// The default acknowledgement deadline of a pull subscription.
pub const ACK_DEADLINE: Duration = Duration::from_secs(30);

/// What a subscription asks for, and how its events are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// The name that it was given or, without one, the text of `topic` or `queue`
    /// as configured; what `receive`, `stream` and `pull` name.
    pub name: String,
    /// Unique in the process and the same after a restart: component or group,
    /// and filter.
    pub label: String,
    /// What its broker knows it by; `None`: the label. It differs where another
    /// broker has a subscription of the same name, and does not depend on that.
    pub broker_label: Option<String>,
    /// The topics.
    pub filter: TopicFilter,
    /// The group that shares the queue; `None` for a topic subscription.
    pub group: Option<String>,
    /// The quality of service to ask for.
    pub qos: Qos,
    /// Which events are wanted, by their attributes; `None`: all. The others are
    /// acknowledged without being handed out.
    pub event_filter: Option<EventFilter>,
    /// Which events are handled one after the other.
    pub order: Order,
    /// The most events that are leased, wait for a retry, for their turn or for
    /// their dead letter to be stored, together.
    pub max_in_flight: usize,
    /// The largest number of bytes, likewise. One event above it is taken when
    /// nothing else is there.
    pub max_in_flight_bytes: usize,
    /// The most events that all subscribers of a queue may have unsettled, together,
    /// where the broker can hold them to that; `None`: no limit.
    pub group_max_in_flight: Option<usize>,
    /// How long a taker has for its verdict, for pull. `None` for push, where
    /// the runtime bounds the call.
    pub ack_deadline: Option<Duration>,
    /// When and how often a failed event is tried again.
    pub retry: RetryPolicy,
    /// What becomes of an event that was rejected, or tried too often.
    pub exhausted: Exhausted,
    /// Events that this name published through the same broker are not wanted.
    pub not_from: Option<String>,
    /// Which verdicts are remembered at qos 2.
    pub dedupe: DedupeWindow,
    /// Where it begins where the broker does not know it yet.
    pub start: Start,
    /// Whether its broker forgets it when it ends.
    pub is_temporary: bool,
}

impl SubscriptionSettings {
    /// A topic subscription of a filter with every default: qos 1, push.
    #[must_use]
    pub fn new(filter: TopicFilter) -> Self {
        Self {
            name: filter.as_str().to_owned(),
            label: filter.as_str().to_owned(),
            broker_label: None,
            filter,
            group: None,
            qos: Qos::default(),
            event_filter: None,
            order: Order::None,
            max_in_flight: MAX_IN_FLIGHT,
            max_in_flight_bytes: MAX_IN_FLIGHT_BYTES,
            group_max_in_flight: None,
            ack_deadline: None,
            retry: RetryPolicy::default(),
            exhausted: Exhausted::Never,
            not_from: None,
            dedupe: DedupeWindow::default(),
            start: Start::New,
            is_temporary: false,
        }
    }

    /// What its broker knows it by: unique there, and the same after a restart.
    #[must_use]
    pub fn known_as(&self) -> &str {
        self.broker_label.as_deref().unwrap_or(&self.label)
    }
}

/// What becomes of an event that nobody will handle any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It is published to this topic, and acknowledged once it is stored there.
    DeadLetter(Topic),
    /// It is acknowledged, logged and counted.
    Drop,
    /// Nothing is configured. A rejected event is acknowledged, with a warning,
    /// and counted; one that has had all its attempts is tried on.
    Never,
}

/// How many verdicts are remembered at qos 2, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeWindow {
    /// The most events.
    pub events: usize,
    /// The longest time.
    pub age: Duration,
}

impl Default for DedupeWindow {
    fn default() -> Self {
        Self { events: 100_000, age: Duration::from_secs(120) }
    }
}

//! How long topics remember, and where subscriptions begin.

use super::TopicFilter;
use std::time::{Duration, SystemTime};

/// What a topic keeps of events that no subscription waits for any more. All
/// bounds hold together: the oldest go first. Without any bound everything stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The longest time since it was published.
    pub age: Option<Duration>,
    /// The most events of a topic.
    pub events: Option<u64>,
    /// The most bytes of a topic.
    pub bytes: Option<u64>,
}

impl Retention {
    /// What keeps all that either of two keeps.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        // Without a bound it is larger than with any.
        Self {
            age: self.age.zip(other.age).map(|(one, two)| one.max(two)),
            events: self.events.zip(other.events).map(|(one, two)| one.max(two)),
            bytes: self.bytes.zip(other.bytes).map(|(one, two)| one.max(two)),
        }
    }
}

/// What the topics of a filter keep. Where several rules fit a topic, the larger
/// of each bound holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// The topics.
    pub filter: TopicFilter,
    /// What each of them keeps.
    pub retention: Retention,
}

/// The bounds of what a broker inside the process keeps, which can change while it
/// is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreBounds {
    /// The most bytes of events. At the bound publishers wait.
    pub bytes_max: u64,
    /// How long a subscription stays without a subscriber.
    pub subscription_expiry: Duration,
}

/// Where a subscription that is new begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    New,
    /// With the oldest event that is there.
    Earliest,
    /// With the first event that was published at this time or after it.
    Time(SystemTime),
    /// With this number of the broker's sequence, or the next one that is there.
    Number(u64),
}

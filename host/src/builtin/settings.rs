//! The bounds of a built-in broker.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Tells the time of day.
#[derive(Clone)]
pub struct Clock(pub Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(SystemTime::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The bounds of a built-in broker. Those of queues are for each queue, that is,
/// for each topic subscription and each group; one event above a bound in bytes
/// is taken when nothing else is there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Events of qos 1 and 2 that are not acknowledged, where the storage does not
    /// hold the backlog. At the bound publishers wait.
    pub queue_events_max: usize,
    /// Likewise, in bytes.
    pub queue_bytes_max: usize,
    /// How many dead letters are taken beyond the bound.
    pub dead_letter_events_reserved: usize,
    /// Likewise, in bytes.
    pub dead_letter_bytes_reserved: usize,
    /// Events of qos 0 that wait. At the bound the newest are dropped.
    pub qos0_events_max: usize,
    /// Likewise, in bytes.
    pub qos0_bytes_max: usize,
    /// How long an event that was published at qos 2 is not published again.
    pub publish_once_window: Duration,
    /// How long a durable subscription stays without a subscriber; `None`: for
    /// ever.
    pub subscription_expiry: Option<Duration>,
    /// The time of day.
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            queue_events_max: 100_000,
            queue_bytes_max: 256 * MIB,
            dead_letter_events_reserved: 10_000,
            dead_letter_bytes_reserved: 32 * MIB,
            qos0_events_max: 10_000,
            qos0_bytes_max: 32 * MIB,
            publish_once_window: Duration::from_secs(120),
            subscription_expiry: None,
            clock: Clock::default(),
        }
    }
}

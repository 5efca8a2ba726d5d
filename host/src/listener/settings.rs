//! What a listener is told: limits, and what it says of itself.

use super::access::Access;
use crate::mqtt::Format;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Tells the time of day; tests bring their own.
#[derive(Clone)]
pub struct Clock(pub Arc<dyn Fn() -> SystemTime + Send + Sync>);

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

/// What all listeners of a broker share.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How events are laid out for clients.
    pub format: Format,
    /// The bounds.
    pub limits: Limits,
    /// How often `$SYS` topics are published; `None` for never.
    pub sys_interval: Option<Duration>,
    /// The longest keep-alive of a client of MQTT 5, in seconds; `None` for any.
    pub keep_alive_max: Option<u16>,
    /// Whether clients of MQTT 5 are told in words why they are disconnected.
    pub reason_strings: bool,
    /// Who may do what.
    pub access: Access,
    /// The time of day.
    pub clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: Format::CloudEvents,
            limits: Limits::default(),
            sys_interval: Some(Duration::from_secs(10)),
            keep_alive_max: None,
            reason_strings: true,
            access: Access::default(),
            clock: Clock::default(),
        }
    }
}

/// The bounds of a broker's listeners. Those in time are seconds at least.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once. A client beyond it is refused.
    pub connections_max: usize,
    /// Likewise from one address: of IPv6, one network of 64 bits. `None` for any
    /// number.
    pub connections_per_address_max: Option<usize>,
    /// What may arrive before a client is accepted, in bytes.
    pub connect_bytes_max: usize,
    /// How long a connection may take from its beginning to its CONNECT, with the
    /// handshakes of TLS and WebSocket.
    pub connect_time_max: Duration,
    /// The largest packet, in bytes.
    pub packet_bytes_max: u32,
    /// What may wait to be written to a client before no more is read from it, in
    /// bytes. One packet may be above it.
    pub send_buffer_bytes_max: usize,
    /// How long a client may take no byte while some wait for it.
    pub send_time_max: Duration,
    /// Publishes of a client in a second; what one second lets through may come at
    /// once. One that sends more is read more slowly. `None` for any number.
    pub publishes_per_second_max: Option<u64>,
    /// Likewise, bytes of whatever it sends.
    pub bytes_per_second_max: Option<u64>,
    /// Publishes of a client that the broker has not taken; a client of MQTT 5 is
    /// told.
    pub receive_max: u16,
    /// Likewise, in bytes.
    pub receive_bytes_max: usize,
    /// How long a client's publishes may wait for room before it is disconnected.
    pub publish_time_max: Duration,
    /// Events that are sent to a client and not acknowledged.
    pub in_flight_max: u16,
    /// Likewise, in bytes. One event may be above it.
    pub in_flight_bytes_max: usize,
    /// Events of qos 1 and 2 that wait for a session, those in flight among them.
    /// Beyond it the oldest are discarded, and the client is disconnected. A group
    /// of clients has a bound of its own, as large.
    pub queued_max: usize,
    /// Likewise, in bytes. One event may be above it.
    pub queued_bytes_max: usize,
    /// Topic aliases that a client may set.
    pub topic_aliases_max: u16,
    /// Subscriptions of a session.
    pub subscriptions_max: usize,
    /// Sessions that are kept for clients that are not there. The one that would
    /// expire first makes way.
    pub sessions_max: usize,
    /// The longest time that a session is kept.
    pub session_expiry_max: Duration,
    /// The levels of a topic or filter.
    pub levels_max: usize,
    /// Retained messages.
    pub retained_max: usize,
    /// Likewise, in bytes.
    pub retained_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            connections_max: 100_000,
            connections_per_address_max: None,
            connect_bytes_max: 128 * 1024,
            connect_time_max: Duration::from_secs(10),
            packet_bytes_max: 16 * 1024 * 1024,
            send_buffer_bytes_max: 256 * 1024,
            send_time_max: Duration::from_secs(60),
            publishes_per_second_max: None,
            bytes_per_second_max: None,
            receive_max: 1024,
            receive_bytes_max: 32 * MIB,
            publish_time_max: Duration::from_secs(60),
            in_flight_max: 1024,
            in_flight_bytes_max: 32 * MIB,
            queued_max: 100_000,
            queued_bytes_max: 256 * MIB,
            topic_aliases_max: 32,
            subscriptions_max: 4096,
            sessions_max: 100_000,
            session_expiry_max: Duration::from_secs(7 * 24 * 60 * 60),
            levels_max: 256,
            retained_max: 100_000,
            retained_bytes_max: 256 * MIB,
        }
    }
}

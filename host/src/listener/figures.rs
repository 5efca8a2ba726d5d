//! What is counted, for `$SYS` and metrics.

use super::reason::Reason;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Why connections were refused or ended, beside what MQTT has a code for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The client said goodbye.
    Normal,
    /// It said goodbye, and that its will is to be sent.
    WithWill,
    /// It has gone without a word, or takes nothing any more.
    Gone,
    /// It did not come as far as CONNECT in time.
    Timeout,
    /// There were too many for more to be told.
    Closed,
    /// The handshake of TLS or WebSocket has failed.
    Handshake,
    /// What a reason code says.
    Code(Reason),
}

/// The words of [`Why`] that are no codes, and those for codes; at the end what
/// stands for all others.
const WORDS: [&str; 6] = ["normal", "with_will", "gone", "timeout", "closed", "handshake"];
const CODES: [(Reason, &str); 20] = [
    (Reason::UNSPECIFIED, "unspecified_error"),
    (Reason::MALFORMED_PACKET, "malformed_packet"),
    (Reason::PROTOCOL_ERROR, "protocol_error"),
    (Reason::UNSUPPORTED_PROTOCOL_VERSION, "unsupported_protocol_version"),
    (Reason::CLIENT_IDENTIFIER_NOT_VALID, "client_identifier_not_valid"),
    (Reason::BAD_USER_NAME_OR_PASSWORD, "bad_user_name_or_password"),
    (Reason::NOT_AUTHORIZED, "not_authorized"),
    (Reason::SERVER_BUSY, "server_busy"),
    (Reason::SERVER_SHUTTING_DOWN, "server_shutting_down"),
    (Reason::BAD_AUTHENTICATION_METHOD, "bad_authentication_method"),
    (Reason::KEEP_ALIVE_TIMEOUT, "keep_alive_timeout"),
    (Reason::SESSION_TAKEN_OVER, "session_taken_over"),
    (Reason::TOPIC_FILTER_INVALID, "topic_filter_invalid"),
    (Reason::TOPIC_NAME_INVALID, "topic_name_invalid"),
    (Reason::RECEIVE_MAX_EXCEEDED, "receive_maximum_exceeded"),
    (Reason::TOPIC_ALIAS_INVALID, "topic_alias_invalid"),
    (Reason::PACKET_TOO_LARGE, "packet_too_large"),
    (Reason::QUOTA_EXCEEDED, "quota_exceeded"),
    (Reason::PAYLOAD_FORMAT_INVALID, "payload_format_invalid"),
    (Reason(0xff), "other"),
];
const WHYS: usize = WORDS.len() + CODES.len();

impl Why {
    fn index(self) -> usize {
        match self {
            Self::Normal => 0,
            Self::WithWill => 1,
            Self::Gone => 2,
            Self::Timeout => 3,
            Self::Closed => 4,
            Self::Handshake => 5,
            Self::Code(reason) => {
                let known = CODES.iter().position(|(code, _)| *code == reason);
                WORDS.len() + known.unwrap_or(CODES.len() - 1)
            }
        }
    }
}

/// Counts by reason.
pub(super) struct ByReason([AtomicU64; WHYS]);

impl Default for ByReason {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; WHYS])
    }
}

impl ByReason {
    pub(super) fn add(&self, why: Why) {
        self.0[why.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// All reasons that there have been, with their counts.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let words = WORDS.into_iter().chain(CODES.iter().map(|(_, word)| *word));
        let counts = self.0.iter().map(|count| count.load(Relaxed));
        words.zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// What is counted.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicUsize,
    pub(super) connections_total: AtomicU64,
    /// Connections that came to no session, by reason.
    pub(super) refused: ByReason,
    /// Clients that have gone, by reason.
    pub(super) ended: ByReason,
    pub(super) authentication_failures: AtomicU64,
    pub(super) publishes_received: AtomicU64,
    pub(super) publishes_sent: AtomicU64,
    pub(super) publishes_dropped: Dropped,
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) subscriptions: Arc<Present>,
}

/// Events that were to be sent to a client and were not, by reason.
#[derive(Default)]
pub(super) struct Dropped {
    /// Of no more use.
    pub(super) expired: AtomicU64,
    /// Larger than the client takes.
    pub(super) too_large: AtomicU64,
    /// MQTT cannot say it.
    pub(super) inexpressible: AtomicU64,
    /// Older than what may wait for the session.
    pub(super) overflow: AtomicU64,
}

impl Dropped {
    pub(super) fn sum(&self) -> u64 {
        let Self { expired, too_large, inexpressible, overflow } = self;
        [expired, too_large, inexpressible, overflow].iter().map(|count| count.load(Relaxed)).sum()
    }
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, number: usize) {
        if number > 0 {
            counter.fetch_add(number as u64, Relaxed);
        }
    }
}

/// How many of something there are.
#[derive(Debug, Default)]
pub(super) struct Present(AtomicUsize);

impl Present {
    /// One more, until it is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self.clone())
    }

    pub(super) fn number(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Counted(Arc<Present>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// The figures of a listener, for metrics. What has `total` in its name only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Connections there are now, with those that have not said who they are.
    pub connections: usize,
    /// Clients that are accepted now.
    pub clients: usize,
    /// Sessions that are kept for clients that are away.
    pub sessions_kept: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Likewise, in bytes.
    pub retained_bytes: usize,
    /// Connections that were taken.
    pub connections_total: u64,
    /// Connections that came to no session, by reason.
    pub refused_total: Vec<(&'static str, u64)>,
    /// Clients that have gone, by reason.
    pub ended_total: Vec<(&'static str, u64)>,
    /// Clients that did not know the password.
    pub authentication_failures_total: u64,
    /// Publishes of clients.
    pub publishes_received_total: u64,
    /// Publishes to clients.
    pub publishes_sent_total: u64,
    /// Events that were to be sent to a client and were not, by reason.
    pub publishes_dropped_total: Vec<(&'static str, u64)>,
    /// Bytes of clients.
    pub bytes_received_total: u64,
    /// Bytes to clients.
    pub bytes_sent_total: u64,
    /// How often a client had to wait for its rate.
    pub throttled_total: u64,
}

impl Counters {
    /// What is counted, without what others know.
    pub(super) fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let Dropped { expired, too_large, inexpressible, overflow } = &self.publishes_dropped;
        Figures {
            connections: self.connections.load(Relaxed),
            subscriptions: self.subscriptions.number(),
            connections_total: count(&self.connections_total),
            refused_total: self.refused.counts(),
            ended_total: self.ended.counts(),
            authentication_failures_total: count(&self.authentication_failures),
            publishes_received_total: count(&self.publishes_received),
            publishes_sent_total: count(&self.publishes_sent),
            publishes_dropped_total: vec![
                ("expired", count(expired)),
                ("too_large", count(too_large)),
                ("inexpressible", count(inexpressible)),
                ("overflow", count(overflow)),
            ],
            bytes_received_total: count(&self.bytes_received),
            bytes_sent_total: count(&self.bytes_sent),
            throttled_total: count(&self.throttled),
            ..Figures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_word_and_what_is_unknown_has_one_too() {
        let counts = ByReason::default();
        for why in [Why::Normal, Why::Handshake, Why::Code(Reason::SESSION_TAKEN_OVER)] {
            counts.add(why);
        }
        counts.add(Why::Code(Reason(0xa2)));
        counts.add(Why::Code(Reason(0x04)));
        let expected = [("normal", 1), ("handshake", 1), ("session_taken_over", 1), ("other", 2)];
        assert_eq!(counts.counts(), expected);
        assert_eq!(counts.sum(), 5);
    }

    #[test]
    fn what_is_present_is_counted_until_it_is_dropped() {
        let present = Arc::new(Present::default());
        let (one, two) = (present.enter(), present.enter());
        assert_eq!(present.number(), 2);
        drop(one);
        assert_eq!(present.number(), 1);
        drop(two);
        assert_eq!(present.number(), 0);
    }
}

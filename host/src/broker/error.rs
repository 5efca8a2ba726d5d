//! What can go wrong between a component and a broker.

/// Why an operation on a broker failed. Callers act on the kind; the text is
/// for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The topic or filter is malformed for this broker.
    #[error("invalid topic: {0}")]
    InvalidTopic(String),
    /// The broker refuses this to these credentials.
    #[error("access denied: {0}")]
    Denied(String),
    /// The event is larger than the limit given, in bytes.
    #[error("the event is larger than {limit} bytes")]
    TooLarge {
        /// The largest event that is taken, in bytes.
        limit: u64,
    },
    /// The broker cannot be reached, or refused for now: worth retrying.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Nothing happened within the time allowed.
    #[error("timed out")]
    Timeout,
    /// The subscription has ended for good, for the reason given.
    #[error("closed: {0}")]
    Closed(String),
    /// The lease is over: the call had no effect.
    #[error("the lease on the event is over")]
    LeaseExpired,
    /// The broker cannot do this.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl BrokerError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }
}

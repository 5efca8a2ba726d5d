use std::fmt;
use std::time::Duration;

/// `Ok`, or an [`Error`] of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed; from a handler, what becomes of the event.
///
/// Returned from a handler, [`RetryAfter`](Error::RetryAfter) and
/// [`Rejected`](Error::Rejected) say what to do; every other error means
/// deliver again, after the configured back-off. `?` turns strings and the
/// usual errors of the standard library into [`Other`](Error::Other), and
/// [`Error::other`] anything that can be displayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The topic or filter is malformed for the broker.
    InvalidTopic(String),
    /// The configuration does not grant this to the component.
    AccessDenied(String),
    /// No pull subscription of that name is configured for the component.
    NoSuchSubscription(String),
    /// Nothing happened within the time allowed.
    Timeout,
    /// The event is larger than the limit, in bytes, given here.
    TooLarge(u64),
    /// The broker cannot be reached, or refused for now: worth retrying.
    Unavailable(String),
    /// The subscription has ended: the host stops, or the broker serves it no more.
    Closed,
    /// The lease on the event is over; the call had no effect.
    LeaseExpired,
    /// The broker, or the place of the call, does not allow it.
    Unsupported(String),
    /// From a handler: deliver again, not before this many milliseconds.
    RetryAfter(u64),
    /// From a handler: never deliver again. The event goes to the dead-letter
    /// topic, where one is configured.
    Rejected(String),
    /// Anything else. From a handler: deliver again.
    Other(String),
}

impl Error {
    /// From a handler: deliver the event again, not before `delay` has passed.
    ///
    /// Part of a millisecond counts as a whole one.
    pub fn retry_after(delay: Duration) -> Self {
        Self::RetryAfter(crate::millis(delay))
    }

    /// From a handler: never deliver the event again, for this reason.
    pub fn rejected(reason: impl fmt::Display) -> Self {
        Self::Rejected(reason.to_string())
    }

    /// Any other failure; made for `.map_err(Error::other)`.
    pub fn other(cause: impl fmt::Display) -> Self {
        Self::Other(cause.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTopic(why) => write!(f, "invalid topic: {why}"),
            Self::AccessDenied(why) => write!(f, "access denied: {why}"),
            Self::NoSuchSubscription(why) => write!(f, "no such subscription: {why}"),
            Self::Timeout => f.write_str("timed out"),
            Self::TooLarge(limit) => write!(f, "the event is larger than {limit} bytes"),
            Self::Unavailable(why) => write!(f, "broker unavailable: {why}"),
            Self::Closed => f.write_str("the subscription has ended"),
            Self::LeaseExpired => f.write_str("the lease on the event is over"),
            Self::Unsupported(why) => write!(f, "unsupported: {why}"),
            Self::RetryAfter(ms) => write!(f, "retry after {ms} ms"),
            Self::Rejected(why) => write!(f, "rejected: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::Other(message.to_owned())
    }
}

macro_rules! other_from {
    ($($cause:ty),* $(,)?) => {$(
        impl From<$cause> for Error {
            fn from(cause: $cause) -> Self {
                Self::other(cause)
            }
        }
    )*};
}

other_from!(
    Box<dyn std::error::Error>,
    Box<dyn std::error::Error + Send + Sync>,
    fmt::Error,
    std::char::ParseCharError,
    std::env::VarError,
    std::io::Error,
    std::num::ParseFloatError,
    std::num::ParseIntError,
    std::num::TryFromIntError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::time::SystemTimeError,
);

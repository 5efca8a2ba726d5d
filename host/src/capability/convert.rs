//! Between the core's types and those of WIT.

use super::bindings::{Error, Event as WitEvent};
use crate::broker::{BrokerError, Event, Lease, Verdict};
use std::time::Duration;

/// The event of a delivery as a component sees it.
pub(super) fn to_wit(lease: &Lease) -> WitEvent {
    let event = lease.event();
    WitEvent {
        id: event.id.clone(),
        source: event.source.clone(),
        type_: event.kind.clone(),
        data: event.data.to_vec(),
        content_type: event.content_type.clone(),
        attributes: event.attributes.clone(),
        ordering_key: event.ordering_key.clone(),
        topic: Some(lease.topic().as_str().to_owned()),
        attempt: lease.attempt(),
    }
}

/// An event that a component publishes. `topic` and `attempt` belong to
/// deliveries and are ignored.
pub(super) fn from_wit(event: WitEvent) -> Event {
    Event {
        id: event.id,
        source: event.source,
        kind: event.type_,
        data: event.data.into(),
        content_type: event.content_type,
        attributes: event.attributes,
        ordering_key: event.ordering_key,
    }
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::InvalidTopic(text) => Self::InvalidTopic(text),
            BrokerError::Denied(text) => Self::AccessDenied(text),
            BrokerError::TooLarge { limit } => Self::TooLarge(limit),
            BrokerError::Unavailable(text) => Self::Unavailable(text),
            BrokerError::Timeout => Self::Timeout,
            BrokerError::Closed(_) => Self::Closed,
            BrokerError::LeaseExpired => Self::LeaseExpired,
            BrokerError::Unsupported(text) => Self::Unsupported(text),
            BrokerError::Other(text) => Self::Other(text),
        }
    }
}

/// The verdict that a handler's result stands for.
pub(super) fn verdict(result: Result<(), Error>) -> Verdict {
    match result {
        Ok(()) => Verdict::Ack,
        Err(Error::Rejected(reason)) => Verdict::Reject { reason },
        Err(Error::RetryAfter(milliseconds)) => Verdict::Retry {
            after: Some(Duration::from_millis(milliseconds)),
            reason: format!("the handler asked for a retry after {milliseconds} ms"),
        },
        Err(error) => Verdict::Retry { after: None, reason: describe(&error) },
    }
}

/// An error in words, as logs and dead letters carry it.
fn describe(error: &Error) -> String {
    match error {
        Error::InvalidTopic(text) => format!("invalid topic: {text}"),
        Error::AccessDenied(text) => format!("access denied: {text}"),
        Error::NoSuchSubscription(text) => format!("no such subscription: {text}"),
        Error::Timeout => "timed out".into(),
        Error::TooLarge(limit) => format!("the event is larger than {limit} bytes"),
        Error::Unavailable(text) => format!("unavailable: {text}"),
        Error::Closed => "closed".into(),
        Error::LeaseExpired => "the lease on the event is over".into(),
        Error::Unsupported(text) => format!("unsupported: {text}"),
        Error::RetryAfter(milliseconds) => format!("retry after {milliseconds} ms"),
        Error::Rejected(text) => format!("rejected: {text}"),
        Error::Other(text) => text.clone(),
    }
}

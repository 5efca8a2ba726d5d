//! CloudEvents in JSON: the format of structured mode.
//!
//! The document is that of `broker::cloudevents`; what MQTT itself knows of an
//! event travels in the packet, and not in the document.

use super::attributes;
use crate::broker::{BrokerError, Event, cloudevents};
use bytes::Bytes;
use std::borrow::Cow;

/// Writes an event as one document.
///
/// # Errors
/// It has attributes that JSON cannot express.
pub(super) fn write(event: &Event) -> Result<Vec<u8>, BrokerError> {
    let mut event = Cow::Borrowed(event);
    if event.attributes.iter().any(|(name, _)| attributes::is_reserved(name)) {
        event.to_mut().attributes.retain(|(name, _)| !attributes::is_reserved(name));
    }
    cloudevents::write(&event).map_err(|error| BrokerError::Unsupported(error.to_string()))
}

/// Reads a document; `None` where it is none of a CloudEvent.
pub(super) fn read(payload: &Bytes) -> Option<Event> {
    // Most of what is no CloudEvent is found out at once.
    let start = payload.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *start != b'{' {
        return None;
    }
    let mut event = cloudevents::read(payload).ok()?;
    event.attributes.retain(|(name, _)| !attributes::is_reserved(name));
    Some(event)
}

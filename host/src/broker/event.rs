//! The event: an envelope in the terms of CloudEvents 1.0, and its payload.

use super::cloudevents::PARTITION_KEY;
use super::delivery::DEAD_LETTER_SUBSCRIPTION;
use bytes::Bytes;

/// The attribute of a dead letter that was published again as the event that it
/// was: tells the redriving from others.
pub const DEAD_LETTER_REDRIVE: &str = "deadletterredrive";

/// A message, as components and backends exchange it.
///
/// `source` and `id` together identify it. Where it came from and how often it
/// was tried belong to a delivery, not to the event: see
/// [`Lease`](crate::broker::Lease).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Unique within `source`. Never empty once an event has left its publisher.
    pub id: String,
    /// The context in which the event happened, a URI reference.
    pub source: String,
    /// The kind of occurrence: the attribute `type` of CloudEvents.
    pub kind: String,
    /// The payload, opaque to the host.
    pub data: Bytes,
    /// The media type of `data`, where known.
    pub content_type: Option<String>,
    /// Further attributes, in order; a name may occur twice.
    pub attributes: Vec<(String, String)>,
    /// Events that share a key are delivered in order, where a subscription
    /// orders by key.
    pub ordering_key: Option<String>,
}

impl Event {
    /// What the event counts against limits, in bytes: its payload and the
    /// text of all its attributes.
    #[must_use]
    pub fn size(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
        self.id.len()
            + self.source.len()
            + self.kind.len()
            + self.data.len()
            + self.content_type.as_ref().map_or(0, String::len)
            + self.ordering_key.as_ref().map_or(0, String::len)
            + attributes
    }

    /// The first value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// What tells this event from others: its source, its id, for a dead letter
    /// the subscription that gave the event up, and for one that was published
    /// again the redriving. Two subscriptions may each store a dead letter of one
    /// event, under the event's own id; and one that is redriven is to be handled
    /// although there was a verdict.
    #[must_use]
    pub fn identity(&self) -> (&str, &str, [Option<&str>; 2]) {
        let more = [DEAD_LETTER_SUBSCRIPTION, DEAD_LETTER_REDRIVE];
        (&self.source, &self.id, more.map(|name| self.attribute(name)))
    }

    /// The value of an attribute of the envelope, by its name in CloudEvents
    /// (`id`, `source`, `type`, `datacontenttype` and `partitionkey`), or the
    /// first value of another one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        match name {
            "id" => Some(&self.id),
            "source" => Some(&self.source),
            "type" => Some(&self.kind),
            "datacontenttype" => self.content_type.as_deref(),
            PARTITION_KEY => self.ordering_key.as_deref(),
            _ => self.attribute(name),
        }
    }
}

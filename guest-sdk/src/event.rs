use crate::{Error, Result};
use std::borrow::Cow;
use std::fmt;

/// How much of an event's text its `Debug` form shows, in characters.
const DEBUG_TEXT_CHARS: usize = 256;

/// A message: an envelope in the terms of CloudEvents 1.0, and its payload.
///
/// ```
/// # use pubsub::Event;
/// let event = Event::new("com.example.order.created", r#"{"item": 7}"#)
///     .with_content_type("application/json")
///     .with_attribute("region", "eu");
/// assert_eq!(event.attribute("region"), Some("eu"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Identifies the event, together with `source`. The host fills in an
    /// empty one when the event is published.
    pub id: String,
    /// Where the event happened, a URI reference. The host fills in an empty
    /// one with the component's name.
    pub source: String,
    /// The kind of occurrence, such as `com.example.order.created`.
    pub type_: String,
    /// The payload.
    pub data: Vec<u8>,
    /// The media type of `data`, where known.
    pub content_type: Option<String>,
    /// Further attributes, in order; filters select events by them.
    pub attributes: Vec<(String, String)>,
    /// Events that share a key are delivered in the order they were published
    /// in, where the subscription orders by key.
    pub ordering_key: Option<String>,
    /// The topic that the event was received from; ignored when publishing.
    pub topic: Option<String>,
    /// Which delivery of this event this is, from 1; ignored when publishing.
    pub attempt: u32,
}

impl Event {
    /// An event of this type with this payload: text or bytes.
    pub fn new(type_: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { type_: type_.into(), data: data.into(), ..Self::default() }
    }

    /// Sets the identity; without it the host makes one up.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets where the event happened; without it, the component's name.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Sets the media type of the payload.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Adds an attribute, after those that are there.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Sets the key whose events stay in order.
    #[must_use]
    pub fn with_ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// The value of the first attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The payload as text.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it is not UTF-8: another attempt would not help,
    /// so that a handler may pass it on with `?`.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.data)
            .map_err(|cause| Error::Rejected(format!("the data is not text: {cause}")))
    }

    /// The payload as text, with a replacement character for what is none.
    pub fn text_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.data)
    }
}

/// Shows the fields that are set, and text as text.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Event");
        let texts = [("id", &self.id), ("source", &self.source), ("type", &self.type_)];
        for (name, value) in texts {
            if !value.is_empty() {
                out.field(name, value);
            }
        }
        out.field("data", &DebugData(&self.data));
        if let Some(content_type) = &self.content_type {
            out.field("content_type", content_type);
        }
        if !self.attributes.is_empty() {
            out.field("attributes", &DebugPairs(&self.attributes));
        }
        if let Some(key) = &self.ordering_key {
            out.field("ordering_key", key);
        }
        if let Some(topic) = &self.topic {
            out.field("topic", topic);
        }
        if self.attempt > 0 {
            out.field("attempt", &self.attempt);
        }
        out.finish()
    }
}

struct DebugData<'a>(&'a [u8]);

impl fmt::Debug for DebugData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(text) = std::str::from_utf8(self.0) else {
            return write!(f, "<{} bytes>", self.0.len());
        };
        match text.char_indices().nth(DEBUG_TEXT_CHARS) {
            None => write!(f, "{text:?}"),
            Some((end, _)) => write!(f, "{:?}... <{} bytes>", &text[..end], text.len()),
        }
    }
}

struct DebugPairs<'a>(&'a [(String, String)]);

impl fmt::Debug for DebugPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, value))).finish()
    }
}

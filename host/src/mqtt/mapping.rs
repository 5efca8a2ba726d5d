//! Events as MQTT packets, and back: CloudEvents' binding for MQTT 1.0.2.
//!
//! MQTT 5 carries attributes in properties and the payload as it is. MQTT 3.1.1
//! has no properties: there an event is one JSON document, unless only its
//! payload is wanted. A packet that is no CloudEvent, as most devices send it,
//! becomes an event with a name that is made up here.

use super::{Packet, Properties, Protocol, attributes, json};
use crate::broker::cloudevents::PARTITION_KEY;
use crate::broker::{BrokerError, Event, Qos, Topic};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The `type` of an event that was a plain MQTT message.
pub const PLAIN_KIND: &str = "mqtt.publish";
/// How a content type of structured events begins.
const STRUCTURED: &str = "application/cloudevents";
/// The content type of structured events as they are written here.
const STRUCTURED_JSON: &str = "application/cloudevents+json; charset=UTF-8";
/// The attributes that every CloudEvent has, and that a packet needs to be one.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Whether a text can be a part of a packet. Brokers may close the connection
/// for control characters and for code points that are no characters
/// (MQTT 5.0, section 1.5.4), and some do.
pub fn is_portable(text: &str) -> bool {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
    };
    text.is_ascii() && text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) || !text.contains(odd)
}

/// How an event is laid out in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents: attributes in properties where the protocol has them, or
    /// else as [`Structured`](Self::Structured).
    #[default]
    CloudEvents,
    /// CloudEvents: one JSON document.
    Structured,
    /// The payload alone.
    Raw,
}

/// Reads and writes packets for one broker.
pub struct Mapping {
    format: Format,
    /// The broker's URL, which a plain message's `source` begins with.
    source: String,
    /// What made-up identifiers begin with, and how many there were.
    prefix: String,
    plain: AtomicU64,
}

/// An event that was read from a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// It.
    pub event: Event,
    /// `source` and `id` are the publisher's, not made up here.
    pub identified: bool,
}

impl Mapping {
    /// `unique` is to differ from that of any other process.
    pub fn new(format: Format, source: String, unique: u64) -> Self {
        let source = source.trim_end_matches('/').to_owned();
        Self { format, source, prefix: format!("{unique:016x}"), plain: AtomicU64::new(0) }
    }

    /// Writes an event as a packet of the protocol.
    ///
    /// # Errors
    /// An attribute cannot be expressed there.
    pub fn write(
        &self,
        protocol: Protocol,
        topic: &Topic,
        event: &Event,
        qos: Qos,
    ) -> Result<Packet, BrokerError> {
        if !is_portable(topic.as_str()) {
            let text = format!("`{}` contains a control character", topic.as_str().escape_debug());
            return Err(BrokerError::InvalidTopic(text));
        }
        let topic = bytes::Bytes::copy_from_slice(topic.as_str().as_bytes());
        let mut packet = Packet { topic, qos, ..Packet::default() };
        attributes::write(event, &mut packet)?;
        match (self.format, protocol) {
            (Format::Raw, _) => packet.payload = event.data.clone(),
            (Format::CloudEvents, Protocol::V5) if attributes::are_portable(event) => {
                write_binary(event, &mut packet)?;
            }
            (Format::CloudEvents | Format::Structured, _) => {
                packet.payload = json::write(event)?.into();
                packet.properties.content_type = Some(STRUCTURED_JSON.to_owned());
            }
        }
        if protocol == Protocol::V4 {
            packet.properties = Properties::default();
        }
        Ok(packet)
    }

    /// Writes an event as a server does: what came as a plain message goes out as
    /// the message that it was, and all else as [`write`](Self::write) says.
    ///
    /// # Errors
    /// As those of [`write`](Self::write).
    pub fn write_served(
        &self,
        protocol: Protocol,
        topic: &Topic,
        event: &Event,
        qos: Qos,
    ) -> Result<Packet, BrokerError> {
        if !self.is_plain(event) {
            return self.write(protocol, topic, event, qos);
        }
        let topic = bytes::Bytes::copy_from_slice(topic.as_str().as_bytes());
        let mut packet = Packet { topic, qos, payload: event.data.clone(), ..Packet::default() };
        attributes::write(event, &mut packet)?;
        if protocol == Protocol::V4 {
            packet.properties = Properties::default();
            return Ok(packet);
        }
        packet.properties.content_type.clone_from(&event.content_type);
        let key = event.ordering_key.iter().map(|key| (PARTITION_KEY.to_owned(), key.clone()));
        let others = event.attributes.iter().filter(|(name, _)| !attributes::is_reserved(name));
        packet.properties.user = key.chain(others.cloned()).collect();
        Ok(packet)
    }

    /// Whether an event was a plain message that [`read`](Self::read) gave a name.
    #[must_use]
    pub fn is_plain(&self, event: &Event) -> bool {
        event.kind == PLAIN_KIND
            && event.source.strip_prefix(&self.source).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Reads a packet. What is malformed as a CloudEvent is a plain message.
    pub fn read(&self, protocol: Protocol, packet: Packet) -> Read {
        let read = match (self.format, protocol) {
            (Format::Raw, _) => None,
            (_, Protocol::V4) => json::read(&packet.payload),
            _ if is_structured(&packet) => json::read(&packet.payload),
            // From a client of MQTT 3.1.1, which cannot say what it is.
            _ if packet.properties == Properties::default() => json::read(&packet.payload),
            _ if is_binary(&packet) => return read_binary(packet),
            _ => None,
        };
        let Some(mut event) = read else { return self.read_plain(packet) };
        attributes::read(&packet, &mut event.attributes);
        Read { event, identified: true }
    }

    /// The event that a payload alone becomes, without looking into it.
    #[must_use]
    pub fn plain(&self, topic: &[u8], payload: bytes::Bytes) -> Event {
        Event {
            id: format!("{}-{:x}", self.prefix, self.plain.fetch_add(1, Relaxed)),
            source: attributes::source(&self.source, topic),
            kind: PLAIN_KIND.to_owned(),
            data: payload,
            ..Event::default()
        }
    }

    fn read_plain(&self, packet: Packet) -> Read {
        let mut event = self.plain(&packet.topic, packet.payload.clone());
        let mut packet = packet;
        event.content_type = packet.properties.content_type.take();
        for (name, value) in std::mem::take(&mut packet.properties.user) {
            match name == PARTITION_KEY && event.ordering_key.is_none() {
                true => event.ordering_key = Some(value),
                false if attributes::is_reserved(&name) => {}
                false => event.attributes.push((name, value)),
            }
        }
        attributes::read(&packet, &mut event.attributes);
        Read { event, identified: false }
    }
}

fn is_structured(packet: &Packet) -> bool {
    packet.properties.content_type.as_ref().is_some_and(|found| {
        let rest = found.get(..STRUCTURED.len()).zip(found.get(STRUCTURED.len()..));
        // A batch is no event, and the binding has none.
        rest.is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(STRUCTURED) && !rest.starts_with('-')
        })
    })
}

fn is_binary(packet: &Packet) -> bool {
    let value = |wanted: &str| {
        let user = &packet.properties.user;
        user.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    value("specversion").is_some_and(|version| version.starts_with("1."))
        && REQUIRED.iter().all(|name| value(name).is_some_and(|value| !value.is_empty()))
}

fn write_binary(event: &Event, packet: &mut Packet) -> Result<(), BrokerError> {
    packet.payload = event.data.clone();
    packet.properties.content_type.clone_from(&event.content_type);
    let user = &mut packet.properties.user;
    user.reserve(5 + event.attributes.len());
    let mut push = |name: &str, value: &str| user.push((name.to_owned(), value.to_owned()));
    push("specversion", "1.0");
    push("id", &event.id);
    push("source", &event.source);
    push("type", &event.kind);
    if let Some(key) = &event.ordering_key {
        push(PARTITION_KEY, key);
    }
    for (name, value) in &event.attributes {
        if !attributes::is_reserved(name) {
            push(name, value);
        }
    }
    if event.ordering_key.is_none() && event.attribute(PARTITION_KEY).is_some() {
        return Err(taken(PARTITION_KEY));
    }
    attributes::check_texts(packet)
}

/// An attribute that would come back as something else.
fn taken(name: &str) -> BrokerError {
    BrokerError::Unsupported(format!("attribute `{name}`: the name has another meaning"))
}

fn read_binary(mut packet: Packet) -> Read {
    let mut event = Event {
        data: packet.payload.clone(),
        content_type: packet.properties.content_type.take(),
        ..Event::default()
    };
    let mut versioned = false;
    for (name, value) in std::mem::take(&mut packet.properties.user) {
        match name.as_str() {
            // The first of a name is the event's; more of it are attributes.
            "specversion" if !versioned => versioned = true,
            "id" if event.id.is_empty() => event.id = value,
            "source" if event.source.is_empty() => event.source = value,
            "type" if event.kind.is_empty() => event.kind = value,
            PARTITION_KEY if event.ordering_key.is_none() => event.ordering_key = Some(value),
            name if attributes::is_reserved(name) => {}
            _ => event.attributes.push((name, value)),
        }
    }
    attributes::read(&packet, &mut event.attributes);
    Read { event, identified: true }
}

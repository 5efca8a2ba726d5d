//! Attributes with the prefix `mqtt.`: what MQTT knows and CloudEvents does not.

use super::{Packet, is_portable};
use crate::broker::{BrokerError, Event, Topic};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// `true` where the event is kept for later subscribers, or was.
pub const RETAIN: &str = "mqtt.retain";
/// The topic that an answer is wanted on.
const RESPONSE_TOPIC: &str = "mqtt.response-topic";
/// What an answer has to repeat, in base64.
const CORRELATION_DATA: &str = "mqtt.correlation-data";
/// How long the broker keeps the event for an absent subscriber, in seconds.
const MESSAGE_EXPIRY: &str = "mqtt.message-expiry";
/// When the event is of no more use, in milliseconds since 1970: what is left of
/// the message expiry is told to each receiver.
pub const EXPIRES_AT: &str = "mqtt.expires-at";
/// `1` for text in UTF-8, `0` for bytes.
const PAYLOAD_FORMAT: &str = "mqtt.payload-format";

/// The longest text in a packet, in bytes.
const TEXT_BYTES_MAX: usize = 65_535;

/// Whether an attribute says something to MQTT itself.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("mqtt.")
        && [RETAIN, RESPONSE_TOPIC, CORRELATION_DATA, MESSAGE_EXPIRY, PAYLOAD_FORMAT, EXPIRES_AT]
            .contains(&name)
}

/// Whether an event is kept for later subscribers, or was.
pub fn is_retained(event: &Event) -> bool {
    event.attribute(RETAIN).is_some()
}

/// From now on it is an event like any other.
pub fn forget_retained(event: &mut Event) {
    event.attributes.retain(|(name, _)| name != RETAIN);
}

/// Whether all texts of an event can be properties of a packet.
pub(super) fn are_portable(event: &Event) -> bool {
    let own = [Some(&event.id), Some(&event.source), Some(&event.kind)];
    let own = own.into_iter().chain([event.content_type.as_ref(), event.ordering_key.as_ref()]);
    let others = event.attributes.iter().filter(|(name, _)| !is_reserved(name));
    own.flatten().all(|text| is_portable(text))
        && others.into_iter().all(|(name, value)| is_portable(name) && is_portable(value))
}

/// Puts what the attributes ask for into the packet.
pub(super) fn write(event: &Event, packet: &mut Packet) -> Result<(), BrokerError> {
    for (name, value) in &event.attributes {
        let refuse = |allowed: &str| {
            let shown: String = value.chars().take(40).collect();
            Err(BrokerError::Other(format!("attribute `{name}`: `{shown}` is not {allowed}")))
        };
        let properties = &mut packet.properties;
        match name.as_str() {
            RETAIN => match value.as_str() {
                "true" => packet.retain = true,
                "false" => packet.retain = false,
                _ => return refuse("`true` or `false`"),
            },
            RESPONSE_TOPIC => match Topic::new(value) {
                Ok(_) if is_portable(value) => properties.response_topic = Some(value.clone()),
                _ => return refuse("a topic"),
            },
            CORRELATION_DATA => match BASE64.decode(value) {
                Ok(data) if data.len() <= TEXT_BYTES_MAX => {
                    properties.correlation_data = Some(data.into());
                }
                _ => return refuse("base64 of at most 65535 bytes"),
            },
            MESSAGE_EXPIRY => match value.parse() {
                Ok(seconds) => properties.message_expiry = Some(seconds),
                Err(_) => return refuse("a number of seconds"),
            },
            PAYLOAD_FORMAT => match value.as_str() {
                "0" => properties.payload_format = Some(0),
                "1" => properties.payload_format = Some(1),
                _ => return refuse("`0` or `1`"),
            },
            _ => {}
        }
    }
    Ok(())
}

/// Says in attributes what the packet says to MQTT.
pub(super) fn read(packet: &Packet, attributes: &mut Vec<(String, String)>) {
    let properties = &packet.properties;
    let mut push = |name: &str, value: String| attributes.push((name.to_owned(), value));
    if packet.retain {
        push(RETAIN, "true".to_owned());
    }
    if let Some(topic) = &properties.response_topic {
        push(RESPONSE_TOPIC, topic.clone());
    }
    if let Some(data) = &properties.correlation_data {
        push(CORRELATION_DATA, BASE64.encode(data));
    }
    if let Some(seconds) = properties.message_expiry {
        push(MESSAGE_EXPIRY, seconds.to_string());
    }
    if let Some(format) = properties.payload_format {
        push(PAYLOAD_FORMAT, format.to_string());
    }
}

/// Refuses what no packet can hold, before it breaks a connection.
pub(super) fn check_texts(packet: &Packet) -> Result<(), BrokerError> {
    let content_type = packet.properties.content_type.as_ref();
    let content_type = content_type.map(|value| ("datacontenttype", value.as_str()));
    let user = packet.properties.user.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in user.chain(content_type) {
        let shown = || name.chars().take(40).collect::<String>().escape_debug().to_string();
        if name.len() > TEXT_BYTES_MAX || value.len() > TEXT_BYTES_MAX {
            let text = format!("attribute `{}` is longer than {TEXT_BYTES_MAX} bytes", shown());
            return Err(BrokerError::Other(text));
        }
        if name.contains('\0') || value.contains('\0') {
            let text = format!("attribute `{}` contains the character U+0000", shown());
            return Err(BrokerError::Other(text));
        }
    }
    Ok(())
}

/// The `source` of a plain message: where it came from, as a URI reference.
pub(super) fn source(broker: &str, topic: &[u8]) -> String {
    let mut source = String::with_capacity(broker.len() + 1 + topic.len());
    source.push_str(broker);
    source.push('/');
    for &byte in topic {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => source.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'('
            | b')' | b'*' | b',' | b';' | b'=' => source.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                source.push('%');
                source.push(char::from(HEX[usize::from(byte >> 4)]));
                source.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    source
}

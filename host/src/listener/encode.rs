//! Packets to clients, as bytes.
//!
//! They are written straight into the buffer of the connection.

use super::protocol::Welcome;
use super::reason::Reason;
use crate::broker::{Event, Qos, Topic};
use crate::mqtt::{Packet, Properties, Protocol};

/// The largest packet that there can be, in bytes.
const PACKET_BYTES_MAX: u32 = 268_435_460;

/// How a PUBLISH goes to one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    pub(super) protocol: Protocol,
    pub(super) qos: Qos,
    pub(super) dup: bool,
    pub(super) retain: bool,
    /// Its identifier; 0 at qos 0.
    pub(super) id: u16,
    pub(super) identifiers: &'a [u32],
    /// What stands for the topic, or is to.
    pub(super) alias: Option<Alias>,
    /// What is left of it, in seconds.
    pub(super) expiry: Option<u32>,
    /// The largest packet that the client takes.
    pub(super) bytes_max: usize,
}

/// A topic alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) number: u16,
    /// The client does not know it yet.
    pub(super) is_new: bool,
}

/// Writes a variable byte integer.
pub(super) fn put_length(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// How many bytes a variable byte integer has.
fn length_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Writes a PUBLISH whose only properties are those of its delivery. Returns
/// whether the client takes it: otherwise nothing is written.
pub(super) fn bare(topic: &Topic, event: &Event, manner: &Manner<'_>, out: &mut Vec<u8>) -> bool {
    publish(topic.as_str().as_bytes(), &event.data, None, manner, out)
}

/// Writes a PUBLISH, likewise.
pub(super) fn packet(packet: &Packet, manner: &Manner<'_>, out: &mut Vec<u8>) -> bool {
    publish(&packet.topic, &packet.payload, Some(&packet.properties), manner, out)
}

fn publish(
    topic: &[u8],
    payload: &[u8],
    properties: Option<&Properties>,
    manner: &Manner<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let topic = if manner.alias.is_some_and(|alias| !alias.is_new) { &[] } else { topic };
    let mut length = 2 + topic.len() + payload.len();
    if manner.qos != Qos::AtMostOnce {
        length += 2;
    }
    let mut properties_length = 0;
    if manner.protocol == Protocol::V5 {
        properties_length = own_length(manner) + properties.map_or(0, length_of);
        length += length_bytes(properties_length) + properties_length;
    }
    if 1 + length_bytes(length) + length > manner.bytes_max {
        return false;
    }
    out.reserve(length + 5);
    let flags = u8::from(manner.dup) << 3 | manner.qos.level() << 1 | u8::from(manner.retain);
    out.push(0x30 | flags);
    put_length(length, out);
    put_bytes(topic, out);
    if manner.qos != Qos::AtMostOnce {
        out.extend_from_slice(&manner.id.to_be_bytes());
    }
    if manner.protocol == Protocol::V5 {
        put_length(properties_length, out);
        put_own(manner, out);
        if let Some(properties) = properties {
            put_properties(properties, out);
        }
    }
    out.extend_from_slice(payload);
    true
}

/// The length of the properties that belong to the delivery.
fn own_length(manner: &Manner<'_>) -> usize {
    let identifiers: usize =
        manner.identifiers.iter().map(|number| 1 + length_bytes(*number as usize)).sum();
    identifiers
        + if manner.alias.is_some() { 3 } else { 0 }
        + if manner.expiry.is_some() { 5 } else { 0 }
}

fn put_own(manner: &Manner<'_>, out: &mut Vec<u8>) {
    if let Some(seconds) = manner.expiry {
        out.push(2);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for number in manner.identifiers {
        out.push(11);
        put_length(*number as usize, out);
    }
    if let Some(alias) = manner.alias {
        out.push(35);
        out.extend_from_slice(&alias.number.to_be_bytes());
    }
}

/// The length of the properties that belong to the message. Its expiry is told by
/// the delivery.
fn length_of(properties: &Properties) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 3 + text.len());
    let user: usize =
        properties.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    text(&properties.content_type)
        + text(&properties.response_topic)
        + properties.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
        + properties.payload_format.map_or(0, |_| 2)
        + user
}

pub(super) fn put_properties(properties: &Properties, out: &mut Vec<u8>) {
    if let Some(format) = properties.payload_format {
        out.extend_from_slice(&[1, format]);
    }
    if let Some(text) = &properties.content_type {
        out.push(3);
        put_bytes(text.as_bytes(), out);
    }
    if let Some(text) = &properties.response_topic {
        out.push(8);
        put_bytes(text.as_bytes(), out);
    }
    if let Some(data) = &properties.correlation_data {
        out.push(9);
        put_bytes(data, out);
    }
    for (name, value) in &properties.user {
        out.push(38);
        put_bytes(name.as_bytes(), out);
        put_bytes(value.as_bytes(), out);
    }
}

/// The packets that answer one with an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubrel = 0x62,
    Pubcomp = 0x70,
}

/// Writes an answer. The reason is only of MQTT 5.
pub(super) fn answer(
    protocol: Protocol,
    answer: Answer,
    id: u16,
    reason: Reason,
    out: &mut Vec<u8>,
) {
    let [high, low] = id.to_be_bytes();
    if protocol == Protocol::V4 || reason == Reason::SUCCESS {
        out.extend_from_slice(&[answer as u8, 2, high, low]);
    } else {
        out.extend_from_slice(&[answer as u8, 3, high, low, reason.0]);
    }
}

/// Writes a SUBACK.
pub(super) fn suback(protocol: Protocol, id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
    out.push(0x90);
    put_reasons(protocol, id, reasons, out);
}

/// Writes an UNSUBACK.
pub(super) fn unsuback(protocol: Protocol, id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
    out.push(0xb0);
    match protocol {
        Protocol::V5 => put_reasons(protocol, id, reasons, out),
        Protocol::V4 => put_reasons(protocol, id, &[], out),
    }
}

fn put_reasons(protocol: Protocol, id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
    let is_v5 = protocol == Protocol::V5;
    put_length(2 + usize::from(is_v5) + reasons.len(), out);
    out.extend_from_slice(&id.to_be_bytes());
    if is_v5 {
        out.push(0);
    }
    out.extend(reasons.iter().map(|reason| match is_v5 || !reason.is_failure() {
        true => reason.0,
        false => 0x80,
    }));
}

/// Writes a PINGRESP.
pub(super) fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// Writes a CONNACK that accepts.
pub(super) fn connack(protocol: Protocol, welcome: &Welcome, out: &mut Vec<u8>) {
    let present = u8::from(welcome.session_present);
    if protocol == Protocol::V4 {
        out.extend_from_slice(&[0x20, 2, present, 0]);
        return;
    }
    let mut properties = vec![34];
    properties.extend_from_slice(&welcome.alias_max.to_be_bytes());
    if let Some(seconds) = welcome.session_expiry {
        properties.push(17);
        properties.extend_from_slice(&seconds.to_be_bytes());
    }
    if let Some(client_id) = &welcome.assigned_client_id {
        properties.push(18);
        put_bytes(client_id.as_bytes(), &mut properties);
    }
    properties.push(33);
    properties.extend_from_slice(&welcome.receive_max.to_be_bytes());
    if welcome.packet_bytes_max < PACKET_BYTES_MAX {
        properties.push(39);
        properties.extend_from_slice(&welcome.packet_bytes_max.to_be_bytes());
    }
    if let Some(seconds) = welcome.server_keep_alive {
        properties.push(19);
        properties.extend_from_slice(&seconds.to_be_bytes());
    }
    out.push(0x20);
    put_length(2 + length_bytes(properties.len()) + properties.len(), out);
    out.extend_from_slice(&[present, 0]);
    put_length(properties.len(), out);
    out.append(&mut properties);
}

/// Writes a CONNACK that refuses.
pub(super) fn refusal(protocol: Protocol, reason: Reason, out: &mut Vec<u8>) {
    match protocol {
        Protocol::V4 => out.extend_from_slice(&[0x20, 2, 0, reason.connack_v4()]),
        Protocol::V5 => out.extend_from_slice(&[0x20, 3, 0, reason.0, 0]),
    }
}

/// Writes a DISCONNECT, which a server sends in MQTT 5 only. `text` says more, where
/// the client wants to know and has room for it.
pub(super) fn disconnect(reason: Reason, text: Option<&str>, bytes_max: usize, out: &mut Vec<u8>) {
    let text = text.filter(|text| text.len() < 100 && 8 + text.len() <= bytes_max);
    match text {
        None => out.extend_from_slice(&[0xe0, 1, reason.0]),
        Some(text) => {
            out.extend_from_slice(&[0xe0, 5 + text.len() as u8, reason.0, 3 + text.len() as u8]);
            out.push(31);
            put_bytes(text.as_bytes(), out);
        }
    }
}

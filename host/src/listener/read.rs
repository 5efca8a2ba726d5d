//! Packets of clients, read: MQTT 3.1.1 and 5, chapters 2 and 3.
//!
//! Everything is checked that one packet can be checked for. Bytes are looked at
//! where they are; what is kept is copied once.

use super::frames;
use super::packets::{Connect, Farewell, Options, Retained, Subscribe, Unsubscribe, Wanted, Will};
use super::reason::{Fault, Reason};
use crate::broker::Qos;
use crate::mqtt::{Packet, Properties, Protocol};
use bytes::Bytes;

const PAYLOAD_FORMAT: u8 = 1;
const MESSAGE_EXPIRY: u8 = 2;
const CONTENT_TYPE: u8 = 3;
const RESPONSE_TOPIC: u8 = 8;
const CORRELATION_DATA: u8 = 9;
const SUBSCRIPTION_IDENTIFIER: u8 = 11;
const SESSION_EXPIRY: u8 = 17;
const AUTHENTICATION_METHOD: u8 = 21;
const AUTHENTICATION_DATA: u8 = 22;
const PROBLEM_INFORMATION: u8 = 23;
const WILL_DELAY: u8 = 24;
const RESPONSE_INFORMATION: u8 = 25;
const REASON_STRING: u8 = 31;
const RECEIVE_MAX: u8 = 33;
const ALIAS_MAX: u8 = 34;
const ALIAS: u8 = 35;
const USER: u8 = 38;
const PACKET_BYTES_MAX: u8 = 39;

/// The value of a property.
enum Value<'a> {
    Byte(u8),
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// What is left of the body of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(*first)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(first)
    }

    fn variable(&mut self) -> Result<usize, Fault> {
        let (value, bytes) = frames::variable(self.0)
            .ok_or_else(|| Fault::malformed("a variable byte integer that does not end"))?;
        self.0 = &self.0[bytes..];
        Ok(value)
    }

    fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.short()?;
        self.slice(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.binary()?)
            .map_err(|_| Fault::malformed("a text that is no UTF-8"))?;
        match text.as_bytes().contains(&0) {
            true => Err(Fault::malformed("a text with the character U+0000")),
            false => Ok(text),
        }
    }

    fn identifier(&mut self) -> Result<u16, Fault> {
        match self.short()? {
            0 => Err(Fault::malformed("the packet identifier 0")),
            id => Ok(id),
        }
    }

    fn end(&self) -> Result<(), Fault> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Fault::malformed("a packet that goes on after its end")),
        }
    }

    /// Reads properties, each at most once but those of users. Only those that
    /// `allowed` names may occur.
    fn properties(
        &mut self,
        allowed: &[u8],
        mut found: impl FnMut(u8, Value<'a>),
    ) -> Result<(), Fault> {
        let length = self.variable()?;
        let mut reader = Reader(self.slice(length)?);
        let mut seen = 0_u64;
        while !reader.0.is_empty() {
            let id = reader.byte()?;
            let value = reader.value(id)?;
            if !allowed.contains(&id) {
                return Err(Fault::malformed(format!("property {id} does not belong here")));
            }
            let bit = 1 << id;
            if id != USER && seen & bit != 0 {
                return Err(Fault::protocol(format!("property {id} occurs twice")));
            }
            seen |= bit;
            check_value(id, &value)?;
            found(id, value);
        }
        Ok(())
    }

    fn value(&mut self, id: u8) -> Result<Value<'a>, Fault> {
        Ok(match id {
            1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => Value::Byte(self.byte()?),
            19 | 33 | 34 | 35 => Value::Number(self.short()?.into()),
            2 | 17 | 24 | 39 => Value::Number(u32::from_be_bytes(self.array()?)),
            11 => Value::Number(u32::try_from(self.variable()?).unwrap_or(u32::MAX)),
            3 | 8 | 18 | 21 | 26 | 28 | 31 => Value::Text(self.text()?),
            9 | 22 => Value::Binary(self.binary()?),
            38 => Value::Pair(self.text()?, self.text()?),
            _ => return Err(Fault::malformed(format!("an unknown property: {id}"))),
        })
    }
}

fn ends_early() -> Fault {
    Fault::malformed("a packet that ends too early")
}

/// What values a property may not have.
fn check_value(id: u8, value: &Value<'_>) -> Result<(), Fault> {
    let is_valid = match (id, value) {
        (PAYLOAD_FORMAT | PROBLEM_INFORMATION | RESPONSE_INFORMATION, Value::Byte(byte)) => {
            *byte <= 1
        }
        (RECEIVE_MAX | PACKET_BYTES_MAX | SUBSCRIPTION_IDENTIFIER, Value::Number(number)) => {
            *number > 0
        }
        (ALIAS, Value::Number(0)) => {
            return Err(Fault::new(Reason::TOPIC_ALIAS_INVALID, "the topic alias 0"));
        }
        (RESPONSE_TOPIC, Value::Text(topic)) => !topic.is_empty() && !topic.contains(['+', '#']),
        _ => true,
    };
    match is_valid {
        true => Ok(()),
        false => Err(Fault::protocol(format!("a value that property {id} cannot have"))),
    }
}

/// Notes a property of a message.
fn message_property(properties: &mut Properties, id: u8, value: Value<'_>) {
    match (id, value) {
        (PAYLOAD_FORMAT, Value::Byte(format)) => properties.payload_format = Some(format),
        (MESSAGE_EXPIRY, Value::Number(seconds)) => properties.message_expiry = Some(seconds),
        (CONTENT_TYPE, Value::Text(text)) => properties.content_type = Some(text.to_owned()),
        (RESPONSE_TOPIC, Value::Text(topic)) => properties.response_topic = Some(topic.to_owned()),
        (CORRELATION_DATA, Value::Binary(data)) => {
            properties.correlation_data = Some(Bytes::copy_from_slice(data));
        }
        (USER, Value::Pair(name, value)) => {
            properties.user.push((name.to_owned(), value.to_owned()));
        }
        _ => {}
    }
}

/// Set in the protocol level by brokers that are the client of another one, and do
/// not want back what they bring.
const BRIDGE: u8 = 0x80;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// Reads CONNECT. `version` is told the protocol as soon as it is known, for the
/// answer to what is wrong after it.
pub(super) fn connect(body: &[u8], version: &mut Option<Protocol>) -> Result<Connect, Fault> {
    let mut reader = Reader(body);
    let name = reader.binary()?;
    let level = reader.byte()?;
    let protocol = match (name, level & !BRIDGE) {
        // MQTT 3.1 differs in its name, and in that a client identifier is needed.
        (b"MQTT", 4) | (b"MQIsdp", 3) => Protocol::V4,
        (b"MQTT", 5) => Protocol::V5,
        (b"MQTT" | b"MQIsdp", _) => {
            let text = "a protocol level other than 3, 4 and 5";
            return Err(Fault::new(Reason::UNSUPPORTED_PROTOCOL_VERSION, text));
        }
        _ => return Err(Fault::malformed("a protocol name other than `MQTT`")),
    };
    *version = Some(protocol);
    let flags = reader.byte()?;
    let will_qos = check_flags(protocol, flags)?;
    let mut connect = Connect {
        protocol,
        is_v3_1: level & !BRIDGE == 3,
        is_bridge: level & BRIDGE != 0,
        client_id: String::new(),
        clean: flags & 0x02 != 0,
        keep_alive: reader.short()?,
        will: None,
        username: None,
        password: None,
        session_expiry: match protocol {
            Protocol::V4 if flags & 0x02 == 0 => u32::MAX,
            _ => 0,
        },
        receive_max: u16::MAX,
        packet_bytes_max: None,
        alias_max: 0,
        problem_information: true,
        authentication_method: false,
    };
    if protocol == Protocol::V5 {
        connect_properties(&mut reader, &mut connect)?;
    }
    connect.client_id = reader.text()?.to_owned();
    if flags & WILL != 0 {
        connect.will = Some(will(&mut reader, protocol, will_qos, flags & WILL_RETAIN != 0)?);
    }
    if flags & USER_NAME != 0 {
        connect.username = Some(reader.text()?.to_owned());
    }
    if flags & PASSWORD != 0 {
        connect.password = Some(Bytes::copy_from_slice(reader.binary()?));
    }
    reader.end()?;
    Ok(connect)
}

/// Checks the flags of CONNECT, and returns the qos of the will.
fn check_flags(protocol: Protocol, flags: u8) -> Result<Qos, Fault> {
    let will_qos = Qos::from_level(flags >> 3 & 3);
    let text = if flags & 1 != 0 {
        "the reserved flag of CONNECT is set"
    } else if flags & WILL == 0 && flags & (WILL_RETAIN | 0x18) != 0 {
        "flags of a will without a will"
    } else if protocol == Protocol::V4 && flags & (PASSWORD | USER_NAME) == PASSWORD {
        "a password without a user name"
    } else {
        return will_qos.ok_or_else(|| Fault::malformed("a will with qos 3"));
    };
    Err(Fault::malformed(text))
}

fn connect_properties(reader: &mut Reader<'_>, connect: &mut Connect) -> Result<(), Fault> {
    let allowed = [
        SESSION_EXPIRY,
        AUTHENTICATION_METHOD,
        AUTHENTICATION_DATA,
        PROBLEM_INFORMATION,
        RESPONSE_INFORMATION,
        RECEIVE_MAX,
        ALIAS_MAX,
        USER,
        PACKET_BYTES_MAX,
    ];
    let mut has_data = false;
    reader.properties(&allowed, |id, value| match (id, value) {
        (SESSION_EXPIRY, Value::Number(seconds)) => connect.session_expiry = seconds,
        (AUTHENTICATION_METHOD, _) => connect.authentication_method = true,
        (AUTHENTICATION_DATA, _) => has_data = true,
        (PROBLEM_INFORMATION, Value::Byte(byte)) => connect.problem_information = byte != 0,
        (RECEIVE_MAX, Value::Number(number)) => {
            connect.receive_max = u16::try_from(number).unwrap_or(u16::MAX);
        }
        (ALIAS_MAX, Value::Number(number)) => {
            connect.alias_max = u16::try_from(number).unwrap_or(u16::MAX);
        }
        (PACKET_BYTES_MAX, Value::Number(bytes)) => connect.packet_bytes_max = Some(bytes),
        _ => {}
    })?;
    match has_data && !connect.authentication_method {
        true => Err(Fault::protocol("authentication data without a method")),
        false => Ok(()),
    }
}

fn will(
    reader: &mut Reader<'_>,
    protocol: Protocol,
    qos: Qos,
    retain: bool,
) -> Result<Will, Fault> {
    let mut packet = Packet { qos, retain, ..Packet::default() };
    let mut delay = 0;
    if protocol == Protocol::V5 {
        let allowed = [
            PAYLOAD_FORMAT,
            MESSAGE_EXPIRY,
            CONTENT_TYPE,
            RESPONSE_TOPIC,
            CORRELATION_DATA,
            WILL_DELAY,
            USER,
        ];
        reader.properties(&allowed, |id, value| match (id, value) {
            (WILL_DELAY, Value::Number(seconds)) => delay = seconds,
            (id, value) => message_property(&mut packet.properties, id, value),
        })?;
    }
    packet.topic = Bytes::copy_from_slice(reader.text()?.as_bytes());
    packet.payload = Bytes::copy_from_slice(reader.binary()?);
    if packet.topic.is_empty() {
        return Err(Fault::malformed("a will without a topic"));
    }
    Ok(Will { packet, delay })
}

/// Reads PUBLISH, and the alias that stands for its topic, or is to.
pub(super) fn publish(
    protocol: Protocol,
    header: u8,
    body: &[u8],
) -> Result<(Packet, Option<u16>), Fault> {
    let mut reader = Reader(body);
    let qos = Qos::from_level(header >> 1 & 3).ok_or_else(|| Fault::malformed("qos 3"))?;
    let topic = reader.text()?;
    let mut packet = Packet {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        qos,
        retain: header & 1 != 0,
        dup: header & 8 != 0,
        ..Packet::default()
    };
    if qos != Qos::AtMostOnce {
        packet.id = reader.identifier()?;
    }
    let mut alias = None;
    if protocol == Protocol::V5 {
        if reader.0.first() == Some(&0) {
            reader.0 = &reader.0[1..];
        } else {
            let allowed = [
                PAYLOAD_FORMAT,
                MESSAGE_EXPIRY,
                CONTENT_TYPE,
                RESPONSE_TOPIC,
                CORRELATION_DATA,
                ALIAS,
                USER,
            ];
            reader.properties(&allowed, |id, value| match (id, value) {
                (ALIAS, Value::Number(number)) => alias = u16::try_from(number).ok(),
                (id, value) => message_property(&mut packet.properties, id, value),
            })?;
        }
    }
    packet.payload = Bytes::copy_from_slice(reader.0);
    Ok((packet, alias))
}

/// Reads PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(super) fn answer(protocol: Protocol, body: &[u8]) -> Result<(u16, Reason), Fault> {
    let mut reader = Reader(body);
    let id = reader.identifier()?;
    let mut reason = Reason::SUCCESS;
    if protocol == Protocol::V5 && !reader.0.is_empty() {
        reason = Reason(reader.byte()?);
        if !reader.0.is_empty() {
            reader.properties(&[REASON_STRING, USER], |_, _| {})?;
        }
    }
    reader.end()?;
    Ok((id, reason))
}

pub(super) fn subscribe(protocol: Protocol, body: &[u8]) -> Result<Subscribe, Fault> {
    let mut reader = Reader(body);
    let id = reader.identifier()?;
    let mut identifier = None;
    if protocol == Protocol::V5 {
        reader.properties(&[SUBSCRIPTION_IDENTIFIER, USER], |id, value| {
            if let (SUBSCRIPTION_IDENTIFIER, Value::Number(number)) = (id, value) {
                identifier = Some(number);
            }
        })?;
    }
    let mut wanted = Vec::new();
    while !reader.0.is_empty() {
        let filter = reader.text()?.to_owned();
        wanted.push(Wanted { filter, options: options(protocol, reader.byte()?)? });
    }
    match wanted.is_empty() {
        true => Err(Fault::protocol("a SUBSCRIBE without a topic filter")),
        false => Ok(Subscribe { id, identifier, wanted }),
    }
}

fn options(protocol: Protocol, byte: u8) -> Result<Options, Fault> {
    let reserved = match protocol {
        Protocol::V5 => 0xc0,
        Protocol::V4 => 0xfc,
    };
    let retained = match byte >> 4 & 3 {
        0 => Some(Retained::Always),
        1 => Some(Retained::IfNew),
        2 => Some(Retained::Never),
        _ => None,
    };
    match (byte & reserved, Qos::from_level(byte & 3), retained) {
        (0, Some(qos), Some(retained)) => Ok(Options {
            qos,
            no_local: byte & 0x04 != 0,
            retain_as_published: byte & 0x08 != 0,
            retained,
        }),
        _ => Err(Fault::malformed("subscription options that are not allowed")),
    }
}

pub(super) fn unsubscribe(protocol: Protocol, body: &[u8]) -> Result<Unsubscribe, Fault> {
    let mut reader = Reader(body);
    let id = reader.identifier()?;
    if protocol == Protocol::V5 {
        reader.properties(&[USER], |_, _| {})?;
    }
    let mut filters = Vec::new();
    while !reader.0.is_empty() {
        filters.push(reader.text()?.to_owned());
    }
    match filters.is_empty() {
        true => Err(Fault::protocol("an UNSUBSCRIBE without a topic filter")),
        false => Ok(Unsubscribe { id, filters }),
    }
}

pub(super) fn disconnect(protocol: Protocol, body: &[u8]) -> Result<Farewell, Fault> {
    let mut reader = Reader(body);
    let mut farewell = Farewell { with_will: false, session_expiry: None };
    if protocol == Protocol::V5 && !reader.0.is_empty() {
        // Any other reason than a normal one leaves the will to be sent.
        farewell.with_will = reader.byte()? != 0;
        if !reader.0.is_empty() {
            reader.properties(&[SESSION_EXPIRY, REASON_STRING, USER], |id, value| {
                if let (SESSION_EXPIRY, Value::Number(seconds)) = (id, value) {
                    farewell.session_expiry = Some(seconds);
                }
            })?;
        }
    }
    reader.end()?;
    Ok(farewell)
}

/// Checks a packet without a body.
pub(super) fn nothing(body: &[u8]) -> Result<(), Fault> {
    Reader(body).end()
}

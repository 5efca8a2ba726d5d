//! What MQTT asks of one connection: the only place that names the library.
//!
//! The library reads packets and owns packet identifiers, the exchanges of qos 1
//! and 2, receive-maximum and the aliases of what arrives. When to acknowledge and
//! what to send is decided above. What it writes itself is not used, but for
//! CONNACK: `encode` writes faster, and says the same.

use super::frames::{self, Frame};
use super::packets::{
    Connect, Farewell, Options, Received, Retained, Subscribe, Unsubscribe, Wanted, Will,
};
use super::reason::{Fault, Reason};
use crate::broker::Qos;
use crate::mqtt::{self, Protocol};
use bytes::Bytes;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{self, Packet, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::prelude::*;
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError,
};
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use std::collections::HashSet;

/// Payloads above this are kept as they arrived; smaller ones are copied.
const PAYLOAD_BYTES_COPIED: usize = 4096;

/// What the server says of itself when it accepts a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Welcome {
    pub(super) session_present: bool,
    pub(super) assigned_client_id: Option<String>,
    pub(super) server_keep_alive: Option<u16>,
    pub(super) session_expiry: Option<u32>,
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: u32,
    pub(super) alias_max: u16,
}

/// How far a PUBLISH of an earlier connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was sent, and not answered.
    Sent(Qos),
    /// Its PUBREC was received: PUBREL is out.
    Released,
}

/// The state of one connection, as the protocol sees it.
pub(super) struct Machine {
    connection: Connection<role::Server>,
    protocol: Option<Protocol>,
    /// The beginning of a packet whose end is not there yet.
    partial: Vec<u8>,
    packet_bytes_max: usize,
    lone_password: bool,
    /// Packets of qos 2 that were received and not released.
    unreleased: HashSet<u16>,
}

impl Machine {
    /// For a new connection, which may send no more than this before it is
    /// accepted.
    pub(super) fn new(connect_bytes_max: usize) -> Self {
        Self {
            connection: Connection::new(Version::Undetermined),
            protocol: None,
            partial: Vec::new(),
            packet_bytes_max: connect_bytes_max,
            lone_password: false,
            unreleased: HashSet::new(),
        }
    }

    /// The version, which CONNECT tells.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// Reads what has arrived. What is there before a fault is to be handled.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        into: &mut Vec<Received>,
    ) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.partial.is_empty() {
                match self.whole(bytes)? {
                    Some(frame) => {
                        let (packet, rest) = bytes.split_at(frame.end);
                        self.read(packet, frame, into)?;
                        bytes = rest;
                    }
                    None => {
                        self.partial.extend_from_slice(bytes);
                        return Ok(());
                    }
                }
                continue;
            }
            // No more than is needed to know, or to complete, the packet.
            let wanted = match self.header()? {
                Some(frame) => frame.end - self.partial.len(),
                None => 1,
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if let Some(frame) = self.header()?
                && frame.end == self.partial.len()
            {
                let packet = std::mem::take(&mut self.partial);
                self.read(&packet, frame, into)?;
            }
        }
        Ok(())
    }

    fn header(&self) -> Result<Option<Frame>, Fault> {
        self.check(frames::find(&self.partial)?)
    }

    /// The packet at the beginning, where all of it is there.
    fn whole(&self, bytes: &[u8]) -> Result<Option<Frame>, Fault> {
        let found = self.check(frames::find(bytes)?)?;
        Ok(found.filter(|frame| frame.end <= bytes.len()))
    }

    fn check(&self, found: Option<Frame>) -> Result<Option<Frame>, Fault> {
        if let Some(frame) = found
            && frame.end > self.packet_bytes_max
        {
            let text =
                format!("a packet of {} bytes: {} are allowed", frame.end, self.packet_bytes_max);
            return Err(Fault::new(Reason::PACKET_TOO_LARGE, text));
        }
        Ok(found)
    }

    fn read(&mut self, packet: &[u8], frame: Frame, into: &mut Vec<Received>) -> Result<(), Fault> {
        frames::check_flags(packet[0])?;
        let body = &packet[frame.body..];
        if packet[0] >> 4 == frames::PUBLISH
            && let Some(protocol) = self.protocol
            && let Some(publish) = simple_publish(protocol, packet[0], body)?
        {
            into.push(Received::Publish(publish));
            return Ok(());
        }
        if packet[0] >> 4 == frames::CONNECT && self.protocol.is_none() {
            let opening = frames::opening(body)?;
            self.lone_password = opening.lone_password;
            if opening.lone_password {
                let whole = frames::with_user_name(body)
                    .ok_or_else(|| Fault::malformed("a CONNECT that ends too early"))?;
                return self.feed(&whole, into);
            }
        }
        self.feed(packet, into)
    }

    /// Gives one packet to the library.
    fn feed(&mut self, packet: &[u8], into: &mut Vec<Received>) -> Result<(), Fault> {
        let events = self.connection.recv(&mut Cursor::new(packet));
        let mut fault = None;
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => into.push(self.convert(packet)?),
                Event::NotifyError(error) => fault = Some(error),
                // The library answers what it has seen already.
                Event::RequestSendPacket { packet: Packet::V3_1_1Pubrec(answer), .. } => {
                    into.push(Received::Repeated(answer.packet_id()));
                }
                Event::RequestSendPacket { packet: Packet::V5_0Pubrec(answer), .. } => {
                    into.push(Received::Repeated(answer.packet_id()));
                }
                _ => {}
            }
        }
        match fault {
            None => Ok(()),
            Some(error) => Err(Fault::new(reason_of(error), format!("{error:?}"))),
        }
    }

    fn convert(&mut self, packet: Packet) -> Result<Received, Fault> {
        Ok(match packet {
            Packet::V3_1_1Connect(packet) => {
                self.protocol = Some(Protocol::V4);
                Received::Connect(Box::new(connect_v4(&packet)?))
            }
            Packet::V5_0Connect(packet) => {
                self.protocol = Some(Protocol::V5);
                Received::Connect(Box::new(connect_v5(&packet, self.lone_password)?))
            }
            Packet::V3_1_1Publish(packet) => {
                let publish = mqtt::Packet {
                    topic: text_bytes(packet.topic_name())?,
                    payload: payload(packet.payload()),
                    qos: qos(packet.qos()),
                    retain: packet.retain(),
                    dup: packet.dup(),
                    id: packet_id(packet.qos(), packet.packet_id())?,
                    properties: mqtt::Properties::default(),
                };
                self.note(publish)
            }
            Packet::V5_0Publish(packet) => {
                let publish = mqtt::Packet {
                    topic: text_bytes(packet.topic_name())?,
                    payload: payload(packet.payload()),
                    qos: qos(packet.qos()),
                    retain: packet.retain(),
                    dup: packet.dup(),
                    id: packet_id(packet.qos(), packet.packet_id())?,
                    properties: properties(packet.props())?,
                };
                self.note(publish)
            }
            Packet::V3_1_1Puback(packet) => Received::Acknowledged(packet.packet_id()),
            Packet::V5_0Puback(packet) => Received::Acknowledged(packet.packet_id()),
            Packet::V3_1_1Pubrec(packet) => Received::Recorded(packet.packet_id(), Reason::SUCCESS),
            Packet::V5_0Pubrec(packet) => {
                let reason = packet.reason_code().map_or(0, |code| code as u8);
                Received::Recorded(packet.packet_id(), Reason(reason))
            }
            Packet::V3_1_1Pubrel(packet) => self.released(packet.packet_id()),
            Packet::V5_0Pubrel(packet) => self.released(packet.packet_id()),
            Packet::V3_1_1Pubcomp(packet) => Received::Completed(packet.packet_id()),
            Packet::V5_0Pubcomp(packet) => Received::Completed(packet.packet_id()),
            Packet::V3_1_1Subscribe(packet) => Received::Subscribe(Subscribe {
                id: known_id(packet.packet_id())?,
                identifier: None,
                wanted: wanted(packet.entries(), Protocol::V4)?,
            }),
            Packet::V5_0Subscribe(packet) => Received::Subscribe(Subscribe {
                id: known_id(packet.packet_id())?,
                identifier: identifier(packet.props()),
                wanted: wanted(packet.entries(), Protocol::V5)?,
            }),
            Packet::V3_1_1Unsubscribe(packet) => Received::Unsubscribe(Unsubscribe {
                id: known_id(packet.packet_id())?,
                filters: packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            }),
            Packet::V5_0Unsubscribe(packet) => Received::Unsubscribe(Unsubscribe {
                id: known_id(packet.packet_id())?,
                filters: packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            }),
            Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Received::Ping,
            Packet::V3_1_1Disconnect(_) => {
                Received::Disconnect(Farewell { with_will: false, session_expiry: None })
            }
            Packet::V5_0Disconnect(packet) => Received::Disconnect(farewell(&packet)),
            Packet::V5_0Auth(_) => Received::Authenticate,
            _ => return Err(Fault::protocol("a packet that only servers send")),
        })
    }

    fn note(&mut self, publish: mqtt::Packet) -> Received {
        if publish.qos == Qos::EffectivelyOnce {
            self.unreleased.insert(publish.id);
        }
        Received::Publish(publish)
    }

    fn released(&mut self, id: u16) -> Received {
        Received::Released(id, self.unreleased.remove(&id))
    }

    /// Accepts the client, and writes CONNACK.
    pub(super) fn accept(&mut self, welcome: &Welcome, out: &mut Vec<u8>) -> Result<(), Fault> {
        let events = match self.protocol {
            Some(Protocol::V5) => {
                let connack = v5_0::Connack::builder()
                    .session_present(welcome.session_present)
                    .reason_code(ConnectReasonCode::Success)
                    .props(welcome_properties(welcome).map_err(broken)?)
                    .build()
                    .map_err(broken)?;
                self.connection.checked_send(connack)
            }
            _ => {
                let connack = v3_1_1::Connack::builder()
                    .session_present(welcome.session_present)
                    .return_code(ConnectReturnCode::Accepted)
                    .build()
                    .map_err(broken)?;
                self.connection.checked_send(connack)
            }
        };
        self.packet_bytes_max = welcome.packet_bytes_max as usize;
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    out.extend_from_slice(&packet.to_continuous_buffer());
                }
                Event::NotifyError(error) => return Err(broken(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins a PUBLISH of qos 1 or 2, and returns its identifier.
    pub(super) fn begin(&mut self, qos: Qos) -> Option<u16> {
        let id = self.connection.acquire_packet_id().ok()?;
        self.sent(id, qos).then_some(id)
    }

    /// Goes on with one of an earlier connection.
    pub(super) fn resume(&mut self, id: u16, stage: Stage) -> bool {
        if self.connection.register_packet_id(id).is_err() {
            return false;
        }
        match stage {
            Stage::Sent(qos) => self.sent(id, qos),
            Stage::Released => {
                let [high, low] = id.to_be_bytes();
                let recorded = [0x50, 2, high, low];
                self.sent(id, Qos::EffectivelyOnce)
                    && !failed(&self.connection.recv(&mut Cursor::new(&recorded[..])))
                    && self.release(id)
            }
        }
    }

    /// Goes on with what an earlier connection has received and was not released.
    pub(super) fn resume_unreleased(&mut self, ids: HashSet<u16>) {
        self.connection.restore_qos2_publish_handled(ids.iter().copied().collect());
        self.unreleased = ids;
    }

    /// What was received and not released.
    pub(super) fn into_unreleased(self) -> HashSet<u16> {
        self.unreleased
    }

    /// Forgets a PUBLISH that was begun and not sent.
    pub(super) fn abandon(&mut self, id: u16, qos: Qos) {
        let [high, low] = id.to_be_bytes();
        // The client did not see it, so that we answer it.
        if qos == Qos::EffectivelyOnce {
            self.connection.recv(&mut Cursor::new(&[0x50, 2, high, low][..]));
            self.release(id);
            self.connection.recv(&mut Cursor::new(&[0x70, 2, high, low][..]));
        } else {
            self.connection.recv(&mut Cursor::new(&[0x40, 2, high, low][..]));
        }
    }

    /// Tells the library of a PUBLISH, without what is in it.
    fn sent(&mut self, id: u16, qos: Qos) -> bool {
        let level = match qos {
            Qos::EffectivelyOnce => packet::Qos::ExactlyOnce,
            _ => packet::Qos::AtLeastOnce,
        };
        let events = match self.protocol {
            Some(Protocol::V5) => {
                let publish = v5_0::Publish::builder().topic_name("t");
                let publish = publish.map(|publish| publish.qos(level).packet_id(id).build());
                publish.map(|publish| publish.map(|publish| self.connection.checked_send(publish)))
            }
            _ => {
                let publish = v3_1_1::Publish::builder().topic_name("t");
                let publish = publish.map(|publish| publish.qos(level).packet_id(id).build());
                publish.map(|publish| publish.map(|publish| self.connection.checked_send(publish)))
            }
        };
        matches!(events, Ok(Ok(events)) if !failed(&events))
    }

    /// Tells the library that a PUBREL goes out.
    pub(super) fn release(&mut self, id: u16) -> bool {
        let events = match self.protocol {
            Some(Protocol::V5) => {
                let pubrel = v5_0::Pubrel::builder().packet_id(id).build();
                pubrel.map(|pubrel| self.connection.checked_send(pubrel))
            }
            _ => {
                let pubrel = v3_1_1::Pubrel::builder().packet_id(id).build();
                pubrel.map(|pubrel| self.connection.checked_send(pubrel))
            }
        };
        matches!(events, Ok(events) if !failed(&events))
    }

    /// Tells the library that what was received at qos 1 is answered.
    pub(super) fn acknowledged(&mut self, id: u16) {
        // At the worst the client's receive-maximum is used up too early.
        let _ = match self.protocol {
            Some(Protocol::V5) => v5_0::Puback::builder()
                .packet_id(id)
                .build()
                .map(|puback| self.connection.checked_send(puback)),
            _ => v3_1_1::Puback::builder()
                .packet_id(id)
                .build()
                .map(|puback| self.connection.checked_send(puback)),
        };
    }

    /// Tells the library that what was received at qos 2 is refused.
    pub(super) fn refused(&mut self, id: u16, reason: Reason) {
        self.unreleased.remove(&id);
        let code = packet_reason(reason);
        if self.protocol == Some(Protocol::V5) {
            let pubrec = v5_0::Pubrec::builder().packet_id(id).reason_code(code).build();
            let _ = pubrec.map(|pubrec| self.connection.checked_send(pubrec));
        }
    }

    /// Tells the library that what was received at qos 2 is completed.
    pub(super) fn completed(&mut self, id: u16) {
        let _ = match self.protocol {
            Some(Protocol::V5) => v5_0::Pubcomp::builder()
                .packet_id(id)
                .build()
                .map(|pubcomp| self.connection.checked_send(pubcomp)),
            _ => v3_1_1::Pubcomp::builder()
                .packet_id(id)
                .build()
                .map(|pubcomp| self.connection.checked_send(pubcomp)),
        };
    }
}

fn failed(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::NotifyError(_)))
}

fn broken(error: MqttError) -> Fault {
    Fault::new(Reason::UNSPECIFIED, format!("the answer could not be made: {error:?}"))
}

fn packet_reason(reason: Reason) -> mqtt_protocol_core::mqtt::result_code::PubrecReasonCode {
    use mqtt_protocol_core::mqtt::result_code::PubrecReasonCode as Code;
    Code::try_from(reason.0).unwrap_or(Code::UnspecifiedError)
}

fn reason_of(error: MqttError) -> Reason {
    let code = error as u16;
    match u8::try_from(code) {
        Ok(code) => Reason(code),
        // The library's own: what could not be read.
        Err(_) => Reason::MALFORMED_PACKET,
    }
}

/// A PUBLISH of qos 0 without properties: nothing of it concerns the state.
fn simple_publish(
    protocol: Protocol,
    header: u8,
    body: &[u8],
) -> Result<Option<mqtt::Packet>, Fault> {
    if header & 0b0110 != 0 {
        return Ok(None);
    }
    let Some((length, rest)) = body.split_first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    let Some((topic, mut payload)) = rest.split_at_checked(length) else { return Ok(None) };
    if protocol == Protocol::V5 {
        match payload.split_first() {
            Some((0, rest)) if !topic.is_empty() => payload = rest,
            _ => return Ok(None),
        }
    }
    let Ok(text) = std::str::from_utf8(topic) else { return Ok(None) };
    Ok(Some(mqtt::Packet {
        topic: text_bytes(text)?,
        payload: Bytes::copy_from_slice(payload),
        retain: header & 1 != 0,
        qos: Qos::AtMostOnce,
        ..mqtt::Packet::default()
    }))
}

fn qos(level: packet::Qos) -> Qos {
    match level {
        packet::Qos::AtMostOnce => Qos::AtMostOnce,
        packet::Qos::AtLeastOnce => Qos::AtLeastOnce,
        packet::Qos::ExactlyOnce => Qos::EffectivelyOnce,
    }
}

fn known_id(id: u16) -> Result<u16, Fault> {
    match id {
        0 => Err(Fault::protocol("the packet identifier 0")),
        id => Ok(id),
    }
}

fn packet_id(level: packet::Qos, id: Option<u16>) -> Result<u16, Fault> {
    match level {
        packet::Qos::AtMostOnce => Ok(0),
        _ => known_id(id.unwrap_or(0)),
    }
}

fn check_text(text: &str) -> Result<&str, Fault> {
    match text.as_bytes().contains(&0) {
        true => Err(Fault::malformed("a text with the character U+0000")),
        false => Ok(text),
    }
}

fn text_bytes(text: &str) -> Result<Bytes, Fault> {
    Ok(Bytes::copy_from_slice(check_text(text)?.as_bytes()))
}

fn payload(payload: &mqtt_protocol_core::mqtt::ArcPayload) -> Bytes {
    struct Slice(mqtt_protocol_core::mqtt::ArcPayload);
    impl AsRef<[u8]> for Slice {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    match payload.len() {
        0..=PAYLOAD_BYTES_COPIED => Bytes::copy_from_slice(payload.as_slice()),
        _ => Bytes::from_owner(Slice(payload.clone())),
    }
}

fn properties(found: &[Property]) -> Result<mqtt::Properties, Fault> {
    let mut properties = mqtt::Properties::default();
    for property in found {
        match property {
            Property::PayloadFormatIndicator(value) => {
                properties.payload_format = Some(value.val());
            }
            Property::MessageExpiryInterval(value) => properties.message_expiry = Some(value.val()),
            Property::ContentType(value) => {
                properties.content_type = Some(check_text(value.val())?.to_owned());
            }
            Property::ResponseTopic(value) => {
                let topic = check_text(value.val())?;
                if topic.is_empty() || topic.contains(['+', '#']) {
                    return Err(Fault::protocol("a response topic that is no topic"));
                }
                properties.response_topic = Some(topic.to_owned());
            }
            Property::CorrelationData(value) => {
                properties.correlation_data = Some(Bytes::copy_from_slice(value.val()));
            }
            Property::UserProperty(value) => {
                let (name, value) = (check_text(value.key())?, check_text(value.val())?);
                properties.user.push((name.to_owned(), value.to_owned()));
            }
            Property::SubscriptionIdentifier(_) => {
                return Err(Fault::protocol("a subscription identifier in a PUBLISH of a client"));
            }
            _ => {}
        }
    }
    Ok(properties)
}

fn identifier(properties: &[Property]) -> Option<u32> {
    properties.iter().find_map(|property| match property {
        Property::SubscriptionIdentifier(value) => Some(value.val()),
        _ => None,
    })
}

fn wanted(entries: &[packet::SubEntry], protocol: Protocol) -> Result<Vec<Wanted>, Fault> {
    let read = |entry: &packet::SubEntry| {
        let options = entry.sub_opts();
        let is_v4_only = !options.nl() && !options.rap();
        let retained = match options.rh() {
            packet::RetainHandling::SendRetained => Retained::Always,
            packet::RetainHandling::SendRetainedIfNotExists => Retained::IfNew,
            packet::RetainHandling::DoNotSendRetained => Retained::Never,
        };
        if protocol == Protocol::V4 && !(is_v4_only && retained == Retained::Always) {
            return Err(Fault::malformed("options of MQTT 5 in a SUBSCRIBE of 3.1.1"));
        }
        Ok(Wanted {
            filter: check_text(entry.topic_filter())?.to_owned(),
            options: Options {
                qos: qos(options.qos()),
                no_local: options.nl(),
                retain_as_published: options.rap(),
                retained,
            },
        })
    };
    entries.iter().map(read).collect()
}

fn farewell(packet: &v5_0::Disconnect) -> Farewell {
    let session_expiry = packet.props().iter().flatten().find_map(|property| match property {
        Property::SessionExpiryInterval(value) => Some(value.val()),
        _ => None,
    });
    // Any other reason than a normal one leaves the will to be sent.
    let normal = DisconnectReasonCode::NormalDisconnection;
    let with_will = packet.reason_code().is_some_and(|reason| reason != normal);
    Farewell { with_will, session_expiry }
}

fn connect_v4(packet: &v3_1_1::Connect) -> Result<Connect, Fault> {
    let will = match (packet.will_topic(), packet.will_payload()) {
        (Some(topic), Some(payload)) => Some(Will {
            packet: mqtt::Packet {
                topic: text_bytes(topic)?,
                payload: Bytes::copy_from_slice(payload),
                qos: qos(packet.will_qos()),
                retain: packet.will_retain(),
                ..mqtt::Packet::default()
            },
            delay: 0,
        }),
        _ => None,
    };
    Ok(Connect {
        protocol: Protocol::V4,
        client_id: check_text(packet.client_id())?.to_owned(),
        clean: packet.clean_session(),
        keep_alive: packet.keep_alive(),
        will,
        username: packet.user_name().map(check_text).transpose()?.map(str::to_owned),
        password: packet.password().map(Bytes::copy_from_slice),
        session_expiry: if packet.clean_session() { 0 } else { u32::MAX },
        receive_max: u16::MAX,
        packet_bytes_max: None,
        alias_max: 0,
        problem_information: false,
        authentication_method: false,
    })
}

fn connect_v5(packet: &v5_0::Connect, lone_password: bool) -> Result<Connect, Fault> {
    let will = match (packet.will_topic(), packet.will_payload()) {
        (Some(topic), Some(payload)) => Some(Will {
            packet: mqtt::Packet {
                topic: text_bytes(topic)?,
                payload: Bytes::copy_from_slice(payload),
                qos: qos(packet.will_qos()),
                retain: packet.will_retain(),
                properties: properties(packet.will_props())?,
                ..mqtt::Packet::default()
            },
            delay: packet.will_props().iter().find_map(will_delay).unwrap_or(0),
        }),
        _ => None,
    };
    let mut connect = Connect {
        protocol: Protocol::V5,
        client_id: check_text(packet.client_id())?.to_owned(),
        clean: packet.clean_start(),
        keep_alive: packet.keep_alive(),
        will,
        username: match packet.user_name() {
            Some(name) if !lone_password => Some(check_text(name)?.to_owned()),
            _ => None,
        },
        password: packet.password().map(Bytes::copy_from_slice),
        session_expiry: 0,
        receive_max: u16::MAX,
        packet_bytes_max: None,
        alias_max: 0,
        problem_information: true,
        authentication_method: false,
    };
    for property in packet.props() {
        match property {
            Property::SessionExpiryInterval(value) => connect.session_expiry = value.val(),
            Property::ReceiveMaximum(value) => connect.receive_max = value.val(),
            Property::MaximumPacketSize(value) => connect.packet_bytes_max = Some(value.val()),
            Property::TopicAliasMaximum(value) => connect.alias_max = value.val(),
            Property::RequestProblemInformation(value) => {
                connect.problem_information = value.val() != 0;
            }
            Property::AuthenticationMethod(_) => connect.authentication_method = true,
            Property::UserProperty(value) => {
                check_text(value.key())?;
                check_text(value.val())?;
            }
            _ => {}
        }
    }
    Ok(connect)
}

fn will_delay(property: &Property) -> Option<u32> {
    match property {
        Property::WillDelayInterval(value) => Some(value.val()),
        _ => None,
    }
}

fn welcome_properties(welcome: &Welcome) -> Result<Vec<Property>, MqttError> {
    let mut properties = Vec::new();
    if let Some(seconds) = welcome.session_expiry {
        properties.push(packet::SessionExpiryInterval::new(seconds)?.into());
    }
    properties.push(packet::ReceiveMaximum::new(welcome.receive_max)?.into());
    properties.push(packet::MaximumPacketSize::new(welcome.packet_bytes_max)?.into());
    if let Some(client_id) = &welcome.assigned_client_id {
        properties.push(packet::AssignedClientIdentifier::new(client_id)?.into());
    }
    if welcome.alias_max > 0 {
        properties.push(packet::TopicAliasMaximum::new(welcome.alias_max)?.into());
    }
    if let Some(seconds) = welcome.server_keep_alive {
        properties.push(packet::ServerKeepAlive::new(seconds)?.into());
    }
    Ok(properties)
}

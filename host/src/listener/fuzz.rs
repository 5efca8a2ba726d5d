//! What holds of the bytes of a client, whatever they are: for fuzz targets and for
//! tests over bytes from a seed.

use super::encode::{self, Answer, Manner, put_length};
use super::packets::{
    Connect, Farewell, Options, Received, Retained, Subscribe, Unsubscribe, Will,
};
use super::protocol::{Machine, Welcome};
use super::reason::{Fault, Reason};
use crate::mqtt::{Packet, Protocol};
use std::collections::VecDeque;

/// What may arrive before a client is accepted, and how large its packets may be then.
const CONNECT_BYTES_MAX: usize = 300;
const PACKET_BYTES_MAX: u32 = 1000;

const CONNECT_V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01a";
const CONNECT_V4: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a";

/// Reads bytes as those of a client. The first byte says what came before them, the
/// second one how they are cut into pieces.
///
/// # Panics
/// Something does not hold: they mean the same however they arrive; no more is kept
/// than the largest packet; and what is accepted, written again, is read as the same.
pub fn packets(data: &[u8]) {
    let [choice, piece, bytes @ ..] = data else { return };
    let protocol = [None, Some(Protocol::V5), Some(Protocol::V4)][usize::from(choice % 3)];
    let (whole, fault) = read(protocol, bytes, bytes.len().max(1));
    let pieces = read(protocol, bytes, usize::from(*piece).max(1));
    assert_eq!((shown(&whole), &fault), (shown(&pieces.0), &pieces.1), "in pieces of {piece}");
    // After a CONNECT nothing is taken apart until it is answered.
    let protocol = match whole.front() {
        Some(Received::Connect(connect)) => connect.protocol,
        _ => protocol.unwrap_or(Protocol::V4),
    };
    for received in &whole {
        written_again(protocol, received);
    }
}

fn shown(received: &VecDeque<Received>) -> Vec<String> {
    received.iter().map(|packet| format!("{packet:?}")).collect()
}

/// A machine before CONNECT, or after one of a version.
fn machine(protocol: Option<Protocol>) -> Machine {
    let mut machine = Machine::new(CONNECT_BYTES_MAX);
    let Some(protocol) = protocol else { return machine };
    let connect = if protocol == Protocol::V5 { CONNECT_V5 } else { CONNECT_V4 };
    let mut received = VecDeque::new();
    assert_eq!(machine.receive(connect, &mut received), Ok(()));
    let welcome = Welcome {
        receive_max: 10,
        packet_bytes_max: PACKET_BYTES_MAX,
        alias_max: 2,
        ..Welcome::default()
    };
    machine.accept(&welcome, &mut Vec::new());
    machine
}

fn read(
    protocol: Option<Protocol>,
    bytes: &[u8],
    piece: usize,
) -> (VecDeque<Received>, Option<Fault>) {
    let mut machine = machine(protocol);
    let mut received = VecDeque::new();
    for bytes in bytes.chunks(piece) {
        if let Err(fault) = machine.receive(bytes, &mut received) {
            return (received, Some(fault));
        }
        // What it keeps may grow to twice of what it needs.
        assert!(machine.kept() <= 2 * PACKET_BYTES_MAX as usize + 64, "{}", machine.kept());
    }
    (received, None)
}

/// Writes a packet, and reads it again.
fn written_again(protocol: Protocol, received: &Received) {
    let mut bytes = Vec::new();
    let out = &mut bytes;
    let success = Reason::SUCCESS;
    let mut state = Some(protocol);
    match received {
        Received::Connect(connect) => {
            state = None;
            put_connect(connect, out);
        }
        Received::Publish(packet) => put_publish(protocol, packet, out),
        Received::Acknowledged(id) => encode::answer(protocol, Answer::Puback, *id, success, out),
        Received::Recorded(id, reason) => {
            encode::answer(protocol, Answer::Pubrec, *id, *reason, out);
        }
        Received::Completed(id) => encode::answer(protocol, Answer::Pubcomp, *id, success, out),
        Received::Subscribe(packet) => put_subscribe(protocol, packet, out),
        Received::Unsubscribe(packet) => put_unsubscribe(protocol, packet, out),
        Received::Ping => out.extend_from_slice(&[0xc0, 0]),
        Received::Disconnect(farewell) => put_disconnect(protocol, farewell, out),
        // What these are depends on what came before.
        Received::Released(..) | Received::Repeated(_) | Received::Early(_) => return,
    }
    let (again, fault) = read(state, &bytes, bytes.len());
    // Without abbreviations, such as an alias, it may be larger than is allowed.
    if fault.as_ref().is_some_and(|fault| fault.reason == Reason::PACKET_TOO_LARGE) {
        return;
    }
    let expected = format!("{received:?}");
    assert_eq!((shown(&again), fault), (vec![expected], None), "{bytes:x?}");
}

fn put_text(text: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    let text = text.as_ref();
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn put_packet(header: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(header);
    put_length(body.len(), out);
    out.extend_from_slice(body);
}

fn put_properties(properties: &[u8], out: &mut Vec<u8>) {
    put_length(properties.len(), out);
    out.extend_from_slice(properties);
}

fn put_long(id: u8, value: u32, out: &mut Vec<u8>) {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_short(id: u8, value: u16, out: &mut Vec<u8>) {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_publish(protocol: Protocol, packet: &Packet, out: &mut Vec<u8>) {
    let manner = Manner {
        protocol,
        qos: packet.qos,
        dup: packet.dup,
        retain: packet.retain,
        id: packet.id,
        identifiers: &[],
        alias: None,
        expiry: packet.properties.message_expiry,
        bytes_max: usize::MAX,
    };
    assert!(encode::packet(packet, &manner, out));
}

fn put_connect(connect: &Connect, out: &mut Vec<u8>) {
    let Connect { protocol, will, username, password, .. } = connect;
    let mut flags = u8::from(connect.clean) << 1;
    flags |= u8::from(username.is_some()) << 7 | u8::from(password.is_some()) << 6;
    if let Some(Will { packet, .. }) = will {
        flags |= 4 | packet.qos.level() << 3 | u8::from(packet.retain) << 5;
    }
    let (name, level) = match (connect.is_v3_1, protocol) {
        (true, _) => ("MQIsdp", 3),
        (false, Protocol::V4) => ("MQTT", 4),
        (false, Protocol::V5) => ("MQTT", 5),
    };
    let mut body = Vec::new();
    put_text(name, &mut body);
    body.extend_from_slice(&[level | u8::from(connect.is_bridge) << 7, flags]);
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if *protocol == Protocol::V5 {
        let mut properties = Vec::new();
        put_long(17, connect.session_expiry, &mut properties);
        put_short(33, connect.receive_max, &mut properties);
        put_short(34, connect.alias_max, &mut properties);
        if let Some(bytes) = connect.packet_bytes_max {
            put_long(39, bytes, &mut properties);
        }
        properties.extend_from_slice(&[23, u8::from(connect.problem_information)]);
        if connect.authentication_method {
            properties.push(21);
            put_text("", &mut properties);
        }
        put_properties(&properties, &mut body);
    }
    put_text(&connect.client_id, &mut body);
    if let Some(Will { packet, delay }) = will {
        if *protocol == Protocol::V5 {
            let mut properties = Vec::new();
            put_long(24, *delay, &mut properties);
            if let Some(seconds) = packet.properties.message_expiry {
                put_long(2, seconds, &mut properties);
            }
            encode::put_properties(&packet.properties, &mut properties);
            put_properties(&properties, &mut body);
        }
        put_text(&packet.topic, &mut body);
        put_text(&packet.payload, &mut body);
    }
    if let Some(username) = username {
        put_text(username, &mut body);
    }
    if let Some(password) = password {
        put_text(password, &mut body);
    }
    put_packet(0x10, &body, out);
}

fn put_subscribe(protocol: Protocol, packet: &Subscribe, out: &mut Vec<u8>) {
    let mut body = packet.id.to_be_bytes().to_vec();
    if protocol == Protocol::V5 {
        let mut properties = Vec::new();
        if let Some(identifier) = packet.identifier {
            properties.push(11);
            put_length(identifier as usize, &mut properties);
        }
        put_properties(&properties, &mut body);
    }
    for wanted in &packet.wanted {
        let Options { qos, no_local, retain_as_published, retained } = wanted.options;
        let handling = match retained {
            Retained::Always => 0,
            Retained::IfNew => 1,
            Retained::Never => 2,
        };
        put_text(&wanted.filter, &mut body);
        let flags = u8::from(no_local) << 2 | u8::from(retain_as_published) << 3;
        body.push(qos.level() | flags | handling << 4);
    }
    put_packet(0x82, &body, out);
}

fn put_unsubscribe(protocol: Protocol, packet: &Unsubscribe, out: &mut Vec<u8>) {
    let mut body = packet.id.to_be_bytes().to_vec();
    if protocol == Protocol::V5 {
        body.push(0);
    }
    packet.filters.iter().for_each(|filter| put_text(filter, &mut body));
    put_packet(0xa2, &body, out);
}

fn put_disconnect(protocol: Protocol, farewell: &Farewell, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    if protocol == Protocol::V5 {
        body.push(if farewell.with_will { 4 } else { 0 });
        let mut properties = Vec::new();
        if let Some(seconds) = farewell.session_expiry {
            put_long(17, seconds, &mut properties);
        }
        put_properties(&properties, &mut body);
    }
    put_packet(0xe0, &body, out);
}

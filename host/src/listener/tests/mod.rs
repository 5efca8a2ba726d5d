//! What arrives, whatever it is: seeded, so that a failure comes again.

mod archive;

use super::packets::Received;
use super::protocol::{Machine, Welcome};
use std::collections::VecDeque;

/// Packets of both versions that are right, to be made wrong.
const PACKETS: [&[u8]; 14] = [
    b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a",
    b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x01a",
    b"\x10\x1b\x00\x04MQTT\x05\xc6\x00\x3c\x00\x00\x01a\x00\x00\x01w\x00\x01m\x00\x01u\x00\x01p",
    b"\x30\x06\x00\x01t\x00ab",
    b"\x32\x07\x00\x01t\x00\x07\x00b",
    b"\x34\x10\x00\x01t\x00\x08\x09\x23\x00\x01\x26\x00\x01a\x00\x01bx",
    b"\x40\x02\x00\x01",
    b"\x50\x03\x00\x01\x80",
    b"\x62\x02\x00\x08",
    b"\x70\x02\x00\x01",
    b"\x82\x0b\x00\x09\x02\x0b\x01\x00\x03a/#\x01",
    b"\xa2\x08\x00\x0a\x00\x00\x03a/#",
    b"\xc0\x00",
    b"\xe0\x02\x00\x00",
];

/// A connection that the client has opened, with what it asked for.
fn accepted(version: usize) -> Machine {
    let mut machine = Machine::new(4096);
    let mut received = VecDeque::new();
    machine.receive(PACKETS[version], &mut received).unwrap();
    assert!(matches!(received.make_contiguous(), [Received::Connect(_)]));
    let welcome =
        Welcome { receive_max: 10, packet_bytes_max: 1000, alias_max: 2, ..Welcome::default() };
    machine.accept(&welcome, &mut Vec::new());
    machine
}

/// Some packets, with some bytes changed, taken out and put in.
fn spoilt(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..6) {
        bytes.extend_from_slice(PACKETS[random.usize(0..PACKETS.len())]);
    }
    for _ in 0..random.usize(0..4) {
        let at = random.usize(0..bytes.len());
        match random.u8(0..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(0..8),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, [0, 0xff, 0x80, 0x7f][random.usize(0..4)]),
        }
    }
    bytes
}

/// Bytes as they may come: packets with all kinds of faults, or anything.
fn hostile(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.u8(0..8) == 0 {
        return (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
    }
    let mut bytes = spoilt(random);
    for _ in 0..random.usize(0..3) {
        let (at, to) = (random.usize(0..=bytes.len()), random.usize(0..=bytes.len()));
        let part = bytes[at.min(to)..at.max(to)].to_vec();
        match random.u8(0..4) {
            // Cut off, cut out, repeated.
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at.min(to)..at.max(to))),
            2 => bytes.extend_from_slice(&part),
            // Another length.
            _ if bytes.len() > 1 => bytes[1] = random.u8(..),
            _ => {}
        }
    }
    bytes
}

/// The fuzz target over bytes from a seed.
#[test]
fn whatever_arrives_is_bounded_and_what_is_accepted_is_read_again_as_the_same() {
    for seed in 0..40_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let choices = [random.u8(..), random.u8(0..12)];
        let bytes = [&choices[..], &hostile(&mut random)].concat();
        let held = std::panic::catch_unwind(|| super::fuzz::packets(&bytes));
        assert!(held.is_ok(), "seed {seed}: {bytes:x?}");
    }
}

/// What comes of bytes that arrive in these pieces.
fn read<'a>(
    mut machine: Machine,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<String>) {
    let mut received = VecDeque::new();
    let mut fault = None;
    for piece in pieces {
        if let Err(found) = machine.receive(piece, &mut received) {
            fault = Some(format!("{found:?}"));
            break;
        }
    }
    (received.iter().map(|packet| format!("{packet:?}")).collect(), fault)
}

/// The way in which bytes are cut into pieces says nothing, and whatever they are
/// there is no panic.
#[test]
fn mqtt_4_2_bytes_mean_the_same_however_they_arrive() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = spoilt(&mut random);
        let begin = |random: &mut fastrand::Rng| match random.u8(0..3) {
            0 => Machine::new(300),
            version => accepted(usize::from(version) - 1),
        };
        let mut same = random.clone();
        let whole = read(begin(&mut random), std::iter::once(&bytes[..]));
        let size = random.usize(1..8);
        let pieces = read(begin(&mut same), bytes.chunks(size));
        assert_eq!(whole, pieces, "seed {seed}: {bytes:x?}");
        match whole.1 {
            None => good += 1,
            Some(_) => bad += 1,
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}

/// A client can announce a large packet and send nothing of it: nothing is reserved.
#[test]
fn mqtt_3_1_2_11_a_packet_above_the_maximum_is_refused_at_its_header() {
    let mut machine = accepted(1);
    let found = machine.receive(b"\x30\xe9\x07", &mut VecDeque::new()).unwrap_err();
    assert_eq!(found.reason.0, 0x95);
    assert_eq!(accepted(1).receive(b"\x30\xe4\x07", &mut VecDeque::new()), Ok(()));
}

/// MQTT 5.0, section 3.3.4: more than receive-maximum ends the connection.
#[test]
fn mqtt_3_3_4_9_receive_maximum_is_held() {
    let mut machine = accepted(1);
    for id in 1..=10_u8 {
        let packet = [0x32, 6, 0, 1, b't', 0, id, 0];
        assert_eq!(machine.receive(&packet, &mut VecDeque::new()), Ok(()));
    }
    let eleventh = machine.receive(&[0x32, 6, 0, 1, b't', 0, 11, 0], &mut VecDeque::new());
    assert_eq!(eleventh.unwrap_err().reason.0, 0x93);
}

/// MQTT 5.0, section 3.3.2.3.4: an alias is from 1 to the maximum.
#[test]
fn mqtt_3_3_2_9_a_topic_alias_above_the_maximum_is_refused() {
    for (alias, is_allowed) in [(0, false), (1, true), (2, true), (3, false)] {
        let packet = [0x30, 7, 0, 1, b't', 3, 0x23, 0, alias];
        let found = accepted(1).receive(&packet, &mut VecDeque::new());
        assert_eq!(found.is_ok(), is_allowed, "{alias}");
        assert!(is_allowed || found.is_err_and(|fault| fault.reason.0 == 0x94), "{alias}");
    }
}

//! The fuzz targets of `fuzz/` over bytes from a seed: packets that are right and
//! packets that are not, frames, and anything.

#[path = "../../fuzz/src/ground.rs"]
mod ground;

use crate::packets::{
    Connect, DISCONNECT, PINGREQ, Publish, Will, answer, short, subscribe, unsubscribe,
};
use ground::Ground;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many connections one listener serves, one after the other.
const TURN: u64 = 500;

/// A packet that a client may send, with little to choose from, so that one of them
/// concerns another.
fn packet(random: &mut fastrand::Rng) -> Vec<u8> {
    let topics = ["a", "a/b", "b", "own/x", "$SYS/x", "é/ü", "a//", "/"];
    let filters = ["a", "a/#", "+/b", "#", "$share/g/a", "$share/h/#", "$SYS/#", "a/b"];
    let topic = topics[random.usize(0..topics.len())];
    let filter = filters[random.usize(0..filters.len())];
    let id = random.u16(1..4);
    match random.u8(0..14) {
        0 => {
            let will = Will {
                topic: "a",
                payload: "gone",
                flags: random.u8(0..4) << 3 & 0x18 | random.u8(0..2) << 5,
                properties: vec![24, 0, 0, 0, random.u8(0..3)],
            };
            let id = ["", "a", "b"][random.usize(0..3)];
            let connect = if random.bool() { Connect::v5(id) } else { Connect::v4(id) };
            let connect =
                if random.bool() { connect.kept(u32::from(random.u8(..))) } else { connect };
            Connect { will: random.bool().then_some(will), clean: random.bool(), ..connect }.bytes()
        }
        1..=4 => {
            let payload = vec![b'x'; random.usize(0..40)];
            let publish = Publish::v5(topic, payload, random.u8(0..3), id);
            let publish = if random.bool() { publish } else { publish.retained() };
            match random.u8(0..4) {
                0 => publish.with(short(35, random.u16(0..4))).bytes(),
                1 => publish.with(vec![2, 0, 0, 0, random.u8(..)]).bytes(),
                2 => Publish { properties: None, ..publish }.bytes(),
                _ => publish.bytes(),
            }
        }
        5 => Publish::v5("", "x", random.u8(0..3), id).with(short(35, 1)).bytes(),
        6 | 7 => subscribe(id, &[(filter, random.u8(0..3) | random.u8(0..3) << 4)]),
        8 => unsubscribe(id, &[filter]),
        9 => PINGREQ.to_vec(),
        10 => DISCONNECT.to_vec(),
        _ => answer([0x40, 0x50, 0x62, 0x70][random.usize(0..4)], id),
    }
}

/// Some of them, mostly with faults.
fn packets(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.usize(1..10)).flat_map(|_| packet(random)).collect();
    spoil(random, &mut bytes);
    bytes
}

/// Cuts, repeats and changes some of it, or nothing.
fn spoil(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(0..4) {
        let (a, b) = (random.usize(0..=bytes.len()), random.usize(0..=bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match random.u8(0..6) {
            0 => bytes.truncate(to),
            1 => drop(bytes.drain(from..to)),
            2 => bytes.extend_from_within(from..to),
            3 => bytes.insert(from, random.u8(..)),
            4 if from < bytes.len() => bytes[from] ^= 1 << random.u8(0..8),
            _ if from < bytes.len() => bytes[from] = random.u8(..),
            _ => {}
        }
    }
}

/// Frames of WebSocket around packets, mostly with faults.
fn frames(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..6) {
        let payload = packets(random);
        let first = [0x82, 0x82, 0x82, 0x02, 0x80, 0x81, 0x88, 0x89, 0x8a][random.usize(0..9)];
        bytes.push(first);
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        // A mask of zeros leaves it as it is.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(payload);
    }
    spoil(random, &mut bytes);
    bytes
}

/// Requests of HTTP, mostly with faults.
fn requests(random: &mut fastrand::Rng) -> Vec<u8> {
    let lines = [
        "GET /mqtt HTTP/1.1\r\n",
        "POST / HTTP/1.0\r\n",
        "Host: x\r\n",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Protocol: mqtt\r\n",
        "Content-Length: 10\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
    ];
    let mut bytes = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if random.u8(0..6) > 0 && !(8..10).contains(&number) || random.u8(0..6) == 0 {
            bytes.extend_from_slice(line.as_bytes());
        }
    }
    spoil(random, &mut bytes);
    bytes
}

/// Has a target handle inputs from a seed, a new listener now and then.
fn each(seeds: u64, make: fn(&mut fastrand::Rng) -> Vec<u8>, target: fn(&Ground, &[u8])) {
    let mut ground = Ground::new();
    for seed in 0..seeds {
        if seed % TURN == 0 {
            ground = Ground::new();
        }
        let data = make(&mut fastrand::Rng::with_seed(seed));
        let held = catch_unwind(AssertUnwindSafe(|| target(&ground, &data)));
        let first = seed - seed % TURN;
        assert!(held.is_ok(), "seed {seed} of those from {first}: {data:x?}");
    }
}

fn connection_input(random: &mut fastrand::Rng) -> Vec<u8> {
    let choice = random.u8(0..3) + 3 * random.u8(0..10);
    let bytes = match random.u8(0..10) {
        0 => (0..random.usize(0..300)).map(|_| random.u8(..)).collect(),
        _ => packets(random),
    };
    [vec![choice], bytes].concat()
}

fn web_input(random: &mut fastrand::Rng) -> Vec<u8> {
    let is_open = random.u8(0..4) > 0;
    let choice = u8::from(is_open) + 2 * random.u8(0..10);
    let bytes = match random.u8(0..10) {
        0 => (0..random.usize(0..300)).map(|_| random.u8(..)).collect(),
        _ if is_open => frames(random),
        _ => [requests(random), frames(random)].concat(),
    };
    [vec![choice], bytes].concat()
}

#[test]
fn a_connection_ends_with_nothing_left_whatever_arrives() {
    each(8_000, connection_input, Ground::connection);
}

#[test]
fn a_web_socket_ends_with_nothing_left_whatever_arrives() {
    each(4_000, web_input, Ground::web);
}

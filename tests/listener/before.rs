//! What arrives before a client is accepted.

use crate::packets::{Connect, PINGREQ, Publish, Will, subscribe};
use crate::world::{Bystander, World};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection is heard before its CONNECT is there.
const CONNECT_TIME: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_0_1_the_first_packet_is_connect() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let first = [
        PINGREQ.to_vec(),
        Publish::v5("a", "x", 0, 0).bytes(),
        subscribe(1, &[("#", 0)]),
        vec![0xe0, 0],
        vec![0xf0, 0],
        vec![0x00, 0],
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0],
    ];
    let asked = Instant::now();
    for bytes in &first {
        let mut client = world.knock();
        client.send(bytes).await;
        client.closed().await;
        // Also where its end never comes.
        let mut client = world.knock();
        client.send(&bytes[..1]).await;
        client.closed().await;
    }
    assert_eq!(asked.elapsed(), Duration::ZERO, "nobody is waited for");
    bystander.is_served().await;
    world.until_alone(1).await;
    // The last one has the number of CONNECT, and flags that it cannot have.
    let refused = world.figures().refused_total;
    assert_eq!(refused, [("malformed_packet", 2), ("protocol_error", 14)]);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_too_little_has_so_much_time() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let connect = Connect::v5("slow").bytes();
    for part in [0, 1, 2, connect.len() - 1] {
        let start = Instant::now();
        let mut client = world.knock();
        client.send(&connect[..part]).await;
        client.closed().await;
        assert_eq!(start.elapsed(), CONNECT_TIME, "{part} bytes");
    }
    bystander.is_served().await;
    world.until_alone(1).await;
    assert_eq!(world.figures().refused_total, [("timeout", 4)]);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_in_buy_no_time() {
    let world = World::new();
    let connect = Connect::v5("a client whose name is long enough").bytes();
    let start = Instant::now();
    let mut client = world.knock();
    for byte in &connect[..12] {
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    client.closed().await;
    assert_eq!(start.elapsed().as_secs(), 10);
    world.until_alone(0).await;
    // Who is slow, and not too slow, is accepted.
    let mut client = world.knock();
    for byte in &connect {
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    client.expect(0x20).await;
}

#[tokio::test(start_paused = true)]
async fn too_many_bytes_before_connect_are_refused_at_their_announcement() {
    let world = World::with(|settings| settings.limits.connect_bytes_max = 1000);
    for (length, is_allowed) in [([0xe5, 0x07], true), ([0xe6, 0x07], false)] {
        let start = Instant::now();
        let mut client = world.knock();
        client.send([0x10, length[0], length[1]]).await;
        client.closed().await;
        let waited = if is_allowed { CONNECT_TIME } else { Duration::ZERO };
        assert_eq!(start.elapsed(), waited, "{length:x?}");
    }
    let mut client = world.knock();
    client.send([0x10, 0xff, 0xff, 0xff, 0x7f]).await;
    client.closed().await;
    let mut client = world.knock();
    client.send([0x10, 0xff, 0xff, 0xff, 0xff]).await;
    client.closed().await;
    let refused = world.figures().refused_total;
    assert_eq!(refused, [("timeout", 1), ("malformed_packet", 1), ("packet_too_large", 2)]);
    world.until_alone(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_any_byte_is_not_read() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    for byte in [0xff, 0x00, 0x30, 0xc0] {
        let mut client = world.knock();
        for _ in 0..100 {
            client.send(vec![byte; 64 * 1024]).await;
        }
        client.closed().await;
        bystander.is_served().await;
    }
    world.until_alone(1).await;
}

/// And `[MQTT-3.1.4-1]`: a CONNECT that is wrong ends the connection without a word.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_3_the_flags_of_connect_are_checked() {
    let world = World::new();
    let will = |flags| {
        let will = Will { topic: "w", payload: "x", flags, properties: Vec::new() };
        Connect { will: Some(will), ..Connect::v5("a") }
    };
    let wrong = [
        // [MQTT-3.1.2-3] The reserved flag is 0.
        Connect { flags: 0x01, ..Connect::v5("a") },
        // [MQTT-3.1.2-11] and [MQTT-3.1.2-13]: without a will it has no qos, and no RETAIN.
        Connect { flags: 0x08, ..Connect::v5("a") },
        Connect { flags: 0x20, ..Connect::v4("a") },
        // [MQTT-3.1.2-12] The qos of a will is not 3.
        will(0x18),
        // [MQTT-3.1.2-22] of MQTT 3.1.1: no password without a user name.
        Connect { password: Some("p"), ..Connect::v4("a") },
        // [MQTT-3.1.2-16] and [MQTT-3.1.2-17]: what a flag announces is there.
        Connect { flags: 0x80, ..Connect::v5("a") },
        Connect { flags: 0x04, ..Connect::v5("a") },
    ];
    for connect in &wrong {
        let mut client = world.knock();
        client.send(connect.bytes()).await;
        client.closed().await;
    }
    assert_eq!(world.figures().refused_total, [("malformed_packet", wrong.len() as u64)]);
    // In MQTT 5 a password needs no user name.
    world.client(&Connect { password: Some("p"), ..Connect::v5("a") }).await;
    world.client(&will(0x30)).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_2_an_unknown_version_is_told_so() {
    let world = World::new();
    for level in [0, 2, 6, 127] {
        let mut client = world.knock();
        client.send(Connect { level, ..Connect::v4("a") }.bytes()).await;
        let connack = client.expect(0x20).await;
        assert_eq!(connack.body, [0, 1], "level {level}");
        client.closed().await;
    }
    // [MQTT-3.1.2-1] Another protocol is told nothing.
    let mut client = world.knock();
    client.send(b"\x10\x0c\x00\x04MQTX\x05\x02\x00\x00\x00\x00\x00").await;
    client.closed().await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_4_6_what_follows_a_refused_connect_is_not_handled() {
    let world = World::new();
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    watcher.subscribe(&[("#", 0)]).await;
    let mut client = world.knock();
    // An authentication method, and there is none.
    let connect = Connect::v5("a").with(&[21, 0, 1, b'x']);
    let publish = Publish::v5("t", "not to be", 0, 0).bytes();
    client.send([connect.bytes(), publish.clone()].concat()).await;
    let connack = client.expect(0x20).await;
    assert_eq!(connack.body, [0, 0x8c, 0]);
    client.closed().await;
    // What follows one that is accepted is.
    let mut client = world.knock();
    let later = Publish::v5("t", "early", 0, 0).bytes();
    client.send([Connect::v5("b").bytes(), later].concat()).await;
    client.expect(0x20).await;
    assert_eq!(watcher.publish().await.payload, b"early");
}

/// Table 3.1: a client is told that there are too many, also from one address.
#[tokio::test(start_paused = true)]
async fn mqtt_3_2_2_7_who_is_too_many_is_told_and_closed() {
    let world = World::with(|settings| {
        settings.limits.connections_max = 3;
        settings.limits.connections_per_address_max = Some(1);
    });
    let mut bystander = Bystander::new(&world).await;
    let (one, two) = ("10.0.0.1".parse().ok(), "10.0.0.2".parse().ok());
    let mut first = world.knock_from(one, 1024);
    assert_eq!(first.connect(&Connect::v5("first")).await.reason, 0);
    let mut same = world.knock_from(one, 1024);
    assert_eq!(same.connect(&Connect::v5("same")).await.reason, 0x97);
    same.closed().await;
    let mut other = world.knock_from(two, 1024);
    assert_eq!(other.connect(&Connect::v4("other")).await.reason, 0);
    // MQTT 3.1.1 says only that the server is unavailable.
    for (connect, reason) in [(Connect::v5("late"), 0x97), (Connect::v4("late"), 3)] {
        assert_eq!(world.refused(&connect).await, reason);
    }
    // One that waits to be told does not wait for ever.
    let start = Instant::now();
    world.knock().closed().await;
    assert_eq!(start.elapsed(), CONNECT_TIME);
    bystander.is_served().await;
    first.goodbye().await;
    other.goodbye().await;
    world.until_alone(1).await;
    let mut again = world.knock_from(one, 1024);
    assert_eq!(again.connect(&Connect::v5("again")).await.reason, 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_those_that_are_told_connections_are_closed() {
    let world = World::with(|settings| settings.limits.connections_max = 1);
    let mut bystander = Bystander::new(&world).await;
    let waiting: Vec<_> = (0..64).map(|_| world.knock()).collect();
    let start = Instant::now();
    for _ in 0..1000 {
        world.knock().closed().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    bystander.is_served().await;
    drop(waiting);
    world.until_alone(1).await;
    assert_eq!(world.figures().refused_total, [("gone", 64), ("closed", 1000)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_waits_for_nobody_who_has_not_said_who_it_is() {
    let world = World::new();
    let mut silent = world.knock();
    let mut half = world.knock();
    half.send([0x10]).await;
    let mut client = world.client(&Connect::v5("a")).await;
    let start = Instant::now();
    world.listener.close(Duration::from_secs(60)).await;
    client.ended(0x8b).await;
    silent.closed().await;
    half.closed().await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

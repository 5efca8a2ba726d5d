//! What the standard says of CONNECT, CONNACK, sessions, wills and DISCONNECT. The
//! numbers are those of MQTT 5.0.

use crate::packets::{
    Connect, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, Will, answer,
    long, packet, short, unsubscribe, user,
};
use crate::world::{Raw, World};
use std::time::Duration;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn will(topic: &'static str) -> Will {
    Will { topic, payload: "gone", flags: 0, properties: Vec::new() }
}

/// A client that sees all that is published.
async fn watcher(world: &World) -> Raw {
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    // RETAIN as it was published.
    watcher.subscribe(&[("#", 0x08)]).await;
    watcher
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_4_and_5_a_session_goes_on_unless_it_is_to_begin_anew() {
    let world = World::new();
    for (kept, again, anew) in [
        (
            Connect::v5("five").kept(100),
            Connect::v5("five").kept(100).again(),
            Connect::v5("five").kept(100),
        ),
        (Connect::v4("four").kept(0), Connect::v4("four").kept(0), Connect::v4("four")),
    ] {
        // [MQTT-3.1.2-6] and [MQTT-3.2.2-3]: there is none at first.
        let (first, connack) = world.accepted(&kept).await;
        assert!(!connack.is_present);
        first.goodbye().await;
        let (second, connack) = world.accepted(&again).await;
        assert!(connack.is_present);
        second.goodbye().await;
        // [MQTT-3.2.2-2]
        let (third, connack) = world.accepted(&anew).await;
        assert!(!connack.is_present);
        third.goodbye().await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_23_a_session_is_kept_for_as_long_as_was_asked_for() {
    let world = World::with(|settings| {
        settings.limits.session_expiry_max = Duration::from_secs(1000);
    });
    for (asked, kept) in [(10, 10), (1000, 1000), (5000, 1000), (u32::MAX, 1000)] {
        let connect = Connect::v5("a").kept(asked);
        let (mut client, connack) = world.accepted(&connect).await;
        // Where it is another time, the client is told.
        let told = connack.property(17).map(|seconds| seconds.to_vec());
        assert_eq!(told, (asked != kept).then(|| u32::to_be_bytes(kept).to_vec()));
        client.subscribe(&[("a", 1)]).await;
        client.goodbye().await;
        for (wait, is_present) in [(kept - 1, true), (kept + 1, false)] {
            tokio::time::sleep(SECOND * wait).await;
            let again = Connect::v5("a").again().kept(asked);
            let (client, connack) = world.accepted(&again).await;
            assert_eq!(connack.is_present, is_present, "{asked}");
            client.goodbye().await;
        }
        world.accepted(&Connect::v5("a")).await.0.goodbye().await;
        world.until_alone(0).await;
        assert_eq!((world.figures().sessions_kept, world.figures().subscriptions), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_14_2_2_the_expiry_can_change_with_the_goodbye() {
    let world = World::new();
    for (at_first, at_last, is_kept) in
        [(100, Some(0), false), (10, Some(50), true), (50, None, true)]
    {
        let client = world.client(&Connect::v5("a").kept(at_first)).await;
        let mut client = client;
        let goodbye = match at_last {
            Some(seconds) => packet(0xe0, &[&[0, 5][..], &long(17, seconds)].concat()),
            None => DISCONNECT.to_vec(),
        };
        client.send(goodbye).await;
        client.closed().await;
        tokio::time::sleep(20 * SECOND).await;
        let (client, connack) = world.accepted(&Connect::v5("a").again()).await;
        assert_eq!(connack.is_present, is_kept, "{at_first} {at_last:?}");
        client.goodbye().await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_3_6_and_7_a_client_without_a_name_gets_one() {
    let world = World::new();
    let mut names = std::collections::HashSet::new();
    for _ in 0..10 {
        let (_, connack) = world.accepted(&Connect::v5("")).await;
        let name = connack.property(18).unwrap().to_vec();
        // [MQTT-3.2.2-16] It is its own.
        assert!(name.len() > 2 && names.insert(name));
    }
    let (_, connack) = world.accepted(&Connect::v5("named")).await;
    assert_eq!(connack.property(18), None);
    // MQTT 3.1.1, [MQTT-3.1.3-7] and [MQTT-3.1.3-8]: only with a clean session.
    world.client(&Connect::v4("")).await;
    assert_eq!(world.refused(&Connect::v4("").kept(0)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_3_5_a_name_may_be_any_text() {
    let world = World::new();
    for name in ["0123456789abcdefghijkl", "é/ü #+", "$share/x", &"x".repeat(60_000)] {
        for connect in [Connect::v5(name), Connect::v4(name)] {
            world.client(&connect).await.goodbye().await;
        }
    }
    // [MQTT-3.1.3-4] But it is a text.
    for name in [&b"\xff"[..], b"a\x00b"] {
        let mut bytes = b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00".to_vec();
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        let mut client = world.knock();
        client.send(packet(0x10, &bytes)).await;
        client.closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_21_the_server_may_say_the_keep_alive() {
    let world = World::with(|settings| settings.keep_alive_max = Some(20));
    let (mut client, connack) = world.accepted(&Connect::v5("a").keep_alive(60)).await;
    assert_eq!(connack.property(19), Some(&[0, 20][..]));
    let start = Instant::now();
    client.ended(0x8d).await;
    assert_eq!(start.elapsed(), 30 * SECOND);
    // [MQTT-3.2.2-22] Otherwise it is the client's.
    let (mut client, connack) = world.accepted(&Connect::v5("a").keep_alive(10)).await;
    assert_eq!(connack.property(19), None);
    let start = Instant::now();
    client.ended(0x8d).await;
    assert_eq!(start.elapsed(), 15 * SECOND);
}

/// MQTT 5, section 3.2.2.3: what is not said is allowed, and what is said is so.
#[tokio::test(start_paused = true)]
async fn mqtt_3_2_2_3_connack_says_what_the_server_bounds() {
    let world = World::with(|settings| {
        settings.limits.receive_max = 7;
        settings.limits.topic_aliases_max = 3;
        settings.limits.packet_bytes_max = 4321;
    });
    let (_, connack) = world.accepted(&Connect::v5("a")).await;
    assert_eq!(connack.property(33), Some(&[0, 7][..]));
    assert_eq!(connack.property(34), Some(&[0, 3][..]));
    assert_eq!(connack.property(39), Some(&4321_u32.to_be_bytes()[..]));
    for (what, property) in [
        ("maximum qos", 36),
        ("retain", 37),
        ("wildcards", 40),
        ("identifiers", 41),
        ("shares", 42),
    ] {
        assert!(connack.property(property).is_none_or(|is_there| is_there == [1]), "{what}");
    }
    // [MQTT-3.1.2-28] Nobody has asked for response information.
    assert_eq!(connack.property(26), None);
    let mut old = world.knock();
    old.send(Connect::v4("b").bytes()).await;
    assert_eq!(old.expect(0x20).await.body, [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_8_a_will_is_sent_for_who_goes_without_a_word() {
    let world = World::new();
    let mut watcher = watcher(&world).await;
    for connect in [Connect::v5("a"), Connect::v4("a")] {
        // [MQTT-3.1.2-14] and [MQTT-3.1.2-15]: with its RETAIN, and [MQTT-3.1.2-9] its qos.
        for flags in [0, 0x20, 0x08, 0x30] {
            let will = Will { flags, ..will("wills/a") };
            let connect = Connect { will: Some(will), ..connect.clone() };
            drop(world.client(&connect).await);
            let sent = watcher.publish().await;
            assert_eq!((sent.topic.as_str(), &sent.payload[..]), ("wills/a", &b"gone"[..]));
            assert_eq!(sent.flags & 1, flags >> 5, "RETAIN");
        }
    }
    // Silence and faults as well.
    let silent = Connect { will: Some(will("silent")), ..Connect::v5("b").keep_alive(1) };
    world.client(&silent).await.ended(0x8d).await;
    assert_eq!(watcher.publish().await.topic, "silent");
    let bad = Connect { will: Some(will("bad")), ..Connect::v4("c") };
    let mut client = world.client(&bad).await;
    client.send([0xff; 10]).await;
    client.closed().await;
    assert_eq!(watcher.publish().await.topic, "bad");
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_10_a_goodbye_takes_the_will_away() {
    let world = World::new();
    let mut watcher = watcher(&world).await;
    for connect in [Connect::v5("a"), Connect::v4("a")] {
        let connect = Connect { will: Some(will("wills/a")), ..connect };
        world.client(&connect).await.goodbye().await;
    }
    watcher.silence(10 * SECOND).await;
    // Unless it says that the will is to be sent.
    let connect = Connect { will: Some(will("wanted")), ..Connect::v5("a") };
    let mut client = world.client(&connect).await;
    client.send([0xe0, 1, 4]).await;
    client.closed().await;
    assert_eq!(watcher.publish().await.topic, "wanted");
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_3_9_a_will_waits_and_is_not_sent_to_who_comes_back() {
    let world = World::new();
    let mut watcher = watcher(&world).await;
    let with_delay = |delay, expiry| {
        let will = Will { properties: long(24, delay), ..will("late") };
        Connect { will: Some(will), ..Connect::v5("a").again().kept(expiry) }
    };
    let start = Instant::now();
    drop(world.client(&with_delay(10, 100)).await);
    tokio::time::sleep(5 * SECOND).await;
    let client = world.client(&with_delay(10, 100)).await;
    watcher.silence(100 * SECOND).await;
    drop(client);
    let start_of_wait = Instant::now();
    assert!(start_of_wait - start > 100 * SECOND);
    assert_eq!(watcher.publish().await.topic, "late");
    assert_eq!(start_of_wait.elapsed().as_secs(), 10);
    // At the end of the session at the latest.
    world.client(&Connect::v5("a")).await.goodbye().await;
    let start = Instant::now();
    drop(world.client(&with_delay(1000, 20)).await);
    assert_eq!(watcher.publish().await.topic, "late");
    assert_eq!(start.elapsed().as_secs(), 20);
    // And at once where it ends with the connection.
    let start = Instant::now();
    drop(world.client(&with_delay(1000, 0)).await);
    assert_eq!(watcher.publish().await.topic, "late");
    assert_eq!(start.elapsed().as_secs(), 0);
}

/// `[MQTT-3.1.3-10]`: its properties come with it, the user's in their order.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_3_10_the_properties_of_a_will_come_with_it() {
    let world = World::new();
    let mut watcher = watcher(&world).await;
    let users = [user("b", "1"), user("a", "2"), user("b", "0")];
    let properties = [
        &[1, 1][..],
        &long(2, 60),
        &[3, 0, 10],
        b"text/plain",
        &[8, 0, 1, b'r'],
        &[9, 0, 2, 0, 255],
        &users.concat(),
    ]
    .concat();
    let will = Will { properties, ..will("w") };
    drop(world.client(&Connect { will: Some(will), ..Connect::v5("a") }).await);
    let sent = watcher.publish().await;
    assert_eq!(sent.property(1), [[1]]);
    assert_eq!(sent.property(2), [60_u32.to_be_bytes()]);
    assert_eq!(sent.property(3), [b"\x00\x0atext/plain"]);
    assert_eq!(sent.property(8), [b"\x00\x01r"]);
    assert_eq!(sent.property(9), [[0, 2, 0, 255]]);
    let told: Vec<_> = sent.property(38).iter().map(|pair| [&[38][..], pair].concat()).collect();
    assert_eq!(told, users);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_17_wills_that_are_none_are_refused() {
    let world = World::new();
    let mut watcher = watcher(&world).await;
    for topic in ["a/+", "#"] {
        let connect = Connect { will: Some(will(topic)), ..Connect::v5("a") };
        assert_eq!(world.refused(&connect).await, 0x90, "{topic}");
        let connect = Connect { will: Some(will(topic)), ..Connect::v4("a") };
        assert_ne!(world.refused(&connect).await, 0, "{topic}");
    }
    watcher.silence(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_4_0_1_what_was_not_answered_is_sent_again_with_its_identifier() {
    let world = World::new();
    for connect in [Connect::v5("a").again().kept(100), Connect::v4("b").kept(0)] {
        let is_v5 = connect.level == 5;
        let mut client = world.client(&connect).await;
        let wanted = [("one", 1), ("two", 2)];
        match is_v5 {
            true => drop(client.subscribe(&wanted).await),
            false => {
                client.send(crate::packets::subscribe_v4(1, &wanted)).await;
                client.expect(0x90).await;
            }
        }
        let mut publisher = world.client(&Connect::v5("publisher")).await;
        for (topic, payload) in [("one", "1"), ("two", "2"), ("two", "3"), ("one", "4")] {
            publisher.deliver(Publish::v5(topic, payload, 1, 1)).await;
        }
        let mut first: Vec<Publish> = Vec::new();
        while first.len() < 4 {
            first.push(client.publish().await);
        }
        // At qos 2 as published: 1. So all four are of qos 1.
        assert!(first.iter().all(|publish| publish.flags == 2), "{first:?}");
        drop(client);
        let mut client = world.client(&connect).await;
        for expected in &first {
            // [MQTT-3.3.1-1] with DUP, and otherwise as they were.
            let again = client.publish().await;
            assert_eq!(again, Publish { flags: 2 | 8, ..expected.clone() });
            client.send(answer(PUBACK, again.id)).await;
        }
        client.silence(10 * SECOND).await;
        client.goodbye().await;
        publisher.goodbye().await;
        world.until_alone(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_3_3_qos_2_is_delivered_once_over_connections() {
    let world = World::new();
    let connect = Connect::v5("a").again().kept(100);
    let mut client = world.client(&connect).await;
    client.subscribe(&[("two", 2)]).await;
    let mut publisher = world.client(&Connect::v5("p").again().kept(100)).await;
    let publish = Publish::v5("two", "x", 2, 5);
    publisher.send(publish.bytes()).await;
    assert_eq!(publisher.expect(PUBREC).await.id(), 5);
    // It comes again, also over another connection, and is not published again.
    publisher.send(Publish { flags: 4 | 8, ..publish.clone() }.bytes()).await;
    assert_eq!(publisher.expect(PUBREC).await.id(), 5);
    drop(publisher);
    let mut publisher = world.client(&Connect::v5("p").again().kept(100)).await;
    publisher.send(Publish { flags: 4 | 8, ..publish.clone() }.bytes()).await;
    assert_eq!(publisher.expect(PUBREC).await.id(), 5);
    publisher.send(answer(PUBREL, 5)).await;
    assert_eq!(publisher.expect(PUBCOMP).await.reason(), 0);
    let got = client.publish().await;
    assert_eq!((got.qos(), &got.payload[..]), (2, &b"x"[..]));
    client.send(answer(PUBREC, got.id)).await;
    assert_eq!(client.expect(PUBREL).await.id(), got.id);
    drop(client);
    // What is recorded is released again, and not sent again.
    let mut client = world.client(&connect).await;
    assert_eq!(client.expect(PUBREL).await.id(), got.id);
    client.send(answer(PUBCOMP, got.id)).await;
    client.silence(10 * SECOND).await;
    // The identifier is free for another one.
    publisher.send(Publish { payload: b"y".to_vec(), ..publish }.bytes()).await;
    assert_eq!(publisher.expect(PUBREC).await.reason(), 0);
    assert_eq!(client.publish().await.payload, b"y");
}

/// A receiver's refusal ends the exchange: `[MQTT-4.4.0-2]`.
#[tokio::test(start_paused = true)]
async fn mqtt_4_4_0_2_what_was_refused_is_not_sent_again() {
    let world = World::new();
    let connect = Connect::v5("a").again().kept(100).with(&short(33, 1));
    let mut client = world.client(&connect).await;
    client.subscribe(&[("one", 1), ("two", 2)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    publisher.deliver(Publish::v5("one", "x", 1, 1)).await;
    let got = client.publish().await;
    client.send(packet(PUBACK, &[&got.id.to_be_bytes()[..], &[0x83]].concat())).await;
    publisher.send(Publish::v5("two", "y", 2, 1).bytes()).await;
    publisher.expect(PUBREC).await;
    let got = client.publish().await;
    client.send(packet(PUBREC, &[&got.id.to_be_bytes()[..], &[0x83]].concat())).await;
    // [MQTT-4.9.0-2] Either makes room in its window of one.
    publisher.deliver(Publish::v5("one", "z", 1, 1)).await;
    let got = client.publish().await;
    assert_eq!(got.payload, b"z");
    client.send(answer(PUBACK, got.id)).await;
    drop(client);
    let mut client = world.client(&connect).await;
    client.silence(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_published_meanwhile_waits_for_a_kept_session() {
    let world = World::new();
    let connect = Connect::v5("a").again().kept(100);
    let mut client = world.client(&connect).await;
    client.subscribe(&[("t/#", 1)]).await;
    client.goodbye().await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for number in 0..100_u8 {
        publisher.deliver(Publish::v5("t/x", [number], 1, 1)).await;
    }
    let mut client = world.client(&connect).await;
    for number in 0..100 {
        let got = client.publish().await;
        assert_eq!((got.flags, &got.payload[..]), (2, &[number][..]));
        client.send(answer(PUBACK, got.id)).await;
    }
    client.send(unsubscribe(3, &["t/#"])).await;
    client.expect(0xb0).await;
    client.send(PINGREQ).await;
    client.expect(PINGRESP).await;
}

/// MQTT 5, sections 3.1.2.11.7 and 3.14.2.2.3: words only for who wants them.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_29_reason_strings_are_for_who_wants_them() {
    let world = World::new();
    for (wanted, has_text) in [(None, true), (Some(1), true), (Some(0), false)] {
        let property: Vec<u8> = wanted.map_or_else(Vec::new, |flag| vec![23, flag]);
        let mut client = world.client(&Connect::v5("a").with(&property)).await;
        client.send([0x36, 0]).await;
        let goodbye = client.expect(0xe0).await;
        assert_eq!(goodbye.body[0], 0x81);
        assert_eq!(goodbye.body.len() > 2, has_text, "{goodbye:x?}");
        client.closed().await;
    }
    let world = World::with(|settings| settings.reason_strings = false);
    let mut client = world.client(&Connect::v5("a")).await;
    client.send([0x36, 0]).await;
    assert_eq!(client.expect(0xe0).await.body, [0x81]);
}

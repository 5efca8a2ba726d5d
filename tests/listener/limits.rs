//! Clients that go beyond what they may.

use crate::packets::{
    Connect, PINGREQ, PINGRESP, PUBACK, PUBREC, Publish, SUBACK, packet, short, subscribe,
    subscribe_v4, subscribe_with, text,
};
use crate::world::{Bystander, Raw, World};

/// What a client does, and the reason code that it gets for it.
type Misdeed = (&'static str, Vec<u8>, u8);

/// Each ends the connection of who does it, in MQTT 5 with its reason code, and no
/// other.
async fn each_is_ended(world: &World, connect: &Connect, misdeeds: &[Misdeed]) {
    let mut bystander = Bystander::new(world).await;
    for (what, bytes, reason) in misdeeds {
        let mut client = world.client(connect).await;
        client.send(bytes).await;
        if connect.level == 5 {
            let frame = client.next().await.unwrap_or_else(|| panic!("{what}: no DISCONNECT"));
            assert_eq!((frame.header, frame.body[0]), (0xe0, *reason), "{what}: {frame:x?}");
        }
        client.closed().await;
        bystander.is_served().await;
    }
    world.until_alone(1).await;
    assert_eq!(world.figures().subscriptions, 1);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_13_1_malformed_packets_end_the_connection() {
    let world = World::new();
    let publish = |body: &[u8]| packet(0x30, body);
    let misdeeds: Vec<Misdeed> = vec![
        ("[MQTT-3.3.1-4] qos 3", packet(0x36, b"\x00\x01t\x00"), 0x81),
        ("[MQTT-3.3.1-2] DUP at qos 0", packet(0x38, b"\x00\x01t\x00"), 0x81),
        ("[MQTT-2.2.1-2] the identifier 0", packet(0x32, b"\x00\x01t\x00\x00\x00"), 0x81),
        ("[MQTT-1.5.4-1] no UTF-8", publish(b"\x00\x02\xc3\x28\x00"), 0x81),
        ("[MQTT-1.5.4-1] a surrogate", publish(b"\x00\x03\xed\xa0\x80\x00"), 0x81),
        ("[MQTT-1.5.4-2] U+0000", publish(b"\x00\x03a\x00b\x00"), 0x81),
        ("a topic that is longer than the packet", publish(b"\x00\x09t\x00"), 0x81),
        ("properties that are longer than the packet", publish(b"\x00\x01t\x7f"), 0x81),
        (
            "[MQTT-1.5.5-1] a variable integer of five bytes",
            publish(b"\x00\x01t\xff\xff\xff\xff\x01"),
            0x81,
        ),
        ("an unknown property", publish(b"\x00\x01t\x02\x7e\x00"), 0x81),
        ("a property of another packet", publish(b"\x00\x01t\x05\x11\x00\x00\x00\x01"), 0x81),
        ("[MQTT-3.3.4-6] a subscription identifier", publish(b"\x00\x01t\x02\x0b\x01"), 0x81),
        ("half a user property", publish(b"\x00\x01t\x04\x26\x00\x01a"), 0x81),
        ("[MQTT-3.6.1-1] flags of PUBREL", packet(0x60, b"\x00\x01"), 0x81),
        ("[MQTT-3.8.1-1] flags of SUBSCRIBE", packet(0x80, b"\x00\x01\x00\x00\x01a\x00"), 0x81),
        ("[MQTT-3.10.1-1] flags of UNSUBSCRIBE", packet(0xa0, b"\x00\x01\x00\x00\x01a"), 0x81),
        ("[MQTT-3.8.3-5] reserved options", subscribe(1, &[("a", 0x40)]), 0x81),
        ("qos 3 in options", subscribe(1, &[("a", 3)]), 0x81),
        ("retain handling 3", subscribe(1, &[("a", 0x30)]), 0x81),
        ("[MQTT-3.14.1-1] flags of DISCONNECT", vec![0xe1, 0], 0x81),
        ("flags of PINGREQ", vec![0xc1, 0], 0x81),
        ("PINGREQ with a body", vec![0xc0, 1, 0], 0x81),
        ("PUBACK without an identifier", vec![0x40, 0], 0x81),
        ("PUBACK with the identifier 0", vec![0x40, 2, 0, 0], 0x81),
        ("a remaining length that does not end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], 0x81),
        ("[MQTT-4.7.3-1] an empty filter", subscribe(1, &[("", 0)]), 0x81),
        ("[MQTT-4.7.1-1] a filter that is none", subscribe(1, &[("a/#/b", 0)]), 0x81),
        ("[MQTT-4.7.1-2] a filter that is none", subscribe(1, &[("a+/b", 0)]), 0x81),
        ("[MQTT-4.8.2-1] a share without a name", subscribe(1, &[("$share//a", 0)]), 0x81),
        ("[MQTT-4.8.2-2] a wildcard in the name", subscribe(1, &[("$share/a+/a", 0)]), 0x81),
        ("[MQTT-4.8.2-2] a share without a filter", subscribe(1, &[("$share/a", 0)]), 0x81),
    ];
    each_is_ended(&world, &Connect::v5("a"), &misdeeds).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_13_1_protocol_errors_end_the_connection() {
    let world = World::new();
    let expiry_twice = [&[2, 0, 0, 0, 9][..], &[2, 0, 0, 0, 9]].concat();
    let misdeeds: Vec<Misdeed> = vec![
        ("[MQTT-3.1.0-2] a second CONNECT", Connect::v5("a").bytes(), 0x82),
        ("a CONNACK", vec![0x20, 3, 0, 0, 0], 0x82),
        ("a SUBACK", vec![0x90, 4, 0, 1, 0, 0], 0x82),
        ("an UNSUBACK", vec![0xb0, 4, 0, 1, 0, 0], 0x82),
        ("a PINGRESP", vec![0xd0, 0], 0x82),
        ("packet 0", vec![0x00, 0], 0x82),
        ("AUTH without a method", vec![0xf0, 0], 0x82),
        ("[MQTT-3.8.3-2] a SUBSCRIBE without a filter", packet(0x82, b"\x00\x01\x00"), 0x82),
        ("[MQTT-3.10.3-2] an UNSUBSCRIBE without a filter", packet(0xa2, b"\x00\x01\x00"), 0x82),
        ("[MQTT-3.8.3-4] no-local with a share", subscribe(1, &[("$share/g/a", 4)]), 0x82),
        ("a subscription identifier 0", subscribe_with(1, &[11, 0], &[("a", 0)]), 0x82),
        ("a property twice", Publish::v5("t", "", 0, 0).with(expiry_twice).bytes(), 0x82),
        ("a payload format 2", Publish::v5("t", "", 0, 0).with(vec![1, 2]).bytes(), 0x82),
        (
            "[MQTT-3.3.2-14] a wildcard in a response topic",
            Publish::v5("t", "", 0, 0).with([vec![8], text("a/#")].concat()).bytes(),
            0x82,
        ),
        ("neither topic nor alias", Publish::v5("", "", 0, 0).bytes(), 0x82),
        ("an unknown alias", Publish::v5("", "", 0, 0).with(short(35, 1)).bytes(), 0x82),
        (
            "[MQTT-3.14.2-2] a session expiry that was 0",
            packet(0xe0, b"\x00\x05\x11\x00\x00\x00\x09"),
            0x82,
        ),
        ("[MQTT-3.3.2-8] the alias 0", Publish::v5("t", "", 0, 0).with(short(35, 0)).bytes(), 0x94),
        (
            "[MQTT-3.3.2-9] an alias above the maximum",
            Publish::v5("t", "", 0, 0).with(short(35, 33)).bytes(),
            0x94,
        ),
        ("[MQTT-3.3.2-2] a wildcard in a topic", Publish::v5("a/+", "", 1, 1).bytes(), 0x90),
        ("[MQTT-3.3.2-2] a wildcard in a topic", Publish::v5("#", "", 0, 0).bytes(), 0x90),
        ("a text that is none", Publish::v5("t", [0xff], 0, 0).with(vec![1, 1]).bytes(), 0x99),
    ];
    each_is_ended(&world, &Connect::v5("a"), &misdeeds).await;
}

/// MQTT 3.1.1, section 4.8: it has no words for it.
#[tokio::test(start_paused = true)]
async fn mqtt_4_8_0_1_errors_end_the_connection_of_mqtt_3_1_1() {
    let world = World::new();
    let misdeeds: Vec<Misdeed> = vec![
        ("[MQTT-3.1.0-2]", Connect::v4("a").bytes(), 0),
        ("[MQTT-3.3.1-4]", packet(0x36, b"\x00\x01t"), 0),
        ("[MQTT-2.3.1-1]", packet(0x32, b"\x00\x01t\x00\x00"), 0),
        ("[MQTT-3.3.2-2]", Publish::v4("a/#", "", 0, 0).bytes(), 0),
        ("[MQTT-3.8.3-3]", packet(0x82, b"\x00\x01"), 0),
        ("[MQTT-3-8.3-4]", subscribe_v4(1, &[("a", 4)]), 0),
        ("[MQTT-3.8.3-4]", subscribe_v4(1, &[("a", 3)]), 0),
        ("[MQTT-4.7.1-2]", subscribe_v4(1, &[("a/#/b", 0)]), 0),
        ("[MQTT-3.14.1-1]", vec![0xe4, 0], 0),
        ("AUTH", vec![0xf0, 0], 0),
        ("DISCONNECT with a body", vec![0xe0, 1, 0], 0),
        ("[MQTT-4.7.3-1]", Publish::v4("", "", 0, 0).bytes(), 0),
    ];
    each_is_ended(&world, &Connect::v4("a"), &misdeeds).await;
}

/// Also a flood of them: packets behind the fault are not handled.
#[tokio::test(start_paused = true)]
async fn what_stands_behind_a_fault_is_not_handled() {
    let world = World::new();
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    watcher.subscribe(&[("t", 0)]).await;
    let mut client = world.client(&Connect::v5("a")).await;
    let before = Publish::v5("t", "before", 0, 0).bytes();
    let behind = Publish::v5("t", "behind", 0, 0).bytes();
    client.send([&before[..], &[0xff; 10_000], &behind].concat()).await;
    client.ended(0x81).await;
    assert_eq!(watcher.publish().await.payload, b"before");
    watcher.silence(std::time::Duration::from_secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_4_7_more_than_receive_maximum_ends_it() {
    let world = World::with(|settings| settings.limits.receive_max = 5);
    let mut bystander = Bystander::new(&world).await;
    let (mut client, connack) = world.accepted(&Connect::v5("a")).await;
    assert_eq!(connack.property(33), Some(&[0, 5][..]));
    // Of qos 2, which are not released.
    for id in 1..=5 {
        client.send(Publish::v5("t", "x", 2, id).bytes()).await;
        assert_eq!(client.expect(PUBREC).await.id(), id);
    }
    client.send(Publish::v5("t", "x", 1, 6).bytes()).await;
    client.ended(0x93).await;
    bystander.is_served().await;
    world.until_alone(1).await;
    assert_eq!(world.figures().ended_total, [("receive_maximum_exceeded", 1)]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_9_3_subscriptions_beyond_the_limit_are_refused_one_by_one() {
    let world = World::with(|settings| settings.limits.subscriptions_max = 3);
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a")).await;
    let wanted = [("a", 0), ("b", 1), ("c", 2), ("d", 0), ("a", 1)];
    assert_eq!(client.subscribe(&wanted).await, [0, 1, 2, 0x97, 1]);
    client.send(crate::packets::unsubscribe(5, &["b"])).await;
    client.expect(0xb0).await;
    assert_eq!(client.subscribe(&[("d", 1)]).await, [1]);
    let mut old = world.client(&Connect::v4("b")).await;
    old.send(subscribe_v4(1, &[("a", 0), ("b", 0), ("c", 0), ("d", 0)])).await;
    assert_eq!(old.expect(SUBACK).await.body, [0, 1, 0, 0, 0, 0x80]);
    assert_eq!(world.figures().subscriptions, 7);
    bystander.is_served().await;
    client.goodbye().await;
    drop(old);
    world.until_alone(1).await;
    assert_eq!(world.figures().subscriptions, 1);
}

#[tokio::test(start_paused = true)]
async fn topics_and_filters_with_too_many_levels_are_refused() {
    let world = World::with(|settings| settings.limits.levels_max = 4);
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a")).await;
    assert_eq!(client.subscribe(&[("a/b/c/#", 0)]).await, [0]);
    client.send(Publish::v5("a/b/c/d", "x", 0, 0).bytes()).await;
    assert_eq!(client.publish().await.topic, "a/b/c/d");
    client.send(Publish::v5("a/b/c/d/e", "x", 0, 0).bytes()).await;
    client.ended(0x90).await;
    let mut client = world.client(&Connect::v5("a")).await;
    client.send(subscribe(1, &[("a/b/c/d/#", 0)])).await;
    client.ended(0x8f).await;
    // As deep as a text can be.
    let deep = "/".repeat(65_535);
    for bytes in [Publish::v5(&deep, "", 0, 0).bytes(), subscribe(1, &[(&deep, 0)])] {
        let mut client = world.client(&Connect::v5("a")).await;
        client.send(bytes).await;
        let frame = client.expect(0xe0).await;
        assert!([0x8f, 0x90].contains(&frame.body[0]), "{frame:x?}");
    }
    bystander.is_served().await;
    world.until_alone(1).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_4_3_a_second_connection_takes_the_session() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    for (first, second) in [
        (Connect::v5("a"), Connect::v5("a")),
        (Connect::v5("b").kept(100), Connect::v4("b").again()),
        (Connect::v4("c").kept(0), Connect::v5("c")),
    ] {
        let mut one = world.client(&first).await;
        let mut two = world.client(&second).await;
        one.ended(0x8e).await;
        two.send(PINGREQ).await;
        two.expect(PINGRESP).await;
        two.goodbye().await;
    }
    bystander.is_served().await;
    world.until_alone(1).await;
}

/// Many that take the same session from each other: one has it in the end.
#[tokio::test(start_paused = true)]
async fn a_session_that_many_fight_for_is_one_clients() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let connect = Connect::v5("wanted").again().kept(1000);
    let mut clients: Vec<Raw> = Vec::new();
    for _ in 0..200 {
        let mut client = world.knock();
        client.send(connect.bytes()).await;
        clients.push(client);
    }
    bystander.is_served().await;
    let last = clients.pop();
    for mut client in clients {
        // Whoever was accepted is told that it is over.
        let mut told = Vec::new();
        while let Some(frame) = client.next().await {
            told.push(frame.header);
        }
        assert!([&[0x20, 0xe0][..], &[0x20]].contains(&&told[..]), "{told:x?}");
    }
    let mut last = last.unwrap();
    last.expect(0x20).await;
    last.send(PINGREQ).await;
    last.expect(PINGRESP).await;
    assert_eq!(world.figures().clients, 2);
    last.goodbye().await;
    world.until_alone(1).await;
    assert_eq!(world.figures().sessions_kept, 1);
}

/// The oldest session makes way, and nothing of it stays.
#[tokio::test(start_paused = true)]
async fn kept_sessions_are_bounded() {
    let world = World::with(|settings| settings.limits.sessions_max = 10);
    for number in 0..50 {
        let connect = Connect::v5(&format!("c{number}")).again().kept(1000 + number);
        let mut client = world.client(&connect).await;
        client.subscribe(&[("a", 1), ("b", 1)]).await;
        client.goodbye().await;
        world.until("it is gone", |figures| figures.clients == 0).await;
    }
    let figures = world.figures();
    assert_eq!((figures.sessions_kept, figures.subscriptions), (10, 20));
    let (_, connack) = world.accepted(&Connect::v5("c39").again()).await;
    assert!(!connack.is_present);
    let (_, connack) = world.accepted(&Connect::v5("c40").again()).await;
    assert!(connack.is_present);
}

/// What a session of qos 2 has begun with the broker and not finished is not taken for
/// received.
#[tokio::test(start_paused = true)]
async fn mqtt_4_3_3_what_a_fault_has_cut_off_is_received_when_it_comes_again() {
    let world = World::new();
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    watcher.subscribe(&[("t", 2)]).await;
    let connect = Connect::v5("a").again().kept(1000);
    let mut client = world.client(&connect).await;
    let (wrong, right) = (Publish::v5("+", "x", 0, 0), Publish::v5("t", "once", 2, 7));
    client.send([wrong.bytes(), right.bytes()].concat()).await;
    client.ended(0x90).await;
    let mut client = world.client(&connect).await;
    let again = Publish { flags: right.flags | 8, ..right };
    client.send(again.bytes()).await;
    assert_eq!(client.expect(PUBREC).await.id(), 7);
    assert_eq!(watcher.publish().await.payload, b"once");
}

/// What is retained waits for a client twice at the most, however often it asks.
#[tokio::test(start_paused = true)]
async fn who_asks_for_retained_messages_again_and_again_has_to_take_them() {
    let world = World::with(|settings| settings.limits.retained_max = 100);
    let mut bystander = Bystander::new(&world).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for number in 0..100 {
        let topic = format!("r/{number}");
        publisher.deliver(Publish::v5(&topic, "x", 1, 1).retained()).await;
    }
    let mut client = world.client(&Connect::v5("a")).await;
    client.send(subscribe(1, &[("r/#", 0)]).repeat(1000)).await;
    bystander.is_served().await;
    let (mut granted, mut refused, mut sent) = (0, 0, 0);
    while granted + refused < 1000 || sent < 100 * granted {
        let frame = client.frame().await;
        match (frame.header >> 4, frame.body.last()) {
            (3, _) => sent += 1,
            (9, Some(0)) => granted += 1,
            (9, Some(0x97)) => refused += 1,
            _ => panic!("{frame:x?}"),
        }
    }
    assert_eq!((granted, refused), (3, 997));
    // Once it has them it may ask again.
    assert_eq!(client.subscribe(&[("r/#", 0x20)]).await, [0]);
    bystander.is_served().await;
}

/// A thousand subscriptions that all want the same events: one copy of each, and
/// others are served meanwhile.
#[tokio::test(start_paused = true)]
async fn subscriptions_that_overlap_a_thousand_times_cost_only_their_client() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let mut greedy = world.client(&Connect::v5("greedy")).await;
    let filters: Vec<String> = (0..1024)
        .map(|number| {
            let level = |bit: u32| if number >> bit & 1 == 0 { "+" } else { "x" };
            (0..10).map(level).collect::<Vec<_>>().join("/")
        })
        .collect();
    for (number, filter) in filters.iter().enumerate() {
        // The last one has the highest qos.
        let qos = u8::from(number == 1023);
        assert_eq!(greedy.subscribe(&[(filter, qos)]).await, [qos]);
    }
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for number in 0..20_u8 {
        publisher.deliver(Publish::v5(&filters[1023], [number], 1, 1)).await;
        bystander.is_served().await;
    }
    for number in 0..20 {
        let got = greedy.publish().await;
        assert_eq!((got.qos(), &got.payload[..]), (1, &[number][..]));
    }
    greedy.send(PINGREQ).await;
    greedy.expect(PINGRESP).await;
}

/// Answers that nobody asked for.
#[tokio::test(start_paused = true)]
async fn answers_to_nothing_change_nothing() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.subscribe(&[("t", 1)]).await;
    client.send(packet(PUBACK, &[0, 9])).await;
    client.send(packet(0x70, &[0, 9])).await;
    client.send(packet(PUBREC, &[0, 9])).await;
    // Packet identifier not found.
    let pubrel = client.expect(0x62).await;
    assert_eq!((pubrel.id(), pubrel.reason()), (9, 0x92));
    client.send(packet(0x62, &[0, 9])).await;
    let pubcomp = client.expect(0x70).await;
    assert_eq!((pubcomp.id(), pubcomp.reason()), (9, 0x92));
    client.send(Publish::v5("t", "x", 1, 1).bytes()).await;
    let (mut got, mut answered) = (0, 0);
    for _ in 0..2 {
        match client.frame().await.header {
            PUBACK => answered += 1,
            _ => got += 1,
        }
    }
    assert_eq!((got, answered), (1, 1));
    // The wrong one is an error.
    client.send(packet(PUBREC, &[0, 1])).await;
    client.ended(0x82).await;
}

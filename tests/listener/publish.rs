//! What the standard says of publishes and of retained messages. The numbers are those
//! of MQTT 5.0.

use crate::packets::{
    Connect, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, answer, long,
    short, text, user,
};
use crate::world::World;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_1_5_and_6_a_retained_message_replaces_the_one_before_and_an_empty_one_removes_it()
{
    let world = World::new();
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    let found = async |world: &World| {
        let mut client = world.client(&Connect::v5("new")).await;
        client.subscribe(&[("r/#", 0)]).await;
        client.send(PINGREQ).await;
        let mut found = Vec::new();
        loop {
            let frame = client.frame().await;
            if frame.header == PINGRESP {
                client.goodbye().await;
                return found;
            }
            let publish = Publish::read(&frame, true);
            // [MQTT-3.3.1-9] It is as a retained message.
            assert_eq!(publish.flags, 1);
            found.push(String::from_utf8(publish.payload).unwrap());
        }
    };
    assert_eq!(found(&world).await, [""; 0]);
    for (payload, expected) in [("one", vec!["one"]), ("two", vec!["two"]), ("", vec![])] {
        publisher.deliver(Publish::v5("r/a", payload, 1, 1).retained()).await;
        assert_eq!(found(&world).await, expected);
    }
    // [MQTT-3.3.1-8] Without RETAIN nothing is stored, replaced or removed.
    publisher.deliver(Publish::v5("r/a", "kept", 1, 1).retained()).await;
    publisher.deliver(Publish::v5("r/a", "other", 1, 1)).await;
    publisher.deliver(Publish::v5("r/a", "", 1, 1)).await;
    assert_eq!(found(&world).await, ["kept"]);
    assert_eq!(world.figures().retained, 1);
    // [MQTT-3.3.1-7] Also at qos 2, and for MQTT 3.1.1.
    let mut old = world.client(&Connect::v4("old")).await;
    old.send(Publish::v4("r/a", "", 2, 1).retained().bytes()).await;
    old.expect(PUBREC).await;
    assert_eq!(found(&world).await, [""; 0]);
    assert_eq!((world.figures().retained, world.figures().retained_bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_1_9_to_11_retain_handling_says_when_retained_messages_are_sent() {
    let world = World::new();
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    publisher.deliver(Publish::v5("r", "x", 1, 1).retained()).await;
    for (handling, at_first, again) in
        [(0x00, true, true), (0x10, true, false), (0x20, false, false)]
    {
        let mut client = world.client(&Connect::v5("a")).await;
        for expected in [at_first, again] {
            client.subscribe(&[("r", handling)]).await;
            client.send(PINGREQ).await;
            let mut frame = client.frame().await;
            let is_sent = frame.header >> 4 == 3;
            if is_sent {
                assert_eq!(frame.header, 0x31);
                frame = client.frame().await;
            }
            assert_eq!(frame.header, PINGRESP);
            assert_eq!(is_sent, expected, "{handling:x}");
        }
        client.goodbye().await;
    }
    // [MQTT-4.8.2] Never to a shared subscription.
    let mut client = world.client(&Connect::v5("a")).await;
    client.subscribe(&[("$share/g/r", 0)]).await;
    client.silence(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_1_12_and_13_retain_is_cleared_or_left_as_it_was() {
    let world = World::new();
    let mut plain = world.client(&Connect::v5("plain")).await;
    let mut exact = world.client(&Connect::v5("exact")).await;
    plain.subscribe(&[("r", 0)]).await;
    exact.subscribe(&[("r", 0x08)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    publisher.deliver(Publish::v5("r", "x", 1, 1).retained()).await;
    publisher.deliver(Publish::v5("r", "y", 1, 1)).await;
    for (client, flags) in [(&mut plain, [0, 0]), (&mut exact, [1, 0])] {
        assert_eq!(client.publish().await.flags, flags[0]);
        assert_eq!(client.publish().await.flags, flags[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_2_5_and_6_what_has_expired_is_not_sent_and_the_rest_says_what_is_left() {
    let world = World::new();
    let connect = Connect::v5("a").again().kept(1000);
    let mut client = world.client(&connect).await;
    client.subscribe(&[("t", 1)]).await;
    client.goodbye().await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for (payload, seconds) in [("short", 10), ("long", 100)] {
        let publish = Publish::v5("t", payload, 1, 1).with(long(2, seconds)).retained();
        publisher.deliver(publish).await;
    }
    publisher.deliver(Publish::v5("t", "for ever", 1, 1)).await;
    tokio::time::sleep(40 * SECOND).await;
    let mut client = world.client(&connect).await;
    let got = client.publish().await;
    assert_eq!(got.payload, b"long");
    assert_eq!(got.property(2), [60_u32.to_be_bytes()]);
    client.send(answer(PUBACK, got.id)).await;
    let got = client.publish().await;
    assert_eq!((&got.payload[..], got.property(2).len()), (&b"for ever"[..], 0));
    client.send(answer(PUBACK, got.id)).await;
    // Likewise a retained message.
    let mut late = world.client(&Connect::v5("late")).await;
    late.subscribe(&[("t", 0)]).await;
    assert_eq!(late.publish().await.property(2), [60_u32.to_be_bytes()]);
    tokio::time::sleep(60 * SECOND).await;
    let mut later = world.client(&Connect::v5("later")).await;
    later.subscribe(&[("t", 0)]).await;
    later.silence(10 * SECOND).await;
    // And its room is free.
    world.until("it is forgotten", |figures| figures.retained == 0).await;
    assert_eq!(world.figures().publishes_dropped_total[0], ("expired", 1));
}

/// `[MQTT-3.3.2-4]`, `-15`, `-16`, `-17`, `-18` and `-20`: unaltered, and in order.
#[tokio::test(start_paused = true)]
async fn mqtt_3_3_2_17_properties_arrive_as_they_were_sent() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.subscribe(&[("request", 1)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    let users = [user("z", "1"), user("a", ""), user("z", "1"), user("", "é")];
    let sent = Publish::v5("request", "{}", 1, 1)
        .with(vec![1, 1])
        .with([&[3][..], &text("application/x-mine")].concat())
        .with([&[8][..], &text("answers/7")].concat())
        .with([&[9][..], &text([0, 255, 1])].concat());
    let sent = users.iter().cloned().fold(sent, Publish::with);
    publisher.deliver(sent.clone()).await;
    let got = client.publish().await;
    for property in [1, 3, 8, 9, 38] {
        assert_eq!(got.property(property), sent.property(property), "property {property}");
    }
    assert_eq!(got.property(38).len(), 4);
    // The answer finds its way.
    let mut answer = Publish::v5("answers/7", "done", 1, 1);
    answer = answer.with([&[9][..], got.property(9)[0]].concat());
    publisher.subscribe(&[("answers/7", 0)]).await;
    client.send(answer.bytes()).await;
    assert_eq!(publisher.publish().await.property(9), sent.property(9));
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_2_7_and_12_aliases_stand_for_topics_in_each_direction_and_connection() {
    let world = World::new();
    let mut watcher = world.client(&Connect::v5("watcher").with(&short(34, 2))).await;
    watcher.subscribe(&[("t/#", 0)]).await;
    let mut client = world.client(&Connect::v5("a").kept(100)).await;
    let alias = |topic: &str, alias| Publish::v5(topic, "x", 0, 0).with(short(35, alias)).bytes();
    for bytes in
        [alias("t/one", 1), alias("", 1), alias("t/two", 1), alias("", 1), alias("t/3", 32)]
    {
        client.send(bytes).await;
    }
    // [MQTT-3.1.2-26] The server keeps to the client's maximum of two, as it likes.
    let mut known = std::collections::HashMap::new();
    let mut topics = Vec::new();
    for _ in 0..5 {
        let got = watcher.publish().await;
        let Some(alias) = got.property(35).first().map(|alias| alias.to_vec()) else {
            topics.push(got.topic);
            continue;
        };
        assert!([[0, 1], [0, 2]].contains(&[alias[0], alias[1]]), "{alias:?}");
        if !got.topic.is_empty() {
            known.insert(alias.clone(), got.topic);
        }
        topics.push(known[&alias].clone());
    }
    assert_eq!(topics, ["t/one", "t/one", "t/two", "t/two", "t/3"]);
    // [MQTT-3.3.2-7] The next connection begins without.
    client.send(DISCONNECT).await;
    client.closed().await;
    let mut client = world.client(&Connect::v5("a").again()).await;
    client.send(alias("", 1)).await;
    client.ended(0x82).await;
}

/// `[MQTT-3.1.2-27]`: who says no maximum is sent no alias.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_27_without_a_maximum_there_are_no_aliases() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.subscribe(&[("t", 0)]).await;
    for _ in 0..3 {
        client.send(Publish::v5("t", "x", 0, 0).bytes()).await;
        let got = client.publish().await;
        assert_eq!((got.topic.as_str(), got.property(35).len()), ("t", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_24_and_25_what_is_too_large_for_a_client_is_not_sent_to_it() {
    let world = World::new();
    let mut small = world.client(&Connect::v5("small").with(&long(39, 60))).await;
    let mut other = world.client(&Connect::v5("other")).await;
    small.subscribe(&[("t", 1)]).await;
    other.subscribe(&[("t", 1)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for (payload, fits) in
        [(vec![b'x'; 100], false), (vec![b'y'; 20], true), (vec![b'z'; 54], false)]
    {
        publisher.deliver(Publish::v5("t", &payload, 1, 1)).await;
        assert_eq!(other.publish().await.payload, payload);
        if fits {
            assert_eq!(small.publish().await.payload, payload);
        }
    }
    // It is as if they were delivered: nothing waits.
    small.silence(10 * SECOND).await;
    assert_eq!(world.figures().publishes_dropped_total[1], ("too_large", 2));
    // A goodbye with words that do not fit has none.
    let mut tiny = world.client(&Connect::v5("tiny").with(&long(39, 20))).await;
    tiny.send([0x36, 0]).await;
    assert_eq!(tiny.expect(0xe0).await.body, [0x81]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_4_2_1_publishes_are_answered_with_why() {
    let world = World::with(|settings| settings.limits.retained_max = 1);
    let mut client = world.client(&Connect::v5("a")).await;
    // Nobody subscribes.
    assert_eq!(client.deliver(Publish::v5("t", "x", 1, 1)).await, 0x10);
    client.subscribe(&[("t", 0)]).await;
    client.send(Publish::v5("t", "x", 1, 2).bytes()).await;
    let frames = [client.frame().await, client.frame().await];
    let puback = frames.iter().find(|frame| frame.header == PUBACK).unwrap();
    assert_eq!((puback.id(), puback.reason()), (2, 0));
    // What is the server's own.
    assert_eq!(client.deliver(Publish::v5("$SYS/x", "x", 1, 3)).await, 0x87);
    // A text that is none.
    let bad = Publish::v5("t", [0xff], 1, 4).with(vec![1, 1]);
    assert_eq!(client.deliver(bad).await, 0x99);
    // No room.
    client.deliver(Publish::v5("r1", "x", 1, 5).retained()).await;
    assert_eq!(client.deliver(Publish::v5("r2", "x", 1, 6).retained()).await, 0x97);
    client.send(Publish::v5("$SYS/x", "x", 2, 7).bytes()).await;
    let pubrec = client.expect(PUBREC).await;
    assert_eq!((pubrec.id(), pubrec.reason()), (7, 0x87));
    // [MQTT-4.3.3-9] Its identifier is free again.
    client.send(Publish::v5("q", "x", 2, 7).bytes()).await;
    assert!(client.expect(PUBREC).await.reason() < 0x80);
}

/// MQTT 3.1.1, section 3.3.5: it is acknowledged, or the connection closed.
#[tokio::test(start_paused = true)]
async fn mqtt_3_3_5_2_a_publish_that_is_not_allowed_is_acknowledged_in_mqtt_3_1_1() {
    let world = World::new();
    let mut client = world.client(&Connect::v4("a")).await;
    client.send(Publish::v4("$SYS/x", "x", 1, 3).bytes()).await;
    assert_eq!(client.expect(PUBACK).await.body, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_6_0_5_events_of_a_topic_keep_their_order() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.subscribe(&[("t/+", 2)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    let mut bytes = Vec::new();
    for number in 0..300_u16 {
        let qos = (number % 3) as u8;
        let publish = Publish::v5("t/x", number.to_be_bytes(), qos, number + 1);
        bytes.extend(publish.bytes());
    }
    publisher.send(&bytes).await;
    let mut number = 0_u16;
    while number < 300 {
        let frame = client.frame().await;
        if frame.header == PUBREL {
            client.send(answer(PUBCOMP, frame.id())).await;
            continue;
        }
        let got = Publish::read(&frame, true);
        assert_eq!(got.payload, number.to_be_bytes());
        assert_eq!(u16::from(got.qos()), number % 3);
        match got.qos() {
            1 => client.send(answer(PUBACK, got.id)).await,
            2 => client.send(answer(PUBREC, got.id)).await,
            _ => {}
        }
        number += 1;
    }
}

/// What MQTT 3.1.1 can say reaches clients of MQTT 5, and the other way round.
#[tokio::test(start_paused = true)]
async fn versions_meet_on_the_same_topics() {
    let world = World::with(|settings| settings.format = wasi_pubsub::mqtt::Format::Raw);
    let mut five = world.client(&Connect::v5("five")).await;
    let mut four = world.client(&Connect::v4("four")).await;
    five.subscribe(&[("t", 1)]).await;
    four.send(crate::packets::subscribe_v4(1, &[("t", 1)])).await;
    four.expect(0x90).await;
    five.send(Publish::v5("t", "from five", 1, 1).with(user("a", "b")).bytes()).await;
    let got = four.publish().await;
    assert_eq!((got.payload, got.properties), (b"from five".to_vec(), None));
    four.send(answer(PUBACK, got.id)).await;
    four.send(Publish::v4("t", "from four", 1, 1).bytes()).await;
    let mut payloads = Vec::new();
    while payloads.len() < 2 {
        let frame = five.frame().await;
        if frame.header >> 4 == 3 {
            payloads.push(Publish::read(&frame, true).payload);
        }
    }
    assert_eq!(payloads, [b"from five".to_vec(), b"from four".to_vec()]);
}

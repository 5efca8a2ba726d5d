//! What the standard says of subscriptions. The numbers are those of MQTT 5.0.

use crate::packets::{
    Connect, PINGREQ, PINGRESP, PUBACK, Publish, SUBACK, UNSUBACK, answer, put_length, subscribe,
    subscribe_v4, subscribe_with, unsubscribe,
};
use crate::world::{Raw, World};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a client has been sent, in its order, up to the answer to a ping.
async fn received(client: &mut Raw) -> Vec<Publish> {
    client.send(PINGREQ).await;
    let mut all = Vec::new();
    loop {
        let frame = client.frame().await;
        match frame.header {
            PINGRESP => return all,
            PUBACK => {}
            _ => {
                let publish = Publish::read(&frame, client.is_v5);
                if publish.qos() == 1 {
                    client.send(answer(PUBACK, publish.id)).await;
                }
                all.push(publish);
            }
        }
    }
}

fn identifier(number: u32) -> Vec<u8> {
    let mut property = vec![11];
    put_length(number as usize, &mut property);
    property
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_8_4_6_and_7_each_filter_gets_its_reason_in_order() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.send(subscribe(7, &[("a", 2), ("b", 0), ("c/#", 1)])).await;
    let suback = client.expect(SUBACK).await;
    // [MQTT-3.8.4-2] with its packet identifier, [MQTT-3.9.3-1] in its order.
    assert_eq!(suback.body, [0, 7, 0, 2, 0, 1]);
    client.send(unsubscribe(8, &["b", "never", "c/#"])).await;
    // [MQTT-3.10.4-5], [MQTT-3.11.3-1]
    assert_eq!(client.expect(UNSUBACK).await.body, [0, 8, 0, 0, 0x11, 0]);
    let mut old = world.client(&Connect::v4("b")).await;
    old.send(subscribe_v4(7, &[("a", 2), ("b", 0)])).await;
    assert_eq!(old.expect(SUBACK).await.body, [0, 7, 2, 0]);
    old.send(crate::packets::packet(0xa2, b"\x00\x09\x00\x05never")).await;
    assert_eq!(old.expect(UNSUBACK).await.body, [0, 9]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_8_4_8_an_event_comes_with_the_lower_qos() {
    let world = World::new();
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for granted in 0..3 {
        let mut client = world.client(&Connect::v5("a")).await;
        assert_eq!(client.subscribe(&[("t", granted)]).await, [granted]);
        for published in 0..3 {
            publisher.send(Publish::v5("t", "x", published, 1).bytes()).await;
            match published {
                1 => drop(publisher.expect(PUBACK).await),
                2 => {
                    publisher.expect(0x50).await;
                    publisher.send(answer(0x62, 1)).await;
                    publisher.expect(0x70).await;
                }
                _ => {}
            }
            assert_eq!(client.publish().await.qos(), granted.min(published));
        }
        client.goodbye().await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_8_4_3_the_same_filter_replaces_the_subscription() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for (options, property) in [(0, Some(1)), (1, Some(2)), (2, None), (1, Some(3))] {
        let of_all = property.map_or_else(Vec::new, identifier);
        client.send(subscribe_with(1, &of_all, &[("t", options)])).await;
        assert_eq!(client.expect(SUBACK).await.reason(), 0);
        assert_eq!(world.figures().subscriptions, 1);
        publisher.deliver(Publish::v5("t", "x", 1, 1)).await;
        let got = received(&mut client).await;
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].qos(), options.min(1));
        let expected: Vec<Vec<u8>> =
            property.map(|number| vec![number as u8]).into_iter().collect();
        assert_eq!(got[0].property(11), expected);
    }
}

/// `[MQTT-3.3.4-2]` to `[MQTT-3.3.4-4]`: one copy, with the highest qos, and all
/// identifiers.
#[tokio::test(start_paused = true)]
async fn mqtt_3_3_4_2_overlapping_subscriptions_get_one_copy() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    for (number, (filter, options)) in
        [("t/#", 0), ("t/+", 2), ("t/x", 1), ("other", 1)].into_iter().enumerate()
    {
        let of_all = identifier(200 + number as u32);
        client.send(subscribe_with(1, &of_all, &[(filter, options)])).await;
        client.expect(SUBACK).await;
    }
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    publisher.deliver(Publish::v5("t/x", "x", 1, 1)).await;
    let got = received(&mut client).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].qos(), 1);
    let mut identifiers: Vec<_> = got[0].property(11).iter().map(|bytes| bytes.to_vec()).collect();
    identifiers.sort();
    let expected = [200, 201, 202].map(|number| identifier(number)[1..].to_vec());
    assert_eq!(identifiers, expected);
    // Of MQTT 3.1.1 likewise.
    let mut old = world.client(&Connect::v4("b")).await;
    old.send(subscribe_v4(1, &[("t/#", 0), ("t/+", 1)])).await;
    old.expect(SUBACK).await;
    publisher.deliver(Publish::v5("t/x", "x", 1, 1)).await;
    let got = received(&mut old).await;
    assert_eq!((got.len(), got[0].qos()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_8_3_3_no_local_leaves_out_the_clients_own() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    let mut other = world.client(&Connect::v5("b")).await;
    client.subscribe(&[("t", 0x04), ("u", 0)]).await;
    client.deliver(Publish::v5("t", "own", 1, 1)).await;
    client.send(Publish::v5("u", "own", 0, 0).bytes()).await;
    other.deliver(Publish::v5("t", "other", 1, 1)).await;
    let mut got: Vec<_> =
        received(&mut client).await.into_iter().map(|p| (p.topic, p.payload)).collect();
    got.sort();
    assert_eq!(got, [("t".to_owned(), b"other".to_vec()), ("u".to_owned(), b"own".to_vec())]);
    // Nor does it get its own retained messages.
    client.send(Publish::v5("r", "own", 0, 0).retained().bytes()).await;
    client.subscribe(&[("r", 0x04)]).await;
    assert_eq!(received(&mut client).await, []);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_7_2_1_wildcards_do_not_match_topics_of_the_server() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    client.subscribe(&[("#", 0), ("+/x", 0)]).await;
    publisher.deliver(Publish::v5("$mine/x", "x", 1, 1)).await;
    assert_eq!(received(&mut client).await, []);
    client.subscribe(&[("$mine/+", 0)]).await;
    publisher.deliver(Publish::v5("$mine/x", "x", 1, 1)).await;
    assert_eq!(received(&mut client).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_7_1_filters_match_the_topics_of_the_standard() {
    let world = World::new();
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    let topics = ["sport", "sport/", "sport/tennis", "sport/tennis/p1", "/finance", "a//b", "é"];
    for (filter, expected) in [
        ("sport/#", vec!["sport", "sport/", "sport/tennis", "sport/tennis/p1"]),
        ("sport/+", vec!["sport/", "sport/tennis"]),
        ("+", vec!["sport", "é"]),
        ("+/+", vec!["sport/", "sport/tennis", "/finance"]),
        ("/+", vec!["/finance"]),
        ("a/+/b", vec!["a//b"]),
        ("sport/tennis/+", vec!["sport/tennis/p1"]),
        ("#", topics.to_vec()),
        // [MQTT-4.7.3-4] Character by character.
        ("Sport", vec![]),
        ("é", vec!["é"]),
    ] {
        let mut client = world.client(&Connect::v5("a")).await;
        client.subscribe(&[(filter, 0)]).await;
        for topic in topics {
            publisher.deliver(Publish::v5(topic, "x", 1, 1)).await;
        }
        let got: Vec<_> = received(&mut client).await.into_iter().map(|p| p.topic).collect();
        assert_eq!(got, expected, "{filter}");
        client.goodbye().await;
    }
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_10_4_2_who_unsubscribes_gets_no_more() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    client.subscribe(&[("t", 1)]).await;
    publisher.deliver(Publish::v5("t", "before", 1, 1)).await;
    // [MQTT-3.10.4-3] What was begun is completed.
    let begun = client.publish().await;
    // [MQTT-3.10.4-1] Filters are compared, and do not match.
    client.send(unsubscribe(1, &["#", "+", "T"])).await;
    assert_eq!(client.expect(UNSUBACK).await.body[3..], [0x11; 3]);
    client.send(unsubscribe(2, &["t"])).await;
    assert_eq!(client.expect(UNSUBACK).await.body[3..], [0]);
    client.send(answer(PUBACK, begun.id)).await;
    assert_eq!(publisher.deliver(Publish::v5("t", "after", 1, 1)).await, 0x10);
    client.silence(10 * SECOND).await;
    assert_eq!(world.figures().subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn mqtt_4_8_2_4_a_shared_subscription_gives_each_event_to_one() {
    let world = World::new();
    let mut members = Vec::new();
    for name in ["one", "two", "three"] {
        let mut member = world.client(&Connect::v5(name)).await;
        member.subscribe(&[("$share/group/t/#", 1)]).await;
        members.push(member);
    }
    let mut other = world.client(&Connect::v5("other")).await;
    other.subscribe(&[("$share/another/t/#", 1), ("t/#", 0)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for number in 0..60_u8 {
        publisher.deliver(Publish::v5("t/x", [number], 1, 1)).await;
    }
    let mut all = Vec::new();
    for member in &mut members {
        let got = received(member).await;
        all.extend(got.into_iter().map(|publish| publish.payload[0]));
    }
    all.sort();
    assert_eq!(all, (0..60).collect::<Vec<u8>>());
    // Another group has all of it again, and who subscribes as well.
    let (mut shared, mut own) = (0, 0);
    for got in received(&mut other).await {
        match got.qos() {
            1 => shared += 1,
            _ => own += 1,
        }
    }
    assert_eq!((shared, own), (60, 60));
    // [MQTT-4.8.2-5] What one has not acknowledged goes to the others when it has gone.
    let mut mute = members.pop().unwrap();
    publisher.send(Publish::v5("t/y", "last", 1, 1).bytes()).await;
    publisher.expect(PUBACK).await;
    mute.send([0xe0, 0]).await;
    drop(mute);
    world.until("it is gone", |figures| figures.clients == 4).await;
    let mut got = 0;
    for member in &mut members {
        got += received(member).await.len();
    }
    assert_eq!(got, 1);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_4_5_identifiers_may_be_as_large_as_the_standard_says() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    for number in [1, 127, 128, 16_383, 16_384, 268_435_455] {
        client.send(subscribe_with(1, &identifier(number), &[("t", 0)])).await;
        client.expect(SUBACK).await;
        client.send(Publish::v5("t", "x", 0, 0).bytes()).await;
        assert_eq!(client.publish().await.property(11), [&identifier(number)[1..]]);
    }
}

/// The rules for who delivers are the same for few and for many that overlap.
#[tokio::test(start_paused = true)]
async fn mqtt_3_3_4_4_many_overlapping_subscriptions_are_like_few() {
    for others in [1, 15, 16, 17, 40] {
        let world = World::new();
        let mut client = world.client(&Connect::v5("a")).await;
        let mut publisher = world.client(&Connect::v5("publisher")).await;
        let filter = |number: u32| {
            let level = |bit: u32| if number >> bit & 1 == 0 { "+" } else { "x" };
            (0..6).map(level).collect::<Vec<_>>().join("/")
        };
        // The last of them has the highest qos.
        for number in 0..=others {
            let wanted = [(filter(number), u8::from(number == others))];
            let wanted = wanted.each_ref().map(|(filter, qos)| (filter.as_str(), *qos));
            client.send(subscribe_with(1, &identifier(number + 1), &wanted)).await;
            client.expect(SUBACK).await;
        }
        let topic = "x/x/x/x/x/x";
        let got = async |client: &mut Raw, publisher: &mut Raw| {
            publisher.deliver(Publish::v5(topic, "x", 1, 1)).await;
            let got = received(client).await;
            assert_eq!(got.len(), 1, "{others}: {got:?}");
            let mut identifiers: Vec<_> =
                got[0].property(11).iter().map(|bytes| bytes.to_vec()).collect();
            identifiers.sort();
            (got[0].qos(), identifiers)
        };
        let all: Vec<_> = (0..=others).map(|number| vec![number as u8 + 1]).collect();
        assert_eq!(got(&mut client, &mut publisher).await, (1, all.clone()));
        // Without the last one; with it again; with another identifier for the first.
        client.send(unsubscribe(1, &[&filter(others)])).await;
        client.expect(UNSUBACK).await;
        let without_last = all[..others as usize].to_vec();
        assert_eq!(got(&mut client, &mut publisher).await, (0, without_last));
        client.send(subscribe_with(1, &identifier(100), &[(&filter(0), 0)])).await;
        client.expect(SUBACK).await;
        let mut expected = all[1..others as usize].to_vec();
        expected.push(vec![100]);
        assert_eq!(got(&mut client, &mut publisher).await, (0, expected));
        // Those without the client's own events leave its own to another one.
        client.subscribe(&[("x/#", 0x05)]).await;
        client.deliver(Publish::v5(topic, "own", 1, 1)).await;
        let own = received(&mut client).await;
        assert_eq!((own.len(), own[0].qos()), (1, 0), "{others}: {own:?}");
        publisher.deliver(Publish::v5(topic, "other", 1, 1)).await;
        let other = received(&mut client).await;
        assert!(other.iter().any(|publish| publish.qos() == 1), "{others}: {other:?}");
    }
}

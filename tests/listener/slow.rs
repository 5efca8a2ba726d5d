//! Clients that are slow, silent, or take nothing.

use crate::packets::{Connect, PINGREQ, PINGRESP, PUBACK, Publish, answer, packet, put_length};
use crate::world::{Bystander, World};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_22_silence_for_one_and_a_half_times_the_keep_alive_ends_it() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    for connect in [Connect::v5("a").keep_alive(10), Connect::v4("b").keep_alive(10)] {
        let mut client = world.client(&connect).await;
        let start = Instant::now();
        client.ended(0x8d).await;
        assert_eq!(start.elapsed(), 15 * SECOND);
    }
    bystander.is_served().await;
    world.until_alone(1).await;
    assert_eq!(world.figures().ended_total, [("keep_alive_timeout", 2)]);
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_22_who_pings_in_time_stays() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a").keep_alive(10)).await;
    for _ in 0..20 {
        tokio::time::sleep(14 * SECOND).await;
        client.send(PINGREQ).await;
        // [MQTT-3.12.4-1]
        assert_eq!(client.expect(PINGRESP).await.body, b"");
    }
    client.ended(0x8d).await;
}

/// Without a keep-alive it may be silent for as long as it likes.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_10_a_keep_alive_of_zero_is_none() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a")).await;
    client.silence(100_000 * SECOND).await;
    client.send(PINGREQ).await;
    client.expect(PINGRESP).await;
}

/// A packet that never ends is none: bytes of it do not count as a sign of life.
#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_22_a_packet_of_one_byte_a_second_is_no_sign_of_life() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a").keep_alive(10)).await;
    let start = Instant::now();
    let large = Publish::v5("t", vec![b'x'; 100_000], 0, 0).bytes();
    for byte in &large[..16] {
        client.send([*byte]).await;
        tokio::time::sleep(SECOND).await;
    }
    client.ended(0x8d).await;
    assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
    bystander.is_served().await;
    world.until_alone(1).await;
}

/// But a large one over a slow network takes its time.
#[tokio::test(start_paused = true)]
async fn a_large_packet_over_a_slow_network_arrives() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a").keep_alive(1)).await;
    let large = Publish::v5("t", vec![b'x'; 100_000], 1, 1).bytes();
    for piece in large.chunks(2000) {
        client.send(piece).await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(client.expect(PUBACK).await.id(), 1);
}

#[tokio::test(start_paused = true)]
async fn half_a_packet_and_then_silence_is_silence() {
    let world = World::new();
    let mut client = world.client(&Connect::v5("a").keep_alive(10)).await;
    let start = Instant::now();
    client.send(&Publish::v5("t", "half of it", 1, 1).bytes()[..8]).await;
    client.ended(0x8d).await;
    assert_eq!(start.elapsed(), 15 * SECOND);
    world.until_alone(0).await;
}

/// A client that announces a large packet holds what it has sent of it, and no more.
#[tokio::test(start_paused = true)]
async fn what_a_remaining_length_announces_is_not_reserved() {
    let world = World::with(|settings| settings.limits.packet_bytes_max = 268_435_460);
    let mut header = vec![0x30];
    put_length(268_435_455, &mut header);
    let mut clients = Vec::new();
    // Together they announce 268 GB.
    for number in 0..1000 {
        let mut client = world.client(&Connect::v5(&format!("c{number}")).keep_alive(10)).await;
        client.send(&header).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.ended(0x8d).await;
    }
    world.until_alone(0).await;
}

/// It takes no byte, while others send it many: it is ended, and they are not held up.
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_ended_after_send_time() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    for _ in 0..2 {
        let mut deaf = world.knock_from(None, 1024);
        deaf.connect(&Connect::v5("deaf")).await;
        deaf.subscribe(&[("news", 0)]).await;
        let mut publisher = world.client(&Connect::v5("publisher")).await;
        let start = Instant::now();
        for _ in 0..200 {
            let news = Publish::v5("news", vec![b'x'; 4096], 1, 1);
            assert_eq!(publisher.deliver(news).await, 0);
        }
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        bystander.is_served().await;
        world.until("it is gone", |figures| figures.clients == 2).await;
        // It took something at the beginning.
        assert!((60..=61).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        publisher.goodbye().await;
        world.until_alone(1).await;
        drop(deaf);
    }
    let ended = world.figures().ended_total;
    assert_eq!(ended, [("normal", 2), ("gone", 2)]);
}

/// Who takes a little now and then stays, and gets all of it in its order.
#[tokio::test(start_paused = true)]
async fn who_takes_little_at_a_time_gets_all_of_it() {
    let world = World::new();
    let mut slow = world.knock_from(None, 256);
    slow.connect(&Connect::v5("slow")).await;
    slow.subscribe(&[("news", 1)]).await;
    let mut publisher = world.client(&Connect::v5("publisher")).await;
    for number in 0..50_u8 {
        let news = Publish::v5("news", vec![number; 1000], 1, 1);
        assert_eq!(publisher.deliver(news).await, 0);
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 128];
    // Each piece comes only after the one before was taken.
    while bytes.len() < 50 * (3 + 2 + 4 + 2 + 1 + 1000) {
        tokio::time::sleep(SECOND / 10).await;
        let number = slow.stream.read(&mut buffer).await.unwrap();
        assert!(number > 0);
        bytes.extend_from_slice(&buffer[..number]);
    }
    let payloads = bytes.chunks(1012).map(|packet| packet[packet.len() - 1]);
    assert!(payloads.eq(0..50), "in their order");
}

/// Its window fills, and nobody else is held up.
#[tokio::test(start_paused = true)]
async fn mqtt_3_3_4_9_who_never_acknowledges_gets_no_more_than_its_window() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    for (connect, window) in [(Connect::v5("a").with(&[33, 0, 10]), 10), (Connect::v4("b"), 1024)] {
        let is_v5 = connect.level == 5;
        let mut mute = world.client(&connect).await;
        match is_v5 {
            true => drop(mute.subscribe(&[("news", 1)]).await),
            false => {
                mute.send(crate::packets::subscribe_v4(1, &[("news", 1)])).await;
                mute.expect(0x90).await;
            }
        }
        let mut publisher = world.client(&Connect::v5("publisher")).await;
        for number in 0..1500_u16 {
            let news = Publish::v5("news", number.to_be_bytes(), 1, 1);
            assert_eq!(publisher.deliver(news).await, 0);
        }
        let mut ids = Vec::new();
        for number in 0..window {
            let publish = mute.publish().await;
            assert_eq!(publish.payload, u16::to_be_bytes(number));
            ids.push(publish.id);
        }
        mute.silence(100 * SECOND).await;
        bystander.is_served().await;
        // Each acknowledgement makes room for one.
        mute.send(answer(PUBACK, ids[0])).await;
        assert_eq!(mute.publish().await.payload, u16::to_be_bytes(window));
        mute.silence(100 * SECOND).await;
        mute.goodbye().await;
        publisher.goodbye().await;
    }
    world.until_alone(1).await;
    assert_eq!(world.figures().subscriptions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_million_pings_are_answered_and_kept_nowhere() {
    let world = World::new();
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a")).await;
    let (mut from, mut to) = tokio::io::split(client.stream);
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for _ in 0..100 {
            to.write_all(&PINGREQ.repeat(10_000)).await.unwrap();
        }
        to
    });
    let mut answers = vec![0; 2_000_000];
    from.read_exact(&mut answers).await.unwrap();
    assert!(answers.chunks(2).all(|answer| answer == [PINGRESP, 0]));
    client.stream = from.unsplit(sending.await.unwrap());
    bystander.is_served().await;
    client.goodbye().await;
    world.until_alone(1).await;
}

/// Pings are not answered to who does not take the answers: the answers would gather.
#[tokio::test(start_paused = true)]
async fn who_asks_and_takes_no_answer_is_not_heard_and_then_ended() {
    let world = World::new();
    let mut client = world.knock_from(None, 4096);
    // A keep-alive that is over while it is not read does not count.
    client.connect(&Connect::v5("a").keep_alive(1)).await;
    let start = Instant::now();
    // More than its stream, its inbox and its buffer hold.
    let flood = PINGREQ.repeat(1_000_000);
    client.send(&flood).await;
    // And two seconds in which it might have taken the rest.
    assert_eq!(start.elapsed().as_secs(), 62);
    world.until_alone(0).await;
    assert_eq!(world.figures().ended_total, [("gone", 1)]);
    let received = world.figures().bytes_received_total as usize;
    assert!(received < 600 * 1024, "{received}");
}

#[tokio::test(start_paused = true)]
async fn publishes_come_at_the_rate_and_no_keep_alive_is_over() {
    let world = World::with(|settings| settings.limits.publishes_per_second_max = Some(10));
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a").keep_alive(1)).await;
    let start = Instant::now();
    let flood: Vec<u8> = (1..=60_u16).flat_map(|id| Publish::v5("t", "x", 1, id).bytes()).collect();
    client.send(&flood).await;
    // It pings as it should, and is not answered before its publishes.
    for id in 1..=60 {
        assert_eq!(client.expect(PUBACK).await.id(), id);
        let waited = start.elapsed();
        let expected = SECOND / 10 * u32::from(id.saturating_sub(10));
        assert!(waited >= expected && waited < expected + SECOND / 50, "{id}: {waited:?}");
        if id % 10 == 0 {
            client.send(PINGREQ).await;
        }
        if id == 30 {
            bystander.is_served().await;
        }
    }
    for _ in 0..6 {
        client.expect(PINGRESP).await;
    }
    client.ended(0x8d).await;
    assert!(world.figures().throttled_total > 0);
    world.until_alone(1).await;
}

/// What it sent before it said goodbye is handled, and its goodbye as well.
#[tokio::test(start_paused = true)]
async fn what_a_throttled_client_has_sent_is_not_lost_when_it_goes() {
    let world = World::with(|settings| settings.limits.publishes_per_second_max = Some(10));
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    watcher.subscribe(&[("t", 0)]).await;
    let mut client = world.client(&Connect::v5("a")).await;
    let publishes: Vec<u8> =
        (0..30_u8).flat_map(|number| Publish::v5("t", [number], 0, 0).bytes()).collect();
    client.send([&publishes[..], &[0xe0, 0]].concat()).await;
    drop(client);
    for number in 0..30 {
        assert_eq!(watcher.publish().await.payload, [number]);
    }
    world.until_alone(1).await;
    assert_eq!(world.figures().ended_total, [("normal", 1)]);
}

#[tokio::test(start_paused = true)]
async fn bytes_come_at_the_rate() {
    let world = World::with(|settings| settings.limits.bytes_per_second_max = Some(10_000));
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("a").keep_alive(1)).await;
    let start = Instant::now();
    client.send(Publish::v5("t", vec![b'x'; 60_000], 1, 1).bytes()).await;
    bystander.is_served().await;
    assert_eq!(client.expect(PUBACK).await.id(), 1);
    let waited = start.elapsed();
    assert!((5 * SECOND..5 * SECOND + SECOND / 2).contains(&waited), "{waited:?}");
}

/// A client that is slowed down can be taken over at once, and nothing that it has
/// sent at qos 0 is lost.
#[tokio::test(start_paused = true)]
async fn a_throttled_client_is_taken_over() {
    let world = World::with(|settings| settings.limits.publishes_per_second_max = Some(1));
    let mut watcher = world.client(&Connect::v5("watcher")).await;
    watcher.subscribe(&[("t", 0)]).await;
    let mut first = world.client(&Connect::v5("a")).await;
    let publishes: Vec<u8> =
        (0..30_u8).flat_map(|number| Publish::v5("t", [number], 0, 0).bytes()).collect();
    first.send(&publishes).await;
    assert_eq!(watcher.publish().await.payload, [0]);
    let start = Instant::now();
    let _second = world.client(&Connect::v5("a")).await;
    assert!(start.elapsed() < SECOND / 10, "{:?}", start.elapsed());
    for number in 1..30 {
        assert_eq!(watcher.publish().await.payload, [number]);
    }
    first.ended(0x8e).await;
}

/// The largest packet that there can be is refused where it is announced.
#[tokio::test(start_paused = true)]
async fn mqtt_3_2_2_15_a_packet_above_the_maximum_is_refused_at_its_header() {
    let world = World::with(|settings| settings.limits.packet_bytes_max = 2000);
    let mut bystander = Bystander::new(&world).await;
    let (mut client, connack) = world.accepted(&Connect::v5("a")).await;
    assert_eq!(connack.property(39), Some(&2000_u32.to_be_bytes()[..]));
    let largest = packet(0x30, &[&b"\x00\x01t\x00"[..], &[b'x'; 1993]].concat());
    assert_eq!(largest.len(), 2000);
    client.send(&largest).await;
    client.send(PINGREQ).await;
    client.expect(PINGRESP).await;
    client.send(&packet(0x30, &[b'x'; 1998])[..3]).await;
    client.ended(0x95).await;
    let mut client = world.client(&Connect::v4("b")).await;
    client.send([0x30, 0xff, 0xff, 0xff, 0x7f]).await;
    client.closed().await;
    bystander.is_served().await;
    world.until_alone(1).await;
}

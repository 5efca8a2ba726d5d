//! Qos 2 over crashes, both ways.

use super::{Client, Got, Hello, Server};
use std::collections::HashSet;
use std::time::Duration;
use testkit::sqlite_disk::SqliteDisk;

/// A watcher whose session has all events of `t`.
async fn watch(server: &Server) {
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.subscribe("t", 1).await;
    watcher.disconnect(None).await;
}

async fn watched(server: &Server) -> Vec<String> {
    server.publish("t", "the last one").await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    let mut found = Vec::new();
    loop {
        let text = watcher.take().await;
        if text == "the last one" {
            watcher.disconnect(None).await;
            return found;
        }
        found.push(text);
    }
}

#[tokio::test]
async fn mqtt_4_3_3_10_what_was_received_is_not_taken_a_second_time() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        watch(&server).await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        for id in [7, 8, 9] {
            client.publish(4, id, "t", &format!("event {id}")).await;
            assert_eq!(client.answered(0x50, id).await & 0x80, 0);
        }
        // What is released is over before it is answered.
        client.answer(0x62, 9).await;
        client.answered(0x70, 9).await;
        server.crash();
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present);
        client.publish(0x0c, 7, "t", "event 7").await;
        client.answered(0x50, 7).await;
        client.answer(0x62, 7).await;
        assert_eq!(client.answered(0x70, 7).await, 0);
        client.answer(0x62, 8).await;
        assert_eq!(client.answered(0x70, 8).await, 0);
        // These identifiers are free, also for what is sent again.
        client.publish(0x0c, 9, "t", "another 9").await;
        client.answered(0x50, 9).await;
        client.publish(4, 7, "t", "another 7").await;
        client.answered(0x50, 7).await;
        let expected = ["event 7", "event 8", "event 9", "another 9", "another 7"];
        assert_eq!(watched(&server).await, expected, "version {version}");
    }
}

/// A client that has lost its own state uses identifiers again, and says that it sends
/// something for the first time.
#[tokio::test]
async fn mqtt_3_3_1_1_what_is_sent_for_the_first_time_is_new() {
    let mut server = Server::start().await;
    watch(&server).await;
    let mut client = server.connect(Hello::kept("c", 4)).await;
    client.publish(4, 1, "t", "before").await;
    client.answered(0x50, 1).await;
    server.crash();
    let mut client = server.connect(Hello::kept("c", 4)).await;
    client.publish(4, 1, "t", "of the client's new life").await;
    client.answered(0x50, 1).await;
    // From then on it is known.
    client.publish(4, 1, "t", "again").await;
    client.answered(0x50, 1).await;
    assert_eq!(watched(&server).await, ["before", "of the client's new life"]);
}

/// What was not answered is stored with its identifier or not at all.
#[tokio::test]
async fn mqtt_4_3_3_a_crash_at_any_moment_stores_each_event_once() {
    const EVENTS: u16 = 40;
    let mut server = Server::start().await;
    watch(&server).await;
    let mut random = fastrand::Rng::with_seed(5);
    let mut client = server.connect(Hello::kept("c", 5)).await;
    for id in 1..=EVENTS {
        client.publish(4, id, "t", &id.to_string()).await;
        if random.bool() {
            // At some time in the course of the commit.
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            server.crash();
            client = server.connect(Hello::kept("c", 5)).await;
            assert!(client.is_present);
            client.publish(0x0c, id, "t", &id.to_string()).await;
        }
        client.answered(0x50, id).await;
        client.answer(0x62, id).await;
        client.answered(0x70, id).await;
    }
    let expected: Vec<_> = (1..=EVENTS).map(|id| id.to_string()).collect();
    assert_eq!(watched(&server).await, expected);
}

/// Ends a connection while a publish is on its way.
#[tokio::test]
async fn mqtt_4_3_3_a_connection_that_is_lost_stores_each_event_once() {
    let server = Server::start().await;
    watch(&server).await;
    for id in 1..=50_u16 {
        let mut client = server.connect(Hello::kept("c", 5)).await;
        client.publish(4, id, "t", &id.to_string()).await;
        drop(client);
        let mut client = server.connect(Hello::kept("c", 5)).await;
        client.publish(0x0c, id, "t", &id.to_string()).await;
        client.answered(0x50, id).await;
        client.answer(0x62, id).await;
        client.answered(0x70, id).await;
        client.disconnect(None).await;
    }
    let expected: Vec<_> = (1..=50).map(|id: u16| id.to_string()).collect();
    assert_eq!(watched(&server).await, expected);
}

async fn subscribed(server: &Server, version: u8) -> Client {
    let mut client = server.connect(Hello::kept("c", version)).await;
    client.subscribe("t", 2).await;
    client
}

async fn publish(server: &Server, texts: &[&str]) {
    let mut client = server.visitor().await;
    for (id, text) in (1..).zip(texts) {
        client.publish(4, id, "t", text).await;
        client.answered(0x50, id).await;
    }
}

#[tokio::test]
async fn mqtt_4_3_3_5_what_was_sent_goes_out_again_under_its_identifier() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = subscribed(&server, version).await;
        publish(&server, &["first", "second", "third"]).await;
        let before = [client.got().await, client.got().await, client.got().await];
        server.crash();
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present);
        for sent in &before {
            let again = client.got().await;
            assert_eq!(again, Got { dup: true, ..clone(sent) }, "version {version}");
        }
        for sent in &before {
            client.answer(0x50, sent.id).await;
            client.answered(0x62, sent.id).await;
            client.answer(0x70, sent.id).await;
        }
        client.ping().await;
        server.restart().await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        client.ping().await;
    }
}

fn clone(got: &Got) -> Got {
    Got { topic: got.topic.clone(), text: got.text.clone(), ..*got }
}

#[tokio::test]
async fn mqtt_4_3_3_7_what_was_released_is_released_again_and_not_sent() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = subscribed(&server, version).await;
        publish(&server, &["first", "second"]).await;
        let (first, second) = (client.got().await, client.got().await);
        client.answer(0x50, first.id).await;
        client.answered(0x62, first.id).await;
        server.crash();
        publish(&server, &["third"]).await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        client.answered(0x62, first.id).await;
        let again = client.got().await;
        assert_eq!((&*again.text, again.id, again.dup), ("second", second.id, true));
        let third = client.got().await;
        assert_eq!((&*third.text, third.dup), ("third", false));
        assert!(![first.id, second.id].contains(&third.id), "{third:?}");
        client.answer(0x70, first.id).await;
        client.ping().await;
    }
}

/// In a group the event may go to another client, and so comes to this one as a new one.
#[tokio::test]
async fn mqtt_4_8_2_4_in_a_group_an_identifier_is_released_and_the_event_comes_again() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    assert_eq!(client.subscribe("$share/g/t", 2).await, 2);
    publish(&server, &["job"]).await;
    let first = client.got().await;
    server.crash();
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.answered(0x62, first.id).await;
    let again = client.got().await;
    assert_eq!((&*again.text, again.dup), ("job", false));
    assert_ne!(again.id, first.id);
    client.answer(0x70, first.id).await;
    client.answer(0x50, again.id).await;
    client.answered(0x62, again.id).await;
    client.answer(0x70, again.id).await;
    client.ping().await;
    client.disconnect(Some(0)).await;
    server.is_empty().await;
}

/// What was on its way when its subscription ended, or its time was over, is not sent
/// again, and its identifier is released.
#[tokio::test]
async fn mqtt_4_3_3_what_does_not_come_again_is_released() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.subscribe("t", 2).await;
    client.subscribe("u", 2).await;
    let mut publisher = server.visitor().await;
    publisher.publish_with(4, 1, "t", "expires", &[2, 0, 0, 0, 10]).await;
    publisher.answered(0x50, 1).await;
    publisher.publish(4, 2, "u", "unsubscribed").await;
    publisher.answered(0x50, 2).await;
    let before = [client.got().await.id, client.got().await.id];
    client.unsubscribe("u").await;
    server.pass(11);
    server.crash();
    let mut client = server.connect(Hello::kept("c", 5)).await;
    assert!(client.is_present);
    let mut released = Vec::new();
    for _ in before {
        let body = client.expect(0x62).await;
        let id = u16::from_be_bytes([body[0], body[1]]);
        client.answer(0x70, id).await;
        released.push(id);
    }
    released.sort_unstable();
    assert_eq!(released, before);
    client.ping().await;
}

/// A client that keeps what MQTT asks it to keep: what it has received and was not
/// released. It hands on each event when it is new.
struct Keeper {
    client: Client,
    held: HashSet<u16>,
    handed: Vec<String>,
}

impl Keeper {
    /// Answers a packet. Says whether it was PINGRESP.
    async fn answer(&mut self, (header, body): (u8, Vec<u8>)) -> bool {
        match header & 0xf0 {
            0xd0 => return true,
            0x30 => {
                let id = u16::from_be_bytes([body[3], body[4]]);
                if self.held.insert(id) {
                    self.handed.push(String::from_utf8_lossy(&body[6..]).into_owned());
                }
                self.client.answer(0x50, id).await;
            }
            0x60 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                self.held.remove(&id);
                self.client.answer(0x70, id).await;
            }
            _ => panic!("{header:x} {body:x?}"),
        }
        false
    }

    async fn crash(&mut self, server: &mut Server, random: &mut fastrand::Rng) {
        // At some time in the course of a commit.
        tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
        server.crash();
        self.client = server.connect(Hello::kept("c", 5)).await;
        assert!(self.client.is_present);
    }
}

#[tokio::test]
async fn mqtt_4_3_3_a_crash_at_any_moment_delivers_each_event_once() {
    const EVENTS: usize = 60;
    let mut server = Server::start().await;
    let mut random = fastrand::Rng::with_seed(7);
    let client = subscribed(&server, 5).await;
    let mut keeper = Keeper { client, held: HashSet::new(), handed: Vec::new() };
    for n in 0..EVENTS {
        publish(&server, &[&n.to_string()]).await;
        while keeper.handed.len() <= n || !keeper.held.is_empty() {
            if random.u8(..4) == 0 {
                keeper.crash(&mut server, &mut random).await;
            }
            let packet = keeper.client.next().await;
            keeper.answer(packet).await;
        }
        if random.bool() {
            // It is over for the client, and the server may not have heard that.
            keeper.crash(&mut server, &mut random).await;
            keeper.client.send(&[0xc0, 0]).await;
            loop {
                let packet = keeper.client.next().await;
                if keeper.answer(packet).await {
                    break;
                }
            }
        }
    }
    let expected: Vec<_> = (0..EVENTS).map(|n| n.to_string()).collect();
    assert_eq!(keeper.handed, expected);
}

/// The power fails at any moment, and what the disk had not synced is there or not:
/// what the client was told holds.
#[tokio::test]
async fn mqtt_4_3_3_2_when_the_power_fails_what_was_told_holds() {
    const EVENTS: u16 = 12;
    const FAILURES: usize = 40;
    let disk = SqliteDisk::new();
    let server = Server::on(Some(disk));
    watch(&server).await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    let ready = disk.operations();
    // What had happened when each event was said to be there.
    let mut told = Vec::new();
    for id in 1..=EVENTS {
        client.publish(4, id, "t", &id.to_string()).await;
        client.answered(0x50, id).await;
        told.push(disk.operations());
        client.retain("r", &id.to_string()).await;
        client.answer(0x62, id).await;
        client.answered(0x70, id).await;
    }
    let end = disk.operations();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..FAILURES {
        let operations = random.usize(ready..=end);
        let words = format!("seed {seed}, {operations} operations");
        let after = server.after_power_failed(operations, &mut random);
        let mut client = after.connect(Hello::kept("c", 5)).await;
        assert!(client.is_present, "{words}");
        let known = told.iter().filter(|at| **at <= operations).count();
        let next = u16::try_from(known).unwrap() + 1;
        // The client sends again what it has not heard of.
        client.publish(0x0c, next, "t", &next.to_string()).await;
        client.answered(0x50, next).await;
        client.answer(0x62, next).await;
        client.answered(0x70, next).await;
        let expected: Vec<_> = (1..=next).map(|id| id.to_string()).collect();
        assert_eq!(watched(&after).await, expected, "{words}");
        client.subscribe("r", 0).await;
        if known > 1 {
            let last: usize = client.take().await.parse().unwrap();
            assert!((known - 1..=known + 1).contains(&last), "{last}, {words}");
        }
    }
}

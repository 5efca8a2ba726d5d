//! Retained messages over crashes and restarts.

use super::{Hello, Server};
use std::sync::Arc;
use wasi_pubsub::broker::{Event, Qos, Topic};

/// The retained messages that a new subscriber gets, in their order.
async fn found(server: &Server, filter: &str) -> Vec<String> {
    let mut client = server.visitor().await;
    client.subscribe(filter, 1).await;
    client.send(&[0xc0, 0]).await;
    let mut found = Vec::new();
    loop {
        let (header, body) = client.next().await;
        if header == 0xd0 {
            client.disconnect(None).await;
            return found;
        }
        assert_eq!(header & 0xf1, 0x31);
        let topic = usize::from(body[1]);
        let id = if header & 6 > 0 { 2 } else { 0 };
        let payload = &body[2 + topic + id..];
        let payload = &payload[1 + usize::from(payload[0])..];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found.push(format!("{} {}", text(&body[2..2 + topic]), text(payload)));
    }
}

#[tokio::test]
async fn mqtt_3_3_1_5_retained_messages_outlive_a_crash() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    for (topic, payload) in [("a/1", "old"), ("a/2", "two"), ("a/3", "three"), ("a/1", "new")] {
        client.retain(topic, payload).await;
    }
    client.publish(5, 7, "a/4", "at qos 2").await;
    client.answered(0x50, 7).await;
    // An empty one removes.
    client.retain("a/2", "").await;
    server.crash();
    assert_eq!(found(&server, "a/#").await, ["a/1 new", "a/3 three", "a/4 at qos 2"]);
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.retain("a/3", "").await;
    client.retain("a/5", "five").await;
    client.retain("a/5", "").await;
    server.crash();
    assert_eq!(found(&server, "a/#").await, ["a/1 new", "a/4 at qos 2"]);
}

/// At qos 0 nobody waits; what ends well has everything.
#[tokio::test]
async fn mqtt_3_3_1_5_what_was_retained_at_qos_0_is_kept_at_the_end() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 4)).await;
    for n in 0..2000 {
        client.publish(1, 0, &format!("t/{}", n % 50), &n.to_string()).await;
    }
    for n in 0..40 {
        client.publish(1, 0, &format!("t/{n}"), "").await;
    }
    client.ping().await;
    server.restart().await;
    let expected: Vec<_> = (40..50).map(|n| format!("t/{n} {}", 1950 + n)).collect();
    assert_eq!(found(&server, "t/+").await, expected);
}

#[tokio::test]
async fn mqtt_3_3_2_6_a_retained_message_expires_while_the_server_is_down() {
    let mut server = Server::start().await;
    let mut client = server.visitor().await;
    for (topic, seconds) in [("a", 10_u32), ("b", 1000)] {
        let properties = [&[2][..], &seconds.to_be_bytes()].concat();
        client.publish_with(3, 1, topic, "x", &properties).await;
        client.expect(0x40).await;
    }
    server.pass(11);
    server.crash();
    assert_eq!(found(&server, "#").await, ["b x"]);
    server.end().await;
    let store = rusqlite::Connection::open(server.store()).unwrap();
    let count: u32 = store
        .query_row("SELECT count(*) FROM record WHERE kind = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 1, "it was removed from the store");
}

#[tokio::test]
async fn mqtt_3_1_2_14_a_retained_will_is_kept() {
    let mut server = Server::start().await;
    let mut watcher = server.visitor().await;
    watcher.subscribe("wills", 1).await;
    let will = Some(("wills", "gone", 0));
    let hello = Hello { will, retains_will: true, ..Hello::kept("c", 5) };
    drop(server.connect(hello).await);
    assert_eq!(watcher.take().await, "gone");
    // Who publishes to the same store later waits for what was noted before.
    let mut client = server.visitor().await;
    client.retain("other", "x").await;
    server.crash();
    assert_eq!(found(&server, "#").await, ["other x", "wills gone"]);
}

/// With lower bounds than before, what has no room is removed, and said to be.
#[tokio::test]
async fn what_has_no_room_any_more_is_removed() {
    let mut server = Server::start().await;
    let mut client = server.visitor().await;
    for topic in ["a", "b", "c"] {
        client.retain(topic, "x").await;
    }
    server.end().await;
    server.settings.limits.retained_max = 2;
    server.begin();
    assert_eq!(found(&server, "#").await, ["a x", "b x"]);
    server.end().await;
    server.settings.limits.retained_max = 100;
    server.begin();
    assert_eq!(found(&server, "#").await, ["a x", "b x"]);
}

/// MQTT 5.0, 3.3.1-5: who is told that it is stored finds it after a crash, whoever
/// else publishes meanwhile.
#[tokio::test]
async fn mqtt_3_3_1_5_of_two_publishers_the_last_one_is_kept() {
    let mut server = Server::start().await;
    let mut clients = Vec::new();
    for id in ["one", "two", "three"] {
        clients.push(server.connect(Hello::kept(id, 5)).await);
    }
    for round in 0..20 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.publish(3, 1, "t", &format!("{round} {n}")).await;
        }
        for client in &mut clients {
            client.expect(0x40).await;
        }
    }
    let before = found(&server, "t").await;
    assert_eq!(before.len(), 1);
    server.crash();
    assert_eq!(found(&server, "t").await, before);
}

/// What components publish is retained likewise.
#[tokio::test]
async fn what_a_component_retains_is_kept_once_it_is_waited_for() {
    let mut server = Server::start().await;
    let event = Event { data: "of a component".into(), ..Event::default() };
    let (topic, event) = (Topic::new("a").unwrap(), Arc::new(event));
    let retain = |qos| server.running().listener.retain(&topic, &event, qos).unwrap();
    retain(Qos::AtMostOnce).await.unwrap();
    retain(Qos::AtLeastOnce).await.unwrap();
    server.crash();
    assert_eq!(found(&server, "#").await, ["a of a component"]);
}

//! Sessions over crashes and restarts.

use super::{Client, Hello, Server};
use std::sync::Arc;
use testkit::sqlite_disk::{Fault, SqliteDisk};
use wasi_pubsub::broker::driver::{Connection, Ready, SubscribeRequest};
use wasi_pubsub::broker::{Budget, Order, Qos, Share, Start, TopicFilter};

#[tokio::test]
async fn mqtt_4_1_0_1_a_kept_session_outlives_a_crash() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(!client.is_present);
        assert_eq!(client.subscribe("a/+", 1).await, 1);
        assert_eq!(client.subscribe("b/#", 0).await, 0);
        client.ping().await;
        server.publish("a/1", "while it is there").await;
        assert_eq!(client.take().await, "while it is there");
        client.disconnect(None).await;
        server.publish("a/2", "before the crash").await;
        server.crash();
        server.publish("a/3", "after the crash").await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present, "version {version}");
        assert_eq!(client.take().await, "before the crash");
        assert_eq!(client.take().await, "after the crash");
        server.publish("b/x", "at qos 0").await;
        assert_eq!(client.take().await, "at qos 0");
        // And once more.
        client.disconnect(None).await;
        server.crash();
        server.publish("a/4", "in the third life").await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present);
        // An acknowledgement of qos 1 may be lost with the crash.
        let mut text = client.take().await;
        while ["before the crash", "after the crash"].contains(&&*text) {
            text = client.take().await;
        }
        assert_eq!(text, "in the third life");
        client.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_4_the_session_of_a_client_that_is_there_is_kept() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        client.subscribe("a", 1).await;
        server.publish("a", "not acknowledged").await;
        let first = client.got().await;
        assert_eq!((&*first.text, first.dup), ("not acknowledged", false));
        server.crash();
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present);
        assert_eq!(client.take().await, "not acknowledged");
        client.ping().await;
    }
}

/// MQTT 5.0, 3.1.2-4: a clean start begins a new session, whatever was there.
#[tokio::test]
async fn mqtt_3_1_2_6_a_session_that_is_begun_anew_has_nothing_of_the_one_before() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        client.subscribe("a", 1).await;
        client.subscribe("b", 1).await;
        client.disconnect(None).await;
        server.publish("a", "for the session before").await;
        let anew = Hello { clean: true, ..Hello::kept("c", 5) };
        let mut client = server.connect(anew).await;
        assert!(!client.is_present);
        server.crash();
        let session = server.connect(Hello::kept("c", 5)).await;
        // The new one was kept by then, or was not: but not the one before.
        let is_kept = session.is_present;
        server.publish("a", "for nobody").await;
        let mut session = session;
        session.ping().await;
        drop((client, session));

        client = server.connect(Hello { clean: true, ..Hello::kept("c", 5) }).await;
        assert_eq!(client.subscribe("a", 1).await, 1);
        server.crash();
        server.publish("a", "for the new session").await;
        let mut client = server.connect(Hello::kept("c", 5)).await;
        assert!(client.is_present, "{is_kept}");
        assert_eq!(client.take().await, "for the new session");
        client.ping().await;
        client.disconnect(Some(0)).await;
        server.is_empty().await;
    }
}

/// MQTT 3.1.1, 3.1.2-5; MQTT 5.0, 3.1.2-23: a session with expiry 0 ends with its
/// connection, and so with the process.
#[tokio::test]
async fn mqtt_3_1_2_5_a_session_that_is_not_to_be_kept_leaves_nothing() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let clean = Hello { clean: true, expiry: 0, ..Hello::kept("c", version) };
        let mut client = server.connect(clean).await;
        client.subscribe("a/#", 2).await;
        client.subscribe("$share/g/b/#", 1).await;
        server.publish("a/b", "x").await;
        client.got().await;
        server.crash();
        server.is_empty().await;
        let mut client = server.connect(Hello { clean: false, ..clean }).await;
        // MQTT 3.1.1 has no other session than one that is kept.
        assert!(!client.is_present, "version {version}");
        client.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_1_2_23_a_session_expires_while_the_server_is_down() {
    let mut server = Server::start().await;
    let hello = Hello { expiry: 100, ..Hello::kept("c", 5) };
    let mut client = server.connect(hello).await;
    client.subscribe("a", 1).await;
    client.subscribe("$share/g/a", 1).await;
    client.disconnect(None).await;
    server.pass(60);
    server.restart().await;
    // Some of its time is over: it is not given it a second time.
    assert!(server.connect(Hello { expiry: 100, ..hello }).await.is_present);
    // Whoever comes again begins anew.
    server.restart().await;
    server.pass(60);
    server.crash();
    server.pass(39);
    server.restart().await;
    server.pass(2);
    server.restart().await;
    server.is_empty().await;
    assert!(!server.connect(hello).await.is_present);
}

#[tokio::test]
async fn mqtt_3_1_2_23_the_time_of_a_client_that_was_there_begins_with_the_start() {
    let mut server = Server::start().await;
    let hello = Hello { expiry: 100, ..Hello::kept("c", 5) };
    let mut client = server.connect(hello).await;
    client.subscribe("a", 1).await;
    server.crash();
    server.pass(99);
    server.restart().await;
    assert!(server.connect(hello).await.is_present);
    server.crash();
    server.restart().await;
    server.pass(101);
    server.restart().await;
    assert!(!server.connect(hello).await.is_present);
}

#[tokio::test]
async fn mqtt_3_14_2_a_client_that_ends_its_session_leaves_nothing() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.subscribe("a", 1).await;
    client.subscribe("$share/g/a", 2).await;
    client.publish(4, 7, "b", "not released").await;
    client.answered(0x50, 7).await;
    client.disconnect(Some(0)).await;
    server.is_empty().await;
    server.crash();
    assert!(!server.connect(Hello::kept("c", 5)).await.is_present);
}

/// One that is taken over by a connection that does not keep it ends with that.
#[tokio::test]
async fn mqtt_3_1_2_23_a_session_that_is_kept_no_longer_ends_with_its_connection() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.subscribe("a", 1).await;
    client.disconnect(None).await;
    let mut client = server.connect(Hello { expiry: 0, ..Hello::kept("c", 5) }).await;
    assert!(client.is_present);
    // What is noted before is kept with what a client waits for.
    client.subscribe("b", 1).await;
    server.crash();
    assert!(!server.connect(Hello::kept("c", 5)).await.is_present);
}

#[tokio::test]
async fn mqtt_3_10_4_what_is_unsubscribed_does_not_come_back() {
    for version in [4, 5] {
        let mut server = Server::start().await;
        let mut client = server.connect(Hello::kept("c", version)).await;
        for filter in ["a", "b", "$share/g/c"] {
            client.subscribe(filter, 1).await;
        }
        client.unsubscribe("a").await;
        client.unsubscribe("$share/g/c").await;
        server.crash();
        for topic in ["a", "c", "b"] {
            server.publish(topic, topic).await;
        }
        let mut client = server.connect(Hello::kept("c", version)).await;
        assert!(client.is_present);
        assert_eq!(client.take().await, "b");
        client.ping().await;
    }
}

#[tokio::test]
async fn mqtt_3_8_4_options_and_identifiers_are_kept() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    // No-local; another qos; and retain-as-published.
    assert_eq!(client.subscribe("own", 0x05).await, 1);
    assert_eq!(client.subscribe("less", 0x02).await, 2);
    assert_eq!(client.subscribe("less", 0x01).await, 1);
    assert_eq!(client.subscribe("kept", 0x29).await, 1);
    // SUBSCRIBE with the subscription identifier 300.
    client.send(b"\x82\x0c\x00\x08\x03\x0b\xac\x02\x00\x03ids\x00").await;
    client.expect(0x90).await;
    server.crash();
    let mut client = server.connect(Hello::kept("c", 5)).await;
    assert!(client.is_present);
    client.publish(2, 1, "own", "x").await;
    assert_eq!(client.expect(0x40).await[..2], [0, 1]);
    let mut other = server.visitor().await;
    other.publish(4, 2, "less", "at most 1").await;
    let got = client.got().await;
    assert_eq!((&*got.text, got.qos), ("at most 1", 1));
    client.answer(0x40, got.id).await;
    other.answered(0x50, 2).await;
    other.retain("kept", "as published").await;
    let got = client.got().await;
    assert_eq!((&*got.text, got.retain), ("as published", true));
    client.answer(0x40, got.id).await;
    other.publish(0, 0, "ids", "x").await;
    let (_, body) = client.next().await;
    assert_eq!(body, b"\x00\x03ids\x03\x0b\xac\x02x");
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_session_is_taken_over_after_a_restart() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.subscribe("a", 1).await;
    server.crash();
    let first = server.connect(Hello::kept("c", 5)).await;
    let mut second = server.connect(Hello::kept("c", 4)).await;
    assert!(first.is_present && second.is_present);
    first.closed().await;
    server.publish("a", "to the second").await;
    assert_eq!(second.take().await, "to the second");
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_will_waits_over_a_restart() {
    let mut server = Server::start().await;
    let hello = Hello { will: Some(("wills", "gone", 50)), ..Hello::kept("c", 5) };
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.subscribe("wills", 1).await;
    watcher.disconnect(None).await;
    let mut client = server.connect(hello).await;
    client.subscribe("a", 1).await;
    // Without a word.
    drop(client);
    server.restart().await;
    server.pass(49);
    server.restart().await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.ping().await;
    watcher.disconnect(None).await;
    server.pass(2);
    server.restart().await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    assert_eq!(watcher.take().await, "gone");
    watcher.disconnect(None).await;
    server.restart().await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.ping().await;
}

/// A client that comes again in time has no will sent, and one that the crash found
/// there has.
#[tokio::test]
async fn mqtt_3_1_2_8_a_crash_leaves_the_will_to_be_sent() {
    let mut server = Server::start().await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.subscribe("wills", 1).await;
    let with = |id, text, delay| Hello { will: Some(("wills", text, delay)), ..Hello::kept(id, 5) };
    for hello in [with("returns", "late", 1000), with("stays away", "at once", 0)] {
        server.connect(hello).await.subscribe("a", 1).await;
    }
    // Both have gone without a word: the first will waits, the second is sent.
    assert_eq!(watcher.take().await, "at once");
    let mut again = server.connect(with("stays away", "after the crash", 0)).await;
    again.subscribe("b", 1).await;
    server.crash();
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    assert_eq!(watcher.take().await, "after the crash");
    server.connect(Hello::kept("returns", 5)).await.disconnect(None).await;
    server.pass(2000);
    server.restart().await;
    let mut watcher = server.connect(Hello::kept("watcher", 5)).await;
    watcher.ping().await;
}

/// Of two subscriptions that want an event one delivers it, if it has it: the younger
/// one has not got what is older.
#[tokio::test]
async fn mqtt_3_3_4_overlapping_subscriptions_lose_nothing_over_a_crash() {
    let mut server = Server::start().await;
    let slow = Hello { receive_max: 1, ..Hello::kept("c", 5) };
    let mut client = server.connect(slow).await;
    client.subscribe("a/#", 1).await;
    for text in ["1", "2", "3"] {
        server.publish("a/b", text).await;
    }
    assert_eq!(client.got().await.text, "1");
    assert_eq!(client.subscribe("a/b", 2).await, 2);
    server.publish("a/b", "4").await;
    server.publish("a/c", "5").await;
    server.crash();
    let mut client = server.connect(Hello::kept("c", 5)).await;
    let mut found = Vec::new();
    for _ in 0..5 {
        found.push(client.take().await);
    }
    client.ping().await;
    found.sort_unstable();
    assert_eq!(found, ["1", "2", "3", "4", "5"]);
}

/// A shared subscription is that of its group: it stays as long as one of the sessions.
#[tokio::test]
async fn mqtt_4_8_2_a_shared_subscription_outlives_a_crash() {
    let mut server = Server::start().await;
    let mut one = server.connect(Hello::kept("one", 5)).await;
    let mut two = server.connect(Hello::kept("two", 5)).await;
    for client in [&mut one, &mut two] {
        assert_eq!(client.subscribe("$share/g/jobs/#", 1).await, 1);
    }
    one.disconnect(None).await;
    two.disconnect(None).await;
    server.publish("jobs/1", "for one of both").await;
    server.crash();
    let mut one = server.connect(Hello::kept("one", 5)).await;
    assert_eq!(one.take().await, "for one of both");
    one.disconnect(Some(0)).await;
    server.has_sessions(1).await;
    server.publish("jobs/2", "for the other").await;
    server.crash();
    let mut two = server.connect(Hello::kept("two", 5)).await;
    assert_eq!(two.take().await, "for the other");
    two.disconnect(Some(0)).await;
    server.is_empty().await;
}

/// Whatever clients are called, none gets what is another's.
#[tokio::test]
async fn names_with_slashes_are_told_apart() {
    let mut server = Server::start().await;
    let names = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c"), ("A", "b/c")];
    for (id, filter) in names {
        let mut client = server.connect(Hello::kept(id, 5)).await;
        assert_eq!(client.subscribe(filter, 1).await, 1);
        client.disconnect(None).await;
    }
    server.publish("b/c", "first").await;
    server.publish("c", "second").await;
    server.crash();
    for (id, filter) in names {
        let mut client = server.connect(Hello::kept(id, 5)).await;
        let expected = if filter == "c" { "second" } else { "first" };
        assert_eq!(client.take().await, expected, "{id}");
        client.ping().await;
    }
}

/// What cannot be read is left out and removed, and all else is there.
#[tokio::test]
async fn records_that_cannot_be_read_cost_nobody_else_anything() {
    let mut server = Server::start().await;
    for id in ["good", "bad"] {
        let mut client: Client = server.connect(Hello::kept(id, 5)).await;
        client.subscribe("a", 1).await;
        client.disconnect(None).await;
    }
    server.end().await;
    let store = rusqlite::Connection::open(server.store()).unwrap();
    // The second session's subscription, and records of nobody and of nothing.
    let changed = store.execute(
        "UPDATE record SET value = x'0107' WHERE id = (SELECT max(id) FROM record WHERE kind = 3)",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    for (kind, key, value) in [
        (2, "short", ""),
        (2, "12345678", "\u{9}x"),
        (3, "00000000nobody", ""),
        (5, "0000000012", ""),
    ] {
        let sql = "INSERT INTO record (kind, key, value) VALUES (?1, ?2, ?3)";
        store.execute(sql, (kind, key.as_bytes(), value.as_bytes())).unwrap();
    }
    drop(store);
    server.begin();
    assert!(server.connect(Hello::kept("good", 5)).await.is_present);
    assert!(!server.connect(Hello::kept("bad", 5)).await.is_present);
    for id in ["good", "bad"] {
        server.connect(Hello::kept(id, 5)).await.disconnect(Some(0)).await;
    }
    server.is_empty().await;
}

/// What cannot be kept is not said to be, and nothing else is lost by that.
#[tokio::test]
async fn mqtt_3_9_3_on_a_disk_that_is_full_clients_get_their_reason_codes() {
    let disk = SqliteDisk::new();
    let mut server = Server::on(Some(disk));
    let mut client = server.connect(Hello::kept("c", 5)).await;
    assert_eq!(client.subscribe("a", 1).await, 1);
    assert_eq!(client.subscribe("b", 1).await, 1);
    let mut passing = server.visitor().await;
    disk.fail(Fault::Full, 0);
    assert_eq!(client.subscribe("c", 1).await, 0x80);
    assert_eq!(client.subscribe("a", 0x29).await, 0x80);
    assert_eq!(client.unsubscribe("b").await, 0x80);
    client.publish(3, 5, "r", "retained").await;
    assert_eq!(client.answered(0x40, 5).await, 0x80);
    client.publish(4, 6, "a", "event").await;
    assert_eq!(client.answered(0x50, 6).await, 0x80);
    let running = server.running();
    let refused = Client::try_connect(running.port, Hello::kept("d", 5)).await;
    assert_eq!(refused.err(), Some(0x89));
    // Who needs nothing of the disk notices nothing.
    passing.subscribe("e", 0).await;
    passing.publish(0, 0, "e", "still here").await;
    assert_eq!(passing.take().await, "still here");
    disk.heal();
    // What was noted meanwhile is kept as soon as that can be.
    assert_eq!(client.subscribe("f", 1).await, 1);
    client.publish(4, 6, "a", "event").await;
    assert_eq!(client.answered(0x50, 6).await, 0);
    assert_eq!(client.take().await, "event");
    server.disk = None;
    server.crash();
    let mut client = server.connect(Hello::kept("c", 5)).await;
    assert!(client.is_present);
    for topic in ["b", "c"] {
        server.publish(topic, "for nobody").await;
    }
    server.publish("f", "the last one").await;
    let mut text = client.take().await;
    if text == "event" {
        text = client.take().await;
    }
    assert_eq!(text, "the last one");
    assert_eq!(client.subscribe("r", 0).await, 0);
    assert_eq!(client.take().await, "retained");
}

/// What a disk that failed has left with the broker goes at the next start, and nothing of
/// anybody else.
#[tokio::test]
async fn subscriptions_of_nobody_are_removed() {
    let mut server = Server::start().await;
    let mut client = server.connect(Hello::kept("c", 5)).await;
    client.subscribe("a/b", 1).await;
    client.subscribe("c", 1).await;
    // A component's, whatever it is called.
    let theirs = SubscribeRequest {
        label: "mqtt/a/b".into(),
        filter: TopicFilter::new("a/b").unwrap(),
        group: None,
        qos: Qos::AtLeastOnce,
        order: Order::None,
        event_filter: None,
        start: Start::New,
        is_temporary: false,
        max_in_flight: 10,
        max_in_flight_bytes: 1 << 20,
        group_max_in_flight: None,
        share: Share::new(&Budget::unbounded()),
        backlog_bound: None,
        not_from: None,
        ready: Ready(Arc::new(|| {})),
    };
    drop(server.running().broker.subscribe(theirs).await.unwrap());
    server.end().await;
    let store = rusqlite::Connection::open(server.store()).unwrap();
    store.execute("DELETE FROM record", []).unwrap();
    let names = || -> Vec<String> {
        let mut statement = store.prepare("SELECT name FROM subscription ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(names(), ["mqtt/a/b", "mqtt/c/a/b", "mqtt/c/c"]);
    server.begin();
    assert!(!server.connect(Hello::kept("c", 5)).await.is_present);
    assert_eq!(names(), ["mqtt/a/b"]);
}

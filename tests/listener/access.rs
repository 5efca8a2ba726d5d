//! Who is let in, and what it may do.

use crate::packets::{Connect, PUBACK, Publish, Will, subscribe_v4};
use crate::world::{Bystander, Raw, World};
use std::sync::Arc;
use std::time::Duration;
use wasi_pubsub::listener::{Door, Rule, Settings, Users, hash};

/// Ann has a password.
fn with_ann(settings: &mut Settings) {
    let line = format!("ann:{}\n", hash(b"secret", [7; 16]).unwrap());
    settings.access.users = Some(Arc::new(Users::read(&line).unwrap()));
}

fn as_user(connect: Connect, user: &'static str, password: &'static str) -> Connect {
    Connect { user: Some(user), password: Some(password), ..connect }
}

/// A listener that lets nobody in who does not say who it is.
fn strict(change: impl FnOnce(&mut Settings)) -> World {
    let mut world = World::with(change);
    world.door = Arc::new(Door::default());
    world
}

#[tokio::test]
async fn mqtt_3_1_4_2_who_is_not_who_it_says_is_refused() {
    let world = strict(with_ann);
    for (connect, five, four) in [
        (as_user(Connect::v5(""), "ann", "wrong"), 0x86, 4),
        (as_user(Connect::v5(""), "bob", "secret"), 0x86, 4),
        (Connect { user: Some("ann"), ..Connect::v5("") }, 0x86, 4),
        (Connect::v5(""), 0x87, 5),
    ] {
        assert_eq!(world.refused(&connect).await, five);
        let old = Connect { level: 4, ..connect };
        assert_eq!(world.refused(&old).await, four);
    }
    // A password alone is nobody's.
    let alone = Connect { password: Some("secret"), ..Connect::v5("") };
    assert_eq!(world.refused(&alone).await, 0x87);
    for connect in [Connect::v5("a"), Connect::v4("b")] {
        world.client(&as_user(connect, "ann", "secret")).await.goodbye().await;
    }
    assert_eq!(world.figures().authentication_failures_total, 6);
    world.until_alone(0).await;
}

#[tokio::test]
async fn many_wrong_passwords_hold_up_nobody_from_elsewhere() {
    let world = strict(with_ann);
    let from = |last| Some([10, 0, 0, last].into());
    let mut flood: Vec<Raw> = Vec::new();
    for number in 0..300 {
        let mut client = world.knock_from(from(1), 4096);
        let connect = as_user(Connect::v5(&format!("f{number}")), "ann", "wrong");
        client.send(connect.bytes()).await;
        flood.push(client);
    }
    let mut client = world.knock_from(from(2), 4096);
    let connack = client.connect(&as_user(Connect::v5("ann"), "ann", "secret")).await;
    assert_eq!(connack.reason, 0);
    let failed = world.figures().authentication_failures_total;
    assert!(failed < 20, "{failed} came before");
    // Who was let in once is not kept waiting at all, wherever it comes from.
    let mut again = world.knock_from(from(1), 4096);
    assert_eq!(again.connect(&as_user(Connect::v5("again"), "ann", "secret")).await.reason, 0);
    let failed = world.figures().authentication_failures_total;
    assert!(failed < 20, "{failed} came before");
    drop(flood);
}

#[tokio::test]
async fn who_waits_too_long_for_its_password_is_told_that_the_server_is_busy() {
    let world = strict(|settings| {
        with_ann(settings);
        settings.limits.connect_time_max = Duration::from_secs(1);
    });
    let mut flood: Vec<Raw> = Vec::new();
    // More than can be checked in a second, one by one.
    for number in 0..2000 {
        let mut client = world.knock();
        let connect = as_user(Connect::v5(&format!("f{number}")), "ann", "wrong");
        client.send(connect.bytes()).await;
        flood.push(client);
    }
    let (mut wrong, mut busy) = (0, 0);
    for mut client in flood {
        match client.expect(0x20).await.body[1] {
            0x86 => wrong += 1,
            0x89 => busy += 1,
            reason => panic!("{reason:x}"),
        }
        client.closed().await;
    }
    assert!(wrong > 0 && busy > 0, "{wrong} wrong, {busy} not looked at");
    world.until_alone(0).await;
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_3_5_and_3_9_3_rules_are_held_with_their_reason_codes() {
    let world = World::with(|settings| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let rule = Rule {
            publish: texts(&["dev/{client_id}/#"]),
            subscribe: texts(&["news/#", "dev/{client_id}/#", "by/#"]),
            deny_subscribe: texts(&["news/secret"]),
            ..Rule::default()
        };
        let bystander = Rule {
            client_ids: Some(["bystander".to_owned()].into()),
            publish: texts(&["#"]),
            ..Rule::default()
        };
        settings.access.rules = vec![rule, bystander];
    });
    let mut bystander = Bystander::new(&world).await;
    let mut client = world.client(&Connect::v5("d1")).await;
    let wanted = [("news/#", 1), ("#", 0), ("dev/d1/x", 0), ("dev/d2/x", 0), ("$share/g/#", 0)];
    assert_eq!(client.subscribe(&wanted).await, [1, 0x87, 0, 0x87, 0x87]);
    assert_eq!(client.deliver(Publish::v5("dev/d2/x", "x", 1, 1)).await, 0x87);
    assert_eq!(client.deliver(Publish::v5("news/x", "x", 1, 2)).await, 0x87);
    client.send(Publish::v5("dev/d1/x", "own", 1, 3).bytes()).await;
    let frames = [client.frame().await, client.frame().await];
    assert!(frames.iter().any(|frame| frame.header == PUBACK && frame.reason() == 0));
    // What is denied is not delivered, though a wider filter is subscribed to.
    let mut other = world.client(&Connect::v5("bystander2")).await;
    assert_eq!(other.deliver(Publish::v5("news/x", "x", 1, 1)).await, 0x87);
    bystander.publish(Publish::v5("news/secret", "x", 1, 5)).await;
    bystander.publish(Publish::v5("news/open", "x", 1, 6)).await;
    assert_eq!(client.publish().await.topic, "news/open");
    // MQTT 3.1.1 has one word for all of it.
    let mut old = world.client(&Connect::v4("d4")).await;
    old.send(subscribe_v4(1, &[("#", 0), ("news/#", 0)])).await;
    assert_eq!(old.expect(0x90).await.body, [0, 1, 0x80, 0]);
    // A will is a publish.
    let will = Will { topic: "news/x", payload: "x", flags: 0, properties: Vec::new() };
    let connect = Connect { will: Some(will), ..Connect::v5("d5") };
    assert_eq!(world.refused(&connect).await, 0x87);
    // Nor does a name with a `/` or a wildcard in it reach further.
    for name in ["d1/x", "+", "#", ""] {
        let mut client = world.client(&Connect::v5(name)).await;
        assert_eq!(client.deliver(Publish::v5("dev/d1/x", "x", 1, 1)).await, 0x87, "{name}");
        client.goodbye().await;
    }
}

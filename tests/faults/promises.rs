//! What is said to be done is done, even where the link stands still.

use crate::support::*;
use std::time::Duration;
use testkit::{Mosquitto, Proxy};
use wasi_pubsub::broker::{BrokerError, Exhausted, SubscriptionSettings, Topic, Verdict};

const MOMENT: Duration = Duration::from_millis(500);

/// Nothing passes: no publish is confirmed, and none is forgotten either.
async fn only_the_broker_confirms_a_publish(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let witness = connect(&mosquitto.url(), version, "witness");
    let seen = subscribe(&witness, on("t", QOS_1)).await;
    let host = connect(&proxy.url(), version, "host");
    publish(&host, "elsewhere", event("connected"), QOS_1).await.unwrap();
    proxy.hold();
    for qos in [QOS_1, QOS_2] {
        let held = publish_within(&host, "t", event("given up"), qos, MOMENT).await;
        assert!(matches!(held, Err(BrokerError::Unavailable(_))), "qos {qos}: {held:?}");
    }
    let waiting = {
        let host = host.clone();
        tokio::spawn(async move { publish(&host, "t", event("kept"), QOS_1).await })
    };
    proxy.release();
    testkit::within("the publish", waiting).await.unwrap().unwrap();
    // What was given up may arrive as well; what was confirmed has to.
    let mut last = String::new();
    while last != "kept" {
        let lease = take(&seen).await;
        last = lease.event().id.clone();
        lease.settle(Verdict::Ack);
    }
}

/// A host that dies between a reject and its dead letter leaves one of the two.
async fn a_rejected_event_or_its_letter_is_there(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let settings = SubscriptionSettings {
        exhausted: Exhausted::DeadLetter(Topic::new("dead").unwrap()),
        ..on("t", QOS_1)
    };
    let witness = connect(&mosquitto.url(), version, "witness");
    let letters = subscribe(&witness, on("dead", QOS_1)).await;
    let host = connect(&proxy.url(), version, "host");
    let subscription = subscribe(&host, settings.clone()).await;
    publish(&witness, "t", event("bad"), QOS_1).await.unwrap();
    let lease = take(&subscription).await;

    proxy.hold();
    let reject = Verdict::Reject { reason: "no".to_owned() };
    let confirmed = tokio::time::timeout(MOMENT, lease.confirm(reject)).await;
    assert!(confirmed.is_err(), "the letter cannot have been stored: {confirmed:?}");
    let stats = subscription.stats();
    assert_eq!((stats.dead_lettered, stats.waiting), (0, 1), "{stats:?}");
    drop((host, subscription));
    proxy.cut();
    proxy.release();

    // No letter is there, so the event comes again.
    publish(&witness, "dead", event("marker"), QOS_1).await.unwrap();
    handle(&letters, "marker").await;
    let host = connect(&proxy.url(), version, "host");
    let subscription = subscribe(&host, settings).await;
    handle(&subscription, "bad").await;
}

/// The broker refuses the dead letter: its event stays unacknowledged. (At MQTT
/// 3.1.1 a broker cannot refuse: mosquitto drops the letter and confirms it.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_dead_letter_keeps_its_event() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    std::fs::write(&rules, "topic readwrite t\n").unwrap();
    let mosquitto =
        Mosquitto::builder().line(&format!("acl_file {}", rules.display())).start().await;
    let settings = SubscriptionSettings {
        exhausted: Exhausted::DeadLetter(Topic::new("dead").unwrap()),
        ..on("t", QOS_1)
    };
    let host = connect(&mosquitto.url(), Version::V5, "host");
    let subscription = subscribe(&host, settings.clone()).await;
    publish(&host, "t", event("bad"), QOS_1).await.unwrap();
    publish(&host, "t", event("good"), QOS_1).await.unwrap();
    take(&subscription).await.settle(Verdict::Reject { reason: "no".to_owned() });
    // Others are handled meanwhile.
    handle(&subscription, "good").await;
    let stats = subscription.stats();
    assert_eq!((stats.dead_lettered, stats.waiting), (0, 1), "{stats:?}");
    part(host, subscription).await;

    let host = connect(&mosquitto.url(), Version::V5, "host");
    let subscription = subscribe(&host, settings).await;
    handle(&subscription, "bad").await;
}

both_versions!(only_the_broker_confirms_a_publish, a_rejected_event_or_its_letter_is_there);

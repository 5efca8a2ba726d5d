//! The link is cut every 120 ms while 2000 events are received.

use crate::support::*;
use std::sync::Arc;
use std::time::Duration;
use testkit::{Cutter, DEADLINE, Mosquitto, Proxy, eventually, within};
use wasi_pubsub::broker::{Qos, Subscription, Verdict};

const EVENTS: usize = 2000;
const CUTS: usize = 20;
const INTERVAL: Duration = Duration::from_millis(120);
const LATENCY: Duration = Duration::from_millis(5);
/// How long a handler has an event in hand, and how many handlers there are:
/// at every moment some are unacknowledged.
const IN_HAND: Duration = Duration::from_millis(10);
const HANDLERS: usize = 12;

fn cut_while_in_hand(proxy: &Proxy, subscription: &Arc<Subscription>) -> Cutter {
    let subscription = subscription.clone();
    proxy.cut_every(INTERVAL, move || subscription.stats().in_flight > 0)
}

async fn cut(version: Version, qos: Qos) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::with_latency(mosquitto.address(), LATENCY).await;
    let host = connect(&proxy.url(), version, "host");
    let subscription = subscribe(&host, on("cuts", qos)).await;
    let handled = Tally::of(&subscription, HANDLERS, IN_HAND);

    let publisher = connect(&mosquitto.url(), version, "publisher");
    let cutter = cut_while_in_hand(&proxy, &subscription);
    // Not further ahead than what 20 cuts need, or the end takes long.
    let mut sent = Vec::new();
    while sent.len() < EVENTS || cutter.cuts_that_hurt() < CUTS {
        let id = format!("e{}", sent.len());
        publish(&publisher, "cuts", event(&id), qos).await.unwrap();
        sent.push(id);
        if sent.len() >= EVENTS {
            eventually(LONG, "the handlers keep up", || handled.len() + 100 > sent.len()).await;
        }
    }
    eventually(LONG, "all events were handled", || handled.len() >= sent.len()).await;
    let cuts = cutter.cuts_that_hurt();
    drop(cutter);
    assert!(cuts >= CUTS, "{cuts} cuts");

    publish(&publisher, "cuts", event("last"), qos).await.unwrap();
    handled.wait_for("last").await;
    handled.assert_all(&sent);
    if qos == QOS_2 {
        handled.assert_once();
    }
    // Everything is acknowledged: the next session of the same gets none of it.
    part(host, subscription).await;
    drop(handled);
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("cuts", qos)).await;
    publish(&publisher, "cuts", event("marker"), qos).await.unwrap();
    handle(&subscription, "marker").await;
}

async fn qos_1_with_a_kept_session(version: Version) {
    cut(version, QOS_1).await;
}

async fn qos_2_with_a_kept_session(version: Version) {
    cut(version, QOS_2).await;
}

/// A clean session misses what is published while it is away, as that means;
/// after each cut it goes on, and at qos 2 nothing is handled twice.
async fn a_clean_session_goes_on(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::with_latency(mosquitto.address(), LATENCY).await;
    let mut settings = settings(&proxy.url(), version);
    settings.clean_session = true;
    let host = connect_with(settings, "host");
    let subscription = subscribe(&host, on("cuts", QOS_2)).await;
    let handled = Tally::of(&subscription, HANDLERS, IN_HAND);

    let publisher = connect(&mosquitto.url(), version, "publisher");
    let cutter = cut_while_in_hand(&proxy, &subscription);
    let publishing = Publishing::start(&publisher, "cuts", QOS_2, 1);
    eventually(LONG, "enough cuts", || cutter.cuts_that_hurt() >= CUTS).await;
    drop(cutter);
    publishing.finish().await;

    // Once one gets through, the link stands, and all after it do.
    let mut number = 0;
    while !handled.has(&format!("probe{number}")) {
        number += 1;
        let probe = format!("probe{number}");
        publish(&publisher, "cuts", event(&probe), QOS_2).await.unwrap();
        let patience = tokio::time::Instant::now() + Duration::from_secs(1);
        while !handled.has(&probe) && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(number < 60, "after the cuts nothing arrives any more");
    }
    let sent: Vec<_> = (0..200).map(|number| format!("after{number}")).collect();
    for id in &sent {
        publish(&publisher, "cuts", event(id), QOS_2).await.unwrap();
    }
    handled.wait_for("after199").await;
    handled.assert_all(&sent);
    handled.assert_once();
}

/// The broker repeats what is in hand once the link is back: it starts no second
/// handler, and the verdict of the first counts.
async fn what_is_in_hand_is_not_handed_out_again(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let publisher = connect(&mosquitto.url(), version, "publisher");
    for qos in [QOS_1, QOS_2] {
        let identity = format!("host at qos {qos}");
        let host = connect(&proxy.url(), version, &identity);
        let subscription = subscribe(&host, on("t", qos)).await;
        publish(&publisher, "t", event("in hand"), qos).await.unwrap();
        let lease = take(&subscription).await;
        for fence in ["1", "2", "3"] {
            let connections = proxy.accepted();
            assert!(proxy.cut());
            eventually(DEADLINE, "the host is back", || proxy.accepted() > connections).await;
            publish(&publisher, "t", event(fence), qos).await.unwrap();
            handle(&subscription, fence).await;
        }
        within("the confirmation", lease.confirm(Verdict::Ack)).await.unwrap();
        part(host, subscription).await;

        let host = connect(&proxy.url(), version, &identity);
        let subscription = subscribe(&host, on("t", qos)).await;
        publish(&publisher, "t", event("marker"), qos).await.unwrap();
        handle(&subscription, "marker").await;
        part(host, subscription).await;
    }
}

both_versions!(
    qos_1_with_a_kept_session,
    qos_2_with_a_kept_session,
    a_clean_session_goes_on,
    what_is_in_hand_is_not_handed_out_again,
);

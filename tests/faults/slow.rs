//! Handlers that take longer than the keep-alive.

use crate::support::*;
use std::time::Duration;
use testkit::{Mosquitto, Proxy, within};
use wasi_pubsub::broker::{SubscriptionSettings, Verdict};

const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The broker gives a silent client up after one and a half keep-alives.
const SLOW: Duration = Duration::from_secs(4);

/// An event is in hand for longer than the keep-alive: the connection stands.
async fn one_in_hand_does_not_break_the_link(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut settings = settings(&proxy.url(), version);
    settings.keep_alive = KEEP_ALIVE;
    let host = connect_with(settings, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    let publisher = connect(&mosquitto.url(), version, "publisher");
    publish(&publisher, "t", event("slow"), QOS_1).await.unwrap();

    let lease = take(&subscription).await;
    let connections = proxy.accepted();
    tokio::time::sleep(SLOW).await;
    // Others are served meanwhile.
    publish(&publisher, "t", event("quick"), QOS_1).await.unwrap();
    handle(&subscription, "quick").await;
    within("the confirmation", lease.confirm(Verdict::Ack)).await.unwrap();
    assert_eq!(proxy.accepted(), connections, "the link was lost meanwhile");
    publish(&publisher, "t", event("marker"), QOS_1).await.unwrap();
    handle(&subscription, "marker").await;
}

/// As many as may be are in hand, and more wait at the broker.
async fn all_in_hand_loses_nothing(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut settings = settings(&proxy.url(), version);
    settings.keep_alive = KEEP_ALIVE;
    let host = connect_with(settings, "host");
    let bounded = SubscriptionSettings { max_in_flight: 2, ..on("t", QOS_1) };
    let subscription = subscribe(&host, bounded).await;
    let publisher = connect(&mosquitto.url(), version, "publisher");
    for id in ["1", "2", "3", "4", "5"] {
        publish(&publisher, "t", event(id), QOS_1).await.unwrap();
    }
    let leases = [take(&subscription).await, take(&subscription).await];
    let connections = proxy.accepted();
    tokio::time::sleep(SLOW).await;
    assert!(subscription.try_next().unwrap().is_none(), "no more than two may be out");
    // MQTT 3.1.1 has no receive-maximum: there the link may have to give way.
    if version == Version::V5 {
        assert_eq!(proxy.accepted(), connections, "the link was lost meanwhile");
    }
    for lease in leases {
        within("the confirmation", lease.confirm(Verdict::Ack)).await.unwrap();
    }
    for id in ["3", "4", "5"] {
        handle(&subscription, id).await;
    }
    publish(&publisher, "t", event("marker"), QOS_1).await.unwrap();
    handle(&subscription, "marker").await;
}

/// A link on which nothing passes any more is given up by the keep-alive.
async fn a_black_hole_is_noticed(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    let mut settings = settings(&proxy.url(), version);
    settings.keep_alive = KEEP_ALIVE;
    let host = connect_with(settings, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    let connections = proxy.accepted();
    proxy.hold();
    let publisher = connect(&mosquitto.url(), version, "publisher");
    publish(&publisher, "t", event("1"), QOS_1).await.unwrap();
    testkit::eventually(testkit::DEADLINE, "the host connects again", || {
        proxy.accepted() > connections
    })
    .await;
    proxy.release();
    handle(&subscription, "1").await;
}

both_versions!(
    one_in_hand_does_not_break_the_link,
    all_in_hand_loses_nothing,
    a_black_hole_is_noticed
);

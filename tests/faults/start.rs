//! The broker is not there yet, or refuses for now.

use crate::support::*;
use std::time::Duration;
use testkit::{Mosquitto, Proxy, capture_logs, within};
use wasi_pubsub::broker::BrokerError;

/// The host may be there before its broker.
async fn a_broker_that_comes_later_is_found(version: Version) {
    let logs = capture_logs();
    let mut mosquitto = Mosquitto::start().await;
    mosquitto.kill();
    let identity = format!("early-{}", mosquitto.port());
    let host = connect(&mosquitto.url(), version, &identity);
    let subscribing = {
        let host = host.clone();
        tokio::spawn(async move { host.subscribe(on("t", QOS_1)).await })
    };
    let patient = {
        let host = host.clone();
        tokio::spawn(async move { publish(&host, "elsewhere", event("patient"), QOS_1).await })
    };
    let soon = Duration::from_millis(500);
    let impatient = publish_within(&host, "t", event("impatient"), QOS_1, soon).await;
    assert!(matches!(impatient, Err(BrokerError::Unavailable(_))), "{impatient:?}");
    assert!(!subscribing.is_finished() && !patient.is_finished(), "an outage is no error");

    mosquitto.restart().await;
    let subscription = within("the subscription", subscribing).await.unwrap().unwrap();
    within("the publish", patient).await.unwrap().unwrap();
    publish(&host, "t", event("1"), QOS_1).await.unwrap();
    let first = take(&subscription).await;
    // Given up is not undone: it may still arrive.
    let id = first.event().id.clone();
    assert!(id == "1" || id == "impatient", "{id}");

    // Two sessions wait for one broker, and that is said once.
    let broker = format!(":{}", mosquitto.port());
    let warnings = logs.count(&["WARN", &broker]);
    assert_eq!(warnings, 1, "{}", logs.lines().join("\n"));
}

/// A link that closes each connection at once, for a while.
async fn a_broker_that_hangs_up_is_tried_again(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let proxy = Proxy::start(mosquitto.address()).await;
    proxy.refuse(true);
    let host = connect(&proxy.url(), version, "host");
    let subscribing = {
        let host = host.clone();
        tokio::spawn(async move { host.subscribe(on("t", QOS_1)).await })
    };
    testkit::eventually(testkit::DEADLINE, "several tries", || proxy.accepted() >= 4).await;
    proxy.refuse(false);
    let subscription = within("the subscription", subscribing).await.unwrap().unwrap();
    publish(&host, "t", event("1"), QOS_1).await.unwrap();
    handle(&subscription, "1").await;
}

/// Closing does not wait for a broker that is not there.
async fn the_end_comes_without_a_broker(version: Version) {
    let mut mosquitto = Mosquitto::start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    publish(&host, "t", event("1"), QOS_1).await.unwrap();
    let lease = take(&subscription).await;
    mosquitto.kill();
    lease.settle(wasi_pubsub::broker::Verdict::Ack);
    subscription.stop();
    within("the drain", subscription.drained()).await;
    within("the end", host.close(Duration::from_secs(1))).await;
}

both_versions!(
    a_broker_that_comes_later_is_found,
    a_broker_that_hangs_up_is_tried_again,
    the_end_comes_without_a_broker,
);

//! The broker goes away in the middle, and comes back.

use crate::support::*;
use std::time::Duration;
use testkit::{DEADLINE, Mosquitto, Proxy};
use wasi_pubsub::broker::Qos;

const ROUNDS: usize = 4;
const EVENTS_A_ROUND: usize = 200;

/// SIGTERM, on which mosquitto writes its file.
async fn restarted(version: Version, qos: Qos) {
    let mut mosquitto = Mosquitto::builder().persistence().start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", qos)).await;
    let handled = Tally::of(&subscription, 4, Duration::from_millis(1));
    let publisher = connect(&mosquitto.url(), version, "publisher");
    let publishing = Publishing::start(&publisher, "t", qos, 8);
    for _ in 0..ROUNDS {
        publishing.go_on_for(EVENTS_A_ROUND).await;
        mosquitto.stop().await;
        mosquitto.restart().await;
    }
    publishing.go_on_for(EVENTS_A_ROUND).await;
    let sent = publishing.finish().await;
    publish(&publisher, "t", event("last"), qos).await.unwrap();
    handled.wait_for("last").await;
    handled.assert_all(&sent);
    if qos == QOS_2 {
        handled.assert_once();
    }
}

async fn restarted_at_qos_1(version: Version) {
    restarted(version, QOS_1).await;
}

async fn restarted_at_qos_2(version: Version) {
    restarted(version, QOS_2).await;
}

/// SIGKILL. Mosquitto writes its file only now and then: so that it hasn't
/// confirmed more than the file holds, the link stands still while it writes.
/// Whatever is on its way then, in both directions, is lost with it.
async fn killed(version: Version, qos: Qos) {
    let mut mosquitto = Mosquitto::builder().persistence().start().await;
    let proxy = Proxy::with_latency(mosquitto.address(), Duration::from_millis(2)).await;
    let host = connect(&proxy.url(), version, "host");
    let subscription = subscribe(&host, on("t", qos)).await;
    let handled = Tally::of(&subscription, 4, Duration::from_millis(1));
    let publisher = connect(&proxy.url(), version, "publisher");
    let publishing = Publishing::start(&publisher, "t", qos, 8);
    let is_waiting = publishing.is_waiting();
    for _ in 0..ROUNDS {
        publishing.go_on_for(EVENTS_A_ROUND).await;
        proxy.hold();
        testkit::eventually(DEADLINE, "an event is unconfirmed", &is_waiting).await;
        mosquitto.idle().await;
        mosquitto.save().await;
        mosquitto.kill();
        proxy.cut();
        proxy.release();
        mosquitto.restart().await;
    }
    publishing.go_on_for(EVENTS_A_ROUND).await;
    let sent = publishing.finish().await;
    publish(&publisher, "t", event("last"), qos).await.unwrap();
    handled.wait_for("last").await;
    handled.assert_all(&sent);
    if qos == QOS_2 {
        handled.assert_once();
    }
}

async fn killed_at_qos_1(version: Version) {
    killed(version, QOS_1).await;
}

async fn killed_at_qos_2(version: Version) {
    killed(version, QOS_2).await;
}

/// A broker that has forgotten everything: what it had confirmed is lost with
/// it, but every publish is confirmed in the end, and subscriptions come back.
async fn a_broker_that_forgot_everything_is_told_again(version: Version) {
    let mut mosquitto = Mosquitto::start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", QOS_2)).await;
    let handled = Tally::of(&subscription, 4, Duration::from_millis(1));
    let publisher = connect(&mosquitto.url(), version, "publisher");
    let publishing = Publishing::start(&publisher, "t", QOS_2, 8);
    for _ in 0..ROUNDS {
        publishing.go_on_for(EVENTS_A_ROUND).await;
        mosquitto.kill();
        mosquitto.restart().await;
    }
    publishing.go_on_for(EVENTS_A_ROUND).await;
    publishing.finish().await;
    let mut number = 0;
    while handled.len() == 0 || !handled.has(&format!("probe{number}")) {
        number += 1;
        let probe = format!("probe{number}");
        publish(&publisher, "t", event(&probe), QOS_2).await.unwrap();
        let patience = tokio::time::Instant::now() + Duration::from_secs(1);
        while !handled.has(&probe) && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(number < 60, "after the restarts nothing arrives any more");
    }
    handled.assert_once();
}

both_versions!(
    restarted_at_qos_1,
    restarted_at_qos_2,
    killed_at_qos_1,
    killed_at_qos_2,
    a_broker_that_forgot_everything_is_told_again,
);

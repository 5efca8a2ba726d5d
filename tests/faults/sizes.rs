//! Large events, and events that are too large.

use crate::support::*;
use std::time::Duration;
use testkit::Mosquitto;
use wasi_pubsub::broker::{BrokerError, Qos, Verdict};

const MIB: usize = 1024 * 1024;

async fn a_mebibyte_passes(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", QOS_2)).await;
    for qos in [Qos::AtMostOnce, QOS_1, QOS_2] {
        let sent = sized_event(&format!("at {qos}"), MIB);
        publish(&host, "t", sent.clone(), qos).await.unwrap();
        let lease = take(&subscription).await;
        assert!(**lease.event() == sent, "1 MiB at qos {qos} came back changed");
        testkit::within("the confirmation", lease.confirm(Verdict::Ack)).await.unwrap();
    }
}

/// MQTT 5 says what the broker takes; MQTT 3.1.1 doesn't, and the broker hangs
/// up. In both cases the one event fails, and no other.
async fn what_the_broker_does_not_take_fails_alone(version: Version) {
    let mosquitto = Mosquitto::builder().max_packet_bytes(100_000).start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    for qos in [QOS_1, QOS_2] {
        let publishing = Publishing::start(&host, "t/others", qos, 4);
        publishing.go_on_for(50).await;
        let large = sized_event("large", 200_000);
        let error =
            publish_within(&host, "t", large, qos, Duration::from_secs(5)).await.unwrap_err();
        if version == Version::V5 {
            assert!(matches!(error, BrokerError::TooLarge { limit: 1..=100_000 }), "{error:?}");
        }
        publishing.go_on_for(50).await;
        publishing.finish().await;
    }
    publish(&host, "t", event("small"), QOS_1).await.unwrap();
    handle(&subscription, "small").await;
}

/// What the host does not take doesn't stop the session.
async fn what_the_host_does_not_take_is_left_out(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let mut settings = settings(&mosquitto.url(), version);
    settings.packet_bytes_max = 100_000;
    let host = connect_with(settings, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    let publisher = connect(&mosquitto.url(), version, "publisher");
    for qos in [Qos::AtMostOnce, QOS_1, QOS_2] {
        publish(&publisher, "t", sized_event("large", 200_000), qos).await.unwrap();
        publish(&publisher, "t", event("small"), qos).await.unwrap();
        handle(&subscription, "small").await;
    }
}

both_versions!(
    a_mebibyte_passes,
    what_the_broker_does_not_take_fails_alone,
    what_the_host_does_not_take_is_left_out,
);

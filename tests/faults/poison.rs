//! An event that makes the broker hang up must not stop all others.

use crate::support::*;
use std::time::Duration;
use testkit::Mosquitto;

/// Mosquitto takes no topic of more than 200 levels: it hangs up.
async fn a_topic_that_the_broker_hangs_up_on_fails_alone(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let host = connect(&mosquitto.url(), version, "host");
    let subscription = subscribe(&host, on("t", QOS_1)).await;
    let deep = vec!["x"; 300].join("/");
    for qos in [QOS_1, QOS_2] {
        let publishing = Publishing::start(&host, "others", qos, 4);
        publishing.go_on_for(50).await;
        let refused = publish_within(&host, &deep, event("1"), qos, Duration::from_secs(5)).await;
        refused.unwrap_err();
        publishing.go_on_for(50).await;
        publishing.finish().await;
    }
    publish(&host, "t", event("marker"), QOS_1).await.unwrap();
    handle(&subscription, "marker").await;
}

both_versions!(a_topic_that_the_broker_hangs_up_on_fails_alone);

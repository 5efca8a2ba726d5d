//! Two hosts under one identity.

use crate::support::*;
use std::sync::Arc;
use testkit::{DEADLINE, Mosquitto, within};
use wasi_pubsub::broker::{BrokerError, Subscription, Verdict};

/// Takes what comes; why it ended.
fn serve(subscription: &Arc<Subscription>) -> tokio::task::JoinHandle<BrokerError> {
    let subscription = subscription.clone();
    tokio::spawn(async move {
        loop {
            match subscription.next().await {
                Ok(lease) => lease.settle(Verdict::Ack),
                Err(error) => return error,
            }
        }
    })
}

/// One of the two ends with an error that says why, instead of both taking the
/// session from each other for ever; the other one goes on. Which one it is
/// depends on the broker: mosquitto 2.0.11 does not say, even at MQTT 5, why it
/// closes a connection.
async fn one_of_two_gives_way(version: Version) {
    let mosquitto = Mosquitto::start().await;
    let first = connect(&mosquitto.url(), version, "same");
    let second = connect(&mosquitto.url(), version, "same");
    let one = subscribe(&first, on("t", QOS_1)).await;
    let mut serving_one = serve(&one);
    let two = subscribe(&second, on("t", QOS_1)).await;
    let mut serving_two = serve(&two);

    let (why, survivor) = within("the end of one of them", async {
        tokio::select! {
            why = &mut serving_one => (why.unwrap(), &two),
            why = &mut serving_two => (why.unwrap(), &one),
        }
    })
    .await;
    assert!(matches!(&why, BrokerError::Closed(text) if text.contains("same")), "{why:?}");

    let publisher = connect(&mosquitto.url(), version, "publisher");
    let acked_before = survivor.stats().acked;
    for number in 0..20 {
        publish(&publisher, "t", event(&number.to_string()), QOS_1).await.unwrap();
    }
    testkit::eventually(DEADLINE, "the survivor has all", || {
        survivor.stats().acked >= acked_before + 20
    })
    .await;
}

both_versions!(one_of_two_gives_way);

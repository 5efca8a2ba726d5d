//! Subscriptions without their own publisher's events.

use crate::harness::Harness;
use crate::support::*;
use testkit::DEADLINE;
use wasi_pubsub::broker::SubscriptionSettings;

pub(crate) async fn they_are_left_out_on_request(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { not_from: Some("me".to_owned()), ..on("t") };
    let subscription = subscribe(&broker, settings).await;
    let everything = subscribe(&broker, labelled("all", "t")).await;
    for (from, id) in [("me", "mine"), ("you", "yours")] {
        broker.publish(from, &topic("t"), event(id), QOS_1, DEADLINE).await.unwrap();
    }
    handle(&subscription, "yours").await;
    assert_eq!(handle_many(&everything, 2).await, ["mine", "yours"]);
}

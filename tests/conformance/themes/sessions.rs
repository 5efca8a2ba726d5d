//! Subscriptions that go on after a break.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use std::time::Duration;
use testkit::{DEADLINE, within};
use wasi_pubsub::broker::{
    Broker, EventFilter, Order, Qos, Subscription, SubscriptionSettings, Verdict,
};

/// One life of an installation: it comes, and goes without a word.
async fn life(h: &dyn Harness, settings: SubscriptionSettings) -> (Arc<Broker>, Arc<Subscription>) {
    let broker = h.broker("installation").await;
    let subscription = subscribe(&broker, settings).await;
    (broker, subscription)
}

/// The good end of a life: what was settled has reached the broker.
async fn part(broker: Arc<Broker>, subscription: Arc<Subscription>) {
    subscription.stop();
    within("the drain", subscription.drained()).await;
    within("the end", broker.close(DEADLINE)).await;
}

fn at(qos: Qos) -> SubscriptionSettings {
    SubscriptionSettings { qos, ..labelled(&format!("at qos {qos}"), "t") }
}

pub(crate) async fn what_was_not_acknowledged_comes_again(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    for qos in [QOS_1, QOS_2] {
        let (broker, subscription) = life(h, at(qos)).await;
        for id in ["in hand", "waits for a retry", "not taken"] {
            publish_event(&publisher, "t", event(id), qos).await;
        }
        let in_hand = take_id(&subscription, "in hand").await;
        let waits = take_id(&subscription, "waits for a retry").await;
        waits.settle(retry(Some(Duration::from_secs(3600))));
        drop((broker, subscription, in_hand));

        let (broker, subscription) = life(h, at(qos)).await;
        for id in ["in hand", "waits for a retry", "not taken"] {
            handle(&subscription, id).await;
        }
        drop((broker, subscription));
    }
}

pub(crate) async fn what_was_acknowledged_does_not(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    for qos in [QOS_1, QOS_2] {
        let (broker, subscription) = life(h, at(qos)).await;
        publish_event(&publisher, "t", event("confirmed"), qos).await;
        publish_event(&publisher, "t", event("settled"), qos).await;
        handle(&subscription, "confirmed").await;
        take_id(&subscription, "settled").await.settle(Verdict::Ack);
        part(broker, subscription).await;

        let (broker, subscription) = life(h, at(qos)).await;
        publish_event(&publisher, "t", event("marker"), qos).await;
        handle(&subscription, "marker").await;
        drop((broker, subscription));
    }
}

/// Nobody says goodbye: at qos 2 what was confirmed is known to the broker.
pub(crate) async fn what_was_confirmed_at_qos_2_does_not(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    let (broker, subscription) = life(h, at(QOS_2)).await;
    for id in ids("e", 20) {
        publish_event(&publisher, "t", event(&id), QOS_2).await;
    }
    let mut confirming = Vec::new();
    for id in ids("e", 20) {
        let lease = take_id(&subscription, &id).await;
        confirming.push(tokio::spawn(confirm(lease, Verdict::Ack)));
    }
    for task in confirming {
        task.await.unwrap();
    }
    drop((broker, subscription));
    let (_broker, subscription) = life(h, at(QOS_2)).await;
    publish_event(&publisher, "t", event("marker"), QOS_2).await;
    handle(&subscription, "marker").await;
}

pub(crate) async fn acknowledgements_in_any_order_hold(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    for qos in [QOS_1, QOS_2] {
        let (broker, subscription) = life(h, at(qos)).await;
        for id in ids("e", 10) {
            publish_event(&publisher, "t", event(&id), qos).await;
        }
        let mut leases = Vec::new();
        for id in ids("e", 10) {
            leases.push(take_id(&subscription, &id).await);
        }
        // Every second one, the last first.
        let mut kept = Vec::new();
        for (number, lease) in leases.into_iter().enumerate().rev() {
            if number % 2 == 0 {
                confirm(lease, Verdict::Ack).await;
            } else {
                kept.push(lease);
            }
        }
        drop(kept);
        part(broker, subscription).await;

        let (broker, subscription) = life(h, at(qos)).await;
        assert_eq!(handle_many(&subscription, 5).await, ["e1", "e3", "e5", "e7", "e9"]);
        part(broker, subscription).await;
    }
}

pub(crate) async fn what_was_missed_comes(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    let (broker, subscription) = life(h, at(QOS_1)).await;
    part(broker, subscription).await;
    let missed = ids("missed", 100);
    publish(&publisher, "t", &missed).await;
    let (_broker, subscription) = life(h, at(QOS_1)).await;
    assert_eq!(handle_many(&subscription, missed.len()).await, missed);
}

pub(crate) async fn what_was_rejected_does_not_come_again(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    let dead = wasi_pubsub::broker::Exhausted::DeadLetter(topic("dead"));
    let settings = SubscriptionSettings { exhausted: dead, ..at(QOS_1) };
    let (broker, subscription) = life(h, settings.clone()).await;
    let letters = subscribe(&publisher, on("dead")).await;
    publish(&publisher, "t", ["bad"]).await;
    confirm(take_id(&subscription, "bad").await, reject("no")).await;
    handle(&letters, "bad").await;
    part(broker, subscription).await;

    let (_broker, subscription) = life(h, settings).await;
    publish(&publisher, "t", ["marker"]).await;
    handle(&subscription, "marker").await;
    publish(&publisher, "dead", ["marker"]).await;
    handle(&letters, "marker").await;
}

pub(crate) async fn a_stop_leaves_the_rest_to_the_next_session(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    let (broker, subscription) = life(h, at(QOS_1)).await;
    publish(&publisher, "t", ids("e", 5)).await;
    take_id(&subscription, "e0").await.settle(retry(Some(Duration::from_secs(3600))));
    let in_hand = take_id(&subscription, "e1").await;
    subscription.stop();
    in_hand.settle(Verdict::Ack);
    part(broker, subscription).await;

    let (_broker, subscription) = life(h, at(QOS_1)).await;
    assert_eq!(handle_many(&subscription, 4).await, ["e0", "e2", "e3", "e4"]);
}

pub(crate) async fn a_queue_goes_on(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    let (broker, subscription) = life(h, queue("g", "t")).await;
    publish(&publisher, "t", ["in hand", "not taken"]).await;
    let in_hand = take_id(&subscription, "in hand").await;
    drop((broker, subscription, in_hand));
    publish(&publisher, "t", ["missed"]).await;
    let (_broker, subscription) = life(h, queue("g", "t")).await;
    assert_eq!(handle_many(&subscription, 3).await, ["in hand", "not taken", "missed"]);
}

pub(crate) async fn an_order_goes_on(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    for qos in [QOS_1, QOS_2] {
        let settings = SubscriptionSettings { order: Order::All, max_in_flight: 4, ..at(qos) };
        let (broker, subscription) = life(h, settings.clone()).await;
        let sent = ids("e", 10);
        for id in &sent {
            publish_event(&publisher, "t", event(id), qos).await;
        }
        handle(&subscription, "e0").await;
        take_id(&subscription, "e1").await.settle(retry(Some(Duration::from_secs(3600))));
        assert!(subscription.try_next().unwrap().is_none(), "it holds back the others");
        part(broker, subscription).await;

        let (broker, subscription) = life(h, settings).await;
        for id in &sent[1..] {
            handle(&subscription, id).await;
        }
        part(broker, subscription).await;
    }
}

pub(crate) async fn what_is_not_wanted_does_not_come_again(h: &dyn Harness) {
    let publisher = h.broker("publisher").await;
    for qos in [QOS_1, QOS_2] {
        let filter = EventFilter::new(r#"hasPrefix(attributes.id, "wanted")"#).unwrap();
        let filtered = SubscriptionSettings { event_filter: Some(filter), ..at(qos) };
        let (broker, subscription) = life(h, filtered).await;
        for id in ["unwanted", "wanted"] {
            publish_event(&publisher, "t", event(id), qos).await;
        }
        handle(&subscription, "wanted").await;
        part(broker, subscription).await;

        let (broker, subscription) = life(h, at(qos)).await;
        publish_event(&publisher, "t", event("marker"), qos).await;
        handle(&subscription, "marker").await;
        part(broker, subscription).await;
    }
}

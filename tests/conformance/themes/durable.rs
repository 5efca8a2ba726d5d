//! Brokers of this process that keep what they have when they are closed.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use std::time::Duration;
use testkit::{DEADLINE, within};
use wasi_pubsub::broker::{Broker, Qos, Subscription, SubscriptionSettings, Verdict};

/// The end of a process.
async fn close(broker: Arc<Broker>, subscription: Arc<Subscription>) {
    subscription.stop();
    within("the drain", subscription.drained()).await;
    drop(subscription);
    within("the end", broker.close(DEADLINE)).await;
}

fn at(qos: Qos) -> SubscriptionSettings {
    SubscriptionSettings { qos, ..labelled(&format!("at qos {qos}"), "t") }
}

pub(crate) async fn what_was_not_acknowledged_comes_again(h: &dyn Harness) {
    for qos in [QOS_1, QOS_2] {
        let broker = h.broker("a").await;
        let subscription = subscribe(&broker, at(qos)).await;
        for id in ["done", "in hand", "failed", "not taken"] {
            publish_event(&broker, "t", event(&format!("{id} {qos}")), qos).await;
        }
        handle(&subscription, &format!("done {qos}")).await;
        let in_hand = take_id(&subscription, &format!("in hand {qos}")).await;
        let failed = take_id(&subscription, &format!("failed {qos}")).await;
        failed.settle(retry(Some(Duration::from_secs(3600))));
        drop(in_hand);
        close(broker, subscription).await;

        let broker = h.broker("a").await;
        let subscription = subscribe(&broker, at(qos)).await;
        for (id, attempt) in [("in hand", 1), ("failed", 2), ("not taken", 1)] {
            let lease = take_id(&subscription, &format!("{id} {qos}")).await;
            assert_eq!(lease.attempt(), attempt, "{id}");
            confirm(lease, Verdict::Ack).await;
        }
        publish_event(&broker, "t", event(&format!("last {qos}")), qos).await;
        handle(&subscription, &format!("last {qos}")).await;
        close(broker, subscription).await;
    }
}

pub(crate) async fn what_was_missed_comes(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, labelled("missing", "t/#")).await;
    close(broker, subscription).await;
    let missed = ids("missed", 1000);
    let publisher = h.broker("a").await;
    publish(&publisher, "t/a", &missed).await;
    within("the end", publisher.close(DEADLINE)).await;

    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, labelled("missing", "t/#")).await;
    counts(&subscription, "with all that was missed", |s| s.queued == missed.len()).await;
    assert_eq!(handle_many(&subscription, missed.len()).await, missed);
}

pub(crate) async fn a_queue_goes_on(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let one = subscribe(&broker, queue("g", "t")).await;
    publish(&broker, "t", ["1", "2", "3"]).await;
    handle(&one, "1").await;
    close(broker, one).await;
    let broker = h.broker("a").await;
    let two = SubscriptionSettings { label: "another member".to_owned(), ..queue("g", "t") };
    let two = subscribe(&broker, two).await;
    assert_eq!(handle_many(&two, 2).await, ["2", "3"]);
}

pub(crate) async fn what_nobody_waits_for_is_not_kept(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, labelled("early", "t")).await;
    publish(&broker, "t", ["old"]).await;
    handle(&subscription, "old").await;
    close(broker, subscription).await;
    let broker = h.broker("a").await;
    let start = wasi_pubsub::broker::Start::Earliest;
    let late = SubscriptionSettings { start, ..labelled("late", "other") };
    let late = subscribe(&broker, late).await;
    publish(&broker, "other", ["new"]).await;
    handle(&late, "new").await;
}

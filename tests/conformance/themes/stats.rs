//! The counts of a subscription.

use crate::harness::Harness;
use crate::support::*;
use testkit::DEADLINE;
use wasi_pubsub::broker::{Exhausted, RetryPolicy, Stats, SubscriptionSettings, Verdict};

pub(crate) async fn every_outcome_is_counted(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let settings = on("t");
    let settings = SubscriptionSettings {
        ack_deadline: Some(millis(150)),
        retry: RetryPolicy { max_attempts: Some(2), ..settings.retry.clone() },
        exhausted: Exhausted::DeadLetter(topic("dead")),
        ..settings
    };
    let subscription = subscribe(&broker, settings).await;
    assert_eq!(subscription.stats(), Stats::default());

    // Taken one by one, so that each outcome is done before the next begins.
    publish(&broker, "t", ["acked"]).await;
    handle(&subscription, "acked").await;
    publish(&broker, "t", ["rejected"]).await;
    confirm(take_id(&subscription, "rejected").await, reject("no")).await;
    publish(&broker, "t", ["exhausted"]).await;
    take_id(&subscription, "exhausted").await.settle(retry(None));
    take_id(&subscription, "exhausted").await.settle(retry(None));
    counts(&subscription, "both dead-lettered", |s| s.dead_lettered == 2).await;
    publish(&broker, "t", ["expires"]).await;
    let _expires = take_id(&subscription, "expires").await;
    handle(&subscription, "expires").await;
    publish(&broker, "t", ["returned"]).await;
    take_id(&subscription, "returned").await.give_back(false);
    let in_hand = take_id(&subscription, "returned").await;
    in_hand.extend(DEADLINE).unwrap();
    publish(&broker, "t", ["waits"]).await;
    take_id(&subscription, "waits").await.settle(retry(Some(DEADLINE)));

    // What waits for a retry is queued again where the broker holds it back.
    let before = subscription.stats().queued;
    publish(&broker, "t", ["queued-0", "queued-1"]).await;
    counts(&subscription, "two more queued", |s| s.queued == before + 2).await;
    handle(&subscription, "queued-0").await;
    counts(&subscription, "one more queued", |s| s.queued == before + 1).await;
    handle(&subscription, "queued-1").await;

    let stats = subscription.stats();
    assert_eq!(stats.queued, before, "{stats:?}");
    assert_eq!(stats.received, 11, "{stats:?}");
    assert_eq!(stats.rejected, 1, "{stats:?}");
    assert_eq!(stats.dead_lettered, 2, "{stats:?}");
    assert_eq!(stats.expired, 1, "{stats:?}");
    assert_eq!(stats.dropped, 0, "{stats:?}");
    assert_eq!(stats.in_flight, 1, "{stats:?}");
    assert_eq!(stats.acked, 4, "{stats:?}");
    confirm(in_hand, Verdict::Ack).await;
    let stats = subscription.stats();
    assert_eq!((stats.acked, stats.in_flight), (5, 0), "{stats:?}");
}

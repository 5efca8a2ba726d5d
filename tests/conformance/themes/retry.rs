//! Events that failed are tried again.

use crate::harness::Harness;
use crate::support::*;
use tokio::time::Instant;
use wasi_pubsub::broker::Verdict;

pub(crate) async fn a_failed_event_comes_again_and_counts_its_attempts(h: &dyn Harness) {
    let broker = h.broker("a").await;
    for qos in [QOS_1, broker.features().qos_max] {
        let settings = wasi_pubsub::broker::SubscriptionSettings {
            qos,
            ..labelled(&format!("at {qos}"), "t")
        };
        let subscription = subscribe(&broker, settings).await;
        publish_event(&broker, "t", event("1"), qos).await;
        for attempt in 1..=5 {
            let lease = take_id(&subscription, "1").await;
            assert_eq!(lease.attempt(), attempt);
            assert_eq!(**lease.event(), event("1"));
            lease.settle(if attempt == 5 { Verdict::Ack } else { retry(None) });
        }
        publish(&broker, "t", ["marker"]).await;
        handle(&subscription, "marker").await;
        let stats = subscription.stats();
        assert_eq!((stats.received, stats.retried, stats.acked), (6, 4, 2));
        subscription.stop();
    }
}

pub(crate) async fn retry_after_is_kept(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1"]).await;
    let lease = take_id(&subscription, "1").await;
    let (failed, wanted) = (Instant::now(), millis(300));
    lease.settle(retry(Some(wanted)));
    let lease = take_id(&subscription, "1").await;
    assert!(failed.elapsed() >= wanted, "after {:?} already", failed.elapsed());
    assert_eq!(lease.attempt(), 2);
    confirm(lease, Verdict::Ack).await;
}

pub(crate) async fn others_are_served_while_one_waits(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["slow", "1", "2", "3"]).await;
    take_id(&subscription, "slow").await.settle(retry(Some(millis(400))));
    for id in ["1", "2", "3"] {
        handle(&subscription, id).await;
    }
    publish(&broker, "t", ["4"]).await;
    handle(&subscription, "4").await;
    assert_eq!(take_id(&subscription, "slow").await.attempt(), 2);
}

pub(crate) async fn a_retry_concerns_its_own_subscription_only(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let failing = subscribe(&broker, labelled("failing", "t")).await;
    let other = subscribe(&broker, labelled("other", "t")).await;
    publish(&broker, "t", ["1"]).await;
    handle(&other, "1").await;
    take_id(&failing, "1").await.settle(retry(None));
    handle(&failing, "1").await;
    publish(&broker, "t", ["marker"]).await;
    handle(&other, "marker").await;
}

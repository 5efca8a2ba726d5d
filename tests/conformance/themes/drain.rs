//! Stopping, draining, closing.

use crate::harness::Harness;
use crate::support::*;
use std::time::Duration;
use testkit::{DEADLINE, within};
use wasi_pubsub::broker::{BrokerError, Exhausted, SubscriptionSettings, Verdict};

pub(crate) async fn a_stopped_subscription_hands_out_nothing_more(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let waiting = {
        let subscription = subscription.clone();
        tokio::spawn(async move { subscription.next().await.map(drop) })
    };
    // It has to be waiting before the stop; a second taker shows nothing, so
    // both orders are right, and both must end.
    tokio::task::yield_now().await;
    subscription.stop();
    let ended = within("the end of a wait", waiting).await.unwrap();
    assert!(matches!(ended, Err(BrokerError::Closed(_))), "{ended:?}");

    publish(&broker, "t", ["late"]).await;
    for _ in 0..2 {
        assert!(matches!(subscription.try_next(), Err(BrokerError::Closed(_))));
        let next = within("an answer", subscription.next()).await;
        assert!(matches!(next, Err(BrokerError::Closed(_))), "{next:?}");
    }
    subscription.stop();
    within("the drain of nothing", subscription.drained()).await;
}

pub(crate) async fn draining_waits_for_what_is_in_hand(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1", "2", "3", "4"]).await;
    let in_hand = [take(&subscription).await, take(&subscription).await, take(&subscription).await];
    take(&subscription).await.settle(retry(Some(Duration::from_secs(3600))));
    subscription.stop();
    let draining = {
        let subscription = subscription.clone();
        tokio::spawn(async move { subscription.drained().await })
    };
    let [one, two, three] = in_hand;
    confirm(one, Verdict::Ack).await;
    drop(two);
    tokio::task::yield_now().await;
    assert!(!draining.is_finished(), "one is still in hand");
    three.settle(retry(None));
    within("the drain", draining).await.unwrap();
}

pub(crate) async fn draining_waits_for_dead_letters(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let letters = subscribe(&broker, on("dead")).await;
    let exhausted = Exhausted::DeadLetter(topic("dead"));
    let subscription = subscribe(&broker, SubscriptionSettings { exhausted, ..on("t") }).await;
    publish(&broker, "t", ids("e", 20)).await;
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(take(&subscription).await);
    }
    subscription.stop();
    for lease in leases {
        lease.settle(reject("no"));
    }
    within("the drain", subscription.drained()).await;
    assert_eq!(subscription.stats().dead_lettered, 20);
    assert_eq!(handle_many(&letters, 20).await.len(), 20);
}

pub(crate) async fn a_closed_broker_refuses(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1"]).await;
    handle(&subscription, "1").await;
    subscription.stop();
    subscription.drained().await;
    within("the end", broker.close(DEADLINE)).await;
    within("the end, again", broker.close(DEADLINE)).await;
    let refused = within("an answer", try_publish(&broker, "t", event("2"), QOS_1)).await;
    refused.unwrap_err();
    let refused = within("an answer", broker.subscribe(on("t"))).await;
    refused.unwrap_err();
}

//! Deadlines, extensions, and events given back.

use crate::harness::Harness;
use crate::support::*;
use std::time::Duration;
use wasi_pubsub::broker::{BrokerError, SubscriptionSettings, Verdict};

fn pull(deadline: Duration) -> SubscriptionSettings {
    SubscriptionSettings { ack_deadline: Some(deadline), ..on("t") }
}

pub(crate) async fn an_expired_lease_is_charged_and_delivered_again(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, pull(millis(60))).await;
    publish(&broker, "t", ["1"]).await;
    let lost = take_id(&subscription, "1").await;
    assert_eq!(lost.attempt(), 1);
    let again = take_id(&subscription, "1").await;
    assert_eq!(again.attempt(), 2);
    again.extend(testkit::DEADLINE).unwrap();
    assert_eq!(lost.extend(millis(100)), Err(BrokerError::LeaseExpired));
    assert_eq!(lost.confirm(Verdict::Ack).await, Err(BrokerError::LeaseExpired));
    confirm(again, Verdict::Ack).await;
    publish(&broker, "t", ["marker"]).await;
    take_id(&subscription, "marker").await.settle(Verdict::Ack);
    assert_eq!(subscription.stats().expired, 1);
}

pub(crate) async fn what_an_expired_lease_says_is_ignored(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, pull(millis(60))).await;
    publish(&broker, "t", ["1"]).await;
    let lost = [Verdict::Ack, reject("no"), retry(None)];
    let mut leases = Vec::new();
    for attempt in 1..=3 {
        let lease = take_id(&subscription, "1").await;
        assert_eq!(lease.attempt(), attempt);
        leases.push(lease);
    }
    let valid = take_id(&subscription, "1").await;
    valid.extend(testkit::DEADLINE).unwrap();
    for (lease, verdict) in leases.into_iter().zip(lost) {
        lease.settle(verdict);
    }
    valid.settle(retry(Some(millis(0))));
    let last = take_id(&subscription, "1").await;
    assert_eq!(last.attempt(), 5, "no verdict but the valid one counted");
    last.settle(Verdict::Ack);
    let stats = subscription.stats();
    assert_eq!((stats.expired, stats.acked, stats.rejected), (3, 1, 0));
}

pub(crate) async fn an_extended_lease_holds(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, pull(millis(100))).await;
    publish(&broker, "t", ["extended", "clock"]).await;
    let lease = take_id(&subscription, "extended").await;
    lease.extend(testkit::DEADLINE).unwrap();
    // When the other one's deadline has passed, so has this one's first.
    drop(take_expired(&subscription, "clock").await);
    confirm(lease, Verdict::Ack).await;
}

/// Takes an event, lets its lease expire, and takes it again.
async fn take_expired(
    subscription: &std::sync::Arc<wasi_pubsub::broker::Subscription>,
    id: &str,
) -> wasi_pubsub::broker::Lease {
    let _expires = take_id(subscription, id).await;
    let again = take_id(subscription, id).await;
    assert_eq!(again.attempt(), 2);
    again
}

pub(crate) async fn an_extension_to_zero_gives_back(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, pull(testkit::DEADLINE)).await;
    publish(&broker, "t", ["1"]).await;
    let lease = take_id(&subscription, "1").await;
    lease.extend(Duration::ZERO).unwrap();
    let again = take_id(&subscription, "1").await;
    assert_eq!(again.attempt(), 2);
    assert_eq!(lease.confirm(Verdict::Ack).await, Err(BrokerError::LeaseExpired));
    confirm(again, Verdict::Ack).await;
}

pub(crate) async fn a_lease_without_deadline_holds(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let push = subscribe(&broker, labelled("push", "t")).await;
    let clock = subscribe(&broker, pull(millis(100))).await;
    publish(&broker, "t", ["1"]).await;
    let lease = take_id(&push, "1").await;
    drop(take_expired(&clock, "1").await);
    confirm(lease, Verdict::Ack).await;
}

pub(crate) async fn a_lease_given_back_comes_first_and_uncharged(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1", "2"]).await;
    let lease = take_id(&subscription, "1").await;
    assert!(!lease.is_isolated());
    lease.give_back(false);
    let lease = take_id(&subscription, "1").await;
    assert_eq!((lease.attempt(), lease.is_isolated()), (1, false));
    lease.give_back(true);
    let lease = take_id(&subscription, "1").await;
    assert_eq!((lease.attempt(), lease.is_isolated()), (1, true));
    confirm(lease, Verdict::Ack).await;
    assert!(!take_id(&subscription, "2").await.is_isolated());
}

pub(crate) async fn leases_given_back_come_in_their_old_order(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1", "2", "3"]).await;
    let (one, two) = (take_id(&subscription, "1").await, take_id(&subscription, "2").await);
    two.give_back(false);
    one.give_back(false);
    for id in ["1", "2", "3"] {
        handle(&subscription, id).await;
    }
}

pub(crate) async fn a_dropped_lease_is_given_back(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1", "2"]).await;
    drop(take_id(&subscription, "1").await);
    assert_eq!(take_id(&subscription, "1").await.attempt(), 1);
}

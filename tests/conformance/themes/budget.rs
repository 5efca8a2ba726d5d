//! What all subscriptions of a process hold together.

use crate::harness::Harness;
use crate::support::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use testkit::DEADLINE;
use wasi_pubsub::broker::{
    Broker, Budget, Event, EventFilter, Exhausted, Lease, Qos, Subscription, SubscriptionSettings,
    Verdict,
};

/// The size of the events here, roughly.
const SIZE: usize = 4000;

async fn publish_large(broker: &Broker, ids: &[String], qos: Qos) {
    for id in ids {
        publish_event(broker, "t", Event { data: vec![1; SIZE].into(), ..event(id) }, qos).await;
    }
}

/// Takes all that can be taken for a moment.
async fn fill(subscription: &Arc<Subscription>) -> Vec<Lease> {
    let mut leases = Vec::new();
    while let Ok(lease) = tokio::time::timeout(millis(100), subscription.next()).await {
        leases.push(lease.unwrap());
    }
    leases
}

/// Waits until nothing is held any more.
async fn is_empty(budget: &Budget) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while budget.bytes_used() > 0 {
        assert!(tokio::time::Instant::now() < end, "{budget:?}");
        tokio::time::sleep(millis(2)).await;
    }
}

pub(crate) async fn the_bound_holds_over_all_subscriptions_and_nothing_is_lost(h: &dyn Harness) {
    const EVENTS: usize = 20;
    let budget = Budget::new(6 * SIZE);
    // Of two brokers, as a configuration may have them.
    let brokers = [h.broker_within("a", &budget).await, h.broker_within("b", &budget).await];
    let mut subscriptions = Vec::new();
    for (label, qos) in [("one", QOS_1), ("two", QOS_1), ("three", brokers[0].features().qos_max)] {
        let settings = SubscriptionSettings { qos, ..labelled(label, "t") };
        subscriptions.push((subscribe(&brokers[subscriptions.len() % 2], settings).await, qos));
    }
    let publisher = h.broker("publisher").await;
    let sent = ids("e", EVENTS);
    publish_large(&publisher, &sent, subscriptions[2].1).await;

    let mut found = vec![BTreeSet::new(); subscriptions.len()];
    let bound = 6 * SIZE + subscriptions.len() * (SIZE + 100);
    while found.iter().any(|found| found.len() < EVENTS) {
        let mut leases = Vec::new();
        for (subscription, _) in &subscriptions {
            leases.push(fill(subscription).await);
        }
        let used = budget.bytes_used();
        let out: usize = leases.iter().map(Vec::len).sum();
        assert!(out > 0, "nothing comes any more: {budget:?}, {found:?}");
        assert!(used <= bound && out <= bound / SIZE, "{used} bytes, {out} events");
        for (leases, found) in leases.into_iter().zip(&mut found) {
            for lease in leases {
                assert!(found.insert(lease.event().id.clone()), "{} twice", lease.event().id);
                lease.settle(Verdict::Ack);
            }
        }
    }
    is_empty(&budget).await;
}

pub(crate) async fn a_stuck_subscription_stops_no_other(h: &dyn Harness) {
    const EVENTS: usize = 30;
    let budget = Budget::new(5 * SIZE);
    let broker = h.broker_within("a", &budget).await;
    let stuck = subscribe(&broker, labelled("stuck", "t")).await;
    let other = subscribe(&broker, labelled("other", "t")).await;
    let sent = ids("e", EVENTS);
    let publisher = h.broker("publisher").await;
    publish_large(&publisher, &sent[..1], QOS_1).await;
    handle(&other, "e0").await;
    publish_large(&publisher, &sent[1..], QOS_1).await;

    let mut in_hand = fill(&stuck).await;
    assert!(!in_hand.is_empty());
    // The other one goes on through what the first leaves, and publishing too.
    for id in &sent[1..] {
        handle(&other, id).await;
    }
    publish(&broker, "u", ["elsewhere"]).await;
    let mut found = Vec::new();
    while found.len() < EVENTS {
        for lease in in_hand.drain(..) {
            found.push(lease.event().id.clone());
            lease.settle(Verdict::Ack);
        }
        if found.len() < EVENTS {
            in_hand.push(take(&stuck).await);
        }
    }
    assert_eq!(found, sent, "nothing is lost");
    is_empty(&budget).await;
}

pub(crate) async fn who_waits_for_room_gets_what_others_give_back(h: &dyn Harness) {
    let budget = Budget::new(4 * SIZE);
    let broker = h.broker_within("a", &budget).await;
    let greedy = subscribe(&broker, labelled("greedy", "t")).await;
    let publisher = h.broker("publisher").await;
    publish_large(&publisher, &ids("e", 5), QOS_1).await;
    let all = fill(&greedy).await;
    assert!((3..=4).contains(&all.len()), "{} fit", all.len());

    let waiting = subscribe(&broker, labelled("waiting", "t")).await;
    publish_large(&publisher, &ids("w", 2), QOS_1).await;
    let _in_hand = take_id(&waiting, "w0").await;
    let taker = tokio::spawn({
        let waiting = waiting.clone();
        async move { take(&waiting).await }
    });
    assert!(fill(&waiting).await.is_empty(), "there is room for one beyond the bound only");
    // It has settled nothing itself.
    for lease in all {
        lease.settle(Verdict::Ack);
    }
    let start = tokio::time::Instant::now();
    let lease = testkit::within("an event, as there is room", taker).await.unwrap();
    assert_eq!(lease.event().id, "w1");
    // At the deadline itself, a last look would find it as well.
    assert!(start.elapsed() < DEADLINE / 2, "it was told of room after {:?}", start.elapsed());
}

pub(crate) async fn what_nobody_wants_or_handles_is_given_back(h: &dyn Harness) {
    let budget = Budget::new(3 * SIZE);
    let broker = h.broker_within("a", &budget).await;
    let settings = SubscriptionSettings {
        event_filter: Some(EventFilter::new("attributes.id != \"unwanted\"").unwrap()),
        exhausted: Exhausted::DeadLetter(topic("dead")),
        ..labelled("picky", "t")
    };
    let subscription = subscribe(&broker, settings).await;
    for qos in [QOS_0, QOS_1] {
        for id in ["unwanted", "rejected", "unwanted", "given back", "retried", "last"] {
            publish_large(&broker, &[id.to_owned()], qos).await;
            let lease = match id {
                "unwanted" => continue,
                id => take_id(&subscription, id).await,
            };
            match id {
                "rejected" => confirm(lease, reject("no")).await,
                "given back" => {
                    lease.give_back(false);
                    handle(&subscription, id).await;
                }
                "retried" if qos > QOS_0 => {
                    lease.settle(retry(None));
                    handle(&subscription, id).await;
                }
                _ => confirm(lease, Verdict::Ack).await,
            }
        }
        is_empty(&budget).await;
    }
    publish_large(&broker, &["in hand".to_owned()], QOS_1).await;
    let lease = take_id(&subscription, "in hand").await;
    assert!(budget.bytes_used() > SIZE);
    subscription.stop();
    lease.settle(Verdict::Ack);
    drop(subscription);
    is_empty(&budget).await;
}

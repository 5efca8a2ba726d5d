//! Bounds in events and in bytes, and takers that come and go.

use crate::harness::Harness;
use crate::support::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use testkit::DEADLINE;
use wasi_pubsub::broker::{Event, Lease, Subscription, SubscriptionSettings, Verdict};

/// Takes all that can be taken while nothing is settled. A second subscription,
/// which gets the same events and is done with them, shows that the broker has
/// had the time to deliver more.
async fn fill(subscription: &Arc<Subscription>) -> Vec<Lease> {
    let mut leases = vec![take(subscription).await];
    while let Ok(lease) = tokio::time::timeout(millis(50), subscription.next()).await {
        leases.push(lease.unwrap());
    }
    leases
}

pub(crate) async fn no_more_events_than_the_bound_are_out(h: &dyn Harness) {
    const BOUND: usize = 4;
    const EVENTS: usize = 40;
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { max_in_flight: BOUND, ..labelled("bounded", "t") };
    let bounded = subscribe(&broker, settings).await;
    let free = subscribe(&broker, labelled("free", "t")).await;
    publish(&broker, "t", ids("e", EVENTS)).await;
    assert_eq!(handle_many(&free, EVENTS).await, ids("e", EVENTS));

    let mut found = BTreeSet::new();
    while found.len() < EVENTS {
        let leases = fill(&bounded).await;
        assert_eq!(leases.len(), BOUND.min(EVENTS - found.len()), "all that may be out is out");
        assert_eq!(bounded.stats().in_flight, leases.len());
        // The connection is served meanwhile.
        publish(&broker, "u", ["elsewhere"]).await;
        for lease in leases {
            assert!(found.insert(lease.event().id.clone()), "{} twice", lease.event().id);
            lease.settle(Verdict::Ack);
        }
    }
    assert_eq!(found, ids("e", EVENTS).into_iter().collect());
}

pub(crate) async fn no_more_bytes_than_the_bound_are_out(h: &dyn Harness) {
    const EVENTS: usize = 12;
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { max_in_flight_bytes: 10_000, ..labelled("bounded", "t") };
    let bounded = subscribe(&broker, settings).await;
    let free = subscribe(&broker, labelled("free", "t")).await;
    for id in ids("e", EVENTS) {
        publish_event(&broker, "t", Event { data: vec![1; 4000].into(), ..event(&id) }, QOS_1)
            .await;
    }
    assert_eq!(handle_many(&free, EVENTS).await.len(), EVENTS);

    let mut found = BTreeSet::new();
    while found.len() < EVENTS {
        let leases = fill(&bounded).await;
        let bytes: usize = leases.iter().map(|lease| lease.event().size()).sum();
        assert!(bytes <= 10_000, "{bytes} bytes are out");
        for lease in leases {
            assert!(found.insert(lease.event().id.clone()), "{} twice", lease.event().id);
            lease.settle(Verdict::Ack);
        }
    }
}

pub(crate) async fn one_event_above_the_bound_passes_alone(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { max_in_flight_bytes: 1000, ..on("t") };
    let subscription = subscribe(&broker, settings).await;
    publish(&broker, "t", ["small"]).await;
    publish_event(&broker, "t", Event { data: vec![1; 5000].into(), ..event("large") }, QOS_1)
        .await;
    publish(&broker, "t", ["last"]).await;
    let small = take_id(&subscription, "small").await;
    assert!(subscription.try_next().unwrap().is_none(), "the large one has to wait");
    small.settle(Verdict::Ack);
    let large = take_id(&subscription, "large").await;
    assert!(subscription.try_next().unwrap().is_none(), "it is out alone");
    large.settle(Verdict::Ack);
    handle(&subscription, "last").await;
}

pub(crate) async fn takers_at_once_get_different_events(h: &dyn Harness) {
    const TAKERS: usize = 5;
    const EACH: usize = 20;
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    // They wait before anything is there: each has to be woken.
    let takers: Vec<_> = (0..TAKERS)
        .map(|_| {
            let subscription = subscription.clone();
            tokio::spawn(async move { handle_many(&subscription, EACH).await })
        })
        .collect();
    publish(&broker, "t", ids("e", TAKERS * EACH)).await;
    let mut found = BTreeSet::new();
    for taker in takers {
        found.extend(taker.await.unwrap());
    }
    assert_eq!(found, ids("e", TAKERS * EACH).into_iter().collect());
}

pub(crate) async fn a_cancelled_wait_loses_nothing(h: &dyn Harness) {
    const EVENTS: usize = 100;
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    let publishing = {
        let broker = broker.clone();
        tokio::spawn(async move { publish(&broker, "t", ids("e", EVENTS)).await })
    };
    let end = tokio::time::Instant::now() + DEADLINE;
    let mut found = Vec::new();
    while found.len() < EVENTS {
        assert!(tokio::time::Instant::now() < end, "only {} of {EVENTS} came", found.len());
        // Given up after 0, 50, 100, 150 µs, with others waiting beside it.
        let patience = std::time::Duration::from_micros(50 * (found.len() as u64 % 4));
        let other = tokio::time::timeout(patience / 2, subscription.next());
        let one = tokio::time::timeout(patience, subscription.next());
        let (one, other) = tokio::join!(one, other);
        let mut leases: Vec<_> = [one, other].into_iter().flatten().map(Result::unwrap).collect();
        if leases.is_empty() {
            leases.extend(subscription.try_next().unwrap());
            tokio::task::yield_now().await;
        }
        for lease in leases {
            found.push(lease.event().id.clone());
            lease.settle(Verdict::Ack);
        }
    }
    publishing.await.unwrap();
    found.sort();
    let mut wanted = ids("e", EVENTS);
    wanted.sort();
    assert_eq!(found, wanted);
}

//! Load balancing: each event goes to one member of a group.

use crate::harness::Harness;
use crate::support::*;
use std::collections::BTreeSet;
use wasi_pubsub::broker::{SubscriptionSettings, Verdict};

pub(crate) async fn each_event_goes_to_one_member(h: &dyn Harness) {
    const EVENTS: usize = 60;
    let (a, b, c) = (h.broker("a").await, h.broker("b").await, h.broker("c").await);
    // No member may hold more than half, so that at least two have to work.
    let settings = SubscriptionSettings { max_in_flight: EVENTS / 2, ..queue("g", "jobs") };
    let mut members = Vec::new();
    for broker in [&a, &b, &c] {
        members.push(subscribe(broker, settings.clone()).await);
    }
    publish(&a, "jobs", ids("j", EVENTS)).await;

    let mut leases = Vec::new();
    while leases.len() < EVENTS {
        let lease = tokio::select! {
            lease = take(&members[0]) => lease,
            lease = take(&members[1]) => lease,
            lease = take(&members[2]) => lease,
        };
        leases.push(lease);
    }
    let found: BTreeSet<_> = leases.iter().map(|lease| lease.event().id.clone()).collect();
    assert_eq!(found, ids("j", EVENTS).into_iter().collect::<BTreeSet<_>>(), "each once");
    for lease in leases {
        lease.settle(Verdict::Ack);
    }
    // A marker for each member's turn: nothing was left behind.
    for marker in ["m0", "m1", "m2"] {
        publish(&a, "jobs", [marker]).await;
        let lease = tokio::select! {
            lease = take(&members[0]) => lease,
            lease = take(&members[1]) => lease,
            lease = take(&members[2]) => lease,
        };
        assert_eq!(lease.event().id, marker);
        confirm(lease, Verdict::Ack).await;
    }
}

pub(crate) async fn every_group_and_every_subscriber_gets_its_own(h: &dyn Harness) {
    let (a, b) = (h.broker("a").await, h.broker("b").await);
    let red = subscribe(&a, queue("red", "jobs")).await;
    let blue = subscribe(&b, queue("blue", "jobs")).await;
    let plain = subscribe(&a, on("jobs")).await;
    let sent = ids("j", 10);
    publish(&b, "jobs", &sent).await;
    for subscription in [&red, &blue, &plain] {
        assert_eq!(handle_many(subscription, sent.len()).await, sent);
    }
}

pub(crate) async fn a_queue_may_have_wildcards(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let plus = subscribe(&broker, queue("g", "user/+/jobs")).await;
    let all = subscribe(&broker, queue("h", "user/#")).await;
    publish(&broker, "user/a/jobs", ["1"]).await;
    publish(&broker, "user/a", ["2"]).await;
    publish(&broker, "user/b/jobs", ["3"]).await;
    assert_eq!(handle_many(&plus, 2).await, ["1", "3"]);
    assert_eq!(handle_many(&all, 3).await, ["1", "2", "3"]);
}

pub(crate) async fn a_failed_event_comes_again_to_its_group(h: &dyn Harness) {
    let (a, b) = (h.broker("a").await, h.broker("b").await);
    let members =
        [subscribe(&a, queue("g", "jobs")).await, subscribe(&b, queue("g", "jobs")).await];
    publish(&a, "jobs", ["1"]).await;
    for attempt in 1..=3 {
        let lease = tokio::select! {
            lease = take(&members[0]) => lease,
            lease = take(&members[1]) => lease,
        };
        assert_eq!((lease.event().id.as_str(), lease.attempt()), ("1", attempt));
        lease.settle(if attempt == 3 { Verdict::Ack } else { retry(None) });
    }
}

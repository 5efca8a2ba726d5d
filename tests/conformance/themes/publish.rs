//! Fan-out: every subscriber gets every event.

use crate::harness::Harness;
use crate::support::*;
use std::collections::BTreeMap;
use wasi_pubsub::broker::{Event, Verdict};

pub(crate) async fn every_subscriber_gets_every_event_in_order(h: &dyn Harness) {
    let (a, b) = (h.broker("a").await, h.broker("b").await);
    let subscriptions = [
        subscribe(&a, labelled("one", "news")).await,
        subscribe(&a, labelled("two", "news")).await,
        subscribe(&b, labelled("one", "news")).await,
    ];
    let sent = ids("n", 20);
    publish(&a, "news", &sent).await;
    for subscription in &subscriptions {
        assert_eq!(handle_many(subscription, sent.len()).await, sent);
    }
}

pub(crate) async fn a_subscription_begins_with_what_comes_after_it(h: &dyn Harness) {
    let broker = h.broker("a").await;
    publish(&broker, "news", ["before"]).await;
    let subscription = subscribe(&broker, on("news")).await;
    publish(&broker, "news", ["after"]).await;
    handle(&subscription, "after").await;
}

pub(crate) async fn an_empty_id_and_source_are_filled_in(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t")).await;
    for _ in 0..2 {
        let bare = Event { kind: "test".to_owned(), ..Event::default() };
        publish_event(&broker, "t", bare, QOS_1).await;
    }
    let (one, two) = (take(&subscription).await, take(&subscription).await);
    assert!(!one.event().id.is_empty());
    assert_ne!(one.event().id, two.event().id);
    assert_eq!(one.event().source, PUBLISHER);
}

pub(crate) async fn publishers_at_once_do_not_disturb_each_other(h: &dyn Harness) {
    const PUBLISHERS: usize = 8;
    const EVENTS: usize = 50;
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, on("t/+")).await;
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let broker = broker.clone();
            tokio::spawn(async move {
                publish(&broker, &format!("t/{number}"), ids(&format!("{number}-"), EVENTS)).await;
            })
        })
        .collect();

    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..PUBLISHERS * EVENTS {
        let lease = take(&subscription).await;
        found.entry(lease.topic().as_str().to_owned()).or_default().push(lease.event().id.clone());
        lease.settle(Verdict::Ack);
    }
    for task in publishing {
        task.await.unwrap();
    }
    for number in 0..PUBLISHERS {
        let topic = format!("t/{number}");
        assert_eq!(found[&topic], ids(&format!("{number}-"), EVENTS), "{topic}");
    }
}

pub(crate) async fn an_event_that_nobody_wants_is_taken(h: &dyn Harness) {
    let broker = h.broker("a").await;
    for qos in [QOS_0, QOS_1, broker.features().qos_max] {
        publish_event(&broker, "nobody/listens", event("1"), qos).await;
    }
}

pub(crate) async fn overlapping_subscriptions_get_a_copy_each(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let exact = subscribe(&broker, on("a/b")).await;
    let plus = subscribe(&broker, on("a/+")).await;
    let all = subscribe(&broker, on("#")).await;
    publish(&broker, "a/b", ["1", "2"]).await;
    for subscription in [&exact, &plus, &all] {
        handle(subscription, "1").await;
        handle(subscription, "2").await;
    }
}

//! Events that nobody can handle.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use wasi_pubsub::broker::{
    Broker, Event, Exhausted, Lease, Qos, RetryPolicy, Subscription, SubscriptionSettings,
};

fn with_dead_letters(max_attempts: Option<u32>, exhausted: Exhausted) -> SubscriptionSettings {
    let settings = on("orders");
    SubscriptionSettings {
        retry: RetryPolicy { max_attempts, ..settings.retry.clone() },
        exhausted,
        ..settings
    }
}

fn dead() -> Exhausted {
    Exhausted::DeadLetter(topic("dead/orders"))
}

async fn listener(broker: &Arc<Broker>, qos: Qos) -> Arc<Subscription> {
    subscribe(broker, SubscriptionSettings { qos, ..on("dead/+") }).await
}

/// Asserts that a lease is of the dead letter of an event.
fn assert_letter(letter: &Lease, of: &Event, reason: &str, attempts: &str) {
    let event = letter.event();
    assert_eq!(letter.topic().as_str(), "dead/orders");
    assert_eq!((&event.id, &event.source, &event.kind), (&of.id, &of.source, &of.kind));
    assert_eq!((&event.data, &event.content_type), (&of.data, &of.content_type));
    assert_eq!(event.attribute("deadletterreason"), Some(reason));
    assert_eq!(event.attribute("deadlettertopic"), Some("orders"));
    assert_eq!(event.attribute("deadlettersubscription"), Some("orders"));
    assert_eq!(event.attribute("deadletterattempts"), Some(attempts));
}

pub(crate) async fn a_rejected_event_goes_to_the_dead_letter_topic(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let letters = listener(&broker, QOS_1).await;
    let subscription = subscribe(&broker, with_dead_letters(None, dead())).await;
    publish(&broker, "orders", ["bad", "good"]).await;
    confirm(take_id(&subscription, "bad").await, reject("no such article")).await;
    handle(&subscription, "good").await;

    let letter = take(&letters).await;
    assert_letter(&letter, &event("bad"), "no such article", "1");
    let stats = subscription.stats();
    assert_eq!((stats.rejected, stats.dead_lettered, stats.dropped), (1, 1, 0));
}

pub(crate) async fn an_exhausted_event_goes_to_the_dead_letter_topic(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let letters = listener(&broker, QOS_1).await;
    let subscription = subscribe(&broker, with_dead_letters(Some(3), dead())).await;
    publish(&broker, "orders", ["bad"]).await;
    for attempt in 1..=3 {
        let lease = take_id(&subscription, "bad").await;
        assert_eq!(lease.attempt(), attempt);
        lease.settle(retry(None));
    }
    assert_letter(&take(&letters).await, &event("bad"), "not yet", "3");
    publish(&broker, "orders", ["marker"]).await;
    handle(&subscription, "marker").await;
    let stats = counts(&subscription, "dead-lettered", |s| s.dead_lettered == 1).await;
    assert_eq!((stats.retried, stats.dropped), (2, 0));
}

pub(crate) async fn an_exhausted_event_is_dropped_where_that_is_wanted(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, with_dead_letters(Some(2), Exhausted::Drop)).await;
    publish(&broker, "orders", ["bad"]).await;
    for _ in 0..2 {
        take_id(&subscription, "bad").await.settle(retry(None));
    }
    publish(&broker, "orders", ["marker"]).await;
    handle(&subscription, "marker").await;
    let stats = counts(&subscription, "dropped", |s| s.dropped == 1).await;
    assert_eq!((stats.dead_lettered, stats.waiting, stats.in_flight), (0, 0, 0));
}

pub(crate) async fn a_rejected_event_without_a_dead_letter_topic_is_counted(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, with_dead_letters(None, Exhausted::Never)).await;
    publish(&broker, "orders", ["bad"]).await;
    take_id(&subscription, "bad").await.settle(reject("no"));
    publish(&broker, "orders", ["marker"]).await;
    handle(&subscription, "marker").await;
    let stats = subscription.stats();
    assert_eq!((stats.rejected, stats.dropped, stats.dead_lettered), (1, 1, 0));
}

pub(crate) async fn a_dead_letter_keeps_everything_of_its_event(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let qos_max = broker.features().qos_max;
    let letters = listener(&broker, qos_max).await;
    let settings = SubscriptionSettings { qos: qos_max, ..with_dead_letters(None, dead()) };
    let subscription = subscribe(&broker, settings).await;
    let whole = Event {
        data: vec![0, 159, 146, 150].into(),
        content_type: Some("application/x-order".to_owned()),
        ordering_key: Some("customer 7".to_owned()),
        attributes: vec![
            ("region".to_owned(), "eu".to_owned()),
            ("tenant".to_owned(), "ä".to_owned()),
        ],
        ..event("bad")
    };
    publish_event(&broker, "orders", whole.clone(), qos_max).await;
    take_id(&subscription, "bad").await.settle(reject("no"));
    let letter = take(&letters).await;
    assert_letter(&letter, &whole, "no", "1");
    assert_eq!(letter.event().ordering_key, whole.ordering_key);
    assert_eq!(letter.event().attribute("region"), Some("eu"));
    assert_eq!(letter.event().attribute("tenant"), Some("ä"));
    assert_eq!(letter.qos(), qos_max, "it is published as it was delivered");
}

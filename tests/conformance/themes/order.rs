//! Events that are handled one after the other.

use crate::harness::Harness;
use crate::support::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use wasi_pubsub::broker::{
    Broker, Event, Exhausted, Order, OrderBy, RetryPolicy, Subscription, SubscriptionSettings,
    Verdict,
};

fn ordered(order: Order) -> SubscriptionSettings {
    SubscriptionSettings { order, ..on("t/#") }
}

fn by_key() -> SubscriptionSettings {
    ordered(Order::Key(OrderBy::EventKey))
}

async fn publish_keyed(broker: &Broker, key: &str, id: &str) {
    let event = Event { ordering_key: Some(key.to_owned()), ..event(id) };
    publish_event(broker, "t", event, QOS_1).await;
}

/// What the takers of a test have seen.
#[derive(Default)]
struct Seen {
    in_hand: BTreeSet<String>,
    handled: BTreeMap<String, Vec<String>>,
    count: usize,
}

/// Takes events until all are handled. Every third attempt fails.
async fn taker(subscription: Arc<Subscription>, seen: Arc<Mutex<Seen>>, of: usize, seed: u64) {
    let mut number = seed;
    while seen.lock().unwrap().count < of {
        let next = tokio::time::timeout(millis(20), subscription.next()).await;
        let Ok(lease) = next else { continue };
        let lease = lease.unwrap();
        let (key, id) = (lease.event().ordering_key.clone().unwrap(), lease.event().id.clone());
        assert!(seen.lock().unwrap().in_hand.insert(key.clone()), "two of {key} at once");
        // Whoever else could take one of this key has the time to do so.
        tokio::task::yield_now().await;
        number += 1;
        let verdict = if number.is_multiple_of(3) { retry(None) } else { Verdict::Ack };
        let mut seen = seen.lock().unwrap();
        seen.in_hand.remove(&key);
        if verdict == Verdict::Ack {
            seen.handled.entry(key).or_default().push(id);
            seen.count += 1;
        }
        lease.settle(verdict);
    }
}

pub(crate) async fn a_key_is_handled_in_order_by_several_takers_with_retries(h: &dyn Harness) {
    const KEYS: usize = 5;
    const EVENTS: usize = 100;
    let broker = h.broker("a").await;
    // Less than there are events, so that the bound is met as well.
    let settings = SubscriptionSettings { max_in_flight: 16, ..by_key() };
    let subscription = subscribe(&broker, settings).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let takers: Vec<_> = (0..4)
        .map(|seed| tokio::spawn(taker(subscription.clone(), seen.clone(), EVENTS, seed)))
        .collect();
    let sent = ids("e", EVENTS);
    for (number, id) in sent.iter().enumerate() {
        publish_keyed(&broker, &format!("k{}", number % KEYS), id).await;
    }
    for taker in takers {
        testkit::within("the takers", taker).await.unwrap();
    }
    let handled = std::mem::take(&mut seen.lock().unwrap().handled);
    assert_eq!(handled.len(), KEYS);
    for (key, found) in handled {
        let number: usize = key[1..].parse().unwrap();
        let wanted: Vec<_> = sent.iter().skip(number).step_by(KEYS).cloned().collect();
        assert_eq!(found, wanted, "{key}");
    }
    counts(&subscription, "free of held events", |s| s.in_flight == 0 && s.waiting == 0).await;
}

pub(crate) async fn a_retry_holds_back_its_key_and_no_other(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, by_key()).await;
    for (key, id) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")] {
        publish_keyed(&broker, key, id).await;
    }
    take_id(&subscription, "a1").await.settle(retry(Some(millis(300))));
    handle(&subscription, "b1").await;
    handle(&subscription, "b2").await;
    let again = take_id(&subscription, "a1").await;
    assert_eq!(again.attempt(), 2);
    again.give_back(true);
    let again = take_id(&subscription, "a1").await;
    assert!(again.is_isolated());
    confirm(again, Verdict::Ack).await;
    handle(&subscription, "a2").await;
}

pub(crate) async fn without_a_key_the_topic_is_the_key(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, by_key()).await;
    publish(&broker, "t/a", ["a1", "a2"]).await;
    publish(&broker, "t/b", ["b1"]).await;
    let first = take_id(&subscription, "a1").await;
    handle(&subscription, "b1").await;
    first.settle(Verdict::Ack);
    handle(&subscription, "a2").await;
}

pub(crate) async fn all_are_handled_one_after_the_other(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let subscription = subscribe(&broker, ordered(Order::All)).await;
    publish(&broker, "t/a", ["1"]).await;
    publish_keyed(&broker, "k", "2").await;
    publish(&broker, "t/b", ["3"]).await;
    let first = take_id(&subscription, "1").await;
    counts(&subscription, "holding the others back", |s| {
        assert!(subscription.try_next().unwrap().is_none(), "two at once");
        s.waiting == 2
    })
    .await;
    first.settle(retry(None));
    for id in ["1", "2", "3"] {
        handle(&subscription, id).await;
    }
}

pub(crate) async fn a_key_may_be_an_attribute_or_a_level_of_the_topic(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let by_attribute = Order::Key(OrderBy::Attribute("customer".to_owned()));
    let by_level = Order::Key(OrderBy::TopicLevel(2));
    let attribute = SubscriptionSettings { label: "by attribute".into(), ..ordered(by_attribute) };
    let level = SubscriptionSettings { label: "by level".into(), ..ordered(by_level) };
    let by_attribute = subscribe(&broker, attribute).await;
    let by_level = subscribe(&broker, level).await;
    for (to, customer, id) in [("t/x/1", "anna", "1"), ("t/y", "anna", "2"), ("t/x/2", "bert", "3")]
    {
        let attributes = vec![("customer".to_owned(), customer.to_owned())];
        publish_event(&broker, to, Event { attributes, ..event(id) }, QOS_1).await;
    }
    let first = take_id(&by_attribute, "1").await;
    handle(&by_attribute, "3").await;
    first.settle(Verdict::Ack);
    handle(&by_attribute, "2").await;
    let first = take_id(&by_level, "1").await;
    handle(&by_level, "2").await;
    first.settle(Verdict::Ack);
    handle(&by_level, "3").await;
}

pub(crate) async fn a_dead_letter_goes_before_the_next_of_its_key(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let letters = subscribe(&broker, on("dead")).await;
    let settings = by_key();
    let settings = SubscriptionSettings {
        retry: RetryPolicy { max_attempts: Some(2), ..settings.retry.clone() },
        exhausted: Exhausted::DeadLetter(topic("dead")),
        ..settings
    };
    let subscription = subscribe(&broker, settings).await;
    for id in ["1", "2"] {
        publish_keyed(&broker, "k", id).await;
    }
    for _ in 0..2 {
        take_id(&subscription, "1").await.settle(retry(None));
    }
    let second = take_id(&subscription, "2").await;
    assert_eq!(subscription.stats().dead_lettered, 1, "it is stored before the next goes on");
    confirm(second, Verdict::Ack).await;
    handle(&letters, "1").await;
}

//! Keys that are with one member of a group at a time.

use crate::harness::Harness;
use crate::support::*;
use std::time::Duration;
use wasi_pubsub::broker::{Event, Order, OrderBy, SubscriptionSettings, Verdict};

pub(crate) async fn whoever_of_the_group_has_one_has_the_key(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { order: Order::Key(OrderBy::EventKey), ..queue("g", "t") };
    let one = subscribe(&broker, settings.clone()).await;
    let two = subscribe(&broker, settings).await;
    for (key, id) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")] {
        let event = Event { ordering_key: Some(key.to_owned()), ..event(id) };
        publish_event(&broker, "t", event, QOS_1).await;
    }
    let first = take_id(&one, "a1").await;
    let other = take_id(&two, "b1").await;
    assert!(two.try_next().unwrap().is_none(), "the key of a2 is with the other member");
    assert!(one.try_next().unwrap().is_none());
    // What failed comes again before the next one, to whomever.
    first.settle(retry(Some(Duration::ZERO)));
    let again = take_either(&one, &two).await;
    assert_eq!(again.event().id, "a1");
    confirm(again, Verdict::Ack).await;
    for id in ["a2", "a3"] {
        let next = take_either(&two, &one).await;
        assert_eq!(next.event().id, id);
        confirm(next, Verdict::Ack).await;
    }
    confirm(other, Verdict::Ack).await;
}

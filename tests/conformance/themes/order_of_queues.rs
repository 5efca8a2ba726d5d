//! Queues of one subscriber whose events have an order.

use crate::harness::Harness;
use crate::support::*;
use testkit::within;
use wasi_pubsub::broker::{Order, SubscriptionSettings};

/// A queue whose subscription ends and is opened again.
pub(crate) async fn a_queue_keeps_its_order_over_a_new_subscription(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { order: Order::All, max_in_flight: 3, ..queue("g", "t") };
    let first = subscribe(&broker, settings.clone()).await;
    let sent = ids("e", 6);
    publish(&broker, "t", &sent).await;
    let lease = take_id(&first, "e0").await;
    counts(&first, "holding the others back", |s| {
        assert!(first.try_next().unwrap().is_none());
        // In the core, or still in the broker.
        s.waiting == 2 || s.queued == 5
    })
    .await;
    first.stop();
    // As a failed attempt, and after the others were given back.
    lease.settle(retry(Some(millis(50))));
    within("the drain", first.drained()).await;
    drop(first);
    let second = subscribe(&broker, settings).await;
    assert_eq!(handle_many(&second, sent.len()).await, sent);
}

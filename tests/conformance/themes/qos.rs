//! What the qualities of service mean.

use crate::harness::Harness;
use crate::support::*;
use tokio::time::Instant;
use wasi_pubsub::broker::{SubscriptionSettings, Verdict};

pub(crate) async fn the_lower_quality_of_service_counts(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let levels: Vec<_> =
        [QOS_0, QOS_1, QOS_2].into_iter().filter(|qos| *qos <= broker.features().qos_max).collect();
    let mut subscriptions = Vec::new();
    for qos in &levels {
        let settings = SubscriptionSettings { qos: *qos, ..labelled(&format!("qos {qos}"), "t") };
        subscriptions.push(subscribe(&broker, settings).await);
    }
    for published in &levels {
        publish_event(&broker, "t", event(&format!("at {published}")), *published).await;
        for (subscription, asked) in subscriptions.iter().zip(&levels) {
            let lease = take_id(subscription, &format!("at {published}")).await;
            assert_eq!(lease.qos(), *published.min(asked), "published {published}, asked {asked}");
            confirm(lease, Verdict::Ack).await;
        }
    }
}

pub(crate) async fn a_verdict_at_qos_0_changes_nothing(h: &dyn Harness) {
    let broker = h.broker("a").await;
    // Asked at qos 1, published at 0: the promise is that of the delivery.
    let subscription = subscribe(&broker, on("t")).await;
    for verdict in [retry(Some(millis(0))), reject("no"), Verdict::Ack] {
        publish_event(&broker, "t", event("once"), QOS_0).await;
        let lease = take_id(&subscription, "once").await;
        assert_eq!(lease.attempt(), 1);
        lease.settle(verdict);
    }
    publish_event(&broker, "t", event("marker"), QOS_0).await;
    take_id(&subscription, "marker").await.settle(Verdict::Ack);
    assert_eq!(subscription.stats().retried, 0);
}

pub(crate) async fn a_full_buffer_at_qos_0_drops_the_newest_and_counts(h: &dyn Harness) {
    const BATCH: usize = 500;
    const EVENTS_MAX: usize = 200_000;
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { qos: QOS_0, max_in_flight: 4, ..on("t") };
    let subscription = subscribe(&broker, settings).await;
    let mut sent = 0;
    while subscription.stats().dropped == 0 {
        assert!(sent < EVENTS_MAX, "{sent} events were taken and none was dropped");
        for number in sent..sent + BATCH {
            publish_event(&broker, "t", event(&number.to_string()), QOS_0).await;
        }
        sent += BATCH;
    }

    // The oldest were kept, and in the end all are accounted for.
    let mut found = handle_many(&subscription, 4).await;
    assert_eq!(found, ["0", "1", "2", "3"]);
    let end = Instant::now() + testkit::DEADLINE;
    loop {
        while let Some(lease) = subscription.try_next().unwrap() {
            found.push(lease.event().id.clone());
            lease.settle(Verdict::Ack);
        }
        let (received, dropped) = (found.len(), subscription.stats().dropped);
        if received as u64 + dropped == sent as u64 {
            break;
        }
        assert!(Instant::now() < end, "of {sent}, {received} received and {dropped} dropped");
        tokio::time::sleep(millis(2)).await;
    }
    let mut in_order = found.clone();
    in_order.sort_by_key(|id| id.parse::<usize>().unwrap());
    in_order.dedup();
    assert_eq!(found, in_order, "in order, and each once");
}

//! Subscriptions that want some events only.

use crate::harness::Harness;
use crate::support::*;
use wasi_pubsub::broker::{Broker, Event, EventFilter, SubscriptionSettings};

fn wanting(filter: &str) -> SubscriptionSettings {
    let event_filter = Some(EventFilter::new(filter).unwrap());
    SubscriptionSettings { event_filter, ..labelled("filtered", "t") }
}

async fn publish_from(broker: &Broker, region: &str, id: &str) {
    let attributes = vec![("region".to_owned(), region.to_owned())];
    publish_event(broker, "t", Event { attributes, ..event(id) }, QOS_1).await;
}

pub(crate) async fn only_what_is_wanted_is_handed_out(h: &dyn Harness) {
    let broker = h.broker("a").await;
    let filter = r#"hasPrefix(attributes.region, "eu") AND attributes.id != "3""#;
    let filtered = subscribe(&broker, wanting(filter)).await;
    let all = subscribe(&broker, on("t")).await;
    publish(&broker, "t", ["1"]).await;
    for (region, id) in [("eu-west", "2"), ("eu-west", "3"), ("us", "4"), ("eu-north", "5")] {
        publish_from(&broker, region, id).await;
    }
    handle(&filtered, "2").await;
    handle(&filtered, "5").await;
    let stats = filtered.stats();
    let passed_over = if broker.features().filters { 0 } else { 3 };
    assert_eq!((stats.filtered, stats.received, stats.acked), (passed_over, 2, 2));
    assert_eq!(handle_many(&all, 5).await, ["1", "2", "3", "4", "5"], "it concerns no other");
}

pub(crate) async fn what_is_not_wanted_takes_no_room(h: &dyn Harness) {
    const UNWANTED: usize = 300;
    let broker = h.broker("a").await;
    let settings = SubscriptionSettings { max_in_flight: 2, ..wanting("attributes:region") };
    let subscription = subscribe(&broker, settings).await;
    publish_from(&broker, "eu", "in hand").await;
    let _in_hand = take_id(&subscription, "in hand").await;
    publish(&broker, "t", ids("unwanted", UNWANTED)).await;
    publish_from(&broker, "eu", "wanted").await;
    handle(&subscription, "wanted").await;
    let passed_over = if broker.features().filters { 0 } else { UNWANTED as u64 };
    assert_eq!(subscription.stats().filtered, passed_over);
}

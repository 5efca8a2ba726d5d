//! Subscriptions that end while their process goes on.

use crate::harness::Harness;
use crate::support::*;
use std::sync::Arc;
use testkit::within;
use wasi_pubsub::broker::driver::Parting;
use wasi_pubsub::broker::{Qos, RetryPolicy, Subscription, SubscriptionSettings, Verdict};

async fn part(subscription: Arc<Subscription>, parting: Parting) {
    subscription.part(parting);
    within("the drain", subscription.drained()).await;
    within("the parting", subscription.parted()).await;
}

/// A subscriber and a member of a queue, at both qualities of service.
fn kinds(name: &str) -> Vec<SubscriptionSettings> {
    let of = |qos: Qos, settings: SubscriptionSettings| {
        let label = format!("{} at qos {qos}", settings.label);
        SubscriptionSettings { qos, label, ..settings }
    };
    [QOS_1, QOS_2]
        .into_iter()
        .flat_map(|qos| [of(qos, on(name)), of(qos, queue(&format!("g{qos}"), name))])
        .collect()
}

pub(crate) async fn a_successor_gets_what_came_meanwhile(h: &dyn Harness) {
    let (broker, publisher) = (h.broker("host").await, h.broker("publisher").await);
    for (n, settings) in kinds("t").into_iter().enumerate() {
        let first = subscribe(&broker, settings.clone()).await;
        let id = |text: &str| format!("{text} {n}");
        publish_event(&publisher, "t", event(&id("handled")), settings.qos).await;
        publish_event(&publisher, "t", event(&id("given back")), settings.qos).await;
        publish_event(&publisher, "t", event(&id("not taken")), settings.qos).await;
        confirm(take_id(&first, &id("handled")).await, Verdict::Ack).await;
        drop(take_id(&first, &id("given back")).await);
        part(first, Parting::Replaced).await;
        publish_event(&publisher, "t", event(&id("meanwhile")), settings.qos).await;

        let retry = RetryPolicy { max_attempts: Some(9), ..settings.retry.clone() };
        let second = subscribe(&broker, SubscriptionSettings { retry, ..settings.clone() }).await;
        let mut found = handle_many(&second, 3).await;
        found.sort();
        assert_eq!(found, [id("given back"), id("meanwhile"), id("not taken")]);
        publish_event(&publisher, "t", event(&id("marker")), settings.qos).await;
        handle(&second, &id("marker")).await;
        part(second, Parting::Removed).await;
    }
}

pub(crate) async fn what_nobody_wants_any_more_is_forgotten(h: &dyn Harness) {
    let (broker, publisher) = (h.broker("host").await, h.broker("publisher").await);
    for (n, settings) in kinds("t").into_iter().enumerate() {
        let id = |text: &str| format!("{text} {n}");
        let first = subscribe(&broker, settings.clone()).await;
        publish_event(&publisher, "t", event(&id("handled")), settings.qos).await;
        handle(&first, &id("handled")).await;
        part(first, Parting::Removed).await;
        publish_event(&publisher, "t", event(&id("unwanted")), settings.qos).await;

        let again = subscribe(&broker, settings.clone()).await;
        publish_event(&publisher, "t", event(&id("marker")), settings.qos).await;
        handle(&again, &id("marker")).await;
        part(again, Parting::Removed).await;
    }
}

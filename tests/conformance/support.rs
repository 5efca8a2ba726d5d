//! The words in which the tests are written.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use testkit::{DEADLINE, within};
use wasi_pubsub::broker::{
    Broker, BrokerError, Event, Lease, Qos, RetryPolicy, Stats, Subscription, SubscriptionSettings,
    Topic, TopicFilter, Verdict,
};

pub(crate) use wasi_pubsub::broker::Qos::{
    AtLeastOnce as QOS_1, AtMostOnce as QOS_0, EffectivelyOnce as QOS_2,
};

/// Who publishes, where a test doesn't say.
pub(crate) const PUBLISHER: &str = "tester";

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// A topic subscription with short back-offs. Its label is its filter.
pub(crate) fn on(filter: &str) -> SubscriptionSettings {
    SubscriptionSettings {
        retry: RetryPolicy {
            backoff: millis(5),
            backoff_max: millis(20),
            ..RetryPolicy::default()
        },
        ..SubscriptionSettings::new(TopicFilter::new(filter).unwrap())
    }
}

/// A queue subscription, likewise.
pub(crate) fn queue(group: &str, filter: &str) -> SubscriptionSettings {
    SubscriptionSettings {
        label: format!("{group}-{filter}"),
        group: Some(group.to_owned()),
        ..on(filter)
    }
}

/// A topic subscription with a label of its own.
pub(crate) fn labelled(label: &str, filter: &str) -> SubscriptionSettings {
    SubscriptionSettings { label: label.to_owned(), ..on(filter) }
}

pub(crate) async fn subscribe(
    broker: &Arc<Broker>,
    settings: SubscriptionSettings,
) -> Arc<Subscription> {
    within("the broker's confirmation", broker.subscribe(settings)).await.unwrap()
}

/// An event whose payload is its id.
pub(crate) fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        source: "/tests".to_owned(),
        kind: "test".to_owned(),
        data: Bytes::copy_from_slice(id.as_bytes()),
        ..Event::default()
    }
}

pub(crate) async fn try_publish(
    broker: &Broker,
    to: &str,
    event: Event,
    qos: Qos,
) -> Result<(), BrokerError> {
    broker.publish(PUBLISHER, &topic(to), event, qos, DEADLINE).await
}

pub(crate) async fn publish_event(broker: &Broker, to: &str, event: Event, qos: Qos) {
    let id = event.id.clone();
    try_publish(broker, to, event, qos).await.unwrap_or_else(|e| panic!("`{id}` to `{to}`: {e}"));
}

/// Publishes events at qos 1, one after the other, in this order.
pub(crate) async fn publish<I: AsRef<str>>(
    broker: &Broker,
    to: &str,
    ids: impl IntoIterator<Item = I>,
) {
    for id in ids {
        publish_event(broker, to, event(id.as_ref()), QOS_1).await;
    }
}

/// Ids with a number each: `prefix0`, `prefix1` …
pub(crate) fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

pub(crate) async fn take(subscription: &Arc<Subscription>) -> Lease {
    let label = &subscription.settings().label;
    within(&format!("an event of `{label}`"), subscription.next()).await.unwrap()
}

/// Takes the next event of two subscribers, whichever gets it.
pub(crate) async fn take_either(one: &Arc<Subscription>, two: &Arc<Subscription>) -> Lease {
    let either = async {
        tokio::select! {
            lease = one.next() => lease.unwrap(),
            lease = two.next() => lease.unwrap(),
        }
    };
    testkit::within("an event for either", either).await
}

/// Takes the next event, which has to be this one. To take a marker that was
/// published last shows that nothing else came before it.
#[track_caller]
pub(crate) fn take_id<'a>(
    subscription: &'a Arc<Subscription>,
    id: &'a str,
) -> impl Future<Output = Lease> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        let lease = take(subscription).await;
        assert_eq!(lease.event().id, id, "{caller}: another event than expected");
        lease
    }
}

/// Takes an event, which has to be this one, and acknowledges it, confirmed.
pub(crate) async fn handle(subscription: &Arc<Subscription>, id: &str) {
    let lease = take_id(subscription, id).await;
    confirm(lease, Verdict::Ack).await;
}

/// Takes that many events and acknowledges each; their ids.
pub(crate) async fn handle_many(subscription: &Arc<Subscription>, count: usize) -> Vec<String> {
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let lease = take(subscription).await;
        found.push(lease.event().id.clone());
        lease.settle(Verdict::Ack);
    }
    found
}

pub(crate) async fn confirm(lease: Lease, verdict: Verdict) {
    within("the broker's knowledge of a verdict", lease.confirm(verdict)).await.unwrap();
}

pub(crate) fn retry(after: Option<Duration>) -> Verdict {
    Verdict::Retry { after, reason: "not yet".to_owned() }
}

pub(crate) fn reject(reason: &str) -> Verdict {
    Verdict::Reject { reason: reason.to_owned() }
}

/// Waits until the counts of a subscription are as wanted.
#[track_caller]
pub(crate) fn counts<'a>(
    subscription: &'a Subscription,
    what: &'a str,
    mut wanted: impl FnMut(&Stats) -> bool + 'a,
) -> impl Future<Output = Stats> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let stats = subscription.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(tokio::time::Instant::now() < end, "{caller}: not {what}: {stats:?}");
            tokio::time::sleep(millis(2)).await;
        }
    }
}

pub(crate) fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

//! A process that is killed: it publishes to a store, takes from it, and says each
//! step on its standard output, one line each, before or after the step is taken as
//! the line says. What was written before a kill is still in the pipe after it.
//!
//! Arguments: the store, a seed, and for each publisher the number that it goes on
//! with; or the store and `drain`, to take what is left and end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it talks to the test that started it, and a failure here fails that"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasi_pubsub::backends::disk::{DiskSettings, MAX_BYTES, SUBSCRIPTION_EXPIRY};
use wasi_pubsub::broker::{
    Broker, Event, Limits, Qos, Retention, RetentionRule, Subscription, SubscriptionSettings,
    Topic, TopicFilter, Verdict,
};
use wasi_pubsub::builtin::{BuiltIn, SubscriptionInfo};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
const DATA_BYTES_MAX: usize = 3000;
/// How often what nobody needs is deleted.
const TRIM_INTERVAL: Duration = Duration::from_millis(15);
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().expect("the store"));
    let seed = args.next().expect("a seed, or `drain`");
    let settings =
        DiskSettings { path, max_bytes: MAX_BYTES, subscription_expiry: SUBSCRIPTION_EXPIRY };
    let built_in = settings.open_broker().expect("the store opens");
    let broker = Broker::new("victim", built_in.clone(), Limits::default());
    broker.set_retention(vec![RetentionRule {
        filter: TopicFilter::new("kept/#").unwrap(),
        retention: Retention::default(),
    }]);
    for (name, group, qos) in [
        ("exact", None, Qos::EffectivelyOnce),
        ("least", None, Qos::AtLeastOnce),
        ("shared", Some("group"), Qos::EffectivelyOnce),
        ("shared", Some("group"), Qos::EffectivelyOnce),
    ] {
        let filter = TopicFilter::new("#").unwrap();
        let label = group.map_or(name.to_owned(), |group| format!("{group}/#"));
        let group = group.map(str::to_owned);
        let wanted =
            SubscriptionSettings { label, group, qos, ..SubscriptionSettings::new(filter) };
        let subscription = broker.subscribe(wanted).await.expect("a subscription");
        tokio::spawn(take(name, subscription));
    }
    println!("ready");
    if seed == "drain" {
        return drain(&broker, &built_in).await;
    }
    let seed: u64 = seed.parse().expect("a seed");
    for (publisher, next) in args.enumerate() {
        let next = next.parse().expect("a number");
        tokio::spawn(publish(broker.clone(), publisher as u64, next, seed));
    }
    loop {
        tokio::time::sleep(TRIM_INTERVAL).await;
        built_in.trim().await.expect("a trim");
    }
}

/// Publishes one event after the other, until the end of the process. What the test
/// did not see confirmed comes first, once more: at qos 2 as the same event.
async fn publish(broker: Arc<Broker>, publisher: u64, next: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed ^ (publisher + 1));
    let (topic, qos) = plan(publisher);
    for number in next.. {
        let life = if qos == Qos::EffectivelyOnce { 0 } else { seed };
        let id = format!("{publisher} {number} {life}");
        let event = Event {
            id: id.clone(),
            source: format!("/publishers/{publisher}"),
            kind: "kill".into(),
            data: vec![b'x'; random.usize(..DATA_BYTES_MAX)].into(),
            ..Event::default()
        };
        println!("publish {id}");
        match broker.publish("victim", &topic, event, qos, PATIENCE).await {
            Ok(()) => println!("confirmed {id}"),
            Err(error) => return println!("error {id}: {error}"),
        }
    }
}

/// Where a publisher publishes, and how. Half of them to topics that remember, and
/// every topic has one of each quality of service.
fn plan(publisher: u64) -> (Topic, Qos) {
    let root = if publisher % 4 < 2 { "kept" } else { "passing" };
    let topic = Topic::new(&format!("{root}/{}", publisher / 4)).unwrap();
    (topic, if publisher.is_multiple_of(2) { Qos::EffectivelyOnce } else { Qos::AtLeastOnce })
}

/// Takes and acknowledges. Several are in hand at a time.
async fn take(name: &'static str, subscription: Arc<Subscription>) {
    while let Ok(lease) = subscription.next().await {
        let id = lease.event().id.clone();
        println!("taken {name} {id}");
        if name == "least" {
            lease.settle(Verdict::Ack);
            continue;
        }
        tokio::spawn(async move {
            match lease.confirm(Verdict::Ack).await {
                Ok(()) => println!("acknowledged {name} {id}"),
                Err(error) => println!("error {name} {id}: {error}"),
            }
        });
    }
}

/// Waits until nothing is left that somebody waits for, and ends in good order.
async fn drain(broker: &Broker, built_in: &BuiltIn) {
    let topics = built_in.topics().await.expect("the topics");
    let last = topics.iter().map(|topic| topic.last.0).max().unwrap_or(0);
    let is_left = || {
        let is_busy =
            |one: &SubscriptionInfo| one.next <= last || one.queued > 0 || one.unsettled > 0;
        built_in.subscriptions().iter().any(is_busy)
    };
    while is_left() {
        tokio::time::sleep(DRAIN_INTERVAL).await;
    }
    built_in.trim().await.expect("a trim");
    broker.close(PATIENCE).await;
    println!("drained");
}

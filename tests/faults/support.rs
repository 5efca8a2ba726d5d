//! The words in which the tests are written.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::{DEADLINE, eventually, within};
use wasi_pubsub::backends::mqtt::{self, MqttSettings};
use wasi_pubsub::broker::{
    Broker, BrokerError, Event, Lease, Limits, Qos, Subscription, SubscriptionSettings, Topic,
    TopicFilter, Verdict,
};

pub(crate) use wasi_pubsub::backends::mqtt::Version;
pub(crate) use wasi_pubsub::broker::Qos::{AtLeastOnce as QOS_1, EffectivelyOnce as QOS_2};

/// How long a test that breaks things many times may take.
pub(crate) const LONG: Duration = Duration::from_secs(90);

pub(crate) fn settings(url: &str, version: Version) -> MqttSettings {
    let mut settings = MqttSettings::new(url).unwrap();
    settings.version = version;
    settings
}

/// A connection of the installation `identity`.
pub(crate) fn connect_with(settings: MqttSettings, identity: &str) -> Arc<Broker> {
    let connection = mqtt::open(settings, identity.to_owned()).unwrap();
    Broker::new(identity, connection, Limits::default())
}

pub(crate) fn connect(url: &str, version: Version, identity: &str) -> Arc<Broker> {
    connect_with(settings(url, version), identity)
}

pub(crate) fn on(filter: &str, qos: Qos) -> SubscriptionSettings {
    SubscriptionSettings { qos, ..SubscriptionSettings::new(TopicFilter::new(filter).unwrap()) }
}

pub(crate) async fn subscribe(
    broker: &Arc<Broker>,
    settings: SubscriptionSettings,
) -> Arc<Subscription> {
    within("the broker's confirmation", broker.subscribe(settings)).await.unwrap()
}

pub(crate) fn event(id: &str) -> Event {
    sized_event(id, id.len())
}

/// An event whose payload is its id, repeated up to a size.
pub(crate) fn sized_event(id: &str, bytes: usize) -> Event {
    let data: Bytes = id.bytes().cycle().take(bytes).collect();
    Event {
        id: id.to_owned(),
        source: "/faults".into(),
        kind: "test".into(),
        data,
        ..Event::default()
    }
}

pub(crate) async fn publish(
    broker: &Broker,
    to: &str,
    event: Event,
    qos: Qos,
) -> Result<(), BrokerError> {
    publish_within(broker, to, event, qos, DEADLINE).await
}

pub(crate) async fn publish_within(
    broker: &Broker,
    to: &str,
    event: Event,
    qos: Qos,
    timeout: Duration,
) -> Result<(), BrokerError> {
    broker.publish("faults", &Topic::new(to).unwrap(), event, qos, timeout).await
}

pub(crate) async fn take(subscription: &Arc<Subscription>) -> Lease {
    let label = &subscription.settings().label;
    within(&format!("an event of `{label}`"), subscription.next()).await.unwrap()
}

/// Takes the next event, which has to be this one, and acknowledges it.
#[track_caller]
pub(crate) fn handle<'a>(
    subscription: &'a Arc<Subscription>,
    id: &'a str,
) -> impl Future<Output = ()> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        let lease = take(subscription).await;
        assert_eq!(lease.event().id, id, "{caller}: another event than expected");
        within("the confirmation", lease.confirm(Verdict::Ack)).await.unwrap();
    }
}

/// Says goodbye: what was settled has reached the broker.
pub(crate) async fn part(broker: Arc<Broker>, subscription: Arc<Subscription>) {
    subscription.stop();
    within("the drain", subscription.drained()).await;
    within("the end", broker.close(DEADLINE)).await;
}

/// Counts what arrives, in a task for each taker.
pub(crate) struct Tally {
    counts: Arc<Mutex<HashMap<String, usize>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Tally {
    /// Takes and acknowledges all that comes; each event is in hand for a while.
    pub(crate) fn of(subscription: &Arc<Subscription>, takers: usize, in_hand: Duration) -> Self {
        let counts = Arc::new(Mutex::new(HashMap::new()));
        let tasks = (0..takers)
            .map(|_| {
                let (subscription, counts) = (subscription.clone(), counts.clone());
                tokio::spawn(async move {
                    while let Ok(lease) = subscription.next().await {
                        *counts.lock().unwrap().entry(lease.event().id.clone()).or_insert(0) += 1;
                        tokio::time::sleep(in_hand).await;
                        lease.settle(Verdict::Ack);
                    }
                })
            })
            .collect();
        Self { counts, tasks }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.counts.lock().unwrap().contains_key(id)
    }

    /// How many different events came.
    pub(crate) fn len(&self) -> usize {
        self.counts.lock().unwrap().len()
    }

    /// Waits until an event has come.
    pub(crate) async fn wait_for(&self, id: &str) {
        eventually(LONG, &format!("`{id}` has come"), || self.has(id)).await;
    }

    /// Asserts that each of these came, and names those that did not.
    pub(crate) fn assert_all(&self, ids: &[String]) {
        let counts = self.counts.lock().unwrap();
        let missing: Vec<_> = ids.iter().filter(|id| !counts.contains_key(*id)).collect();
        assert!(missing.is_empty(), "{} of {} never came: {missing:?}", missing.len(), ids.len());
    }

    /// Asserts that nothing came twice, and names what did.
    pub(crate) fn assert_once(&self) {
        let counts = self.counts.lock().unwrap();
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(
            twice.is_empty(),
            "{} of {} came more than once: {twice:?}",
            twice.len(),
            counts.len()
        );
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Publishes numbered events from several tasks at once, until told to stop.
pub(crate) struct Publishing {
    outstanding: Arc<AtomicUsize>,
    confirmed: Arc<Mutex<Vec<String>>>,
    enough: Arc<std::sync::atomic::AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Publishing {
    pub(crate) fn start(broker: &Arc<Broker>, to: &str, qos: Qos, tasks: usize) -> Self {
        let outstanding = Arc::new(AtomicUsize::new(0));
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let enough = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let number = Arc::new(AtomicUsize::new(0));
        let tasks = (0..tasks)
            .map(|_| {
                let (broker, to) = (broker.clone(), to.to_owned());
                let (outstanding, confirmed) = (outstanding.clone(), confirmed.clone());
                let (enough, number) = (enough.clone(), number.clone());
                tokio::spawn(async move {
                    while !enough.load(Ordering::SeqCst) {
                        let id = format!("e{}", number.fetch_add(1, Ordering::SeqCst));
                        outstanding.fetch_add(1, Ordering::SeqCst);
                        let result = publish_within(&broker, &to, event(&id), qos, LONG).await;
                        outstanding.fetch_sub(1, Ordering::SeqCst);
                        result.unwrap_or_else(|e| panic!("`{id}` was not confirmed: {e}"));
                        confirmed.lock().unwrap().push(id);
                    }
                })
            })
            .collect();
        Self { outstanding, confirmed, enough, tasks }
    }

    /// Says, at any time, whether events are unconfirmed.
    pub(crate) fn is_waiting(&self) -> impl Fn() -> bool + Send + use<> {
        let outstanding = self.outstanding.clone();
        move || outstanding.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed.lock().unwrap().len()
    }

    /// Waits until that many more are confirmed.
    pub(crate) async fn go_on_for(&self, count: usize) {
        let wanted = self.confirmed() + count;
        eventually(LONG, &format!("{wanted} events are confirmed"), || {
            assert!(
                !self.tasks.iter().any(tokio::task::JoinHandle::is_finished),
                "a publish failed"
            );
            self.confirmed() >= wanted
        })
        .await;
    }

    /// Ends it; the ids of all events, each of them confirmed.
    pub(crate) async fn finish(mut self) -> Vec<String> {
        self.enough.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            tokio::time::timeout(LONG, task).await.expect("the last publishes end").unwrap();
        }
        std::mem::take(&mut *self.confirmed.lock().unwrap())
    }
}

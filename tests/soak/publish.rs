//! Publishes every event until the broker has confirmed it.

use crate::host::TOPIC;
use crate::options::Options;
use crate::tally::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::Mosquitto;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasi_pubsub::backends::mqtt::{self, MqttSettings};
use wasi_pubsub::broker::{Broker, BrokerError, Event, Limits, Qos, Topic};

/// How many publishes are under way at once.
const AT_ONCE: usize = 32;
/// How many events the handlers may be behind: mosquitto keeps them in memory.
const BEHIND_MAX: usize = 20_000;
/// One event in so many takes a moment.
const SLOW_ONE_IN: usize = 50;
/// How long one try waits for the broker's word.
const PATIENCE: Duration = Duration::from_secs(5);

/// The publishers.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    broker: Arc<Broker>,
    tally: Arc<Tally>,
    events: usize,
    start: Instant,
    /// The time from one event to the next.
    interval: Duration,
    next: AtomicUsize,
    /// Those that were published more than once, as no word came.
    repeated: Vec<AtomicBool>,
}

impl Publisher {
    pub(crate) fn start(mosquitto: &Mosquitto, options: &Options, tally: &Arc<Tally>) -> Self {
        let settings = MqttSettings::new(&mosquitto.url()).expect("a URL");
        let connection = mqtt::open(settings, "soak".into()).expect("a connection");
        let events = options.events;
        let interval = options.spread.unwrap_or_default();
        let shared = Arc::new(Shared {
            broker: Broker::new("soak", connection, Limits::default()),
            tally: tally.clone(),
            events,
            start: Instant::now(),
            interval: interval.div_f64(events.max(1) as f64),
            next: AtomicUsize::new(0),
            repeated: (0..events).map(|_| AtomicBool::new(false)).collect(),
        });
        let tasks = (0..AT_ONCE).map(|_| tokio::spawn(publish(shared.clone()))).collect();
        Self { shared, tasks }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    /// Ends the connection. Returns which events were published more than once.
    pub(crate) async fn end(self) -> Vec<bool> {
        for task in self.tasks {
            task.await.expect("everything is published");
        }
        self.shared.broker.close(PATIENCE).await;
        self.shared.repeated.iter().map(|repeated| repeated.load(Ordering::Relaxed)).collect()
    }
}

async fn publish(shared: Arc<Shared>) {
    let topic = Topic::new(TOPIC).expect("a topic");
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.events {
            return;
        }
        let due = u32::try_from(number).map(|number| shared.interval.saturating_mul(number));
        tokio::time::sleep_until(shared.start + due.unwrap_or_default()).await;
        while shared.tally.behind() > BEHIND_MAX {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        confirm(&shared, &topic, number).await;
        shared.tally.published();
    }
}

/// What the guest is to do. Some events take a moment, so that one is in flight
/// when the host is killed.
fn work(number: usize) -> String {
    let sleep = if number.is_multiple_of(SLOW_ONE_IN) { "; sleep 20" } else { "" };
    format!("print {number}{sleep}")
}

/// Publishes an event until the broker has confirmed it.
async fn confirm(shared: &Shared, topic: &Topic, number: usize) {
    loop {
        let event = Event {
            id: number.to_string(),
            source: "soak".into(),
            kind: "number".into(),
            data: work(number).into(),
            ..Event::default()
        };
        let publish =
            shared.broker.publish("soak", topic, event, Qos::EffectivelyOnce, PATIENCE).await;
        match publish {
            Ok(()) => return,
            Err(BrokerError::Unavailable(_)) => {}
            Err(error) => panic!("event {number} cannot be published: {error}"),
        }
        shared.repeated[number].store(true, Ordering::Relaxed);
    }
}

//! pubsub.memory without a guest: publish → deliver → acknowledge.
//!
//! Three ways, in turns. `channels`: each subscription is a channel of tokio, which
//! every event is sent to; what it is measured against. `broker`: the built-in broker
//! at the seam of the drivers. `leases`: with the core above it, as components get
//! their events. Each event is made with data of its own, and each delivery counts.

use crate::measure::{median, process_time, ratios, resident};
use crate::takers::{BURST, Taker, event, request};
use anyhow::{Context as _, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wasi_pubsub::backends::memory::{self, Settings};
use wasi_pubsub::broker::{
    Broker, Event, Limits, Qos, Retention, RetentionRule, SubscriptionSettings, Topic, TopicFilter,
    Verdict,
};

const ROUNDS: usize = 5;
const QOS: Qos = Qos::AtLeastOnce;
/// How many events a channel has room for: as many as bursts leave there.
const CHANNEL_EVENTS: usize = 1024;
/// The longest a publisher waits.
const PATIENCE: Duration = Duration::from_secs(60);
const DATA_BYTES_RETAINED: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Channels,
    Broker,
    Leases,
}

const WAYS: [Way; 3] = [Way::Channels, Way::Broker, Way::Leases];

/// Who publishes to whom.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    publishers: usize,
    /// Of each topic.
    subscriptions: usize,
    /// Each publisher has one of its own, or all have one.
    topics: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "1 → 1", publishers: 1, subscriptions: 1, topics: 1 },
    Shape { name: "10 → 10", publishers: 10, subscriptions: 10, topics: 1 },
    Shape { name: "1 → 100", publishers: 1, subscriptions: 100, topics: 1 },
];
const PAIRS: Shape =
    Shape { name: "10 × (1 → 1)", publishers: 10, subscriptions: 1, topics: 10 };

impl Shape {
    /// How many deliveries come of one event of each publisher.
    fn deliveries(self) -> u64 {
        (self.publishers * self.subscriptions) as u64
    }

    /// How many events of each subscription come of one of each publisher.
    fn of_subscription(self) -> u64 {
        (self.publishers / self.topics) as u64
    }

    fn topic_of(self, publisher: usize) -> Result<Topic> {
        Ok(Topic::new(&format!("bench/{}", publisher % self.topics))?)
    }
}

/// What one round took.
#[derive(Clone, Copy)]
struct Took {
    deliveries: u64,
    time: Duration,
    processor: Duration,
}

impl Took {
    fn rate(self) -> f64 {
        self.deliveries as f64 / self.time.as_secs_f64()
    }

    /// How many cores it had.
    fn cores(self) -> f64 {
        self.processor.as_secs_f64() / self.time.as_secs_f64()
    }

    /// Deliveries in a second of one core.
    fn rate_of_core(self) -> f64 {
        self.deliveries as f64 / self.processor.as_secs_f64()
    }
}

pub(crate) fn run(deliveries: u64, retained: u64) -> Result<()> {
    // First, as memory that was used before is used again.
    memory_of_retained(retained)?;
    println!();
    println!("median of {ROUNDS} rounds of {deliveries} deliveries, qos 1, one thread");
    println!("deliveries in a second of processor time; one to the channels");
    println!("{:14} {:>6} {:>11} {:>11} {:>11}", "", "bytes", "channels", "broker", "leases");
    for shape in SHAPES {
        for bytes in [100, 1024] {
            one_core(shape, bytes, deliveries)?;
        }
    }
    println!();
    println!("two threads to one, 100 bytes: faster by the clock (with so many cores at a time");
    println!("as this and others left), and the processor time of a delivery");
    println!("{:14} {:>18} {:>18} {:>18}", "", "channels", "broker", "leases");
    for shape in [PAIRS, SHAPES[1]] {
        two_cores(shape, deliveries)?;
    }
    Ok(())
}

fn one_core(shape: Shape, bytes: usize, deliveries: u64) -> Result<()> {
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (way, rates) in WAYS.into_iter().zip(&mut rates) {
            rates.push(round(way, shape, bytes, deliveries, 1)?.rate_of_core());
        }
    }
    let cells = rates.iter().map(|of_way| {
        format!("{:6.0}k {:.2}", median(of_way.iter().copied()) / 1e3, ratios(of_way, &rates[0]))
    });
    let cells: Vec<_> = cells.map(|cell| format!("{cell:>11}")).collect();
    println!("{:14} {bytes:6} {}", shape.name, cells.join(" "));
    Ok(())
}

fn two_cores(shape: Shape, deliveries: u64) -> Result<()> {
    let mut cells = Vec::new();
    for way in WAYS {
        let (mut faster, mut cores, mut dearer) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = round(way, shape, 100, deliveries, 1)?;
            let two = round(way, shape, 100, deliveries, 2)?;
            faster.push(two.rate() / one.rate());
            cores.push(two.cores() / one.cores());
            dearer.push(one.rate_of_core() / two.rate_of_core());
        }
        let (faster, cores, dearer) = (median(faster), median(cores), median(dearer));
        cells.push(format!("{faster:5.2} ({cores:4.2}) {dearer:5.2}"));
    }
    println!("{:14} {}", shape.name, cells.join(" "));
    Ok(())
}

/// One round in a runtime of its own, with so many threads.
fn round(way: Way, shape: Shape, bytes: usize, deliveries: u64, threads: usize) -> Result<Took> {
    let events = deliveries / shape.deliveries();
    let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let work = runtime.spawn(async move {
        match way {
            Way::Channels => through_channels(shape, bytes, events).await,
            Way::Broker => through_broker(shape, bytes, events).await,
            Way::Leases => through_leases(shape, bytes, events).await,
        }
    });
    runtime.block_on(work)?
}

/// Runs what publishes and what takes, to the end.
async fn measure(shape: Shape, events: u64, mut tasks: JoinSet<Result<()>>) -> Result<Took> {
    let (began, before) = (Instant::now(), process_time()?);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let (time, processor) = (began.elapsed(), process_time()?.saturating_sub(before));
    Ok(Took { deliveries: events * shape.deliveries(), time, processor })
}

async fn through_channels(shape: Shape, bytes: usize, events: u64) -> Result<Took> {
    let mut tasks = JoinSet::new();
    let mut topics = vec![Vec::new(); shape.topics];
    for topic in &mut topics {
        for _ in 0..shape.subscriptions {
            let (sender, mut receiver) = mpsc::channel::<Arc<Event>>(CHANNEL_EVENTS);
            topic.push(sender);
            let count = events * shape.of_subscription();
            tasks.spawn(async move {
                for _ in 0..count {
                    receiver.recv().await.context("the channel has ended")?;
                }
                Ok(())
            });
        }
    }
    for publisher in 0..shape.publishers {
        let senders = topics[publisher % shape.topics].clone();
        tasks.spawn(async move {
            let data = vec![7; bytes];
            for id in 0..events {
                let event = Arc::new(event(id, &data));
                for sender in &senders {
                    sender.send(event.clone()).await?;
                }
                pause(id).await;
            }
            Ok(())
        });
    }
    measure(shape, events, tasks).await
}

async fn through_broker(shape: Shape, bytes: usize, events: u64) -> Result<Took> {
    let connection = memory::open();
    let mut tasks = JoinSet::new();
    for topic in 0..shape.topics {
        for number in 0..shape.subscriptions {
            let filter = shape.topic_of(topic)?;
            let request = request(&format!("{topic}/{number}"), filter.as_str())?;
            let mut taker = Taker::open(&*connection, request).await?;
            let count = events * shape.of_subscription();
            tasks.spawn(async move { taker.take_all(count, |_| {}).await.map(drop) });
        }
    }
    for publisher in 0..shape.publishers {
        let (connection, topic) = (connection.clone(), shape.topic_of(publisher)?);
        tasks.spawn(async move {
            let data = vec![7; bytes];
            for id in 0..events {
                connection.publish(&topic, Arc::new(event(id, &data)), QOS, None).await?;
                pause(id).await;
            }
            Ok(())
        });
    }
    measure(shape, events, tasks).await
}

async fn through_leases(shape: Shape, bytes: usize, events: u64) -> Result<Took> {
    let broker = Broker::new("bench", memory::open(), Limits::default());
    let mut tasks = JoinSet::new();
    for topic in 0..shape.topics {
        for number in 0..shape.subscriptions {
            let filter = TopicFilter::new(shape.topic_of(topic)?.as_str())?;
            let mut settings = SubscriptionSettings::new(filter);
            settings.label = format!("{topic}/{number}");
            let subscription = broker.subscribe(settings).await?;
            let count = events * shape.of_subscription();
            tasks.spawn(async move {
                for taken in 0..count {
                    subscription.next().await?.settle(Verdict::Ack);
                    pause(taken).await;
                }
                Ok(())
            });
        }
    }
    for publisher in 0..shape.publishers {
        let (broker, topic) = (broker.clone(), shape.topic_of(publisher)?);
        tasks.spawn(async move {
            let data = vec![7; bytes];
            for id in 0..events {
                broker.publish("bench", &topic, event(id, &data), QOS, PATIENCE).await?;
                pause(id).await;
            }
            Ok(())
        });
    }
    measure(shape, events, tasks).await
}

/// Gives others a turn after each burst.
async fn pause(done: u64) {
    if (done + 1).is_multiple_of(BURST as u64) {
        tokio::task::yield_now().await;
    }
}

/// What the process has more for each event that a topic remembers, and for each
/// that waits in a queue: resident memory.
fn memory_of_retained(events: u64) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let topic = Topic::new("bench/0")?;
        let retained = memory::open();
        let filter = TopicFilter::new("#")?;
        let retention = Retention { age: None, events: Some(events), bytes: None };
        retained.set_retention(vec![RetentionRule { filter, retention }]);
        let waiting = memory::open_with(Settings {
            queue_events_max: usize::MAX,
            queue_bytes_max: usize::MAX,
            ..Settings::default()
        });
        let _nobody = Taker::open(&*waiting, request("bench", "#")?).await?;
        let data = [7; DATA_BYTES_RETAINED];
        let size = event(events, &data).size();
        let room = memory::RETAINED_BYTES_MAX / size;
        ensure!(events < room as u64, "no more than {room} events can be retained");
        for (what, connection) in [("a topic remembers", &retained), ("a queue holds", &waiting)] {
            let before = resident()?;
            for id in 0..events {
                connection.publish(&topic, Arc::new(event(id, &data)), QOS, None).await?;
            }
            let more = resident()?.saturating_sub(before) as f64 / events as f64;
            println!(
                "{more:5.0} bytes of memory for each event of {DATA_BYTES_RETAINED} bytes \
                 ({size} with its attributes) that {what}, of {events}"
            );
        }
        anyhow::Ok(())
    })
}

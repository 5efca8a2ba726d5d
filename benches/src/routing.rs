//! Users spread over topics, each with a subscription that selects its events by an
//! attribute: what a message costs, through the core, from publish to acknowledgement.
//!
//! Each user has a subscription to all topics. Each pair of a user and a topic has
//! equally many events; each must reach its user once, and nobody else.

use crate::measure::{median, process_time, ratios};
use crate::takers::{BURST, event};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::{
    Broker, Event, EventFilter, Limits, Qos, Subscription, SubscriptionSettings, Topic,
    TopicFilter, Verdict,
};

const ROUNDS: usize = 3;
const FEW: usize = 10;
const DATA_BYTES: usize = 100;
/// The longest a publisher waits.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct World {
    users: usize,
    topics: usize,
    /// Events of each pair.
    events: usize,
}

pub(crate) fn run(users: usize, topics: usize, events: usize) -> Result<()> {
    let many = World { users, topics, events };
    let all = users * topics * events;
    let few = World { users: FEW, topics: FEW, events: all.div_ceil(FEW * FEW) };
    println!("{DATA_BYTES} bytes, median of {ROUNDS} rounds, one thread, processor time");
    let mut costs: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (world, costs) in [few, many].into_iter().zip(&mut costs) {
            costs.push(round(world)?);
        }
    }
    for (world, of_world) in [few, many].into_iter().zip(&costs) {
        let World { users, topics, events } = world;
        println!(
            "{users:6} users × {topics:6} topics × {events:6}: {:6.2} µs a message, {:.2}; \
             each reached its user",
            median(of_world.iter().copied()),
            ratios(of_world, &costs[0])
        );
    }
    Ok(())
}

/// Microseconds of processor time a message.
fn round(world: World) -> Result<f64> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let work = runtime.spawn(route(world));
    runtime.block_on(work)?
}

async fn route(world: World) -> Result<f64> {
    let World { users, topics, events } = world;
    let broker = Broker::new("bench", memory::open(), Limits::default());
    let mut subscriptions = Vec::with_capacity(users);
    for user in 0..users {
        let mut settings = SubscriptionSettings::new(TopicFilter::new("rooms/+")?);
        settings.label = name(user);
        let filter = format!("attributes.user = \"{}\"", name(user));
        settings.event_filter = Some(EventFilter::new(&filter)?);
        subscriptions.push(broker.subscribe(settings).await?);
    }
    let mut tasks = JoinSet::new();
    for (user, subscription) in subscriptions.iter().cloned().enumerate() {
        tasks.spawn(take(world, user, subscription));
    }
    let all = users * topics * events;
    let (began, before) = (Instant::now(), process_time()?);
    tasks.spawn(publish(world, broker));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let processor = process_time()?.saturating_sub(before);
    ensure!(processor <= began.elapsed() * 2, "other threads were busy");
    // Nobody has more than what was his.
    for subscription in &subscriptions {
        ensure!(subscription.try_next()?.is_none(), "an event came twice");
    }
    Ok(processor.as_secs_f64() * 1e6 / all as f64)
}

async fn publish(world: World, broker: Arc<Broker>) -> Result<()> {
    let World { users, topics, events } = world;
    let rooms: Vec<_> =
        (0..topics).map(|topic| Topic::new(&format!("rooms/{topic}"))).collect::<Result<_, _>>()?;
    let pairs = users * topics;
    for id in 0..pairs * events {
        // Each pair in turn, with another user and another topic each time.
        let (topic, user) = (id % topics, (id % topics + id / topics) % users);
        let attributes = vec![("user".to_owned(), name(user))];
        let event = Event { attributes, ..event(id as u64, &[7; DATA_BYTES]) };
        broker.publish("bench", &rooms[topic], event, Qos::AtLeastOnce, PATIENCE).await?;
        pause(id).await;
    }
    Ok(())
}

/// Takes what is this user's, and finds out whether it is.
async fn take(world: World, user: usize, subscription: Arc<Subscription>) -> Result<()> {
    let (name, mut of_topics) = (name(user), vec![0; world.topics]);
    for taken in 0..world.topics * world.events {
        let lease = subscription.next().await?;
        let event = lease.event();
        ensure!(event.attribute("user") == Some(&*name), "{name} has got {event:?}");
        let topic: usize = lease.topic().as_str().trim_start_matches("rooms/").parse()?;
        of_topics[topic] += 1;
        lease.settle(Verdict::Ack);
        pause(taken).await;
    }
    let is_right = of_topics.iter().all(|count| *count == world.events);
    ensure!(is_right, "{name} has not got the events of each topic");
    Ok(())
}

/// Gives others a turn after each burst.
async fn pause(done: usize) {
    if (done + 1).is_multiple_of(BURST) {
        tokio::task::yield_now().await;
    }
}

fn name(user: usize) -> String {
    format!("u{user}")
}

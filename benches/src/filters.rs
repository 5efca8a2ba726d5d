//! What a publish costs with many subscriptions, beside few.
//!
//! Each event belongs to one subscription, however many there are. Only publishing is
//! timed, in processor time of its thread; what was published is taken afterwards.
//! `all`: the events go to all subscriptions in turn. `ten`: to the same ten ones, so
//! that only the search among the others is new, and no queue that was not used for long.

use crate::measure::{median, ratios, thread_time};
use crate::takers::{Taker, event, request};
use anyhow::{Context as _, Result, ensure};
use futures_util::FutureExt as _;
use std::sync::Arc;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::{Connection, SubscribeRequest};
use wasi_pubsub::broker::{Event, EventFilter, Qos, Topic};

const ROUNDS: usize = 9;
const FEW: usize = 10;
const DATA_BYTES: usize = 100;

/// What tells the subscriptions from each other.
#[derive(Clone, Copy)]
enum By {
    /// The value of an attribute; the topics are the same.
    Attribute,
    /// Topic filters, each with wildcards.
    Topic,
}

impl By {
    fn request(self, number: usize) -> Result<SubscribeRequest> {
        let label = format!("s{number}");
        Ok(match self {
            Self::Attribute => {
                let filter = EventFilter::new(&format!("attributes.user = \"u{number}\""))?;
                SubscribeRequest { event_filter: Some(filter), ..request(&label, "rooms/+")? }
            }
            Self::Topic => {
                let filter = match number % 4 {
                    0 => format!("site/n{number}/+/state"),
                    1 => format!("site/+/n{number}/#"),
                    2 => format!("+/n{number}/#"),
                    _ => format!("site/+/+/n{number}"),
                };
                request(&label, &filter)?
            }
        })
    }

    /// An event that this subscription wants and no other one.
    fn event(self, id: u64, number: usize) -> Result<(Topic, Arc<Event>)> {
        let event = event(id, &[7; DATA_BYTES]);
        Ok(match self {
            Self::Attribute => {
                let attributes = vec![("user".to_owned(), format!("u{number}"))];
                (
                    Topic::new(&format!("rooms/{}", id % 100))?,
                    Arc::new(Event { attributes, ..event }),
                )
            }
            Self::Topic => {
                let topic = match number % 4 {
                    0 => format!("site/n{number}/line/state"),
                    1 => format!("site/hall/n{number}/line/state"),
                    2 => format!("plant/n{number}/line/state"),
                    _ => format!("site/hall/line/n{number}"),
                };
                (Topic::new(&topic)?, Arc::new(event))
            }
        })
    }
}

/// A broker with so many subscriptions.
struct Subscribed {
    by: By,
    connection: Arc<dyn Connection>,
    takers: Vec<Taker>,
}

impl Subscribed {
    async fn new(by: By, subscriptions: usize) -> Result<Self> {
        let connection = memory::open();
        let mut takers = Vec::with_capacity(subscriptions);
        for number in 0..subscriptions {
            takers.push(Taker::open(&*connection, by.request(number)?).await?);
        }
        Ok(Self { by, connection, takers })
    }

    /// Nanoseconds a publish, where the events go to this many of the subscriptions.
    fn publish(&mut self, events: u64, to: usize) -> Result<f64> {
        let number = |id: u64| (id as usize * 7919) % to;
        let brought: Vec<_> =
            (0..events).map(|id| self.by.event(id, number(id))).collect::<Result<_>>()?;
        let before = thread_time()?;
        for (topic, event) in &brought {
            let publish = self.connection.publish(topic, event.clone(), Qos::AtLeastOnce, None);
            publish.now_or_never().context("a queue is full")??;
        }
        let took = thread_time()?.saturating_sub(before);
        let mut taken = 0;
        for taker in &mut self.takers {
            loop {
                match taker.take(|_| {})? {
                    0 => break,
                    count => taken += count as u64,
                }
            }
        }
        ensure!(taken == events, "{taken} of {events} events were delivered");
        Ok(took.as_nanos() as f64 / events as f64)
    }
}

pub(crate) async fn run(events: u64, attributes: usize, filters: usize) -> Result<()> {
    println!(
        "processor time of a publish of {DATA_BYTES} bytes, median of {ROUNDS} rounds of {events}"
    );
    compare("attribute filters", By::Attribute, attributes, events).await?;
    compare("topic filters with wildcards", By::Topic, filters, events).await
}

async fn compare(what: &str, by: By, many: usize, events: u64) -> Result<()> {
    let mut few_of_them = Subscribed::new(by, FEW).await?;
    let mut many_of_them = Subscribed::new(by, many).await?;
    let (mut few, mut ten, mut all) = (Vec::new(), Vec::new(), Vec::new());
    // The first round makes the queues as large as they become.
    for round in 0..=ROUNDS {
        let found = (
            few_of_them.publish(events, FEW)?,
            many_of_them.publish(events, FEW)?,
            many_of_them.publish(events, many)?,
        );
        if round > 0 {
            few.push(found.0);
            ten.push(found.1);
            all.push(found.2);
        }
    }
    let row = |subscriptions: usize, to: &str, costs: &[f64]| {
        let cost = median(costs.iter().copied());
        println!("{subscriptions:8} {what}, to {to:3}: {cost:6.0} ns, {:.2}", ratios(costs, &few));
    };
    row(FEW, "all", &few);
    row(many, "ten", &ten);
    row(many, "all", &all);
    Ok(())
}

//! pubsub.memory → on-message → acknowledgement, beside the raw call.
//!
//! The events lie in a queue before the clock starts, so that what is measured
//! is the way from the queue through the guest to the acknowledgement. The raw
//! call runs in an engine with the same settings.

use crate::raw::Raw;
use crate::service::{self, Start};
use crate::{guest, raw};
use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::SubscribeRequest;
use wasi_pubsub::broker::{Broker, Limits, Qos};
use wasi_pubsub::runtime::InstanceMode;

const ROUNDS: usize = 5;
const DATA_BYTES: usize = 100;
const AT_ONCE: usize = 64;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// A 0.2 handler, one call after the other in one instance
    Serial,
    /// The same in two instances
    SerialTwo,
    /// A 0.3 handler, 64 calls at once in one instance
    Concurrent,
    /// A 0.2 handler, a new instance for each event
    Fresh,
    /// The same, two at a time
    FreshTwo,
}

/// Measures these figures, or all of them.
pub async fn run(events: u64, figures: &[Figure]) -> Result<()> {
    println!("{DATA_BYTES} B events, best of {ROUNDS} rounds of {events}, rounds alternate");
    let figures = if figures.is_empty() { Figure::value_variants() } else { figures };
    let mut rates = HashMap::new();
    for &figure in figures {
        let found = figure.measure(events).await?;
        found.report(figure.name());
        rates.insert(format!("{figure:?}"), found.host);
    }
    let cores = std::thread::available_parallelism()?;
    for (one, two) in [("Serial", "SerialTwo"), ("Fresh", "FreshTwo")] {
        if let (Some(one), Some(two)) = (rates.get(one), rates.get(two)) {
            println!("two workers are {:.2} times one, on {cores} cores", two / one);
        }
    }
    Ok(())
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::Serial => "0.2 handler, reused, one worker",
            Self::SerialTwo => "0.2 handler, reused, two workers (raw: two threads)",
            Self::Concurrent => "0.3 handler, 64 in flight in one instance",
            Self::Fresh => "0.2 handler, fresh, one worker",
            Self::FreshTwo => "0.2 handler, fresh, two workers (raw: two threads)",
        }
    }

    async fn measure(self, events: u64) -> Result<Rates> {
        let (serial, concurrent) = (guest("faulty"), guest("faulty_async"));
        let (raw, path, mode, instances) = match self {
            Self::Serial => (Raw::serial(&serial), serial, InstanceMode::Reuse, 1),
            Self::SerialTwo => (Raw::serial(&serial).on(2), serial, InstanceMode::Reuse, 2),
            Self::Concurrent => {
                (Raw::concurrent(&concurrent, AT_ONCE), concurrent, InstanceMode::Reuse, 1)
            }
            Self::Fresh => (Raw::fresh(&serial), serial, InstanceMode::Fresh, 1),
            Self::FreshTwo => (Raw::fresh(&serial).on(2), serial, InstanceMode::Fresh, 2),
        };
        // An instance for each event costs more than the call.
        let events = if mode == InstanceMode::Fresh { events / 5 } else { events };
        alternate(events, raw, (path, mode, instances)).await
    }
}

/// Events a second.
struct Rates {
    raw: f64,
    host: f64,
}

impl Rates {
    fn report(&self, what: &str) {
        let Self { raw, host } = self;
        println!("{what}: raw {raw:.0}/s, host {host:.0}/s, ratio {:.2}", host / raw);
    }
}

async fn alternate(
    events: u64,
    raw: Raw,
    (path, mode, instances): (PathBuf, InstanceMode, usize),
) -> Result<Rates> {
    let data = vec![7_u8; DATA_BYTES];
    let mut rates = Rates { raw: 0.0, host: 0.0 };
    for _ in 0..ROUNDS {
        rates.raw = rates.raw.max(raw::rate(&raw, events, &data).await?);
        let start = Start { mode, instances, ..Start::new(&path) };
        rates.host = rates.host.max(through_host(start, events, &data).await?);
    }
    Ok(rates)
}

async fn through_host(start: Start, events: u64, data: &[u8]) -> Result<f64> {
    let bound = usize::try_from(events)?;
    let connection = memory::open_with(memory::Settings {
        queue_events_max: bound,
        queue_bytes_max: usize::MAX,
        ..memory::Settings::default()
    });
    // A group's queue collects while nobody is in the group.
    let group = Some("bench".to_owned());
    let nobody = connection
        .subscribe(SubscribeRequest { group: group.clone(), ..service::request()? })
        .await?;
    drop(nobody);
    let broker = Broker::new("bench", connection.clone(), Limits::default());
    let (topic, data) = (service::topic()?, Bytes::copy_from_slice(data));
    for id in 0..events {
        let event = service::event(id, &data);
        broker.publish("bench", &topic, event, Qos::AtLeastOnce, Duration::from_secs(60)).await?;
    }
    let start = Start { group, in_flight: AT_ONCE, expected: events, ..start };
    let running = service::start(start, connection).await?;
    let took = running.count.reached().await;
    running.stop().await?;
    Ok(events as f64 / took.as_secs_f64())
}

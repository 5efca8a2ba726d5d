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
use std::path::PathBuf;
use std::time::Duration;
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::SubscribeRequest;
use wasi_pubsub::broker::{Broker, Limits, Qos};
use wasi_pubsub::runtime::InstanceMode;

const ROUNDS: usize = 5;
const DATA_BYTES: usize = 100;
const AT_ONCE: usize = 64;

pub async fn run(events: u64) -> Result<()> {
    println!("{DATA_BYTES} B events, best of {ROUNDS} rounds of {events}, rounds alternate");
    let cores = std::thread::available_parallelism()?.get();
    let (serial, concurrent) = (guest("faulty"), guest("faulty_async"));
    let reuse = |path: &PathBuf, instances| (path.clone(), InstanceMode::Reuse, instances);

    let one = alternate(events, Raw::serial(&serial), reuse(&serial, 1)).await?;
    one.report("0.2 handler, reused, one worker");
    let two = alternate(events, Raw::serial(&serial).on(2), reuse(&serial, 2)).await?;
    two.report("0.2 handler, reused, two workers (raw: two threads)");
    println!("  two workers are {:.2} times one, on {cores} cores", two.host / one.host);
    let many = alternate(events, Raw::concurrent(&concurrent, AT_ONCE), reuse(&concurrent, 1));
    many.await?.report("0.3 handler, 64 in flight in one instance");

    // An instance for each event costs more than the call.
    let events = events / 10;
    let fresh = |instances| (serial.clone(), InstanceMode::Fresh, instances);
    let one = alternate(events, Raw::fresh(&serial), fresh(1)).await?;
    one.report("0.2 handler, fresh, one worker");
    let two = alternate(events, Raw::fresh(&serial).on(2), fresh(2)).await?;
    two.report("0.2 handler, fresh, two workers (raw: two threads)");
    Ok(())
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

//! pubsub.memory → on-message → acknowledgement, beside the raw call.

use crate::{guest, raw, service};
use anyhow::Result;
use bytes::Bytes;
use std::path::Path;
use std::time::{Duration, Instant};
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::Qos;

const ROUNDS: usize = 3;
const DATA_BYTES: usize = 100;
const AT_ONCE: usize = 64;

pub async fn run(events: u64) -> Result<()> {
    let data = vec![7_u8; DATA_BYTES];
    println!(
        "{DATA_BYTES} B events, one component with one instance, best of {ROUNDS} rounds of {events}"
    );
    let (mut raw_best, mut host_best) = (0_f64, 0_f64);
    for _ in 0..ROUNDS {
        raw_best = raw_best.max(raw::serial(&guest("faulty"), events, &data).await?);
        host_best = host_best.max(through_host(&guest("faulty"), events, &data).await?);
    }
    report("0.2 handler, one after the other", raw_best, host_best);
    let (mut raw_best, mut host_best) = (0_f64, 0_f64);
    for _ in 0..ROUNDS {
        let path = guest("faulty_async");
        raw_best = raw_best.max(raw::concurrent(&path, events, &data, AT_ONCE).await?);
        host_best = host_best.max(through_host(&path, events, &data).await?);
    }
    report("0.3 handler, 64 at once", raw_best, host_best);
    Ok(())
}

fn report(what: &str, raw: f64, host: f64) {
    println!("{what}: raw {raw:.0}/s, host {host:.0}/s, ratio {:.2}", host / raw);
}

async fn through_host(path: &Path, events: u64, data: &[u8]) -> Result<f64> {
    let running = service::start(path, memory::open(), Qos::AtLeastOnce, AT_ONCE).await?;
    running.count.expect(events);
    let begun = Instant::now();
    let publisher = {
        let (broker, data) = (running.broker.clone(), Bytes::copy_from_slice(data));
        tokio::spawn(async move {
            let topic = service::topic()?;
            for id in 0..events {
                let event = service::event(id, &data);
                broker
                    .publish("bench", &topic, event, Qos::AtLeastOnce, Duration::from_secs(60))
                    .await?;
            }
            anyhow::Ok(())
        })
    };
    running.count.reached().await;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    publisher.await??;
    running.stop().await?;
    Ok(rate)
}

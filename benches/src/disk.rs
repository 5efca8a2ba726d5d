//! Durable publishes through pubsub.disk, beside a raw file that gets as many bytes of
//! data in one write and one fdatasync, on the same file system.
//!
//! `waits`: a subscription without a subscriber, for which everything is kept. `queue`:
//! a subscriber takes everything meanwhile and acknowledges it, and what is over is
//! deleted. Publishers publish one event after the other, each when the one before is
//! durable; they are answered before the next commit, so that a batch has one event of
//! each at most.

use crate::measure::{median, ratios};
use crate::takers::{Taker, event, request};
use anyhow::Result;
use bytes::Bytes;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wasi_pubsub::backends::disk::{DiskStorage, Options};
use wasi_pubsub::broker::driver::Connection;
use wasi_pubsub::broker::{Event, Qos, Topic};
use wasi_pubsub::builtin::{BuiltIn, Settings};

/// How often they take turns, so that all meet the same disk.
const TURNS: u32 = 5;
const TOPICS: usize = 10;

/// What the turns of one found.
#[derive(Default)]
struct Found {
    rates: Vec<f64>,
    /// In seconds: the median of each turn.
    latencies: Vec<f64>,
}

impl Found {
    fn add(&mut self, events: usize, took: Duration, latencies: Vec<Duration>) {
        self.rates.push(events as f64 / took.as_secs_f64());
        self.latencies.push(median(latencies.iter().map(Duration::as_secs_f64)));
    }

    fn report(&self, raw: &Self) -> String {
        let rate = median(self.rates.iter().copied());
        let latency = median(self.latencies.iter().copied()) * 1e3;
        let (of_rates, of_latencies) =
            (ratios(&self.rates, &raw.rates), ratios(&self.latencies, &raw.latencies));
        format!("{rate:8.0}/s {of_rates:4.2} {latency:6.2} ms {of_latencies:4.2}")
    }
}

/// Measures in a folder of the disk in question.
pub(crate) async fn run(
    folder: &Path,
    publishers: &[usize],
    bytes: &[usize],
    turn: Duration,
) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    println!("median of {TURNS} turns of {turn:?}: events, and latency; each one to the raw file");
    println!("publishers  bytes  {:29} {:29} {:29}", "raw file", "waits", "queue");
    for &bytes in bytes {
        for &publishers in publishers {
            let mut found: [Found; 3] = Default::default();
            for _ in 0..TURNS {
                raw_file(folder, publishers, bytes, turn, &mut found[0])?;
                store(folder, publishers, bytes, turn, false, &mut found[1]).await?;
                store(folder, publishers, bytes, turn, true, &mut found[2]).await?;
            }
            let cells: Vec<_> = found.iter().map(|one| one.report(&found[0])).collect();
            println!("{publishers:10} {bytes:6}  {}", cells.join("  "));
        }
    }
    Ok(())
}

/// One write and one fdatasync for each batch.
fn raw_file(
    folder: &Path,
    batch: usize,
    bytes: usize,
    turn: Duration,
    found: &mut Found,
) -> Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    let records = vec![b'x'; bytes * batch];
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < turn {
        let one = Instant::now();
        file.write_all(&records)?;
        File::sync_data(&file)?;
        latencies.push(one.elapsed());
    }
    found.add(latencies.len() * batch, began.elapsed(), latencies);
    Ok(())
}

/// Publishers that each publish one event after the other.
async fn store(
    folder: &Path,
    publishers: usize,
    bytes: usize,
    turn: Duration,
    is_taken: bool,
    found: &mut Found,
) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    let storage = DiskStorage::open(folder.path().join("events.db"), &Options::default())?;
    let connection = BuiltIn::open(Arc::new(storage), Settings::default())?;
    let mut taker = Taker::open(&*connection, request("bench", "bench/#")?).await?;
    let taking = is_taken
        .then(|| tokio::spawn(async move { taker.take_all(u64::MAX, |_| {}).await.map(drop) }));
    let is_over = Arc::new(AtomicBool::new(false));
    let data = Bytes::from(vec![b'x'; bytes]);
    let began = Instant::now();
    let tasks: Vec<_> = (0..publishers)
        .map(|publisher| {
            let (connection, is_over, data) = (connection.clone(), is_over.clone(), data.clone());
            tokio::spawn(async move {
                let topic = Topic::new(&format!("bench/{}", publisher % TOPICS))?;
                let mut latencies = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let event = Event { data: data.clone(), ..event(latencies.len() as u64, &[]) };
                    let one = Instant::now();
                    connection.publish(&topic, Arc::new(event), Qos::AtLeastOnce, None).await?;
                    latencies.push(one.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    tokio::time::sleep(turn).await;
    is_over.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    found.add(latencies.len(), began.elapsed(), latencies);
    if let Some(taking) = taking {
        taking.abort();
        // It was cancelled, or has failed before.
        if let Ok(failed) = taking.await {
            failed?;
        }
    }
    connection.close(Duration::from_secs(5)).await;
    Ok(())
}

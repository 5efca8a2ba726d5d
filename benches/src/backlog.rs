//! A large store of pubsub.disk: filling it, opening it in another process, and a
//! subscription that reads all of it from the earliest event on, through the broker.
//! Everything stays there. The files are in the cache of the system.

use crate::measure::{process_time, resident};
use crate::takers::{Taker, event, request};
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use wasi_pubsub::backends::disk::{DiskStorage, Options};
use wasi_pubsub::broker::driver::{Connection, SubscribeRequest};
use wasi_pubsub::broker::{Event, Qos, Retention, RetentionRule, Start, Topic, TopicFilter};
use wasi_pubsub::builtin::storage::{Appended, Storage as _};
use wasi_pubsub::builtin::{BuiltIn, Publication, Settings};

const TOPICS: u64 = 100;
/// How many write at once while it is filled.
const PUBLISHERS: u64 = 4096;
const MIB: f64 = 1024.0 * 1024.0;

/// Fills a store, and has another process open it and read all of it.
pub(crate) async fn run(folder: &Path, events: u64, bytes: usize) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let folder = tempfile::tempdir_in(folder)?;
    let path = folder.path().join("events.db");
    fill(&path, events, bytes).await?;
    let size = path.metadata()?.len();
    println!("{:9.1} bytes of the file an event", size as f64 / events as f64);
    // What this process has used before would hide what reading uses.
    let events = events.to_string();
    let status = Command::new(std::env::current_exe()?)
        .args(["backlog", "--events", &events, "--open"])
        .arg(&path)
        .status()?;
    ensure!(status.success(), "reading has failed");
    Ok(())
}

/// Opens a store with so many events and reads all of it.
pub(crate) async fn reopen(path: &Path, events: u64) -> Result<()> {
    let before = resident()?;
    let began = Instant::now();
    let broker = open(path)?;
    println!("{:9.1?} to open it again", began.elapsed());
    let began = Instant::now();
    let request = SubscribeRequest { start: Start::Earliest, ..request("late", "bench/#")? };
    let mut taker = Taker::open(&*broker, request).await?;
    let first = taker.take_all(1, |_| {}).await?;
    println!("{:9.1?} to the first event of a new subscription to all", began.elapsed());
    read(&mut taker, events - first, before).await?;
    drop(taker);
    broker.close(Duration::from_secs(60)).await;
    Ok(())
}

fn open(path: &Path) -> Result<Arc<BuiltIn>> {
    let options = Options { max_bytes: u64::MAX / 2, ..Options::default() };
    let broker = BuiltIn::open(Arc::new(DiskStorage::open(path, &options)?), Settings::default())?;
    // Everything stays, though it is acknowledged.
    let filter = TopicFilter::new("#")?;
    broker.set_retention(vec![RetentionRule { filter, retention: Retention::default() }]);
    Ok(broker)
}

/// Takes and acknowledges so many, and looks at the memory meanwhile.
async fn read(taker: &mut Taker, events: u64, before: u64) -> Result<()> {
    let (mut taken, mut peak) = (0, 0);
    let (began, worked) = (Instant::now(), process_time()?);
    for part in 1..=100 {
        let until = part * events / 100;
        taken += taker.take_all(until.saturating_sub(taken), |_| {}).await?;
        peak = peak.max(resident()?);
        if [10, 50, 100].contains(&part) {
            let more = peak.saturating_sub(before) as f64 / MIB;
            println!("{more:9.1} MiB more memory at most, up to {part} %");
        }
    }
    let (time, processor) = (began.elapsed(), process_time()?.saturating_sub(worked));
    ensure!(taken == events, "{taken} events were read, and {events} are there");
    println!("{:9.0} events/s read and acknowledged", events as f64 / time.as_secs_f64());
    println!("{:9.0} in a second of processor time", events as f64 / processor.as_secs_f64());
    Ok(())
}

/// Writes to the storage itself, without a broker.
async fn fill(path: &Path, events: u64, bytes: usize) -> Result<()> {
    let options = Options { max_bytes: u64::MAX / 2, ..Options::default() };
    let storage = Arc::new(DiskStorage::open(path, &options)?);
    let began = Instant::now();
    let (data, next) = (Bytes::from(vec![b'x'; bytes]), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (storage, data, next) = (storage.clone(), data.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    if id >= events {
                        return anyhow::Ok(());
                    }
                    let topic = Topic::new(&format!("bench/{}", id % TOPICS))?;
                    let event = Arc::new(Event { data: data.clone(), ..event(id, &[]) });
                    append(&storage, topic, event).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!("{:9.0} events/s written", events as f64 / began.elapsed().as_secs_f64());
    storage.close().await;
    Ok(())
}

async fn append(storage: &DiskStorage, topic: Topic, event: Arc<Event>) -> Result<()> {
    let publication = Publication::unrouted(topic, event, Qos::AtLeastOnce, SystemTime::now());
    match storage.append(publication) {
        Appended::Later(reply) => {
            reply.await??;
        }
        Appended::Now(_, notices) => notices.send(),
        Appended::Full(_) => anyhow::bail!("there is no room"),
    }
    Ok(())
}

//! Durable publishes through the storage of pubsub.disk, beside a raw file that gets
//! as many records in one write and one fdatasync.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use wasi_pubsub::backends::disk::{DiskStorage, Options};
use wasi_pubsub::broker::{Event, Qos, Topic, TopicFilter};
use wasi_pubsub::builtin::Publication;
use wasi_pubsub::builtin::storage::{Appended, Fetch, Page, Storage, Which};

/// How often the two take turns, so that both meet the same disk.
const TURNS: u32 = 3;

/// What one turn found.
#[derive(Default)]
struct Found {
    events: u64,
    took: Duration,
    latencies: Vec<Duration>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.events += other.events;
        self.took += other.took;
        self.latencies.extend(other.latencies);
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    fn median(&mut self) -> Duration {
        self.latencies.sort_unstable();
        self.latencies.get(self.latencies.len() / 2).copied().unwrap_or_default()
    }
}

/// Measures in a folder of the disk in question.
pub(crate) async fn run(
    folder: &Path,
    publishers: &[usize],
    bytes: &[usize],
    turn: Duration,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    println!("publishers  bytes     raw/s  latency   store/s  latency  ratio");
    for &bytes in bytes {
        for &publishers in publishers {
            let (mut raw, mut store) = (Found::default(), Found::default());
            for _ in 0..TURNS {
                raw.add(raw_file(folder, publishers, bytes, turn)?);
                store.add(storage(folder, publishers, bytes, turn).await?);
            }
            println!(
                "{publishers:10} {bytes:6} {:9.0} {:8.2?} {:9.0} {:8.2?} {:6.2}",
                raw.rate(),
                raw.median(),
                store.rate(),
                store.median(),
                store.rate() / raw.rate(),
            );
        }
    }
    Ok(())
}

/// One write and one fdatasync for each batch.
fn raw_file(folder: &Path, batch: usize, bytes: usize, turn: Duration) -> anyhow::Result<Found> {
    let path = folder.join("raw");
    let mut file = File::create(&path)?;
    let records = vec![b'x'; bytes * batch];
    let mut found = Found::default();
    let began = Instant::now();
    while began.elapsed() < turn {
        let one = Instant::now();
        file.write_all(&records)?;
        file.sync_data()?;
        found.latencies.push(one.elapsed());
        found.events += batch as u64;
    }
    found.took = began.elapsed();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(found)
}

/// Publishers that each publish one event after the other.
async fn storage(
    folder: &Path,
    publishers: usize,
    bytes: usize,
    turn: Duration,
) -> anyhow::Result<Found> {
    let folder = tempfile::tempdir_in(folder)?;
    let storage =
        Arc::new(DiskStorage::open(folder.path().join("events.db"), &Options::default())?);
    let is_over = Arc::new(AtomicBool::new(false));
    let data = Bytes::from(vec![b'x'; bytes]);
    let began = Instant::now();
    let tasks: Vec<_> = (0..publishers)
        .map(|publisher| {
            let (storage, is_over, data) = (storage.clone(), is_over.clone(), data.clone());
            tokio::spawn(async move {
                let topic = Topic::new(&format!("bench/{}", publisher % 10))?;
                let mut found = Found::default();
                while !is_over.load(Ordering::Relaxed) {
                    let one = Instant::now();
                    publish(&storage, &topic, data.clone(), found.events).await?;
                    found.latencies.push(one.elapsed());
                    found.events += 1;
                }
                anyhow::Ok(found)
            })
        })
        .collect();
    tokio::time::sleep(turn).await;
    is_over.store(true, Ordering::Relaxed);
    let mut all = Found::default();
    for task in tasks {
        all.add(task.await??);
    }
    all.took = began.elapsed();
    storage.close().await;
    Ok(all)
}

async fn publish(storage: &DiskStorage, topic: &Topic, data: Bytes, id: u64) -> anyhow::Result<()> {
    let event = Event {
        id: id.to_string(),
        source: "bench".to_owned(),
        kind: "bench".to_owned(),
        data,
        ..Event::default()
    };
    match storage.append(Publication::unrouted(
        topic.clone(),
        Arc::new(event),
        Qos::AtLeastOnce,
        SystemTime::now(),
    )) {
        Appended::Later(reply) => {
            reply.await??;
        }
        Appended::Now(_, notices) => notices.send(),
        Appended::Full(_) => bail!("there is no room"),
    }
    Ok(())
}

/// Fills a store, opens it again and reads all of it.
pub(crate) async fn backlog(folder: &Path, events: u64, bytes: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let folder = tempfile::tempdir_in(folder)?;
    let path = folder.path().join("events.db");
    let options = Options { max_bytes: u64::MAX / 2, ..Options::default() };
    let storage = Arc::new(DiskStorage::open(&path, &options)?);
    let began = Instant::now();
    fill(&storage, events, bytes).await?;
    println!("{:9.0} events/s written", events as f64 / began.elapsed().as_secs_f64());
    storage.close().await;
    drop(storage);
    let size = path.metadata()?.len();
    println!("{:9.1} bytes of the file an event", size as f64 / events as f64);

    let began = Instant::now();
    let storage = DiskStorage::open(&path, &options)?;
    storage.load()?;
    println!("{:9.1?} to open it again", began.elapsed());
    let before = resident()?;
    let (mut read, mut from, mut most) = (0, 1, before);
    let began = Instant::now();
    loop {
        let page = page(&storage, from).await?;
        read += page.events.len() as u64;
        most = most.max(resident()?);
        if page.is_last {
            break;
        }
        from = page.next;
    }
    println!("{:9.0} events/s read", read as f64 / began.elapsed().as_secs_f64());
    println!("{:9.1} MiB more memory at most", most.saturating_sub(before) as f64 / 1048576.0);
    anyhow::ensure!(read == events, "{read} of {events} events were read");
    Ok(())
}

async fn fill(storage: &Arc<DiskStorage>, events: u64, bytes: usize) -> anyhow::Result<()> {
    const PUBLISHERS: u64 = 4096;
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
                    let topic = Topic::new(&format!("bench/{}", id % 100))?;
                    publish(&storage, &topic, data.clone(), id).await?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn page(storage: &DiskStorage, from: u64) -> anyhow::Result<Page> {
    let which = Which::Range { filter: TopicFilter::new("bench/#")?, from, end: None };
    let (reply, page) = tokio::sync::oneshot::channel();
    let fetch = Fetch { which, events_max: 1000, bytes_max: 4 << 20 };
    storage.fetch(fetch, Box::new(move |page| drop(reply.send(page))));
    Ok(page.await??)
}

/// The memory of this process, in bytes.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

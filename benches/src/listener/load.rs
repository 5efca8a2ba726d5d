//! Publishers and subscribers that keep a broker busy.

use super::client::{self, Client, Frame, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL};
use anyhow::{Result, bail, ensure};
use futures_util::future::{select_all, try_join};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use wasi_pubsub::broker::Qos;

/// How many events are written at a time.
const BURST: u64 = 64;
const BUFFER_BYTES: usize = 256 * 1024;
/// Packet identifiers go round in less than all of them.
const IDS: u64 = 60_000;

/// Who publishes and subscribes what. Each publisher has a topic of its own, and an equal
/// part of the subscribers.
pub(super) struct Load {
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    pub(super) qos: Qos,
    pub(super) data_bytes: usize,
    /// How many events of a publisher may be neither acknowledged nor delivered to all.
    pub(super) window: usize,
}

/// Deliveries a second: by the clock, and of the broker's processor time.
pub(super) struct Measured {
    pub(super) rate: f64,
    pub(super) cpu_rate: f64,
}

/// A publisher and its subscribers.
struct Group {
    /// Deliveries to each of them.
    delivered: Vec<Cell<u64>>,
    published: Cell<u64>,
    acknowledged: Cell<u64>,
    /// The publisher may have more room.
    progress: Notify,
}

/// One end of a connection, and what is to be written.
struct Link {
    group: Rc<Group>,
    role: Role,
    out: RefCell<Vec<u8>>,
    filled: Notify,
}

enum Role {
    Publisher,
    /// With its number in the group.
    Subscriber(usize),
}

impl Load {
    /// Runs for a fifth of the time, and then measures for that time.
    pub(super) async fn run(
        &self,
        address: SocketAddr,
        time: Duration,
        processor: impl Fn() -> Result<Duration>,
    ) -> Result<Measured> {
        let (mut groups, mut links) = (Vec::new(), Vec::new());
        for number in 0..self.publishers {
            let topic = format!("bench/{number}");
            let group = Rc::new(Group::of(self.subscribers / self.publishers));
            for member in 0..group.delivered.len() {
                let mut client = Client::connect(address, format!("to-{number}-{member}")).await?;
                client.subscribe(&topic, self.qos).await?;
                links.push((Link::new(&group, Role::Subscriber(member)), client, topic.clone()));
            }
            let client = Client::connect(address, format!("from-{number}")).await?;
            links.push((Link::new(&group, Role::Publisher), client, topic));
            groups.push(group);
        }
        let data = vec![b'x'; self.data_bytes];
        let running = links.into_iter().map(|(link, client, topic)| {
            let data = &data;
            Box::pin(async move { self.serve(&link, client, &topic, data).await })
        });
        let measuring = async {
            tokio::time::sleep(time / 5).await;
            let delivered = || groups.iter().map(|group| group.sum()).sum::<u64>();
            let (count, cpu, begun) = (delivered(), processor()?, Instant::now());
            tokio::time::sleep(time).await;
            let (count, cpu) = ((delivered() - count) as f64, processor()? - cpu);
            let took = begun.elapsed();
            ensure!(count > 0.0, "nothing is delivered any more");
            Ok(Measured { rate: count / took.as_secs_f64(), cpu_rate: count / cpu.as_secs_f64() })
        };
        tokio::select! {
            biased;
            measured = measuring => measured,
            (ended, _, _) = select_all(running) => {
                ended?;
                bail!("a connection ended")
            }
        }
    }

    async fn serve(&self, link: &Link, client: Client, topic: &str, data: &[u8]) -> Result<()> {
        let mut stream = client.stream;
        let (read, write) = stream.split();
        try_join(link.read(read), self.write(link, write, topic, data)).await?;
        Ok(())
    }

    async fn write(
        &self,
        link: &Link,
        mut write: WriteHalf<'_>,
        topic: &str,
        data: &[u8],
    ) -> Result<()> {
        let group = &link.group;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            std::mem::swap(&mut bytes, &mut *link.out.borrow_mut());
            if matches!(link.role, Role::Publisher) {
                for _ in 0..group.room(self.window as u64, self.qos).min(BURST) {
                    let number = group.published.get();
                    group.published.set(number + 1);
                    let id = (number % IDS + 1) as u16;
                    client::put_publish(topic, self.qos, id, data, &mut bytes);
                }
            }
            if bytes.is_empty() {
                tokio::select! {
                    () = link.filled.notified() => {}
                    () = group.progress.notified(), if matches!(link.role, Role::Publisher) => {}
                }
            } else {
                write.write_all(&bytes).await?;
            }
        }
    }
}

impl Link {
    fn new(group: &Rc<Group>, role: Role) -> Self {
        let group = Rc::clone(group);
        Self { group, role, out: RefCell::default(), filled: Notify::new() }
    }

    async fn read(&self, mut read: ReadHalf<'_>) -> Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        loop {
            let count = read.read(&mut buffer[filled..]).await?;
            ensure!(count > 0, "the broker has closed a connection");
            filled += count;
            let mut begin = 0;
            while let Some(frame) = client::first(&buffer[begin..filled])? {
                self.received(&frame)?;
                begin += frame.length;
            }
            buffer.copy_within(begin..filled, 0);
            filled -= begin;
            if !self.out.borrow().is_empty() {
                self.filled.notify_one();
            }
            self.group.progress.notify_one();
        }
    }

    fn received(&self, frame: &Frame) -> Result<()> {
        let answer = |kind| client::put_answer(kind, frame.id, &mut self.out.borrow_mut());
        match (frame.kind, &self.role) {
            (PUBLISH, Role::Subscriber(member)) => {
                let delivered = &self.group.delivered[*member];
                delivered.set(delivered.get() + 1);
                match frame.qos {
                    0 => {}
                    1 => answer(PUBACK),
                    _ => answer(PUBREC),
                }
            }
            (PUBREL, Role::Subscriber(_)) => answer(PUBCOMP),
            (PUBREC, Role::Publisher) => answer(PUBREL),
            (PUBACK | PUBCOMP, Role::Publisher) => {
                self.group.acknowledged.set(self.group.acknowledged.get() + 1);
            }
            _ => bail!("packet {} was not expected", frame.kind),
        }
        Ok(())
    }
}

impl Group {
    fn of(subscribers: usize) -> Self {
        Self {
            delivered: vec![Cell::new(0); subscribers],
            published: Cell::new(0),
            acknowledged: Cell::new(0),
            progress: Notify::new(),
        }
    }

    fn sum(&self) -> u64 {
        self.delivered.iter().map(Cell::get).sum()
    }

    /// How many events may be published now.
    fn room(&self, window: u64, qos: Qos) -> u64 {
        let slowest = self.delivered.iter().map(Cell::get).min().unwrap_or(0);
        let done = match qos {
            Qos::AtMostOnce => slowest,
            _ => slowest.min(self.acknowledged.get()),
        };
        window.saturating_sub(self.published.get() - done)
    }
}

//! From publish to handled, through pubsub.memory, at given rates.

use crate::guest;
use crate::service::{self, Start};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasi_pubsub::backends::memory;
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Event, Qos, Topic};

const DATA_BYTES: usize = 100;
/// How long a publisher sleeps less than it might, and watches the clock instead.
const AWAKE: Duration = Duration::from_micros(200);

/// Publishes at each of these rates, in events a second, for so long.
pub async fn run(rates: &[u64], time: Duration) -> Result<()> {
    println!("{DATA_BYTES} B events, 0.2 handler, reused, one worker, publish → acknowledged");
    for &rate in rates {
        let mut took = at(rate, time).await?;
        took.sort_unstable();
        let part = |share: f64| {
            let index = ((took.len() as f64 * share) as usize).min(took.len() - 1);
            took[index]
        };
        let (median, p99, p999) = (part(0.5), part(0.99), part(0.999));
        let (most, events) = (part(1.0), took.len());
        println!(
            "{rate}/s: median {median:?}, 99 % {p99:?}, 99.9 % {p999:?}, most {most:?}, {events} events"
        );
    }
    Ok(())
}

async fn at(rate: u64, time: Duration) -> Result<Vec<Duration>> {
    let count = u64::try_from(u128::from(rate) * time.as_millis() / 1000)?;
    let times = Arc::new(Times::default());
    let connection = Arc::new(Timed { inner: memory::open(), times: Arc::clone(&times) });
    let start = Start { expected: count, ..Start::new(&guest("faulty")) };
    let running = service::start(start, connection).await?;
    let (broker, data) = (Arc::clone(&running.broker), Bytes::from(vec![7_u8; DATA_BYTES]));
    let publisher = std::thread::spawn(move || -> Result<()> {
        let (topic, begun) = (service::topic()?, Instant::now());
        for id in 0..count {
            wait_until(begun + Duration::from_nanos(id * 1_000_000_000 / rate));
            let event = service::event(id, &data);
            let publish =
                broker.publish("bench", &topic, event, Qos::AtLeastOnce, Duration::from_secs(1));
            publish.now_or_never().context("the queue is full")??;
        }
        Ok(())
    });
    running.count.reached().await;
    publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    running.stop().await?;
    Ok(std::mem::take(&mut *times.took()))
}

/// More exact than a sleep.
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > AWAKE {
        std::thread::sleep(left - AWAKE);
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// When events were published, and how long they took.
#[derive(Default)]
struct Times {
    published: Mutex<HashMap<String, Instant>>,
    taken: Mutex<HashMap<Token, Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl Times {
    fn took(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Timed {
    inner: Arc<dyn Connection>,
    times: Arc<Times>,
}

struct TimedSource {
    inner: Arc<dyn Source>,
    times: Arc<Times>,
}

#[async_trait::async_trait]
impl Connection for Timed {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        if let Ok(mut published) = self.times.published.lock() {
            published.insert(event.id.clone(), Instant::now());
        }
        self.inner.publish(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let inner = self.inner.subscribe(request).await?;
        Ok(Arc::new(TimedSource { inner, times: Arc::clone(&self.times) }))
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}

#[async_trait::async_trait]
impl Source for TimedSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let before = into.len();
        self.inner.take(max, into)?;
        if let (Ok(mut published), Ok(mut taken)) =
            (self.times.published.lock(), self.times.taken.lock())
        {
            for incoming in &into[before..] {
                if let Some(at) = published.remove(&incoming.event.id) {
                    taken.insert(incoming.token, at);
                }
            }
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        self.inner.settle(token, settlement);
        let published = self.times.taken.lock().ok().and_then(|mut taken| taken.remove(&token));
        if let Some(at) = published {
            self.times.took().push(at.elapsed());
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.inner.confirmed(token).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

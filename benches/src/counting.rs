//! A broker that counts acknowledgements on their way through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Event, Qos, Topic};

/// How many events were acknowledged, and how long that took.
#[derive(Default)]
pub struct Count {
    acknowledged: AtomicU64,
    goal: AtomicU64,
    /// When the first event was taken.
    begun: OnceLock<Instant>,
    ended: OnceLock<Instant>,
    reached: Notify,
}

impl Count {
    /// Waits for so many.
    pub fn of(goal: u64) -> Self {
        Self { goal: AtomicU64::new(goal), ..Self::default() }
    }

    /// Waits until as many were acknowledged as are expected, and returns the time
    /// from when the first one was taken.
    pub async fn reached(&self) -> Duration {
        self.reached.notified().await;
        match (self.begun.get(), self.ended.get()) {
            (Some(begun), Some(ended)) => ended.duration_since(*begun),
            _ => Duration::ZERO,
        }
    }

    fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    fn add(&self) {
        let count = self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.goal.load(Ordering::Relaxed) {
            let _ = self.ended.set(Instant::now());
            self.reached.notify_one();
        }
    }
}

/// Passes everything on to another connection.
pub struct Counting {
    pub inner: Arc<dyn Connection>,
    pub count: Arc<Count>,
}

struct CountingSource {
    inner: Arc<dyn Source>,
    count: Arc<Count>,
}

#[async_trait::async_trait]
impl Connection for Counting {
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
        self.inner.publish(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        let inner = self.inner.subscribe(request).await?;
        Ok(Arc::new(CountingSource { inner, count: Arc::clone(&self.count) }))
    }

    async fn close(&self, grace: Duration) {
        self.inner.close(grace).await;
    }
}

#[async_trait::async_trait]
impl Source for CountingSource {
    fn take(&self, max: usize, into: &mut Vec<Incoming>) -> Result<(), BrokerError> {
        let before = into.len();
        self.inner.take(max, into)?;
        if into.len() > before {
            self.count.begin();
        }
        // At qos 0 taking is acknowledging.
        for incoming in &into[before..] {
            if incoming.qos == Qos::AtMostOnce {
                self.count.add();
            }
        }
        Ok(())
    }

    fn settle(&self, token: Token, settlement: Settlement) {
        self.inner.settle(token, settlement);
        if settlement == Settlement::Ack {
            self.count.add();
        }
    }

    async fn confirmed(&self, token: Token) -> Result<(), BrokerError> {
        self.inner.confirmed(token).await
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn queued(&self) -> usize {
        self.inner.queued()
    }

    fn stop(&self) {
        self.inner.stop();
    }
}

//! A broker that counts acknowledgements on their way through.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use wasi_pubsub::broker::driver::{
    Connection, Features, Incoming, Settlement, Source, SubscribeRequest, Token,
};
use wasi_pubsub::broker::{BrokerError, Event, Qos, Topic};

/// How many events were acknowledged.
#[derive(Default)]
pub struct Count {
    acknowledged: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

impl Count {
    /// Sets how many more acknowledgements than now are waited for.
    pub fn expect(&self, more: u64) {
        self.goal.store(self.acknowledged.load(Ordering::SeqCst) + more, Ordering::SeqCst);
    }

    /// Waits until as many came as were expected.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    fn add(&self) {
        let count = self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.goal.load(Ordering::Relaxed) {
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

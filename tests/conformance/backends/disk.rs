//! The built-in broker, on disk.

use crate::harness::Harness;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::within;
use tokio::sync::Mutex;
use wasi_pubsub::backends::disk::{DiskSettings, MAX_BYTES, SUBSCRIPTION_EXPIRY};
use wasi_pubsub::broker::driver::{Connection, Features, Source, SubscribeRequest};
use wasi_pubsub::broker::{BrokerError, Event, Qos, RetentionRule, Topic};
use wasi_pubsub::builtin::BuiltIn;

/// A store, and the one broker that has it open. When that is closed, the next
/// connection opens the store again, as the next process would.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
    open: Mutex<Option<Arc<Opened>>>,
}

struct Opened {
    broker: Arc<BuiltIn>,
    is_closed: AtomicBool,
}

impl Disk {
    pub(crate) async fn start() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), open: Mutex::default() }
    }
}

#[async_trait]
impl Harness for Disk {
    async fn connection(&self, _: &str) -> Arc<dyn Connection> {
        let mut open = self.open.lock().await;
        let known = open.take().filter(|opened| !opened.is_closed.load(Ordering::SeqCst));
        let opened = known.unwrap_or_else(|| {
            let settings = DiskSettings {
                path: self.folder.path().join("events.db"),
                max_bytes: MAX_BYTES,
                subscription_expiry: SUBSCRIPTION_EXPIRY,
            };
            let broker = settings.open_broker().unwrap();
            Arc::new(Opened { broker, is_closed: AtomicBool::new(false) })
        });
        *open = Some(opened.clone());
        opened
    }

    async fn forget(&self, topic: &str) {
        let opened = self.open.lock().await.clone().unwrap();
        within("the deletion", async {
            loop {
                opened.broker.trim().await.unwrap();
                let topics = opened.broker.topics().await.unwrap();
                if topics.iter().all(|kept| kept.topic.as_str() != topic) {
                    break;
                }
            }
        })
        .await;
    }
}

#[async_trait]
impl Connection for Opened {
    fn features(&self) -> Features {
        self.broker.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.broker.publish(topic, event, qos, from).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.broker.publish_dead_letter(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.broker.subscribe(request).await
    }

    fn set_retention(&self, rules: Vec<RetentionRule>) {
        self.broker.set_retention(rules);
    }

    async fn close(&self, grace: Duration) {
        self.broker.close(grace).await;
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

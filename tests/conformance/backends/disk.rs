//! The built-in broker, in a file.

use crate::harness::Harness;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use wasi_pubsub::backends::disk::{DiskSettings, MAX_BYTES, SUBSCRIPTION_EXPIRY};
use wasi_pubsub::broker::driver::{Connection, Features, Source, SubscribeRequest};
use wasi_pubsub::broker::{BrokerError, Event, Qos, RetentionRule, Topic};
use wasi_pubsub::builtin::BuiltIn;

pub(crate) struct Disk {
    broker: Arc<BuiltIn>,
    _folder: TempDir,
}

impl Disk {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let settings = DiskSettings {
            path: folder.path().join("events.db"),
            max_bytes: MAX_BYTES,
            subscription_expiry: SUBSCRIPTION_EXPIRY,
        };
        Self { broker: settings.open_broker().unwrap(), _folder: folder }
    }
}

#[async_trait]
impl Harness for Disk {
    async fn connection(&self, _: &str) -> Arc<dyn Connection> {
        Arc::new(Installation(self.broker.clone(), AtomicBool::new(false)))
    }

    async fn forget(&self) {
        self.broker.trim().await.unwrap();
    }
}

/// One of several who use the broker: it goes, and the broker stays.
struct Installation(Arc<BuiltIn>, AtomicBool);

impl Installation {
    fn open(&self) -> Result<&BuiltIn, BrokerError> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(BrokerError::Closed("the installation has gone".to_owned())),
            false => Ok(&self.0),
        }
    }
}

#[async_trait]
impl Connection for Installation {
    fn features(&self) -> Features {
        self.0.features()
    }

    async fn publish(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.open()?.publish(topic, event, qos, from).await
    }

    async fn publish_dead_letter(
        &self,
        topic: &Topic,
        event: Arc<Event>,
        qos: Qos,
        from: Option<&str>,
    ) -> Result<(), BrokerError> {
        self.open()?.publish_dead_letter(topic, event, qos, from).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Arc<dyn Source>, BrokerError> {
        self.open()?.subscribe(request).await
    }

    fn set_retention(&self, rules: Vec<RetentionRule>) {
        self.0.set_retention(rules);
    }

    async fn close(&self, _: Duration) {
        self.1.store(true, Ordering::Relaxed);
    }
}

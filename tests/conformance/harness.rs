//! What a backend brings to the suite.

use async_trait::async_trait;
use std::sync::Arc;
use wasi_pubsub::broker::{Broker, Limits};

/// One broker that was started for one test, and how to connect to it.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// A further connection to the same broker, with limits of its own.
    ///
    /// `identity` stands for an installation of the host: who comes back under
    /// the same one continues its sessions, where the broker keeps any.
    async fn broker_with(&self, identity: &str, limits: Limits) -> Arc<Broker>;

    /// A further connection to the same broker.
    async fn broker(&self, identity: &str) -> Arc<Broker> {
        self.broker_with(identity, Limits::default()).await
    }
}

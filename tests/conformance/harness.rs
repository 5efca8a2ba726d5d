//! What a backend brings to the suite.

use async_trait::async_trait;
use std::sync::Arc;
use wasi_pubsub::broker::driver::Connection;
use wasi_pubsub::broker::{Broker, Budget, Limits};

/// One broker that was started for one test, and how to connect to it.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// A further connection to the same broker.
    ///
    /// `identity` stands for an installation of the host: who comes back under
    /// the same one continues its sessions, where the broker keeps any.
    async fn connection(&self, identity: &str) -> Arc<dyn Connection>;

    /// Waits until the broker has deleted what nobody needs any more of a topic, where
    /// it does so later.
    async fn forget(&self, _topic: &str) {}

    /// The same with limits of its own.
    async fn broker_with(&self, identity: &str, limits: Limits) -> Arc<Broker> {
        Broker::new(identity, self.connection(identity).await, limits)
    }

    /// The same, whose subscriptions share a budget.
    async fn broker_within(&self, identity: &str, budget: &Arc<Budget>) -> Arc<Broker> {
        let connection = self.connection(identity).await;
        Broker::with_budget(identity, connection, Limits::default(), budget.clone())
    }

    /// The same.
    async fn broker(&self, identity: &str) -> Arc<Broker> {
        self.broker_with(identity, Limits::default()).await
    }
}

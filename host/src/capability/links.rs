//! What a component is linked to: where it may publish, and what it may pull.

use super::closing::Closing;
use crate::broker::{Broker, BrokerError, Budget, Qos, Subscription, Topic};
use std::sync::Arc;
use std::time::Duration;

/// Where one published event goes.
pub struct Route {
    /// The broker that takes it.
    pub broker: Arc<Broker>,
    /// The topic, without the broker's name before it.
    pub topic: Topic,
    /// The quality of service of the grant.
    pub qos: Qos,
    /// How long to wait for the broker to take responsibility.
    pub timeout: Duration,
}

/// The grants of one component, resolved to open brokers and subscriptions.
pub trait Links: Send + Sync + 'static {
    /// The component's name: the default `source` of what it publishes.
    fn component(&self) -> &str;

    /// Where an event for `topic`, as the component wrote it, goes.
    ///
    /// # Errors
    /// `InvalidTopic` or `Denied`.
    fn route(&self, topic: &str) -> Result<Route, BrokerError>;

    /// The pull subscription with this name: its own or the exact text of its `topic` or
    /// `queue`.
    fn subscription(&self, name: &str) -> Option<Arc<Subscription>>;

    /// Tells when this version of the component is over.
    fn closing(&self) -> &Closing;

    /// What all instances of the component may have in hand together, in bytes,
    /// before they are pushed more.
    fn budget(&self) -> &Arc<Budget>;
}

//! What a service is given to run, and how it ended.

use super::code::Code;
use super::component::ComponentSettings;
use super::output::Output;
use crate::broker::{Broker, BrokerError, Qos, SubscriptionSettings, Topic};
use crate::capability::Observer;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a component may publish.
pub trait Grants: Send + Sync + 'static {
    /// What a topic, as the component wrote it, stands for.
    ///
    /// # Errors
    /// `InvalidTopic` or `Denied`.
    fn route(&self, topic: &str) -> Result<Grant, BrokerError>;

    /// The brokers that [`route`](Self::route) may name. When one of them goes,
    /// what the component runs is replaced.
    fn brokers(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// One grant, found for one topic.
pub struct Grant {
    /// Which of [`Setup::brokers`].
    pub broker: usize,
    /// The topic there.
    pub topic: Topic,
    /// The quality of service.
    pub qos: Qos,
    /// How long to wait for the broker.
    pub timeout: Duration,
}

/// A component to run.
#[derive(Clone)]
pub struct ComponentSetup {
    /// Its name, unique.
    pub name: String,
    /// Its code.
    pub code: Code,
    /// Its limits and what of WASI it may use.
    pub settings: ComponentSettings,
    /// Where it may publish.
    pub grants: Arc<dyn Grants>,
    /// What it may pull from: names, and which of [`Setup::subscriptions`] each means.
    pub pulls: HashMap<String, usize>,
}

/// A subscription to open.
#[derive(Clone)]
pub struct SubscriptionSetup {
    /// Which of [`Setup::brokers`].
    pub broker: usize,
    /// What to subscribe to, and how.
    pub settings: SubscriptionSettings,
    /// Whether the host pushes its events to the members' handlers.
    pub push: bool,
    /// Which of [`Setup::components`] share it.
    pub members: Vec<usize>,
}

/// Everything to run.
#[derive(Clone)]
pub struct Setup {
    /// The brokers.
    pub brokers: Vec<Arc<Broker>>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionSetup>,
    /// The components.
    pub components: Vec<ComponentSetup>,
    /// How long what is in flight may take when the service stops.
    pub drain: Duration,
    /// Where guests' output goes.
    pub output: Output,
    /// Who is told what the components do.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Whether others use its brokers as well, so that it goes on when all of its
    /// components have ended.
    pub is_server: bool,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A component cannot be linked.
    #[error("component `{component}`: {reason}")]
    Component {
        /// Its name.
        component: String,
        /// Why.
        reason: String,
    },
}

/// How a service ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The commands that failed.
    pub failed: Vec<String>,
    /// The subscriptions that a broker refused or ended, with its reason.
    pub ended: Vec<String>,
    /// Whether something was still in flight when the drain time was over.
    pub cut_short: bool,
}

impl Outcome {
    /// Whether all went well.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failed.is_empty() && self.ended.is_empty() && !self.cut_short
    }
}

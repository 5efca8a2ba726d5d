//! What is to be started: plain data, for whoever starts it.

use super::grants::Grants;
use super::pulls::PullNames;
use crate::broker::driver::Features;
use crate::broker::{Exhausted, RetentionRule, SubscriptionSettings, Topic};
use crate::config::{ComponentSettings, ConnectionSettings, Delivery, ListenConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// What is known of a component without running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentFacts {
    /// The name that the configuration has for it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// It imports `publish`.
    pub imports_publish: bool,
    /// It imports `receive`.
    pub imports_receive: bool,
    /// It imports `stream`.
    pub imports_stream: bool,
    /// It imports `pull`.
    pub imports_pull: bool,
    /// It exports `on-message`, in any version.
    pub exports_handler: bool,
    /// It has a `main`: it exports `wasi:cli/run`.
    pub is_command: bool,
    /// Its imports that the host does not have.
    pub foreign_imports: Vec<String>,
}

impl ComponentFacts {
    /// Whether it takes events by itself.
    #[must_use]
    pub fn pulls(&self) -> bool {
        self.imports_receive || self.imports_stream || self.imports_pull
    }
}

/// Everything that a configuration asks for. Indexes of brokers and
/// subscriptions are those of the lists here; components stand in the order of
/// the facts that were given.
#[derive(Debug)]
pub struct Plan {
    /// The brokers that something uses.
    pub brokers: Vec<BrokerPlan>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// The components.
    pub components: Vec<ComponentPlan>,
    /// What is configured and does nothing here, in words, for the log.
    pub notes: Vec<String>,
}

impl Plan {
    /// What a broker knows its first subscription by, in the order of the
    /// configuration.
    #[must_use]
    pub fn first_label(&self, broker: usize) -> Option<&str> {
        let mut of_broker = self.subscriptions.iter().filter(|s| s.broker == broker);
        of_broker.next().map(|subscription| subscription.settings.known_as())
    }

    /// The dead-letter topics that a broker is to keep for `wasi-pubsub dead`:
    /// those of a broker that another process can reach, now or later.
    #[must_use]
    pub fn kept_dead_letters(&self, broker: usize) -> Vec<Topic> {
        let is_kept = |subscription: &&SubscriptionPlan| {
            subscription.broker == broker
                && subscription.keep_dead_letters
                && self.brokers[broker].is_reachable()
        };
        let topic = |subscription: &SubscriptionPlan| match &subscription.settings.exhausted {
            Exhausted::DeadLetter(topic) => Some(topic.clone()),
            _ => None,
        };
        self.subscriptions.iter().filter(is_kept).filter_map(topic).collect()
    }
}

/// One broker to open.
#[derive(Clone, Debug)]
pub struct BrokerPlan {
    /// The id of the capability that names it first. Two brokers of one
    /// capability have the same.
    pub id: String,
    /// The backend, such as `pubsub.mqtt`.
    pub backend: &'static str,
    /// What it can do.
    pub features: Features,
    /// How it is reached.
    pub connection: Arc<dyn ConnectionSettings>,
    /// What its topics are to remember.
    pub retention: Vec<RetentionRule>,
    /// Where MQTT clients reach it, where they do.
    pub listen: Option<Arc<ListenConfig>>,
}

impl BrokerPlan {
    /// Whether another process can reach what it keeps, at the same time or later.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.features.network || self.connection.outlives_process()
    }
}

/// One subscription to open.
#[derive(Clone, Debug)]
pub struct SubscriptionPlan {
    /// The broker.
    pub broker: usize,
    /// What the core is asked for.
    pub settings: SubscriptionSettings,
    /// Push or pull.
    pub delivery: Delivery,
    /// The components that share it: one for a topic.
    pub members: Vec<usize>,
    /// Whether its broker is to keep its dead letters until they are collected.
    pub keep_dead_letters: bool,
}

/// One component to start.
#[derive(Debug)]
pub struct ComponentPlan {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// How it runs.
    pub settings: ComponentSettings,
    /// Whether it has a `main` to run.
    pub is_command: bool,
    /// Where it may publish.
    pub grants: Grants,
    /// What it may pull from, by name.
    pub pulls: PullNames,
}

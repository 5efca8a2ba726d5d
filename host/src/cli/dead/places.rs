//! Where the dead letters of a configuration are.

use super::super::failure::Failure;
use super::super::{ConfigArgs, files, plan};
use crate::broker::driver::Connection;
use crate::broker::{Broker, Exhausted, Limits, Qos, RetentionRule, Topic};
use crate::config::{BrokerPlan, Config, ConnectionSettings, SubscriptionConfig};
use std::sync::Arc;

/// One dead-letter topic of one broker.
pub(super) struct Place {
    /// The capability's id.
    pub(super) id: String,
    pub(super) topic: Topic,
    pub(super) connection: Arc<dyn ConnectionSettings>,
    /// The quality of service that events are redriven with.
    pub(super) qos: Qos,
    pub(super) limits: Limits,
    /// What the broker's topics remember.
    retention: Vec<RetentionRule>,
}

impl Place {
    /// The broker, behind a connection to it.
    pub(super) fn broker(&self, connection: Arc<dyn Connection>) -> Arc<Broker> {
        let broker = Broker::new(&*self.id, connection, self.limits.clone());
        broker.set_retention(self.retention.clone());
        broker
    }

    /// Whether others can have the broker open at the same time.
    pub(super) fn is_shared(&self) -> bool {
        !self.connection.outlives_process()
    }

    /// What tells it from other places, on every machine alike.
    pub(super) fn file_name(&self) -> String {
        let topic = self.topic.as_str();
        files::readable_name(topic, &format!("{}\n{topic}", self.connection.describe()))
    }
}

/// The client id of the session that keeps the dead letters of a topic. It is
/// made of the topic alone, so that every host and every tool finds the same one.
pub(super) fn client_id(topic: &Topic) -> String {
    format!("wasi-pubsub-dead-{}", files::readable_name(topic.as_str(), topic.as_str()))
}

/// The places that a configuration names; with a `topic`, that one alone.
pub(super) fn find(args: &ConfigArgs, topic: Option<&str>) -> Result<Vec<Place>, Failure> {
    let Some(path) = files::config_file(args) else {
        return Err(Failure::input(
            "there is no capabilities.toml here, and the built-in broker keeps no dead letters for \
             another process\n  help: name a configuration with another broker: --config FILE",
        ));
    };
    let config = plan::read_config(&path)?;
    let mut places = all(&config);
    if let Some(topic) = topic {
        let known = names(&places);
        places.retain(|place| place.topic.as_str() == topic || topic == full_name(place));
        if places.is_empty() && !known.is_empty() {
            return Err(Failure::input(format!(
                "`{topic}` is no dead-letter topic of the configuration: there is {known}"
            )));
        }
    }
    if places.is_empty() { Err(nothing(&config)) } else { Ok(places) }
}

fn all(config: &Config) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let brokers = config.brokers();
    let bindings = config.capabilities.iter().flat_map(|capability| &capability.bindings);
    for binding in bindings {
        let same = |plan: &&BrokerPlan| plan.connection.same_as(&*binding.connection);
        let Some(plan) = brokers.iter().find(same).filter(|plan| plan.is_reachable()) else {
            continue;
        };
        let Some(topic) = binding.subscription.as_ref().and_then(kept_topic) else { continue };
        let broker = binding.connection.describe();
        let known = |place: &Place| place.topic == *topic && place.connection.describe() == broker;
        match places.iter_mut().find(|place| known(place)) {
            Some(place) => place.qos = place.qos.max(binding.qos),
            None => places.push(Place {
                id: plan.id.clone(),
                topic: topic.clone(),
                connection: Arc::clone(&binding.connection),
                qos: binding.qos.max(Qos::AtLeastOnce),
                limits: config.limits(),
                retention: plan.retention.clone(),
            }),
        }
    }
    places
}

fn kept_topic(subscription: &SubscriptionConfig) -> Option<&Topic> {
    match &subscription.exhausted {
        Exhausted::DeadLetter(topic) if subscription.keep_dead_letters => Some(topic),
        _ => None,
    }
}

fn full_name(place: &Place) -> String {
    format!("{}:{}", place.id, place.topic)
}

fn names(places: &[Place]) -> String {
    let names: Vec<_> = places.iter().map(|place| format!("`{}`", place.topic)).collect();
    names.join(", ")
}

fn nothing(config: &Config) -> Failure {
    let brokers = config.brokers();
    if let Some(broker) = brokers.first()
        && !brokers.iter().any(BrokerPlan::is_reachable)
    {
        return Failure::input(format!(
            "the broker is {}, which lives inside `wasi-pubsub run`: its dead letters go to who \
             subscribes to their topic there\n  help: configure another broker, such as pubsub.disk or \
             pubsub.mqtt",
            broker.backend
        ));
    }
    Failure::input(
        "no subscription at a broker that keeps them has a `dead_letter` topic whose letters are kept\n  \
         help: set `dead_letter`, without `keep_dead_letters = false`",
    )
}

//! What one version of a component is linked to.

use super::opening::Opening;
use super::setup::{Grant, Grants};
use crate::broker::{Broker, BrokerError, Budget, Subscription};
use crate::capability::{Closing, Links, Route};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// The links of one version of a component.
pub(super) struct ComponentLinks {
    name: String,
    reach: RwLock<Reach>,
    closing: Arc<Closing>,
    budget: Arc<Budget>,
}

/// What it may publish and pull. A reload changes it under a component that is
/// otherwise the same.
pub(super) struct Reach {
    pub(super) grants: Arc<dyn Grants>,
    pub(super) brokers: Vec<Arc<Broker>>,
    pub(super) pulls: HashMap<String, Arc<Opening>>,
}

impl ComponentLinks {
    pub(super) fn new(name: &str, reach: Reach, max_in_flight_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            reach: RwLock::new(reach),
            closing: Arc::default(),
            budget: Budget::new(max_in_flight_bytes),
        })
    }

    pub(super) fn set_reach(&self, reach: Reach) {
        *self.reach.write() = reach;
    }

    /// What it may pull.
    pub(super) fn pulled(&self) -> Vec<Arc<Opening>> {
        self.reach.read().pulls.values().cloned().collect()
    }

    /// Where it may publish.
    pub(super) fn brokers(&self) -> Vec<Arc<Broker>> {
        let reach = self.reach.read();
        let named = reach.grants.brokers().into_iter();
        named.filter_map(|index| reach.brokers.get(index).cloned()).collect()
    }

    pub(super) fn shared_closing(&self) -> &Arc<Closing> {
        &self.closing
    }
}

impl Links for ComponentLinks {
    fn component(&self) -> &str {
        &self.name
    }

    fn route(&self, topic: &str) -> Result<Route, BrokerError> {
        let reach = self.reach.read();
        let Grant { broker, topic, qos, timeout } = reach.grants.route(topic)?;
        Ok(Route { broker: Arc::clone(&reach.brokers[broker]), topic, qos, timeout })
    }

    fn subscription(&self, name: &str) -> Option<Arc<Subscription>> {
        self.reach.read().pulls.get(name)?.subscription()
    }

    fn closing(&self) -> &Closing {
        &self.closing
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

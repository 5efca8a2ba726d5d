//! What a component may publish, as the configuration says.

use crate::broker::BrokerError;
use crate::config;
use crate::runtime::{Grant, Grants};

/// The grants of one component of the configuration.
pub(super) struct PlannedGrants {
    pub(super) grants: config::Grants,
    /// Whether it publishes at all.
    pub(super) publishes: bool,
}

impl Grants for PlannedGrants {
    fn route(&self, topic: &str) -> Result<Grant, BrokerError> {
        let config::Route { broker, topic, qos, timeout } = self.grants.route(topic)?;
        Ok(Grant { broker, topic, qos, timeout })
    }

    fn brokers(&self) -> Vec<usize> {
        if self.publishes { self.grants.brokers() } else { Vec::new() }
    }
}

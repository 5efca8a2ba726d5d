//! `pubsub.memory` in the configuration: it has no keys of its own.

use super::open;
use crate::broker::BrokerError;
use crate::broker::driver::{Connection, Features};
use crate::builtin::BuiltIn;
use crate::config::{BackendSection, ConnectionSettings, Key, Section};
use std::any::Any;
use std::sync::Arc;

/// Reads a binding to the built-in broker.
pub struct MemorySection;

impl BackendSection for MemorySection {
    fn name(&self) -> &'static str {
        "pubsub.memory"
    }

    fn features(&self) -> Features {
        BuiltIn::FEATURES
    }

    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn connection(&self, _: &mut Section<'_>) -> Option<Arc<dyn ConnectionSettings>> {
        Some(Arc::new(MemorySettings))
    }
}

/// The built-in broker: a process has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemorySettings;

impl ConnectionSettings for MemorySettings {
    fn same_as(&self, other: &dyn ConnectionSettings) -> bool {
        (other as &dyn Any).is::<Self>()
    }

    fn describe(&self) -> String {
        "the built-in broker".to_owned()
    }

    fn open(&self, _: &str, _: Option<&str>) -> Result<Arc<dyn Connection>, BrokerError> {
        Ok(open())
    }

    fn open_for_tool(&self, _: &str) -> Result<Arc<dyn Connection>, BrokerError> {
        Ok(open())
    }
}

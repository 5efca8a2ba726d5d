//! `pubsub.disk` in the configuration.

use super::{DiskStorage, Options, place};
use crate::broker::driver::{Connection, Features};
use crate::broker::{BrokerError, StoreBounds};
use crate::builtin::storage::StorageError;
use crate::builtin::{BuiltIn, Settings};
use crate::config::{BackendSection, ConnectionSettings, Key, Section};
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of events where the configuration names none: 8 GiB.
pub const MAX_BYTES: u64 = 8 << 30;
/// How long a subscription stays without a subscriber where the configuration says
/// nothing: 31 days.
pub const SUBSCRIPTION_EXPIRY: Duration = Duration::from_secs(31 * 86_400);

const BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;
const EXPIRY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(10 * 365 * 86_400);

const KEYS: &[Key] = &[
    Key { name: "path", help: "the file, such as \"data/events.db\"" },
    Key { name: "max_bytes", help: "the most bytes of events that are kept" },
    Key { name: "subscription_expiry", help: "how long a subscription stays without a subscriber" },
];

/// Reads a binding to the built-in broker with a file.
pub struct DiskSection;

impl BackendSection for DiskSection {
    fn name(&self) -> &'static str {
        "pubsub.disk"
    }

    fn features(&self) -> Features {
        BuiltIn::FEATURES
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn connection(&self, section: &mut Section<'_>) -> Option<Arc<dyn ConnectionSettings>> {
        if !section.has("path") {
            section.missing("path", "the file that events are kept in, such as \"data/events.db\"");
        }
        // Without what says nothing, such as `./`, and without links.
        let path = section.path("path");
        let path = path.map(|found| place::plain(found.value.components().collect()));
        let max_bytes = section.size("max_bytes", BYTES).map(|found| found.value);
        let expiry = section.duration("subscription_expiry", EXPIRY).map(|found| found.value);
        Some(Arc::new(DiskSettings {
            path: path?,
            max_bytes: max_bytes.map_or(MAX_BYTES, |bytes| bytes as u64),
            subscription_expiry: expiry.unwrap_or(SUBSCRIPTION_EXPIRY),
        }))
    }
}

/// The built-in broker with a file: one for each path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// The file.
    pub path: PathBuf,
    /// The most bytes of events that are kept.
    pub max_bytes: u64,
    /// How long a subscription stays without a subscriber.
    pub subscription_expiry: Duration,
}

impl DiskSettings {
    /// Opens the broker, in a runtime. Reads the file, which takes a moment.
    ///
    /// # Errors
    /// As [`DiskStorage::open`].
    pub fn open_broker(&self) -> Result<Arc<BuiltIn>, StorageError> {
        let options = Options { max_bytes: self.max_bytes, ..Options::default() };
        let storage = Arc::new(DiskStorage::open(&self.path, &options)?);
        let subscription_expiry = Some(self.subscription_expiry);
        BuiltIn::open(storage, Settings { subscription_expiry, ..Settings::default() })
    }
}

impl ConnectionSettings for DiskSettings {
    /// The bounds may differ: see [`store_bounds`](Self::store_bounds).
    fn same_as(&self, other: &dyn ConnectionSettings) -> bool {
        let other = (other as &dyn Any).downcast_ref::<Self>();
        other.is_some_and(|other| place::real(&other.path) == place::real(&self.path))
    }

    fn store_bounds(&self) -> Option<StoreBounds> {
        let (bytes_max, subscription_expiry) = (self.max_bytes, self.subscription_expiry);
        Some(StoreBounds { bytes_max, subscription_expiry })
    }

    fn describe(&self) -> String {
        format!("the built-in broker in `{}`", self.path.display())
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn open(&self, _: &str, _: Option<&str>) -> Result<Arc<dyn Connection>, BrokerError> {
        Ok(self.open_broker()?)
    }

    fn open_for_tool(&self, _: &str) -> Result<Arc<dyn Connection>, BrokerError> {
        Ok(self.open_broker()?)
    }

    fn open_kept(&self, _: &str) -> Option<Result<Arc<dyn Connection>, BrokerError>> {
        Some(self.open_for_tool(""))
    }
}

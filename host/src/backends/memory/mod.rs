//! `pubsub.memory`: the built-in broker, in memory. Nothing outlives the process.

mod section;
mod storage;
#[cfg(test)]
mod tests;

pub use section::MemorySection;
pub use storage::MemoryStorage;

use crate::broker::driver::Connection;
use crate::builtin::BuiltIn;
pub use crate::builtin::Settings;
use std::sync::Arc;

/// The most that topics remember together, in bytes: the oldest goes first.
pub const RETAINED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Opens a broker of its own, with the default bounds. Whoever shares it shares
/// its topics.
#[must_use]
pub fn open() -> Arc<dyn Connection> {
    open_with(Settings::default())
}

/// Opens a broker of its own with these bounds.
#[must_use]
pub fn open_with(settings: Settings) -> Arc<dyn Connection> {
    built_in(settings)
}

/// Opens a broker of its own with these bounds, for who wants to look into it.
#[must_use]
pub fn built_in(settings: Settings) -> Arc<BuiltIn> {
    BuiltIn::new(Arc::new(MemoryStorage::new(RETAINED_BYTES_MAX)), settings)
}

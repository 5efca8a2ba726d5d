//! The built-in broker, in memory: nothing outlives the process.

use crate::broker::driver::Connection;
use std::sync::Arc;

/// Opens a broker of its own. Whoever shares it shares its topics.
#[must_use]
pub fn open() -> Arc<dyn Connection> {
    todo!()
}

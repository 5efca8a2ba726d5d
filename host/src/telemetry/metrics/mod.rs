//! Metrics: counted while events are handled, read from the state of the service
//! when they are asked for.

mod collector;
mod exposition;
mod histogram;
mod recorder;

pub(super) use exposition::{Exposition, Format};
pub use recorder::Recorder;

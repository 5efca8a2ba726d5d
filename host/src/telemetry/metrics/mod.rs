//! Metrics: counted while events are handled, read from the state of the service
//! when they are asked for.

mod collector;
mod exposition;
mod figure;
mod histogram;
mod recorder;

pub(super) use exposition::{Exposition, Format};
pub use figure::{Figure, Figures};
pub use recorder::Recorder;

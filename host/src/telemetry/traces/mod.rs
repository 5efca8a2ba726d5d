//! Traces: the context of an event goes on with what its handler publishes, and
//! spans of both are exported where a collector is named.

mod carry;
#[cfg(feature = "otlp")]
mod client;
mod context;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod spans;

pub use carry::carry_on;
#[cfg(feature = "otlp")]
pub use export::{EndpointError, Exporter};

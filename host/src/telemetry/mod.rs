//! What operators see: metrics and health over HTTP, and traces.
//!
//! [`Recorder`] counts what the runtime tells its observers, [`Listener`] serves
//! that and the state of the service. [`carry_on`] hands the trace context of an
//! event on to what its handler publishes; with the feature `otlp`, an [`Exporter`]
//! makes spans of both and sends them to a collector.

mod http;
mod metrics;
mod outcome;
mod pages;
mod time;
mod traces;

pub use http::{Listener, Serving};
pub use metrics::{Figure, Figures, Recorder};
pub use pages::Pages;
pub use time::rfc3339;
pub use traces::carry_on;
#[cfg(feature = "otlp")]
pub use traces::{EndpointError, Exporter};

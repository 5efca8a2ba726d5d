//! Events as MQTT packets, and back: CloudEvents' binding for MQTT 1.0.2.
//!
//! Both sides of MQTT use it: the backend that is a client of a broker, and the
//! listener that serves clients. Nothing here reads or writes bytes of the wire.

mod attributes;
mod json;
mod mapping;
mod packet;
#[cfg(test)]
mod tests;

pub use attributes::{EXPIRES_AT, RETAIN, forget_retained, is_retained};
pub use mapping::{Format, Mapping, PLAIN_KIND, Read, is_portable};
pub use packet::{Packet, Properties, Protocol};

//! One harness for each backend.

mod memory;
mod mqtt;

pub(crate) use memory::Memory;
pub(crate) use mqtt::{Mqtt3, Mqtt5};

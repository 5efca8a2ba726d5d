//! One harness for each backend.

mod disk;
mod memory;
mod mqtt;

pub(crate) use disk::Disk;
pub(crate) use memory::Memory;
pub(crate) use mqtt::{Mqtt3, Mqtt5};

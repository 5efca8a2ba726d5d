//! The backends: one folder for each kind of broker, and the one list of them.
//!
//! A backend knows the [`driver`](crate::broker::driver) traits and its own
//! section of the configuration, and nothing else of this project.

use crate::config::{Absent, BackendSection, Backends};

#[cfg(feature = "disk")]
pub mod disk;
#[cfg(feature = "memory")]
pub mod memory;
#[cfg(feature = "mqtt")]
pub mod mqtt;

/// The backends of this build.
const PRESENT: &[&dyn BackendSection] = &[
    #[cfg(feature = "memory")]
    &memory::MemorySection,
    #[cfg(feature = "disk")]
    &disk::DiskSection,
    #[cfg(feature = "mqtt")]
    &mqtt::MqttSection,
];

/// The backends that this build was made without, and those of later versions.
const ABSENT: &[Absent] = &[
    #[cfg(not(feature = "memory"))]
    Absent { name: "pubsub.memory", feature: Some("memory") },
    #[cfg(not(feature = "disk"))]
    Absent { name: "pubsub.disk", feature: Some("disk") },
    #[cfg(not(feature = "mqtt"))]
    Absent { name: "pubsub.mqtt", feature: Some("mqtt") },
];

/// What a configuration may name.
#[must_use]
pub fn backends() -> Backends<'static> {
    Backends { present: PRESENT, absent: ABSENT }
}

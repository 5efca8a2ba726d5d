//! Quality of service.

use std::fmt;

/// How hard a delivery is tried; MQTT 5.0, section 4.3, has the terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: delivered once or not at all.
    AtMostOnce,
    /// 1: delivered until it is acknowledged.
    #[default]
    AtLeastOnce,
    /// 2: as 1, and an event whose verdict is recorded is not handled again.
    EffectivelyOnce,
}

impl Qos {
    /// The number that stands for it in configuration and on the wire.
    #[must_use]
    pub fn level(self) -> u8 {
        self as u8
    }

    /// The quality of service of a number; `None` above 2.
    #[must_use]
    pub fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::EffectivelyOnce),
            _ => None,
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level())
    }
}

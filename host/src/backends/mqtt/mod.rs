//! `pubsub.mqtt`: brokers that speak MQTT 5 or 3.1.1.
//!
//! Each subscription has a session of its own at the broker, and publishing has
//! one more, so that a slow subscriber holds up no other. The layers, from the
//! wire upward:
//!
//! - [`client`]: one connection; the only place that names the client library;
//! - [`session`]: one client over all its connections: back-off, takeover, end;
//! - [`inbox`] and [`source`], [`flights`] and [`publisher`]: what a session is
//!   for;
//! - `crate::mqtt`: events as packets, and back;
//! - [`connection`]: the broker, as the core sees it.

mod client;
mod connection;
mod delivery;
mod flights;
mod inbox;
mod parcel;
mod publisher;
mod section;
mod session;
mod settings;
mod source;

pub use section::MqttSection;

pub use settings::{
    Endpoint, Format, Identity, KEEP_ALIVE, MqttSettings, PACKET_BYTES_MAX, SESSION_EXPIRY,
    SettingsError, Version,
};

use crate::broker::Qos;
use crate::broker::driver::{Connection, Features};
use std::sync::Arc;

/// What every MQTT broker can do by itself.
#[must_use]
pub fn features() -> Features {
    Features {
        queue: true,
        ordered_queue: false,
        pins_keys: false,
        filters: false,
        qos_max: Qos::EffectivelyOnce,
        delayed_redelivery: false,
        replay: false,
        group_limits: false,
        listener: false,
        network: true,
    }
}

/// Opens a broker. Nothing is connected before something is published or
/// subscribed; files of certificates are read at once.
///
/// `client_id_base` is what client identifiers begin with where the settings
/// name none. To find what the broker has kept for it, a process that starts
/// again needs the same one; no other process may have it. A client identifier
/// that the settings name is for the session of whoever subscribes first.
///
/// # Errors
/// The settings contradict each other, or name a file that cannot be used.
pub fn open(
    settings: MqttSettings,
    client_id_base: String,
) -> Result<Arc<dyn Connection>, SettingsError> {
    open_seeded(settings, client_id_base, fastrand::u64(..))
}

/// As [`open`], with the seed of all that is random: the times before a
/// connection is tried again, and the names of events that come without one.
/// Two processes with one seed would give such events the same names.
///
/// # Errors
/// As [`open`].
pub fn open_seeded(
    settings: MqttSettings,
    client_id_base: String,
    seed: u64,
) -> Result<Arc<dyn Connection>, SettingsError> {
    Ok(Arc::new(connection::MqttConnection::new(settings, client_id_base, None, seed)?))
}

//! The way of a command to a broker that another process has put on the network.

use super::super::files;
use crate::backends::mqtt::{Endpoint, MqttSettings};
use crate::broker::BrokerError;
use crate::broker::driver::Connection;
use crate::config::{ConnectionSettings, DoorAddress, ListenConfig};
use std::path::Path;
use std::sync::Arc;

/// A connection to the listener of a broker: at the path that is for this user's
/// commands where somebody listens there, and else at an address that needs no
/// password.
pub(in crate::cli) fn reach(
    config: &Path,
    broker: &dyn ConnectionSettings,
    listen: &ListenConfig,
    client_id: &str,
) -> Result<Arc<dyn Connection>, BrokerError> {
    let mut settings = match private(config, broker) {
        Some(endpoint) => with_endpoint(endpoint)?,
        None => with_address(listen)?,
    };
    settings.packet_bytes_max = 268_435_455;
    settings.open_for_tool(client_id)
}

/// Whether somebody listens for this user's commands.
pub(in crate::cli) fn is_running(config: &Path, broker: &dyn ConnectionSettings) -> bool {
    private(config, broker).is_some()
}

#[cfg(unix)]
fn private(config: &Path, broker: &dyn ConnectionSettings) -> Option<Endpoint> {
    let path = files::listener_socket(Some(config), broker)?;
    std::os::unix::net::UnixStream::connect(&path).ok()?;
    Some(Endpoint::Unix(path))
}

#[cfg(not(unix))]
fn private(_: &Path, _: &dyn ConnectionSettings) -> Option<Endpoint> {
    None
}

fn with_endpoint(endpoint: Endpoint) -> Result<MqttSettings, BrokerError> {
    let settings = MqttSettings::new("mqtt://localhost").map_err(wrong)?;
    Ok(MqttSettings { endpoint, ..settings })
}

fn wrong(error: impl std::fmt::Display) -> BrokerError {
    BrokerError::Other(error.to_string())
}

/// The first address that a client can know, those without TLS first.
fn with_address(listen: &ListenConfig) -> Result<MqttSettings, BrokerError> {
    let mut doors: Vec<&DoorAddress> = listen.settings.doors.iter().collect();
    doors.retain(|door| door.port != 0);
    doors.sort_by_key(|door| door.is_tls);
    let Some(door) = doors.first() else {
        let text = "no host that runs with this configuration was found, and it names no port";
        return Err(wrong(text));
    };
    let host = match door.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let door = DoorAddress { host: host.to_owned(), ..(*door).clone() };
    let mut settings = MqttSettings::new(&door.to_string()).map_err(wrong)?;
    if door.is_tls {
        settings.ca = listen.settings.certificate.as_ref().map(|own| own.chain.clone());
    }
    Ok(settings)
}

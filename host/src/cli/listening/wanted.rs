//! What a configuration asks of a listener, with all files read.

use crate::config::{
    Config, DoorAddress, Errors, ListenConfig, ListenFormat, ListenLimits, ListenSettings, Place,
    Problem,
};
use crate::listener::{Access, Door, Limits, Pem, Rule, Settings, Users, Web, server_config};
use crate::mqtt::Format;
use rustls::ServerConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an event has beside its payload and attributes, in a packet, in bytes.
const PACKET_MARGIN: usize = 64 * 1024;
/// The largest packet of MQTT, in bytes.
const PACKET_BYTES_MAX: usize = 268_435_460;

/// A listener as it is to be.
pub(in crate::cli) struct Wanted {
    pub(super) settings: Settings,
    pub(super) doors: Vec<WantedDoor>,
}

/// One address.
pub(super) struct WantedDoor {
    pub(super) asked: DoorAddress,
    pub(super) place: Place,
    pub(super) door: Door,
}

impl Wanted {
    /// Reads the files. `folder` is what is served where WebSocket is spoken.
    ///
    /// # Errors
    /// A file is not what it should be, or a folder is to be served and there is no
    /// WebSocket.
    pub(in crate::cli) fn read(
        config: &Config,
        listen: &ListenConfig,
        folder: Option<&Path>,
    ) -> Result<Self, Errors> {
        let ListenConfig { settings, places } = listen;
        let bad = |place: &Place, path: &Path, reason: String| {
            let path = path.display().to_string();
            config.error_at(place, Problem::BadFile { path, reason })
        };
        let mut access = access(settings);
        if let Some(path) = &settings.passwords {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
            let users = text.and_then(|text| Users::read(&text).map_err(|error| error.to_string()));
            let users = users.map_err(|reason| bad(&places.passwords, path, reason))?;
            access.users = Some(Arc::new(users));
        }
        let tls = tls(listen, &bad)?;
        let doors = settings.doors.iter().zip(&places.doors).map(|(asked, place)| WantedDoor {
            asked: asked.clone(),
            place: place.clone(),
            door: Door {
                anonymous: settings.anonymous.unwrap_or_else(|| asked.is_loopback()),
                tls: tls.clone().filter(|_| asked.is_tls),
                user_from_certificate: settings.user_from_certificate,
                is_private: false,
                web: asked.path.as_ref().map(|path| Arc::new(web(path, folder, settings))),
            },
        });
        Ok(Self { settings: listener_settings(config, settings, access), doors: doors.collect() })
    }
}

/// What is said of the folder's files where one is to be served.
fn web(path: &str, folder: Option<&Path>, settings: &ListenSettings) -> Web {
    let files = folder.map(PathBuf::from);
    Web { path: path.to_owned(), files, origins: settings.origins.clone() }
}

fn tls(
    listen: &ListenConfig,
    bad: &dyn Fn(&Place, &Path, String) -> Errors,
) -> Result<Option<Arc<ServerConfig>>, Errors> {
    let ListenConfig { settings, places } = listen;
    let Some(own) = &settings.certificate else { return Ok(None) };
    let read = |place: &Place, path: &Path| {
        std::fs::read(path).map_err(|error| bad(place, path, error.to_string()))
    };
    let certificate = read(&places.certificate, &own.chain)?;
    let key = read(&places.key, &own.key)?;
    let client_ca = match &settings.client_ca {
        Some(path) => Some(read(&places.client_ca, path)?),
        None => None,
    };
    let pem = Pem { certificate: &certificate, key: &key, client_ca: client_ca.as_deref() };
    server_config(pem)
        .map(Some)
        .map_err(|error| bad(&places.certificate, &own.chain, error.to_string()))
}

fn access(settings: &ListenSettings) -> Access {
    let names =
        |names: &Option<Vec<String>>| names.as_ref().map(|names| names.iter().cloned().collect());
    let rules = settings.access.iter().map(|rule| Rule {
        users: names(&rule.users),
        client_ids: names(&rule.client_ids),
        publish: rule.publish.clone(),
        subscribe: rule.subscribe.clone(),
        deny_publish: rule.deny_publish.clone(),
        deny_subscribe: rule.deny_subscribe.clone(),
    });
    Access { users: None, rules: rules.collect() }
}

fn listener_settings(config: &Config, listen: &ListenSettings, access: Access) -> Settings {
    let keep_alive = listen.limits.keep_alive;
    let mut settings = Settings {
        format: match listen.format {
            ListenFormat::CloudEvents => Format::CloudEvents,
            ListenFormat::Structured => Format::Structured,
            ListenFormat::Raw => Format::Raw,
        },
        access,
        keep_alive_max: keep_alive.and_then(|time| u16::try_from(time.as_secs()).ok()),
        ..Settings::default()
    };
    let packet = (config.max_event_size + PACKET_MARGIN).min(PACKET_BYTES_MAX);
    settings.limits.packet_bytes_max = u32::try_from(packet).unwrap_or(u32::MAX);
    settings.reason_strings = listen.reason_strings.unwrap_or(settings.reason_strings);
    set_limits(&mut settings.limits, &listen.limits);
    settings
}

/// Puts in what the configuration names.
fn set_limits(limits: &mut Limits, named: &ListenLimits) {
    fn set<T, U: TryFrom<T>>(to: &mut U, named: Option<T>) {
        if let Some(value) = named.and_then(|value| value.try_into().ok()) {
            *to = value;
        }
    }
    let per_second = |named: Option<usize>| named.and_then(|number| u64::try_from(number).ok());
    limits.connections_per_address_max = named.connections_per_address;
    limits.publishes_per_second_max = per_second(named.publish_rate);
    limits.bytes_per_second_max = per_second(named.byte_rate);
    set(&mut limits.connections_max, named.connections);
    set(&mut limits.connect_bytes_max, named.connect_bytes);
    set(&mut limits.connect_time_max, named.connect_time);
    set(&mut limits.packet_bytes_max, named.packet_size);
    set(&mut limits.send_buffer_bytes_max, named.send_buffer);
    set(&mut limits.send_time_max, named.send_time);
    set(&mut limits.publish_time_max, named.publish_time);
    set(&mut limits.receive_max, named.receive);
    set(&mut limits.receive_bytes_max, named.receive_bytes);
    set(&mut limits.in_flight_max, named.in_flight);
    set(&mut limits.in_flight_bytes_max, named.in_flight_bytes);
    set(&mut limits.queued_max, named.queued);
    set(&mut limits.queued_bytes_max, named.queued_bytes);
    set(&mut limits.topic_aliases_max, named.topic_aliases);
    set(&mut limits.levels_max, named.topic_levels);
    set(&mut limits.subscriptions_max, named.subscriptions);
    set(&mut limits.sessions_max, named.sessions);
    set(&mut limits.session_expiry_max, named.session_expiry);
    set(&mut limits.retained_max, named.retained);
    set(&mut limits.retained_bytes_max, named.retained_bytes);
}

//! What is said of listening, once it is read.

use super::DoorAddress;
use crate::config::Place;
use std::path::PathBuf;
use std::time::Duration;

/// What a binding says of listening, and where.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// What it says.
    pub settings: ListenSettings,
    /// Where it says it.
    pub places: ListenPlaces,
}

/// Where in the file things stand; of what is not there, `listen`.
#[derive(Clone, Debug)]
pub struct ListenPlaces {
    /// The key `listen`.
    pub listen: Place,
    /// Each address.
    pub doors: Vec<Place>,
    /// The value of `password_file`.
    pub passwords: Place,
    /// The value of `cert_file`.
    pub certificate: Place,
    /// The value of `key_file`.
    pub key: Place,
    /// The value of `client_ca_file`.
    pub client_ca: Place,
}

/// How a broker listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenSettings {
    /// Where (`listen`), one or more.
    pub doors: Vec<DoorAddress>,
    /// Whether clients without a user name are let in (`anonymous`; default: where
    /// only this machine reaches the address).
    pub anonymous: Option<bool>,
    /// The users and their passwords (`password_file`).
    pub passwords: Option<PathBuf>,
    /// What TLS shows (`cert_file`, `key_file`).
    pub certificate: Option<Certificate>,
    /// Who must have signed clients' certificates (`client_ca_file`); `None`: none
    /// are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client is the user whom its certificate names
    /// (`user_from_certificate`).
    pub user_from_certificate: bool,
    /// Whose pages may connect, beside the server's own (`origins`).
    pub origins: Vec<String>,
    /// How events are laid out for clients (`format`, cloudevents).
    pub format: ListenFormat,
    /// Whether clients of MQTT 5 are told in words why they are disconnected
    /// (`reason_strings`); `None`: as the listener does.
    pub reason_strings: Option<bool>,
    /// Who may do what (`access`); without rules everybody everything.
    pub access: Vec<AccessRule>,
    /// The bounds (`listen_limits`).
    pub limits: ListenLimits,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and those that vouch for it, in PEM.
    pub chain: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// How events are laid out for MQTT clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenFormat {
    /// As CloudEvents' binding for MQTT says: attributes as user properties, and for
    /// MQTT 3.1.1 in JSON.
    #[default]
    CloudEvents,
    /// In JSON.
    Structured,
    /// The payload alone.
    Raw,
}

/// What some clients may do: filters, in which `{user}` and `{client_id}` stand for
/// the client's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// The users that it is for (`users`); `None`: all. An empty name: those without.
    pub users: Option<Vec<String>>,
    /// The client ids that it is for (`client_ids`); `None`: all.
    pub client_ids: Option<Vec<String>>,
    /// What may be published (`publish`).
    pub publish: Vec<String>,
    /// What may be subscribed to (`subscribe`).
    pub subscribe: Vec<String>,
    /// What may not be published, whatever grants it (`deny_publish`).
    pub deny_publish: Vec<String>,
    /// What is not delivered, whatever grants it (`deny_subscribe`).
    pub deny_subscribe: Vec<String>,
}

/// The bounds that the configuration names; `None`: the listener's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenLimits {
    /// Connections at once.
    pub connections: Option<usize>,
    /// Connections at once from one address.
    pub connections_per_address: Option<usize>,
    /// What may arrive before a client is accepted, in bytes.
    pub connect_bytes: Option<usize>,
    /// How long that may take.
    pub connect_time: Option<Duration>,
    /// The largest packet, in bytes.
    pub packet_size: Option<usize>,
    /// What may wait to be written to a client, in bytes.
    pub send_buffer: Option<usize>,
    /// How long a client may take none of it.
    pub send_time: Option<Duration>,
    /// Publishes of a client in a second.
    pub publish_rate: Option<usize>,
    /// Bytes of a client in a second.
    pub byte_rate: Option<usize>,
    /// How long a client's publishes may wait for room.
    pub publish_time: Option<Duration>,
    /// Publishes of a client that are not stored yet.
    pub receive: Option<usize>,
    /// Likewise, in bytes.
    pub receive_bytes: Option<usize>,
    /// Events that are sent to a client and not acknowledged.
    pub in_flight: Option<usize>,
    /// Likewise, in bytes.
    pub in_flight_bytes: Option<usize>,
    /// Events of qos 1 and 2 that wait for a session.
    pub queued: Option<usize>,
    /// Likewise, in bytes.
    pub queued_bytes: Option<usize>,
    /// Topic aliases of a client.
    pub topic_aliases: Option<usize>,
    /// Levels of a topic.
    pub topic_levels: Option<usize>,
    /// The longest keep-alive.
    pub keep_alive: Option<Duration>,
    /// Subscriptions of a client.
    pub subscriptions: Option<usize>,
    /// Sessions that are kept.
    pub sessions: Option<usize>,
    /// How long they are kept at most.
    pub session_expiry: Option<Duration>,
    /// Retained messages.
    pub retained: Option<usize>,
    /// Likewise, in bytes.
    pub retained_bytes: Option<usize>,
}

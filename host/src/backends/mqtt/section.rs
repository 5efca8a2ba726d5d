//! `pubsub.mqtt` in the configuration.

use super::connection::MqttConnection;
use super::settings::{Endpoint, Format, Identity, MqttSettings, SettingsError, Version};
use super::{features, open};
use crate::broker::BrokerError;
use crate::broker::driver::{Connection, Features};
use crate::config::{BackendSection, ConnectionSettings, Key, Problem, Section};
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(u32::MAX as u64);
const PACKET_BYTES: std::ops::RangeInclusive<u64> = 1024..=268_435_455;

const KEYS: &[Key] = &[
    Key { name: "url", help: "where the broker listens, such as \"tcp://localhost:1883\"" },
    Key { name: "username", help: "the user" },
    Key { name: "password", help: "the user's password, best as \"${NAME}\"" },
    Key { name: "client_id", help: "the exact client id; default: random, kept" },
    Key { name: "version", help: "\"auto\", \"5\" or \"3.1.1\"" },
    Key { name: "keep_alive", help: "how long the connection may be silent" },
    Key { name: "session_expiry", help: "how long the broker keeps a session without a client" },
    Key { name: "clean_session", help: "whether each connection begins with an empty session" },
    Key { name: "ca_file", help: "certificates to trust instead of the system's, in PEM" },
    Key { name: "cert_file", help: "the client's own certificate, in PEM" },
    Key { name: "key_file", help: "the private key of `cert_file`, in PEM" },
    Key { name: "format", help: "\"cloudevents\", \"structured\" or \"raw\"" },
    Key { name: "strict_acks", help: "whether acknowledgements keep the order of receipt" },
    Key { name: "max_packet_size", help: "the largest packet that is taken from the broker" },
];

/// Reads a binding to an MQTT broker.
pub struct MqttSection;

impl BackendSection for MqttSection {
    fn name(&self) -> &'static str {
        "pubsub.mqtt"
    }

    fn features(&self) -> Features {
        features()
    }

    fn keys(&self) -> &'static [Key] {
        KEYS
    }

    fn connection(&self, section: &mut Section<'_>) -> Option<Arc<dyn ConnectionSettings>> {
        let settings = read(section)?;
        // Reads the files that are named; connects to nothing.
        match open(settings.clone(), String::new()) {
            Ok(_) => Some(Arc::new(settings)),
            Err(error) => {
                report(section, error);
                None
            }
        }
    }
}

impl ConnectionSettings for MqttSettings {
    fn same_as(&self, other: &dyn ConnectionSettings) -> bool {
        (other as &dyn Any).downcast_ref::<Self>() == Some(self)
    }

    fn describe(&self) -> String {
        self.endpoint.to_string()
    }

    fn open(
        &self,
        client_id_base: &str,
        first_label: Option<&str>,
    ) -> Result<Arc<dyn Connection>, BrokerError> {
        let base = client_id_base.to_owned();
        MqttConnection::new(self.clone(), base, first_label.map(str::to_owned), fastrand::u64(..))
            .map(|connection| Arc::new(connection) as Arc<dyn Connection>)
            .map_err(|error| BrokerError::Other(error.to_string()))
    }

    fn open_for_tool(&self, client_id: &str) -> Result<Arc<dyn Connection>, BrokerError> {
        let settings = Self {
            client_id: None,
            clean_session: true,
            session_expiry: Duration::ZERO,
            ..self.clone()
        };
        ConnectionSettings::open(&settings, client_id, None)
    }

    fn open_kept(&self, client_id: &str) -> Option<Result<Arc<dyn Connection>, BrokerError>> {
        let settings = Self {
            client_id: Some(client_id.to_owned()),
            clean_session: false,
            session_expiry: SESSION_EXPIRY_MAX,
            ..self.clone()
        };
        Some(ConnectionSettings::open(&settings, client_id, None))
    }
}

/// Reads every key, also after one is wrong, so that all of it is reported.
fn read(section: &mut Section<'_>) -> Option<MqttSettings> {
    let base = url(section);
    let username = section.string("username").map(|found| found.value);
    let password = section.secret("password").map(|found| found.value);
    let client_id = section.string("client_id").map(|found| found.value);
    let versions = [("auto", Version::Auto), ("5", Version::V5), ("3.1.1", Version::V3_1_1)];
    let version = section.choice("version", &versions).map(|found| found.value);
    let keep_alive = seconds(section, "keep_alive", KEEP_ALIVE_MAX);
    let session_expiry = seconds(section, "session_expiry", SESSION_EXPIRY_MAX);
    let clean_session = section.flag("clean_session").map(|found| found.value);
    let formats = [
        ("cloudevents", Format::CloudEvents),
        ("structured", Format::Structured),
        ("raw", Format::Raw),
    ];
    let format = section.choice("format", &formats).map(|found| found.value);
    let strict_acks = section.flag("strict_acks").map(|found| found.value);
    let packet_bytes_max = section
        .size("max_packet_size", PACKET_BYTES)
        .and_then(|found| u32::try_from(found.value).ok());
    let files = Files::read(section, base.as_ref().map(|base| &base.endpoint));
    let (base, files) = (base?, files?);
    Some(MqttSettings {
        username,
        password,
        client_id,
        version: version.unwrap_or(base.version),
        keep_alive: keep_alive.unwrap_or(base.keep_alive),
        session_expiry: session_expiry.unwrap_or(base.session_expiry),
        clean_session: clean_session.unwrap_or(base.clean_session),
        ca: files.ca,
        identity: files.identity,
        format: format.unwrap_or(base.format),
        strict_acks: strict_acks.unwrap_or(base.strict_acks),
        packet_bytes_max: packet_bytes_max.unwrap_or(base.packet_bytes_max),
        ..base
    })
}

/// Settings for the URL, with everything else at its default.
fn url(section: &mut Section<'_>) -> Option<MqttSettings> {
    if !section.has("url") {
        section.missing("url", "where the broker listens, such as \"tcp://localhost:1883\"");
    }
    let url = section.string("url")?;
    MqttSettings::new(&url.value)
        .inspect_err(|error| {
            let reason = match error {
                SettingsError::CredentialsInUrl => {
                    section.hide(&url.place);
                    "it contains a user or password: use `username` and `password`".to_owned()
                }
                SettingsError::Value { allowed, .. } => format!("expected {allowed}"),
                other => other.to_string(),
            };
            section.invalid(&url.place, reason);
        })
        .ok()
}

/// A duration that the protocol counts in seconds.
fn seconds(section: &mut Section<'_>, key: &'static str, max: Duration) -> Option<Duration> {
    let found = section.duration(key, Duration::ZERO..=max)?;
    if found.value.subsec_nanos() != 0 {
        section.invalid(&found.place, "the protocol counts in whole seconds");
        return None;
    }
    Some(found.value)
}

/// The files of certificates.
struct Files {
    ca: Option<PathBuf>,
    identity: Option<Identity>,
}

impl Files {
    /// `None` where one cannot be used, or lacks another.
    fn read(section: &mut Section<'_>, endpoint: Option<&Endpoint>) -> Option<Self> {
        let keys = ["ca_file", "cert_file", "key_file"];
        let [ca, certificate, key] = keys.map(|key| section.file(key).map(|found| found.value));
        let mut usable = keys
            .iter()
            .zip([&ca, &certificate, &key])
            .all(|(key, file)| file.is_some() || !section.has(key));
        for (key, other, text) in
            [("cert_file", "key_file", "`key_file`"), ("key_file", "cert_file", "`cert_file`")]
        {
            if !section.has(other) {
                usable &= !needs(section, key, text, "one is of no use without the other");
            }
        }
        if endpoint.is_some_and(|endpoint| !endpoint.is_tls()) {
            for key in keys {
                usable &= !needs(section, key, "a `url` with mqtts:// or wss://", "it is for TLS");
            }
        }
        let identity = certificate.zip(key).map(|(certificate, key)| Identity { certificate, key });
        usable.then_some(Self { ca, identity })
    }
}

/// Reports, where a key is there, that it needs another. Returns whether it did.
fn needs(section: &Section<'_>, key: &str, other: &'static str, reason: &'static str) -> bool {
    let Some(place) = section.place_of(key) else { return false };
    section.report(&place, Problem::Requires { other, reason });
    true
}

/// Reports what the settings themselves found wrong, at the key that it is about.
fn report(section: &Section<'_>, error: SettingsError) {
    let key = match error.key() {
        "ca" => "ca_file",
        "client_certificate" => "cert_file",
        "client_key" => "key_file",
        "packet_size" => "max_packet_size",
        key => key,
    };
    let place = section.place_of(key).unwrap_or_else(|| section.place().clone());
    let value = section.place_of_value(key).unwrap_or_else(|| place.clone());
    match error {
        SettingsError::File { path, reason, .. } => {
            section.report(&value, Problem::BadFile { path, reason });
        }
        SettingsError::Missing { needs: "username", .. } => {
            let reason = "a broker takes no password without a user";
            section.report(&place, Problem::Requires { other: "`username`", reason });
        }
        SettingsError::Value { allowed, .. } => {
            section.invalid(&value, format!("expected {allowed}"));
        }
        other => section.invalid(&place, other.to_string()),
    }
}

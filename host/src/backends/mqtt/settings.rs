//! How a broker is reached: the keys of a `pubsub.mqtt` binding, checked.

pub use crate::mqtt::Format;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// How long the connection may be silent before both sides check on it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long the broker keeps a session of ours that is not connected.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest packet taken from the broker, in bytes.
pub const PACKET_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The keys of a binding that say how its broker is reached, without those that
/// say what is subscribed there. Bindings for which these are equal mean one
/// broker.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MqttSettings {
    /// Where the broker listens, and by which transport.
    pub endpoint: Endpoint,
    /// The user to present, if any.
    pub username: Option<String>,
    /// The user's password. No output of ours contains it.
    pub password: Option<String>,
    /// The client identifier; `None` for one that the caller makes up.
    pub client_id: Option<String>,
    /// Which version of the protocol to speak.
    pub version: Version,
    /// How long the connection may be silent, in whole seconds; zero for ever.
    pub keep_alive: Duration,
    /// How long the broker keeps the session of a client that is gone, in whole
    /// seconds. MQTT 3.1.1 has no such number.
    pub session_expiry: Duration,
    /// Whether every connection begins with an empty session. What arrives
    /// while there is no connection is lost then.
    pub clean_session: bool,
    /// Certificates in PEM to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and private key, both in PEM.
    pub identity: Option<Identity>,
    /// The largest packet taken from the broker, in bytes.
    pub packet_bytes_max: u32,
    /// Whether acknowledgements wait for those of earlier events, as the
    /// protocol asks; otherwise they are sent in the order of verdicts.
    pub strict_acks: bool,
    /// How events are written and read.
    pub format: Format,
}

/// The files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those that vouch for it, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// MQTT over TCP, or over TLS.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// MQTT in WebSocket frames.
    WebSocket {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
        /// The path and query to ask for, from its `/`.
        path: String,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// The version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5, and 3.1.1 where the broker does not know 5.
    #[default]
    Auto,
    /// MQTT 5 only.
    V5,
    /// MQTT 3.1.1 only.
    V3_1_1,
}

/// Why a setting is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A key's value is none that it can have.
    #[error("`{key}`: {found} is not allowed: {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was found, quoted.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The URL holds a password, which is thereby in every log.
    #[error("`url`: it contains a user or password: use `username` and `password` instead")]
    CredentialsInUrl,
    /// A key makes no sense without another.
    #[error("`{key}` is set, but `{needs}` is not")]
    Missing {
        /// The key that is there.
        key: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A file of certificates or keys cannot be used.
    #[error("`{key}`: {path}: {reason}")]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl SettingsError {
    fn value(key: &'static str, found: impl fmt::Display, allowed: &'static str) -> Self {
        Self::Value { key, found: format!("`{found}`"), allowed }
    }

    /// The key that is at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::CredentialsInUrl => "url",
            Self::Value { key, .. } | Self::Missing { key, .. } | Self::File { key, .. } => key,
        }
    }
}

impl MqttSettings {
    /// Settings for a broker's URL, with everything else at its default.
    ///
    /// # Errors
    /// The text is no URL, or none of a broker: see [`Endpoint::parse`].
    pub fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            username: None,
            password: None,
            client_id: None,
            version: Version::Auto,
            keep_alive: KEEP_ALIVE,
            session_expiry: SESSION_EXPIRY,
            clean_session: false,
            ca: None,
            identity: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            strict_acks: false,
            format: Format::CloudEvents,
        })
    }

    /// Checks what no key shows by itself.
    ///
    /// # Errors
    /// Of the first key that is out of its range or lacks another.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.password.is_some() && self.username.is_none() {
            return Err(SettingsError::Missing { key: "password", needs: "username" });
        }
        for (key, found) in [("username", &self.username), ("client_id", &self.client_id)] {
            if let Some(found) = found
                && (found.is_empty() || found.len() > 60_000 || !crate::mqtt::is_portable(found))
            {
                return Err(SettingsError::value(
                    key,
                    found.chars().take(40).collect::<String>().escape_debug(),
                    "1 to 60000 bytes without control characters",
                ));
            }
        }
        if self.keep_alive.as_secs() > u64::from(u16::MAX) {
            let allowed = "at most 65535 seconds";
            return Err(SettingsError::value("keep_alive", Seconds(self.keep_alive), allowed));
        }
        if !self.keep_alive.is_zero() && self.keep_alive.as_secs() == 0 {
            let allowed = "whole seconds, or 0 for none";
            return Err(SettingsError::value("keep_alive", Seconds(self.keep_alive), allowed));
        }
        if self.session_expiry.as_secs() > u64::from(u32::MAX) {
            let allowed = "at most 4294967295 seconds";
            let found = Seconds(self.session_expiry);
            return Err(SettingsError::value("session_expiry", found, allowed));
        }
        if !(1024..=268_435_455).contains(&self.packet_bytes_max) {
            let allowed = "1024 to 268435455 bytes";
            return Err(SettingsError::value("max_packet_size", self.packet_bytes_max, allowed));
        }
        let secret = [("ca_file", self.ca.is_some()), ("cert_file", self.identity.is_some())];
        for (key, set) in secret {
            if set && !self.endpoint.is_tls() {
                return Err(SettingsError::Missing { key, needs: "url = \"mqtts://…\"" });
            }
        }
        Ok(())
    }
}

/// Every field but the password.
impl fmt::Debug for MqttSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttSettings")
            .field("endpoint", &self.endpoint)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("client_id", &self.client_id)
            .field("version", &self.version)
            .field("keep_alive", &self.keep_alive)
            .field("session_expiry", &self.session_expiry)
            .field("clean_session", &self.clean_session)
            .field("ca", &self.ca)
            .field("identity", &self.identity)
            .field("packet_bytes_max", &self.packet_bytes_max)
            .field("strict_acks", &self.strict_acks)
            .field("format", &self.format)
            .finish()
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

impl Endpoint {
    /// Reads a broker's URL: `tcp://` = `mqtt://` (port 1883), `ssl://` =
    /// `mqtts://` (8883), `ws://` (80), `wss://` (443), `unix:///path`.
    ///
    /// # Errors
    /// No URL, another scheme, no host, or more than a broker's URL can have.
    pub fn parse(url: &str) -> Result<Self, SettingsError> {
        const ALLOWED: &str = "tcp://, mqtt://, mqtts://, ssl://, ws:// or wss:// with a host, \
                               or unix:///path";
        let refuse = || SettingsError::value("url", url, ALLOWED);
        let parsed = match Url::parse(url) {
            Ok(parsed) => parsed,
            // The text may hold a password: it is not repeated.
            Err(_) if url.contains('@') => return Err(SettingsError::CredentialsInUrl),
            Err(_) => return Err(refuse()),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(SettingsError::CredentialsInUrl);
        }
        if parsed.scheme() == "unix" {
            return unix_path(&parsed).map(Self::Unix).ok_or_else(refuse);
        }
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, web_socket, port) = match parsed.scheme() {
            "tcp" | "mqtt" => (false, false, 1883),
            "ssl" | "mqtts" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(refuse()),
        };
        let port = parsed.port().unwrap_or(port);
        if port == 0 || parsed.fragment().is_some() {
            return Err(refuse());
        }
        let query = parsed.query();
        if web_socket {
            let path = match query {
                Some(query) => format!("{}?{query}", parsed.path()),
                None => parsed.path().to_owned(),
            };
            return Ok(Self::WebSocket { host, port, tls, path });
        }
        if !matches!(parsed.path(), "" | "/") || query.is_some() {
            return Err(refuse());
        }
        Ok(Self::Tcp { host, port, tls })
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. } | Self::WebSocket { tls: true, .. })
    }
}

fn unix_path(url: &Url) -> Option<PathBuf> {
    if url.host_str().is_some_and(|host| !host.is_empty()) || url.query().is_some() {
        return None;
    }
    // A path of a URL is percent-encoded; `file` knows how to read one.
    let path = Url::parse(&format!("file://{}", url.path())).ok()?.to_file_path().ok()?;
    (path.parent().is_some()).then_some(path)
}

/// The URL again, in one spelling for each endpoint.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self {
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "mqtts" } else { "mqtt" };
                write!(f, "{scheme}://{}:{port}", bracketed(host))
            }
            Self::WebSocket { host, port, tls, path } => {
                let scheme = if *tls { "wss" } else { "ws" };
                write!(f, "{scheme}://{}:{port}{path}", bracketed(host))
            }
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Version {
    /// Reads the key `version`.
    ///
    /// # Errors
    /// Names what is allowed.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        match text {
            "auto" => Ok(Self::Auto),
            "5" | "5.0" => Ok(Self::V5),
            "3.1.1" => Ok(Self::V3_1_1),
            _ => Err(SettingsError::value("version", text, "\"auto\", \"5\" or \"3.1.1\"")),
        }
    }
}

impl Format {
    /// Reads the key `format`.
    ///
    /// # Errors
    /// Names what is allowed.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        match text {
            "cloudevents" => Ok(Self::CloudEvents),
            "structured" => Ok(Self::Structured),
            "raw" => Ok(Self::Raw),
            _ => {
                let allowed = "\"cloudevents\", \"structured\" or \"raw\"";
                Err(SettingsError::value("format", text, allowed))
            }
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

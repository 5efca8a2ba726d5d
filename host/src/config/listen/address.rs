//! The addresses of `listen`.

use std::fmt;
use std::net::IpAddr;
use url::Url;

/// Where MQTT clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorAddress {
    /// An address or a name of this machine, without brackets.
    pub host: String,
    /// The port; 0 for any that is free.
    pub port: u16,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// The path, where WebSocket is spoken.
    pub path: Option<String>,
}

/// Why a text is no address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// It is something else.
    #[error(
        "expected mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH"
    )]
    Form,
    /// There is a user in it.
    #[error("it contains a user or password: `password_file` names the users")]
    Credentials,
}

impl DoorAddress {
    /// Reads `mqtt://` = `tcp://` (port 1883), `mqtts://` = `ssl://` (8883), `ws://`
    /// (80) or `wss://` (443).
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, DoorError> {
        let url = Url::parse(text).map_err(|_| match text.contains('@') {
            true => DoorError::Credentials,
            false => DoorError::Form,
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(DoorError::Credentials);
        }
        let (is_tls, is_web, port) = match url.scheme() {
            "tcp" | "mqtt" => (false, false, 1883),
            "ssl" | "mqtts" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(DoorError::Form),
        };
        let has_path = !matches!(url.path(), "" | "/");
        if url.query().is_some() || url.fragment().is_some() || has_path && !is_web {
            return Err(DoorError::Form);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(DoorError::Form)?;
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(port),
            is_tls,
            path: is_web.then(|| url.path().to_owned()),
        })
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// Whether the system gives one address to both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.port != 0 && self.port == other.port && self.host == other.host
    }

    /// The same at another port, such as the one that the system has chosen.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }
}

impl fmt::Display for DoorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.path, self.is_tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port)?,
            false => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        f.write_str(self.path.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written() {
        for (text, shown) in [
            ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
            ("tcp://localhost", "mqtt://localhost:1883"),
            ("mqtts://[::1]", "mqtts://[::1]:8883"),
            ("ws://127.0.0.1:8083/mqtt", "ws://127.0.0.1:8083/mqtt"),
            ("wss://0.0.0.0", "wss://0.0.0.0:443/"),
            ("mqtt://127.0.0.1:0/", "mqtt://127.0.0.1:0"),
        ] {
            assert_eq!(DoorAddress::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "127.0.0.1:1883", "http://x", "mqtt://h/path", "mqtt://", "ws://h/p?q"] {
            assert_eq!(DoorAddress::parse(text), Err(DoorError::Form), "{text}");
        }
        for text in ["mqtt://a:b@h", "mqtt://a:b@h:x"] {
            assert_eq!(DoorAddress::parse(text), Err(DoorError::Credentials), "{text}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_machine_reaches() {
        let is = |text| DoorAddress::parse(text).unwrap().is_loopback();
        assert!(is("mqtt://127.0.0.2:1") && is("mqtt://[::1]:1") && is("ws://localhost:1"));
        assert!(!is("mqtt://0.0.0.0:1") && !is("mqtt://[::]:1") && !is("mqtt://broker:1"));
    }
}

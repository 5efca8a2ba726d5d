//! What a mosquitto is to be like.

use super::Mosquitto;
use super::install::write_password_file;
use crate::certificates::Certificates;
use crate::process::Lines;

/// How often a start is tried with other ports, where someone else took one
/// between its choice and its use.
const START_ATTEMPTS_MAX: usize = 5;

/// What a mosquitto is to be like. Plain TCP without a password, unless more is
/// asked for.
#[derive(Clone, Debug, Default)]
pub struct MosquittoBuilder {
    pub(super) persistence: bool,
    pub(super) tls: bool,
    pub(super) client_certificates: bool,
    pub(super) websocket: bool,
    pub(super) unix_socket: bool,
    pub(super) password: Option<(String, String)>,
    pub(super) max_packet_bytes: Option<usize>,
    pub(super) lines: Vec<String>,
}

impl MosquittoBuilder {
    /// It keeps sessions and messages in a file, written on SIGUSR1 and at its end.
    #[must_use]
    pub fn persistence(mut self) -> Self {
        self.persistence = true;
        self
    }

    /// It also listens for TLS.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// It also listens for TLS, and takes only clients with a certificate.
    #[must_use]
    pub fn client_certificates(mut self) -> Self {
        self.tls = true;
        self.client_certificates = true;
        self
    }

    /// It also listens for WebSockets.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// It also listens on a unix socket.
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Only this user is let in.
    #[must_use]
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.password = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// No larger packet is taken.
    #[must_use]
    pub fn max_packet_bytes(mut self, bytes: usize) -> Self {
        self.max_packet_bytes = Some(bytes);
        self
    }

    /// A further line of its configuration.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts it, and waits until it takes MQTT connections.
    ///
    /// # Panics
    /// When it is not installed, ends at once, or takes none within [`DEADLINE`].
    pub async fn start(self) -> Mosquitto {
        let folder = tempfile::Builder::new().prefix("mosquitto-").tempdir().expect("a folder");
        let certificates = self.tls.then(|| Certificates::make(folder.path()));
        if let Some((user, password)) = &self.password {
            write_password_file(folder.path(), user, password);
        }
        let mut broker = Mosquitto {
            port: 0,
            tls_port: 0,
            websocket_port: 0,
            child: None,
            lines: Lines::default(),
            certificates,
            builder: self,
            folder,
        };
        for _ in 0..START_ATTEMPTS_MAX {
            broker.choose_ports();
            if broker.try_start().await {
                return broker;
            }
        }
        panic!("mosquitto ended at once, {START_ATTEMPTS_MAX} times:\n{}", broker.lines.dump());
    }
}

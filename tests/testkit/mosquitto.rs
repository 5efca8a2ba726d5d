//! A mosquitto of the test's own, on free ports of 127.0.0.1.

use crate::certificates::Certificates;
use crate::process::{self, Lines, Stream};
use crate::wait::{DEADLINE, eventually, free_port};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often a start is tried with other ports, where someone else took one
/// between its choice and its use.
const START_ATTEMPTS_MAX: usize = 5;

/// The path of mosquitto.
///
/// # Panics
/// When it is not installed; the message says how to install it.
#[must_use]
pub fn mosquitto_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| find("mosquitto", "mosquitto"));
    &BINARY
}

fn find(program: &str, package: &str) -> PathBuf {
    // Debian keeps servers in a folder that an ordinary user's PATH lacks.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from));
    folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "this test needs `{program}`, which is neither on PATH nor in /usr/sbin. Install it: \
             `apt-get install {package}` on Debian and Ubuntu, `brew install {package}` on macOS"
        )
    })
}

/// What a mosquitto is to be like. Plain TCP without a password, unless more is
/// asked for.
#[derive(Clone, Debug, Default)]
pub struct MosquittoBuilder {
    persistence: bool,
    tls: bool,
    client_certificates: bool,
    websocket: bool,
    unix_socket: bool,
    password: Option<(String, String)>,
    max_packet_bytes: Option<usize>,
    lines: Vec<String>,
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

fn write_password_file(folder: &Path, user: &str, password: &str) {
    let file = folder.join("passwords");
    let status = Command::new(find("mosquitto_passwd", "mosquitto"))
        .args(["-c", "-b"])
        .arg(&file)
        .args([user, password])
        .stderr(Stdio::null())
        .status()
        .expect("mosquitto_passwd can be started");
    assert!(status.success(), "mosquitto_passwd failed: {status}");
}

/// A running mosquitto. It is killed, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    tls_port: u16,
    websocket_port: u16,
    child: Option<Child>,
    lines: Lines,
    certificates: Option<Certificates>,
    builder: MosquittoBuilder,
    folder: TempDir,
}

impl Mosquitto {
    /// A plain one, without persistence.
    ///
    /// # Panics
    /// As [`MosquittoBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// What it is to be like.
    #[must_use]
    pub fn builder() -> MosquittoBuilder {
        MosquittoBuilder::default()
    }

    /// The port for plain TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address for plain TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The URL for plain TCP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The URL for TLS.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn tls_url(&self) -> String {
        assert!(self.builder.tls, "this mosquitto was started without TLS");
        format!("mqtts://localhost:{}", self.tls_port)
    }

    /// The URL for WebSockets.
    ///
    /// # Panics
    /// When it was not asked for.
    #[must_use]
    pub fn websocket_url(&self) -> String {
        assert!(self.builder.websocket, "this mosquitto was started without WebSockets");
        format!("ws://127.0.0.1:{}", self.websocket_port)
    }

    /// The path of the unix socket. There is one only where it was asked for.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The certificates.
    ///
    /// # Panics
    /// When it was started without TLS.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("this mosquitto was started without TLS")
    }

    /// What it has logged, of all its runs.
    #[must_use]
    pub fn log(&self) -> &Lines {
        &self.lines
    }

    /// Kills it (SIGKILL): what it has not written to its file is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::kill(&mut child);
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has; with persistence, it
    /// writes its file first.
    ///
    /// # Panics
    /// When it has not ended within [`DEADLINE`].
    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::signal(&child, Signal::TERM);
            process::ended(&mut child, "mosquitto", DEADLINE).await;
        }
    }

    /// Waits until it has done all that it was sent. To be called while nobody
    /// can send it more.
    ///
    /// # Panics
    /// When it isn't running, or still busy after [`DEADLINE`].
    pub async fn idle(&self) {
        // Each time around it takes a packet from every client that has sent one,
        // and logs it. A probe is answered the second time around at the earliest.
        let count = |text| self.lines.count(Stream::Err, text);
        let probed = || count("Sending CONNACK to probe");
        let work = || count("") - count("probe") - count("New connection") - count("No will");
        let end = Instant::now() + DEADLINE;
        loop {
            let (work_before, probed_before) = (work(), probed());
            assert!(answers_mqtt(self.address()), "mosquitto isn't running");
            eventually(DEADLINE, "a probe is logged", || probed() > probed_before).await;
            if work() == work_before {
                return;
            }
            assert!(Instant::now() < end, "mosquitto is still busy after {DEADLINE:?}");
        }
    }

    /// Has it write its file now, and waits until it has.
    ///
    /// # Panics
    /// When it isn't running, keeps no file, or has not written it within
    /// [`DEADLINE`].
    pub async fn save(&self) {
        assert!(self.builder.persistence, "this mosquitto was started without persistence");
        let child = self.child.as_ref().expect("mosquitto is running");
        let file = self.folder.path().join("mosquitto.db");
        // It writes a new file and renames it; what was there is moved away,
        // so that the new one cannot be mistaken.
        let _none_yet = fs::remove_file(&file);
        process::signal(child, Signal::USR1);
        eventually(DEADLINE, "mosquitto has written its file", || file.exists()).await;
    }

    /// Starts it again on the same ports, after [`kill`](Self::kill) or
    /// [`stop`](Self::stop).
    ///
    /// # Panics
    /// When it is running, or does not come up.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "mosquitto is still running");
        assert!(self.try_start().await, "mosquitto did not start again:\n{}", self.lines.dump());
    }

    fn choose_ports(&mut self) {
        self.port = free_port();
        self.tls_port = free_port();
        self.websocket_port = free_port();
    }

    /// Whether it has come up; false where it has ended at once.
    async fn try_start(&mut self) -> bool {
        let config = self.folder.path().join("mosquitto.conf");
        fs::write(&config, self.config()).expect("mosquitto's configuration is written");
        let mut child = Command::new(mosquitto_binary())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto can be started");
        self.lines.follow(Stream::Err, child.stderr.take().expect("its log is piped"));

        // Its own word that it runs: on a port that it could not get, another
        // test's mosquitto may answer.
        let says_running = || self.lines.count(Stream::Err, " running");
        let (mut ended, before) = (false, says_running());
        let address = self.address();
        eventually(DEADLINE, "mosquitto takes connections", || {
            ended = child.try_wait().expect("the state of mosquitto").is_some();
            ended || (says_running() > before && answers_mqtt(address))
        })
        .await;
        if !ended {
            self.child = Some(child);
        }
        !ended
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        let b = &self.builder;
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
        line("per_listener_settings false".into());
        // Started as root it would become another user, who may not read here.
        line("user root".into());
        line("log_dest stderr\nlog_type all\nset_tcp_nodelay true".into());
        line(format!("allow_anonymous {}", b.password.is_none()));
        if b.password.is_some() {
            line(format!("password_file {folder}/passwords"));
        }
        line(format!("persistence {}", b.persistence));
        if b.persistence {
            line(format!("persistence_location {folder}/\nautosave_interval 0"));
        }
        // Its own limits on queues would drop events of a test.
        line("max_queued_messages 0\nmax_inflight_messages 100".into());
        if let Some(bytes) = b.max_packet_bytes {
            line(format!("max_packet_size {bytes}"));
        }
        b.lines.iter().cloned().for_each(&mut line);

        line(format!("listener {} 127.0.0.1", self.port));
        if b.websocket {
            line(format!("listener {} 127.0.0.1\nprotocol websockets", self.websocket_port));
        }
        if b.unix_socket {
            line(format!("listener 0 {}", self.socket_path().display()));
        }
        if let Some(c) = &self.certificates {
            line(format!("listener {} 127.0.0.1", self.tls_port));
            line(format!("cafile {}\ncertfile {}", c.ca.display(), c.server_cert.display()));
            line(format!("keyfile {}", c.server_key.display()));
            line(format!("require_certificate {}", b.client_certificates));
        }
        text
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The last lines are enough to see what it thought of its clients.
            let log = self.lines.of(Stream::Err);
            let last = &log[log.len().saturating_sub(60)..];
            eprintln!("mosquitto logged, at the end:\n  {}", last.join("\n  "));
        }
    }
}

/// Whether a CONNECT is answered by a CONNACK, whatever it says.
fn answers_mqtt(address: SocketAddr) -> bool {
    const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe";
    let exchange = || -> std::io::Result<u8> {
        let timeout = Duration::from_secs(1);
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(CONNECT)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    };
    exchange().is_ok_and(|kind| kind == 0x20)
}

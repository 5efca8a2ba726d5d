//! A mosquitto of the test's own, on free ports of 127.0.0.1.

mod builder;
mod config;
mod install;

pub use builder::MosquittoBuilder;
pub use install::mosquitto_binary;

use crate::certificates::Certificates;
use crate::process::{self, Lines, Stream};
use crate::wait::{DEADLINE, eventually, free_port};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

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

    /// The number of its process; `None` once it has ended.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
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
        // Its own word that it runs: on a port that it could not get, another
        // test's mosquitto may answer.
        let (lines, address) = (self.lines.clone(), self.address());
        let says_running = || lines.count(Stream::Err, " running");
        let (mut ended, before) = (false, says_running());
        let mut child = Command::new(mosquitto_binary())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto can be started");
        self.lines.follow(Stream::Err, child.stderr.take().expect("its log is piped"));

        // Ours from now on, so that it ends with this whatever happens.
        let child = self.child.insert(child);
        eventually(DEADLINE, "mosquitto takes connections", || {
            ended = child.try_wait().expect("the state of mosquitto").is_some();
            ended || (says_running() > before && answers_mqtt(address))
        })
        .await;
        if ended {
            self.child = None;
        }
        !ended
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

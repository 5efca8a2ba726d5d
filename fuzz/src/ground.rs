//! Whole connections over streams in memory: a client sends some bytes and goes, and
//! another one is served as before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;
use wasi_pubsub::backends::memory;
use wasi_pubsub::listener::{Door, Limits, Listener, Settings, Web};

/// How long a connection may last, of a time that passes only while everybody waits.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// What the server may write to a client for one connection, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A handshake that is right.
const HANDSHAKE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
const CONNECT_V5: &[u8] = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02c5";
const CONNECT_V4: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02c4";

/// A listener that serves one connection after the other.
pub(crate) struct Ground {
    runtime: Runtime,
    listener: Listener,
    limits: Limits,
    mqtt: Arc<Door>,
    web: Arc<Door>,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let mut settings = Settings::default();
        settings.sys_interval = None;
        let limits = &mut settings.limits;
        limits.connect_bytes_max = 4096;
        limits.packet_bytes_max = 16 * 1024;
        limits.receive_max = 20;
        limits.in_flight_max = 20;
        limits.subscriptions_max = 8;
        limits.sessions_max = 4;
        limits.retained_max = 16;
        limits.retained_bytes_max = 64 * 1024;
        limits.topic_aliases_max = 4;
        let limits = limits.clone();
        let listener = runtime.block_on(async { Listener::new(memory::open(), settings, 1) });
        let web = Web { path: "/mqtt".to_owned(), ..Web::default() };
        let open = Door { anonymous: true, ..Door::default() };
        let web = Door { web: Some(Arc::new(web)), ..open.clone() };
        Self { runtime, listener, limits, mqtt: Arc::new(open), web: Arc::new(web) }
    }

    /// A connection of MQTT. The first byte says what comes before the others, and how
    /// they are cut into pieces.
    pub(crate) fn connection(&self, data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let before = [&b""[..], CONNECT_V5, CONNECT_V4][usize::from(choice % 3)];
        self.serve(&self.mqtt, before, bytes, usize::from(choice / 3));
    }

    /// A connection of HTTP, likewise.
    pub(crate) fn web(&self, data: &[u8]) {
        let Some((choice, bytes)) = data.split_first() else { return };
        let before = [&b""[..], HANDSHAKE][usize::from(choice % 2)];
        self.serve(&self.web, before, bytes, usize::from(choice / 2));
    }

    fn serve(&self, door: &Arc<Door>, before: &[u8], bytes: &[u8], piece: usize) {
        self.runtime.block_on(async {
            let done = async {
                let answer = self.talk(door, before, bytes, piece).await;
                assert!(answer <= ANSWER_BYTES_MAX, "{answer} bytes of answers");
                self.is_tidy().await;
                self.serves_another().await;
                self.is_tidy().await;
            };
            let done = tokio::time::timeout(TIME_MAX, done).await;
            assert!(done.is_ok(), "it does not end: {:?}", self.listener.figures());
        });
    }

    fn knock(&self, door: &Arc<Door>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(4096);
        self.listener.admit(theirs, Some(IpAddr::from([10, 0, 0, 1])), door.clone());
        ours
    }

    /// Sends the bytes, in pieces of so many, closes this side, and waits for the server
    /// to do the same. Returns how much it has said.
    async fn talk(&self, door: &Arc<Door>, before: &[u8], bytes: &[u8], piece: usize) -> usize {
        let (mut from, mut to) = tokio::io::split(self.knock(door));
        let sending = async {
            to.write_all(before).await?;
            for bytes in bytes.chunks(if piece == 0 { usize::MAX } else { piece }) {
                to.write_all(bytes).await?;
                tokio::task::yield_now().await;
            }
            to.shutdown().await
        };
        let hearing = async {
            let (mut sum, mut buffer) = (0, [0; 4096]);
            while let Ok(number @ 1..) = from.read(&mut buffer).await {
                sum += number;
            }
            sum
        };
        // A server that has closed does not listen to the rest.
        let (_, heard) = tokio::join!(sending, hearing);
        heard
    }

    /// Nobody is there, and what is kept is within its bounds.
    async fn is_tidy(&self) {
        loop {
            let figures = self.listener.figures();
            let limits = &self.limits;
            assert!(figures.sessions_kept <= limits.sessions_max, "{figures:?}");
            assert!(figures.retained <= limits.retained_max, "{figures:?}");
            assert!(figures.retained_bytes <= limits.retained_bytes_max, "{figures:?}");
            let subscriptions_max = figures.sessions_kept * limits.subscriptions_max;
            if (figures.connections, figures.clients) == (0, 0) {
                assert!(figures.subscriptions <= subscriptions_max, "{figures:?}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A client that does what it should is served.
    async fn serves_another(&self) {
        let mut client = self.knock(&self.mqtt);
        let said = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ok\
            \x82\x0b\x00\x01\x00\x06own/ok\x00\x32\x0c\x00\x06own/ok\x00\x02hi";
        client.write_all(said).await.expect("it is served");
        let (mut heard, mut buffer) = (Vec::new(), [0; 64]);
        let has =
            |heard: &[u8], wanted: &[u8]| heard.windows(wanted.len()).any(|found| found == wanted);
        while !has(&heard, b"\x40\x02\x00\x02") || !has(&heard, b"\x30\x0a\x00\x06own/okhi") {
            let number = client.read(&mut buffer).await.expect("it is served");
            assert!(number > 0, "{heard:x?}");
            heard.extend_from_slice(&buffer[..number]);
        }
        assert!(heard.starts_with(b"\x20\x02\x00\x00\x90\x03\x00\x01\x00"), "{heard:x?}");
        client.write_all(b"\xe0\x00").await.expect("it is served");
        client.read_to_end(&mut heard).await.expect("it is served");
    }
}

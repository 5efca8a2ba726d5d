//! A listener over the built-in broker in memory, and clients that reach it over
//! streams in memory: with time that stands still until everybody waits.

use crate::packets::{Connack, Connect, DISCONNECT, Frame, PUBACK, Publish, SUBACK, subscribe};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use wasi_pubsub::backends::memory;
use wasi_pubsub::listener::{Clock, Door, Figures, Listener, Settings};

/// How long something may take, of the time of the tests.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// How much a stream holds that nobody has taken.
const STREAM_BYTES: usize = 64 * 1024;
/// What the time of day is at the beginning, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;

/// A listener.
pub(crate) struct World {
    pub(crate) listener: Listener,
    pub(crate) door: Arc<Door>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(memory::open(), change)
    }

    /// On a broker.
    pub(crate) fn on(
        broker: Arc<dyn wasi_pubsub::broker::driver::Connection>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let start = Instant::now();
        let mut settings = Settings::default();
        settings.sys_interval = None;
        settings.clock =
            Clock(Arc::new(move || UNIX_EPOCH + Duration::from_secs(EPOCH) + start.elapsed()));
        change(&mut settings);
        let door = Arc::new(Door { anonymous: true, ..Door::default() });
        Self { listener: Listener::new(broker, settings, 1), door }
    }

    /// A connection on which nothing was said.
    pub(crate) fn knock(&self) -> Raw {
        self.knock_from(None, STREAM_BYTES)
    }

    /// One from an address, over a stream that holds so much.
    pub(crate) fn knock_from(&self, from: Option<IpAddr>, bytes: usize) -> Raw {
        let (ours, theirs) = tokio::io::duplex(bytes);
        self.listener.admit(theirs, from, self.door.clone());
        Raw { stream: ours, is_v5: true }
    }

    /// A client that is accepted.
    pub(crate) async fn client(&self, connect: &Connect) -> Raw {
        self.accepted(connect).await.0
    }

    /// Likewise, with what it was told.
    pub(crate) async fn accepted(&self, connect: &Connect) -> (Raw, Connack) {
        let mut client = self.knock();
        let connack = client.connect(connect).await;
        assert_eq!(connack.reason, 0, "{connack:?}");
        (client, connack)
    }

    /// What a client that is refused is told.
    pub(crate) async fn refused(&self, connect: &Connect) -> u8 {
        let mut client = self.knock();
        let connack = client.connect(connect).await;
        client.closed().await;
        assert!(!connack.is_present);
        connack.reason
    }

    pub(crate) fn figures(&self) -> Figures {
        self.listener.figures()
    }

    /// Waits until the figures are as they should be.
    pub(crate) async fn until(&self, what: &str, is_right: impl Fn(&Figures) -> bool) {
        let found = async {
            while !is_right(&self.figures()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(TIME_MAX, found).await;
        assert!(found.is_ok(), "waited in vain until {what}: {:?}", self.figures());
    }

    /// Waits until nobody is there but this many clients.
    pub(crate) async fn until_alone(&self, clients: usize) {
        let is_alone =
            |figures: &Figures| (figures.connections, figures.clients) == (clients, clients);
        self.until("what the others held is free", is_alone).await;
    }
}

/// A client that says what it is told to.
pub(crate) struct Raw {
    pub(crate) stream: DuplexStream,
    pub(crate) is_v5: bool,
}

/// Waits for something that has to come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TIME_MAX, future).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

impl Raw {
    /// Sends bytes; a server that has closed does not mind.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        // What was sent to one who had gone is as lost as on a network.
        let _ = soon("room to send", self.stream.write_all(bytes)).await;
    }

    pub(crate) async fn connect(&mut self, connect: &Connect) -> Connack {
        self.is_v5 = connect.level == 5;
        self.send(connect.bytes()).await;
        let frame = self.frame().await;
        Connack::read(&frame, self.is_v5)
    }

    /// The next packet; `None` where the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        soon("a packet", async {
            let header = self.stream.read_u8().await.ok()?;
            let mut length = 0;
            for index in 0..4 {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << (7 * index);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Frame { header, body })
        })
        .await
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        self.next().await.expect("the server has closed")
    }

    /// The next packet, which is of this kind.
    pub(crate) async fn expect(&mut self, header: u8) -> Frame {
        let frame = self.frame().await;
        assert_eq!(frame.header, header, "{frame:x?}");
        frame
    }

    pub(crate) async fn publish(&mut self) -> Publish {
        let frame = self.frame().await;
        Publish::read(&frame, self.is_v5)
    }

    /// The server closes, and says nothing.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.next().await, None);
    }

    /// The server says why, where it can, and closes.
    pub(crate) async fn ended(&mut self, reason: u8) {
        if self.is_v5 {
            let frame = self.expect(0xe0).await;
            assert_eq!(frame.body[0], reason, "{}", String::from_utf8_lossy(&frame.body));
        }
        self.closed().await;
    }

    /// Nothing comes for so long.
    pub(crate) async fn silence(&mut self, time: Duration) {
        let heard = tokio::time::timeout(time, self.stream.read_u8()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Subscribes with MQTT 5, and returns what was granted.
    pub(crate) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send(subscribe(77, filters)).await;
        let suback = self.expect(SUBACK).await;
        assert_eq!(suback.id(), 77);
        suback.body[3..].to_vec()
    }

    /// Goes without a will, and waits for the server to notice.
    pub(crate) async fn goodbye(mut self) {
        self.send(DISCONNECT).await;
        self.closed().await;
    }

    /// Publishes at qos 1, and waits for the answer.
    pub(crate) async fn deliver(&mut self, publish: Publish) -> u8 {
        assert_eq!(publish.qos(), 1);
        self.send(publish.bytes()).await;
        self.expect(PUBACK).await.reason()
    }
}

/// A client that minds its own business.
pub(crate) struct Bystander(Raw);

impl Bystander {
    pub(crate) async fn new(world: &World) -> Self {
        let mut client = world.client(&Connect::v5("bystander")).await;
        assert_eq!(client.subscribe(&[("by/standing", 1)]).await, [1]);
        Self(client)
    }

    /// Publishes something for others at qos 1.
    pub(crate) async fn publish(&mut self, publish: Publish) {
        assert!(self.0.deliver(publish).await < 0x80);
    }

    /// It is served as ever: at once.
    pub(crate) async fn is_served(&mut self) {
        let asked = Instant::now();
        let client = &mut self.0;
        client.send(Publish::v5("by/standing", "still here", 1, 9).bytes()).await;
        let (mut got, mut answered) = (false, false);
        while !(got && answered) {
            let frame = client.frame().await;
            match frame.header >> 4 {
                3 => {
                    let publish = Publish::read(&frame, true);
                    assert_eq!(publish.payload, b"still here");
                    client.send(crate::packets::answer(PUBACK, publish.id)).await;
                    got = true;
                }
                4 => answered = true,
                _ => panic!("{frame:x?}"),
            }
        }
        assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    }
}

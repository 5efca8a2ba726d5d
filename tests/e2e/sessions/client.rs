//! A client that sends the packets that it is told to, and keeps no state of its own.

use std::collections::VecDeque;
use testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a client connects.
#[derive(Clone, Copy)]
pub(crate) struct Hello<'a> {
    pub(crate) id: &'a str,
    /// 4 or 5.
    pub(crate) version: u8,
    pub(crate) clean: bool,
    /// In seconds; MQTT 3.1.1 keeps what is not clean.
    pub(crate) expiry: u32,
    /// Topic, payload and delay in seconds; at qos 1.
    pub(crate) will: Option<(&'a str, &'a str, u32)>,
    pub(crate) retains_will: bool,
    /// How much may be on the way to it, of MQTT 5.
    pub(crate) receive_max: u16,
}

impl<'a> Hello<'a> {
    /// A client whose session is kept for an hour.
    pub(crate) fn kept(id: &'a str, version: u8) -> Self {
        Self {
            id,
            version,
            clean: false,
            expiry: 3600,
            will: None,
            retains_will: false,
            receive_max: 100,
        }
    }
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    version: u8,
    /// Whether the server has a session of an earlier connection.
    pub(crate) is_present: bool,
    /// Came before an answer.
    early: VecDeque<(u8, Vec<u8>)>,
}

/// A PUBLISH of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) text: String,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) id: u16,
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![header];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return [bytes, body.to_vec()].concat();
        }
    }
}

impl Client {
    pub(crate) async fn connect(port: u16, hello: Hello<'_>) -> Self {
        match Self::try_connect(port, hello).await {
            Ok(client) => client,
            Err(reason) => panic!("refused: {reason:x}"),
        }
    }

    /// Connects, or says why the server refuses.
    pub(crate) async fn try_connect(port: u16, hello: Hello<'_>) -> Result<Self, u8> {
        let Hello { id, version, clean, expiry, will, retains_will, receive_max } = hello;
        let is_v5 = version == 5;
        let retains = u8::from(retains_will) << 5;
        let will_flags = if will.is_some() { 0x04 | 0x08 | retains } else { 0 };
        let mut body = text("MQTT");
        body.extend([version, u8::from(clean) << 1 | will_flags, 0, 0]);
        if is_v5 {
            body.extend([8, 17]);
            body.extend(expiry.to_be_bytes());
            body.push(33);
            body.extend(receive_max.to_be_bytes());
        }
        body.extend(text(id));
        if let Some((topic, payload, delay)) = will {
            if is_v5 {
                body.extend([5, 24]);
                body.extend(delay.to_be_bytes());
            }
            body.extend([text(topic), text(payload)].concat());
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (is_present, early) = (false, VecDeque::new());
        let mut client = Self { stream, version, is_present, early };
        client.send(&packet(0x10, &body)).await;
        let connack = client.expect(0x20).await;
        client.is_present = connack[0] == 1;
        if connack[1] == 0 { Ok(client) } else { Err(connack[1]) }
    }

    fn is_v5(&self) -> bool {
        self.version == 5
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet: its first byte, and its body.
    pub(crate) async fn next(&mut self) -> (u8, Vec<u8>) {
        match self.early.pop_front() {
            Some(packet) => packet,
            None => self.read().await,
        }
    }

    /// The body of the answer to a PUBLISH. Events may come before it: they are next.
    async fn expect_answer(&mut self, header: u8) -> Vec<u8> {
        loop {
            let (found, body) = self.read().await;
            if found >> 4 != 3 {
                assert_eq!(found, header, "{body:x?}");
                return body;
            }
            self.early.push_back((found, body));
        }
    }

    async fn read(&mut self) -> (u8, Vec<u8>) {
        within("a packet", async {
            let header = self.stream.read_u8().await.unwrap();
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.unwrap();
            (header, body)
        })
        .await
    }

    /// The body of the next packet, which is to be of this kind.
    pub(crate) async fn expect(&mut self, header: u8) -> Vec<u8> {
        let (found, body) = self.next().await;
        assert_eq!(found, header, "{body:x?}");
        body
    }

    /// Subscribes, and returns what was granted.
    pub(crate) async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let properties: &[u8] = if self.is_v5() { &[0] } else { &[] };
        let body = [&[0, 9], properties, &text(filter), &[options]].concat();
        self.send(&packet(0x82, &body)).await;
        *self.expect(0x90).await.last().unwrap()
    }

    /// Unsubscribes, and returns the reason, which MQTT 3.1.1 does not have.
    pub(crate) async fn unsubscribe(&mut self, filter: &str) -> u8 {
        let properties: &[u8] = if self.is_v5() { &[0] } else { &[] };
        let body = [&[0, 9], properties, &text(filter)].concat();
        self.send(&packet(0xa2, &body)).await;
        *self.expect(0xb0).await.last().unwrap()
    }

    /// Sends a PUBLISH. `flags`: 8 for DUP, 1 for RETAIN, and the qos twice.
    pub(crate) async fn publish(&mut self, flags: u8, id: u16, topic: &str, payload: &str) {
        self.publish_with(flags, id, topic, payload, &[]).await;
    }

    pub(crate) async fn publish_with(
        &mut self,
        flags: u8,
        id: u16,
        topic: &str,
        payload: &str,
        properties: &[u8],
    ) {
        let mut body = text(topic);
        if flags & 6 != 0 {
            body.extend(id.to_be_bytes());
        }
        if self.is_v5() {
            body.push(u8::try_from(properties.len()).unwrap());
            body.extend(properties);
        }
        body.extend(payload.as_bytes());
        self.send(&packet(0x30 | flags, &body)).await;
    }

    /// Publishes at qos 1, and waits for PUBACK.
    pub(crate) async fn publish_acked(&mut self, topic: &str, payload: &str) {
        self.publish(2, 1, topic, payload).await;
        self.expect_answer(0x40).await;
    }

    /// Publishes at qos 1 to be retained, and waits for PUBACK.
    pub(crate) async fn retain(&mut self, topic: &str, payload: &str) {
        self.publish(3, 1, topic, payload).await;
        self.expect_answer(0x40).await;
    }

    /// Sends an answer: 0x40 is PUBACK, 0x50 PUBREC, 0x62 PUBREL, 0x70 PUBCOMP.
    pub(crate) async fn answer(&mut self, header: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[header, 2, high, low]).await;
    }

    /// Waits for an answer to this identifier; returns its reason.
    pub(crate) async fn answered(&mut self, header: u8, id: u16) -> u8 {
        let body = self.expect_answer(header).await;
        assert_eq!(body[..2], id.to_be_bytes());
        body.get(2).copied().unwrap_or(0)
    }

    /// The next PUBLISH.
    pub(crate) async fn got(&mut self) -> Got {
        let (header, body) = self.next().await;
        assert_eq!(header & 0xf0, 0x30, "{header:x} {body:x?}");
        let qos = header >> 1 & 3;
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, mut rest) = body[2..].split_at(length);
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        if self.is_v5() {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (topic, text) = (string(topic), string(rest));
        Got { topic, text, qos, dup: header & 8 != 0, retain: header & 1 != 0, id }
    }

    /// The text of the next PUBLISH, which is acknowledged, at qos 0 and 1.
    pub(crate) async fn take(&mut self) -> String {
        let got = self.got().await;
        assert!(got.qos < 2, "{got:?}");
        if got.qos == 1 {
            self.answer(0x40, got.id).await;
        }
        got.text
    }

    /// Whatever was sent before has been handled, and nothing comes that was not asked
    /// for.
    pub(crate) async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        self.expect(0xd0).await;
    }

    /// Says goodbye, and waits until the server has closed. `expiry`: another one for
    /// the session, of MQTT 5.
    pub(crate) async fn disconnect(mut self, expiry: Option<u32>) {
        match expiry {
            None => self.send(&[0xe0, 0]).await,
            Some(seconds) => {
                let body = [&[0, 5, 17][..], &seconds.to_be_bytes()].concat();
                self.send(&packet(0xe0, &body)).await;
            }
        }
        self.closed().await;
    }

    /// Waits until the server has closed.
    pub(crate) async fn closed(mut self) {
        let mut rest = Vec::new();
        // A server that was killed resets the connection.
        let _ = within("the end", self.stream.read_to_end(&mut rest)).await;
    }
}

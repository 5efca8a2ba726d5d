//! MQTT 3.1.1 in raw frames: a client library would be slower than the brokers.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wasi_pubsub::broker::Qos;

pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
const CONNACK: u8 = 2;
const SUBACK: u8 = 9;

/// A client that is connected.
pub(super) struct Client {
    pub(super) stream: TcpStream,
}

impl Client {
    /// Connects without keep-alive, and without a session from before.
    pub(super) async fn connect(address: SocketAddr, client_id: String) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
        put_text(&client_id, &mut body)?;
        let mut client = Self { stream };
        client.ask(0x10, &body, CONNACK).await?;
        Ok(client)
    }

    pub(super) async fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<()> {
        let mut body = vec![0, 1];
        put_text(filter, &mut body)?;
        body.push(qos.level());
        self.ask(0x82, &body, SUBACK).await
    }

    /// The same connection, for threads.
    pub(super) fn blocking(self) -> Result<std::net::TcpStream> {
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Sends a packet, and reads the short one that answers it.
    async fn ask(&mut self, header: u8, body: &[u8], answer: u8) -> Result<()> {
        let mut packet = vec![header];
        put_length(body.len(), &mut packet);
        packet.extend_from_slice(body);
        self.stream.write_all(&packet).await?;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await?;
        let mut rest = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut rest).await?;
        let code = rest.last().context("an answer without a code")?;
        ensure!(head[0] >> 4 == answer && *code < 0x80, "refused: {head:?} {rest:?}");
        Ok(())
    }
}

/// Writes a PUBLISH.
pub(super) fn put_publish(topic: &str, qos: Qos, id: u16, data: &[u8], out: &mut Vec<u8>) {
    let id_bytes = if qos == Qos::AtMostOnce { 0 } else { 2 };
    out.push(PUBLISH << 4 | qos.level() << 1);
    put_length(2 + topic.len() + id_bytes + data.len(), out);
    // Topics of this program are short.
    out.extend_from_slice(&[0, topic.len() as u8]);
    out.extend_from_slice(topic.as_bytes());
    if id_bytes > 0 {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.extend_from_slice(data);
}

/// Writes the answer to a packet with this identifier.
pub(super) fn put_answer(kind: u8, id: [u8; 2], out: &mut Vec<u8>) {
    let flags = if kind == PUBREL { 2 } else { 0 };
    out.extend_from_slice(&[kind << 4 | flags, 2, id[0], id[1]]);
}

/// What the load needs to know of a packet.
pub(super) struct Frame {
    pub(super) kind: u8,
    /// Of a PUBLISH.
    pub(super) qos: u8,
    pub(super) id: [u8; 2],
    pub(super) length: usize,
}

/// The first packet. `None` while its end is not there.
pub(super) fn first(bytes: &[u8]) -> Result<Option<Frame>> {
    let (mut length, mut at) = (0, 1);
    loop {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        ensure!(at <= 4, "a length that does not end");
    }
    let end = at + length;
    let Some(body) = bytes.get(at..end) else { return Ok(None) };
    let (kind, qos) = (bytes[0] >> 4, bytes[0] >> 1 & 3);
    let id_at = match (kind, qos) {
        (PUBLISH, 0) => return Ok(Some(Frame { kind, qos, id: [0; 2], length: end })),
        (PUBLISH, _) => 2 + usize::from(u16::from_be_bytes([body[0], body[1]])),
        _ => 0,
    };
    let id = body.get(id_at..id_at + 2).context("a packet without an identifier")?;
    Ok(Some(Frame { kind, qos, id: [id[0], id[1]], length: end }))
}

fn put_text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

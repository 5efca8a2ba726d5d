//! What MQTT asks of one connection, as far as it concerns what arrives: which
//! packets may come when, topic aliases, receive-maximum, and what was received
//! before. It has no clock, no input and no output.

use super::frames::{self, Frame};
use super::packets::Received;
use super::reason::{Fault, Reason};
use super::session::Unreleased;
use super::{encode, read};
use crate::broker::Qos;
use crate::mqtt::{Packet, Protocol};
use bytes::Bytes;
use std::collections::VecDeque;

/// What the server says of itself when it accepts a client.
#[derive(Clone, Debug, Default)]
pub(super) struct Welcome {
    pub(super) session_present: bool,
    pub(super) assigned_client_id: Option<String>,
    pub(super) server_keep_alive: Option<u16>,
    pub(super) session_expiry: Option<u32>,
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: u32,
    pub(super) alias_max: u16,
}

/// How far a PUBLISH to the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was sent, and not answered.
    Sent(Qos),
    /// Its PUBREC was received: PUBREL is out.
    Released,
}

/// The state of one connection, as the protocol sees it.
pub(super) struct Machine {
    /// Known from CONNECT on.
    protocol: Option<Protocol>,
    accepted: bool,
    is_v3_1: bool,
    /// The beginning of a packet whose end is not there yet.
    partial: Vec<u8>,
    packet_bytes_max: usize,
    /// What aliases stand for.
    aliases: Vec<Option<Bytes>>,
    /// How many publishes of qos 1 and 2 may be without their last answer.
    receive_max: usize,
    unanswered: usize,
    /// Packets of qos 2 that were received and not released.
    unreleased: Unreleased,
}

impl Machine {
    /// For a new connection, which may send no more than this before it is
    /// accepted.
    pub(super) fn new(connect_bytes_max: usize) -> Self {
        Self {
            protocol: None,
            accepted: false,
            is_v3_1: false,
            partial: Vec::new(),
            packet_bytes_max: connect_bytes_max,
            aliases: Vec::new(),
            receive_max: usize::MAX,
            unanswered: 0,
            unreleased: Unreleased::default(),
        }
    }

    /// Reads what has arrived. What is there before a fault is to be handled.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        into: &mut VecDeque<Received>,
    ) -> Result<(), Fault> {
        self.receive_some(bytes, usize::MAX, into).map(drop)
    }

    /// Likewise, up to so many packets; says how many bytes they are.
    pub(super) fn receive_some(
        &mut self,
        all: &[u8],
        packets_max: usize,
        into: &mut VecDeque<Received>,
    ) -> Result<usize, Fault> {
        let (mut bytes, before) = (all, into.len());
        while !bytes.is_empty() && into.len() - before < packets_max {
            if self.partial.is_empty() {
                self.check_first(bytes[0])?;
                let Some(frame) = self.whole(bytes)? else {
                    self.partial.extend_from_slice(bytes);
                    return Ok(all.len());
                };
                let (packet, rest) = bytes.split_at(frame.end);
                into.push_back(self.read(packet, frame)?);
                bytes = rest;
                continue;
            }
            // No more than is needed to know, or to complete, the packet.
            let wanted = match self.check(frames::find(&self.partial)?)? {
                Some(frame) => frame.end - self.partial.len(),
                None => 1,
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if let Some(frame) = self.check(frames::find(&self.partial)?)?
                && frame.end == self.partial.len()
            {
                let packet = std::mem::take(&mut self.partial);
                into.push_back(self.read(&packet, frame)?);
            }
        }
        Ok(all.len() - bytes.len())
    }

    /// What does not begin with CONNECT is not waited for.
    fn check_first(&self, header: u8) -> Result<(), Fault> {
        match header >> 4 {
            _ if self.protocol.is_some() => Ok(()),
            frames::CONNECT => frames::check_flags(header),
            _ => Err(Fault::protocol("a packet before CONNECT")),
        }
    }

    /// The packet at the beginning, where all of it is there.
    fn whole(&self, bytes: &[u8]) -> Result<Option<Frame>, Fault> {
        let found = self.check(frames::find(bytes)?)?;
        Ok(found.filter(|frame| frame.end <= bytes.len()))
    }

    fn check(&self, found: Option<Frame>) -> Result<Option<Frame>, Fault> {
        match found {
            Some(frame) if frame.end > self.packet_bytes_max => {
                let (is, max) = (frame.end, self.packet_bytes_max);
                let text = format!("a packet of {is} bytes: {max} are allowed");
                Err(Fault::new(Reason::PACKET_TOO_LARGE, text))
            }
            found => Ok(found),
        }
    }

    /// Reads a packet that came before the client was accepted.
    pub(super) fn read_again(&mut self, packet: &[u8]) -> Result<Received, Fault> {
        match self.whole(packet)? {
            Some(frame) => self.read(packet, frame),
            None => Err(Fault::malformed("a packet that ends too early")),
        }
    }

    fn read(&mut self, packet: &[u8], frame: Frame) -> Result<Received, Fault> {
        let (header, body) = (packet[0], &packet[frame.body..]);
        let kind = header >> 4;
        let Some(protocol) = self.protocol.filter(|_| self.accepted) else {
            return match (kind, self.protocol) {
                (frames::CONNECT, None) => {
                    frames::check_flags(header)?;
                    let connect = read::connect(body, &mut self.protocol)?;
                    self.is_v3_1 = connect.is_v3_1;
                    Ok(Received::Connect(Box::new(connect)))
                }
                // What comes behind CONNECT is read when the client is accepted.
                (_, Some(_)) => Ok(Received::Early(Bytes::copy_from_slice(packet))),
                _ => Err(Fault::protocol("a packet before CONNECT")),
            };
        };
        frames::check_flags(if self.is_v3_1 { frames::without_dup(header) } else { header })?;
        Ok(match kind {
            frames::PUBLISH => self.publish(protocol, header, body)?,
            4 => Received::Acknowledged(read::answer(protocol, body)?.0),
            5 => {
                let (id, reason) = read::answer(protocol, body)?;
                Received::Recorded(id, reason)
            }
            6 => {
                let (id, _) = read::answer(protocol, body)?;
                Received::Released(id, self.unreleased.remove(id))
            }
            7 => Received::Completed(read::answer(protocol, body)?.0),
            8 => Received::Subscribe(read::subscribe(protocol, body)?),
            10 => Received::Unsubscribe(read::unsubscribe(protocol, body)?),
            12 => {
                read::nothing(body)?;
                Received::Ping
            }
            14 => Received::Disconnect(read::disconnect(protocol, body)?),
            frames::CONNECT => return Err(Fault::protocol("a second CONNECT")),
            15 if protocol == Protocol::V5 => {
                return Err(Fault::protocol("AUTH without a method"));
            }
            _ => return Err(Fault::protocol("a packet that no client sends")),
        })
    }

    fn publish(&mut self, protocol: Protocol, header: u8, body: &[u8]) -> Result<Received, Fault> {
        let (mut packet, alias) = read::publish(protocol, header, body)?;
        self.resolve(&mut packet, alias)?;
        if packet.qos == Qos::EffectivelyOnce && !self.unreleased.insert(packet.id, packet.dup) {
            return Ok(Received::Repeated(packet.id));
        }
        if packet.qos != Qos::AtMostOnce {
            if self.unanswered >= self.receive_max {
                let text = "more publishes without an answer than receive-maximum";
                return Err(Fault::new(Reason::RECEIVE_MAX_EXCEEDED, text));
            }
            self.unanswered += 1;
        }
        Ok(Received::Publish(packet))
    }

    /// Puts in the topic that an alias stands for, and learns aliases.
    fn resolve(&mut self, packet: &mut Packet, alias: Option<u16>) -> Result<(), Fault> {
        let Some(alias) = alias else {
            return match packet.topic.is_empty() {
                true => Err(Fault::protocol("neither a topic nor an alias")),
                false => Ok(()),
            };
        };
        let invalid = |text: &'static str| Fault::new(Reason::TOPIC_ALIAS_INVALID, text);
        let place = usize::from(alias).checked_sub(1).and_then(|at| self.aliases.get_mut(at));
        let place = place.ok_or_else(|| invalid("a topic alias above the maximum"))?;
        if packet.topic.is_empty() {
            packet.topic =
                place.clone().ok_or_else(|| Fault::protocol("an unknown topic alias"))?;
        } else {
            *place = Some(packet.topic.clone());
        }
        Ok(())
    }

    /// How much it keeps of what is not complete, in bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn kept(&self) -> usize {
        self.partial.capacity()
    }

    /// Accepts the client, and writes CONNACK.
    pub(super) fn accept(&mut self, welcome: &Welcome, out: &mut Vec<u8>) {
        self.accepted = true;
        self.packet_bytes_max = welcome.packet_bytes_max as usize;
        if self.protocol == Some(Protocol::V5) {
            self.aliases = vec![None; usize::from(welcome.alias_max)];
            self.receive_max = usize::from(welcome.receive_max);
        }
        encode::connack(self.protocol.unwrap_or(Protocol::V4), welcome, out);
    }

    /// A PUBLISH was answered for the last time, or refused.
    pub(super) fn answered(&mut self, id: u16) {
        self.unreleased.remove(id);
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Goes on with what an earlier connection has received and was not released.
    pub(super) fn resume(&mut self, unreleased: Unreleased) {
        self.unreleased = unreleased;
    }

    /// What was received and not released.
    pub(super) fn take_unreleased(&mut self) -> Unreleased {
        std::mem::take(&mut self.unreleased)
    }
}

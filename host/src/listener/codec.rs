//! What is kept of sessions and retained messages, as bytes.
//!
//! A record begins with the number of its layout, so that later versions can have
//! others.

use super::packets::{Options, Retained, Will};
use super::retained::RetainedMessage;
use crate::broker::{Event, Qos, Topic};
use crate::mqtt::{Packet, Properties};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// The layout that is written.
const LAYOUT: u8 = 1;

/// Bytes that are not what they should be: what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(String);

impl Unreadable {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session without what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) client_id: Arc<str>,
    /// In seconds from when the client left; 0: it ends with its connection, or is
    /// over.
    pub(super) expiry: u32,
    /// When the client left, in milliseconds since 1970; `None`: it is there.
    pub(super) left: Option<u64>,
    /// What is published when the client is away for as long as it says.
    pub(super) will: Option<Will>,
}

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscribed {
    pub(super) options: Options,
    pub(super) identifier: Option<u32>,
    /// It has not got events with lower numbers, as far as that is known.
    pub(super) since: Option<u64>,
}

/// What was sent at qos 2 under an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The filter of the subscription that it is of.
    pub(super) filter: Arc<str>,
    /// The number of the event; `None`: a retained message.
    pub(super) number: Option<u64>,
    /// PUBREC has come.
    pub(super) is_released: bool,
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 1);
        bytes.push(LAYOUT);
        Self(bytes)
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn text(&mut self, text: Option<&str>) {
        self.option(text, |writer, text| writer.bytes(text.as_bytes()));
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Self(bytes);
        match reader.byte()? {
            LAYOUT => Ok(reader),
            layout => Err(Unreadable(format!(
                "it has layout {layout}, and this version of wasi-pubsub knows {LAYOUT}"
            ))),
        }
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(*first)
    }

    fn flag(&mut self) -> Result<bool, Unreadable> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            byte => Err(Unreadable(format!("{byte} where 0 or 1 should be"))),
        }
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable("a number that does not end".to_owned()))
    }

    fn short<T: TryFrom<u64>>(&mut self) -> Result<T, Unreadable> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| Unreadable(format!("the number {number} is too large")))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.short()?;
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(first)
    }

    fn string(&mut self) -> Result<String, Unreadable> {
        text(self.bytes()?)
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn text(&mut self) -> Result<Option<String>, Unreadable> {
        self.option(Self::string)
    }

    fn qos(&mut self) -> Result<Qos, Unreadable> {
        let level = self.byte()?;
        Qos::from_level(level).ok_or_else(|| Unreadable(format!("there is no qos {level}")))
    }

    fn pairs(&mut self) -> Result<Vec<(String, String)>, Unreadable> {
        // Each takes some bytes: nothing is reserved for a number that is wrong.
        let count: usize = self.short()?;
        let mut pairs = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            pairs.push((self.string()?, self.string()?));
        }
        Ok(pairs)
    }

    fn end<T>(&self, value: T) -> Result<T, Unreadable> {
        match self.0.len() {
            0 => Ok(value),
            more => Err(Unreadable(format!("{more} bytes follow its end"))),
        }
    }
}

fn ends_early() -> Unreadable {
    Unreadable("it ends too early".to_owned())
}

fn text(bytes: &[u8]) -> Result<String, Unreadable> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(Unreadable(format!("a text is no UTF-8: {error}"))),
    }
}

impl RetainedMessage {
    /// All but its topic.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let event = &*self.event;
        let mut writer = Writer::new(event.size() + 64);
        writer.byte(self.qos.level());
        writer.text(self.from.as_deref());
        for text in [&event.id, &event.source, &event.kind] {
            writer.bytes(text.as_bytes());
        }
        writer.text(event.content_type.as_deref());
        writer.text(event.ordering_key.as_deref());
        writer.pairs(&event.attributes);
        writer.bytes(&event.data);
        writer.0
    }

    pub(super) fn from_bytes(topic: &[u8], bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let bytes = Bytes::from(bytes);
        let mut reader = Reader::new(&bytes)?;
        let qos = reader.qos()?;
        let from = reader.text()?.map(Arc::from);
        let (id, source, kind) = (reader.string()?, reader.string()?, reader.string()?);
        let (content_type, ordering_key) = (reader.text()?, reader.text()?);
        let attributes = reader.pairs()?;
        let data = bytes.slice_ref(reader.bytes()?);
        let event = Event { id, source, kind, data, content_type, attributes, ordering_key };
        let topic = Topic::new(&text(topic)?).map_err(|error| Unreadable(error.to_string()))?;
        reader.end(Self { topic, event: Arc::new(event), qos, from })
    }
}

impl Header {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.client_id.len() + 16);
        writer.bytes(self.client_id.as_bytes());
        writer.number(self.expiry.into());
        writer.option(self.left, Writer::number);
        writer.option(self.will.as_ref(), |writer, will| {
            writer.number(will.delay.into());
            write_packet(writer, &will.packet);
        });
        writer.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes)?;
        let header = Self {
            client_id: reader.string()?.into(),
            expiry: reader.short()?,
            left: reader.option(Reader::number)?,
            will: reader.option(|reader| {
                Ok(Will { delay: reader.short()?, packet: read_packet(reader)? })
            })?,
        };
        reader.end(header)
    }
}

fn write_packet(writer: &mut Writer, packet: &Packet) {
    writer.bytes(&packet.topic);
    writer.bytes(&packet.payload);
    writer.byte(packet.qos.level());
    writer.byte(u8::from(packet.retain));
    let Properties {
        content_type,
        user,
        response_topic,
        correlation_data,
        message_expiry,
        payload_format,
    } = &packet.properties;
    writer.text(content_type.as_deref());
    writer.pairs(user);
    writer.text(response_topic.as_deref());
    writer.option(correlation_data.as_deref(), Writer::bytes);
    writer.option(*message_expiry, |writer, seconds| writer.number(seconds.into()));
    writer.option(*payload_format, Writer::byte);
}

fn read_packet(reader: &mut Reader<'_>) -> Result<Packet, Unreadable> {
    let copied = |reader: &mut Reader<'_>| reader.bytes().map(Bytes::copy_from_slice);
    Ok(Packet {
        topic: copied(reader)?,
        payload: copied(reader)?,
        qos: reader.qos()?,
        retain: reader.flag()?,
        properties: Properties {
            content_type: reader.text()?,
            user: reader.pairs()?,
            response_topic: reader.text()?,
            correlation_data: reader.option(copied)?,
            message_expiry: reader.option(Reader::short)?,
            payload_format: reader.option(Reader::byte)?,
        },
        ..Packet::default()
    })
}

impl Subscribed {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut writer = Writer::new(8);
        let Options { qos, no_local, retain_as_published, retained } = self.options;
        writer.byte(qos.level());
        writer.byte(no_local.into());
        writer.byte(retain_as_published.into());
        writer.byte(match retained {
            Retained::Always => 0,
            Retained::IfNew => 1,
            Retained::Never => 2,
        });
        writer.option(self.identifier, |writer, number| writer.number(number.into()));
        writer.option(self.since, Writer::number);
        writer.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes)?;
        let options = Options {
            qos: reader.qos()?,
            no_local: reader.flag()?,
            retain_as_published: reader.flag()?,
            retained: match reader.byte()? {
                0 => Retained::Always,
                1 => Retained::IfNew,
                2 => Retained::Never,
                byte => return Err(Unreadable(format!("there is no retain handling {byte}"))),
            },
        };
        let identifier = reader.option(Reader::short)?;
        let since = reader.option(Reader::number)?;
        reader.end(Self { options, identifier, since })
    }
}

impl Sent {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.filter.len() + 16);
        writer.bytes(self.filter.as_bytes());
        writer.option(self.number, Writer::number);
        writer.byte(self.is_released.into());
        writer.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes)?;
        let filter = reader.string()?.into();
        let number = reader.option(Reader::number)?;
        let is_released = reader.flag()?;
        reader.end(Self { filter, number, is_released })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retained() -> RetainedMessage {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        RetainedMessage {
            topic: Topic::new("a/é").unwrap(),
            event: Arc::new(Event {
                id: "1".into(),
                source: "urn:x".into(),
                kind: "k".into(),
                data: [0, 255].repeat(100).into(),
                content_type: Some("text/plain".into()),
                attributes: vec![pair("a", "1"), pair("a", "zwei \u{1F980}"), pair("", "")],
                ordering_key: Some(String::new()),
            }),
            qos: Qos::EffectivelyOnce,
            from: Some("client".into()),
        }
    }

    fn header() -> Header {
        let properties = Properties {
            content_type: Some("text/plain".into()),
            user: vec![("a".into(), "b".into())],
            response_topic: Some("r".into()),
            correlation_data: Some(vec![1, 0].into()),
            message_expiry: Some(u32::MAX),
            payload_format: Some(1),
        };
        let packet = Packet {
            topic: "w".into(),
            payload: vec![9; 300].into(),
            qos: Qos::AtLeastOnce,
            retain: true,
            properties,
            ..Packet::default()
        };
        let will = Some(Will { packet, delay: 300 });
        Header { client_id: "é/c".into(), expiry: u32::MAX, left: Some(u64::MAX), will }
    }

    fn subscribed() -> Subscribed {
        let options = Options {
            qos: Qos::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retained: Retained::Never,
        };
        Subscribed { options, identifier: Some(268_435_455), since: Some(1 << 50) }
    }

    fn sent() -> Sent {
        Sent { filter: "a/#".into(), number: Some(1 << 40), is_released: true }
    }

    #[test]
    fn what_is_written_is_read() {
        let before = retained();
        let after = RetainedMessage::from_bytes("a/é".as_bytes(), before.to_bytes()).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        let before = RetainedMessage { event: Arc::default(), from: None, ..before };
        let after = RetainedMessage::from_bytes("a/é".as_bytes(), before.to_bytes()).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));

        for header in [header(), Header { left: None, will: None, expiry: 0, ..header() }] {
            let after = Header::from_bytes(&header.to_bytes()).unwrap();
            assert_eq!(format!("{header:?}"), format!("{after:?}"));
        }
        for before in [subscribed(), Subscribed { identifier: None, since: None, ..subscribed() }] {
            assert_eq!(Subscribed::from_bytes(&before.to_bytes()).unwrap(), before);
        }
        for before in [sent(), Sent { number: None, is_released: false, ..sent() }] {
            assert_eq!(Sent::from_bytes(&before.to_bytes()).unwrap(), before);
        }
    }

    type Decode = fn(&[u8]) -> Result<(), Unreadable>;

    /// Whatever bytes there are, it is an error in words or a value.
    #[test]
    fn what_is_no_record_is_an_error() {
        let retained_of: Decode =
            |bytes| RetainedMessage::from_bytes(b"a", bytes.to_vec()).map(drop);
        let all: [(Vec<u8>, Decode); 4] = [
            (retained().to_bytes(), retained_of),
            (header().to_bytes(), |bytes| Header::from_bytes(bytes).map(drop)),
            (subscribed().to_bytes(), |bytes| Subscribed::from_bytes(bytes).map(drop)),
            (sent().to_bytes(), |bytes| Sent::from_bytes(bytes).map(drop)),
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for (good, decode) in all {
            assert_eq!(decode(&good), Ok(()));
            for end in 0..good.len() {
                assert!(decode(&good[..end]).is_err(), "{end}");
            }
            let longer = [&good[..], &[0]].concat();
            assert_eq!(decode(&longer), Err(Unreadable("1 bytes follow its end".into())));
            let mut other = good.clone();
            other[0] = 9;
            assert!(decode(&other).unwrap_err().0.starts_with("it has layout 9, and "));
            for _ in 0..2000 {
                let mut spoilt = good.clone();
                for _ in 0..3 {
                    let at = random.usize(..spoilt.len());
                    spoilt[at] = random.u8(..);
                }
                let _either = decode(&spoilt);
            }
        }
        let bad_topic = RetainedMessage::from_bytes(b"a/#", retained().to_bytes());
        assert!(bad_topic.is_err());
    }
}

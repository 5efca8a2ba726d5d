//! Packets as raw bytes: clients of tests say exactly what they want to say.

/// A packet with its header.
pub(crate) fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![header];
    put_length(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// Writes a variable byte integer.
pub(crate) fn put_length(mut value: usize, into: &mut Vec<u8>) {
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        into.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

/// A text with its length before it.
pub(crate) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

/// Properties with their length before them.
pub(crate) fn properties(all: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_length(all.len(), &mut bytes);
    bytes.extend_from_slice(all);
    bytes
}

/// A user property.
pub(crate) fn user(name: &str, value: &str) -> Vec<u8> {
    [vec![38], text(name), text(value)].concat()
}

/// A property with four bytes.
pub(crate) fn long(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

/// A property with two bytes.
pub(crate) fn short(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

/// The message that is published when a client goes without a word.
#[derive(Clone)]
pub(crate) struct Will {
    pub(crate) topic: &'static str,
    pub(crate) payload: &'static str,
    pub(crate) flags: u8,
    pub(crate) properties: Vec<u8>,
}

/// CONNECT.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) level: u8,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<u8>,
    pub(crate) id: String,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<&'static str>,
    pub(crate) password: Option<&'static str>,
    /// Flags beside those of what is there.
    pub(crate) flags: u8,
}

impl Connect {
    /// MQTT 5, without a keep-alive, from the beginning.
    pub(crate) fn v5(id: &str) -> Self {
        Self {
            level: 5,
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            id: id.to_owned(),
            will: None,
            user: None,
            password: None,
            flags: 0,
        }
    }

    /// MQTT 3.1.1, likewise.
    pub(crate) fn v4(id: &str) -> Self {
        Self { level: 4, ..Self::v5(id) }
    }

    /// With a session that is kept for so many seconds; MQTT 3.1.1 says only that.
    pub(crate) fn kept(mut self, seconds: u32) -> Self {
        match self.level {
            5 => self.properties.extend(long(17, seconds)),
            _ => self.clean = false,
        }
        self
    }

    pub(crate) fn again(self) -> Self {
        Self { clean: false, ..self }
    }

    pub(crate) fn keep_alive(self, seconds: u16) -> Self {
        Self { keep_alive: seconds, ..self }
    }

    pub(crate) fn with(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = self.flags | u8::from(self.clean) << 1;
        flags |= u8::from(self.user.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        flags |= self.will.as_ref().map_or(0, |will| 4 | will.flags);
        let mut body = [&text("MQTT")[..], &[self.level, flags]].concat();
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.level == 5 {
            body.extend(properties(&self.properties));
        }
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            if self.level == 5 {
                body.extend(properties(&will.properties));
            }
            body.extend(text(will.topic));
            body.extend(text(will.payload));
        }
        self.user.iter().chain(&self.password).for_each(|value| body.extend(text(value)));
        packet(0x10, &body)
    }
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    /// DUP, qos and RETAIN.
    pub(crate) flags: u8,
    pub(crate) topic: String,
    /// 0 at qos 0.
    pub(crate) id: u16,
    /// Each with its identifier before its value; of MQTT 5.
    pub(crate) properties: Option<Vec<Vec<u8>>>,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    /// MQTT 5.
    pub(crate) fn v5(topic: &str, payload: impl AsRef<[u8]>, qos: u8, id: u16) -> Self {
        Self {
            flags: qos << 1,
            topic: topic.to_owned(),
            id,
            properties: Some(Vec::new()),
            payload: payload.as_ref().to_vec(),
        }
    }

    /// MQTT 3.1.1.
    pub(crate) fn v4(topic: &str, payload: impl AsRef<[u8]>, qos: u8, id: u16) -> Self {
        Self { properties: None, ..Self::v5(topic, payload, qos, id) }
    }

    pub(crate) fn with(mut self, property: Vec<u8>) -> Self {
        self.properties.get_or_insert_default().push(property);
        self
    }

    pub(crate) fn retained(self) -> Self {
        Self { flags: self.flags | 1, ..self }
    }

    pub(crate) fn qos(&self) -> u8 {
        self.flags >> 1 & 3
    }

    /// The properties with this identifier, their values.
    pub(crate) fn property(&self, id: u8) -> Vec<&[u8]> {
        let all = self.properties.iter().flatten();
        all.filter(|property| property[0] == id).map(|property| &property[1..]).collect()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = text(&self.topic);
        if self.qos() > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        if let Some(all) = &self.properties {
            body.extend(properties(&all.concat()));
        }
        body.extend_from_slice(&self.payload);
        packet(0x30 | self.flags, &body)
    }

    /// Reads what a server has sent.
    pub(crate) fn read(frame: &Frame, is_v5: bool) -> Self {
        assert_eq!(frame.header >> 4, 3, "PUBLISH: {frame:x?}");
        let mut rest = &frame.body[..];
        let flags = frame.header & 15;
        let topic = String::from_utf8(take_text(&mut rest).to_vec()).unwrap();
        let id = if flags & 6 == 0 { 0 } else { u16::from_be_bytes(take(&mut rest)) };
        let properties = is_v5.then(|| take_properties(&mut rest));
        Self { flags, topic, id, properties, payload: rest.to_vec() }
    }
}

/// SUBSCRIBE of MQTT 5 with options for each filter.
pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(id, &[], filters)
}

pub(crate) fn subscribe_with(id: u16, of_all: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(of_all));
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// SUBSCRIBE of MQTT 3.1.1.
pub(crate) fn subscribe_v4(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE of MQTT 5.
pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.push(0);
    filters.iter().for_each(|filter| body.extend(text(filter)));
    packet(0xa2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP that says only that all is well.
pub(crate) fn answer(header: u8, id: u16) -> Vec<u8> {
    packet(header, &id.to_be_bytes())
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const PINGRESP: u8 = 0xd0;
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const UNSUBACK: u8 = 0xb0;

/// A packet of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: u8,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// The packet identifier at the beginning.
    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// The reason code behind the packet identifier; 0 where none is said.
    pub(crate) fn reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }
}

/// CONNACK of MQTT 5.
#[derive(Clone, Debug)]
pub(crate) struct Connack {
    pub(crate) is_present: bool,
    pub(crate) reason: u8,
    pub(crate) properties: Vec<Vec<u8>>,
}

impl Connack {
    pub(crate) fn read(frame: &Frame, is_v5: bool) -> Self {
        assert_eq!(frame.header, 0x20, "CONNACK: {frame:x?}");
        let mut rest = &frame.body[2..];
        let properties = if is_v5 { take_properties(&mut rest) } else { Vec::new() };
        assert_eq!(rest, b"", "{frame:x?}");
        assert_eq!(frame.body[0] & 0xfe, 0, "reserved bits");
        Self { is_present: frame.body[0] == 1, reason: frame.body[1], properties }
    }

    /// The value of a property.
    pub(crate) fn property(&self, id: u8) -> Option<&[u8]> {
        let found = self.properties.iter().find(|property| property[0] == id);
        found.map(|property| &property[1..])
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let (first, rest) = from.split_first_chunk::<N>().expect("the packet ends early");
    *from = rest;
    *first
}

fn take_text<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(u16::from_be_bytes(take(from)));
    let (first, rest) = from.split_at(length);
    *from = rest;
    first
}

fn take_variable(from: &mut &[u8]) -> usize {
    let mut value = 0;
    for index in 0..4 {
        let [byte] = take(from);
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take_properties(from: &mut &[u8]) -> Vec<Vec<u8>> {
    let length = take_variable(from);
    let (mut rest, after) = from.split_at(length);
    *from = after;
    let mut all = Vec::new();
    while let Some(id) = rest.first().copied() {
        let whole = rest;
        rest = &rest[1..];
        match id {
            1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => drop(take::<1>(&mut rest)),
            19 | 33 | 34 | 35 => drop(take::<2>(&mut rest)),
            2 | 17 | 24 | 39 => drop(take::<4>(&mut rest)),
            11 => drop(take_variable(&mut rest)),
            38 => {
                take_text(&mut rest);
                take_text(&mut rest);
            }
            _ => drop(take_text(&mut rest)),
        }
        all.push(whole[..whole.len() - rest.len()].to_vec());
    }
    all
}

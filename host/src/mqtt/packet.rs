//! A PUBLISH packet, without its bytes.

use crate::broker::Qos;
use bytes::Bytes;

/// The versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 5.0.
    V5,
    /// MQTT 3.1.1.
    V4,
}

/// A packet with an event, in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The topic's name.
    pub topic: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: Qos,
    /// The flag of that name.
    pub retain: bool,
    /// The sender says that it has sent this before.
    pub dup: bool,
    /// Its identifier on this session; 0 at qos 0.
    pub id: u16,
    /// What MQTT 5 says besides.
    pub properties: Properties,
}

/// What MQTT 5 says about a packet besides its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The media type of the payload.
    pub content_type: Option<String>,
    /// Names and values, in order; a name may occur twice.
    pub user: Vec<(String, String)>,
    /// The topic that an answer is wanted on.
    pub response_topic: Option<String>,
    /// What an answer has to repeat.
    pub correlation_data: Option<Bytes>,
    /// How long the event is of use, in seconds.
    pub message_expiry: Option<u32>,
    /// `1` for text in UTF-8, `0` for bytes.
    pub payload_format: Option<u8>,
}

//! What a client sends, read.

use super::reason::Reason;
use crate::broker::Qos;
use crate::mqtt::{Packet, Protocol};
use bytes::Bytes;

/// A packet that has arrived.
#[derive(Debug)]
pub(super) enum Received {
    Connect(Box<Connect>),
    Publish(Packet),
    /// A PUBLISH of qos 2 that is there already and was not released yet.
    Repeated(u16),
    /// PUBACK.
    Acknowledged(u16),
    /// PUBREC.
    Recorded(u16, Reason),
    /// PUBREL, and whether its PUBLISH is known.
    Released(u16, bool),
    /// PUBCOMP.
    Completed(u16),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Ping,
    Disconnect(Farewell),
    /// A packet that came before the answer to CONNECT, as it is.
    Early(Bytes),
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) protocol: Protocol,
    /// MQTT 3.1, which is otherwise taken as 3.1.1.
    pub(super) is_v3_1: bool,
    /// It is a bridge of another broker.
    pub(super) is_bridge: bool,
    pub(super) client_id: String,
    /// Clean session, or clean start.
    pub(super) clean: bool,
    /// In seconds; 0 for none.
    pub(super) keep_alive: u16,
    pub(super) will: Option<Will>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Bytes>,
    /// In seconds; only of MQTT 5.
    pub(super) session_expiry: u32,
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) alias_max: u16,
    /// Whether reason strings are wanted.
    pub(super) problem_information: bool,
    pub(super) authentication_method: bool,
}

/// What is published when a client goes without a farewell.
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) packet: Packet,
    /// In seconds.
    pub(super) delay: u32,
}

#[derive(Debug)]
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) identifier: Option<u32>,
    pub(super) wanted: Vec<Wanted>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: String,
    pub(super) options: Options,
}

/// The subscription options of MQTT 5, section 3.8.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retained: Retained,
}

/// When a subscription gets retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retained {
    Always,
    IfNew,
    Never,
}

#[derive(Debug)]
pub(super) struct Unsubscribe {
    pub(super) id: u16,
    pub(super) filters: Vec<String>,
}

/// DISCONNECT.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) with_will: bool,
    pub(super) session_expiry: Option<u32>,
}

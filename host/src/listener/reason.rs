//! Reason codes of MQTT 5 (section 2.4), and what ends a connection.

use std::borrow::Cow;

/// A reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason(pub(super) u8);

impl Reason {
    pub(super) const SUCCESS: Self = Self(0x00);
    pub(super) const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    pub(super) const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    pub(super) const UNSPECIFIED: Self = Self(0x80);
    pub(super) const MALFORMED_PACKET: Self = Self(0x81);
    pub(super) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(super) const UNSUPPORTED_PROTOCOL_VERSION: Self = Self(0x84);
    pub(super) const CLIENT_IDENTIFIER_NOT_VALID: Self = Self(0x85);
    pub(super) const BAD_USER_NAME_OR_PASSWORD: Self = Self(0x86);
    pub(super) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(super) const SERVER_BUSY: Self = Self(0x89);
    pub(super) const SERVER_SHUTTING_DOWN: Self = Self(0x8b);
    pub(super) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    pub(super) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    pub(super) const SESSION_TAKEN_OVER: Self = Self(0x8e);
    pub(super) const TOPIC_FILTER_INVALID: Self = Self(0x8f);
    pub(super) const TOPIC_NAME_INVALID: Self = Self(0x90);
    pub(super) const PACKET_IDENTIFIER_NOT_FOUND: Self = Self(0x92);
    pub(super) const RECEIVE_MAX_EXCEEDED: Self = Self(0x93);
    pub(super) const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    pub(super) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(super) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(super) const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);

    /// Whether the code says that something failed.
    pub(super) fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// What stands for it in a CONNACK of MQTT 3.1.1 (table 3.1).
    pub(super) fn connack_v4(self) -> u8 {
        match self {
            Self::SUCCESS => 0,
            Self::UNSUPPORTED_PROTOCOL_VERSION => 1,
            Self::CLIENT_IDENTIFIER_NOT_VALID => 2,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            Self::NOT_AUTHORIZED => 5,
            _ => 3,
        }
    }
}

/// Why a connection ends, other than by the wish of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What MQTT 5 calls it.
    pub(super) reason: Reason,
    /// For people.
    pub(super) text: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into() }
    }

    pub(super) fn malformed(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::MALFORMED_PACKET, text)
    }

    pub(super) fn protocol(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::PROTOCOL_ERROR, text)
    }
}

//! Packets as bytes: where one ends, and the rules that need no more than its
//! bytes. The library reads what passes here.

use super::reason::{Fault, Reason};

pub(super) const CONNECT: u8 = 1;
pub(super) const PUBLISH: u8 = 3;
const PUBREL: u8 = 6;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;

/// Where the parts of the packet at the beginning of some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where its body begins.
    pub(super) body: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// Finds the first packet; `None` where its header is not there yet. It may end
/// beyond what is there.
pub(super) fn find(bytes: &[u8]) -> Result<Option<Frame>, Fault> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let body = index + 2;
            return Ok(Some(Frame { body, end: body + length }));
        }
    }
    if bytes.len() > 4 {
        return Err(Fault::malformed("a remaining length of more than four bytes"));
    }
    Ok(None)
}

/// Checks the flags of a header (table 2.2).
pub(super) fn check_flags(header: u8) -> Result<(), Fault> {
    let (kind, flags) = (header >> 4, header & 0x0f);
    let is_valid = match kind {
        PUBLISH => flags & 0b0110 != 0b0110 && flags & 0b1110 != 0b1000,
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags == 0b0010,
        _ => flags == 0,
    };
    match is_valid {
        true => Ok(()),
        false => Err(Fault::malformed("flags of the fixed header that are not allowed")),
    }
}

/// What the body of a CONNECT says before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5.
    pub(super) level: u8,
    /// Whether there is a password and no user name, which only MQTT 5 allows.
    pub(super) lone_password: bool,
}

const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// Checks the first bytes of a CONNECT (sections 3.1.2.1 to 3.1.2.9).
pub(super) fn opening(body: &[u8]) -> Result<Opening, Fault> {
    let Some((name, rest)) = body.split_first_chunk::<6>() else {
        // The name of MQTT 3.1 is longer, so that it is no shorter than this.
        return Err(Fault::malformed("a CONNECT without a protocol name"));
    };
    if name != b"\0\x04MQTT" {
        let old = body.starts_with(b"\0\x06MQIsdp");
        let reason =
            if old { Reason::UNSUPPORTED_PROTOCOL_VERSION } else { Reason::PROTOCOL_ERROR };
        return Err(Fault::new(reason, "a protocol name other than `MQTT`"));
    }
    let [level, flags, ..] = *rest else {
        return Err(Fault::malformed("a CONNECT without flags"));
    };
    if !matches!(level, 4 | 5) {
        return Err(Fault::new(Reason::UNSUPPORTED_PROTOCOL_VERSION, "an unknown protocol level"));
    }
    let text = if flags & 1 != 0 {
        "the reserved flag of CONNECT is set"
    } else if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        "a will's flags without a will"
    } else if flags & WILL_QOS == WILL_QOS {
        "a will's qos of 3"
    } else if level == 4 && flags & (PASSWORD | USER_NAME) == PASSWORD {
        "a password without a user name"
    } else {
        let lone_password = flags & (PASSWORD | USER_NAME) == PASSWORD;
        return Ok(Opening { level, lone_password });
    };
    Err(Fault::malformed(text))
}

/// The same CONNECT of MQTT 5 with an empty user name before its password: the
/// library wants one, and the standard does not.
pub(super) fn with_user_name(body: &[u8]) -> Option<Vec<u8>> {
    let mut at = 10;
    skip_properties(body, &mut at)?;
    skip_text(body, &mut at)?;
    if body.get(7)? & WILL != 0 {
        skip_properties(body, &mut at)?;
        skip_text(body, &mut at)?;
        skip_text(body, &mut at)?;
    }
    let (before, after) = body.split_at_checked(at)?;
    let mut whole = Vec::with_capacity(body.len() + 2);
    whole.extend_from_slice(before);
    whole.extend_from_slice(&[0, 0]);
    whole.extend_from_slice(after);
    *whole.get_mut(7)? |= USER_NAME;
    let mut framed = vec![CONNECT << 4];
    super::encode::put_length(whole.len(), &mut framed);
    framed.append(&mut whole);
    Some(framed)
}

fn skip_text(body: &[u8], at: &mut usize) -> Option<()> {
    let length = body.get(*at..*at + 2)?;
    *at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
    (*at <= body.len()).then_some(())
}

fn skip_properties(body: &[u8], at: &mut usize) -> Option<()> {
    let (length, bytes) = variable(body.get(*at..)?)?;
    *at += bytes + length;
    (*at <= body.len()).then_some(())
}

/// Reads a variable byte integer, and how many bytes it has.
pub(super) fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_2_1_4_a_remaining_length_has_up_to_four_bytes() {
        assert_eq!(find(&[0x30]), Ok(None));
        assert_eq!(find(&[0x30, 0]), Ok(Some(Frame { body: 2, end: 2 })));
        assert_eq!(find(&[0x30, 0x80, 1]), Ok(Some(Frame { body: 3, end: 131 })));
        assert_eq!(find(&[0x30, 0xff, 0xff, 0xff]), Ok(None));
        let largest = Frame { body: 5, end: 268_435_460 };
        assert_eq!(find(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Ok(Some(largest)));
        assert!(find(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn mqtt_2_2_2_2_reserved_flags_have_their_value() {
        for header in [0x10, 0x30, 0x31, 0x32, 0x3a, 0x3d, 0x40, 0x62, 0x82, 0xa2, 0xc0, 0xe0] {
            assert_eq!(check_flags(header), Ok(()), "{header:#x}");
        }
        for header in [0x11, 0x36, 0x38, 0x39, 0x41, 0x60, 0x63, 0x80, 0xa0, 0xc1, 0xe8] {
            assert!(check_flags(header).is_err(), "{header:#x}");
        }
    }
}

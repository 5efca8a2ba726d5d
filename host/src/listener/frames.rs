//! Packets as bytes: where one ends, and the flags of its header.

use super::reason::Fault;

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

/// Clears the DUP of PUBREL, SUBSCRIBE and UNSUBSCRIBE, which MQTT 3.1 has and its
/// successors reserve.
pub(super) fn without_dup(header: u8) -> u8 {
    match header >> 4 {
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => header & !0b1000,
        _ => header,
    }
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

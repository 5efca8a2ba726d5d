//! Whom a certificate names: the common name of its subject (X.509, RFC 5280).
//!
//! The certificate was verified before. Only what lies on the way to the subject is
//! looked at.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const VERSION: u8 = 0xa0;
/// id-at-commonName: 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// UTF8String, PrintableString and IA5String: texts of one byte for each ASCII character.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// The first common name of a certificate in DER; `None` where it has none that is a
/// text.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let mut certificate = Der(Der(certificate).expect(SEQUENCE)?);
    let mut signed = Der(certificate.expect(SEQUENCE)?);
    let (tag, _) = signed.next()?;
    if tag == VERSION {
        // Behind it is the serial number.
        signed.next()?;
    }
    // Algorithm, issuer, validity.
    for _ in 0..3 {
        signed.expect(SEQUENCE)?;
    }
    let mut subject = Der(signed.expect(SEQUENCE)?);
    while let Some((SET, names)) = subject.next() {
        let mut names = Der(names);
        while let Some((SEQUENCE, name)) = names.next() {
            let mut name = Der(name);
            if name.expect(OBJECT_IDENTIFIER)? == COMMON_NAME {
                return name.next().and_then(text);
            }
        }
    }
    None
}

fn text((tag, bytes): (u8, &[u8])) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| TEXTS.contains(&tag))?;
    // It stands in rules and topics.
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Values of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, and its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(length);
        if length >= 0x80 {
            let (bytes, after) = rest.split_at_checked(length & 0x7f)?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = after;
        }
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut bytes = vec![tag];
        match body.len() {
            length @ 0..=127 => bytes.push(length as u8),
            length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend(body);
        bytes
    }

    fn name(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = value(SEQUENCE, &[&value(OBJECT_IDENTIFIER, &[oid]), &value(tag, &[text])]);
        value(SET, &[&pair])
    }

    /// A certificate, as far as it is looked at.
    fn certificate(subject: &[Vec<u8>], has_version: bool) -> Vec<u8> {
        let version = value(VERSION, &[&value(0x02, &[&[2]])]);
        let none = value(SEQUENCE, &[]);
        let issuer = value(SEQUENCE, &[&name(COMMON_NAME, 0x0c, b"the issuer")]);
        let signed = value(
            SEQUENCE,
            &[
                if has_version { &version } else { &[] },
                &value(0x02, &[&[1; 200]]),
                &none,
                &issuer,
                &none,
                &value(SEQUENCE, &[&subject.concat()]),
                &none,
            ],
        );
        value(SEQUENCE, &[&signed, &none, &none])
    }

    #[test]
    fn the_common_name_of_the_subject_is_found() {
        let organisation = name(&[0x55, 0x04, 0x0a], 0x0c, b"works");
        for (tag, text) in [(0x0c, "Änne"), (0x13, "sensor-7"), (0x16, "a@b")] {
            let own = name(COMMON_NAME, tag, text.as_bytes());
            let second = name(COMMON_NAME, 0x0c, b"second");
            for has_version in [true, false] {
                let subject = [organisation.clone(), own.clone(), second.clone()];
                let found = common_name(&certificate(&subject, has_version));
                assert_eq!(found.as_deref(), Some(text));
            }
        }
        assert_eq!(common_name(&certificate(&[organisation], true)), None);
    }

    #[test]
    fn a_name_that_is_no_text_is_none() {
        for (tag, text) in
            [(0x0c, &b"\xff"[..]), (0x0c, b""), (0x0c, b"a\0b"), (0x0c, b"a\nb"), (0x1e, b"\0a")]
        {
            let subject = [name(COMMON_NAME, tag, text)];
            assert_eq!(common_name(&certificate(&subject, true)), None, "{text:?}");
        }
    }

    #[test]
    fn whatever_is_cut_off_or_changed_nothing_panics() {
        let whole = certificate(&[name(COMMON_NAME, 0x0c, b"name")], true);
        for end in 0..whole.len() {
            common_name(&whole[..end]);
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                common_name(&changed);
            }
        }
    }
}

//! Reads subject, end and serial number of a certificate: of a client's, and of the mirror's own.
//!
//! The TLS library has checked the certificate by then, but does not give these fields. This module reads them from DER
//! ([X.690]), refuses every other form, and never panics.
//!
//! [X.690]: https://www.itu.int/rec/T-REC-X.690

use std::fmt::Write as _;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    entry::Digest,
    peer::{CertificateEnd, ClientCertificate, SerialNumber},
};

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The explicit tag of a certificate's version.
const VERSION: u8 = 0xa0;

/// Attribute types by their DER content, and their names ([RFC 4514 §3]).
///
/// [RFC 4514 §3]: https://www.rfc-editor.org/rfc/rfc4514#section-3
const SHORT_NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// Reads a certificate in DER. One with an unexpected form has no subject and has ended.
pub(super) fn parse(der: &[u8]) -> ClientCertificate {
    let fingerprint = Digest::of(der);
    match parse_fields(der) {
        Some(CertificateFields { subject, not_after, serial }) => {
            ClientCertificate { subject: subject_text(subject), fingerprint, not_after, serial }
        }
        None => {
            let serial = SerialNumber::default();
            ClientCertificate { subject: None, fingerprint, not_after: Timestamp::MIN, serial }
        }
    }
}

/// When a certificate of the mirror ends: the earliest end in its chain. `number` is its place in the configuration, from 1.
pub(super) fn certificate_end<'d>(mut chain: impl Iterator<Item = &'d [u8]>, number: usize) -> CertificateEnd {
    let own = chain.next().and_then(parse_fields);
    let others = chain.filter_map(|der| parse_fields(der).map(|fields| fields.not_after));
    let name = own.as_ref().and_then(|own| subject_text(own.subject)).unwrap_or_else(|| format!("number {number}"));
    CertificateEnd { name, not_after: own.map(|own| others.fold(own.not_after, Timestamp::min)) }
}

/// The same certificates, with the number in the configuration added to each name that several have.
pub(super) fn make_names_unique(mut certificates: Vec<CertificateEnd>) -> Vec<CertificateEnd> {
    let names: Vec<String> = certificates.iter().map(|certificate| certificate.name.clone()).collect();
    for (at, certificate) in certificates.iter_mut().enumerate() {
        if names.iter().filter(|name| **name == certificate.name).count() > 1 {
            let _ = write!(certificate.name, " (number {})", at + 1);
        }
    }
    certificates
}

/// The fields of a certificate that are read.
struct CertificateFields<'d> {
    /// The RDNs of the subject.
    subject: DerReader<'d>,
    /// The last second of the validity.
    not_after: Timestamp,
    serial: SerialNumber,
}

/// Reads the fields of a certificate ([RFC 5280 §4.1]).
///
/// [RFC 5280 §4.1]: https://www.rfc-editor.org/rfc/rfc5280#section-4.1
fn parse_fields(der: &[u8]) -> Option<CertificateFields<'_>> {
    let mut signed = DerReader(der).enter(SEQUENCE)?.enter(SEQUENCE)?;
    if signed.0.first() == Some(&VERSION) {
        signed.next()?;
    }
    let serial = SerialNumber::of_der(signed.enter(INTEGER)?.0);
    // The algorithm, and the issuer.
    signed.enter(SEQUENCE)?;
    signed.enter(SEQUENCE)?;
    let mut validity = signed.enter(SEQUENCE)?;
    validity.next()?;
    let not_after = parse_time(&validity.next()?)?;
    Some(CertificateFields { subject: signed.enter(SEQUENCE)?, not_after, serial })
}

/// The subject as text ([RFC 4514 §2]): the most specific part first.
///
/// [RFC 4514 §2]: https://www.rfc-editor.org/rfc/rfc4514#section-2
fn subject_text(mut subject: DerReader<'_>) -> Option<String> {
    let mut text = String::new();
    while !subject.is_empty() {
        let mut attributes = subject.enter(SET)?;
        let mut part = String::new();
        while !attributes.is_empty() {
            let mut attribute = attributes.enter(SEQUENCE)?;
            let name = attribute.enter(OBJECT_ID)?.0;
            let value = attribute.next()?;
            if !part.is_empty() {
                part.push('+');
            }
            write_attribute(&mut part, name, &value)?;
        }
        if !text.is_empty() {
            part.push(',');
        }
        text.insert_str(0, &part);
        if text.len() > ClientCertificate::MAX_SUBJECT_BYTES {
            return None;
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Writes `CN=value`; a type without a short name as its numbers, with the whole value in hexadecimal digits.
fn write_attribute(out: &mut String, name: &[u8], value: &DerValue<'_>) -> Option<()> {
    let short_name = SHORT_NAMES.iter().find(|(id, _)| *id == name).map(|(_, short_name)| *short_name);
    match (short_name, value.text()) {
        (Some(short_name), Some(value)) => {
            out.push_str(short_name);
            out.push('=');
            escape(out, value);
        }
        (short_name, _) => {
            match short_name {
                Some(short_name) => out.push_str(short_name),
                None => write_object_id(out, name)?,
            }
            out.push_str("=#");
            value.whole.iter().for_each(|byte| push_hex(out, *byte));
        }
    }
    Some(())
}

/// Writes a value with the escapes of RFC 4514 §2.4, and every control character by its bytes.
fn escape(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\');
        let is_at_edge = (at == 0 && matches!(character, ' ' | '#')) || (at == last && character == ' ');
        if character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                out.push('\\');
                push_hex(out, byte);
            }
        } else {
            if is_special || is_at_edge {
                out.push('\\');
            }
            out.push(character);
        }
    }
}

/// Writes an object identifier as numbers with dots.
fn write_object_id(out: &mut String, id: &[u8]) -> Option<()> {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in id {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 != 0 {
            continue;
        }
        // The first number has two parts, of which the first is 0, 1 or 2.
        let written = if is_first {
            let root = (number / 40).min(2);
            write!(out, "{root}.{}", number - root * 40)
        } else {
            write!(out, ".{number}")
        };
        written.ok()?;
        is_first = false;
        number = 0;
    }
    (!is_first && id.last()? & 0x80 == 0).then_some(())
}

fn push_hex(out: &mut String, byte: u8) {
    // Writing to a text does not fail.
    let _ = write!(out, "{byte:02x}");
}

/// A time of a validity (RFC 5280 §4.1.2.5): always in UTC and with seconds.
fn parse_time(value: &DerValue<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match value.tag {
        UTC_TIME if text.len() == 12 => {
            let year: i16 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let time = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// Values of DER that follow each other.
#[derive(Clone, Copy)]
struct DerReader<'d>(&'d [u8]);

/// One value.
struct DerValue<'d> {
    tag: u8,
    content: &'d [u8],
    /// With tag and length.
    whole: &'d [u8],
}

impl<'d> DerReader<'d> {
    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next value; `None` at the end and for what is no DER.
    fn next(&mut self) -> Option<DerValue<'d>> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        // Longer tags occur in no certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            // 0x80 stands for a length that is not known beforehand, which DER does not have.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(DerValue { tag: *tag, content, whole })
    }

    /// What is within the next value; `None` when it has another tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        self.next().filter(|value| value.tag == tag).map(|value| Self(value.content))
    }
}

impl<'d> DerValue<'d> {
    /// The text of a string; `None` for other values, and for strings in old character sets.
    fn text(&self) -> Option<&'d str> {
        let text = std::str::from_utf8(self.content).ok()?;
        match self.tag {
            UTF8_STRING => Some(text),
            NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING => text.is_ascii().then_some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (name, value) in names {
            params.distinguished_name.push(name.clone(), *value);
        }
        params.not_after = date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn subject(names: &[(DnType, &str)]) -> Option<String> {
        parse(&certificate(names)).subject
    }

    #[test]
    fn the_subject_is_written_from_its_most_specific_part_on() {
        let names = [
            (DnType::CountryName, "CN"),
            (DnType::OrganizationName, "Acme, Inc."),
            (DnType::CommonName, " ci+1=\"x\"\\ "),
        ];
        assert_eq!(subject(&names).as_deref(), Some("CN=\\ ci\\+1=\\\"x\\\"\\\\\\ ,O=Acme\\, Inc.,C=CN"));
        let other = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        assert_eq!(subject(&[(other, "a")]).as_deref(), Some("1.2.840.113549.1.9.1=#0c0161"));
    }

    #[test]
    fn a_subject_has_no_control_characters_and_a_bounded_length() {
        assert_eq!(subject(&[(DnType::CommonName, "a\nb\u{85}")]).as_deref(), Some("CN=a\\0ab\\c2\\85"));
        assert_eq!(subject(&[]), None);
        assert_eq!(subject(&[(DnType::CommonName, &"x".repeat(253))]), None);
        assert_eq!(subject(&[(DnType::CommonName, &"x".repeat(252))]).map(|text| text.len()), Some(255));
    }

    #[test]
    fn a_name_within_a_value_is_no_part_of_its_own() {
        let one = subject(&[(DnType::CommonName, "a,O=b")]);
        let two = subject(&[(DnType::OrganizationName, "b"), (DnType::CommonName, "a")]);
        assert_eq!((one.as_deref(), two.as_deref()), (Some("CN=a\\,O=b"), Some("CN=a,O=b")));
    }

    #[test]
    fn the_end_of_the_validity_and_the_fingerprint_are_read() {
        let der = certificate(&[(DnType::CommonName, "ci")]);
        let read = parse(&der);
        assert_eq!(read.not_after, "2031-02-03T00:00:00Z".parse().expect("a time"));
        assert_eq!(read.fingerprint, Digest::of(&der));
        let late = DerValue { tag: GENERALIZED_TIME, content: b"20510203040506Z", whole: &[] };
        assert_eq!(parse_time(&late), "2051-02-03T04:05:06Z".parse().ok());
        for content in [&b"991332000000Z"[..], b"9912310000Z", b"991231000000+0000", b"\xff"] {
            assert_eq!(parse_time(&DerValue { tag: UTC_TIME, content, whole: &[] }), None);
        }
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates_that_ends() {
        let early = certificate(&[(DnType::CommonName, "mirror.example")]);
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(2030, 1, 1);
        let authority = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().to_vec();
        let end = certificate_end([&early[..], &authority].into_iter(), 1);
        assert_eq!(
            end,
            CertificateEnd { name: "CN=mirror.example".into(), not_after: "2030-01-01T00:00:00Z".parse().ok() }
        );
        let unreadable = CertificateEnd { name: "number 2".into(), not_after: None };
        assert_eq!(certificate_end([&b"no certificate"[..]].into_iter(), 2), unreadable);
    }

    proptest! {
        #[test]
        fn other_bytes_are_no_certificate_and_do_no_harm(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut der = certificate(&[(DnType::CommonName, "ci"), (DnType::OrganizationName, "Acme")]);
            let length = der.len();
            der[at % length] = byte;
            let _ = parse(&der);
            let _ = parse(&der[..cut % length]);
            prop_assert_eq!(parse(&der[..40]).not_after, Timestamp::MIN);
        }
    }
}

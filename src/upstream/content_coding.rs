//! Content codings of document responses ([RFC 9110 §8.4]): `gzip` and `identity`; any other is refused.
//!
//! [RFC 9110 §8.4]: https://www.rfc-editor.org/rfc/rfc9110#section-8.4

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::failure::invalid;
use crate::origin::FetchError;

/// Encoded bytes that are decoded at a time. DEFLATE expands at most 1032 times, so a step yields about 4 MiB at most.
const STEP_BYTES: usize = 4 << 10;

/// The coding of a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentCoding {
    Identity,
    Gzip,
}

impl ContentCoding {
    /// The coding that the header names.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for another coding, or for several.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, FetchError> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let coding = codings.next().map(|coding| coding.as_bytes().trim_ascii().to_ascii_lowercase());
        match coding.as_deref() {
            _ if codings.next().is_some() => Err(invalid("a body that is encoded twice")),
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            // RFC 9110 §8.4.1.3: "A recipient SHOULD consider "x-gzip" to be equivalent to "gzip"".
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip),
            Some(_) => Err(invalid("a body in a coding that was not asked for")),
        }
    }
}

/// Decodes a body piece by piece. The caller counts what comes out, and stops at its limit.
pub(super) struct BodyDecoder(DecoderState);

enum DecoderState {
    Identity,
    /// The encoded bytes that are still to be decoded, and the decoder that holds what was decoded last.
    Gzip {
        encoded: Bytes,
        decoder: Box<MultiGzDecoder<Vec<u8>>>,
    },
}

impl BodyDecoder {
    pub(super) fn new(coding: ContentCoding) -> Self {
        Self(match coding {
            ContentCoding::Identity => DecoderState::Identity,
            ContentCoding::Gzip => {
                DecoderState::Gzip { encoded: Bytes::new(), decoder: Box::new(MultiGzDecoder::new(Vec::new())) }
            }
        })
    }

    /// The next decoded bytes of what was pushed before; `None` when there are none left: more must be pushed.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for a damaged body, and for bytes behind its end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let DecoderState::Gzip { encoded, decoder } = &mut self.0 else { return Ok(None) };
        while !encoded.is_empty() {
            let step = encoded.split_to(encoded.len().min(STEP_BYTES));
            decoder.write_all(&step).and_then(|()| decoder.flush()).map_err(|_| damaged())?;
            let decoded = std::mem::take(decoder.get_mut());
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
        Ok(None)
    }

    /// Takes bytes as they arrived. Returns those that need no decoding; the others come from [`BodyDecoder::next`],
    /// which must have returned `None` before.
    pub(super) fn push(&mut self, received: Bytes) -> Option<Bytes> {
        match &mut self.0 {
            DecoderState::Identity => Some(received),
            DecoderState::Gzip { encoded, .. } => {
                *encoded = received;
                None
            }
        }
    }

    /// Ends the body: its checksum is checked. Returns the last decoded bytes.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for a body that is cut off or damaged.
    pub(super) fn finish(&mut self) -> Result<Bytes, FetchError> {
        match &mut self.0 {
            DecoderState::Identity => Ok(Bytes::new()),
            DecoderState::Gzip { decoder, .. } => {
                decoder.try_finish().map_err(|_| damaged())?;
                Ok(std::mem::take(decoder.get_mut()).into())
            }
        }
    }
}

fn damaged() -> FetchError {
    invalid("a damaged gzip body")
}

#[cfg(test)]
mod tests {
    use std::io;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
    }

    /// Decodes pieces of `size` bytes.
    fn decode(encoded: &[u8], size: usize) -> Result<Vec<u8>, FetchError> {
        let mut decoder = BodyDecoder::new(ContentCoding::Gzip);
        let mut decoded = Vec::new();
        for piece in encoded.chunks(size) {
            assert_eq!(decoder.push(Bytes::copy_from_slice(piece)), None);
            while let Some(bytes) = decoder.next()? {
                decoded.extend_from_slice(&bytes);
            }
        }
        decoded.extend_from_slice(&decoder.finish()?);
        Ok(decoded)
    }

    #[test]
    fn a_gzip_body_is_decoded_whatever_its_pieces() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n % 777).to_string().into_bytes()).collect();
        let two_members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for size in [1, 7, 4096, 1 << 20] {
            assert_eq!(decode(&gzip(&text), size).as_deref(), Ok(&text[..]), "{size}");
            assert_eq!(decode(&two_members, size).as_deref(), Ok(&text[..]), "{size}");
            assert_eq!(decode(&gzip(b""), size).as_deref(), Ok(&b""[..]), "{size}");
        }
    }

    #[test]
    fn a_body_that_is_cut_off_damaged_or_followed_by_garbage_is_invalid() {
        let whole = gzip(b"[{\"tag_name\": \"v1.0.0\"}]");
        for len in 0..whole.len() {
            for size in [1, whole.len()] {
                assert!(decode(&whole[..len], size).is_err(), "cut off after {len} bytes");
            }
        }
        for garbage in [&b"\0"[..], b"x", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0", b"garbage of some length"]
        {
            for size in [1, 1000] {
                let followed = [&whole[..], garbage].concat();
                assert!(decode(&followed, size).is_err(), "{garbage:?} in pieces of {size}");
            }
        }
        for at in [0, 1, 2, 15, whole.len() - 8, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert!(decode(&damaged, 1000).is_err(), "byte {at}");
        }
        assert!(decode(b"[]", 2).is_err(), "not gzip");
    }

    #[test]
    fn a_step_yields_a_bounded_part_of_a_bomb() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        io::copy(&mut io::Read::take(io::repeat(0), 64 << 20), &mut encoder).expect("in memory");
        let bomb = encoder.finish().expect("in memory");
        let mut decoder = BodyDecoder::new(ContentCoding::Gzip);
        assert_eq!(decoder.push(bomb.into()), None);
        let mut whole = 0;
        while let Some(bytes) = decoder.next().expect("valid") {
            assert!(bytes.len() <= 5 << 20, "{} bytes in one step", bytes.len());
            whole += bytes.len();
        }
        assert_eq!(whole + decoder.finish().expect("valid").len(), 64 << 20);
    }

    #[test]
    fn only_gzip_and_identity_are_accepted() {
        let coding = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().expect("a value"));
            }
            ContentCoding::of(&headers)
        };
        assert_eq!(coding(&[]), Ok(ContentCoding::Identity));
        assert_eq!(coding(&["Identity"]), Ok(ContentCoding::Identity));
        assert_eq!(coding(&[" GZip "]), Ok(ContentCoding::Gzip));
        assert_eq!(coding(&["x-gzip"]), Ok(ContentCoding::Gzip));
        for refused in [&["br"][..], &["deflate"], &["zstd"], &["gzip, gzip"], &["gzip", "identity"], &["gzip", "gzip"]]
        {
            assert!(matches!(coding(refused), Err(FetchError::Invalid(_))), "{refused:?}");
        }
    }
}

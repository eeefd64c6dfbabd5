//! Fuzz target: what the cache directory holds in text.

use bytes::Bytes;

use super::{
    super::{document_file, sidecar::Sidecar},
    line::{self, JournalLine},
};
use crate::entry::{Digest, Document, DocumentMeta, Key, RecordedSource};

/// A line of the pins, a sidecar, a document file, or a recorded source.
///
/// # Panics
/// When what was read is not written as it was read.
pub fn index_record(data: &[u8]) {
    match line::parse(data) {
        Ok(JournalLine::Pin(read)) => {
            let mut text = Vec::new();
            line::write_pin(&mut text, &read).expect("written");
            let Ok(JournalLine::Pin(again)) = line::parse(&text) else { panic!("a written line is no line") };
            assert_eq!((again.at, again.event, again.pin), (read.at, read.event, read.pin));
            text[data.len() % 20] ^= 1;
            assert!(line::parse(&text).is_err(), "a damaged line was read");
        }
        Ok(JournalLine::Generation(number)) => {
            let mut text = Vec::new();
            line::write_generation(&mut text, number).expect("written");
            assert!(matches!(line::parse(&text), Ok(JournalLine::Generation(again)) if again == number));
        }
        Err(_) => {}
    }
    if let Ok(sidecar) = serde_json::from_slice::<Sidecar>(data) {
        let text = sidecar.to_bytes().expect("serialises");
        assert_eq!(serde_json::from_slice::<Sidecar>(&text).expect("is read back"), sidecar);
        assert_eq!(sidecar.indexed_keys().len(), sidecar.keys().count());
    }
    let key = Key::new("github/a/b/releases");
    if let Some(document) = document_file::parse(&key, Bytes::copy_from_slice(data)) {
        assert_eq!(Digest::of(&document.body), document.meta.digest);
    }
    check_document(&key, data);
    if let Ok(source) = serde_json::from_slice::<RecordedSource>(data) {
        let text = serde_json::to_vec(&source).expect("serialises");
        assert_eq!(serde_json::from_slice::<RecordedSource>(&text).expect("is read back"), source);
    }
}

/// The first line of `data` is a document's metadata, the rest its body.
fn check_document(key: &Key, data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(mut meta) = serde_json::from_slice::<DocumentMeta>(&data[..end]) else { return };
    let body = Bytes::copy_from_slice(&data[end + 1..]);
    meta.digest = Digest::of(&body);
    let document = Document { meta: meta.into(), body };
    let mut file = document_file::header(key, &document).expect("written");
    file.extend_from_slice(&document.body);
    let again = document_file::parse(key, file.into()).expect("a written document is read");
    assert_eq!((again.meta, again.body), (document.meta, document.body));
}

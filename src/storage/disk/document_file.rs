//! The file of a document: one line of JSON with key and metadata, then the body.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entry::{Digest, Document, DocumentMeta, Key};

/// Longest first line that is read to find a file's key.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The first line of a document file.
#[derive(Serialize, Deserialize)]
struct DocumentHeader {
    key: Key,
    meta: DocumentMeta,
}

/// The first line of a document's file, with its line feed.
pub(super) fn header(key: &Key, document: &Document) -> io::Result<Vec<u8>> {
    let header = DocumentHeader { key: key.clone(), meta: DocumentMeta::clone(&document.meta) };
    let mut line = serde_json::to_vec(&header)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a document file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Bytes>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The document in a file; `None` if the file is damaged or belongs to another key.
pub(super) fn parse(key: &Key, bytes: Bytes) -> Option<Document> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header: DocumentHeader = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = bytes.slice(end + 1..);
    let intact = header.key == *key && Digest::of(&body) == header.meta.digest;
    intact.then(|| Document { meta: Arc::new(header.meta), body })
}

/// The key in a document file; `None` if the first line does not parse.
pub(super) fn read_key(path: &Path) -> io::Result<Option<Key>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).take(MAX_HEADER_BYTES).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice::<DocumentHeader>(&line).ok().map(|header| header.key))
}

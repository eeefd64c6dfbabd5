//! Fuzz target: what upstreams send.

use super::{
    array_elements::ArrayElements,
    envelope, json_repair,
    normalise::{self, ReleaseEntry},
    registry_release::{self, FirstSeenDates},
};
use crate::package::{Release, Releases, Repository};

/// The answer of a forge or a registry.
///
/// # Panics
/// When what was normalised is not read back as it was written, or the chunks of an answer make a difference.
pub fn upstream_json(data: &[u8]) {
    if let ReleaseEntry::Release(release) | ReleaseEntry::Repaired(release) = normalise::release(data) {
        check_release(&release);
    }
    if let Some(repository) = normalise::repository(data, Some("main")) {
        let text = serde_json::to_vec(&repository).expect("serialises");
        assert_eq!(serde_json::from_slice::<Repository>(&text).expect("is read back"), repository);
    }
    let repaired = json_repair::repair(data);
    assert_eq!(json_repair::repair(repaired.as_bytes()), repaired, "a repaired text needs no repair");
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data)
        && depth(data) < 100
    {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&repaired).ok(), Some(value));
    }
    assert_eq!(elements(data, data.len().max(1)), elements(data, 3));
    let first_seen = FirstSeenDates::of_list(None);
    for field in ["body", "Response", "Error"] {
        let read = envelope::read(data, field, |row| registry_release::release(row, &first_seen));
        if let Ok(envelope::EnvelopeValue::Array { read, .. }) = read {
            read.iter().for_each(check_release);
            let list = Releases { releases: read, ..Releases::default() };
            let text = serde_json::to_vec(&list).expect("serialises");
            assert_eq!(serde_json::from_slice::<Releases>(&text).expect("is read back"), list);
        }
        let _ = envelope::read(data, field, |row| registry_release::catalog_package(&row));
    }
}

fn check_release(release: &Release) {
    assert!(!release.tag_name.is_empty());
    let text = serde_json::to_vec(release).expect("serialises");
    assert_eq!(&serde_json::from_slice::<Release>(&text).expect("is read back"), release);
}

/// At least the depth of the values of a JSON text.
fn depth(json: &[u8]) -> usize {
    json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// The elements of an array that arrives in chunks of `size` bytes; `None` if it is no array.
fn elements(json: &[u8], size: usize) -> Option<Vec<Vec<u8>>> {
    let mut elements = ArrayElements::default();
    let mut found = Vec::new();
    for chunk in json.chunks(size) {
        let each = |element: &[u8]| {
            found.push(element.to_vec());
            Ok(())
        };
        elements.push(chunk, each).ok()?;
    }
    elements.finish().ok().map(|()| found)
}

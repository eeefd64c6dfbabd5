//! The JSON of small objects.

use bytes::Bytes;
use serde::Serialize;

use super::BucketError;
use crate::entry::Key;

/// The JSON of an object.
pub(super) fn to_json(value: &impl Serialize) -> Result<Bytes, BucketError> {
    // Plain data: serialising it cannot fail.
    serde_json::to_vec(value).map(Bytes::from).map_err(|_| BucketError::Damaged)
}

/// Parses an object that describes `key`.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    text: &[u8],
    key_of: impl Fn(&T) -> &Key,
    key: &Key,
) -> Result<T, BucketError> {
    let parsed: T = serde_json::from_slice(text).map_err(|_| BucketError::Damaged)?;
    if key_of(&parsed) == key { Ok(parsed) } else { Err(BucketError::Damaged) }
}

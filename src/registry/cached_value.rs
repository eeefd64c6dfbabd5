//! A value from the cache or an upstream, with its age.

use std::{sync::Arc, time::Duration};

use crate::{
    entry::Digest,
    http::cache_status::CacheStatus,
    package::{Release, Releases},
};

/// A value from the cache or an upstream, with its age.
#[derive(Clone, Debug)]
pub struct CachedValue<T> {
    /// The value.
    pub value: Arc<T>,
    /// SHA-256 of the normalised document it was read from: equal digests mean equal values.
    pub digest: Digest,
    /// Time since the upstream last validated it.
    pub age: Duration,
    /// What happened in the cache.
    pub status: CacheStatus,
}

/// One release of a list, with a digest of its own.
pub(super) fn release_from_list(release: &Release, list: &CachedValue<Releases>) -> CachedValue<Release> {
    let digest = Digest::of(format!("{}#{}", list.digest, release.tag_name).as_bytes());
    CachedValue { value: Arc::new(release.clone()), digest, age: list.age, status: list.status.clone() }
}

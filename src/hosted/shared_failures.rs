//! Publications that failed, shared by all mirrors of a primary store: one object per package. A mirror that cannot
//! write it has the failure in its own list alone.

use jiff::Timestamp;

use super::{
    FailedPublication, HostedStore,
    failed::MAX_FAILED_OF_PACKAGE,
    primary::Primary,
    primary_store::CONTENDED,
    primary_store::{PrimaryUnavailable, PrimaryWrite, update},
};

/// Writes a failure to the primary store, for the other mirrors, in place of an earlier one of the version. Without a
/// primary store, does nothing. Blocks.
pub(crate) fn share_failure(store: &HostedStore, failed: &FailedPublication) {
    let Some(primary) = &store.primary else { return };
    if let Err(error) = add(primary, failed) {
        tracing::warn!(%error, "a failed publication is known to this mirror alone");
    }
}

/// The failures of a package that all mirrors have, the newest first, less those of versions that were published since;
/// only those of this mirror while the primary store cannot be used. Blocks.
pub(crate) fn shared_failures(store: &HostedStore, package: &str, now: Timestamp) -> Vec<FailedPublication> {
    let mut failed = store.failed.of_package(package, now);
    let Some(primary) = &store.primary else { return failed };
    if let Ok(object) = primary.objects.read(&object_name(package)) {
        let shared = parse(object.as_ref().map(|object| &*object.bytes));
        let is_newer = |one: &FailedPublication| {
            let own = failed.iter().find(|own| own.is_of(&one.package, &one.version));
            one.is_kept(now) && own.is_none_or(|own| own.at < one.at)
        };
        let newer: Vec<_> = shared.into_iter().filter(is_newer).collect();
        failed.retain(|own| newer.iter().all(|one| !own.is_of(&one.package, &one.version)));
        failed.extend(newer);
        failed.sort_by_key(|failed| std::cmp::Reverse(failed.at));
    }
    let published = store.package(package);
    let known = |version: &str| published.as_ref().and_then(|published| published.version(version));
    failed.retain(|failed| {
        let since = known(&failed.version).filter(|known| known.is_served());
        since.is_none_or(|known| known.published_at < failed.at)
    });
    failed
}

fn add(primary: &Primary, failed: &FailedPublication) -> Result<(), PrimaryUnavailable> {
    let written = update(&*primary.objects, &object_name(&failed.package), &mut |old| {
        let mut shared = parse(old);
        shared.retain(|one| !one.is_of(&failed.package, &failed.version) && one.is_kept(failed.at));
        shared.drain(..(shared.len() + 1).saturating_sub(MAX_FAILED_OF_PACKAGE));
        let mut short = failed.clone();
        short.shorten();
        shared.push(short);
        // The keys of all maps are strings, so serialising cannot fail.
        Some(serde_json::to_vec(&shared).unwrap_or_default())
    })?;
    if written == PrimaryWrite::Done { Ok(()) } else { Err(CONTENDED) }
}

fn object_name(package: &str) -> String {
    format!("hosted/failed/{}.json", package.to_ascii_lowercase())
}

/// Parses the object; one that cannot be read counts as none, and is replaced.
fn parse(text: Option<&[u8]>) -> Vec<FailedPublication> {
    text.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default()
}

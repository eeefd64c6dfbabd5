//! Tokens and signing keys: opened at the start, and the last uses of tokens written at an interval.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{RunningService, shared_accounts::BucketAccounts};
use crate::{
    access::{Access, CertificateUse, KeySource, SharedAccounts},
    cache::SharedTiers,
    clock::Clock,
    config::Config,
    peer::RevokedCertificates,
};

/// Interval at which the last uses of tokens are written.
const TOKEN_USE_INTERVAL: Duration = Duration::from_secs(60);

/// Opens the accounts and keys in the cache directory, which this process holds.
pub(super) async fn open(
    config: &Config,
    dir: PathBuf,
    clock: &Clock,
    key_source: Arc<dyn KeySource>,
    revoked: Arc<RevokedCertificates>,
    shared: Option<Arc<dyn SharedAccounts>>,
) -> anyhow::Result<Arc<Access>> {
    let section = config.access.clone();
    let certificate_use = match &config.server.tls.client_ca_file {
        Some(_) => CertificateUse::Verified(revoked),
        None => CertificateUse::Unused,
    };
    let clock = clock.clone();
    let open = move || Access::open(&section, &dir, clock, &key_source, certificate_use, shared);
    Ok(Arc::new(crate::blocking::spawn_blocking(open).await??))
}

/// The accounts in the bucket, if there is one; they can be used until `background` is cancelled.
pub(super) fn open_shared(
    config: &Config,
    tiers: &SharedTiers,
    background: &CancellationToken,
) -> Option<Arc<dyn SharedAccounts>> {
    let bucket = tiers.bucket.clone()?;
    Some(Arc::new(BucketAccounts::new(bucket, config.shared.as_ref()?, background.clone())))
}

/// Writes the last uses of the tokens at an interval. Never returns.
pub(super) async fn write_uses(running: Arc<ArcSwap<RunningService>>) {
    loop {
        tokio::time::sleep(TOKEN_USE_INTERVAL).await;
        let access = running.load().access.clone();
        // An error is a panic, which has been reported, or the end of the runtime.
        let _ = crate::blocking::spawn_blocking(move || access.account_changes().save_uses()).await;
    }
}

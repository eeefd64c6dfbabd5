//! Opens the bucket that several mirrors share.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::timeout;

use crate::{
    cache::{BucketTier, LonePins},
    clock::Clock,
    config::Config,
    shared::{Arbiter, Arbitration, Bucket},
    storage::disk::Disk,
    upstream::{ca_certificates, system_roots},
};

/// Longest wait for the probe. A bucket that cannot be reached at the start is probed when it is first needed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bucket, if there is one, after a probe of whether it arbitrates.
///
/// # Errors
/// When the section cannot be used, or the bucket does not arbitrate and the operator has not said that it need not.
pub(super) async fn open(config: &Config, disk: &Disk, clock: &Clock) -> anyhow::Result<Option<Arc<BucketTier>>> {
    let Some(section) = &config.shared else { return Ok(None) };
    let mut roots = system_roots().to_vec();
    if let Some(path) = &section.ca_file {
        let read = ca_certificates(path);
        roots.extend(read.with_context(|| format!("shared.ca_file: {}", path.display()))?);
    }
    let bucket = Arc::new(Bucket::new(section, roots)?);
    match timeout(PROBE_TIMEOUT, bucket.probe()).await {
        Ok(Ok(Arbitration::Absent)) if section.arbiter == Arbiter::Bucket => anyhow::bail!(
            "the bucket creates an object twice, so it cannot decide which content a version has; use a service that \
             refuses If-None-Match: *, or write shared.arbiter = \"owner\" and read docs/fleet.md on what that means"
        ),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the shared bucket cannot be used at present; the mirror starts without it")
        }
        Err(_) => tracing::warn!("the shared bucket does not answer; the mirror starts without it"),
    }
    Ok(Some(Arc::new(BucketTier::new(bucket, section, disk.uploads(), LonePins::Allowed, clock.clone()))))
}
